"""Flags that the TPM keeps (Part 2, 7.1 to 7.3)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.types.base import TPM_BOOL
from hwtpm.tpm12.types.constants import TPM_TAG_PERMANENT_FLAGS, TPM_TAG_STCLEAR_FLAGS
from hwtpm.wire import Wire


class TPM_PERMANENT_FLAGS(Wire):
    """Not affected by any TPM_Startup.  The defaults are those of a new TPM.  Part 2, 7.1."""

    TAG: ClassVar[int] = TPM_TAG_PERMANENT_FLAGS
    disable: TPM_BOOL = 1
    ownership: TPM_BOOL = 1
    deactivated: TPM_BOOL = 1
    read_pubek: TPM_BOOL = 1
    disable_owner_clear: TPM_BOOL = 0
    allow_maintenance: TPM_BOOL = 1
    physical_presence_lifetime_lock: TPM_BOOL = 0
    physical_presence_hw_enable: TPM_BOOL = 0
    physical_presence_cmd_enable: TPM_BOOL = 0
    cekp_used: TPM_BOOL = 0
    tpm_post: TPM_BOOL = 0
    tpm_post_lock: TPM_BOOL = 0
    fips: TPM_BOOL = 0
    operator: TPM_BOOL = 0
    enable_revoke_ek: TPM_BOOL = 1
    nv_locked: TPM_BOOL = 0
    read_srk_pub: TPM_BOOL = 0
    tpm_established: TPM_BOOL = 0
    maintenance_done: TPM_BOOL = 0
    disable_full_da_logic_info: TPM_BOOL = 0


class TPM_STCLEAR_FLAGS(Wire):
    """Reset by TPM_Startup(ST_CLEAR).  Part 2, 7.2."""

    TAG: ClassVar[int] = TPM_TAG_STCLEAR_FLAGS
    deactivated: TPM_BOOL = 0
    disable_force_clear: TPM_BOOL = 0
    physical_presence: TPM_BOOL = 0
    physical_presence_lock: TPM_BOOL = 0
    b_global_lock: TPM_BOOL = 0
