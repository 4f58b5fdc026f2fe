"""Structures that are signed (Part 2, 5.14 and 11)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.types.base import SIZED, TPM_BOOL, TPM_COMPOSITE_HASH, TPM_DIGEST, TPM_NONCE, UINT8, UINT16
from hwtpm.tpm12.types.constants import TPM_TAG_CERTIFY_INFO2, TPM_TAG_QUOTE_INFO2, TPM_TAG_SIGNINFO
from hwtpm.tpm12.types.key import STRUCT_VER_1_1, TPM_KEY_FLAGS, TPM_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.wire import Arms, Fixed, On, Wire

FIXED_TEXT = Annotated[bytes, Fixed(4)]
"""Four letters that tell which function signs."""


class TPM_SIGN_INFO(Wire):
    """What is signed where a function has no structure of its own.  Part 2, 5.14."""

    TAG: ClassVar[int] = TPM_TAG_SIGNINFO
    fixed: FIXED_TEXT
    replay: TPM_NONCE
    data: SIZED


class TPM_CERTIFY_INFO(Wire):
    """A TPM_CERTIFY_INFO or TPM_CERTIFY_INFO2.

    TPM_CERTIFY_INFO begins with a TPM_STRUCT_VER 1.1.0.0 and its *pcr_info* is a TPM_PCR_INFO.
    TPM_CERTIFY_INFO2 begins with its tag, a zero octet and the payload type, its *pcr_info* is a
    TPM_PCR_INFO_SHORT, and it has a *migration_authority*.  Part 2, 11.1 and 11.2.
    """

    tag: UINT16
    fill: UINT8
    payload_type: UINT8
    key_usage: UINT16
    key_flags: TPM_KEY_FLAGS
    auth_data_usage: UINT8
    algorithm_parms: TPM_KEY_PARMS
    pubkey_digest: TPM_DIGEST
    data: TPM_NONCE
    parent_pcr_status: TPM_BOOL
    pcr_info: SIZED
    migration_authority: Annotated[
        bytes | None, Arms({STRUCT_VER_1_1: None, TPM_TAG_CERTIFY_INFO2: SIZED}), On("tag")
    ] = None


class TPM_QUOTE_INFO(Wire):
    """*fixed* is QUOT; it begins with a TPM_STRUCT_VER 1.1.0.0.  Part 2, 11.3."""

    version: Annotated[bytes, Fixed(4)]
    fixed: FIXED_TEXT
    digest_value: TPM_COMPOSITE_HASH
    external_data: TPM_NONCE


class TPM_QUOTE_INFO2(Wire):
    """*fixed* is QUT2.  Part 2, 11.4."""

    TAG: ClassVar[int] = TPM_TAG_QUOTE_INFO2
    fixed: FIXED_TEXT
    external_data: TPM_NONCE
    info_short: TPM_PCR_INFO_SHORT
