"""The manager's store: one SQLite file in WAL mode, one transaction per change.

It reads and writes values of `manager.model` and decides nothing: whether what is read can be believed is for
`manager.keys` and the chip.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

from hwtpm.errors import StateError
from hwtpm.slots import open_regular, sync_directory
from manager.model import (
    ROOT,
    AnyRow,
    Changes,
    GroupRow,
    Identity,
    Mark,
    Rows,
    SealedKey,
    VtpmRow,
    split,
)

APPLICATION_ID: Final = 0x7654504D  # "vTPM"
VERSION: Final = 2
_OLD_VERSION: Final = 1
_PUT = {
    SealedKey: "INSERT OR REPLACE INTO seal VALUES (?, ?, ?, ?, ?, ?, ?)",
    GroupRow: "INSERT OR REPLACE INTO grp VALUES (?, ?, ?)",
    VtpmRow: "INSERT OR REPLACE INTO vtpm VALUES (?, ?, ?, ?, ?)",
}
_REMOVE = {
    SealedKey: "DELETE FROM seal WHERE owner = ? AND position = ?",
    GroupRow: "DELETE FROM grp WHERE number = ?",
    VtpmRow: "DELETE FROM vtpm WHERE uuid = ?",
}
_SCHEMA = Path(__file__).parent / "schema" / f"{VERSION}.sql"
_MAGIC = b"SQLite format 3\0"
_SMALLEST = 512  # octets of a page, and so of a file with anything in it
_CHECKPOINT_PAGES = 256  # A save writes two; a WAL that is overwritten from its start costs no new blocks.


class Store:
    """The open store at *path*, made with mode 0600 where it is missing; nobody else can open it now.

    Every method raises StateError if the file is damaged or cannot be read or written now, and what it
    should have changed is unchanged then, or changed as a whole.  The constructor also raises it for a file
    of another kind or version, and OSError from the file system.  Not safe for two threads at once.

    A store of format 1 is `old`: it can be read, until `begin` or `upgrade` makes it one of this version.
    """

    old = False

    def __init__(self, path: Path) -> None:
        _make(path)
        _check_magic(path)
        with _translated():
            # Every transaction begins and ends with an explicit statement (isolation_level).
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with _translated():
                self._open()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """The WAL is merged into the file and removed; calling it twice does nothing."""
        self._db.close()

    def identity(self) -> Identity | None:
        """Return which store this is, or None before `begin`."""
        row = self._one("SELECT store, counter, 0 FROM identity" if self.old
                        else "SELECT store, counter, mask FROM identity")
        return None if row is None else Identity(_octets(row[0]), _number(row[1]), _number(row[2]))

    def begin(self, identity: Identity) -> None:
        """The store has its identity, durably, and the format of this version."""
        with self._transaction():
            self._renew()
            self._db.execute("INSERT INTO identity VALUES (1, ?, ?, ?)", identity)

    def complete(self, mark: Mark, rows: Rows) -> None:
        """The store has its first mark and rows, durably and all at once."""
        with self._transaction():
            self._db.execute("INSERT INTO mark VALUES (1, ?, ?, ?)", mark)
            for place, row in rows.items():
                self._put(place, row)

    def upgrade(self, identity: Identity, mark: Mark, rows: Rows) -> None:
        """A store of format 1 is one of this version with these contents, durably and as a whole."""
        with self._transaction():
            self._renew()
            self._db.execute("INSERT INTO identity VALUES (1, ?, ?, ?)", identity)
            self._db.execute("INSERT INTO mark VALUES (1, ?, ?, ?)", mark)
            for place, row in rows.items():
                self._put(place, row)

    def keys(self, owner: int) -> list[SealedKey]:
        """Return the key of *owner* as it is sealed to each of its configurations.

        The root key has none before `complete` only; StateError if something is there without it.
        """
        if self.old:
            found = self._all("SELECT parent, pcrs, x'', public, private FROM root")
        else:
            found = self._all("SELECT parent, pcrs, digest, public, private FROM seal WHERE owner = ? "
                              "ORDER BY position", owner)
        if owner == ROOT and not found:
            self._check_empty()
        return [SealedKey(*map(_octets, row)) for row in found]

    def read(self) -> tuple[Mark, Rows]:
        """Return the mark and all rows of a store of this version."""
        found = self._one("SELECT epoch, sealed, next FROM mark")
        if found is None:
            raise StateError("damaged: it has no mark")
        rows = Rows()
        for owner, position, *key in self._all(
                "SELECT owner, position, parent, pcrs, digest, public, private FROM seal"):
            rows.seals[_number(owner), _number(position)] = SealedKey(*map(_octets, key))
        for number, epoch, sealed in self._all("SELECT number, epoch, sealed FROM grp ORDER BY number"):
            rows.groups[_number(number)] = GroupRow(_number(epoch), _octets(sealed))
        for key, group, created, epoch, sealed in self._all(
                "SELECT uuid, grp, created, epoch, sealed FROM vtpm ORDER BY created"):
            uuid = _uuid(key)
            if uuid in rows.vtpms:
                raise StateError("damaged: a vTPM's row is there twice")
            rows.vtpms[uuid] = VtpmRow(_number(group), _number(created), _number(epoch), _octets(sealed))
        return Mark(_number(found[0]), _octets(found[1]), _octets(found[2])), rows

    def read_old(self) -> tuple[Mark, dict[bytes, tuple[int, bytes]]]:
        """Return the mark of a store of format 1, and its rows' epochs and envelopes by UUID."""
        found = self._one("SELECT epoch, sealed FROM mark")
        if found is None:
            raise StateError("damaged: it has no mark")
        rows: dict[bytes, tuple[int, bytes]] = {}
        for uuid, epoch, sealed in self._all("SELECT uuid, epoch, sealed FROM vtpm"):
            if not isinstance(uuid, bytes) or uuid in rows:
                raise StateError("damaged: a vTPM's row is there twice, or is none")
            rows[uuid] = _number(epoch), _octets(sealed)
        return Mark(_number(found[0]), _octets(found[1])), rows

    def commit(self, mark: Mark, changes: Changes, identity: Identity | None = None) -> None:
        """*mark* is the store's mark, and the rows are as *changes* say, durably and all at once.

        The mask is that of *identity*, if that is given.
        """
        with self._transaction():
            if identity is not None:
                self._db.execute("UPDATE identity SET mask = ?", (identity.mask,))
            for place, row in changes.items():
                self._put(place, row)
            self._db.execute("UPDATE mark SET epoch = ?, sealed = ?, next = ?", mark)

    def _check_empty(self) -> None:
        """First use, which makes a new counter in the place of the one that is there, was not complete."""
        for query in ("SELECT 1 FROM mark LIMIT 1", "SELECT 1 FROM vtpm LIMIT 1",
                      *(() if self.old else ("SELECT 1 FROM grp LIMIT 1", "SELECT 1 FROM seal LIMIT 1"))):
            if self._all(query):
                raise StateError("damaged: its root key is gone")

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file's pages, a line each."""
        try:
            found = self._all("PRAGMA integrity_check")
        except StateError as error:
            return [str(error)]
        return [" ".join(str(line).split()) for (line,) in found if line != "ok"]

    def backup(self, target: Path) -> None:
        """*target*, a new file of mode 0600, is a store with the same contents, durably.

        OSError if the file is there already or cannot be made.
        """
        _make(target, fresh=True)
        with _translated(), closing(sqlite3.connect(target, isolation_level=None)) as copy:
            self._db.backup(copy)
        with open(target, "rb") as file:
            os.fsync(file.fileno())

    def _put(self, place: int, row: AnyRow | None) -> None:
        """*row* is the row at *place*; None: there is none."""
        kind, key = split(place)
        columns: tuple[int | bytes, ...] = (key,)
        if kind is SealedKey:
            columns = key >> 32, key & 0xFFFFFFFF
        elif kind is VtpmRow:
            columns = (key.to_bytes(16, "big"),)
        if row is None:
            self._db.execute(_REMOVE[kind], columns)
        else:
            self._db.execute(_PUT[kind], columns + row)

    def _renew(self) -> None:
        """The store has the tables of this version, and nothing in them."""
        for (table,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'"):
            self._db.execute(f"DROP TABLE {table}")
        for statement in _SCHEMA.read_text().split(";\n"):
            self._db.execute(statement)
        self.old = False

    def _open(self) -> None:
        db = self._db
        # One process uses a store, so the lock stays and the WAL needs no shared memory.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        kind = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        new = not (kind or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if not new and kind != APPLICATION_ID:
            raise StateError("not a manager's store")
        if not new and version not in (_OLD_VERSION, VERSION):
            raise StateError(f"written by another version of cusetpm (format {version}, this one reads "
                             f"{VERSION})")
        self.old = version == _OLD_VERSION
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if new:
            with self._transaction():
                self._renew()

    def _all(self, query: str, *values: int) -> list[Any]:
        with _translated():
            return self._db.execute(query, values).fetchall()

    def _one(self, query: str) -> Any:
        found = self._all(query)
        if len(found) > 1:
            raise StateError("damaged: a table of one row has more")
        return found[0] if found else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # Some errors have rolled back already; then there is no transaction to end.
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def copied(path: Path, scratch: Path | None = None) -> Iterator[Store | None]:
    """Give what the store at *path* holds, to be read from a copy in *scratch*; None if there is none yet.

    Nothing at *path* changes, not even a WAL that was left behind is merged.  Raises as the constructor does.
    """
    with TemporaryDirectory(prefix="cusetpm-", dir=scratch) as place:
        copy = Path(place) / path.name
        try:
            # Who cannot write to the store hears of it now, not when something has to be saved.
            with open(open_regular(path, os.O_RDWR), "rb") as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target)
        except FileNotFoundError:
            yield None
            return
        _sync_wal(path)
        for beside in ("-wal", "-journal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{beside}", f"{copy}{beside}")
        with closing(Store(copy)) as store:
            yield store


