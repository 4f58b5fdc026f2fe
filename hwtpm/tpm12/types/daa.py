"""Structures of direct anonymous attestation (Part 2, 22)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.types.base import SECRET_SIZED, SIZED, TPM_DIGEST, TPM_SECRET, UINT8, UINT32
from hwtpm.tpm12.types.constants import (
    TPM_TAG_DAA_BLOB,
    TPM_TAG_DAA_CONTEXT,
    TPM_TAG_DAA_ISSUER,
    TPM_TAG_DAA_SENSITIVE,
    TPM_TAG_DAA_TPM,
    DAA_SIZE_issuerModulus,
)
from hwtpm.wire import SECRET, Fixed, Sized, Wire


class TPM_DAA_ISSUER(Wire):
    """What an issuer has published: SHA-1 of each parameter, and q itself.  Part 2, 22.3."""

    TAG: ClassVar[int] = TPM_TAG_DAA_ISSUER
    digest_r0: TPM_DIGEST
    digest_r1: TPM_DIGEST
    digest_s0: TPM_DIGEST
    digest_s1: TPM_DIGEST
    digest_n: TPM_DIGEST
    digest_gamma: TPM_DIGEST
    generic_q: Annotated[bytes, Fixed(26)]


class TPM_DAA_TPM(Wire):
    """What a TPM knows of itself as a member of an issuer's group.  Part 2, 22.4."""

    TAG: ClassVar[int] = TPM_TAG_DAA_TPM
    digest_issuer: TPM_DIGEST
    digest_v0: TPM_DIGEST
    digest_v1: TPM_DIGEST
    rekey: TPM_SECRET
    count: UINT32


class TPM_DAA_CONTEXT(Wire):
    """How far a session is: *stage* is the one that comes next, an empty *scratch* is NULL.  Part 2, 22.5."""

    TAG: ClassVar[int] = TPM_TAG_DAA_CONTEXT
    digest_context: TPM_DIGEST
    digest: TPM_DIGEST
    context_seed: TPM_SECRET
    scratch: Annotated[bytes, Sized(DAA_SIZE_issuerModulus), SECRET]
    stage: UINT8


class TPM_DAA_JOINDATA(Wire):
    """Secrets of a join, which has no tag.  Part 2, 22.6."""

    u0: Annotated[bytes, Fixed(128), SECRET]
    u1: Annotated[bytes, Fixed(138), SECRET]
    digest_n0: TPM_DIGEST


class TPM_DAA_BLOB(Wire):
    """What a join gives and a signature takes back; *sensitive_data* is encrypted.  Part 2, 22.8."""

    TAG: ClassVar[int] = TPM_TAG_DAA_BLOB
    resource_type: UINT32
    label: Annotated[bytes, Fixed(16)]
    blob_integrity: TPM_DIGEST
    additional_data: SIZED
    sensitive_data: SIZED


class TPM_DAA_SENSITIVE(Wire):
    """What is encrypted in a TPM_DAA_BLOB.  Part 2, 22.9."""

    TAG: ClassVar[int] = TPM_TAG_DAA_SENSITIVE
    internal_data: SECRET_SIZED
