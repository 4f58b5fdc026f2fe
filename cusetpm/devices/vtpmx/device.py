"""A TPM chip of the kernel's through /dev/vtpmx, for which one blocking thread answers.

The kernel makes /dev/tpmN, for a TPM 2.0 /dev/tpmrmN too, and all that is in /sys/class/tpm/tpmN; what uses a
TPM in the kernel itself (IMA, trusted keys) has the chip as well.  It removes all of that when the file that
the answers are written to is closed, however this process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import select
import threading
import time
from typing import Final, NamedTuple

from cusetpm.devices.node import MAX_DEVICES, Node, NoteNode, all_taken, free
from cusetpm.devices.session import TPM_BUFSIZE
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.vtpmx import abi
from cusetpm.devices.vtpmx.protocol import Emulator
from hwtpm.family import family

log = logging.getLogger(__name__)

VTPMX: Final = "/dev/vtpmx"

_NO_FLAGS: Final = 0xFFFFFFFF
"""What the kernel refuses, but only who may have a chip."""

_READY_S: Final = 60.0
"""The kernel asks for some ten things before it shows a chip, and has it test itself."""

_STEP_S: Final = 0.001
_GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class NewChip(NamedTuple):
    """A chip of which the kernel has chosen the number; it waits for answers at *fd*."""

    number: int
    fd: int
    numbers: tuple[int, int]  # major and minor of /dev/tpmN


def new_chip(flags: int) -> NewChip:
    """Return a new chip.  Raises OSError, one clear line, when the kernel makes none."""
    try:
        vtpmx = os.open(VTPMX, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        why = "no vtpm-proxy on this machine (modprobe tpm_vtpm_proxy)"
        raise OSError(errno.ENODEV, why, VTPMX) from None
    except OSError as error:
        raise _unusable(error) from None
    asked = bytearray(abi.VTPM_PROXY_NEW_DEV.pack(flags, 0, 0, 0, 0))
    try:
        fcntl.ioctl(vtpmx, abi.VTPM_PROXY_IOC_NEW_DEV, asked)
    except OSError as error:
        raise _unusable(error) from None
    finally:
        os.close(vtpmx)
    _, number, fd, major, minor = abi.VTPM_PROXY_NEW_DEV.unpack(asked)
    # The kernel gives it to whatever this process executes: with that the chip would outlive its TPM.
    os.set_inheritable(fd, False)
    return NewChip(number, fd, (major, minor))


def require() -> None:
    """This process can have chips made.  Raises OSError, one clear line, if not."""
    try:
        os.close(new_chip(_NO_FLAGS).fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _unusable(error: OSError) -> OSError:
    hint = " (it takes root outside of user namespaces)" if error.errno in (errno.EPERM, errno.EACCES) else ""
    return OSError(error.errno, f"vtpm-proxy cannot be used: {error.strerror}{hint}", VTPMX)


class VtpmxDevice:
    """The kernel's chip in front of the TPM of *control*.

    `paths` has its device files, by "tpm" and "tpmrm", and `numbers` major and minor of the former.
    Where the kernel makes no nodes, they are made here, and *note_node* hears of each before.
    """

    def __init__(self, control: Control, note_node: NoteNode | None = None) -> None:
        self.paths: dict[str, str] = {}
        self.numbers = 0, 0
        self._emulator = Emulator(control)
        self._control = control
        self._note_node = note_node
        self._nodes: list[Node] = []
        self._fd = self._wake = -1
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._over = threading.Event()

    def create(self) -> None:
        """The kernel has a chip whose number is fixed; it is not shown before `start`.

        Raises OSError, with one clear line: ENODEV if there is no /dev/vtpmx, EPERM or EACCES if it is not
        for this process.
        """
        managed = self._control.machine.family == "2.0"
        # The kernel knows its own chips only: a number may be one of a device that CUSE has made.
        passed_over: list[int] = []
        try:
            while not free((chip := new_chip(abi.VTPM_PROXY_FLAG_TPM2 if managed else 0)).number):
                passed_over.append(chip.fd)
                if len(passed_over) == MAX_DEVICES:
                    raise all_taken()
        finally:
            for fd in passed_over:
                os.close(fd)
        self._fd, self.numbers = chip.fd, chip.numbers
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        kinds = ("tpm", "tpmrm") if managed else ("tpm",)
        self._nodes = [Node(f"{kind}{chip.number}", kind, self._note_node) for kind in kinds]
        self.paths = {kind: node.path for kind, node in zip(kinds, self._nodes, strict=True)}

    def start(self) -> None:
        """The chip that was created can be used, and its nodes have the mode and owner of udev's rules.

        It has asked the TPM for what it wants to know by then, and started it if nobody had.  Raises OSError,
        with one clear line: EIO if the kernel does not take the TPM, ETIMEDOUT if it does not come to an end.
        """
        # The kernel soon asks the same, and does not wait as long as that may take on a slow machine.  A TPM
        # that nobody has started refuses; that one is the kernel's to start, and to wait for.
        for command in family(self._control.machine.family).warm_up:
            self._control.execute(command)
        self._thread = threading.Thread(target=self._serve, name=f"vtpmx {self.paths['tpm']}", daemon=True)
        self._thread.start()
        begun = time.monotonic()
        while not all(node.is_ready() for node in self._nodes):
            waited = time.monotonic() - begun
            # The kernel tells nobody when it is done; looking seldom leaves the processor to who answers it.
            if self._over.wait(max(_STEP_S, waited / 8)):
                raise OSError(errno.EIO, "the kernel does not take this TPM; dmesg may tell why", VTPMX)
            if waited > _READY_S:
                raise OSError(errno.ETIMEDOUT, "the kernel makes no device; dmesg may tell why", VTPMX)
        for node in self._nodes:
            node.find()

    def stop(self) -> None:
        """The chip is gone and the thread joined; safe to call at any time, and twice.

        A command in progress is asked to end; clients that still have a device open get EPIPE.
        """
        if self._fd < 0:
            return
        self._stopping = True
        if self._thread is not None:
            self._control.cancel()
            os.eventfd_write(self._wake, 1)
            self._thread.join()
        os.close(self._fd)  # The kernel removes the chip with this.
        os.close(self._wake)
        self._fd = self._wake = -1
        for node in self._nodes:
            node.remove()

    def _serve(self) -> None:
        """Answer the kernel until `stop`, or until it gives the chip up."""
        fd, wake, answer = self._fd, self._wake, self._emulator.answer
        poller, gave_up = select.poll(), select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(wake, select.POLLIN)
        gave_up.register(fd, select.POLLIN)

        def cancelled() -> bool:
            # It sends the next request when it waits no more for the response to this one.
            return self._stopping or bool(gave_up.poll(0))

        try:
            while True:
                events = dict(poller.poll())
                if wake in events or events[fd] & _GONE:
                    return
                response = answer(os.read(fd, TPM_BUFSIZE), cancelled)
                # A response that nobody waits for any more is refused.
                with contextlib.suppress(OSError):
                    os.write(fd, response)
        except OSError as error:
            log.error("%s: %s", self.paths["tpm"], error.strerror)
        finally:
            self._over.set()