@contextmanager
def _translated() -> Iterator[None]:
    """What SQLite raises becomes a StateError."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        # What SQLite says about a damaged file can quote the file, so it may be no text at all.
        told = "damaged" if isinstance(error, ValueError) else " ".join(str(error).split())
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            told += "; make room there"
        raise StateError(f"SQLite: {told}") from error


def _uuid(value: object) -> UUID:
    if not isinstance(value, bytes) or len(value) != 16:
        raise StateError("damaged: a vTPM's row is none")
    return UUID(bytes=value)


def _octets(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise StateError("damaged: a column has another type")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise StateError("damaged: a column has another type")
    return value


def _check_magic(path: Path) -> None:
    """The file can be one of SQLite, else StateError; SQLite itself takes any below 512 octets for new."""
    with open(path, "rb") as file:
        head = file.read(_SMALLEST)
    if not head:
        return
    if len(head) == _SMALLEST and head.startswith(_MAGIC):
        return
    # Of its first page, any part may be missing when power goes; the journal takes that back.
    begun = head.startswith(_MAGIC[: len(head)]) or not head.strip(b"\0")
    if not begun or not path.with_name(f"{path.name}-journal").exists():
        raise StateError("not a manager's store")


def _sync_wal(path: Path) -> None:
    """What a killed process wrote last is on the device, before the chip counts what is read from it."""
    with suppress(FileNotFoundError), open(f"{path}-wal", "rb") as file:
        os.fsync(file.fileno())


def _make(path: Path, *, fresh: bool = False) -> None:
    """A file is at *path*, a *fresh* one or any; one that was not there is empty, and its name durable."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if fresh:
            raise
        return
    sync_directory(path.parent)
