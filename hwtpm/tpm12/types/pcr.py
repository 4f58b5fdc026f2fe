"""PCR structures (Part 2, 8)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.tpm12.profile import NUM_PCR
from hwtpm.tpm12.types.base import SIZED, TPM_BOOL, TPM_COMPOSITE_HASH, UINT8
from hwtpm.tpm12.types.codes import TPM_INVALID_PCR_INFO, TPM_INVALID_STRUCTURE
from hwtpm.tpm12.types.constants import TPM_TAG_PCR_INFO_LONG
from hwtpm.wire import Int, Sized, Wire

TPM_LOCALITY_SELECTION = Annotated[int, Int("B", allowed=range(1, 0x20), rc=TPM_INVALID_STRUCTURE)]
"""Bit n stands for locality n; none at all could never be satisfied (Part 2, 8.6)."""
TPM_LOC_ALL: Final = 0x1F


class TPM_PCR_SELECTION(Wire):
    """A bit map of PCRs, the first octet PCR 0 to 7.  Part 2, 8.1."""

    pcr_select: Annotated[bytes, Sized(NUM_PCR // 8, rc=TPM_INVALID_PCR_INFO)]


class TPM_PCR_COMPOSITE(Wire):
    """A selection and the values of the PCRs in it.  Part 2, 8.2."""

    select: TPM_PCR_SELECTION
    pcr_value: SIZED


class TPM_PCR_INFO(Wire):
    """What a 1.1 key or blob is bound to.  Part 2, 8.3."""

    pcr_selection: TPM_PCR_SELECTION
    digest_at_release: TPM_COMPOSITE_HASH
    digest_at_creation: TPM_COMPOSITE_HASH


class TPM_PCR_INFO_LONG(Wire):
    """What a 1.2 key or blob is bound to.  Part 2, 8.4."""

    TAG: ClassVar[int] = TPM_TAG_PCR_INFO_LONG
    locality_at_creation: UINT8
    locality_at_release: TPM_LOCALITY_SELECTION
    creation_pcr_selection: TPM_PCR_SELECTION
    release_pcr_selection: TPM_PCR_SELECTION
    digest_at_creation: TPM_COMPOSITE_HASH
    digest_at_release: TPM_COMPOSITE_HASH


class TPM_PCR_INFO_SHORT(Wire):
    """What releases something, without a record of its creation.  Part 2, 8.5."""

    pcr_selection: TPM_PCR_SELECTION
    locality_at_release: TPM_LOCALITY_SELECTION
    digest_at_release: TPM_COMPOSITE_HASH


class TPM_PCR_ATTRIBUTES(Wire):
    """Who can reset and extend a PCR.  Part 2, 8.8."""

    pcr_reset: TPM_BOOL
    pcr_extend_local: UINT8
    pcr_reset_local: UINT8
