"""Attached components (Part 3, 32)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_CC_AC_GetCapability, TPM_CC_AC_Send, TPM_CC_Policy_AC_SendSelect
from hwtpm.tpm2.types.creation import TPM_AT, TPML_AC_CAPABILITIES, TPMS_AC_OUTPUT
from hwtpm.tpm2.types.interface import (
    TPMI_DH_OBJECT,
    TPMI_RH_AC,
    TPMI_RH_NV_AUTH,
    TPMI_SH_POLICY,
    TPMI_YES_NO,
)
from hwtpm.tpm2.types.structures import TPM2B_MAX_BUFFER, TPM2B_NAME
from hwtpm.wire import Role, Wire


class ACGetCapabilityResponse(Wire):
    more_data: TPMI_YES_NO
    capabilities_data: TPML_AC_CAPABILITIES


class ACGetCapability(Command[ACGetCapabilityResponse]):
    """At most *count* properties of the attached component are returned.  Part 3, 32.2."""

    CC: ClassVar[int] = TPM_CC_AC_GetCapability
    ac: Annotated[TPMI_RH_AC, Role.NONE]
    capability: TPM_AT
    count: UINT32


class ACSendResponse(Wire):
    ac_data_out: TPMS_AC_OUTPUT


class ACSend(Command[ACSendResponse]):
    """The attached component has the object.  Part 3, 32.3."""

    CC: ClassVar[int] = TPM_CC_AC_Send
    send_object: Annotated[TPMI_DH_OBJECT, Role.DUP]
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    ac: Annotated[TPMI_RH_AC, Role.NONE]
    ac_data_in: TPM2B_MAX_BUFFER


class PolicyACSendSelect(Command[Empty]):
    """The policy is limited to sending to one attached component.  Part 3, 32.4."""

    CC: ClassVar[int] = TPM_CC_Policy_AC_SendSelect
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    object_name: TPM2B_NAME
    auth_handle_name: TPM2B_NAME
    ac_name: TPM2B_NAME
    include_object: TPMI_YES_NO
