"""What every owner of state is: something that saves, restores and knows what a Startup does to it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, ClassVar

from hwtpm.snapshot import Changes
from hwtpm.wire import Int


class Start(Enum):
    """How the TPM came up (Part 1, 12.2.4 to 12.2.6; Part 3, 9.3)."""

    RESET = "TPM Reset"
    RESTART = "TPM Restart"
    RESUME = "TPM Resume"


FLAG = Annotated[bool, Int("B", allowed=(0, 1))]
"""Whether something is so, as one octet."""


class Owner:
    """One owner of state.

    *Permanent* state outlives power; a handler that changes it calls `touch`, and the command is not
    acknowledged before the new state is stored.  All other state lives until power goes.  Of that,
    Shutdown(STATE) keeps a copy of the *volatile* part, which Startup(STATE) gives back before `startup`
    clears what the specification does not keep.  The *live* part is the rest: both together with the
    permanent state make a TPM that goes on as if nothing had been.
    Each form is empty or octets whose first is a format version.
    """

    TAG: ClassVar[bytes]  # four octets, the name of the section in a snapshot

    def __init__(self) -> None:
        self.dirty = False
        self.changes = Changes()

    def touch(self) -> None:
        """Permanent state has changed and must be stored before the response leaves."""
        self.dirty = self.changes.any = True

    def stored(self) -> None:
        """What `save` gave last is stored."""
        self.dirty = False

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

    def save_live(self) -> bytes:
        """Return what lives until power goes and is not in `save_volatile`."""
        return b""

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave, after the other parts; raises TpmError or ValueError as `restore`."""
        if state:
            raise ValueError("state that nobody gave")

    def startup(self, start: Start) -> None:
        """Do to this state what a Startup of kind *start* does."""
