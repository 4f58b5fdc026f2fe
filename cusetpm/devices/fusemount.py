"""Mounts of FUSE: by this process, by fusermount3, or, where nobody may mount, in a namespace (ADR 18)."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
from typing import TYPE_CHECKING, Final

from cusetpm import mounts

if TYPE_CHECKING:
    from cusetpm.mountns import MountNamespace

DEVICE: Final = "/dev/fuse"

_MS_NOSUID, _MS_NODEV = 2, 4


class Mounter:
    """Makes mounts that belong together: all of them where everybody sees them, or all in one namespace."""

    def __init__(self) -> None:
        self._namespace: MountNamespace | None = None

    def mount(self, path: str, mode: int) -> tuple[int, str]:
        """Mount at *path*; return the non-blocking descriptor that serves it, and where it is seen.

        The root has the *mode*; *path* is there, and of the same type.  A mount there whose process is gone
        is unmounted first.  A mode that lets other users in makes the mount visible to them, which an
        ordinary user may do only if /etc/fuse.conf has user_allow_other.  Raises OSError, with one clear
        line: ENODEV or EACCES if there is no /dev/fuse for this process, EPERM if mounting is refused, also
        in a namespace, and what *path* itself gives.
        """
        mounts.unmount_stale(path)
        kind = stat.S_IFMT(mode)
        if stat.S_IFMT(os.stat(path).st_mode) != kind:
            what = "directory" if stat.S_ISDIR(mode) else "file"
            raise OSError(errno.ENOTDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"not a {what} to mount on",
                          path)
        if self._namespace is not None:
            return self._in_namespace(self._namespace, path, kind)
        options = ["default_permissions", *(["allow_other"] if mode & 0o066 else [])]
        try:
            return _mounted(path, kind, options), path
        except OSError as error:
            if error.filename == DEVICE:
                raise
            why = error.strerror
        from cusetpm.mountns import MountNamespace

        try:
            self._namespace = MountNamespace()
            return self._in_namespace(self._namespace, path, kind)
        except OSError as error:
            detail = f"{why}; nor in a user namespace: {error.strerror}"
            raise OSError(errno.EPERM, f"cannot mount a FUSE file system: {detail}", path) from None

    def unmount(self, path: str) -> None:
        """Nothing is mounted at *path*, as far as it was where everybody sees it; OSError if it stays."""
        if self._namespace is None:
            mounts.unmount(path)

    def close(self) -> None:
        """What was mounted in a namespace is gone; twice does nothing."""
        namespace, self._namespace = self._namespace, None
        if namespace is not None:
            namespace.close()

    def _in_namespace(self, namespace: MountNamespace, path: str, kind: int) -> tuple[int, str]:
        fd = namespace.mount(path, kind)
        os.set_blocking(fd, False)
        return fd, namespace.shown(path)


def _mounted(path: str, kind: int, options: list[str]) -> int:
    """Mount where everybody sees it, and return the descriptor."""
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise OSError(errno.ENODEV, "no FUSE on this machine (modprobe fuse)", DEVICE) from None
    except OSError as error:
        raise OSError(error.errno, f"FUSE cannot be used: {error.strerror}", DEVICE) from None
    if os.geteuid() == 0:
        from cusetpm.privatedev import mount  # with ctypes, which takes some milliseconds

        told = ",".join((f"fd={fd}", f"rootmode={kind:o}", "user_id=0", f"group_id={os.getegid()}", *options))
        try:
            mount(mounts.NAME, path, "fuse", _MS_NOSUID | _MS_NODEV, told)
            return fd
        except PermissionError:
            pass  # fusermount3 may have more rights than root of a container.
        except BaseException:
            os.close(fd)
            raise
    os.close(fd)
    return _fusermount(path, options)


def _fusermount(path: str, options: list[str]) -> int:
    """Have fusermount3 mount, and return the descriptor that it sends."""
    if shutil.which("fusermount3") is None:
        raise OSError(errno.EPERM, "an ordinary user needs fusermount3 (package fuse3)", path)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            done = subprocess.run(
                ["fusermount3", "-o", ",".join((f"fsname={mounts.NAME}", *options)), "--", path],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()],
                check=False, capture_output=True, text=True)
        fds = socket.recv_fds(ours, 1, 1)[1] if done.returncode == 0 else []
    if not fds:
        why = " ".join(done.stderr.split()) or "fusermount3 gave no descriptor"
        raise OSError(errno.EPERM, why, path)
    os.set_blocking(fds[0], False)
    os.set_inheritable(fds[0], False)
    return fds[0]
