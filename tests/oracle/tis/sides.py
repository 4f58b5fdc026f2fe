"""Two TIS register models in front of the same TPM: ours, and QEMU's tpm-tis in a machine that stands still.

The TPM is a function of the command, so that both get the same response, and remembers what it was given.
QEMU reaches it through our own swtpm control channel.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import shake_128
from pathlib import Path
from typing import Protocol

from cusetpm.devices.streams import UnixEndpoint
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.swtpm.server import ControlServer, DataServer
from cusetpm.transport import Cancelled
from hwtpm.tis.fifo import Tis
from hwtpm.tis.registers import (
    STS_TPM_GO,
    TIS_BASE,
    TIS_PAGE,
    TPM_FAMILY_1_2,
    TPM_FAMILY_2_0,
    TPM_INT_VECTOR,
    TPM_STS,
)
from tests.support.fake_machine import FakeMachine
from tests.support.qemu import Qemu

LINE = 5
"""The interrupt line of QEMU's model."""

HOLD = 0xFF
"""The last octet of the command code of a command that goes on until `Tpm.let_go` or a cancel."""

_GIVE_UP_S = 60
_HEADER = 10
_LONGEST = 4096 - _HEADER


def command(body: bytes, size: int | None = None, hold: bool = False) -> bytes:
    """Return a command with *body* after its header; *size* is what it claims instead of its length."""
    size = _HEADER + len(body) if size is None else size
    return b"\x80\x01" + size.to_bytes(4, "big") + bytes([0x20, 0, 1, HOLD if hold else 0]) + body


class Tpm:
    """What executes commands, for one side: `seen` are those that came, with their localities.

    `holds` tells whether one is in progress that goes on until it is let go.
    """

    def __init__(self, family: str) -> None:
        self._tag = b"\x80\x01" if family == "2.0" else b"\0\xc4"
        self.seen: list[tuple[bytes, int]] = []
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.holds = False
        self._go_on = threading.Event()

    def execute(self, asked: bytes, locality: int, cancelled: Cancelled | None) -> bytes:
        """Return the response, of 10 to 4096 octets."""
        if asked[6:9] == b"\x20\0\1":
            self.seen.append((asked, locality))
            if asked[9] == HOLD:
                self.holds = True
                self.events.put("holds")
                while not (self._go_on.wait(0.0005) or (cancelled is not None and cancelled())):
                    pass
                self.holds = False
                self._go_on.clear()
        size = int.from_bytes(shake_128(asked).digest(2), "big")
        size = size % 40 if size & 0x300 else size % (_LONGEST + 1)
        return (self._tag + (_HEADER + size).to_bytes(4, "big") + bytes(4)
                + shake_128(asked + b"response").digest(size))

    def let_go(self) -> None:
        """The command that holds is answered."""
        self._go_on.set()


class Side(Protocol):
    """A register model; addresses are offsets from the page of locality 0."""

    tpm: Tpm

    def read(self, place: int, size: int) -> int: ...
    def read_all(self, places: list[tuple[int, int]]) -> list[int]: ...
    def write(self, place: int, size: int, value: int) -> None: ...
    def line(self) -> bool: ...
    def reset(self) -> None: ...


