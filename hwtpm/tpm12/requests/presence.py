"""Physical presence and the establishment bit (Part 3, 6.6 and 6.7)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import UINT16
from hwtpm.tpm12.types.ordinals import TSC_ORD_PhysicalPresence, TSC_ORD_ResetEstablishmentBit


class PhysicalPresence(Command[Empty]):
    """Somebody is there or not, or a way to tell it is enabled or disabled for good.  Part 3, 6.6.

    *physical_presence* has TPM_PHYSICAL_PRESENCE bits.
    """

    ORD: ClassVar[int] = TSC_ORD_PhysicalPresence
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True
    physical_presence: UINT16


class ResetEstablishmentBit(Command[Empty]):
    """The record of a dynamic launch is gone.  Part 3, 6.7."""

    ORD: ClassVar[int] = TSC_ORD_ResetEstablishmentBit
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True
