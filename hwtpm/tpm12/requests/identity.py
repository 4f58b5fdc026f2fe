"""Identities (Part 3, 15)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_ENCAUTH, TPM_KEY_HANDLE
from hwtpm.tpm12.types.key import TPM_KEY
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_ActivateIdentity,
    TPM_DELEGATE_MakeIdentity,
    TPM_KEY_DELEGATE_ActivateIdentity,
    TPM_KEY_DELEGATE_MakeIdentity,
    TPM_ORD_ActivateIdentity,
    TPM_ORD_MakeIdentity,
)
from hwtpm.tpm12.types.storage import TPM_SYMMETRIC_KEY
from hwtpm.wire import Wire


class MakeIdentityResponse(Wire):
    id_key: TPM_KEY
    identity_binding: SIZED


class MakeIdentity(Command[MakeIdentityResponse]):
    """An identity key is made.  Part 3, 15.1.

    Of two authorizations the first is for the SRK; the last is the owner's.
    """

    ORD: ClassVar[int] = TPM_ORD_MakeIdentity
    AUTHS: ClassVar[tuple[int, ...]] = (1, 2)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_MakeIdentity
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_MakeIdentity
    AUDIT_DEFAULT: ClassVar[bool] = True
    LONG: ClassVar[bool] = True
    identity_auth: TPM_ENCAUTH
    label_priv_ca_digest: TPM_DIGEST
    id_key_params: TPM_KEY


class ActivateIdentityResponse(Wire):
    symmetric_key: TPM_SYMMETRIC_KEY


class ActivateIdentity(Command[ActivateIdentityResponse]):
    """What a CA has sent to the TPM with that identity is decrypted.  Part 3, 15.2.

    Of two authorizations the first is for the identity key; the last is the owner's.
    """

    ORD: ClassVar[int] = TPM_ORD_ActivateIdentity
    AUTHS: ClassVar[tuple[int, ...]] = (1, 2)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_ActivateIdentity
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_ActivateIdentity
    AUDIT_DEFAULT: ClassVar[bool] = True
    KEY_HANDLES: ClassVar[int] = 1
    id_key_handle: TPM_KEY_HANDLE
    blob: SIZED
