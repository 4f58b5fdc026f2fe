"""Creation data and attached components (Part 2, 15 and 16; v185)."""

from __future__ import annotations

from typing import Annotated, Final

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.attributes import TPMA_LOCALITY
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.interface import TPM_ALG_ID
from hwtpm.tpm2.types.structures import TPM2B_DATA, TPM2B_DIGEST, TPM2B_NAME, TPML_PCR_SELECTION
from hwtpm.wire import Boxed, ListOf, Wire


class TPMS_CREATION_DATA(Wire):
    """The environment in which an object was created (Part 2, 15.1)."""

    pcr_select: TPML_PCR_SELECTION
    pcr_digest: TPM2B_DIGEST
    locality: TPMA_LOCALITY
    parent_name_alg: TPM_ALG_ID
    parent_name: TPM2B_NAME
    parent_qualified_name: TPM2B_NAME
    outside_info: TPM2B_DATA


TPM2B_CREATION_DATA = Annotated[TPMS_CREATION_DATA, Boxed()]

# 16 Attached components

TPM_AT = UINT32
TPM_AT_ANY: Final = 0x00000000
TPM_AT_ERROR: Final = 0x00000001
TPM_AT_PV1: Final = 0x00000002
TPM_AT_VEND: Final = 0x80000000
TPM_AE = UINT32
TPM_AE_NONE: Final = 0x00000000


class TPMS_AC_OUTPUT(Wire):
    """One value of an attached component (Part 2, 16.3)."""

    tag: TPM_AT
    data: UINT32


TPML_AC_CAPABILITIES = Annotated[list[TPMS_AC_OUTPUT], ListOf(profile.MAX_AC_CAPABILITIES)]
