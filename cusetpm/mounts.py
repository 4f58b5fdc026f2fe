"""Mounts of our FUSE directories, also those whose process is gone."""

from __future__ import annotations

import os
import re
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
    found = []
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            mount, _, system = line.partition(b" - ")
            # Octal escapes stand for the characters that separate fields.
            point = _ESCAPED.sub(lambda escape: bytes([int(escape[1], 8)]), mount.split(b" ")[4])
            if system.split(b" ")[:2] == [b"fuse", NAME.encode()] and point.startswith(prefix):
                found.append(os.fsdecode(point))
    return found


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
