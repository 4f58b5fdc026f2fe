"""Platform configuration registers (Part 3, 22)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import (
    TPM_CC_PCR_Allocate,
    TPM_CC_PCR_Event,
    TPM_CC_PCR_Extend,
    TPM_CC_PCR_Read,
    TPM_CC_PCR_Reset,
    TPM_CC_PCR_SetAuthPolicy,
    TPM_CC_PCR_SetAuthValue,
)
from hwtpm.tpm2.types.interface import TPMI_ALG_HASH, TPMI_DH_PCR, TPMI_RH_PLATFORM, TPMI_YES_NO
from hwtpm.tpm2.types.structures import (
    TPM2B_DIGEST,
    TPM2B_EVENT,
    TPML_DIGEST_RESPONSE,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
)
from hwtpm.wire import PLUS, SECRET, Role, Wire


class PCRExtend(Command[Empty]):
    """The PCR is extended in each bank for which a digest is given.  Part 3, 22.2."""

    CC: ClassVar[int] = TPM_CC_PCR_Extend
    NV: ClassVar[bool] = True
    pcr_handle: Annotated[TPMI_DH_PCR, PLUS, Role.USER]
    digests: TPML_DIGEST_VALUES


class PCREventResponse(Wire):
    digests: TPML_DIGEST_VALUES


class PCREvent(Command[PCREventResponse]):
    """The PCR is extended in every bank with the digest of the event.  Part 3, 22.3."""

    CC: ClassVar[int] = TPM_CC_PCR_Event
    NV: ClassVar[bool] = True
    pcr_handle: Annotated[TPMI_DH_PCR, PLUS, Role.USER]
    event_data: TPM2B_EVENT


class PCRReadResponse(Wire):
    pcr_update_counter: UINT32
    pcr_selection_out: TPML_PCR_SELECTION
    pcr_values: TPML_DIGEST_RESPONSE


class PCRRead(Command[PCRReadResponse]):
    """The values of the selected PCRs, or of the first of them, are returned.  Part 3, 22.4."""

    CC: ClassVar[int] = TPM_CC_PCR_Read
    pcr_selection_in: TPML_PCR_SELECTION


class PCRAllocateResponse(Wire):
    allocation_success: TPMI_YES_NO
    max_pcr: UINT32
    size_needed: UINT32
    size_available: UINT32


class PCRAllocate(Command[PCRAllocateResponse]):
    """The banks are allocated as asked from the next TPM Reset on, if they fit.  Part 3, 22.5."""

    CC: ClassVar[int] = TPM_CC_PCR_Allocate
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PLATFORM, Role.USER]
    pcr_allocation: TPML_PCR_SELECTION


class PCRSetAuthPolicy(Command[Empty]):
    """The PCRs of the group have the authorization policy.  Part 3, 22.6."""

    CC: ClassVar[int] = TPM_CC_PCR_SetAuthPolicy
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PLATFORM, Role.USER]
    auth_policy: TPM2B_DIGEST
    hash_alg: Annotated[TPMI_ALG_HASH, PLUS]
    pcr_num: TPMI_DH_PCR


class PCRSetAuthValue(Command[Empty]):
    """The PCRs of the group have the authorization value.  Part 3, 22.7."""

    CC: ClassVar[int] = TPM_CC_PCR_SetAuthValue
    pcr_handle: Annotated[TPMI_DH_PCR, Role.USER]
    auth: Annotated[TPM2B_DIGEST, SECRET]


class PCRReset(Command[Empty]):
    """The PCR is zero in every bank.  Part 3, 22.8."""

    CC: ClassVar[int] = TPM_CC_PCR_Reset
    NV: ClassVar[bool] = True
    pcr_handle: Annotated[TPMI_DH_PCR, Role.USER]
