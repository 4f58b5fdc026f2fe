"""The channel for commands of the TPM itself without I/O: bare, or after the header of the TCG's simulator.

    bare      command
              response
    framed    UINT32 TPM2_SEND_COMMAND, UINT8 locality, UINT32 size, command
              UINT32 size, response, UINT32 0
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cusetpm.devices.session import TPM_BUFSIZE
from cusetpm.devices.swtpm import abi
from cusetpm.devices.swtpm.control import Control
from cusetpm.transport import Cancelled

_HEADER: Final = 10
_SEND_COMMAND: Final = abi.TPM2_SEND_COMMAND.to_bytes(4, "big")
_ACK: Final = bytes(4)


class Command(NamedTuple):
    """A command for the TPM; *framed* if it came after the TCG's header, as its response will have to be."""

    octets: bytes
    framed: bool
    locality: int | None  # what the header says


class DataChannel:
    """One connection; only commands for a TPM 2.0 may come after the TCG's header."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._framing = control.machine.family == "2.0"
        self._input = b""

    def receive(self, data: bytes) -> list[Command]:
        """Return the commands that *data* complete.

        A header whose size cannot be right is a command with all that has come so far, so that the TPM says
        what is wrong with it: where the next one would begin is unknown.
        """
        self._input += data
        commands: list[Command] = []
        while (command := self._next()) is not None:
            commands.append(command)
        return commands

    def _next(self) -> Command | None:
        found = self._input
        start, locality = 0, None
        if self._framing and found[:4] == _SEND_COMMAND:
            if len(found) < abi.SEND_COMMAND_PREFIX.size:
                return None
            _, locality, size = abi.SEND_COMMAND_PREFIX.unpack_from(found)
            start = abi.SEND_COMMAND_PREFIX.size
        elif len(found) < _HEADER:
            return None
        else:
            size = int.from_bytes(found[2:6], "big")
        if not _HEADER <= size <= TPM_BUFSIZE:
            if len(found) < start + _HEADER:
                return None
            size = len(found) - start
        if len(found) < start + size:
            return None
        self._input = found[start + size :]
        return Command(found[start : start + size], start > 0, locality)

    def execute(self, command: Command, cancelled: Cancelled | None = None) -> bytes:
        """Return what to send for *command*: the response, in the TCG's frame if the command had it."""
        control = self._control
        response = control.execute(command.octets, cancelled, locality=command.locality)
        if command.locality is not None and control.accepts(command.locality):
            control.locality = command.locality
        return abi.RESP_PREFIX.pack(len(response)) + response + _ACK if command.framed else response
