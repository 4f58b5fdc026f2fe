"""Which commands the read-only mode refuses (Part 1, 42; Part 3, 24.9, table 207)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hwtpm.errors import TpmError
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.attributes import TPMA_NV_CLEAR_STCLEAR, TPMA_NV_ORDERLY
from hwtpm.tpm2.types.handles import TPM_HT_NV_INDEX

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Tpm

REFUSED: Final = frozenset({
    c.TPM_CC_Create, c.TPM_CC_CreateLoaded, c.TPM_CC_ObjectChangeAuth, c.TPM_CC_SetCommandCodeAuditStatus,
    c.TPM_CC_PCR_Allocate, c.TPM_CC_PCR_SetAuthPolicy, c.TPM_CC_PCR_SetAuthValue, c.TPM_CC_CreatePrimary,
    c.TPM_CC_HierarchyControl, c.TPM_CC_SetPrimaryPolicy, c.TPM_CC_ChangePPS, c.TPM_CC_ChangeEPS,
    c.TPM_CC_Clear, c.TPM_CC_ClearControl, c.TPM_CC_HierarchyChangeAuth,
    c.TPM_CC_DictionaryAttackParameters, c.TPM_CC_PP_Commands, c.TPM_CC_SetAlgorithmSet,
    c.TPM_CC_EvictControl, c.TPM_CC_ClockSet, c.TPM_CC_ClockRateAdjust, c.TPM_CC_SetCapability,
    c.TPM_CC_NV_DefineSpace, c.TPM_CC_NV_UndefineSpace, c.TPM_CC_NV_UndefineSpaceSpecial,
    c.TPM_CC_NV_Increment, c.TPM_CC_NV_GlobalWriteLock, c.TPM_CC_NV_ChangeAuth, c.TPM_CC_NV_DefineSpace2,
})
_OF_VOLATILE_INDICES: Final = frozenset({
    c.TPM_CC_NV_Write, c.TPM_CC_NV_Extend, c.TPM_CC_NV_SetBits, c.TPM_CC_NV_WriteLock, c.TPM_CC_NV_ReadLock,
})
_VOLATILE: Final = TPMA_NV_ORDERLY | TPMA_NV_CLEAR_STCLEAR


def check(tpm: Tpm, code: int, handles: tuple[int, ...]) -> None:
    """Raise TPM_RC_READ_ONLY if the command *code* may not be run with *handles* in read-only mode.

    An NV Index may be written if nothing of it is permanent, and TPM2_PolicySecret may not use a PIN Index.
    This comes before authorization (Part 1, 42.2).
    """
    refused = code in REFUSED
    if code in _OF_VOLATILE_INDICES:
        refused = tpm.nv.get(handles[1]).public.attributes & _VOLATILE != _VOLATILE
    elif code == c.TPM_CC_PolicySecret and handles[0] >> 24 == TPM_HT_NV_INDEX:
        refused = tpm.nv.get(handles[0]).is_pin
    if refused:
        raise TpmError(c.TPM_RC_READ_ONLY)
