"""The endorsement key (Part 3, 14, 27.6 and 27.7)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import TPM_BOOL, TPM_DIGEST, TPM_NONCE, UINT32
from hwtpm.tpm12.types.key import TPM_KEY_PARMS, TPM_PUBKEY
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_DisablePubekRead,
    TPM_DELEGATE_OwnerReadInternalPub,
    TPM_DELEGATE_OwnerReadPubek,
    TPM_ORD_CreateEndorsementKeyPair,
    TPM_ORD_CreateRevocableEK,
    TPM_ORD_DisablePubekRead,
    TPM_ORD_OwnerReadInternalPub,
    TPM_ORD_OwnerReadPubek,
    TPM_ORD_ReadPubek,
    TPM_ORD_RevokeTrust,
)
from hwtpm.wire import Wire


class PubekResponse(Wire):
    pub_endorsement_key: TPM_PUBKEY
    checksum: TPM_DIGEST


class CreateEndorsementKeyPair(Command[PubekResponse]):
    """The TPM has an endorsement key that cannot be revoked.  Part 3, 14.1."""

    ORD: ClassVar[int] = TPM_ORD_CreateEndorsementKeyPair
    LONG: ClassVar[bool] = True
    anti_replay: TPM_NONCE
    key_info: TPM_KEY_PARMS


class ReadPubek(Command[PubekResponse]):
    """The public endorsement key is returned.  Part 3, 14.4."""

    ORD: ClassVar[int] = TPM_ORD_ReadPubek
    AUDIT_DEFAULT: ClassVar[bool] = True
    anti_replay: TPM_NONCE


class CreateRevocableEKResponse(Wire):
    pub_endorsement_key: TPM_PUBKEY
    checksum: TPM_DIGEST
    output_ek_reset: TPM_NONCE


class CreateRevocableEK(Command[CreateRevocableEKResponse]):
    """The TPM has an endorsement key that can be revoked.  Part 3, 14.2.

    *input_ek_reset* is what revokes it, unless *generate_reset* asks for a new value.
    """

    ORD: ClassVar[int] = TPM_ORD_CreateRevocableEK
    LONG: ClassVar[bool] = True
    anti_replay: TPM_NONCE
    key_info: TPM_KEY_PARMS
    generate_reset: TPM_BOOL
    input_ek_reset: TPM_NONCE


class RevokeTrust(Command[Empty]):
    """The TPM has no endorsement key and no owner.  Part 3, 14.3."""

    ORD: ClassVar[int] = TPM_ORD_RevokeTrust
    ek_reset: TPM_NONCE


class PublicKeyResponse(Wire):
    public_portion: TPM_PUBKEY


class OwnerReadInternalPub(Command[PublicKeyResponse]):
    """The public part of the endorsement key or the SRK is returned.  Part 3, 14.5.

    Unlike other key handles, *key_handle* is covered by the authorization: nobody can exchange it.
    """

    ORD: ClassVar[int] = TPM_ORD_OwnerReadInternalPub
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_OwnerReadInternalPub
    key_handle: UINT32


class OwnerReadPubek(Command[PublicKeyResponse]):
    """The public endorsement key is returned to the owner.  Part 3, 27.6."""

    ORD: ClassVar[int] = TPM_ORD_OwnerReadPubek
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_OwnerReadPubek
    AUDIT_DEFAULT: ClassVar[bool] = True


class DisablePubekRead(Command[Empty]):
    """TPM_ReadPubek is disabled.  Part 3, 27.7."""

    ORD: ClassVar[int] = TPM_ORD_DisablePubekRead
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_DisablePubekRead
    AUDIT_DEFAULT: ClassVar[bool] = True
