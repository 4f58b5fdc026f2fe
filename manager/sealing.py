"""What the manager asks of a chip, whatever its family: to seal keys to PCRs, and to count saves."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from hwtpm.errors import StateError
from manager.model import Platform, SealedKey, pcr_list


class OtherConfiguration(StateError):
    """The chip does not unseal a key in the configuration that the machine is in; *pcrs* is a bit map."""

    def __init__(self, pcrs: bytes) -> None:
        super().__init__(f"its PCRs ({pcr_list(pcrs)}) have changed")
        self.pcrs = pcrs


class Conversation(Protocol):
    """A conversation that nobody between the manager and the chip can read or forge.

    Every method raises TpmError, ProtocolError or OSError as the chip's client does.
    """

    name: bytes
    """Names the storage key of this chip."""

    def platform(self, pcrs: bytes) -> Platform:
        """Return the configuration that the machine is in, as far as *pcrs*, a bit map, tell."""

    def seal(self, secret: bytes, platform: Platform) -> SealedKey:
        """Return *secret*, 32 octets, sealed to *platform*."""

    def unseal(self, sealed: SealedKey) -> bytes:
        """Return what was sealed.

        OtherConfiguration if the machine is in another one; StateError, one line for people, if the chip does
        not give it back for another reason.
        """

    def boot(self) -> bytes:
        """Return what is another value after each reset of the chip, at most 20 octets."""

    def counter(self, number: int, auth: bytes) -> int:
        """Return the value of the counter *number*, authenticated; StateError without one."""

    def define_counter(self, number: int, auth: bytes) -> None:
        """There is a new counter, higher than any that the chip had before it."""

    def undefine_counter(self, number: int) -> None:
        """The counter is gone."""

    def define_area(self, index: int, size: int, auth: bytes) -> None:
        """There is a new NV area that *auth* reads and writes, full of 0xFF; with a size of zero, none."""

    def write_area(self, index: int, offset: int, auth: bytes, data: bytes) -> None:
        """The area has the data."""

    def read_area(self, index: int, offset: int, auth: bytes, size: int) -> bytes:
        """Return the data of the area."""


class SealingChip(Protocol):
    """A chip.  Counters have numbers of 32 bits, which the manager keeps, and a secret of their own."""

    family: str
    """The family of the chip: 1.2 or 2.0."""

    def transmit(self, command: bytes) -> bytes:
        """Return the response octets to the octets of *command*."""

    def conversation(self, parent: bytes | None) -> AbstractContextManager[Conversation]:
        """Return a conversation; *parent* is the name that the storage key has to have, if known already.

        Entering raises StateError, one line for people, if this is another chip, and otherwise as the methods
        do.  After leaving, the chip has nothing of it loaded any more.
        """

    def new_counter(self) -> int:
        """Return a number that no counter has."""

    def new_area(self) -> int:
        """Return a number that no NV area has."""

    def has_area(self, number: int) -> bool:
        """Tell whether there is an NV area *number*."""

    def has_counter(self, number: int) -> bool:
        """Tell whether there is a counter *number*."""

    def increment(self, number: int, auth: bytes) -> None:
        """The counter is one higher, durably; nobody between the manager and the chip can say so instead."""
