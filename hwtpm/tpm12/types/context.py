"""Saved contexts (Part 2, 18)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.types.base import SECRET_SIZED, SIZED, TPM_DIGEST, TPM_NONCE, UINT32
from hwtpm.tpm12.types.constants import TPM_TAG_CONTEXT_SENSITIVE, TPM_TAG_CONTEXTBLOB
from hwtpm.wire import Fixed, Wire

TPM_CONTEXT_LABEL = Annotated[bytes, Fixed(16)]


class TPM_CONTEXT_BLOB(Wire):
    """A resource outside the TPM; *additional_data* is the counter of its encryption.  Part 2, 18.1."""

    TAG: ClassVar[int] = TPM_TAG_CONTEXTBLOB
    resource_type: UINT32
    handle: UINT32
    label: TPM_CONTEXT_LABEL
    context_count: UINT32
    integrity_digest: TPM_DIGEST
    additional_data: SIZED
    sensitive_data: SIZED


class TPM_CONTEXT_SENSITIVE(Wire):
    """What is encrypted in it.  Part 2, 18.2."""

    TAG: ClassVar[int] = TPM_TAG_CONTEXT_SENSITIVE
    context_nonce: TPM_NONCE
    internal_data: SECRET_SIZED
