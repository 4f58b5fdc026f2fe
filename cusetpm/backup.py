"""Backups of a state directory while it is used, and back again.

    BACKUP/format           "cusetpm backup 1"
    BACKUP/manager.db       the manager's store
    BACKUP/guests/NAME/     uuid, state.0 and state.1, one of them as new as the store knows, tcsd.data
    BACKUP/manager.toml     the settings, if there are any; for a directory that has none

While one is put back, DIR/restoring names the directory that gets what was there, and then how far that is
(_COPYING, _ACCEPTING).

The chip is not in it: a store is of use with its chip only, and only until a key is destroyed after the
backup was made.  To put one back is to accept a roll-back; what was there before is kept beside it.

A check of a state directory looks at the store and at what the same directory has of each vTPM.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from cusetpm.chips import open_chip
from cusetpm.daemon import System, sealing
from cusetpm.progress import Progress, untold
from cusetpm.records import truth
from cusetpm.settings import NAME as SETTINGS
from cusetpm.settings import read as read_settings
from cusetpm.statedir import RESTORING, StateDirectory
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.slots import Slots, sync_directory, write_whole
from manager.book import Book, Closed, NoVtpm
from manager.check import check as check_store
from manager.model import MOVED
from manager.store import copied

_FORMAT: Final = "cusetpm backup 1\n"
_ASIDE: Final = "replaced."  # directories with what was there before a backup was put back
_COPYING: Final = "copying"  # the second line of RESTORING, once all that was there has been moved away
_ACCEPTING: Final = "accepting"  # once the backup is there, and the chip may count it as the newest


def check(system: System, progress: Progress = untold) -> list[str]:
    """Return a line for everything in the released *system*'s directory that is damaged; none is good.

    A state of a vTPM whose group is closed cannot be looked at, nor one that has moved away.
    """
    return system.manager.check() + _check_vtpms(system, progress)


def _check_vtpms(system: System, progress: Progress) -> list[str]:
    found = []
    for name, uuid, path in progress("checking", list(_vtpms(system.state))):
        try:
            vtpm = system.manager.vtpm(uuid)
            if vtpm.flags & MOVED:
                continue
            known = vtpm.hash_key
        except NoVtpm:
            known = b""
        except Closed:
            continue
        try:
            with closing(Slots(path)) as slots:
                truth(slots, known, uuid)
        except (StateError, OSError) as error:
            found.append(f"vTPM {name}: {error}")
    return found


def damages(path: Path) -> list[str]:
    """Return a line for everything in the store of the state directory *path* that is damaged or old.

    For one that cannot be started, of which a start tells only what is in its way.  Nothing is changed.
    StateError and OSError as a start raises them, for what has to be there first.
    """
    with ExitStack() as stack:
        state = stack.enter_context(closing(StateDirectory(path)))
        found = read_settings(path)
        way = open_chip(found, state.chip, lambda: time.monotonic_ns() // 1_000_000)
        stack.callback(way.close)
        store = stack.enter_context(copied(state.manager))
        return [] if store is None else check_store(store, sealing(found, way))


def backup(system: System, target: Path, progress: Progress = untold) -> int:
    """*target*, which is not there yet, is a backup of what *system* uses; return how many vTPMs are in it.

    Saves wait only for the copy of the store, and for states that have changed since their copy was made.
    StateError if *target* is there, or a state is not that which the manager knows; OSError from the file
    system.  There is no *target* then.
    """
    if os.path.lexists(target):
        raise StateError(f"{target}: is there already; take another name for the backup")
    making = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)  # of a process of that number that was cut short
    copies = _Copies(system.state, making / "guests")
    making.mkdir(mode=0o700)
    try:
        copies.make(progress)
        system.manager.backup(making / "manager.db", copies.mend)
        sync_directory(making / "guests")
        with suppress(FileNotFoundError):
            write_whole(making / SETTINGS, (system.state.path / SETTINGS).read_bytes())
        write_whole(making / "format", _FORMAT.encode())
        making.rename(target)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    sync_directory(target.parent)
    return len(copies.made)


class _Copies:
    """Copies of the states of all vTPMs of *state* in the directory *target*; `made` says of which."""

    def __init__(self, state: StateDirectory, target: Path) -> None:
        self._state, self._target = state, target
        self.made: set[UUID] = set()

    def make(self, progress: Progress) -> None:
        """There is a copy of each, which may be too old by the time that all are made."""
        for name, uuid, path in progress("copying", list(_vtpms(self._state))):
            self._copy(name, uuid, path)
        self._target.mkdir(mode=0o700, parents=True, exist_ok=True)

    def mend(self, book: Book) -> None:
        """The copies are those that *book* knows, and nothing else."""
        for name, uuid, path in _vtpms(self._state):
            try:
                known = book.vtpm(uuid).hash_key
            except (NoVtpm, Closed):
                continue
            if known and not self._is_new_enough(name, uuid, known):
                self._copy(name, uuid, path)
                if not self._is_new_enough(name, uuid, known):
                    with closing(Slots(path)) as slots:
                        truth(slots, known, uuid)

    def _is_new_enough(self, name: str, uuid: UUID, known: bytes) -> bool:
        with suppress(StateError), closing(Slots(self._target / name / "state")) as copy:
            return uuid in self.made and truth(copy, known, uuid) is not None
        return False

    def _copy(self, name: str, uuid: UUID, path: Path) -> None:
        home = self._target / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(home / "uuid", f"{uuid}\n".encode())
        with suppress(FileNotFoundError):
            write_whole(home / "tcsd.data", self._state.stored_keys(name).read_bytes())
        self.made.add(uuid)
        with closing(Slots(path)) as source, closing(Slots(home / "state")) as copy:
            for slot in (0, 1):
                record = source.read(slot)
                if record is not None:
                    copy.write(slot, record)


def restore(path: Path, source: Path, progress: Progress = untold) -> list[str]:
    """The state directory *path* is as when the backup *source* was made; return what was accepted for that.

    What was there is in a directory of its own in *path*.  StateError, one line for people, if *source* is no
    backup, if its store cannot be opened any more, or if the directory is in use; nothing has changed then.
    What goes wrong when the chip counts it is raised, too, and a start says that it is to be done once more.
    """
    try:
        found = (source / "format").read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        raise StateError(f"{source}: not a backup of cusetpm") from None
    if found != _FORMAT:
        raise StateError(f"{source}: its format is {found.strip()[:40]!r}, this version of cusetpm reads "
                         f"{_FORMAT.strip()!r}")
    if _stage(path)[1:] == [_ACCEPTING]:
        # What was cut short then is completed, for there may be no other store that the chip opens.
        with suppress(StateError, ProtocolError, TpmError, OSError):
            _accept(path, path, progress)
    with closing(StateDirectory(path, restoring=True)) as state:
        state.keep()
        _put_back(path)
        _exchange(path, source, progress)
    try:
        return _accept(path, source, progress)
    except (StateError, ProtocolError, TpmError, OSError):
        with closing(StateDirectory(path, restoring=True)) as state:
            state.keep()
            _put_back(path)
        raise


def _accept(path: Path, source: Path, progress: Progress) -> list[str]:
    """What was copied from *source* is the newest that there is; return what was accepted for that."""
    with closing(System(path, accept_rollback=True, restoring=True)) as system:
        damaged = _check_vtpms(system, progress)
        if damaged:
            raise StateError(f"{source}: {damaged[0]}")
        # From here on the chip can count what was there before as an old copy: there is no way back to it.
        write_whole(path / RESTORING, f"{_stage(path)[0]}\n{_ACCEPTING}\n".encode())
        system.release()
        accepted = list(system.manager.accepted)
    (path / RESTORING).unlink()
    sync_directory(path)
    return accepted


def _stage(path: Path) -> list[str]:
    """Return how far the restoration in *path* has come, as RESTORING says it; nothing if there is none."""
    try:
        return (path / RESTORING).read_text().split()
    except FileNotFoundError:
        return []


def _exchange(path: Path, source: Path, progress: Progress) -> None:
    """The store and the vTPMs of *path* are aside, and those of *source* in their place, durably."""
    aside = _free(path)
    write_whole(path / RESTORING, f"{aside.name}\n".encode())
    aside.mkdir(mode=0o700)
    for each in [*path.glob("manager.db*"), path / "guests"]:
        with suppress(FileNotFoundError):
            each.rename(aside / each.name)
    for changed in aside, path:
        sync_directory(changed)
    write_whole(path / RESTORING, f"{aside.name}\n{_COPYING}\n".encode())
    shutil.copyfile(source / "manager.db", path / "manager.db")
    (path / "manager.db").chmod(0o600)
    (path / "guests").mkdir(mode=0o700)
    for home in progress("restoring", list((source / "guests").iterdir())):
        copy = path / "guests" / home.name
        shutil.copytree(home, copy)
        for made in (*copy.rglob("*"), copy):
            _sync(made)
    if (source / SETTINGS).exists() and not (path / SETTINGS).exists():
        write_whole(path / SETTINGS, (source / SETTINGS).read_bytes())
    for made in path / "manager.db", path / "guests", path:
        _sync(made)


def _put_back(path: Path) -> None:
    """What a restoration that was cut short has moved away is where it was, unless it was accepting."""
    found = _stage(path)
    if not found or found[1:] == [_ACCEPTING]:
        return
    name, *stage = found
    aside = path / name
    if stage == [_COPYING]:
        # All that was there is aside, so what is here is a copy.
        for each in path.glob("manager.db*"):
            each.unlink()
        shutil.rmtree(path / "guests", ignore_errors=True)
    if aside.is_dir():
        # As long as this is not complete, nothing here is a copy any more.
        write_whole(path / RESTORING, f"{name}\n".encode())
        for each in list(aside.iterdir()):
            each.rename(path / each.name)
        aside.rmdir()
    (path / RESTORING).unlink()
    sync_directory(path)


def _free(path: Path) -> Path:
    number = 1
    while os.path.lexists(path / f"{_ASIDE}{number}"):
        number += 1
    return path / f"{_ASIDE}{number}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _vtpms(state: StateDirectory) -> Iterator[tuple[str, UUID, Path]]:
    """Give name, UUID and state file of each vTPM in the directory."""
    for home in sorted((state.path / "guests").glob("*/uuid")):
        uuid, path = state.guest(home.parent.name)
        yield home.parent.name, uuid, path
