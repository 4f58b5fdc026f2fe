"""What carries a command to a TPM: the one interface between front ends, rings and engines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

Cancelled = Callable[[], bool]
"""Tells whether whoever sent a command wants it to end; any thread may ask, and it must not block."""


class Transport(Protocol):
    """A way to a TPM.  Calls are serialised by whoever implements it."""

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the one well-formed response to *command*; blocks until it is there.

        *command* is at most 4096 octets, big-endian as on the wire (Part 1, 16); anything else is
        answered with a response code.  *locality* is 0 to 4.  *cancelled* is asked before the command
        begins and while it runs, so a request to end that comes at any moment is seen, and none that was
        meant for another command.
        """
        ...

    def cancel(self) -> None:
        """Have the command in progress, if any, asked to end with TPM_RC_CANCELED; from any thread.

        A command that came with its own *cancelled* ends only if that says so: set what it looks at before
        this call.
        """
        ...

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may run for more than about a millisecond.

        A front end that shares an event loop hands such a command to a worker thread.
        """
        ...


class Space(Transport, Protocol):
    """A way to a TPM with objects and sessions of its own: what one open file of /dev/tpmrmN has."""

    def close(self) -> None:
        """What is in the space is gone; does not wait for a command of somebody else."""
        ...


class Spaces(Protocol):
    """Where spaces come from: a resource manager."""

    def open(self) -> Space:
        """Return a new space, which is empty."""
        ...


class Manager(Transport, Spaces, Protocol):
    """A resource manager: the way to a TPM as it is, and spaces of it."""


class NotExecuted(OSError):
    """The command was not executed: *code*, an errno value, says so to a device file's user.

    *response_code* is what a user is answered who knows responses only.
    """

    def __init__(self, code: int, response_code: int) -> None:
        super().__init__(code, os.strerror(code))
        self.code = code
        self.response_code = response_code
