"""What is mounted: our FUSE directories, also those whose process is gone, and what is at a place."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Final

NAME: Final = "cusetpm"
"""What such a mount is called in the kernel's table (fsname)."""

_MNT_DETACH = 2
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def below(directory: str | os.PathLike[str]) -> list[str]:
    """Return where in *directory*, an absolute path, our FUSE directories are mounted.

    Nothing is asked of the mounts themselves: a dead one answers with errors, and one that hangs not at all.
    """
    prefix = os.fsencode(directory) + b"/"
    return [os.fsdecode(point) for point, kind, name in _table()
            if (kind, name) == (b"fuse", NAME.encode()) and point.startswith(prefix)]


def kind(path: str | os.PathLike[str]) -> str:
    """Return what kind of file system is mounted at *path*, an absolute path; "" if none is."""
    # The last one covers those before.
    return ([kind.decode() for point, kind, _ in _table() if point == os.fsencode(path)] or [""])[-1]


def _table() -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield where each file system is mounted, its kind, and what it is called, in the order of mounting."""
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            mount, _, system = line.partition(b" - ")
            # Octal escapes stand for the characters that separate fields.
            point = _ESCAPED.sub(lambda escape: bytes([int(escape[1], 8)]), mount.split(b" ")[4])
            kind, name = system.split(b" ")[:2]
            yield point, kind, name


def unmount(path: str) -> None:
    """Nothing is mounted at *path* any more; who has a file of it open keeps that.  Raises OSError."""
    if os.geteuid() == 0:
        import ctypes  # takes some milliseconds, and is seldom needed

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(path), _MNT_DETACH):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        return
    import subprocess

    command = ["fusermount3", "-u", "-z", "--", path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.returncode, " ".join(done.stderr.split()), path)


def unmount_stale(path: str) -> None:
    """No mount whose process is gone is at *path*; raises OSError, also what *path* itself gives."""
    try:
        os.statvfs(path)  # Asks the file system every time, where stat() may remember.
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
        unmount(path)
