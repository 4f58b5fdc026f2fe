"""Commands of a virtual TPM that have the chip below sign, after those of Xen's for TPM 1.2."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import CC_DeepQuote, CC_ParentSignEK
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT, TPMI_RH_ENDORSEMENT
from hwtpm.tpm2.types.structures import TPML_PCR_SELECTION, TPMS_QUOTE_INFO
from hwtpm.wire import Fixed, Role, Sized, Wire

EXTERN_DATA = Annotated[bytes, Fixed(20)]
CHIP_PCRS = Annotated[bytes, Sized(3)]
"""A bit map of the chip's PCRs, the first octet PCR 0 to 7, after its size, a UINT16."""
PARENT_QUOTE = Annotated[bytes, Sized(4096)]
"""What the manager answers GET_QUOTE with, after its size, a UINT16."""


class DeepQuoteResponse(Wire):
    quote: PARENT_QUOTE
    quoted: TPMS_QUOTE_INFO


class DeepQuote(Command[DeepQuoteResponse]):
    """The chip's quote of its PCRs and this TPM's is returned; *flags* are VTPM_QUOTE_FLAGS_."""

    CC: ClassVar[int] = CC_DeepQuote
    LONG: ClassVar[bool] = True
    privacy_admin_handle: Annotated[TPMI_RH_ENDORSEMENT, Role.USER]
    extern_data: EXTERN_DATA
    pcr_select: TPML_PCR_SELECTION
    chip_pcrs: CHIP_PCRS
    flags: UINT32


class ParentSignEKResponse(Wire):
    quote: PARENT_QUOTE


class ParentSignEK(Command[ParentSignEKResponse]):
    """The chip's quote of its PCRs and an endorsement key's Name is returned, before power has gone once."""

    CC: ClassVar[int] = CC_ParentSignEK
    LONG: ClassVar[bool] = True
    privacy_admin_handle: Annotated[TPMI_RH_ENDORSEMENT, Role.USER]
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    extern_data: EXTERN_DATA
    chip_pcrs: CHIP_PCRS
