"""What carries a command to a TPM: the one interface between front ends, rings and engines."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """A way to a TPM.  Calls are serialised by whoever implements it."""

    def execute(self, command: bytes, locality: int = 0) -> bytes:
        """Return the one well-formed response to *command*; blocks until it is there.

        *command* is at most 4096 octets, big-endian as on the wire (Part 1, 16); anything else is
        answered with a response code.  *locality* is 0 to 4.
        """
        ...

    def cancel(self) -> None:
        """Ask the command in progress, if any, to end with TPM_RC_CANCELED; from any thread."""
        ...

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may run for more than about a millisecond.

        A front end that shares an event loop hands such a command to a worker thread.
        """
        ...
