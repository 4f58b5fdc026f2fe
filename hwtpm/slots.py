"""Two files that take turns: a record is complete on disk before the one it replaces is touched.

A slot file is rewritten in place and synchronised with fdatasync.  Its space is written once beforehand, so
that a rewrite changes no metadata and costs one flush of the device.  Which of two records is the truth is
for the caller to know.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from struct import Struct

from hwtpm.errors import StateError

_MAGIC = b"cusetpm slot"
_VERSION = 1
_HEAD = Struct(">12sHI")  # magic, version, size of the record in octets
_STEP = 16384  # octets by which a file grows


class Slots:
    """The pair of slot files ``PATH.0`` and ``PATH.1``; one that is missing is made when it is first written.

    Raises OSError as the file system gives it.  Not safe for two threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._room = [0, 0]
        self._files = [-1, -1]
        try:
            for slot in (0, 1):
                try:
                    self._open(slot, 0)
                except FileNotFoundError:
                    if os.path.islink(f"{path}.{slot}"):
                        raise  # Nor could it be made.
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """The files are closed; calling it twice does nothing."""
        for slot in (0, 1):
            fd, self._files[slot] = self._files[slot], -1
            if fd >= 0:
                os.close(fd)

    def read(self, slot: int) -> bytes | None:
        """Return the record in *slot* 0 or 1, or None if none was ever completed there.

        A record that was being written when power went may be returned torn.  Raises StateError for a file of
        another kind or version.
        """
        fd = self._files[slot]
        if fd < 0:
            return None
        try:
            head = os.pread(fd, _HEAD.size, 0)
        except OSError as error:
            error.filename = f"{self.path}.{slot}"
            raise
        if not head.strip(b"\0"):
            return None
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            raise StateError(f"{self.path}.{slot}: not a state file of cusetpm")
        _, version, size = _HEAD.unpack(head)
        if version != _VERSION:
            raise StateError(f"{self.path}.{slot}: written by another version of cusetpm (format {version}, "
                             f"this one reads {_VERSION})")
        return os.pread(fd, size, _HEAD.size)

    def write(self, slot: int, record: bytes) -> None:
        """*record* is in *slot* 0 or 1, and on the device."""
        if self._files[slot] < 0:
            self._open(slot, os.O_CREAT)
            sync_directory(self.path.parent)
        fd = self._files[slot]
        data = _HEAD.pack(_MAGIC, _VERSION, len(record)) + record
        try:
            if len(data) > self._room[slot]:
                self._grow(slot, -(-len(data) // _STEP) * _STEP)
            _write_all(fd, data, 0)
            os.fdatasync(fd)
        except OSError as error:
            error.filename = f"{self.path}.{slot}"
            raise

    def clear(self, slot: int) -> None:
        """*slot* 0 or 1 has no record any more, and that is on the device."""
        fd = self._files[slot]
        if fd < 0:
            return
        try:
            _write_all(fd, bytes(_HEAD.size), 0)
            os.fdatasync(fd)
        except OSError as error:
            error.filename = f"{self.path}.{slot}"
            raise

    def _open(self, slot: int, flags: int) -> None:
        fd = open_regular(f"{self.path}.{slot}", os.O_RDWR | flags)
        self._files[slot], self._room[slot] = fd, os.fstat(fd).st_size

    def _grow(self, slot: int, room: int) -> None:
        """The file has *room* octets, or, if this raises OSError, as many as before."""
        fd, old = self._files[slot], self._room[slot]
        try:
            _write_all(fd, bytes(room - old), old)
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, old)
            raise
        self._room[slot] = room


def open_regular(path: str | Path, flags: int) -> int:
    """Return a file descriptor of the file at *path*, opened with *flags*; it is made with mode 0600.

    OSError from the file system, and for what is no file: reading a pipe would wait for ever.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, offset)
        view, offset = view[n:], offset + n


def write_whole(path: Path, data: bytes) -> None:
    """*path* contains *data*, as a whole or not at all, also after a loss of power."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """The names in the directory *path* are on the device.  OSError from the file system."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
