"""Windows onto the TIS registers, by physical address."""

from __future__ import annotations

from typing import Protocol

from hwtpm.errors import ProtocolError
from hwtpm.tis.fifo import Tis
from hwtpm.tis.registers import TIS_BASE, TIS_SIZE


class Window(Protocol):
    """Register accesses; each call is one access of the width in its name, little-endian."""

    def read8(self, address: int) -> int:
        """Return the octet at *address*."""
        ...

    def read32(self, address: int) -> int:
        """Return the 4 octets at *address*."""
        ...

    def write8(self, address: int, value: int) -> None:
        """Write the octet *value* at *address*."""
        ...

    def write32(self, address: int, value: int) -> None:
        """Write the 4 octets of *value* at *address*."""
        ...


class ModelWindow:
    """A window onto a `Tis` in this process; counts its accesses in `reads` and `writes`.

    Raises `ProtocolError` for an address outside 0xFED40000 to 0xFED44FFF, where no TPM answers.
    """

    def __init__(self, tis: Tis) -> None:
        self._tis = tis
        self.reads = 0
        self.writes = 0

    def read8(self, address: int) -> int:
        """Return the octet at *address*."""
        place = address - TIS_BASE
        if not 0 <= place < TIS_SIZE:
            raise _outside(address)
        self.reads += 1
        return self._tis.read(place >> 12, place & 0xFFF, 1)

    def read32(self, address: int) -> int:
        """Return the 4 octets at *address*; one access if aligned, else four of an octet each."""
        place = address - TIS_BASE
        if not 0 <= place <= TIS_SIZE - 4:
            raise _outside(address)
        if place & 3:
            return sum(self.read8(address + i) << 8 * i for i in range(4))
        self.reads += 1
        return self._tis.read(place >> 12, place & 0xFFF, 4)

    def write8(self, address: int, value: int) -> None:
        """Write the octet *value* at *address*."""
        place = address - TIS_BASE
        if not 0 <= place < TIS_SIZE:
            raise _outside(address)
        self.writes += 1
        self._tis.write(place >> 12, place & 0xFFF, 1, value)

    def write32(self, address: int, value: int) -> None:
        """Write the 4 octets of *value* at *address*; one access if aligned, else four of an octet each."""
        place = address - TIS_BASE
        if not 0 <= place <= TIS_SIZE - 4:
            raise _outside(address)
        if place & 3:
            for i in range(4):
                self.write8(address + i, value >> 8 * i & 0xFF)
            return
        self.writes += 1
        self._tis.write(place >> 12, place & 0xFFF, 4, value)


def _outside(address: int) -> ProtocolError:
    return ProtocolError(f"address 0x{address:x} is outside the TIS registers")
