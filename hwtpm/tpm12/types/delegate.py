"""Delegation structures (Part 2, 20)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_SECRET, UINT8, UINT32
from hwtpm.tpm12.types.constants import (
    TPM_TAG_DELEGATE_OWNER_BLOB,
    TPM_TAG_DELEGATE_PUBLIC,
    TPM_TAG_DELEGATE_SENSITIVE,
    TPM_TAG_DELEGATIONS,
    TPM_TAG_DELG_KEY_BLOB,
    TPM_TAG_FAMILY_TABLE_ENTRY,
)
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.wire import Wire


class TPM_DELEGATIONS(Wire):
    """What may be done: a bit for each ordinal.  Part 2, 20.2."""

    TAG: ClassVar[int] = TPM_TAG_DELEGATIONS
    delegate_type: UINT32
    per1: UINT32
    per2: UINT32


class TPM_FAMILY_TABLE_ENTRY(Wire):
    """A family of delegations.  Part 2, 20.5."""

    TAG: ClassVar[int] = TPM_TAG_FAMILY_TABLE_ENTRY
    family_label: UINT8
    family_id: UINT32
    verification_count: UINT32
    flags: UINT32


class TPM_DELEGATE_PUBLIC(Wire):
    """A delegation as everybody may see it.  Part 2, 20.8."""

    TAG: ClassVar[int] = TPM_TAG_DELEGATE_PUBLIC
    row_label: UINT8
    pcr_info: TPM_PCR_INFO_SHORT
    permissions: TPM_DELEGATIONS
    family_id: UINT32
    verification_count: UINT32


class TPM_DELEGATE_SENSITIVE(Wire):
    """The secret of a delegation.  Part 2, 20.11."""

    TAG: ClassVar[int] = TPM_TAG_DELEGATE_SENSITIVE
    auth_value: TPM_SECRET


class TPM_DELEGATE_OWNER_BLOB(Wire):
    """A delegation of the owner's rights, kept outside.  Part 2, 20.12.

    *additional_area* has the counter that *sensitive_area* is encrypted with.
    """

    TAG: ClassVar[int] = TPM_TAG_DELEGATE_OWNER_BLOB
    pub: TPM_DELEGATE_PUBLIC
    integrity_digest: TPM_DIGEST
    additional_area: SIZED
    sensitive_area: SIZED


class TPM_DELEGATE_KEY_BLOB(Wire):
    """A delegation of the use of a key, kept outside.  Part 2, 20.13."""

    TAG: ClassVar[int] = TPM_TAG_DELG_KEY_BLOB
    pub: TPM_DELEGATE_PUBLIC
    integrity_digest: TPM_DIGEST
    pub_key_digest: TPM_DIGEST
    additional_area: SIZED
    sensitive_area: SIZED
