"""The chip's side of the TIS: registers, localities and the command FIFO, without I/O.

Two rules.  Everything that decides what an access does is here; where the registers are mapped is
not (see mmio).  And one locality at a time owns the FIFO: STS and the FIFO of any other read as all
ones and ignore writes.

`TRANSITIONS` is the FIFO's state machine as far as TPM_STS drives it; an octet written to the FIFO
takes Ready to Reception, and the end of a command takes Execution to Completion.  Where the standard
leaves a choice, this chip goes to Ready on every commandReady (it never stops in Idle on the way),
ignores a write to TPM_STS or TPM_ACCESS that sets more than one of the bits that can be written, and ignores
TPM_HASH_START while a locality other than 4 is active.  typePolarity keeps what is written and changes
nothing: the line is one level, asserted or not.  stsValid is signalled by interrupt when a response is there,
not for every octet taken.  Locality 4 is as open as the others: who may reach its page is the platform's to
say.

Access sizes: an access inside one register is one access to it; a FIFO access moves as many octets as it
is wide; any other (unaligned across registers, or of another size) counts as octet accesses, lowest
address first.  Octets of a register above its width read as 0, offsets with no register as 0xFF.

Threads: registers are accessed by one thread at a time, except while a command executes (in the thread
that wrote tpmGo): then other threads may read all registers and write TPM_ACCESS and TPM_STS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum

from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_BEEN_SEIZED,
    ACCESS_PENDING_REQUEST,
    ACCESS_REQUEST_USE,
    ACCESS_SEIZE,
    ACCESS_TPM_ESTABLISHMENT,
    ACCESS_TPM_REG_VALID_STS,
    INT_ALL,
    INT_COMMAND_READY,
    INT_DATA_AVAIL,
    INT_GLOBAL_ENABLE,
    INT_LOCALITY_CHANGE,
    INT_STS_VALID,
    INT_TYPE_POLARITY_LOW_LEVEL,
    INT_TYPE_POLARITY_MASK,
    INTERFACE_CAP_FIFO,
    INTERFACE_CAP_LOCALITY,
    INTERFACE_ID_TIS_1_3,
    INTERFACE_SELECTOR_LOCK,
    INTF_DATA_TRANSFER_SIZE_64,
    INTF_INTERFACE_VERSION_SHIFT,
    INTF_INTERRUPT_LEVEL_LOW,
    INTF_VERSION_PTP,
    INTF_VERSION_TIS_1_3,
    NOTHING,
    STS_BURST_COUNT_SHIFT,
    STS_COMMAND_CANCEL,
    STS_COMMAND_READY,
    STS_DATA_AVAIL,
    STS_EXPECT,
    STS_RESET_ESTABLISHMENT_BIT,
    STS_RESPONSE_RETRY,
    STS_SELF_TEST_DONE,
    STS_TPM_FAMILY_SHIFT,
    STS_TPM_GO,
    STS_VALID,
    TIS_BUFFER_SIZE,
    TIS_LOCALITIES,
    TPM_ACCESS,
    TPM_DATA_FIFO,
    TPM_DID_VID,
    TPM_FAMILY_2_0,
    TPM_HASH_DATA,
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
    TPM_XDATA_FIFO_SIZE,
)

# The identity that QEMU's model shows as well: drivers keep lists of quirks by vendor, and this chip
# wants to be treated as that one is.
DID_VID = 0x0001_1014
RID = 0x01


class State(Enum):
    """Where the FIFO of the active locality is."""

    IDLE = "Idle"
    READY = "Ready"
    RECEPTION = "Reception"
    EXECUTION = "Execution"
    COMPLETION = "Completion"


_IDLE, _READY, _RECEPTION, _EXECUTION, _COMPLETION = State

TRANSITIONS = {
    (State.IDLE, STS_COMMAND_READY): State.READY,
    (State.READY, STS_COMMAND_READY): State.READY,
    (State.RECEPTION, STS_COMMAND_READY): State.READY,  # the command is dropped
    (State.RECEPTION, STS_TPM_GO): State.EXECUTION,  # only with Expect clear
    (State.EXECUTION, STS_COMMAND_READY): State.READY,  # once the cancelled command has ended
    (State.COMPLETION, STS_COMMAND_READY): State.READY,  # the response is dropped
    (State.COMPLETION, STS_RESPONSE_RETRY): State.COMPLETION,  # the response from its start
}
"""State and the bit written to TPM_STS -> next state; what is not listed is ignored."""

_ACCESS_CONTROL = ACCESS_ACTIVE_LOCALITY | ACCESS_BEEN_SEIZED | ACCESS_SEIZE | ACCESS_REQUEST_USE
_STS_CONTROL = STS_COMMAND_READY | STS_TPM_GO | STS_RESPONSE_RETRY
_ALL_ONES = (0, 0xFF, 0xFFFF, 0xFFFFFF, NOTHING)
_NO_LOCALITY = -1

# What is to happen once an aborted command has ended; a greater value overrides a smaller one, and
# from 0 on it is the locality that seized the TPM.
_GO_ON, _TO_READY, _RELEASE = -3, -2, -1


class Tis:
    """A TPM's five localities; `read` and `write` are the bus.

    *execute* gets a command (up to 4096 octets as they were written to the FIFO, not checked) and its
    locality, and returns the response; `cancelled` tells it whether the command is to end soon.  *cancel* is
    called when that becomes true; it is called from another thread, must not block and must not access
    registers.  *hash_start*, *hash_data* and *hash_end*
    are the H-CRTM indications (Part 1, 31); a TPM without them ignores the three registers.  *interrupt* is
    called with the new level of the interrupt line (True: asserted) when it changes.  *family* is
    `TPM_FAMILY_2_0` or `TPM_FAMILY_1_2`.  *established* is what *on_established* was last called
    with, so that the bit can outlive power.
    """

    def __init__(
        self,
        execute: Callable[[bytes, int], bytes],
        *,
        cancel: Callable[[], None] = lambda: None,
        hash_start: Callable[[], None] | None = None,
        hash_data: Callable[[bytes], None] | None = None,
        hash_end: Callable[[], None] | None = None,
        interrupt: Callable[[bool], None] | None = None,
        family: int = TPM_FAMILY_2_0,
        established: bool = False,
        on_established: Callable[[bool], None] = lambda established: None,
    ) -> None:
        self._execute = execute
        self._on_cancel = cancel
        self._cancelled = False
        self._hash_start = hash_start
        self._hash_data = hash_data
        self._hash_end = hash_end
        self._interrupt = interrupt
        self._two = family == TPM_FAMILY_2_0
        self._on_established = on_established
        self.established = established
        """A dynamic launch took place since the bit was last reset (kept by the TPM over power cycles)."""

        self._lock = threading.Lock()
        self._state = _IDLE
        self._active = _NO_LOCALITY
        self._requests: set[int] = set()
        self._seized = [False] * TIS_LOCALITIES
        self._abort = _GO_ON
        self._hashing = False

        self._command = bytearray()
        self._expected = 0  # octets at which the command is complete; 6 until its size field is there
        self._expect = False
        self._response = b""
        self._taken = 0  # octets of the response that were read

        version = INTF_VERSION_PTP if self._two else INTF_VERSION_TIS_1_3
        self._capability = (
            INT_ALL
            | INTF_INTERRUPT_LEVEL_LOW
            | INTF_DATA_TRANSFER_SIZE_64
            | version << INTF_INTERFACE_VERSION_SHIFT
        )
        self._interface_id = (
            INTERFACE_CAP_FIFO | INTERFACE_CAP_LOCALITY if self._two else INTERFACE_ID_TIS_1_3
        )
        self._sts = family << STS_TPM_FAMILY_SHIFT if self._two else 0
        self.self_test_done = True
        self._int_enable = [INT_TYPE_POLARITY_LOW_LEVEL] * TIS_LOCALITIES
        self._int_status = [0] * TIS_LOCALITIES
        self._int_vector = 0
        self._line = False

    @property
    def state(self) -> State:
        """The FIFO's state."""
        return self._state

    def cancelled(self) -> bool:
        """Tell whether the command in progress has been asked to end, since it was taken; from any thread."""
        return self._cancelled

    @property
    def active(self) -> int | None:
        """The active locality, or None."""
        return None if self._active == _NO_LOCALITY else self._active

    @property
    def self_test_done(self) -> bool:
        """TPM_STS.selfTestDone: the self-test is complete."""
        return bool(self._sts & STS_SELF_TEST_DONE)

    @self_test_done.setter
    def self_test_done(self, done: bool) -> None:
        self._sts = self._sts & ~STS_SELF_TEST_DONE | (STS_SELF_TEST_DONE if done else 0)

    # The bus.

    def read(self, locality: int, offset: int, size: int) -> int:
        """Return *size* octets at *offset* (0 to 0xFFF) of the page of *locality* (0 to 4), little-endian."""
        shift = offset & 3
        if shift + size > 4:
            return sum(self.read(locality, offset + i, 1) << 8 * i for i in range(size))
        register = offset - shift
        if register == TPM_STS:
            if locality != self._active:
                return _ALL_ONES[size]
            return self._status() >> 8 * shift & _ALL_ONES[size]
        if register == TPM_DATA_FIFO or TPM_XDATA_FIFO <= register < TPM_XDATA_FIFO + TPM_XDATA_FIFO_SIZE:
            return self._take(size) if locality == self._active else _ALL_ONES[size]
        return self._register(locality, register) >> 8 * shift & _ALL_ONES[size]

    def write(self, locality: int, offset: int, size: int, value: int) -> None:
        """Write the *size* low octets of *value*, little-endian, at *offset* of the page of *locality*.

        A write of tpmGo returns when the command has ended.
        """
        shift = offset & 3
        register = offset - shift
        if shift + size <= 4 and (
            register == TPM_DATA_FIFO or TPM_XDATA_FIFO <= register < TPM_XDATA_FIFO + TPM_XDATA_FIFO_SIZE
        ):
            if locality == self._active:
                data = (value & _ALL_ONES[size]).to_bytes(size, "little")
                if self._hashing:
                    self._hash(register, data)
                else:
                    self._put(data)
        elif size != 1:
            for i in range(size):
                self.write(locality, offset + i, 1, value >> 8 * i & 0xFF)
        else:
            self._write_octet(locality, register, shift, value & 0xFF)
        if self._interrupt is not None:
            self._drive_line()

    def _write_octet(self, locality: int, register: int, index: int, value: int) -> None:
        """Write octet *index* of *register*; only the FIFO is wider than what one octet decides."""
        if register == TPM_STS:
            if index == 0:
                self._control(locality, value & _STS_CONTROL)
            elif index == 3 and self._two:
                self._control_two(locality, value << 24)
        elif register == TPM_ACCESS:
            if index == 0:
                self._access(locality, value & _ACCESS_CONTROL)
        elif register == TPM_INTERFACE_ID:
            if self._two:
                self._interface_id |= value << 8 * index & INTERFACE_SELECTOR_LOCK
        elif locality == 4 and index == 0 and register == TPM_HASH_START:
            self._start_hash()
        elif locality != self._active:
            return
        elif index == 0 and register == TPM_HASH_END and self._hashing:
            self._end_hash()
        elif register == TPM_INT_ENABLE:
            writable = INT_ALL | INT_TYPE_POLARITY_MASK | INT_GLOBAL_ENABLE
            enable = self._int_enable[locality]
            self._int_enable[locality] = enable & ~(0xFF << 8 * index) | value << 8 * index & writable
        elif register == TPM_INT_STATUS:
            self._int_status[locality] &= ~(value << 8 * index)
        elif register == TPM_INT_VECTOR and index == 0:
            self._int_vector = value & 0x0F

    def _register(self, locality: int, register: int) -> int:
        if register == TPM_ACCESS:
            value = ACCESS_TPM_REG_VALID_STS
            if locality == self._active:
                value |= ACCESS_ACTIVE_LOCALITY
            if self._seized[locality]:
                value |= ACCESS_BEEN_SEIZED
            if not self.established:
                value |= ACCESS_TPM_ESTABLISHMENT
            if self._requests:
                mine = locality in self._requests
                if mine:
                    value |= ACCESS_REQUEST_USE
                if len(self._requests) > mine:
                    value |= ACCESS_PENDING_REQUEST
            return value
        if register == TPM_INT_ENABLE:
            return self._int_enable[locality]
        if register == TPM_INT_VECTOR:
            return self._int_vector
        if register == TPM_INT_STATUS:
            return self._int_status[locality]
        if register == TPM_INTF_CAPABILITY:
            return self._capability
        if register == TPM_INTERFACE_ID:
            return self._interface_id
        if register == TPM_DID_VID:
            return DID_VID
        if register == TPM_RID:
            return RID
        return NOTHING

    # TPM_STS and the FIFO.

    def _status(self) -> int:
        state = self._state
        if state is _COMPLETION:
            left = len(self._response) - self._taken
            burst = min(left, 0xFFFF) << STS_BURST_COUNT_SHIFT
            return self._sts | burst | (STS_VALID | STS_DATA_AVAIL if left else STS_VALID)
        if state is _RECEPTION:
            burst = TIS_BUFFER_SIZE - len(self._command) << STS_BURST_COUNT_SHIFT
            return self._sts | burst | (STS_VALID | STS_EXPECT if self._expect else STS_VALID)
        if state is _EXECUTION:
            return self._sts
        burst = TIS_BUFFER_SIZE << STS_BURST_COUNT_SHIFT
        return self._sts | burst | (STS_COMMAND_READY if state is _READY else 0)

    def _take(self, size: int) -> int:
        """Return the next *size* octets of the response; past its end, or with none, all ones."""
        if self._state is not _COMPLETION:
            return _ALL_ONES[size]
        taken = self._taken
        data = self._response[taken : taken + size]
        self._taken = taken + len(data)
        return int.from_bytes(data.ljust(size, b"\xff"), "little")

    def _put(self, data: bytes) -> None:
        """Append *data* to the command; octets after its end are ignored."""
        command = self._command
        if self._state is _READY:
            command.clear()
            self._expected = 6
            self._expect = True
            self._state = _RECEPTION
        elif self._state is not _RECEPTION or not self._expect:
            return
        command += data
        if len(command) < self._expected:
            return
        if self._expected == 6:
            # The size field of the command header (Part 1, 16) is complete.
            self._expected = min(max(int.from_bytes(command[2:6], "big"), 6), TIS_BUFFER_SIZE)
        if len(command) >= self._expected:
            del command[self._expected :]
            self._expect = False

    def _control(self, locality: int, bit: int) -> None:
        go = False
        with self._lock:
            if locality != self._active:
                return
            state = self._state
            after = TRANSITIONS.get((state, bit))
            if after is None:
                return
            if state is _EXECUTION:
                self._abort_with(_TO_READY)
            elif after is _READY:
                self._ready()
            elif after is _COMPLETION:
                self._taken = 0
            elif not self._expect:
                self._state = _EXECUTION
                self._abort, self._cancelled = _GO_ON, False
                go = True
        if go:
            self._run(locality)

    def _control_two(self, locality: int, bits: int) -> None:
        with self._lock:
            if locality != self._active:
                return
            if bits & STS_COMMAND_CANCEL and self._state is _EXECUTION:
                self._cancel()
        if bits & STS_RESET_ESTABLISHMENT_BIT and locality >= 3:
            self._establish(False)

    def _establish(self, established: bool) -> None:
        if established != self.established:
            self.established = established
            self._on_established(established)

    def _run(self, locality: int) -> None:
        try:
            response = self._execute(bytes(self._command), locality)
        except BaseException:
            with self._lock:
                if self._abort == _GO_ON:
                    self._state = _IDLE
                else:
                    self._end_aborted()
            raise
        with self._lock:
            if self._abort != _GO_ON:
                self._end_aborted()
                return
            self._response = response
            self._taken = 0
            self._state = _COMPLETION
            self._signal(INT_DATA_AVAIL | INT_STS_VALID)

    def _cancel(self) -> None:
        self._cancelled = True
        self._on_cancel()

    def _abort_with(self, action: int) -> None:
        self._abort = max(self._abort, action)
        self._cancel()

    def _end_aborted(self) -> None:
        if self._abort == _TO_READY:
            self._ready()
        elif self._abort == _RELEASE:
            self._release()
        else:
            self._seize(self._abort)

    def _ready(self) -> None:
        if self._state is not _READY:
            self._state = _READY
            self._signal(INT_COMMAND_READY)

    # TPM_ACCESS.

    def _access(self, locality: int, bit: int) -> None:
        with self._lock:
            if bit == ACCESS_REQUEST_USE:
                if self._active == _NO_LOCALITY:
                    self._activate(locality)
                elif self._active != locality:
                    self._requests.add(locality)
            elif bit == ACCESS_ACTIVE_LOCALITY:
                if self._active != locality:
                    self._requests.discard(locality)
                elif self._state is _EXECUTION:
                    self._abort_with(_RELEASE)
                else:
                    self._release()
            elif bit == ACCESS_SEIZE:
                if locality <= self._active:
                    return
                if self._state is _EXECUTION:
                    self._abort_with(locality)
                else:
                    self._seize(locality)
            elif bit == ACCESS_BEEN_SEIZED:
                self._seized[locality] = False

    def _activate(self, locality: int) -> None:
        self._active = locality
        self._requests.discard(locality)
        self._state = _IDLE
        self._hashing = False
        self._response = b""
        if locality != _NO_LOCALITY:
            self._signal(INT_LOCALITY_CHANGE)

    def _release(self) -> None:
        self._activate(max(self._requests, default=_NO_LOCALITY))

    def _seize(self, locality: int) -> None:
        if self._active != _NO_LOCALITY:
            self._seized[self._active] = True
        self._activate(locality)

    # H-CRTM, locality 4.

    def _start_hash(self) -> None:
        if self._hash_start is None:
            return
        with self._lock:
            if self._active not in (_NO_LOCALITY, 4) or self._state is _EXECUTION:
                return
            self._activate(4)
            self._hashing = True
        self._establish(True)
        self._hash_start()

    def _hash(self, register: int, data: bytes) -> None:
        if register == TPM_HASH_DATA and self._hash_data is not None:
            self._hash_data(data)

    def _end_hash(self) -> None:
        with self._lock:
            self._hashing = False
        if self._hash_end is not None:
            self._hash_end()
        with self._lock:
            self._release()

    # Interrupts.

    def _signal(self, bits: int) -> None:
        enable = self._int_enable[self._active]
        if enable & INT_GLOBAL_ENABLE:
            self._int_status[self._active] |= bits & enable

    def _drive_line(self) -> None:
        """Tell the host about a changed interrupt line; vector 0 leaves it unconnected."""
        line = self._int_vector != 0 and any(
            status and enable & INT_GLOBAL_ENABLE
            for status, enable in zip(self._int_status, self._int_enable, strict=True)
        )
        if line != self._line:
            self._line = line
            assert self._interrupt is not None
            self._interrupt(line)
