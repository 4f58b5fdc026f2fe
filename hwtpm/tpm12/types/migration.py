"""Structures of migration (Part 2, 5.12 and 5.15 to 5.21)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.types.base import TPM_DIGEST, UINT16
from hwtpm.tpm12.types.codes import TPM_INVALID_STRUCTURE
from hwtpm.tpm12.types.constants import TPM_TAG_CMK_MA_APPROVAL, TPM_TAG_CMK_MIGAUTH, TPM_TAG_CMK_SIGTICKET
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.wire import ListOf, Wire


class TPM_MIGRATIONKEYAUTH(Wire):
    """The owner allows migration to that key; *digest* proves it.  Part 2, 5.12."""

    migration_key: TPM_PUBKEY
    migration_scheme: UINT16
    digest: TPM_DIGEST


class TPM_MSA_COMPOSITE(Wire):
    """Digests of the public keys of migration authorities.  Part 2, 5.15."""

    mig_auth_digest: Annotated[list[TPM_DIGEST], ListOf(64, least=1, rc=TPM_INVALID_STRUCTURE)]


class TPM_CMK_AUTH(Wire):
    """A migration authority, where to a key may migrate, and the key.  Part 2, 5.16."""

    migration_authority_digest: TPM_DIGEST
    destination_key_digest: TPM_DIGEST
    source_key_digest: TPM_DIGEST


class TPM_CMK_MIGAUTH(Wire):
    """A key and the TPM_MSA_COMPOSITE of who can migrate it.  Part 2, 5.19."""

    TAG: ClassVar[int] = TPM_TAG_CMK_MIGAUTH
    msa_digest: TPM_DIGEST
    pub_key_digest: TPM_DIGEST


class TPM_CMK_SIGTICKET(Wire):
    """A key has signed that data.  Part 2, 5.20."""

    TAG: ClassVar[int] = TPM_TAG_CMK_SIGTICKET
    ver_key_digest: TPM_DIGEST
    signed_data: TPM_DIGEST


class TPM_CMK_MA_APPROVAL(Wire):
    """The owner allows keys of that TPM_MSA_COMPOSITE.  Part 2, 5.21."""

    TAG: ClassVar[int] = TPM_TAG_CMK_MA_APPROVAL
    migration_authority_digest: TPM_DIGEST
