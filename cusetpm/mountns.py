"""FUSE mounts where nobody may mount, as in a default container: in a mount namespace that a process keeps.

Whoever may make a user namespace may mount in it.  The process that does so stays, because the namespaces
end with the last process in them; it ends when this one does, however that ends, and nothing is left mounted.
What it mounts is seen from outside through /proc/PID/root, by processes of this user (ptrace(2), access mode
checking) that are not in another user namespace of their own.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from cusetpm import mounts
from cusetpm.privatedev import mount, unshare

_MESSAGE: Final = 4096 + 32  # octets: the longest path, and what is said before it
_DEVICE: Final = "/dev/fuse"
_MS_NOSUID, _MS_NODEV = 2, 4
_PROGRAM: Final = """
import sys
sys.path.insert(0, {root!r})
from cusetpm.mountns import keep
keep({fd})
"""


class MountNamespace:
    """A mount namespace, in which this user may mount.  What raises OSError here ends it, as `close` does."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = _PROGRAM.format(root=str(Path(__file__).parents[1]), fd=theirs.fileno())
        with theirs:
            # What the terminal sends is for COMMAND; this process ends when the socket does.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], process_group=0)
        self._receive()

    def mount(self, path: str, rootmode: int) -> int:
        """Return the descriptor that serves a new mount at *path*, which has the type in *rootmode*."""
        self._ours.send(os.fsencode(f"{rootmode:o} {path}"))
        (fd,) = self._receive()
        return fd

    def shown(self, path: str) -> str:
        """Return where processes that are not in the namespace find *path* in it."""
        return f"/proc/{self._process.pid}/root{path}"

    def close(self) -> None:
        """Nothing is mounted any more, for those outside."""
        self._ours.close()
        self._process.wait()

    def _receive(self) -> list[int]:
        said, fds, _, _ = socket.recv_fds(self._ours, _MESSAGE, 1)
        number, _, why = said.decode(errors="replace").partition(" ")
        if number == "0":
            return fds
        self._ours.close()
        self._process.wait()
        raise OSError(int(number or errno.EPERM), why or "the process that should mount has ended")


def keep(fd: int) -> None:
    """Be the process in the namespaces, which does what it is asked through the socket *fd* until its end."""
    with socket.socket(fileno=fd) as asked:
        try:
            unshare(ordinary=True)
            asked.send(b"0")
            while request := asked.recv(_MESSAGE):
                rootmode, _, path = os.fsdecode(request).partition(" ")
                _mount(asked, path, rootmode)
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            asked.send(os.fsencode(f"{error.errno} {where}{error.strerror}"))


def _mount(asked: socket.socket, path: str, rootmode: str) -> None:
    # The kernel wants it opened in the user namespace that mounts.
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"rootmode={rootmode},user_id={os.geteuid()},group_id={os.getegid()},default_permissions"
        mount(mounts.NAME, path, "fuse", _MS_NOSUID | _MS_NODEV, f"fd={fd},{options}")
        socket.send_fds(asked, [b"0"], [fd])
    finally:
        os.close(fd)
