"""Capability commands (Part 3, 30)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_CC_GetCapability, TPM_CC_SetCapability, TPM_CC_TestParms
from hwtpm.tpm2.types.interface import TPM_CAP, TPMI_RH_HIERARCHY_AUTH, TPMI_YES_NO
from hwtpm.tpm2.types.objects import TPMT_PUBLIC_PARMS
from hwtpm.tpm2.types.structures import TPM2B_SET_CAPABILITY_DATA, TPMS_CAPABILITY_DATA
from hwtpm.wire import PLUS, Role, Wire


class GetCapabilityResponse(Wire):
    more_data: TPMI_YES_NO
    capability_data: TPMS_CAPABILITY_DATA


class GetCapability(Command[GetCapabilityResponse]):
    """At most *property_count* values of the group from *property* on are returned.  Part 3, 30.2."""

    CC: ClassVar[int] = TPM_CC_GetCapability
    capability: TPM_CAP
    property: UINT32
    property_count: UINT32


class TestParms(Command[Empty]):
    """The TPM supports this combination of algorithm parameters.  Part 3, 30.3."""

    __test__: ClassVar[bool] = False  # pytest would take the name for that of a test class.
    CC: ClassVar[int] = TPM_CC_TestParms
    parameters: TPMT_PUBLIC_PARMS


class SetCapability(Command[Empty]):
    """The capability has the given value.  Part 3, 30.4."""

    CC: ClassVar[int] = TPM_CC_SetCapability
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_HIERARCHY_AUTH, PLUS, Role.USER]
    set_capability_data: TPM2B_SET_CAPABILITY_DATA
