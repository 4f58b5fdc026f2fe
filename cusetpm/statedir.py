"""A state directory: its format, its one user at a time, and what lies where in it.

    DIR/format            "cusetpm state 1"
    DIR/lock              held while a process uses the directory; contains its pid
    DIR/chip.0 chip.1     the chip's NV
    DIR/manager.db        the vTPM manager's store
    DIR/guests/NAME/      one vTPM: uuid, state.0, state.1
"""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path

from hwtpm.errors import StateError
from hwtpm.slots import sync_directory

_FORMAT = "cusetpm state 1\n"


class StateDirectory:
    """An open state directory; nobody else can open it until `close`.

    *path* is made (mode 0700) where it is missing.  Raises StateError, one line for people, if another
    process holds it, if it has another format, if it is a directory of something else, or if a file is gone
    without which the others are of no use; OSError from the file system.  Nothing is changed then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_format()
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
            self._check_complete()
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Somebody else may use the directory."""
        if self._lock >= 0:
            os.ftruncate(self._lock, 0)
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

        A vTPM that is not there yet gets a directory and a random UUID.
        """
        home = self.path / "guests" / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            found = (home / "uuid").read_text(errors="replace").strip()
        except FileNotFoundError:
            if _any_content(home, "state.?"):
                raise StateError(f"{home / 'uuid'} is gone: put it back, or remove {home} for "
                                 f"a new vTPM") from None
            found = str(uuid.uuid4())
            _write_whole(home / "uuid", found + "\n")
            for made_in in (home.parent, self.path, self.path.parent):
                sync_directory(made_in)
        try:
            return uuid.UUID(found), home / "state"
        except ValueError:
            raise StateError(f"{home / 'uuid'}: not a UUID") from None

    def _check_format(self) -> None:
        marker = self.path / "format"
        try:
            found = marker.read_text(errors="replace")
        except FileNotFoundError:
            if any(entry.name != "lock" for entry in self.path.iterdir()):
                raise StateError(f"{self.path}: not empty, and not a state directory of cusetpm") from None
            _write_whole(marker, _FORMAT)
            return
        if found != _FORMAT:
            told = found.strip()[:40] or "nothing"
            raise StateError(f"{self.path}: its format is {told!r}, this version of cusetpm reads "
                             f"{_FORMAT.strip()!r}")

    def _check_complete(self) -> None:
        """What was made first is there if anything is that was made after it: chip, manager, vTPMs.

        A new chip or store in the place of a lost one would only be in the way of the one that is put back.
        """
        guests = _any_content(self.path, "guests/*/state.?")
        if (guests or _any_content(self.path, "manager.db")) and not _any_content(self.path, "chip.?"):
            raise StateError(f"{self.chip}.0 and .1, the chip's NV, are gone: put them back, or take another "
                             f"directory for a new TPM")
        if guests and not _any_content(self.path, "manager.db"):
            raise StateError(f"{self.manager}, the manager's store, is gone: put it back, or take another "
                             f"directory for a new TPM")

    def _take(self) -> None:
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            who = f"process {holder}" if holder else "another process"
            raise StateError(f"{self.path}: in use by {who}; wait for it, stop it, or take another "
                             f"directory") from None
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            error.filename = str(self.path / "lock")
            raise


def _write_whole(path: Path, text: str) -> None:
    """*path* contains *text*, as a whole or not at all, also after a loss of power."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def _any_content(directory: Path, pattern: str) -> bool:
    """Tell whether anything in *directory* that matches *pattern* is more than an empty file."""
    return any(found.lstat().st_size for found in directory.glob(pattern))
