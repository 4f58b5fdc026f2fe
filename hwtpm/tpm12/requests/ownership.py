"""Endorsement key and ownership (Part 3, 6.1 and 14)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_NONCE, UINT16
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_CreateEndorsementKeyPair,
    TPM_ORD_ReadPubek,
    TPM_ORD_TakeOwnership,
)
from hwtpm.wire import Wire


class PubekResponse(Wire):
    pub_endorsement_key: TPM_PUBKEY
    checksum: TPM_DIGEST


class CreateEndorsementKeyPair(Command[PubekResponse]):
    """The TPM has an endorsement key that cannot be revoked.  Part 3, 14.1."""

    ORD: ClassVar[int] = TPM_ORD_CreateEndorsementKeyPair
    NEEDS: ClassVar[Needs] = Needs.WORKING
    LONG: ClassVar[bool] = True
    anti_replay: TPM_NONCE
    key_info: TPM_KEY_PARMS


class ReadPubek(Command[PubekResponse]):
    """The public endorsement key is returned.  Part 3, 14.4."""

    ORD: ClassVar[int] = TPM_ORD_ReadPubek
    NEEDS: ClassVar[Needs] = Needs.WORKING
    anti_replay: TPM_NONCE


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
