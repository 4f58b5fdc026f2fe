"""What every owner of state is: something that saves, restores and knows what a Startup does to it."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Start(Enum):
    """How the TPM came up (Part 1, 12.2.4 to 12.2.6; Part 3, 9.3)."""

    RESET = "TPM Reset"
    RESTART = "TPM Restart"
    RESUME = "TPM Resume"


class Owner:
    """One owner of state.

    *Permanent* state outlives power; a handler that changes it calls `touch`, and the command is not
    acknowledged before the new state is stored.  *Volatile* state lives until power goes; Shutdown(STATE)
    keeps a copy, which Startup(STATE) gives back before `startup` clears what the specification does not
    keep.
    Both forms are octets whose first is a format version.
    """

    TAG: ClassVar[bytes]  # four octets, the name of the section in a snapshot

    def __init__(self) -> None:
        self.dirty = False

    def touch(self) -> None:
        """Permanent state has changed and must be stored before the response leaves."""
        self.dirty = True

    def save(self) -> bytes:
        """Return the permanent state."""
        raise NotImplementedError

    def restore(self, state: bytes) -> None:
        """Take permanent state that `save` gave; raises TpmError or ValueError when it is damaged."""
        raise NotImplementedError

    def save_volatile(self) -> bytes:
        """Return what Shutdown(STATE) keeps beyond the permanent state."""
        return b""

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""

    def startup(self, start: Start) -> None:
        """Do to this state what a Startup of kind *start* does."""
