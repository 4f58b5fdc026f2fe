"""Delegation commands (Part 3, 19)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_BOOL, TPM_ENCAUTH, TPM_KEY_HANDLE, UINT32
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_Delegate_CreateOwnerDelegation,
    TPM_DELEGATE_Delegate_LoadOwnerDelegation,
    TPM_DELEGATE_Delegate_Manage,
    TPM_DELEGATE_Delegate_UpdateVerification,
    TPM_KEY_DELEGATE_Delegate_CreateKeyDelegation,
    TPM_ORD_Delegate_CreateKeyDelegation,
    TPM_ORD_Delegate_CreateOwnerDelegation,
    TPM_ORD_Delegate_LoadOwnerDelegation,
    TPM_ORD_Delegate_Manage,
    TPM_ORD_Delegate_ReadTable,
    TPM_ORD_Delegate_UpdateVerification,
    TPM_ORD_Delegate_VerifyDelegation,
)
from hwtpm.wire import Wire


class DelegateManageResponse(Wire):
    ret_data: SIZED


class DelegateManage(Command[DelegateManageResponse]):
    """A family is created, changed or gone.  Part 3, 19.1."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_Manage
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_Delegate_Manage
    family_id: UINT32
    op_code: UINT32
    op_data: SIZED


class DelegationResponse(Wire):
    blob: SIZED


class DelegateCreateKeyDelegation(Command[DelegationResponse]):
    """A delegation of the use of a key is returned.  Part 3, 19.2."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_CreateKeyDelegation
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Delegate_CreateKeyDelegation
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    public_info: TPM_DELEGATE_PUBLIC
    del_auth: TPM_ENCAUTH


class DelegateCreateOwnerDelegation(Command[DelegationResponse]):
    """A delegation of the owner's rights is returned.  Part 3, 19.3."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_CreateOwnerDelegation
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_Delegate_CreateOwnerDelegation
    increment: TPM_BOOL
    public_info: TPM_DELEGATE_PUBLIC
    del_auth: TPM_ENCAUTH


class DelegateLoadOwnerDelegation(Command[Empty]):
    """The delegation is in a row of the table.  Part 3, 19.4."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_LoadOwnerDelegation
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_Delegate_LoadOwnerDelegation
    index: UINT32
    blob: SIZED


class DelegateReadTableResponse(Wire):
    family_table: SIZED
    delegate_table: SIZED


class DelegateReadTable(Command[DelegateReadTableResponse]):
    """The public part of both tables is returned.  Part 3, 19.5."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_ReadTable


class DelegateUpdateVerificationResponse(Wire):
    output_data: SIZED


class DelegateUpdateVerification(Command[DelegateUpdateVerificationResponse]):
    """The delegation is verified again.  Part 3, 19.6."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_UpdateVerification
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_Delegate_UpdateVerification
    input_data: SIZED


class DelegateVerifyDelegation(Command[Empty]):
    """The delegation is one that can be used.  Part 3, 19.7."""

    ORD: ClassVar[int] = TPM_ORD_Delegate_VerifyDelegation
    NEEDS: ClassVar[Needs] = Needs.OWNED
    delegation: SIZED
