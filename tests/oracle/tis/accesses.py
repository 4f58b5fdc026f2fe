"""The accesses of a walk: what there is to access, in words, and which access comes next."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

from hwtpm.tis.fifo import State
from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_BEEN_SEIZED,
    ACCESS_REQUEST_USE,
    ACCESS_SEIZE,
    INT_ALL,
    INT_GLOBAL_ENABLE,
    STS_BURST_COUNT_SHIFT,
    STS_COMMAND_CANCEL,
    STS_COMMAND_READY,
    STS_RESET_ESTABLISHMENT_BIT,
    STS_RESPONSE_RETRY,
    STS_TPM_GO,
    TIS_BUFFER_SIZE,
    TIS_LOCALITIES,
    TIS_PAGE,
    TPM_ACCESS,
    TPM_DATA_FIFO,
    TPM_DID_VID,
    TPM_HASH_END,
    TPM_HASH_START,
    TPM_INT_ENABLE,
    TPM_INT_STATUS,
    TPM_INT_VECTOR,
    TPM_INTERFACE_ID,
    TPM_INTF_CAPABILITY,
    TPM_RID,
    TPM_STS,
    TPM_XDATA_FIFO,
)
from tests.oracle.tis.sides import Ours, command

REGISTERS: Final = {
    TPM_ACCESS: ("TPM_ACCESS", 1),
    TPM_INT_ENABLE: ("TPM_INT_ENABLE", 4),
    TPM_INT_VECTOR: ("TPM_INT_VECTOR", 1),
    TPM_INT_STATUS: ("TPM_INT_STATUS", 4),
    TPM_INTF_CAPABILITY: ("TPM_INTF_CAPABILITY", 4),
    TPM_STS: ("TPM_STS", 4),
    TPM_HASH_END: ("TPM_HASH_END", 4),
    TPM_HASH_START: ("TPM_HASH_START", 4),
    TPM_INTERFACE_ID: ("TPM_INTERFACE_ID", 4),
    TPM_DID_VID: ("TPM_DID_VID", 4),
    TPM_RID: ("TPM_RID", 1),
}
NAMES: Final = {
    **{offset: name for offset, (name, _) in REGISTERS.items()},
    **{TPM_XDATA_FIFO + 4 * i: "TPM_XDATA_FIFO" for i in range(16)}, TPM_DATA_FIFO: "TPM_DATA_FIFO",
}
ACCESS_BITS: Final = ((0x80, "valid"), (0x40, "reserved"), (0x20, "active"), (0x10, "beenSeized"),
                      (0x08, "seize"),
                  (0x04, "pendingRequest"), (0x02, "requestUse"), (0x01, "establishment"))
_STS_WRITTEN: Final = ((STS_COMMAND_READY, "commandReady"), (STS_TPM_GO, "tpmGo"),
                       (STS_RESPONSE_RETRY, "responseRetry"), (STS_COMMAND_CANCEL, "commandCancel"),
                       (STS_RESET_ESTABLISHMENT_BIT, "resetEstablishmentBit"))
_HEADER: Final = 10


def name_of(place: int) -> str:
    """Return the name of the register at *place*, or "nothing"."""
    return NAMES.get(place % TIS_PAGE & ~3, "nothing")


def bits(value: int, names: tuple[tuple[int, str], ...]) -> str:
    """Return the names of the bits that are set."""
    return "+".join(name for bit, name in names if value & bit) or "none"


class Step(NamedTuple):
    """One access; *value* is None for a read."""

    place: int
    size: int
    value: int | None = None

    def __str__(self) -> str:
        locality, offset = divmod(self.place, TIS_PAGE)
        name = name_of(self.place)
        what = f"{name}[{offset & 3}] of {locality} by {self.size}"
        if self.value is None:
            return f"read {what}"
        value = self.value & (1 << 8 * self.size) - 1
        text = hex(value)
        if name == "TPM_ACCESS" and not offset & 3:
            text = bits(value & 0xFF, ACCESS_BITS)
        if name == "TPM_STS":
            text = bits(value << 8 * (offset & 3), _STS_WRITTEN)
        return f"write {what}: {text}"


_EACH: Final = (ACCESS_REQUEST_USE, ACCESS_SEIZE, ACCESS_BEEN_SEIZED, ACCESS_ACTIVE_LOCALITY)
_CONTROLS: Final = (STS_COMMAND_READY, STS_TPM_GO, STS_RESPONSE_RETRY, STS_COMMAND_CANCEL,
                    STS_RESET_ESTABLISHMENT_BIT)
_SIZES: Final = (1, 1, 1, 2, 4)


class Walker:
    """Chooses accesses so that a walk gets through whole commands, and off the path all the time."""

    def __init__(self, rng: Random, ours: Ours) -> None:
        self._rng, self._ours = rng, ours
        self._rest = b""

    def next(self) -> Step | None:
        """Return the next access, or None to let a command end that both hold.

        A command shorter than a header is never sent off: QEMU's back end would wait for its response, and
        the TPM behind it for the rest of the header, for ever.
        """
        if self._ours.tis.state is State.EXECUTION and self._rng.random() < 0.3:
            return None
        step = self._next()
        if step.value is not None and self._ours.tis.state is State.RECEPTION and self._sent() < _HEADER:
            offset = step.place % TIS_PAGE
            if offset <= TPM_STS < offset + step.size:
                return step._replace(value=step.value & ~(STS_TPM_GO << 8 * (TPM_STS - offset)))
        return step

    def _sent(self) -> int:
        """Return the octets of the command that the FIFO has."""
        status = self._ours.read(TIS_PAGE * (self._ours.tis.active or 0) + TPM_STS, 4)
        return TIS_BUFFER_SIZE - (status >> STS_BURST_COUNT_SHIFT & 0xFFFF)

    def _next(self) -> Step:
        rng, tis = self._rng, self._ours.tis
        if rng.random() < 0.08:
            return self._anywhere()
        if rng.random() < 0.12:
            return self._interrupts()
        if rng.random() < 0.05:
            size = rng.choice((1, 2, 4))
            return Step(TIS_PAGE * (tis.active or 0) + TPM_STS + rng.randrange(5 - size), size)
        if tis.active is None or rng.random() < 0.15:
            return self._access()
        if rng.random() < 0.05:
            return self._control(rng.choice(_CONTROLS))
        return self._onward(tis.active, tis.state)

    def _onward(self, active: int, state: State) -> Step:
        """Return what a driver would do next."""
        rng = self._rng
        if state is State.READY or (state is State.RECEPTION and self._rest):
            if state is State.READY:
                self._rest = self._command()
            size = rng.choice([n for n in _SIZES if n <= len(self._rest) or rng.random() < 0.05] or [1])
            piece, self._rest = self._rest[:size], self._rest[size:]
            offset = rng.choice((TPM_DATA_FIFO, TPM_DATA_FIFO, TPM_XDATA_FIFO + 4 * rng.randrange(16)))
            offset += rng.randrange(5 - size) if size < 3 else 0
            return Step(TIS_PAGE * active + offset, size, int.from_bytes(piece, "little"))
        if state is State.RECEPTION:
            return self._control(STS_TPM_GO if self._sent() >= _HEADER else STS_COMMAND_READY, active)
        if state is State.COMPLETION:
            if rng.random() < 0.1:
                return self._control(rng.choice((STS_RESPONSE_RETRY, STS_COMMAND_READY)), active)
            size = rng.choice(_SIZES)
            offset = rng.choice((TPM_DATA_FIFO, TPM_XDATA_FIFO + 4 * rng.randrange(16)))
            offset += rng.randrange(5 - size) if size < 3 else 0
            return Step(TIS_PAGE * active + offset, size)
        if state is State.EXECUTION:
            return self._control(rng.choice(_CONTROLS)) if rng.random() < 0.3 else self._access()
        return self._control(STS_COMMAND_READY, active)

    def _command(self) -> bytes:
        rng = self._rng
        body = rng.randbytes(rng.choice((0, 0, 1, 2, 3, rng.randrange(60))))
        if rng.random() < 0.06:
            return command(body, rng.choice((0, 5, 6, 9, 4096, 4097, 0xFFFF, 0x10000, 0x1000C, 0xFFFFFFFF)))
        return command(body, hold=rng.random() < 0.4) + (rng.randbytes(3) if rng.random() < 0.1 else b"")

    def _control(self, bits: int, locality: int | None = None) -> Step:
        rng = self._rng
        if locality is None:
            locality = rng.randrange(TIS_LOCALITIES) if rng.random() < 0.3 else self._ours.tis.active or 0
        if rng.random() < 0.04:
            bits |= rng.choice((*_CONTROLS, rng.getrandbits(32)))
        place = TIS_PAGE * locality + TPM_STS
        if bits > 0xFF and rng.random() < 0.5:
            return Step(place + 3, 1, bits >> 24)
        return Step(place, 4 if bits > 0xFF else rng.choice((1, 1, 4)), bits)

    def _access(self) -> Step:
        rng = self._rng
        locality = rng.choice((0, 0, 1, 1, 2, 2, 3, 3, 3, 3, rng.randrange(TIS_LOCALITIES)))
        value = rng.choice(_EACH)
        if rng.random() < 0.06:
            value |= rng.getrandbits(8)
        return Step(TIS_PAGE * locality + TPM_ACCESS, rng.choice((1, 1, 1, 2, 4)), value)

    def _interrupts(self) -> Step:
        rng = self._rng
        locality = self._ours.tis.active if rng.random() < 0.8 else rng.randrange(TIS_LOCALITIES)
        place = TIS_PAGE * (locality or 0)
        if rng.random() < 0.5:
            value = rng.choice((0, INT_ALL, rng.getrandbits(8), rng.getrandbits(32)))
            return Step(place + TPM_INT_ENABLE, 4, value | rng.choice((0, INT_GLOBAL_ENABLE)))
        offset = rng.choice((TPM_INT_ENABLE, TPM_INT_STATUS, TPM_INT_STATUS, TPM_INT_STATUS))
        size = rng.choice((1, 2, 4))
        return Step(place + offset + rng.randrange(5 - size), size, rng.getrandbits(8 * size))

    def _anywhere(self) -> Step:
        """Return any access of any size and alignment inside a page."""
        rng = self._rng
        size = rng.choice((1, 2, 4))
        offset = rng.choice((*REGISTERS, TPM_DATA_FIFO, rng.randrange(0x100), rng.randrange(TIS_PAGE)))
        offset += rng.choice((0, rng.randrange(-3, 4)))
        offset = max(0, min(offset, TIS_PAGE - size))
        locality = rng.randrange(TIS_LOCALITIES)
        value = rng.choice((1 << rng.randrange(8 * size), rng.getrandbits(8 * size)))
        if rng.random() < 0.5:
            return Step(TIS_PAGE * locality + offset, size)
        return Step(TIS_PAGE * locality + offset, size, value)


def fill(data: bytes, locality: int = 0) -> Iterator[Step]:
    """Yield the accesses that write *data* to the FIFO, as wide as can be."""
    place = TIS_PAGE * locality + TPM_DATA_FIFO
    for i in range(0, len(data), 4):
        piece = data[i : i + 4]
        if len(piece) == 4:
            yield Step(place, 4, int.from_bytes(piece, "little"))
        else:
            yield from (Step(place, 1, octet) for octet in piece)


def long_command(size: int, claimed: int | None = None) -> Iterator[Step]:
    """Yield the accesses that take locality 0, send a command of *size* octets, read a response, and let go.

    The command says that it has *claimed* octets, if that is given.
    """
    yield Step(TPM_ACCESS, 1, ACCESS_REQUEST_USE)
    yield Step(TPM_STS, 1, STS_COMMAND_READY)
    yield from fill(command(bytes(size - _HEADER), claimed))
    yield Step(TPM_STS, 1, STS_TPM_GO)
    yield from (Step(TPM_DATA_FIFO, 4) for _ in range(TIS_BUFFER_SIZE // 4 + 1))
    yield Step(TPM_STS, 1, STS_RESPONSE_RETRY)
    yield Step(TPM_DATA_FIFO, 2)
    yield Step(TPM_STS, 1, STS_COMMAND_READY)
    yield Step(TPM_ACCESS, 1, ACCESS_ACTIVE_LOCALITY)


LONG: Final = ((TIS_BUFFER_SIZE, None), (TIS_BUFFER_SIZE - 1, None), (TIS_BUFFER_SIZE + 4, 5000))
"""Commands as long as the FIFO, and longer: the octets that are written, and the size that they claim."""
