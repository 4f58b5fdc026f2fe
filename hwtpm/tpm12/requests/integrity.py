"""Integrity collection and reporting (Part 3, 16)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import (
    SIZED,
    TPM_BOOL,
    TPM_DIGEST,
    TPM_KEY_HANDLE,
    TPM_NONCE,
    TPM_PCRVALUE,
    UINT32,
)
from hwtpm.tpm12.types.ordinals import (
    TPM_KEY_DELEGATE_Quote,
    TPM_KEY_DELEGATE_Quote2,
    TPM_ORD_Extend,
    TPM_ORD_PCR_Reset,
    TPM_ORD_PcrRead,
    TPM_ORD_Quote,
    TPM_ORD_Quote2,
)
from hwtpm.tpm12.types.pcr import TPM_PCR_COMPOSITE, TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
from hwtpm.wire import Wire


class ExtendResponse(Wire):
    out_digest: TPM_PCRVALUE


class Extend(Command[ExtendResponse]):
    """The PCR has taken up *in_digest*.  Part 3, 16.1."""

    ORD: ClassVar[int] = TPM_ORD_Extend
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True
    pcr_num: UINT32
    in_digest: TPM_DIGEST


class PcrReadResponse(Wire):
    out_digest: TPM_PCRVALUE


class PcrRead(Command[PcrReadResponse]):
    """The value of the PCR is returned.  Part 3, 16.2."""

    ORD: ClassVar[int] = TPM_ORD_PcrRead
    pcr_index: UINT32


class QuoteResponse(Wire):
    pcr_data: TPM_PCR_COMPOSITE
    sig: SIZED


class Quote(Command[QuoteResponse]):
    """The key has signed the values of PCRs.  Part 3, 16.3."""

    ORD: ClassVar[int] = TPM_ORD_Quote
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Quote
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    external_data: TPM_NONCE
    target_pcr: TPM_PCR_SELECTION


class PCRReset(Command[Empty]):
    """The PCRs have their initial values.  Part 3, 16.4."""

    ORD: ClassVar[int] = TPM_ORD_PCR_Reset
    NEEDS: ClassVar[Needs] = Needs.WORKING
    pcr_selection: TPM_PCR_SELECTION


class Quote2Response(Wire):
    pcr_data: TPM_PCR_INFO_SHORT
    version_info: SIZED
    sig: SIZED


class Quote2(Command[Quote2Response]):
    """The key has signed the values of PCRs and the locality; *version_info* is optional.  Part 3, 16.5."""

    ORD: ClassVar[int] = TPM_ORD_Quote2
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_Quote2
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    external_data: TPM_NONCE
    target_pcr: TPM_PCR_SELECTION
    add_version: TPM_BOOL
