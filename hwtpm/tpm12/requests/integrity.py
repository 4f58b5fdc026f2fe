"""Integrity collection and reporting (Part 3, 16)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import TPM_DIGEST, TPM_PCRVALUE, UINT32
from hwtpm.tpm12.types.ordinals import TPM_ORD_Extend, TPM_ORD_PCR_Reset, TPM_ORD_PcrRead
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
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


class PCRReset(Command[Empty]):
    """The PCRs have their initial values.  Part 3, 16.4."""

    ORD: ClassVar[int] = TPM_ORD_PCR_Reset
    NEEDS: ClassVar[Needs] = Needs.WORKING
    pcr_selection: TPM_PCR_SELECTION
