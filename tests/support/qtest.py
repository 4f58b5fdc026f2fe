"""The bus of a machine that QEMU holds still, by its qtest protocol: each call is one access to a device.

A line each way: `readl 0xfed40018` is answered `OK 0x...`, a write `OK`.  `IRQ raise 5` and `IRQ lower 5`
come in between for a controller that is listened to.  Any thread may call anything.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

_WIDTH = {1: "b", 2: "w", 4: "l"}
_GIVE_UP_S = 60
_AHEAD = 256  # lines that are sent before the first answer is read


class Bus:
    """The bus at the other end of *connection*; `lines` are the interrupt lines that are asserted."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_GIVE_UP_S)
        self._connection = connection
        self._input = b""
        self._lock = threading.Lock()
        self.lines: set[int] = set()

    def read(self, address: int, size: int) -> int:
        """Return the *size* octets, 1, 2 or 4, at *address*, little-endian."""
        return self.read_all([(address, size)])[0]

    def read_all(self, places: Sequence[tuple[int, int]]) -> list[int]:
        """Return what is at the addresses of *places*, each with its size."""
        asked = [f"read{_WIDTH[size]} {address:#x}" for address, size in places]
        answers: list[str] = []
        for i in range(0, len(asked), _AHEAD):
            answers += self._ask(asked[i : i + _AHEAD])
        return [int(answer, 16) & (1 << 8 * size) - 1
                for answer, (_, size) in zip(answers, places, strict=True)]

    def write(self, address: int, size: int, value: int) -> None:
        """The *size* octets of *value* have been written, little-endian, at *address*."""
        self._ask([f"write{_WIDTH[size]} {address:#x} {value:#x}"])

    def listen_to(self, controller: str) -> None:
        """`lines` follows the lines into the interrupt controller at this path of the machine."""
        self._ask([f"irq_intercept_in {controller}"])

    def _ask(self, lines: Sequence[str]) -> list[str]:
        with self._lock:
            self._connection.sendall("".join(f"{line}\n" for line in lines).encode())
            return [self._answer(line) for line in lines]

    def _answer(self, asked: str) -> str:
        while True:
            while b"\n" not in self._input:
                piece = self._connection.recv(65536)
                assert piece, f"QEMU has gone before it answered {asked!r}"
                self._input += piece
            line, _, self._input = self._input.partition(b"\n")
            kind, *rest = line.decode().split()
            if kind == "IRQ":
                (self.lines.add if rest[0] == "raise" else self.lines.discard)(int(rest[1]))
                continue
            assert kind == "OK", (asked, line)
            return rest[0] if rest else ""


class BusWindow:
    """A window of the driver's onto the registers that are on *bus*."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def read8(self, address: int) -> int:
        return self._bus.read(address, 1)

    def read32(self, address: int) -> int:
        return self._bus.read(address, 4)

    def write8(self, address: int, value: int) -> None:
        self._bus.write(address, 1, value)

    def write32(self, address: int, value: int) -> None:
        self._bus.write(address, 4, value)
