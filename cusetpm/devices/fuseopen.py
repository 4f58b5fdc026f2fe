"""Open files of a FUSE directory, under trio: devices, and files that are read whole.

Imported with `fuseops`.  Device files are opened for direct I/O, without a position: offsets that the kernel
counts are ignored.  A read without a response returns nothing rather than wait, because the kernel lets no
write pass a read that waits.  Short commands run in the trio thread; those that take long in a worker thread.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import pyfuse3
import trio

from cusetpm.devices.files import File
from cusetpm.devices.process import is_dying
from cusetpm.devices.session import Session, Submit
from cusetpm.transport import NotExecuted

log = logging.getLogger(__name__)

T = TypeVar("T")

_WATCH_S: Final = 0.02
"""How often the client of a long command is looked at, in seconds: pyfuse3 reports no interrupts."""


class Open(Protocol):
    """An open file.  Calls raise FUSEError."""

    async def read(self, off: int, size: int) -> bytes: ...

    async def write(self, data: bytes) -> int: ...

    def poll(self, handle: pyfuse3.PollHandle | None) -> int:
        """Return the poll events that hold; *handle* is told when there may be others."""
        ...

    def cancel(self) -> None:
        """A command in progress has been asked to end."""
        ...

    def release(self) -> None: ...


class OpenDevice:
    """An open device *name*: a session and what FUSE needs beside it, for thread *tid*."""

    def __init__(self, name: str, session: Session, flags: int, tid: int, nursery: trio.Nursery) -> None:
        self._name = name
        self._session = session
        self._nonblocking = bool(flags & os.O_NONBLOCK)
        self._tid = tid
        self._nursery = nursery
        self._cancelled = False  # The command that executes has been asked to end.
        self._poll_handle: pyfuse3.PollHandle | None = None

    async def write(self, data: bytes) -> int:
        session = self._session
        try:
            submit = session.write(data)
        except OSError as error:
            raise fuse_error(error) from None
        self._cancelled = False
        try:
            if not session.transport.takes_long(submit.command):
                session.response(session.transport.execute(*submit))
            elif self._nonblocking:
                self._nursery.start_soon(self._run_queued, submit)
                return len(data)
            else:
                session.response(await self._run_long(submit))
        except Exception as error:
            code = self._why(error)
            session.failed(code, queued=self._nonblocking)
            if not self._nonblocking:
                raise pyfuse3.FUSEError(code) from None
        finally:
            self._changed()
        return len(data)

    async def read(self, off: int, size: int) -> bytes:
        try:
            data = self._session.read(size)
        except OSError as error:
            raise fuse_error(error) from None
        if data:
            self._changed()
        return data

    def poll(self, handle: pyfuse3.PollHandle | None) -> int:
        if handle is not None:
            self._poll_handle = handle
        return self._session.poll()

    def cancel(self) -> None:
        """The command that executes has been asked to end, even if its thread has not begun with it."""
        if self._session.executing:
            self._cancelled = True
            self._session.transport.cancel()

    def release(self) -> None:
        self._poll_handle = None
        self.cancel()
        self._session.release()

    def _changed(self) -> None:
        """Whoever polls this file looks again."""
        handle, self._poll_handle = self._poll_handle, None
        if handle is not None:
            handle.notify()

    def _execute(self, submit: Submit) -> bytes:
        """Return the response to a command that takes long, unless `cancel` ends it; in a worker thread."""
        return self._session.transport.execute(*submit, lambda: self._cancelled)

    async def _run_long(self, submit: Submit) -> bytes:
        """Execute in a worker thread; a client that is being killed has its command cancelled."""
        failed: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            try:
                response = await trio.to_thread.run_sync(self._execute, submit)
            except Exception as error:
                failed = error  # Raised here, it would come out of the nursery in a group.
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return response

    async def _watch(self) -> None:
        while True:
            await trio.sleep(_WATCH_S)
            if is_dying(self._tid):
                self.cancel()
                return

    async def _run_queued(self, submit: Submit) -> None:
        try:
            response = await trio.to_thread.run_sync(self._execute, submit)
        except Exception as error:
            self._session.failed(self._why(error), queued=True)
        else:
            self._session.response(response)
        self._changed()

    def _why(self, error: Exception) -> int:
        """Return the errno value that says why a command has no response; a defect is logged."""
        if isinstance(error, NotExecuted):
            return error.code
        log.error("%s: a command failed", self._name, exc_info=error)
        return errno.EPIPE


class OpenFile:
    """An open *file* called *name*.  Its content is made anew by each read from its beginning."""

    def __init__(self, name: str, file: File, flags: int) -> None:
        access = flags & os.O_ACCMODE
        # Whatever its mode says: it is not for root either.
        if (access != os.O_WRONLY and file.read is None) or (access != os.O_RDONLY and file.write is None):
            raise pyfuse3.FUSEError(errno.EACCES)
        self._name = name
        self._file = file
        self._content: bytes | None = None

    async def read(self, off: int, size: int) -> bytes:
        content = self._content
        if content is None or off == 0:
            assert self._file.read is not None
            content = self._content = await in_thread(self._name, self._file.read)
        return content[off : off + size]

    async def write(self, data: bytes) -> int:
        write = self._file.write
        assert write is not None
        await in_thread(self._name, lambda: write(data))
        return len(data)

    def poll(self, handle: pyfuse3.PollHandle | None) -> int:
        return select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM

    def cancel(self) -> None:
        """What is asked of a TPM here takes no time of its own."""

    def release(self) -> None:
        """Nothing is kept."""


async def in_thread(name: str, call: Callable[[], T]) -> T:
    """Return what *call* returns, which may wait for a TPM.  Raises FUSEError; a defect is logged."""
    try:
        return await trio.to_thread.run_sync(call)
    except OSError as error:
        log.info("%s: %s", name, error)
        raise fuse_error(error) from None
    except Exception as error:
        log.error("%s: cannot be shown", name, exc_info=error)
        raise pyfuse3.FUSEError(errno.EIO) from None


def fuse_error(error: OSError) -> pyfuse3.FUSEError:
    """Return what ends a system call as *error* says."""
    return pyfuse3.FUSEError(error.errno or errno.EIO)
