"""The public areas of NV indices (Part 2, 13; v185).  Their attribute bits are in `attributes`."""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.attributes import TPMA_NV, TPMA_NV_EXP
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_RC_SIZE
from hwtpm.tpm2.types.handles import TPM_HT_EXTERNAL_NV, TPM_HT_NV_INDEX, TPM_HT_PERMANENT_NV
from hwtpm.tpm2.types.interface import TPM_HT, TPMI_ALG_HASH, TPMI_RH_NV_EXP_INDEX, TPMI_RH_NV_LEGACY_INDEX
from hwtpm.tpm2.types.structures import TPM2B_DIGEST
from hwtpm.wire import Arms, Boxed, Int, On, Wire

_DATA_SIZE = Int("H", allowed=range(profile.MAX_NV_INDEX_SIZE + 1), rc=TPM_RC_SIZE)


class TPMS_NV_PIN_COUNTER_PARAMETERS(Wire):
    """The contents of a PIN index (Part 2, 13.3)."""

    pin_count: UINT32
    pin_limit: UINT32


class TPMS_NV_PUBLIC(Wire):
    """The public area of an NV index with 32-bit attributes (Part 2, 13.6)."""

    nv_index: TPMI_RH_NV_LEGACY_INDEX
    name_alg: TPMI_ALG_HASH
    attributes: TPMA_NV
    auth_policy: TPM2B_DIGEST
    data_size: Annotated[int, _DATA_SIZE]


TPM2B_NV_PUBLIC = Annotated[TPMS_NV_PUBLIC, Boxed()]


class TPMS_NV_PUBLIC_EXP_ATTR(Wire):
    """The public area of an external NV index, with 64-bit attributes (Part 2, 13.8)."""

    nv_index: TPMI_RH_NV_EXP_INDEX
    name_alg: TPMI_ALG_HASH
    attributes: TPMA_NV_EXP
    auth_policy: TPM2B_DIGEST
    data_size: Annotated[int, _DATA_SIZE]


TPMU_NV_PUBLIC_2 = Annotated[TPMS_NV_PUBLIC | TPMS_NV_PUBLIC_EXP_ATTR, Arms({
    TPM_HT_NV_INDEX: TPMS_NV_PUBLIC,
    TPM_HT_EXTERNAL_NV: TPMS_NV_PUBLIC_EXP_ATTR,
    TPM_HT_PERMANENT_NV: TPMS_NV_PUBLIC,
})]


class TPMT_NV_PUBLIC_2(Wire):
    """The public area of any NV index (Part 2, 13.10)."""

    handle_type: TPM_HT
    public_area: Annotated[TPMU_NV_PUBLIC_2, On("handle_type")]


TPM2B_NV_PUBLIC_2 = Annotated[TPMT_NV_PUBLIC_2, Boxed()]
