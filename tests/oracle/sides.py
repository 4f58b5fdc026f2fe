"""The two TPMs that are compared, each of which can return at once to a state that it was in.

Ours does so by taking the same steps again, for it is reproducible; swtpm by the state blobs of its control
channel.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Protocol, TypeVar

from hwtpm.client import Authorization, Client, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.pcr import PCRAllocate
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.testing import SelfTest
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_RC_FAILURE,
    TPM_RC_RETRY,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.wire import Wire, handle_area
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import Machine

ENDED = 0xFFFFFFFF  # no response code: swtpm ended instead of answering
R = TypeVar("R", bound=Wire)
_CMD_GET_STATEBLOB, _CMD_SET_STATEBLOB, _CMD_STOP, _CMD_INIT = 0x0C, 0x0D, 0x0E, 0x02
_PERMANENT, _VOLATILE = 1, 2
_WORDS = Struct(">IIII")
_COMMAND_MS = 10  # that each command seems to take, so that Time moves as swtpm's does
_STARTS = 5000  # swtpm cannot start its TPM more than some 6600 times in one process
_FAILED = b"\x80\x01\0\0\0\x0a" + TPM_RC_FAILURE.to_bytes(4, "big")
_ENDED = b"\x80\x01\0\0\0\x0a" + ENDED.to_bytes(4, "big")


class Captured(Exception):
    """The octets of a command that was not sent."""

    def __init__(self, command: bytes) -> None:
        self.command = command


class Side(Protocol):
    """One of the two TPMs."""

    name: str
    client: Client

    def execute(self, command: bytes, /) -> bytes: ...

    def set_locality(self, locality: int) -> None: ...

    def power_cycle(self) -> None:
        """Lose power and get it back; no Startup is done."""

    def keep(self) -> None:
        """The present state is what `back` returns to."""

    def begin(self) -> None:
        """Return to the state before all scenarios, and keep it."""

    def back(self) -> None:
        """Return to the state that was kept last."""


class Ours:
    """Our engine."""

    name = "ours"

    def __init__(self) -> None:
        self.faults: list[Exception] = []  # defects of the engine, which answered TPM_RC_FAILURE
        self.client = Client(self.execute, CtrDrbg(b"nonces").generate)
        self._machine = Machine(b"the oracle")
        self._steps: list[Callable[[], object]] = []
        self._kept: list[Callable[[], object]] = []
        _prepare(self)
        self._base = self._machine.durable
        self.begin()

    def execute(self, command: bytes, /) -> bytes:
        self._steps.append(lambda: self._execute(command))
        return self._execute(command)

    def _execute(self, command: bytes) -> bytes:
        self._machine.clock.advance(_COMMAND_MS)
        try:
            return self._machine.execute(command)
        except Exception as fault:  # A defect is a difference like any other, and the run goes on.
            self.faults.append(fault)
            return _FAILED

    def set_locality(self, locality: int) -> None:
        def step() -> None:
            self._machine.locality = locality

        self._steps.append(step)
        step()

    def power_cycle(self) -> None:
        self._steps.append(lambda: self._machine.power_cycle())
        self._machine.power_cycle()

    def keep(self) -> None:
        self._kept = self._steps[:]

    def begin(self) -> None:
        self._kept = []
        self.back()
        run(self, Startup(TPM_SU_CLEAR))
        self.keep()

    def back(self) -> None:
        self._machine = Machine(b"the oracle", self._base)
        self._steps = self._kept[:]
        for step in self._steps:
            step()

    def close(self) -> None:
        """Nothing has to be ended."""


class Theirs:
    """A running swtpm, which returns to states by the state blobs of its control channel."""

    name = "swtpm"

    def __init__(self) -> None:
        self._swtpm = Swtpm()
        self._starts = 0  # of the TPM, in this process
        self.client = Client(self.execute, CtrDrbg(b"nonces").generate)
        _prepare(self)
        run(self, Startup(TPM_SU_CLEAR))
        self.keep()
        self._base = self._kept

    def execute(self, command: bytes, /) -> bytes:
        # At the first use of a protected authValue, libtpms makes a note in NV and asks for a retry.
        try:
            response = self._swtpm.execute(command)
        except ConnectionError:
            self._restart()
            return _ENDED
        if int.from_bytes(response[6:10], "big") == TPM_RC_RETRY:
            return self._swtpm.execute(command)
        return response

    def begin(self) -> None:
        self._kept = self._base
        self.back()

    def set_locality(self, locality: int) -> None:
        self._swtpm.set_locality(locality)

    def power_cycle(self) -> None:
        self._starts += 1
        self._swtpm.power_cycle()

    def keep(self) -> None:
        self._kept = self._blob(_PERMANENT), self._blob(_VOLATILE)

    def back(self) -> None:
        if self._starts > _STARTS:
            self._restart()
        self._starts += 1
        self._control(_CMD_STOP.to_bytes(4, "big"))
        for kind, blob in zip((_PERMANENT, _VOLATILE), self._kept, strict=True):
            self._control(_WORDS.pack(_CMD_SET_STATEBLOB, 0, kind, len(blob)) + blob)
        self._control(_CMD_INIT.to_bytes(4, "big") + bytes(4))
        self._swtpm.set_locality(0)

    def _restart(self) -> None:
        self._swtpm.close()
        self._swtpm = Swtpm()
        self._starts = 0

    def close(self) -> None:
        """End the process."""
        self._swtpm.close()

    def _control(self, request: bytes) -> None:
        self._swtpm._ctrl.sendall(request)
        result = int.from_bytes(self._receive(4), "big")
        if result:
            raise ConnectionError(f"swtpm's control channel answers {result}")

    def _blob(self, kind: int) -> bytes:
        self._swtpm._ctrl.sendall(_WORDS.pack(_CMD_GET_STATEBLOB, 0, kind, 0))
        result, _, _, size = _WORDS.unpack(self._receive(_WORDS.size))
        if result:
            raise ConnectionError(f"swtpm gives no state blob: {result}")
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        octets = b""
        while len(octets) < size:
            piece = self._swtpm._ctrl.recv(size - len(octets))
            if not piece:
                raise ConnectionError("swtpm has gone")
            octets += piece
        return octets


def _prepare(side: Side) -> None:
    """Have the same PCR banks in both, all tests done, and an orderly shutdown with the power back."""
    if isinstance(side, Ours):
        run(side, Startup(TPM_SU_CLEAR))
    everything, nothing = b"\xff\xff\xff", bytes(3)
    banks = [TPMS_PCR_SELECTION(alg, everything) for alg in (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384)]
    banks.append(TPMS_PCR_SELECTION(TPM_ALG_SHA512, nothing))
    run(side, PCRAllocate(TPM_RH_PLATFORM, banks))
    run(side, SelfTest(1))
    run(side, Shutdown(TPM_SU_CLEAR))
    side.power_cycle()


def run(side: Side, request: Command[R], *sessions: Authorization) -> R:
    """Run *request*; unless told otherwise, with an empty password for each handle that needs one."""
    roles = sum(1 for member in handle_area(type(request)) if member.role is not None and member.role.value)
    return side.client.run(request, *(sessions or [Password()] * roles))


def octets(side: Side, request: Command[R], *sessions: Authorization) -> bytes:
    """Return the command that `run` would send."""

    def capture(command: bytes, /) -> bytes:
        raise Captured(command)

    sending, side.client._execute = side.client._execute, capture
    try:
        side.client.run(request, *sessions)
    except Captured as captured:
        return captured.command
    finally:
        side.client._execute = sending
    raise AssertionError("a command always reaches its transport")