class Ours:
    """Our model; a write returns when the command that it began has been answered, or holds."""

    def __init__(self, family: str, *, established: bool) -> None:
        self._family = family
        self.established = established
        self._running: threading.Thread | None = None
        self._power_on()

    def reset(self) -> None:
        if self._running is not None:
            self.tpm.let_go()
            self.settle()
        self._power_on()

    def _power_on(self) -> None:
        self.tpm = Tpm(self._family)
        self._line = False
        self.tis: Tis = Tis(
            lambda asked, locality: self.tpm.execute(asked, locality, self.tis.cancelled),
            hash_start=lambda: None, hash_data=lambda data: None, hash_end=lambda: None,
            interrupt=self._interrupt, established=self.established, on_established=self._establish,
            family=TPM_FAMILY_2_0 if self._family == "2.0" else TPM_FAMILY_1_2,
        )
        # The chip behind the registers says when that is; QEMU shows it after TPM 1.2's ContinueSelfTest.
        self.tis.self_test_done = False
        # QEMU's vector cannot be changed: ours begins with the same one.
        self.write(0, 1, 0x02)
        self.write(TPM_INT_VECTOR, 1, LINE)
        self.write(0, 1, 0x20)

    def _interrupt(self, level: bool) -> None:
        self._line = level

    def _establish(self, established: bool) -> None:
        self.established = established

    def read(self, place: int, size: int) -> int:
        return self.tis.read(place // TIS_PAGE, place % TIS_PAGE, size)

    def read_all(self, places: list[tuple[int, int]]) -> list[int]:
        return [self.read(place, size) for place, size in places]

    def write(self, place: int, size: int, value: int) -> None:
        locality, offset = divmod(place, TIS_PAGE)
        go = offset <= TPM_STS < offset + size and value >> 8 * (TPM_STS - offset) & STS_TPM_GO
        if go and self._running is None:
            self._running = threading.Thread(target=self._go, args=(place, size, value), daemon=True)
            self._running.start()
            if self.tpm.events.get(timeout=_GIVE_UP_S) == "done":
                self._end()
            return
        self.tis.write(locality, offset, size, value)

    def _go(self, place: int, size: int, value: int) -> None:
        self.tis.write(place // TIS_PAGE, place % TIS_PAGE, size, value)
        self.tpm.events.put("done")

    def settle(self) -> None:
        """A command that held has ended, because it was let go or cancelled."""
        if self._running is not None and self.tpm.events.get(timeout=_GIVE_UP_S) == "done":
            self._end()

    def _end(self) -> None:
        assert self._running is not None
        self._running.join(_GIVE_UP_S)
        self._running = None

    def line(self) -> bool:
        return self._line


class _Machine(FakeMachine):
    """What is behind the control channel."""

    def __init__(self, family: str, *, established: bool) -> None:
        super().__init__(family, running=False)
        self.established = established
        self.tpm = Tpm(family)

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        return self.tpm.execute(command, locality, cancelled)


class Theirs:
    """QEMU's model."""

    def __init__(self, qemu: Qemu, machine: _Machine) -> None:
        self._qemu, self._machine = qemu, machine
        self._bus = qemu.bus
        self._bus.listen_to("ioapic")

    @property
    def tpm(self) -> Tpm:
        return self._machine.tpm

    def reset(self) -> None:
        self.tpm.let_go()
        self._qemu.reset()
        self.read(0, 1)  # A line that changed is told before the answer.
        if self.line():
            # A reset leaves the line as it is.
            for place, size, value in ((0, 1, 2), (8, 4, 0x80000080), (0x18, 1, 0x40), (0x10, 4, 0x80)):
                self.write(place, size, value)
            assert not self.line()
            self._qemu.reset()
        self._machine.tpm = Tpm(self._machine.family)

    def read(self, place: int, size: int) -> int:
        return self._bus.read(TIS_BASE + place, size)

    def read_all(self, places: list[tuple[int, int]]) -> list[int]:
        return self._bus.read_all([(TIS_BASE + place, size) for place, size in places])

    def write(self, place: int, size: int, value: int) -> None:
        self._bus.write(TIS_BASE + place, size, value)

    def line(self) -> bool:
        return LINE in self._bus.lines


@contextmanager
def both(directory: Path, family: str, *, established: bool = False) -> Iterator[tuple[Ours, Theirs]]:
    """Give both models of a TPM of that family, as after a reset."""
    machine = _Machine(family, established=established)
    control = Control(machine)
    data = DataServer(control, "data channel")
    data.allow_passing()
    server = ControlServer(control, "control channel", data.attach, lambda: None)
    path = directory / "ctrl"
    server.listen(UnixEndpoint(path))
    try:
        with Qemu(directory, path, "tpm-tis", still=True) as qemu:
            yield Ours(family, established=established), Theirs(qemu, machine)
    finally:
        machine.tpm.let_go()
        server.stop()
        data.stop()
