"""Ownership (Part 3, 6.1 to 6.5)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, UINT16
from hwtpm.tpm12.types.key import TPM_KEY
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_DisableOwnerClear,
    TPM_DELEGATE_OwnerClear,
    TPM_ORD_DisableForceClear,
    TPM_ORD_DisableOwnerClear,
    TPM_ORD_ForceClear,
    TPM_ORD_OwnerClear,
    TPM_ORD_TakeOwnership,
)
from hwtpm.wire import Wire


class TakeOwnershipResponse(Wire):
    srk_pub: TPM_KEY


class TakeOwnership(Command[TakeOwnershipResponse]):
    """The TPM has an owner and a storage root key.  Part 3, 6.1."""

    ORD: ClassVar[int] = TPM_ORD_TakeOwnership
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.ENABLED | Needs.NO_LOCKOUT
    AUDIT_DEFAULT: ClassVar[bool] = True
    LONG: ClassVar[bool] = True
    protocol_id: UINT16
    enc_owner_auth: SIZED
    enc_srk_auth: SIZED
    srk_params: TPM_KEY


class OwnerClear(Command[Empty]):
    """There is no owner any more, and nothing that belonged to him.  Part 3, 6.2."""

    ORD: ClassVar[int] = TPM_ORD_OwnerClear
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_OwnerClear
    AUDIT_DEFAULT: ClassVar[bool] = True


class ForceClear(Command[Empty]):
    """What TPM_OwnerClear does, by somebody who is there.  Part 3, 6.3."""

    ORD: ClassVar[int] = TPM_ORD_ForceClear
    AUDIT_DEFAULT: ClassVar[bool] = True


class DisableOwnerClear(Command[Empty]):
    """TPM_OwnerClear is disabled until TPM_ForceClear.  Part 3, 6.4."""

    ORD: ClassVar[int] = TPM_ORD_DisableOwnerClear
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_DisableOwnerClear
    AUDIT_DEFAULT: ClassVar[bool] = True


class DisableForceClear(Command[Empty]):
    """TPM_ForceClear is disabled until the next TPM_Startup(ST_CLEAR).  Part 3, 6.5."""

    ORD: ClassVar[int] = TPM_ORD_DisableForceClear
    AUDIT_DEFAULT: ClassVar[bool] = True
