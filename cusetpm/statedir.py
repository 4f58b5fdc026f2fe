"""A state directory: its format, its one user at a time, and what lies where in it.

    DIR/format            "cusetpm state 1"
    DIR/lock              locked while a process uses the directory
    DIR/chip.0 chip.1     the chip's NV, if it is our own
    DIR/manager.db        the vTPM manager's store
    DIR/replaced.N/       what was there before a backup was put back; restoring while that is going on
    DIR/manager.toml      what is not the default of the manager's settings (`cusetpm.settings`)
    DIR/manager.at        where the process that uses the directory answers (`cusetpm.administration`)
    DIR/guests/NAME/      one vTPM: uuid, state.0, state.1; state.running while it is suspended;
                          tcsd.data, the keys that tcsd stores
    DIR/arriving/         a vTPM that is being imported (`cusetpm.moving`)
    DIR/leaving/          one that was removed: of no use, and removed with the next one at the latest
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Final

from cusetpm import settings
from hwtpm.errors import StateError
from hwtpm.slots import open_regular, sync_directory, write_whole

RESTORING: Final = "restoring"
"""The file that is there while a backup is put back (`cusetpm.backup`)."""
_FORMAT = "cusetpm state 1\n"
_FLOCK = Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid


class InUse(StateError):
    """Another process holds the directory."""


class StateDirectory:
    """An open state directory; nobody else can open it until `close`.

    *path* is made (mode 0700) where it is missing.  Raises StateError, one line for people, if another
    process holds it, if it has another format, if it is a directory of something else, or if a file is gone
    without which the others are of no use; OSError from the file system.  Nothing is changed then.

    A directory in which a restoration was cut short can be opened when *restoring* only.

    Until `keep`, the directory is on trial: `close` removes what this start has made of an empty one.
    """

    def __init__(self, path: Path, *, restoring: bool = False) -> None:
        self.path = path
        self._restoring = restoring
        self._kept = False
        self._made_format = self._made_lock = False
        self._lock = -1
        self._made = _make_directories(path)
        try:
            for each in self._made:
                sync_directory(each.parent)
            self._check_format()
            self._take()
            if not self._check_format():
                self._made_format = True
                write_whole(path / "format", _FORMAT.encode())
            self._check_complete()
        except BaseException:
            self.close()
            raise

    def keep(self) -> None:
        """What has been made of an empty directory stays."""
        self._kept = True

    def close(self) -> None:
        """Somebody else may use the directory; safe to call twice."""
        if not self._kept:
            # Nothing is in the way of whoever comes next, not even of who wants another kind of directory.
            with suppress(OSError):
                self._discard()
        self._made = []
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def chip(self) -> Path:
        """The chip's NV file, without the number of the slot."""
        return self.path / "chip"

    @property
    def manager(self) -> Path:
        """The manager's store."""
        return self.path / "manager.db"

    def guest(self, name: str) -> tuple[uuid.UUID, Path]:
        """Return the UUID of the vTPM *name* and its state file, without the number of the slot.

        A vTPM that is not there yet gets a random UUID, and its directory by `make_guest`.
        """
        home = self.path / "guests" / name
        try:
            found = _read(home / "uuid").strip()
        except FileNotFoundError:
            if _any_content(home, "state.?"):
                raise StateError(f"{home / 'uuid'} is gone: put it back, or remove {home} for "
                                 f"a new vTPM") from None
            return uuid.uuid4(), home / "state"
        try:
            return uuid.UUID(found), home / "state"
        except ValueError:
            raise StateError(f"{home / 'uuid'}: not a UUID") from None

    def names(self) -> dict[uuid.UUID, str]:
        """Return the names of the vTPMs that the directory has, by UUID."""
        found = {}
        for home in sorted((self.path / "guests").glob("*/uuid")):
            with suppress(ValueError):
                found[uuid.UUID(_read(home).strip())] = home.parent.name
        return found

    def remove_guest(self, identity: uuid.UUID) -> None:
        """The directory of that vTPM, if there is one, is gone, durably and as a whole."""
        leaving = self.path / "leaving"
        while (name := self.names().get(identity)) is not None:
            shutil.rmtree(leaving, ignore_errors=True)
            (self.path / "guests" / name).rename(leaving)
            for changed in self.path / "guests", self.path:
                sync_directory(changed)
        shutil.rmtree(leaving, ignore_errors=True)

    def stored_keys(self, name: str) -> Path:
        """Return the file of the keys that tcsd stores for the vTPM *name*."""
        return self.path / "guests" / name / "tcsd.data"

    def make_guest(self, name: str, identity: uuid.UUID) -> None:
        """The vTPM *name* has a directory, durably, with the UUID that `guest` gave for it."""
        home = self.path / "guests" / name
        if (home / "uuid").exists():
            return
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(home / "uuid", f"{identity}\n".encode())
        for made_in in (home.parent, self.path, self.path.parent):
            sync_directory(made_in)

    def _check_format(self) -> bool:
        """Return whether this is a state directory already; False if there is nothing in it."""
        marker = self.path / "format"
        try:
            found = _read(marker)
        except FileNotFoundError:
            # A start that was killed may have left the lock, and the marker under its first name.
            if any(name != "lock" and not name.startswith(".format.") for name in os.listdir(self.path)):
                raise StateError(f"{self.path}: not empty, and not a state directory of cusetpm") from None
            return False
        if found != _FORMAT:
            told = found.strip()[:40] or "nothing"
            raise StateError(f"{self.path}: its format is {told!r}, this version of cusetpm reads "
                             f"{_FORMAT.strip()!r}")
        return True

    def _check_complete(self) -> None:
        """What was made first is there if anything is that was made after it: chip, manager, vTPMs.

        A new chip or store in the place of a lost one would only be in the way of the one that is put back.
        """
        if self._restoring:
            return
        if os.path.lexists(self.path / RESTORING):
            raise StateError(f"{self.path}: a backup was being put back when that was cut short; restore it "
                             f"once more")
        guests = _any_content(self.path, "guests/*/state.?")
        chip = settings.read(self.path).driver != "model" or _any_content(self.path, "chip.?")
        if (guests or _any_content(self.path, "manager.db")) and not chip:
            raise StateError(f"{self.chip}.0 and .1, the chip's NV, are gone: put them back, or take another "
                             f"directory for a new TPM")
        if guests and not _any_content(self.path, "manager.db"):
            raise StateError(f"{self.manager}, the manager's store, is gone: put it back, or take another "
                             f"directory for a new TPM")

    def _take(self) -> None:
        """The lock is held, and the locked file is the one that others find."""
        path = self.path / "lock"
        while self._lock < 0:
            try:
                lock, self._made_lock = _open_lock(path)
            except FileNotFoundError:
                continue  # Whoever made it has just removed it.
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(lock, path):
                    self._lock = lock
                    return
            except OSError as error:
                self._made_lock = False
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise InUse(f"{self.path}: in use by {_holder(lock)}; wait for it, stop it, or take "
                                     f"another directory") from None
                error.filename = str(path)
                raise
            finally:
                if self._lock < 0:
                    os.close(lock)

    def _discard(self) -> None:
        """What this start has made is gone; the lock is removed last, and while it is still held."""
        if self._made_format:
            for pattern in ("chip.?", "manager.db*"):
                for file in self.path.glob(pattern):
                    file.unlink()
            shutil.rmtree(self.path / "guests", ignore_errors=True)
            (self.path / "format").unlink(missing_ok=True)
        if self._made_lock:
            (self.path / "lock").unlink()
        for directory in self._made:
            directory.rmdir()


def _make_directories(path: Path) -> list[Path]:
    """*path* is a directory; return those that were made for that, the deepest first."""
    missing = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    # SQLite would say of a directory like this that the store is read-only.
    if not os.access(path, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), str(path))
    return missing


def _open_lock(path: Path) -> tuple[int, bool]:
    """Return the open file at *path*, and whether it was made for that."""
    try:
        return open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), True
    except FileExistsError:
        return open_regular(path, os.O_RDWR | os.O_NOFOLLOW), False


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(lock: int) -> str:
    """Return who holds the lock; in another PID namespace the kernel gives no number."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    return f"process {pid}" if kind != fcntl.F_UNLCK and pid > 0 else "another process"


def _read(path: Path) -> str:
    """Return the content of the file at *path*, as far as it is text."""
    with open(open_regular(path, os.O_RDONLY), errors="replace") as file:
        return file.read()


def _any_content(directory: Path, pattern: str) -> bool:
    """Tell whether anything in *directory* that matches *pattern* is more than an empty file."""
    return any(found.lstat().st_size for found in directory.glob(pattern))
