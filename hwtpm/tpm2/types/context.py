"""Saved contexts (Part 2, 14; v185)."""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.base import UINT64
from hwtpm.tpm2.types.interface import TPMI_DH_SAVED, TPMI_RH_HIERARCHY
from hwtpm.tpm2.types.structures import SIZE_OF_2B_DIGEST, TPM2B_DIGEST
from hwtpm.wire import PLUS, Sized, Wire

TPM2B_CONTEXT_SENSITIVE = Annotated[bytes, Sized(profile.MAX_CONTEXT_SIZE)]


class TPMS_CONTEXT_DATA(Wire):
    """What a context blob consists of: an integrity value and encrypted data (Part 2, 14.3)."""

    integrity: TPM2B_DIGEST
    encrypted: TPM2B_CONTEXT_SENSITIVE


TPM2B_CONTEXT_DATA = Annotated[bytes, Sized(SIZE_OF_2B_DIGEST + 2 + profile.MAX_CONTEXT_SIZE)]


class TPMS_CONTEXT(Wire):
    """A saved object, sequence or session (Part 2, 14.5)."""

    sequence: UINT64
    saved_handle: TPMI_DH_SAVED
    hierarchy: Annotated[TPMI_RH_HIERARCHY, PLUS]
    context_blob: TPM2B_CONTEXT_DATA
