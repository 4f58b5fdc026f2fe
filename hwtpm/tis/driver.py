"""The host's side of the TIS: drives a TPM through its registers only.

Every wait is bounded by the interface's timeouts (PC Client TIS 1.3, as Xen's mini-os uses them), and
every error names the register that did not do what it should.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from hwtpm.errors import ProtocolError
from hwtpm.tis.mmio import Window
from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_BEEN_SEIZED,
    ACCESS_REQUEST_USE,
    ACCESS_SEIZE,
    ACCESS_TPM_REG_VALID_STS,
    INTERFACE_TYPE_CRB,
    INTERFACE_TYPE_MASK,
    INTF_BURST_COUNT_STATIC,
    INTF_DATA_TRANSFER_SIZE_SHIFT,
    INTF_INTERFACE_VERSION_SHIFT,
    INTF_VERSION_PTP,
    NOTHING,
    STS_BURST_COUNT_SHIFT,
    STS_COMMAND_CANCEL,
    STS_COMMAND_READY,
    STS_DATA_AVAIL,
    STS_EXPECT,
    STS_RESPONSE_RETRY,
    STS_TPM_GO,
    STS_VALID,
    TIS_BASE,
    TIS_BUFFER_SIZE,
    TIS_LOCALITIES,
    TIS_PAGE,
    TPM_ACCESS,
    TPM_DATA_FIFO,
    TPM_DID_VID,
    TPM_INTERFACE_ID,
    TPM_INTF_CAPABILITY,
    TPM_RID,
    TPM_STS,
)

TIMEOUT_A = 0.75  # s: TPM_ACCESS
TIMEOUT_B = 2.0  # s: commandReady
TIMEOUT_C = 0.75  # s: stsValid
TIMEOUT_D = 0.75  # s: burst count
DURATION = 600.0  # s: the longest command, an RSA key
RETRIES = 3  # times that a response of the wrong length is read
POLL_FIRST = 0.0005  # s between two looks at a register, doubled up to POLL_LAST
POLL_LAST = 0.02

HEADER_SIZE = 10
_BAD_SIZE_2_0 = bytes.fromhex("8001 0000000a 00000142")  # TPM_RC_COMMAND_SIZE
_BAD_SIZE_1_2 = bytes.fromhex("00c4 0000000a 00000019")  # TPM_BAD_PARAM_SIZE

_CRB = "TPM_INTERFACE_ID: the TPM shows its CRB interface, not the FIFO"
_BURST_COUNT = 0xFFFF << STS_BURST_COUNT_SHIFT
_AVAILABLE = STS_VALID | STS_DATA_AVAIL


@dataclass(frozen=True)
class Chip:
    """What `Driver.probe` read from the identification registers."""

    vendor: int
    device: int
    revision: int
    capability: int
    """TPM_INTF_CAPABILITY."""

    @property
    def is_2_0(self) -> bool:
        """The interface is that of a TPM 2.0."""
        return self.capability >> INTF_INTERFACE_VERSION_SHIFT & 7 == INTF_VERSION_PTP

    @property
    def wide_fifo(self) -> bool:
        """The FIFO may be accessed by more than one octet at a time."""
        return bool(self.capability >> INTF_DATA_TRANSFER_SIZE_SHIFT & 3)

    @property
    def burst_is_exact(self) -> bool:
        """The burst count follows the data, rather than being the same always."""
        return not self.capability & INTF_BURST_COUNT_STATIC


class Driver:
    """Carries commands to the TPM behind *window*; implements the transport interface.

    *clock* gives seconds that only grow, *sleep* waits for some; *duration* gives the seconds that a
    command may execute.  A locality stays requested until another is used or `release` is called.
    """

    def __init__(
        self,
        window: Window,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        duration: Callable[[bytes], float] = lambda command: DURATION,
    ) -> None:
        self._window = window
        self._clock = clock
        self._sleep = sleep
        self._duration = duration
        self._chip: Chip | None = None
        self._wide = False
        self._lead = HEADER_SIZE  # octets of a response to read before its size is looked at
        self._held: int | None = None
        self._executing: int | None = None
        self._lock = threading.Lock()

    # The transport.

    def execute(self, command: bytes, locality: int = 0) -> bytes:
        """Return the response to *command* from *locality*; calls from several threads take turns.

        A command whose length is not what its header says, or above 4096 octets, cannot pass the FIFO and
        is answered here.  Raises ProtocolError if the TPM does not follow the interface.
        """
        with self._lock:
            chip = self._chip or self.probe()
            if not _is_framed(command):
                return _BAD_SIZE_2_0 if chip.is_2_0 else _BAD_SIZE_1_2
            return self.transmit(command, locality=locality)

    def cancel(self) -> None:
        """Ask the command in progress, if any, to end; from any thread.

        A TPM 2.0 answers it with TPM_RC_CANCELED.  A TPM 1.2 has no such bit: its command is aborted, and
        `execute` raises ProtocolError.
        """
        locality, chip = self._executing, self._chip
        if locality is None or chip is None:
            return
        status = _page(locality) + TPM_STS
        if chip.is_2_0:
            self._window.write8(status + 3, STS_COMMAND_CANCEL >> 24)
        else:
            self._window.write8(status, STS_COMMAND_READY)

    def takes_long(self, command: bytes) -> bool:
        """Return True: a chip may take its time over any command."""
        return True

    # Identification and localities.

    def probe(self) -> Chip:
        """Return what the chip is; raise ProtocolError if none with a FIFO interface answers."""
        read32 = self._window.read32
        did_vid = read32(TIS_BASE + TPM_DID_VID)
        interface = read32(TIS_BASE + TPM_INTERFACE_ID)
        if did_vid in (0, NOTHING):
            # The CRB interface has nothing at this place, or its buffer.
            if interface & INTERFACE_TYPE_MASK == INTERFACE_TYPE_CRB:
                raise ProtocolError(_CRB)
            raise ProtocolError(f"TPM_DID_VID reads 0x{did_vid:08x}: no TPM answers")
        if not self._wait(TIS_BASE + TPM_ACCESS, ACCESS_TPM_REG_VALID_STS, TIMEOUT_A):
            raise ProtocolError(f"TPM_ACCESS: no tpmRegValidSts within {_ms(TIMEOUT_A)}")
        capability = read32(TIS_BASE + TPM_INTF_CAPABILITY)
        chip = Chip(did_vid & 0xFFFF, did_vid >> 16, self._window.read8(TIS_BASE + TPM_RID), capability)
        if chip.is_2_0 and interface & INTERFACE_TYPE_MASK == INTERFACE_TYPE_CRB:
            raise ProtocolError(_CRB)
        self._chip = chip
        self._wide = chip.wide_fifo
        # 10 octets take four wide accesses, 12 take three; the burst count tells of a response of 10.
        self._lead = 12 if chip.wide_fifo and chip.burst_is_exact else HEADER_SIZE
        return chip

    def request_locality(self, locality: int, *, force: bool = False) -> None:
        """Make *locality* the active one; the one that is held is given back first.

        With *force*, a lower locality that does not let go within 750 ms has the TPM seized from it.
        Raises ProtocolError, and withdraws the request, if it is not granted within 750 ms.
        """
        if not 0 <= locality < TIS_LOCALITIES:
            raise ProtocolError(f"locality {locality} does not exist")
        if self._held != locality:
            self.release()
        access = _page(locality) + TPM_ACCESS
        state = self._window.read8(access)
        if state & ACCESS_BEEN_SEIZED and state != 0xFF:
            self._window.write8(access, ACCESS_BEEN_SEIZED)
        wanted = ACCESS_TPM_REG_VALID_STS | ACCESS_ACTIVE_LOCALITY
        if state & wanted != wanted or state == 0xFF:
            self._window.write8(access, ACCESS_REQUEST_USE)
            granted = self._wait(access, wanted, TIMEOUT_A)
            if not granted and force:
                self._window.write8(access, ACCESS_SEIZE)
                granted = self._wait(access, wanted, TIMEOUT_A)
            if not granted:
                self._window.write8(access, ACCESS_ACTIVE_LOCALITY)
                raise ProtocolError(
                    f"TPM_ACCESS of locality {locality}: no activeLocality within {_ms(TIMEOUT_A)}"
                )
        self._held = locality

    def reclaim(self) -> None:
        """The TPM is free, whatever a driver before this one, which has ended, was about to do with it.

        Raises ProtocolError if a command that was under way does not end within 2 s.
        """
        window = self._window
        active = None
        for page in (_page(locality) for locality in range(TIS_LOCALITIES)):
            state = window.read8(page + TPM_ACCESS)
            if state & ACCESS_ACTIVE_LOCALITY:
                active = page
            elif state & ACCESS_REQUEST_USE:
                window.write8(page + TPM_ACCESS, ACCESS_ACTIVE_LOCALITY)
        if active is not None:
            window.write8(active + TPM_STS, STS_COMMAND_READY)
            self._poll(active, STS_COMMAND_READY, STS_COMMAND_READY, TIMEOUT_B, "no commandReady")
            window.write8(active + TPM_ACCESS, ACCESS_ACTIVE_LOCALITY)
        self._held = None

    def release(self) -> None:
        """Give the held locality back; does nothing without one."""
        if self._held is not None:
            self._window.write8(_page(self._held) + TPM_ACCESS, ACCESS_ACTIVE_LOCALITY)
            self._held = None

    # One command.

    def transmit(self, command: bytes, locality: int = 0) -> bytes:
        """Return the response to *command* from *locality*; not for several threads at once.

        Raises ProtocolError for a command whose length its header does not give, and when the TPM misses a
        timeout or breaks the interface.
        """
        if not _is_framed(command):
            raise ProtocolError(f"a command of {len(command)} octets whose header says otherwise")
        if self._chip is None:
            self.probe()
        # Another locality may have seized the TPM since the last command.
        access = _page(locality) + TPM_ACCESS
        if self._held != locality or not self._window.read8(access) & ACCESS_ACTIVE_LOCALITY:
            self.request_locality(locality)
        page = _page(locality)
        try:
            self._send(page, command)
            self._executing = locality
            try:
                self._window.write8(page + TPM_STS, STS_TPM_GO)
                status = self._await_response(page, self._duration(command))
            finally:
                self._executing = None
            return self._receive(page, status)
        finally:
            # Ready for the next command; whatever is left of this one is dropped.
            self._window.write8(page + TPM_STS, STS_COMMAND_READY)

    def _send(self, page: int, command: bytes) -> None:
        window = self._window
        status = window.read32(page + TPM_STS)
        if not status & STS_COMMAND_READY or status == NOTHING:
            window.write8(page + TPM_STS, STS_COMMAND_READY)
            status = self._poll(page, STS_COMMAND_READY, STS_COMMAND_READY, TIMEOUT_B, "no commandReady")
        # The last octet goes alone: before it Expect must be set, after it clear.
        last = len(command) - 1
        sent = 0
        while sent < last:
            burst = (status & _BURST_COUNT) >> STS_BURST_COUNT_SHIFT or self._burst(page)
            end = min(sent + burst, last)
            self._write_fifo(page, command[sent:end])
            sent = end
            status = self._poll(page, STS_VALID, STS_VALID, TIMEOUT_C, "no stsValid")
            if not status & STS_EXPECT:
                raise ProtocolError(f"TPM_STS: Expect clear after {sent} of {len(command)} octets")
        window.write8(page + TPM_DATA_FIFO, command[last])
        status = self._poll(page, STS_VALID, STS_VALID, TIMEOUT_C, "no stsValid")
        if status & STS_EXPECT:
            raise ProtocolError(f"TPM_STS: Expect still set after all {len(command)} octets")

    def _receive(self, page: int, status: int) -> bytes:
        for _ in range(RETRIES):
            response = self._read_response(page, status)
            if response is not None:
                return response
            self._window.write8(page + TPM_STS, STS_RESPONSE_RETRY)
            status = self._poll(page, _AVAILABLE, _AVAILABLE, TIMEOUT_C, "no dataAvail after responseRetry")
        raise ProtocolError(f"TPM_DATA_FIFO: a response of the wrong length, read {RETRIES} times")

    def _read_response(self, page: int, status: int) -> bytes | None:
        """Return the response, or None if its length and its header disagree."""
        response = b""
        size = HEADER_SIZE
        if (status & _BURST_COUNT) >> STS_BURST_COUNT_SHIFT >= self._lead:
            size = self._lead
        header_seen = False
        while len(response) < size:
            if not status & STS_DATA_AVAIL:
                return None
            burst = (status & _BURST_COUNT) >> STS_BURST_COUNT_SHIFT or self._burst(page)
            response += self._read_fifo(page, min(burst, size - len(response)))
            if not header_seen and len(response) >= HEADER_SIZE:
                header_seen = True
                size = int.from_bytes(response[2:6], "big")
                if not len(response) <= size <= TIS_BUFFER_SIZE:
                    return None
                if len(response) < size and burst >= size:
                    # The burst count covered all of it: no need to ask again.
                    response += self._read_fifo(page, size - len(response))
            status = self._poll(page, STS_VALID, STS_VALID, TIMEOUT_C, "no stsValid")
        return None if status & STS_DATA_AVAIL else response

    def _await_response(self, page: int, duration: float) -> int:
        """Return TPM_STS with dataAvail; raise ProtocolError and leave the abort to the caller."""
        status = self._window.read32(page + TPM_STS)
        if status & (_AVAILABLE | STS_COMMAND_READY) == _AVAILABLE:
            return status
        wanted = _AVAILABLE | STS_COMMAND_READY
        deadline = self._clock() + duration
        pause = POLL_FIRST
        while True:
            status = self._status(page)
            if status & wanted == _AVAILABLE:
                return status
            if status & STS_COMMAND_READY:
                raise ProtocolError("TPM_STS: commandReady instead of dataAvail, the command was aborted")
            if self._clock() >= deadline:
                raise ProtocolError(f"TPM_STS: no dataAvail within {_ms(duration)} of tpmGo")
            self._sleep(pause)
            pause = min(pause * 2, POLL_LAST)

    # Registers.

    def _write_fifo(self, page: int, data: bytes) -> None:
        fifo = page + TPM_DATA_FIFO
        words = len(data) // 4 if self._wide else 0
        if words:
            write32 = self._window.write32
            for word in struct.unpack_from(f"<{words}I", data):
                write32(fifo, word)
        write8 = self._window.write8
        for octet in data[words * 4 :]:
            write8(fifo, octet)

    def _read_fifo(self, page: int, size: int) -> bytes:
        fifo = page + TPM_DATA_FIFO
        words = size // 4 if self._wide else 0
        data = b""
        if words:
            read32 = self._window.read32
            data = struct.pack(f"<{words}I", *[read32(fifo) for _ in range(words)])
        read8 = self._window.read8
        return data + bytes([read8(fifo) for _ in range(size - words * 4)])

    def _status(self, page: int) -> int:
        status = self._window.read32(page + TPM_STS)
        if status == NOTHING:
            raise ProtocolError(
                f"TPM_STS of locality {(page - TIS_BASE) // TIS_PAGE} reads all ones: the locality was lost"
            )
        return status

    def _poll(self, page: int, mask: int, value: int, timeout: float, what: str) -> int:
        """Return TPM_STS once its bits *mask* are *value*; raise ProtocolError after *timeout* s."""
        status = self._status(page)
        if status & mask == value:
            return status
        deadline = self._clock() + timeout
        pause = POLL_FIRST
        while self._clock() < deadline:
            self._sleep(pause)
            pause = min(pause * 2, POLL_LAST)
            status = self._status(page)
            if status & mask == value:
                return status
        raise ProtocolError(f"TPM_STS: {what} within {_ms(timeout)}")

    def _burst(self, page: int) -> int:
        """Return the burst count once it is not 0."""
        deadline = self._clock() + TIMEOUT_D
        pause = POLL_FIRST
        while True:
            burst = (self._status(page) & _BURST_COUNT) >> STS_BURST_COUNT_SHIFT
            if burst:
                return burst
            if self._clock() >= deadline:
                raise ProtocolError(f"TPM_STS: burst count 0 for {_ms(TIMEOUT_D)}")
            self._sleep(pause)
            pause = min(pause * 2, POLL_LAST)

    def _wait(self, access: int, bits: int, timeout: float) -> bool:
        """Tell whether TPM_ACCESS at *access* shows *bits* within *timeout* s."""
        deadline = self._clock() + timeout
        pause = POLL_FIRST
        while True:
            value = self._window.read8(access)
            if value & bits == bits and value != 0xFF:
                return True
            if self._clock() >= deadline:
                return False
            self._sleep(pause)
            pause = min(pause * 2, POLL_LAST)


def _page(locality: int) -> int:
    return TIS_BASE + TIS_PAGE * locality


def _is_framed(command: bytes) -> bool:
    return HEADER_SIZE <= len(command) <= TIS_BUFFER_SIZE and len(command) == int.from_bytes(
        command[2:6], "big"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
