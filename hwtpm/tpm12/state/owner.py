"""What every owner of state is: something that saves, restores and knows what a TPM_Startup does to it."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from hwtpm.snapshot import Changes


class Start(Enum):
    """How the TPM was started (Part 2, 4.5)."""

    CLEAR = 1
    STATE = 2
    DEACTIVATED = 3


class Owner:
    """One owner of state.

    *Permanent* state outlives power; a handler that changes it calls `touch`, and the command is not
    acknowledged before the new state is stored.  *Volatile* state lives until power goes; TPM_SaveState
    keeps a copy of it, which TPM_Startup(ST_STATE) gives back before `startup` clears what the specification
    does not keep.  Both forms are octets whose first is a format version.
    """

    TAG: ClassVar[bytes]  # four octets, the name of the section in a snapshot
    PERMANENT: ClassVar[bool] = True  # has a section in a snapshot of permanent state

    def __init__(self) -> None:
        self.dirty = False
        self.changes = Changes()

    def touch(self) -> None:
        """Permanent state has changed and must be stored before the response leaves."""
        self.dirty = self.changes.any = True

    def save(self) -> bytes:
        """Return the permanent state."""
        return b""

    def restore(self, state: bytes) -> None:
        """Take permanent state that `save` gave; raises TpmError or ValueError when it is damaged."""

    def save_volatile(self) -> bytes:
        """Return everything that ends with power."""
        return b""

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave; raises TpmError or ValueError when it is damaged."""

    def startup(self, start: Start) -> None:
        """Do to this state what a TPM_Startup of kind *start* does."""

    def owner_clear(self, *, revoke: bool = False) -> None:
        """Do to this state what TPM_OwnerClear does, or TPM_RevokeTrust with *revoke* (Part 3, 6.2, 14.3)."""
