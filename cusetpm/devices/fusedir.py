"""A directory of what is shown beside a TPM, mounted through FUSE.

One process has at most one such directory at a time, because pyfuse3 keeps its session in module variables.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cusetpm.devices.files import Entry
from cusetpm.devices.fusemount import Mounter

if TYPE_CHECKING:
    from cusetpm.devices.fuseops import Operations

_mounted = threading.Lock()
"""Held while this process has a mount."""


class FuseDirectory:
    """A mount of *mounter* at the directory *path* with *entries* by their names, for this process's user.

    `shown` is where it is seen.
    """

    def __init__(self, path: str | os.PathLike[str], entries: Mapping[str, Entry], mounter: Mounter) -> None:
        self.path = self.shown = os.path.abspath(path)
        self._entries, self._mounter = dict(entries), mounter
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """The mount answers from now on, served by a thread of its own.

        Raises OSError as `Mounter.mount` does, and EBUSY if this process already has such a mount.
        """
        from cusetpm.devices.fuseops import Operations

        if not _mounted.acquire(blocking=False):
            raise OSError(errno.EBUSY, "this process already serves a FUSE directory", self.path)
        try:
            fd, self.shown = self._mounter.mount(self.path, stat.S_IFDIR | 0o500)
        except BaseException:
            _mounted.release()
            raise
        self._ready.clear()
        self._thread = threading.Thread(target=self._serve, args=(Operations(self._entries), fd),
                                        name=f"fuse {self.path}", daemon=True)
        self._thread.start()
        self._ready.wait()
        try:
            for name in ("", *self._entries):
                os.stat(os.path.join(self.shown, name))
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """The mount is gone and its thread joined; safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        import pyfuse3
        import trio

        token = pyfuse3.trio_token
        # Without a token the mount has gone by itself.
        if token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(pyfuse3.terminate, trio_token=token)
        with contextlib.suppress(OSError):  # Somebody else may have unmounted it.
            self._mounter.unmount(self.path)
        thread.join()
        self.shown = self.path

    def _serve(self, operations: Operations, fd: int) -> None:
        import pyfuse3
        import trio

        try:
            try:
                pyfuse3.init(operations, f"/dev/fd/{fd}", {"default_permissions"})
            finally:
                self._ready.set()
            try:
                trio.run(pyfuse3.main)
            finally:
                pyfuse3.close(unmount=True)
        finally:
            _mounted.release()
