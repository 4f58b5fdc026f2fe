"""A TPM device file that is a mount of its own: a FUSE file system whose root is a file.

It takes the messages that /dev/cuse takes, through the same code and from one blocking thread, so a command
costs a third of what it costs through pyfuse3 and trio (docs/adr/0002-fuse-and-cuse.md), which need not be
imported either.

The file claims to be a regular one of no size, because a character device cannot be opened on a FUSE mount.
It is opened for direct I/O, without a position.  The kernel lets one write to it pass at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import ClassVar, Final

from cusetpm.devices.cuse import abi
from cusetpm.devices.cuse.protocol import MAX_WRITE, Action, FileProtocol, error_reply, reply
from cusetpm.devices.cuse.served import Served
from cusetpm.devices.fusemount import DEVICE, Mounter
from cusetpm.devices.session import AnyDevice
from cusetpm.devices.swtpm.control import Control
from hwtpm.errors import ProtocolError

_CACHED_S: Final = 3600
"""How long the kernel may remember attributes, in seconds; they change through the kernel only."""

_READY_S: Final = 10.0
_BLOCK: Final = 4096
_NAME_MAX: Final = 255
_ROOT: Final = 1  # the number of the root's inode


class MountProtocol(FileProtocol):
    """The root of a mount, a regular file of mode *mode* and of this process's user."""

    INIT: ClassVar[int] = abi.FUSE_INIT

    def __init__(self, device: AnyDevice, mode: int, control: Control | None = None) -> None:
        super().__init__(device, control)
        self._mode, self._uid, self._gid = stat.S_IFREG | mode, os.geteuid(), os.getegid()
        self._made = time.time_ns()
        self._requests |= {
            abi.FUSE_GETATTR: lambda unique, body: [reply(unique, self._attributes())],
            abi.FUSE_SETATTR: self._set_attributes,
            abi.FUSE_STATFS: lambda unique, body: [
                reply(unique, abi.STATFS_OUT.pack(0, 0, 0, 1, 0, _BLOCK, _NAME_MAX, _BLOCK))],
            abi.FUSE_DESTROY: lambda unique, body: [reply(unique)],
        }

    def _init(self, unique: int, body: bytes) -> bytes:
        if len(body) < abi.INIT_IN.size:
            raise ProtocolError(f"a FUSE_INIT of {len(body)} octets")
        major, minor, _, offered = abi.INIT_IN.unpack_from(body)
        if major != abi.FUSE_KERNEL_VERSION or minor < abi.FUSE_KERNEL_MINOR_VERSION:
            raise ProtocolError(f"the kernel speaks FUSE {major}.{minor}; Linux 5.4 or newer is needed")
        flags = offered & (abi.FUSE_ATOMIC_O_TRUNC | abi.FUSE_BIG_WRITES)
        return reply(unique, abi.INIT_OUT.pack(
            major, abi.FUSE_KERNEL_MINOR_VERSION, 0, flags, 0, 0, MAX_WRITE, 1, 0, 0, 0))

    def _set_attributes(self, unique: int, body: bytes) -> list[Action]:
        """Mode and owner change; a truncation is accepted and does nothing."""
        if len(body) < abi.SETATTR_IN.size:
            return [error_reply(unique, errno.EINVAL)]
        valid, mode, uid, gid = abi.SETATTR_IN.unpack_from(body)
        if valid & abi.FATTR_MODE:
            self._mode = stat.S_IFREG | stat.S_IMODE(mode)
        if valid & abi.FATTR_UID:
            self._uid = uid
        if valid & abi.FATTR_GID:
            self._gid = gid
        return [reply(unique, self._attributes())]

    def _attributes(self) -> bytes:
        seconds, nanoseconds = divmod(self._made, 1_000_000_000)
        return abi.ATTR_OUT.pack(_CACHED_S, 0, _ROOT, 0, 0, *[seconds] * 3, *[nanoseconds] * 3,
                                 self._mode, 1, self._uid, self._gid, 0, _BLOCK, 0)


class FuseFile(Served):
    """*device* at *path*, a regular file that is there, as long as the mount of *mounter* is over it.

    *mode* is its mode, as for `Mounter.mount`.  With a *control*, it has the ioctls of swtpm.  `shown` is
    where it is seen.
    """

    def __init__(self, path: str | os.PathLike[str], device: AnyDevice, mounter: Mounter, *,
                 mode: int = 0o600, control: Control | None = None) -> None:
        super().__init__(os.path.abspath(path))
        self.shown = self.path
        self._device, self._mounter, self._mode, self._control = device, mounter, mode, control

    def start(self) -> None:
        """The file answers from now on; raises OSError as `Mounter.mount` does."""
        fd, self.shown = self._mounter.mount(self.path, stat.S_IFREG | self._mode)
        self._begin(fd, MountProtocol(self._device, self._mode, self._control), f"fuse {self.path}")
        if not self._ready.wait(_READY_S):
            self.stop()
            raise OSError(errno.ETIMEDOUT, "the kernel does not answer", DEVICE)
        try:
            os.stat(self.shown)
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """The mount is gone and its threads joined; safe to call twice.

        Commands in progress are asked to end; clients that still have the file open get errors.
        """
        if self._thread is None:
            return
        with contextlib.suppress(OSError):  # Somebody else may have unmounted it.
            self._mounter.unmount(self.path)
        self._end()
        self.shown = self.path
