"""Device nodes in /dev: their names and numbers, their owners, and who makes them."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cusetpm import mounts

MAX_DEVICES: Final = 256
"""How many TPM devices the kernel itself numbers."""

_DEV: Final = "/dev"
_CLASSES: Final = "/sys/class"
_IN_USE: Final = (_DEV, *(f"{_CLASSES}/{name}" for name in ("cuse", "tpm", "tpmrm", "misc")))
_MODE: Final = 0o660
_USER: Final = "tss"

NoteNode = Callable[[str, int], None]
"""Hears of a node that is about to be made: its path and its device number."""


def taken(name: str) -> bool:
    """Tell whether there is a device of this name, or anything else in /dev."""
    return any(os.path.lexists(f"{directory}/{name}") for directory in _IN_USE)


def free(number: int) -> bool:
    """Tell whether there is neither tpmN nor tpmrmN for N = *number*."""
    return not taken(f"tpm{number}") and not taken(f"tpmrm{number}")


def free_number() -> int:
    """Return the lowest N for which there is neither tpmN nor tpmrmN.  Raises OSError ENODEV without one."""
    for number in range(MAX_DEVICES):
        if free(number):
            return number
    raise all_taken()


def all_taken() -> OSError:
    """Return the error of who finds no number free."""
    return OSError(errno.ENODEV, f"all names from tpm0 to tpm{MAX_DEVICES - 1} are taken", _DEV)


class Node:
    """The node /dev/*name* of a device that the kernel has, or will have, in its class *kind*.

    Where the kernel makes no nodes, in a container with a /dev of its own, `find` makes this one, and *note*
    hears of it before.
    """

    def __init__(self, name: str, kind: str, note: NoteNode | None = None) -> None:
        self.path = f"{_DEV}/{name}"
        self._numbers = Path(_CLASSES, kind, name, "dev")
        self._note = note
        self._made = False

    def is_ready(self) -> bool:
        """Tell whether the kernel has the device, and its node where it makes them."""
        return self._numbers.exists() and (os.path.lexists(self.path) or mounts.kind(_DEV) != "devtmpfs")

    def find(self) -> None:
        """The node is there, with the mode and owner that udev's rules give it.

        Raises OSError EEXIST, with one clear line, if the kernel has no such device or the name is not its.
        """
        try:
            numbers = self._numbers.read_text()
        except FileNotFoundError:
            raise OSError(errno.EEXIST, "the kernel refused to make the device", self.path) from None
        device = os.makedev(*(int(number) for number in numbers.split(":")))
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            if self._note is not None:
                self._note(self.path, device)
            os.mknod(self.path, stat.S_IFCHR | 0o600, device)
            self._made = True
        else:
            if not stat.S_ISCHR(found.st_mode) or found.st_rdev != device:
                raise OSError(errno.EEXIST, "something else has this name", self.path)
        _permit(self.path)

    def remove(self) -> None:
        """The node is gone if it was made here; the kernel removes its own."""
        if self._made:
            self._made = False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def _permit(path: str) -> None:
    """Give *path* the mode and owner that the udev rules for TPMs (Debian's tpm-udev) give it.

    The user tss may use /dev/tpmN, and the whole group /dev/tpmrmN; on a machine without them, root alone.
    """
    user = group = 0
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(_USER).pw_uid
        if path.startswith(f"{_DEV}/tpmrm"):
            group = grp.getgrnam(_USER).gr_gid
    os.chown(path, user, group)
    os.chmod(path, _MODE)
