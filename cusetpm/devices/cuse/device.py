"""A character device /dev/tpmN or /dev/tpmrmN through /dev/cuse, served by one blocking thread."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from cusetpm.devices.cuse.protocol import READ_BUFFER, Cancel, CuseProtocol, Execute, Ioctl
from cusetpm.devices.node import Node, NoteNode, taken
from cusetpm.devices.process import is_dying
from cusetpm.devices.session import AnyDevice
from cusetpm.devices.swtpm.control import Control
from cusetpm.transport import NotExecuted
from hwtpm.errors import ProtocolError

log = logging.getLogger(__name__)

CUSE: Final = "/dev/cuse"
_READY_S: Final = 10.0


class CuseDevice:
    """A device node /dev/*name* in front of *device*.

    Its *numbers*, major and minor, are the kernel's choice unless they are given.  With a *control*, it has
    the ioctls of swtpm.  They, and commands that take long, run in threads of their own, so that the device
    still answers.  Where the kernel makes no node, one is made here, and *note_node* hears of it before, with
    its path and device number.
    """

    def __init__(self, name: str, device: AnyDevice, numbers: tuple[int, int] = (0, 0),
                 note_node: NoteNode | None = None, *,
                 control: Control | None = None) -> None:
        self.name = name
        self._node = Node(name, "cuse", note_node)
        self.path = self._node.path
        self._device = device
        self._numbers = numbers
        self._control = control
        self._fd = -1
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._workers: dict[threading.Thread, Callable[[], None]] = {}  # with what asks each to end
        self._cancelled: set[int] = set()  # Numbers of the requests whose commands have been asked to end.
        self._stopping = False
        self._lock = threading.Lock()  # Over the protocol, which workers report to.
        self._ready = threading.Event()

    def start(self) -> None:
        """The device node exists and answers from now on, with the mode and owner that udev's rules give it.

        Raises OSError, with one clear line: ENODEV or EACCES if there is no /dev/cuse for this process,
        EEXIST if the kernel refuses the name or the numbers, ETIMEDOUT if it says nothing.
        """
        if taken(self.name):
            raise OSError(errno.EEXIST, "a device of this name exists already", self.path)
        try:
            self._fd = os.open(CUSE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise OSError(errno.ENODEV, "no CUSE on this machine (modprobe cuse)", CUSE) from None
        except OSError as error:
            why = f"CUSE cannot be used: {error.strerror}"
            raise OSError(errno.EACCES if error.errno == errno.EPERM else error.errno, why, CUSE) from None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._ready.clear()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"cuse {self.name}", daemon=True)
        self._thread.start()
        try:
            if not self._ready.wait(_READY_S):
                raise OSError(errno.ETIMEDOUT, "the kernel does not answer", CUSE)
            self._node.find()
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """The device is gone and its threads joined; safe to call twice.

        Commands in progress are asked to end; clients that still have the device open get errors.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        os.eventfd_write(self._wake, 1)
        thread.join()
        self._stopping = True
        for worker, cancel in list(self._workers.items()):
            cancel()
            worker.join()
        os.close(self._fd)  # The kernel removes the device with this.
        os.close(self._wake)
        self._fd = self._wake = -1
        self._node.remove()

    def _serve(self) -> None:
        """Answer the kernel until `stop`, or until it takes the device away."""
        fd, wake = self._fd, self._wake
        protocol = CuseProtocol(self.name, self._device, self._numbers, self._control)
        buffer = bytearray(READ_BUFFER)
        view = memoryview(buffer)
        # /dev/cuse is always writable: only reading waits, and together with the wake-up of stop().
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(wake, select.POLLIN)
        try:
            while True:
                for ready, _ in poller.poll():
                    if ready == wake:
                        return
                try:
                    length = os.readv(fd, [buffer])
                except OSError as error:
                    # The request was interrupted before it could be read.
                    if error.errno in (errno.EAGAIN, errno.ENOENT, errno.EINTR):
                        continue
                    if error.errno != errno.ENODEV:
                        log.error("%s: %s", self.path, error.strerror)
                    return
                with self._lock:
                    actions = protocol.receive(bytes(view[:length]))
                for action in actions:
                    if isinstance(action, bytes):
                        self._reply(action)
                    elif isinstance(action, Execute):
                        self._start(protocol, action)
                    elif isinstance(action, Ioctl):
                        self._work(partial(self._run, action), lambda: None)
                    else:
                        self._cancel(action)
                # The first message was CUSE_INIT, and the kernel made the node during the reply.
                if not self._ready.is_set():
                    self._ready.set()
        except ProtocolError as error:
            log.error("%s: %s", self.path, error)
        finally:
            self._ready.set()

    def _start(self, protocol: CuseProtocol, execute: Execute) -> None:
        if execute.transport.takes_long(execute.submit.command):
            self._work(partial(self._execute, protocol, execute), execute.transport.cancel)
        else:
            self._execute(protocol, execute)

    def _work(self, job: Callable[[], None], cancel: Callable[[], None]) -> None:
        """Have *job* done by a thread of its own; `stop` waits for it, and asks it to end with *cancel*."""

        def work() -> None:
            try:
                job()
            finally:
                del self._workers[threading.current_thread()]

        worker = threading.Thread(target=work, name=f"work {self.name}", daemon=True)
        self._workers[worker] = cancel
        worker.start()

    def _run(self, ioctl: Ioctl) -> None:
        self._reply(ioctl.run())

    def _execute(self, protocol: CuseProtocol, execute: Execute) -> None:
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
            # The client, or with ENODEV the device, has gone; a reading thread notices the latter.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                log.error("%s: a reply was refused: %s", self.path, error.strerror)
