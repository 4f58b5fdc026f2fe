"""A character device /dev/tpmN or /dev/tpmrmN through /dev/cuse, served by one blocking thread."""

from __future__ import annotations

import errno
import os
import select
from typing import Final

from cusetpm.devices.cuse.protocol import CuseProtocol
from cusetpm.devices.cuse.served import Served
from cusetpm.devices.node import Node, NoteNode, taken
from cusetpm.devices.session import AnyDevice
from cusetpm.devices.swtpm.control import Control

CUSE: Final = "/dev/cuse"
_READY_S: Final = 10.0


class CuseDevice(Served):
    """A device node /dev/*name* in front of *device*.

    Its *numbers*, major and minor, are the kernel's choice unless they are given.  With a *control*, it has
    the ioctls of swtpm.  Where the kernel makes no node, one is made here, and *note_node* hears of it
    before, with its path and device number.
    """

    def __init__(self, name: str, device: AnyDevice, numbers: tuple[int, int] = (0, 0),
                 note_node: NoteNode | None = None, *,
                 control: Control | None = None) -> None:
        super().__init__(f"/dev/{name}")
        self.name = name
        self._node = Node(name, "cuse", note_node)
        self._device = device
        self._numbers = numbers
        self._control = control

    def start(self) -> None:
        """The device node exists and answers from now on, with the mode and owner that udev's rules give it.

        Raises OSError, with one clear line: ENODEV or EACCES if there is no /dev/cuse for this process,
        EEXIST if the kernel refuses the name or the numbers, ETIMEDOUT if it says nothing.
        """
        if taken(self.name):
            raise OSError(errno.EEXIST, "a device of this name exists already", self.path)
        try:
            fd = os.open(CUSE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise OSError(errno.ENODEV, "no CUSE on this machine (modprobe cuse)", CUSE) from None
        except OSError as error:
            why = f"CUSE cannot be used: {error.strerror}"
            raise OSError(errno.EACCES if error.errno == errno.EPERM else error.errno, why, CUSE) from None
        self._begin(fd, CuseProtocol(self.name, self._device, self._numbers, self._control),
                    f"cuse {self.name}")
        try:
            if not self._ready.wait(_READY_S):
                raise OSError(errno.ETIMEDOUT, "the kernel does not answer", CUSE)
            if _hung_up(fd):
                # What there is by this name belongs to somebody who was faster.
                raise OSError(errno.EEXIST, "the kernel refused to make the device", self.path)
            self._node.find()
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """The device is gone and its threads joined; safe to call twice.

        Commands in progress are asked to end; clients that still have the device open get errors.
        """
        if self._end():
            self._node.remove()


def _hung_up(fd: int) -> bool:
    """Tell whether the kernel has done with *fd*, as it does in the reply to a CUSE_INIT that it refuses."""
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(0))
