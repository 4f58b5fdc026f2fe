"""A character device /dev/tpmN through /dev/cuse, served by one blocking thread."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cusetpm.devices.cuse.protocol import READ_BUFFER, Cancel, CuseProtocol, Execute
from cusetpm.devices.process import is_dying
from cusetpm.transport import Transport
from hwtpm.errors import ProtocolError

log = logging.getLogger(__name__)

CUSE: Final = "/dev/cuse"
MAX_DEVICES: Final = 256
"""How many TPM devices the kernel itself numbers."""

_IN_USE: Final = ("/dev", "/sys/class/cuse", "/sys/class/tpm", "/sys/class/misc")
_READY_S: Final = 10.0


def free_name() -> str:
    """Return tpmN with the lowest N that no device has.  Raises OSError ENODEV if all are taken."""
    for number in range(MAX_DEVICES):
        name = f"tpm{number}"
        if not any(os.path.lexists(f"{directory}/{name}") for directory in _IN_USE):
            return name
    raise OSError(errno.ENODEV, f"all names from tpm0 to tpm{MAX_DEVICES - 1} are taken", "/dev")


class CuseDevice:
    """A device node in front of *transport*, /dev/*name*; without a name, tpmN with N free.

    Commands that take long run in a thread of their own, so that the device still answers.
    """

    def __init__(self, name: str | None, transport: Transport) -> None:
        self.name = name
        self._transport = transport
        self._fd = -1
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._workers: set[threading.Thread] = set()
        self._cancelled: set[int] = set()  # Numbers of the requests whose commands have been asked to end.
        self._stopping = False
        self._lock = threading.Lock()  # Over the protocol, which workers report to.
        self._ready = threading.Event()
        self._made_node = False

    @property
    def path(self) -> str:
        """Where the device is, once it has started."""
        return f"/dev/{self.name}"

    def start(self) -> None:
        """The device node exists and answers from now on.

        Raises OSError, with one clear line: ENODEV or EACCES if there is no /dev/cuse for this process,
        EEXIST if the kernel refuses the name, ETIMEDOUT if it says nothing.
        """
        chosen = self.name or free_name()
        if self.name is not None and any(os.path.lexists(f"{directory}/{chosen}") for directory in _IN_USE):
            raise OSError(errno.EEXIST, "a device of this name exists already", f"/dev/{chosen}")
        try:
            self._fd = os.open(CUSE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise OSError(errno.ENODEV, "no CUSE on this machine (modprobe cuse)", CUSE) from None
        except OSError as error:
            why = f"CUSE cannot be used: {error.strerror}"
            raise OSError(errno.EACCES if error.errno == errno.EPERM else error.errno, why, CUSE) from None
        self.name = chosen
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._ready.clear()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"cuse {chosen}", daemon=True)
        self._thread.start()
        try:
            if not self._ready.wait(_READY_S):
                raise OSError(errno.ETIMEDOUT, "the kernel does not answer", CUSE)
            self._find_node()
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
        self._transport.cancel()
        for worker in list(self._workers):
            worker.join()
        os.close(self._fd)  # The kernel removes the device with this.
        os.close(self._wake)
        self._fd = self._wake = -1
        if self._made_node:
            self._made_node = False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def _find_node(self) -> None:
        """Return once the node is there; a container without the host's devtmpfs gets one made."""
        try:
            numbers = Path(f"/sys/class/cuse/{self.name}/dev").read_text()
        except FileNotFoundError:
            raise OSError(errno.EEXIST, "the kernel refused to make the device", self.path) from None
        device = os.makedev(*(int(number) for number in numbers.split(":")))
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            os.mknod(self.path, stat.S_IFCHR | 0o600, device)
            self._made_node = True
            return
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != device:
            raise OSError(errno.EEXIST, "something else has this name", self.path)

    def _serve(self) -> None:
        """Answer the kernel until `stop`, or until it takes the device away."""
        assert self.name is not None
        fd = self._fd
        protocol = CuseProtocol(self.name, time.monotonic)
        buffer = bytearray(READ_BUFFER)
        view = memoryview(buffer)
        # /dev/cuse is always writable: only reading waits, and together with the wake-up of stop().
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        try:
            while True:
                if any(ready == self._wake for ready, _ in poller.poll()):
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
                        self._reply([action])
                    elif isinstance(action, Execute):
                        self._start(protocol, action)
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
        if not self._transport.takes_long(execute.command):
            self._execute(protocol, execute)
            return
        worker = threading.Thread(target=self._work, args=(protocol, execute), daemon=True)
        self._workers.add(worker)
        worker.start()

    def _work(self, protocol: CuseProtocol, execute: Execute) -> None:
        try:
            self._execute(protocol, execute)
        finally:
            self._workers.discard(threading.current_thread())
            self._cancelled.discard(execute.unique)

    def _execute(self, protocol: CuseProtocol, execute: Execute) -> None:
        try:
            response = self._transport.execute(
                execute.command, execute.locality, lambda: self._stopping or execute.unique in self._cancelled
            )
        except Exception:
            log.exception("%s: a command failed", self.path)
            with self._lock:
                replies = protocol.fail(execute, errno.EPIPE)
        else:
            with self._lock:
                replies = protocol.finish(execute, response)
        self._reply(replies)

    def _cancel(self, cancel: Cancel) -> None:
        # A signal that the client handles (Go sends itself SIGURG) must not spoil its command.
        if cancel.gone or is_dying(cancel.execute.tid):
            self._cancelled.add(cancel.execute.unique)
            self._transport.cancel()

    def _reply(self, replies: Sequence[bytes]) -> None:
        for reply in replies:
            try:
                os.write(self._fd, reply)
            except OSError as error:
                # The client, or with ENODEV the device, has gone; a reading thread notices the latter.
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    log.error("%s: a reply was refused: %s", self.path, error.strerror)
