"""Two files that take turns: a record is complete on disk before the one it replaces is touched.

A slot file is rewritten in place and synchronised with fdatasync.  Its space is written once beforehand, so
that a rewrite changes no metadata and costs one flush of the device.  Which of two records is the truth is
for the caller to know.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct

from hwtpm.errors import StateError

_MAGIC = b"cusetpm slot"
_VERSION = 1
_HEAD = Struct(">12sHI")  # magic, version, size of the record in octets
_STEP = 16384  # octets by which a file grows


class Slots:
    """The pair of slot files ``PATH.0`` and ``PATH.1``; created empty where they are missing.

    Raises OSError as the file system gives it.  Not safe for two threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._room = [0, 0]
        self._files: list[int] = []
        try:
            for i in (0, 1):
                self._files.append(os.open(f"{path}.{i}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                self._room[i] = os.fstat(self._files[i]).st_size
        except OSError:
            self.close()
            raise
        if not any(self._room):
            sync_directory(path.parent)

    def close(self) -> None:
        """The files are closed; calling it twice does nothing."""
        while self._files:
            os.close(self._files.pop())

    def read(self, slot: int) -> bytes | None:
        """Return the record in *slot* 0 or 1, or None if none was ever completed there.

        A record that was being written when power went may be returned torn.  Raises StateError for a file of
        another kind or version.
        """
        fd = self._files[slot]
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
        fd = self._files[slot]
        data = _HEAD.pack(_MAGIC, _VERSION, len(record)) + record
        try:
            if len(data) > self._room[slot]:
                room = -(-len(data) // _STEP) * _STEP
                _write_all(fd, bytes(room - self._room[slot]), self._room[slot])
                os.fsync(fd)
                self._room[slot] = room
            _write_all(fd, data, 0)
            os.fdatasync(fd)
        except OSError as error:
            error.filename = f"{self.path}.{slot}"
            raise


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, offset)
        view, offset = view[n:], offset + n


def sync_directory(path: Path) -> None:
    """The names in the directory *path* are on the device.  OSError from the file system."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
