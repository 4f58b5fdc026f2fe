"""Admin startup and state (Part 3, 3 and 27.5)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import UINT16
from hwtpm.tpm12.types.ordinals import TPM_ORD_Reset, TPM_ORD_SaveState, TPM_ORD_Startup


class Startup(Command[Empty]):
    """The TPM is started.  Part 3, 3.2."""

    ORD: ClassVar[int] = TPM_ORD_Startup
    NEEDS: ClassVar[Needs] = Needs.NOTHING
    BEFORE_TESTS: ClassVar[bool] = True
    startup_type: UINT16


class SaveState(Command[Empty]):
    """The volatile state is kept for TPM_Startup(ST_STATE).  Part 3, 3.3."""

    ORD: ClassVar[int] = TPM_ORD_SaveState
    NEEDS: ClassVar[Needs] = Needs.WORKING


class Reset(Command[Empty]):
    """All authorization sessions are closed.  Part 3, 27.5."""

    ORD: ClassVar[int] = TPM_ORD_Reset
    NEEDS: ClassVar[Needs] = Needs.WORKING
