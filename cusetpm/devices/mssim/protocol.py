"""The simulator's two conversations without I/O: octets in, octets and actions out.

Names and numbers are those of TpmTcpProtocol.h.  All is big-endian; a request is a UINT32 and what it takes,
and it is acknowledged with a UINT32 of zero after what it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from cusetpm.devices.swtpm.control import Control
from hwtpm.errors import TpmError

TPM_SIGNAL_POWER_ON: Final = 1
TPM_SIGNAL_POWER_OFF: Final = 2
TPM_SIGNAL_PHYS_PRES_ON: Final = 3
TPM_SIGNAL_PHYS_PRES_OFF: Final = 4
TPM_SIGNAL_HASH_START: Final = 5
TPM_SIGNAL_HASH_DATA: Final = 6
TPM_SIGNAL_HASH_END: Final = 7
TPM_SEND_COMMAND: Final = 8
TPM_SIGNAL_CANCEL_ON: Final = 9
TPM_SIGNAL_CANCEL_OFF: Final = 10
TPM_SIGNAL_NV_ON: Final = 11
TPM_SIGNAL_NV_OFF: Final = 12
TPM_SIGNAL_KEY_CACHE_ON: Final = 13
TPM_SIGNAL_KEY_CACHE_OFF: Final = 14
TPM_REMOTE_HANDSHAKE: Final = 15
TPM_SET_ALTERNATIVE_RESULT: Final = 16
TPM_SIGNAL_RESET: Final = 17
TPM_SIGNAL_RESTART: Final = 18
TPM_SESSION_END: Final = 20
TPM_STOP: Final = 21

SERVER_VERSION: Final = 1
END_POINT_INFO: Final = 0x01 | 0x04 | 0x08
"""tpmPlatformAvailable, tpmInRawMode, tpmSupportsPP."""

MAX_BUFFER: Final = 1 << 20
"""The largest command and piece of hashed data that a client may send, in octets."""

_WORD: Final = Struct(">I")
_DONE: Final = _WORD.pack(0)
_UNKNOWN: Final = _WORD.pack(1)


class Execute(NamedTuple):
    """A command for the TPM; `executed` says what to send when it has its response."""

    command: bytes
    locality: int


class Hangup(NamedTuple):
    """The connection is closed."""


class End(NamedTuple):
    """The program ends."""


Action: TypeAlias = bytes | Execute | Hangup | End


class Simulator:
    """The TPM 2.0 behind *control*, as both ports see it; `cancelled` while commands are to be cancelled."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.cancelled = False

    def signal(self, code: int, data: bytes = b"") -> None:
        """The platform has given a signal; a TPM without power does not hear those for a running one.

        Raises KeyError if there is no such signal, and TpmError when the TPM cannot start.
        """
        control = self.control
        if code in (TPM_SIGNAL_RESET, TPM_SIGNAL_RESTART):
            control.lose_power()
            control.power_on()
        elif code in (TPM_SIGNAL_CANCEL_ON, TPM_SIGNAL_CANCEL_OFF):
            self.cancelled = code == TPM_SIGNAL_CANCEL_ON
            if self.cancelled:
                control.machine.cancel()
        elif code in _ABOUT_POWER:
            _ABOUT_POWER[code](control)
        elif code not in _IGNORED:
            act = _FOR_A_RUNNING_TPM[code]
            if control.machine.running:
                act(control, data)


_ABOUT_POWER: Final = {TPM_SIGNAL_POWER_ON: Control.power_on, TPM_SIGNAL_POWER_OFF: Control.lose_power}
_FOR_A_RUNNING_TPM: Final[dict[int, Callable[[Control, bytes], None]]] = {
    TPM_SIGNAL_PHYS_PRES_ON: lambda control, _: control.presence(True),
    TPM_SIGNAL_PHYS_PRES_OFF: lambda control, _: control.presence(False),
    TPM_SIGNAL_HASH_START: lambda control, _: control.hash_start(),
    TPM_SIGNAL_HASH_DATA: lambda control, data: control.hash_data(data),
    TPM_SIGNAL_HASH_END: lambda control, _: control.hash_end(),
}
_IGNORED: Final = frozenset({  # NV memory is always there, and there is no cache of keys to switch.
    TPM_SIGNAL_NV_ON, TPM_SIGNAL_NV_OFF, TPM_SIGNAL_KEY_CACHE_ON, TPM_SIGNAL_KEY_CACHE_OFF})
