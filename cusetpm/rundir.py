"""The private directory of one run, and what killed runs have left of theirs.

    PLACE/cusetpm-XXXXXXXX/      mode 0700
        lock                     "cusetpm run 1", locked (flock) as long as the process lives
        node.MAJOR:MINOR         a link to a device node that this run has made outside
        ...                      sockets, the mount of a FUSE directory, the state of a TPM that is not kept

The kernel lets go of the lock however the process ends.  So a directory of this user whose lock can be had,
and says what it is, belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Final

from cusetpm import mounts

log = logging.getLogger(__name__)

_PREFIX: Final = "cusetpm-"
_NAME: Final = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")
_MARK: Final = b"cusetpm run 1\n"
_MAX_SOCKET: Final = 107 - len(f"/{_PREFIX}XXXXXXXX/")  # octets that Linux leaves of a unix socket's path


class RunDirectory:
    """A directory of this run alone, in memory where the machine has such a place; gone at the end.

    A unix socket in it can have the name *longest*.
    """

    def __init__(self, longest: str = "") -> None:
        self._longest = longest

    def __enter__(self) -> RunDirectory:
        # Without one in memory, it is the place that TMPDIR says.
        room = _MAX_SOCKET - len(self._longest)
        place = next((each for each in _places() if len(os.fsencode(each)) <= room), None)
        self.path = Path(os.path.abspath(mkdtemp(prefix=_PREFIX, dir=place)))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._lock = os.open(self.path / "lock", flags, 0o600)
            # It is locked before it says what it is, so nobody takes this directory for a dead one.
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            os.write(self._lock, _MARK)
        except BaseException:
            shutil.rmtree(self.path)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.path)
        os.close(self._lock)

    def note_node(self, path: str, device: int) -> None:
        """The node of *device* that will be made at *path* is removed with what a killed run has left."""
        (self.path / f"node.{os.major(device)}:{os.minor(device)}").symlink_to(path)


def mend() -> None:
    """What killed runs of this user have left is gone: mounts, device nodes, directories.

    Only what a run of this user has marked as its own is touched, and only when no process holds it.  What
    cannot be removed is left, and the log says why.
    """
    for place in dict.fromkeys((*_places(), gettempdir())):
        for path in _marked(place):
            try:
                _remove_dead(path)
            except FileNotFoundError:
                pass  # It has no lock, or somebody else is doing the same.
            except OSError as error:
                log.info("%s: what a killed run left cannot be removed: %s", path, error)


def _marked(place: str) -> Iterator[Path]:
    """Yield the directories in *place* that runs of this user have made."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) \
                    and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                yield Path(entry.path)


def _remove_dead(path: Path) -> None:
    """*path* is gone if it is a run's and that run is dead.  Raises OSError."""
    lock = os.open(path / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.read(lock, len(_MARK) + 1) != _MARK:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for mount in mounts.below(path):
            mounts.unmount(mount)
        for node in path.glob("node.*:*"):
            _remove_node(node)
        shutil.rmtree(path)
        log.info("%s: removed, a killed run had left it", path)
    finally:
        os.close(lock)


def _remove_node(note: Path) -> None:
    """The device node that *note* tells of is gone, unless it is another one, or its device still exists."""
    numbers = note.name.removeprefix("node.")
    with suppress(FileNotFoundError):
        node = os.readlink(note)
        found = os.lstat(node)
        ours = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" == numbers
        if stat.S_ISCHR(found.st_mode) and ours and not os.path.exists(f"/sys/dev/char/{numbers}"):
            os.unlink(node)


def _places() -> Iterator[str]:
    """Yield the directories in memory where this user may make files, the best first."""
    for place in os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm":  # noqa: S108 (mkdtemp makes a private one)
        if os.access(place, os.W_OK | os.X_OK):
            yield place
