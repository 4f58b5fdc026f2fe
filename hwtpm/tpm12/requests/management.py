"""Administrative functions: management (Part 3, 9)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.ordinals import TPM_DELEGATE_ResetLockValue, TPM_ORD_ResetLockValue


class ResetLockValue(Command[Empty]):
    """Wrong authorizations are forgiven, even while others are refused because of them.  Part 3, 9.3."""

    ORD: ClassVar[int] = TPM_ORD_ResetLockValue
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.ENABLED | Needs.ACTIVATED | Needs.OWNER
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_ResetLockValue