_LAUNCH: Final = frozenset({TPM_SIGNAL_HASH_START, TPM_SIGNAL_HASH_DATA, TPM_SIGNAL_HASH_END})


class _Port:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._input = b""

    def receive(self, data: bytes) -> list[Action]:
        """Return what to do about *data*, in this order; a `Hangup` or an `End` is the last of all."""
        self._input += data
        actions: list[Action] = []
        while not _over(actions) and (request := self._next()) is not None:
            actions += self._run(*request)
        return actions

    def _next(self) -> tuple[int, bytes] | None:
        """Take the next whole request from the input: its code, and what follows that."""
        raise NotImplementedError

    def _run(self, code: int, body: bytes) -> list[Action]:
        raise NotImplementedError


class CommandPort(_Port):
    """One connection to the command port."""

    def _next(self) -> tuple[int, bytes] | None:
        found = self._input
        if len(found) < _WORD.size:
            return None
        (code,) = _WORD.unpack_from(found)
        size = _WORD.size + _FIXED.get(code, 0)
        if len(found) < size:
            return None
        if code in (TPM_SEND_COMMAND, TPM_SIGNAL_HASH_DATA):
            (more,) = _WORD.unpack_from(found, size - _WORD.size)
            if more > MAX_BUFFER:
                self._input = b""
                return TPM_SESSION_END, b""
            size += more
        if len(found) < size:
            return None
        self._input = found[size:]
        return code, found[_WORD.size : size]

    def _run(self, code: int, body: bytes) -> list[Action]:
        if code == TPM_SEND_COMMAND:
            return [Execute(body[5:], body[0])]
        if code == TPM_REMOTE_HANDSHAKE and any(body):  # There is no version 0.
            return [_HANDSHAKE]
        if code == TPM_SET_ALTERNATIVE_RESULT:
            return [_DONE]
        if code in _LAUNCH:
            return _signalled(self._simulator, code, body[4:])
        return [End()] if code == TPM_STOP else [Hangup()]


def executed(response: bytes) -> bytes:
    """Return what to send for an `Execute` that came to *response*: empty for a TPM without power."""
    return _WORD.pack(len(response)) + response + _DONE


class PlatformPort(_Port):
    """One connection to the platform port."""

    def _next(self) -> tuple[int, bytes] | None:
        if len(self._input) < _WORD.size:
            return None
        (code,) = _WORD.unpack_from(self._input)
        self._input = self._input[_WORD.size :]
        return code, b""

    def _run(self, code: int, body: bytes) -> list[Action]:
        if code == TPM_STOP:
            return [End()]
        if code == TPM_SESSION_END:
            return [Hangup()]
        if code in _LAUNCH:
            return [_UNKNOWN, Hangup()]  # They belong to the other port.
        return _signalled(self._simulator, code)


def _over(actions: list[Action]) -> bool:
    return bool(actions) and isinstance(actions[-1], Hangup | End)


def _signalled(simulator: Simulator, code: int, data: bytes = b"") -> list[Action]:
    try:
        simulator.signal(code, data)
    except (KeyError, TpmError):
        return [_UNKNOWN, Hangup()]
    return [_DONE]


_FIXED: Final = {TPM_SEND_COMMAND: 5, TPM_SIGNAL_HASH_DATA: 4, TPM_REMOTE_HANDSHAKE: 4,
                 TPM_SET_ALTERNATIVE_RESULT: 4}
"""Octets that follow the code, without data of any size."""

_HANDSHAKE: Final = _WORD.pack(SERVER_VERSION) + _WORD.pack(END_POINT_INFO) + _DONE
