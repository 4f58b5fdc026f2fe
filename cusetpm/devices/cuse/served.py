"""One blocking thread that answers the kernel's messages for a file: of /dev/cuse, or of a mount."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections.abc import Callable
from functools import partial

from cusetpm.devices.cuse.protocol import READ_BUFFER, Cancel, Execute, FileProtocol, Ioctl
from cusetpm.devices.process import is_dying
from cusetpm.transport import NotExecuted
from hwtpm.errors import ProtocolError

log = logging.getLogger(__name__)


class Served:
    """A file at *path* that the kernel asks about through a descriptor, as `FileProtocol` answers.

    Commands that take long, and ioctls, run in threads of their own, so that the file still answers.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.heeds: Served | None = None
        """What has been closed there by then is closed before a command from here begins."""
        self._fd = -1
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._workers: dict[threading.Thread, Callable[[], None]] = {}  # with what asks each to end
        self._cancelled: set[int] = set()  # Numbers of the requests whose commands have been asked to end.
        self._stopping = False
        self._turn = threading.Lock()  # Whoever takes the next message and acts upon it.
        self._lock = threading.Lock()  # Over the protocol, which workers report to.
        self._ready = threading.Event()

    def _begin(self, fd: int, protocol: FileProtocol, name: str) -> None:
        """The messages of *fd*, which is non-blocking, are answered from now on; the first sets `_ready`."""
        self._fd = fd
        self._protocol = protocol
        self._buffer = bytearray(READ_BUFFER)
        self._pending = select.poll()  # For whoever has the turn.
        self._pending.register(fd, select.POLLIN)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._ready.clear()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _end(self) -> bool:
        """Nothing is answered any more and the threads are joined; False if that was so before.

        Commands in progress are asked to end.  Clients that still have the file open get errors, because the
        descriptor is closed.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return False
        os.eventfd_write(self._wake, 1)
        thread.join()
        self._stopping = True
        for worker, cancel in list(self._workers.items()):
            cancel()
            worker.join()
        with self._turn:
            os.close(self._fd)
            self._fd = -1
        os.close(self._wake)
        self._wake = -1
        return True

    def heed(self) -> None:
        """What the kernel has said before is done; any thread but the one that serves this file.

        The end of an open file is told after close() has returned, and here it has been heard of.
        """
        while True:
            with self._turn:
                if self._fd < 0 or not self._pending.poll(0) or not self._take():
                    return

    def _serve(self) -> None:
        """Answer the kernel until `_end`, or until it takes the file away."""
        fd, wake = self._fd, self._wake
        # The descriptor is always writable: only reading waits, and together with the wake-up of _end().
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(wake, select.POLLIN)
        try:
            while True:
                for ready, _ in poller.poll():
                    if ready == wake:
                        return
                with self._turn:
                    if not self._take():
                        return
                # The first message was the one that begins; of /dev/cuse, the node was made during the reply.
                if not self._ready.is_set():
                    self._ready.set()
        finally:
            self._ready.set()

    def _take(self) -> bool:
        """Read the next message, if there still is one, and act upon it; False if there will be no more."""
        buffer, protocol = self._buffer, self._protocol
        try:
            length = os.readv(self._fd, [buffer])
        except OSError as error:
            # The request was interrupted before it could be read, or somebody else has read it.
            if error.errno in (errno.EAGAIN, errno.ENOENT, errno.EINTR):
                return True
            if error.errno != errno.ENODEV:
                log.error("%s: %s", self.path, error.strerror)
            return False
        try:
            with self._lock:
                actions = protocol.receive(bytes(memoryview(buffer)[:length]))
        except ProtocolError as error:
            log.error("%s: %s", self.path, error)
            return False
        for action in actions:
            if isinstance(action, bytes):
                self._reply(action)
            elif isinstance(action, Execute):
                self._start(protocol, action)
            elif isinstance(action, Ioctl):
                self._work(partial(self._run, action), lambda: None)
            else:
                self._cancel(action)
        return True

    def _start(self, protocol: FileProtocol, execute: Execute) -> None:
        if self.heeds is not None:
            self.heeds.heed()
        if execute.transport.takes_long(execute.submit.command):
            self._work(partial(self._execute, protocol, execute), execute.transport.cancel)
        else:
            self._execute(protocol, execute)

    def _work(self, job: Callable[[], None], cancel: Callable[[], None]) -> None:
        """Have *job* done by a thread of its own; `_end` waits for it, and asks it to end with *cancel*."""

        def work() -> None:
            try:
                job()
            finally:
                del self._workers[threading.current_thread()]

        worker = threading.Thread(target=work, name=f"work {self.path}", daemon=True)
        self._workers[worker] = cancel
        worker.start()

    def _run(self, ioctl: Ioctl) -> None:
        self._reply(ioctl.run())

    def _execute(self, protocol: FileProtocol, execute: Execute) -> None:
        try:
            response = execute.transport.execute(
                *execute.submit, lambda: self._stopping or execute.unique in self._cancelled
            )
        except NotExecuted as refusal:
            with self._lock:
                replies = protocol.fail(execute, refusal.code)
        except Exception:
            log.exception("%s: a command failed", self.path)
            with self._lock:
                replies = protocol.fail(execute, errno.EPIPE)
        else:
            with self._lock:
                replies = protocol.finish(execute, response)
        self._cancelled.discard(execute.unique)
        for reply in replies:
            self._reply(reply)

    def _cancel(self, cancel: Cancel) -> None:
        # A signal that the client handles (Go sends itself SIGURG) must not spoil its command.
        if cancel.gone or is_dying(cancel.execute.tid):
            self._cancelled.add(cancel.execute.unique)
            cancel.execute.transport.cancel()

    def _reply(self, reply: bytes) -> None:
        try:
            os.write(self._fd, reply)
        except OSError as error:
            # The client, or with ENODEV the file, has gone; a reading thread notices the latter.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                log.error("%s: a reply was refused: %s", self.path, error.strerror)
