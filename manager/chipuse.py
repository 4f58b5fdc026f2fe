"""The chip, for those who use it beside the manager's own sealing and counting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hwtpm.tpm12.types.codes import TPM_AREA_LOCKED, TPM_NOSPACE, TPM_SIZE
from manager.attesting import AttestingChip, AttestingConversation, NewAik
from manager.manager import Manager
from manager.refused import Refused

_NO_SECRET: Final = bytes(20)
_AREA_MAX: Final = 0xFFFF  # octets, as a TPM 2.0 counts them
_READ_MAX: Final = 4088 - 10 - 4  # octets: a page of a ring less what goes with them


class ChipUse:
    """The chip of *manager*, used by one at a time.

    Methods raise Refused, and what the manager and the chip raise.
    """

    def __init__(self, manager: Manager, chip: AttestingChip) -> None:
        self.family = chip.family
        self._manager, self._chip = manager, chip

    @contextmanager
    def conversation(self) -> Iterator[AttestingConversation]:
        """A conversation with the chip; nobody else uses the manager meanwhile."""
        with self._manager.exclusive() as parent, self._chip.conversation(parent) as talk:
            yield talk

    def return_code(self, rc: int) -> int:
        """Return the TPM 1.2 return code for an error *rc* of the chip."""
        return self._chip.return_code(rc)

    def make_identity(self, label_digest: bytes) -> NewAik:
        """Return a new identity key that belongs to no group; its secret is 20 zero octets."""
        with self.conversation() as talk:
            return talk.make_aik(label_digest, _NO_SECRET)

    def activate_identity(self, blob: bytes, encrypted: bytes) -> bytes:
        """Return what a privacy CA has *encrypted* for a key of `make_identity`."""
        with self.conversation() as talk:
            return talk.activate(blob, _NO_SECRET, encrypted)

    def endorsement_key(self) -> bytes:
        """Return the public part of the chip's endorsement key."""
        with self.conversation() as talk:
            return talk.endorsement_key()

    def define_area(self, index: int, size: int, auth: bytes) -> None:
        """There is an NV area, or with a size of zero none; TPM_AREA_LOCKED for the manager's own."""
        self._check_area(index, 0, size)
        with self.conversation() as talk:
            talk.define_area(index, size, auth)

    def write_area(self, index: int, offset: int, auth: bytes, data: bytes) -> None:
        """The area has the data."""
        self._check_area(index, offset, len(data))
        with self.conversation() as talk:
            talk.write_area(index, offset, auth, data)

    def read_area(self, index: int, offset: int, auth: bytes, size: int) -> bytes:
        """Return the data of the area; TPM_SIZE for more than a message holds."""
        self._check_area(index, offset, size)
        if size > _READ_MAX:
            raise Refused(TPM_SIZE, f"{size} octets of an NV area at once, not {_READ_MAX}")
        with self.conversation() as talk:
            return talk.read_area(index, offset, auth, size)

    def _check_area(self, index: int, offset: int, size: int) -> None:
        if index in self._manager.reserved():
            raise Refused(TPM_AREA_LOCKED, f"NV area 0x{index:08x} is the manager's own")
        if offset + size > _AREA_MAX:
            raise Refused(TPM_NOSPACE, f"no chip has an NV area of {offset + size} octets")
