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

from hwtpm.errors import StateError
from hwtpm.slots import open_regular, sync_directory
from manager.model import Identity, Mark, Row, SealedRoot

APPLICATION_ID: Final = 0x7654504D  # "vTPM"
VERSION: Final = 1
_SCHEMA = Path(__file__).parent / "schema" / f"{VERSION}.sql"
_MAGIC = b"SQLite format 3\0"
_SMALLEST = 512  # octets of a page, and so of a file with anything in it
_CHECKPOINT_PAGES = 256  # A save writes two; a WAL that is overwritten from its start costs no new blocks.


class Store:
    """The open store at *path*, made with mode 0600 where it is missing; nobody else can open it now.

    Every method raises StateError if the file is damaged or cannot be read or written now, and what it
    should have changed is unchanged then, or changed as a whole.  The constructor also raises it for a file
    of another kind or version, and OSError from the file system.  Not safe for two threads at once.
    """

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
        row = self._one("SELECT store, counter FROM identity")
        return None if row is None else Identity(_octets(row[0]), _number(row[1]))

    def begin(self, identity: Identity) -> None:
        """The store has its identity, durably."""
        with self._transaction():
            self._db.execute("INSERT INTO identity VALUES (1, ?, ?)", (identity.store, identity.counter))

    def root(self) -> SealedRoot | None:
        """Return the sealed root key, or None before `complete`."""
        row = self._one("SELECT parent, pcrs, public, private FROM root")
        return None if row is None else SealedRoot(*map(_octets, row))

    def complete(self, root: SealedRoot, mark: Mark) -> None:
        """The store has its root key and its first mark, durably and both at once."""
        with self._transaction():
            self._db.execute("INSERT INTO root VALUES (1, ?, ?, ?, ?)",
                             (root.parent, root.pcrs, root.public, root.private))
            self._db.execute("INSERT INTO mark VALUES (1, ?, ?)", (mark.epoch, mark.sealed))

    def read(self) -> tuple[Mark, dict[bytes, Row]]:
        """Return the mark, and all rows by UUID."""
        found = self._one("SELECT epoch, sealed FROM mark")
        if found is None:
            raise StateError("damaged: it has no mark")
        rows: dict[bytes, Row] = {}
        with _translated():
            for uuid, epoch, sealed in self._db.execute("SELECT uuid, epoch, sealed FROM vtpm"):
                if not isinstance(uuid, bytes) or uuid in rows:
                    raise StateError("damaged: a vTPM's row is there twice, or is none")
                rows[uuid] = Row(_number(epoch), _octets(sealed))
        return Mark(_number(found[0]), _octets(found[1])), rows

    def commit(self, mark: Mark, uuid: bytes | None = None, row: Row | None = None) -> None:
        """*mark* is the store's mark and *row*, if given, the row of *uuid*, durably and both at once."""
        with self._transaction():
            if row is not None:
                self._db.execute(
                    "INSERT INTO vtpm VALUES (?, ?, ?) ON CONFLICT (uuid) DO UPDATE SET"
                    " epoch = excluded.epoch, sealed = excluded.sealed", (uuid, row.epoch, row.sealed))
            self._db.execute("UPDATE mark SET epoch = ?, sealed = ?", (mark.epoch, mark.sealed))

    def _open(self) -> None:
        db = self._db
        # One process uses a store, so the lock stays and the WAL needs no shared memory.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        kind = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        new = not (kind or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if not new and kind != APPLICATION_ID:
            raise StateError("not a manager's store")
        if not new and version != VERSION:
            raise StateError(f"written by another version of cusetpm (format {version}, this one reads "
                             f"{VERSION})")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if new:
            db.executescript(_SCHEMA.read_text())

    def _one(self, query: str) -> Any:
        with _translated():
            found = self._db.execute(query).fetchmany(2)
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
    cut_short = len(head) < _SMALLEST and not path.with_name(f"{path.name}-journal").exists()
    if not head.startswith(_MAGIC[: len(head)]) or cut_short:
        raise StateError("not a manager's store")


def _sync_wal(path: Path) -> None:
    """What a killed process wrote last is on the device, before the chip counts what is read from it."""
    with suppress(FileNotFoundError), open(f"{path}-wal", "rb") as file:
        os.fsync(file.fileno())


def _make(path: Path) -> None:
    """A file is at *path*; one that was not there is empty, and its name on the device."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    sync_directory(path.parent)
