"""Cryptographic functions that sign (Part 3, 13.5, 13.8 and 13.9)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_KEY_HANDLE, TPM_NONCE
from hwtpm.tpm12.types.ordinals import (
    TPM_KEY_DELEGATE_CertifyKey,
    TPM_KEY_DELEGATE_CertifyKey2,
    TPM_KEY_DELEGATE_Sign,
    TPM_ORD_CertifyKey,
    TPM_ORD_CertifyKey2,
    TPM_ORD_Sign,
)
from hwtpm.tpm12.types.signed import TPM_CERTIFY_INFO
from hwtpm.wire import Wire


class SignResponse(Wire):
    sig: SIZED


class Sign(Command[SignResponse]):
    """The key has signed what its scheme makes of the area.  Part 3, 13.5."""

    ORD: ClassVar[int] = TPM_ORD_Sign
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Sign
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    area_to_sign: SIZED


class CertifyKeyResponse(Wire):
    certify_info: TPM_CERTIFY_INFO
    out_data: SIZED


class CertifyKey(Command[CertifyKeyResponse]):
    """One key has signed a description of another.  Part 3, 13.8.

    Of two authorizations the first is for the certifying key, a single one is for the other.
    """

    ORD: ClassVar[int] = TPM_ORD_CertifyKey
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1, 2)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CertifyKey
    KEY_HANDLES: ClassVar[int] = 2
    cert_handle: TPM_KEY_HANDLE
    key_handle: TPM_KEY_HANDLE
    anti_replay: TPM_NONCE


class CertifyKey2(Command[CertifyKeyResponse]):
    """One key has signed a description of another, which may be certified migratable.  Part 3, 13.9.

    Of two authorizations the second is for the certifying key, a single one as well.
    """

    ORD: ClassVar[int] = TPM_ORD_CertifyKey2
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1, 2)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CertifyKey2
    KEY_HANDLES: ClassVar[int] = 2
    key_handle: TPM_KEY_HANDLE
    cert_handle: TPM_KEY_HANDLE
    migration_pub_digest: TPM_DIGEST
    anti_replay: TPM_NONCE
