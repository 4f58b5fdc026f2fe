"""A directory of TPM device files, mounted through FUSE: `DIR/tpm0` and so on.

One process has at most one such directory at a time, because pyfuse3 keeps its session in module
variables; it holds as many devices as wanted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from cusetpm import mounts
from cusetpm.devices.files import Entry

if TYPE_CHECKING:
    from cusetpm.devices.fuseops import Operations
    from cusetpm.mountns import MountNamespace

DEVICE: Final = "/dev/fuse"

_mounted = threading.Lock()
"""Held while this process has a mount."""


class FuseDirectory:
    """A mount at *path* with *entries*, devices and what is shown beside them, by their names.

    *mode* is that of the device files; one that lets other users in makes the mount visible to them, which an
    ordinary user may do only if /etc/fuse.conf has user_allow_other.

    Where nobody may mount, it is mounted in a mount namespace of its own (`cusetpm.mountns`), which no other
    user can look into.  `shown` is where it is seen, *path* or a way into that namespace.
    """

    def __init__(
        self, path: str | os.PathLike[str], entries: Mapping[str, Entry], *, mode: int = 0o600
    ) -> None:
        self.path = self.shown = os.path.abspath(path)
        self._entries = dict(entries)
        self._mode = mode
        self._thread: threading.Thread | None = None
        self._operations: Operations | None = None
        self._mount_tried = threading.Event()
        self._refused: OSError | None = None
        self._namespace: MountNamespace | None = None

    def start(self) -> None:
        """The mount answers from now on, served by a thread of its own.

        What a killed process left mounted at the path is unmounted first.  Raises OSError, with one
        clear line: ENODEV or EACCES if there is no /dev/fuse for this process, EBUSY if this process
        already has a mount, EPERM with libfuse's own words if mounting is refused, also in a namespace,
        and what the directory itself gives.
        """
        _check_fuse()
        _unmount_stale(self.path)
        if not os.path.isdir(self.path):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory to mount on", self.path)
        from cusetpm.devices.fuseops import Operations

        if not _mounted.acquire(blocking=False):
            raise OSError(errno.EBUSY, "this process already serves a FUSE directory", self.path)
        self._operations = Operations(self._entries, self._mode)
        self._refused = None
        self._mount_tried.clear()
        self._thread = threading.Thread(target=self._serve, name=f"fuse {self.path}", daemon=True)
        self._thread.start()
        self._mount_tried.wait()
        try:
            self._answers()
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """The mount is gone and its thread joined; safe to call twice.

        Commands in progress are asked to end, and waited for.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        import pyfuse3
        import trio

        token = pyfuse3.trio_token
        # Without a token mounting was refused, or the mount has gone by itself.
        if token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(self._terminate, trio_token=token)
        thread.join()
        self.shown = self.path

    def _answers(self) -> None:
        """Return once the mount has answered.  Raises OSError if there is none."""
        if self._refused is not None:
            raise self._refused
        os.stat(self.shown)
        for name in self._entries:
            os.stat(os.path.join(self.shown, name))

    def _terminate(self) -> None:
        import pyfuse3

        assert self._operations is not None
        self._operations.cancel()
        pyfuse3.terminate()

    def _serve(self) -> None:
        import pyfuse3
        import trio

        assert self._operations is not None
        options = {f"fsname={mounts.NAME}", "default_permissions"}
        if self._mode & 0o066:
            options.add("allow_other")
        try:
            try:
                self._mount(options)
            except OSError as error:
                self._refused = error
                return
            finally:
                self._mount_tried.set()
            try:
                trio.run(self._operations.serve)
            finally:
                pyfuse3.close(unmount=True)
        finally:
            namespace, self._namespace = self._namespace, None
            if namespace is not None:
                namespace.close()
            _mounted.release()

    def _mount(self, options: set[str]) -> None:
        """Mount where everybody sees it, or else in a namespace."""
        import pyfuse3

        assert self._operations is not None
        said: list[str] = []
        try:
            with _stderr_kept(said):
                pyfuse3.init(self._operations, self.path, options)
        except RuntimeError as error:
            why = said[-1] if said else str(error)
        else:
            return
        from cusetpm.mountns import MountNamespace

        try:
            namespace = MountNamespace()
            fd = namespace.mount(self.path, stat.S_IFDIR)
        except OSError as error:
            detail = f"{why}; nor in a user namespace: {error.strerror}"
            raise OSError(errno.EPERM, f"cannot mount a FUSE directory: {detail}", self.path) from None
        self._namespace = namespace
        self.shown = namespace.shown(self.path)
        try:
            pyfuse3.init(self._operations, f"/dev/fd/{fd}", {"default_permissions"})
        except RuntimeError as error:
            os.close(fd)
            raise OSError(errno.EPERM, f"cannot serve a FUSE directory: {error}", self.path) from None


def _check_fuse() -> None:
    """Raise OSError unless this process may open /dev/fuse."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise OSError(errno.ENODEV, "no FUSE on this machine (modprobe fuse)", DEVICE) from None
    except OSError as error:
        raise OSError(error.errno, f"FUSE cannot be used: {error.strerror}", DEVICE) from None


def _unmount_stale(path: str) -> None:
    """A mount whose process is gone is unmounted."""
    try:
        os.statvfs(path)  # Asks the file system every time, where stat() may remember.
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise
        mounts.unmount(path)


@contextlib.contextmanager
def _stderr_kept(said: list[str]) -> Iterator[None]:
    """Add what libfuse and fusermount3 print to *said*, line by line, instead of printing it."""
    with tempfile.TemporaryFile() as kept:
        saved = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            kept.seek(0)
            said.extend(kept.read().decode(errors="replace").split("\n")[:-1])
