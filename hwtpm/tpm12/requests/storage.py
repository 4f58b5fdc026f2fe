"""Storage: sealing, and making, loading and evicting keys (Part 3, 10, 21.1, 27.1 and 27.8)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SECRET_SIZED, SIZED, TPM_BOOL, TPM_ENCAUTH, TPM_KEY_HANDLE, UINT32
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_KeyControlOwner,
    TPM_KEY_DELEGATE_CreateWrapKey,
    TPM_KEY_DELEGATE_GetPubKey,
    TPM_KEY_DELEGATE_LoadKey,
    TPM_KEY_DELEGATE_LoadKey2,
    TPM_KEY_DELEGATE_Seal,
    TPM_KEY_DELEGATE_Sealx,
    TPM_KEY_DELEGATE_UnBind,
    TPM_KEY_DELEGATE_Unseal,
    TPM_ORD_CreateWrapKey,
    TPM_ORD_EvictKey,
    TPM_ORD_GetPubKey,
    TPM_ORD_KeyControlOwner,
    TPM_ORD_LoadKey,
    TPM_ORD_LoadKey2,
    TPM_ORD_Seal,
    TPM_ORD_Sealx,
    TPM_ORD_UnBind,
    TPM_ORD_Unseal,
)
from hwtpm.tpm12.types.storage import TPM_STORED_DATA
from hwtpm.wire import Wire


class SealResponse(Wire):
    sealed_data: TPM_STORED_DATA


class Seal(Command[SealResponse]):
    """The data can be had again from this TPM, in a chosen state of its PCRs.  Part 3, 10.1."""

    ORD: ClassVar[int] = TPM_ORD_Seal
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Seal
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    enc_auth: TPM_ENCAUTH
    pcr_info: SIZED
    in_data: SIZED


class UnsealResponse(Wire):
    secret: SECRET_SIZED


class Unseal(Command[UnsealResponse]):
    """Sealed data is returned; of two authorizations the first is for the parent.  Part 3, 10.2."""

    ORD: ClassVar[int] = TPM_ORD_Unseal
    AUTHS: ClassVar[tuple[int, ...]] = (1, 2)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Unseal
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    in_data: TPM_STORED_DATA


class UnBindResponse(Wire):
    out_data: SECRET_SIZED


class UnBind(Command[UnBindResponse]):
    """What somebody has encrypted for the key is returned.  Part 3, 10.3."""

    ORD: ClassVar[int] = TPM_ORD_UnBind
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_UnBind
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    in_data: SIZED


class CreateWrapKeyResponse(Wire):
    wrapped_key: TPM_KEY


class CreateWrapKey(Command[CreateWrapKeyResponse]):
    """A key is made, and returned under its parent.  Part 3, 10.4."""

    ORD: ClassVar[int] = TPM_ORD_CreateWrapKey
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CreateWrapKey
    AUDIT_DEFAULT: ClassVar[bool] = True
    KEY_HANDLES: ClassVar[int] = 1
    LONG: ClassVar[bool] = True
    parent_handle: TPM_KEY_HANDLE
    data_usage_auth: TPM_ENCAUTH
    data_migration_auth: TPM_ENCAUTH
    key_info: TPM_KEY


class LoadKey2Response(Wire):
    inkey_handle: TPM_KEY_HANDLE


class LoadKey2(Command[LoadKey2Response]):
    """The key has a handle, which the response's authorization does not cover.  Part 3, 10.5."""

    ORD: ClassVar[int] = TPM_ORD_LoadKey2
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_LoadKey2
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    in_key: TPM_KEY


class LoadKeyResponse(Wire):
    inkey_handle: UINT32


class LoadKey(Command[LoadKeyResponse]):
    """The key has a handle, which the response's authorization covers, as in TPM 1.1.  Part 3, 27.8."""

    ORD: ClassVar[int] = TPM_ORD_LoadKey
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_LoadKey
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    in_key: TPM_KEY


class GetPubKeyResponse(Wire):
    pub_key: TPM_PUBKEY


class GetPubKey(Command[GetPubKeyResponse]):
    """The public part of a loaded key is returned.  Part 3, 10.6."""

    ORD: ClassVar[int] = TPM_ORD_GetPubKey
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_GetPubKey
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE


class Sealx(Command[SealResponse]):
    """Like Seal, of data that travels encrypted in both directions.  Part 3, 10.7."""

    ORD: ClassVar[int] = TPM_ORD_Sealx
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Sealx
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    enc_auth: TPM_ENCAUTH
    pcr_info: SIZED
    in_data: SIZED


class KeyControlOwner(Command[Empty]):
    """The loaded key is under the owner's control, or not any more.  Part 3, 21.1."""

    ORD: ClassVar[int] = TPM_ORD_KeyControlOwner
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_KeyControlOwner
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    pub_key: TPM_PUBKEY
    bit_name: UINT32
    bit_value: TPM_BOOL


class EvictKey(Command[Empty]):
    """The key is not loaded any more.  Part 3, 27.1.1."""

    ORD: ClassVar[int] = TPM_ORD_EvictKey
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_HANDLES: ClassVar[int] = 1
    evict_handle: TPM_KEY_HANDLE
