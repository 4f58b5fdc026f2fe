"""Auditing (Part 3, 8)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_BOOL, TPM_DIGEST, TPM_KEY_HANDLE, TPM_NONCE, UINT32
from hwtpm.tpm12.types.counter import TPM_COUNTER_VALUE
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_SetOrdinalAuditStatus,
    TPM_KEY_DELEGATE_GetAuditDigestSigned,
    TPM_ORD_GetAuditDigest,
    TPM_ORD_GetAuditDigestSigned,
    TPM_ORD_SetOrdinalAuditStatus,
)
from hwtpm.wire import Wire


class GetAuditDigestResponse(Wire):
    """*ord_list* has four octets for each audited ordinal."""

    counter_value: TPM_COUNTER_VALUE
    audit_digest: TPM_DIGEST
    more: TPM_BOOL
    ord_list: SIZED


class GetAuditDigest(Command[GetAuditDigestResponse]):
    """The audit digest and the audited ordinals from *start_ordinal* on are returned.  Part 3, 8.3."""

    ORD: ClassVar[int] = TPM_ORD_GetAuditDigest
    AUDITABLE: ClassVar[bool] = False
    start_ordinal: UINT32


class GetAuditDigestSignedResponse(Wire):
    counter_value: TPM_COUNTER_VALUE
    audit_digest: TPM_DIGEST
    ordinal_digest: TPM_DIGEST
    sig: SIZED


class GetAuditDigestSigned(Command[GetAuditDigestSignedResponse]):
    """The audit digest is returned with a signature; the audit session ends if asked to.  Part 3, 8.4."""

    ORD: ClassVar[int] = TPM_ORD_GetAuditDigestSigned
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_GetAuditDigestSigned
    AUDITABLE: ClassVar[bool] = False
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    close_audit: TPM_BOOL
    anti_replay: TPM_NONCE


class SetOrdinalAuditStatus(Command[Empty]):
    """The command is audited from now on, or not.  Part 3, 8.5."""

    ORD: ClassVar[int] = TPM_ORD_SetOrdinalAuditStatus
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_SetOrdinalAuditStatus
    AUDIT_DEFAULT: ClassVar[bool] = True
    ordinal_to_audit: UINT32
    audit_state: TPM_BOOL
