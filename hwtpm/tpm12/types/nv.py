"""NV storage structures (Part 2, 19)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.types.base import TPM_BOOL, UINT32
from hwtpm.tpm12.types.constants import TPM_TAG_NV_ATTRIBUTES, TPM_TAG_NV_DATA_PUBLIC
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.wire import Wire


class TPM_NV_ATTRIBUTES(Wire):
    """*attributes* are TPM_NV_PER bits.  Part 2, 19.2."""

    TAG: ClassVar[int] = TPM_TAG_NV_ATTRIBUTES
    attributes: UINT32


class TPM_NV_DATA_PUBLIC(Wire):
    """Describes an area: who may read and write it, and what locks it at this moment.  Part 2, 19.3."""

    TAG: ClassVar[int] = TPM_TAG_NV_DATA_PUBLIC
    nv_index: UINT32
    pcr_info_read: TPM_PCR_INFO_SHORT
    pcr_info_write: TPM_PCR_INFO_SHORT
    permission: TPM_NV_ATTRIBUTES
    b_read_stclear: TPM_BOOL
    b_write_stclear: TPM_BOOL
    b_write_define: TPM_BOOL
    data_size: UINT32
