"""What a virtual TPM has the chip below it sign, and by which commands.

Xen has them: stubdom/vtpm-deepquote.patch and vtpm-parent-sign-ek.patch.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Annotated, Final

from hwtpm.tpm12.types.base import TPM_NONCE, UINT32
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.ordinals import TPM_VENDOR_COMMAND, TPM_ORD_Quote, TPM_ORD_ReadPubek
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.wire import Fixed, Wire, encode

TPM_ORD_DeepQuote: Final = TPM_VENDOR_COMMAND | TPM_ORD_Quote
TPM_ORD_ParentSignEK: Final = TPM_VENDOR_COMMAND | TPM_ORD_ReadPubek

_VERSION: Final = 0  # a TPM_STRUCT_VER of 0.0.0.0


class DEEP_QUOTE_INFO(Wire):
    """PCRs of a virtual TPM and the caller's data."""

    version: UINT32
    fixed: Annotated[bytes, Fixed(4)]
    extern_data: TPM_NONCE
    pcr_data: TPM_PCR_INFO_SHORT


def deep_quote_digest(extern_data: bytes, pcr_data: TPM_PCR_INFO_SHORT) -> bytes:
    """Return the 20 octets that stand for the virtual TPM's PCRs in the quote of the chip."""
    return sha1(encode(DEEP_QUOTE_INFO(_VERSION, b"DQUT", extern_data, pcr_data))).digest()


def endorsement_digest(public: TPM_PUBKEY, extern_data: bytes) -> bytes:
    """Return the 20 octets that stand for an endorsement key: the checksum of TPM_ReadPubek."""
    return sha1(encode(public) + extern_data).digest()
