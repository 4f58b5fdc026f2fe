"""Change of secrets (Part 3, 17 and 27.4)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_ENCAUTH, TPM_KEY_HANDLE, TPM_NONCE, UINT16, UINT32
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS
from hwtpm.tpm12.types.ordinals import (
    TPM_KEY_DELEGATE_ChangeAuth,
    TPM_KEY_DELEGATE_ChangeAuthAsymFinish,
    TPM_KEY_DELEGATE_ChangeAuthAsymStart,
    TPM_ORD_ChangeAuth,
    TPM_ORD_ChangeAuthAsymFinish,
    TPM_ORD_ChangeAuthAsymStart,
    TPM_ORD_ChangeAuthOwner,
)
from hwtpm.tpm12.types.signed import TPM_CERTIFY_INFO
from hwtpm.wire import Wire


class ChangeAuthResponse(Wire):
    out_data: SIZED


class ChangeAuth(Command[ChangeAuthResponse]):
    """An entity has a new secret; who knows the parent's learns it.  Part 3, 17.1.

    The first authorization is for the parent, the second for the entity.
    """

    ORD: ClassVar[int] = TPM_ORD_ChangeAuth
    AUTHS: ClassVar[tuple[int, ...]] = (2,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_ChangeAuth
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    protocol_id: UINT16
    new_auth: TPM_ENCAUTH
    entity_type: UINT16
    enc_data: SIZED


class ChangeAuthOwner(Command[Empty]):
    """The owner or the SRK has a new secret.  Part 3, 17.2."""

    ORD: ClassVar[int] = TPM_ORD_ChangeAuthOwner
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    AUDIT_DEFAULT: ClassVar[bool] = True
    protocol_id: UINT16
    new_auth: TPM_ENCAUTH
    entity_type: UINT16


class ChangeAuthAsymStartResponse(Wire):
    certify_info: TPM_CERTIFY_INFO
    sig: SIZED
    eph_handle: UINT32
    temp_key: TPM_KEY


class ChangeAuthAsymStart(Command[ChangeAuthAsymStartResponse]):
    """A key is loaded for one change of a secret.  Part 3, 27.4.1."""

    ORD: ClassVar[int] = TPM_ORD_ChangeAuthAsymStart
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_ChangeAuthAsymStart
    KEY_HANDLES: ClassVar[int] = 1
    LONG: ClassVar[bool] = True
    id_handle: TPM_KEY_HANDLE
    anti_replay: TPM_NONCE
    temp_key: TPM_KEY_PARMS


class ChangeAuthAsymFinishResponse(Wire):
    out_data: SIZED
    salt_nonce: TPM_NONCE
    change_proof: TPM_DIGEST


class ChangeAuthAsymFinish(Command[ChangeAuthAsymFinishResponse]):
    """An entity has a new secret, which nobody else learns.  Part 3, 27.4.2."""

    ORD: ClassVar[int] = TPM_ORD_ChangeAuthAsymFinish
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_ChangeAuthAsymFinish
    KEY_HANDLES: ClassVar[int] = 2
    parent_handle: TPM_KEY_HANDLE
    eph_handle: TPM_KEY_HANDLE
    entity_type: UINT16
    new_auth_link: TPM_DIGEST
    enc_new_auth: SIZED
    enc_data: SIZED
