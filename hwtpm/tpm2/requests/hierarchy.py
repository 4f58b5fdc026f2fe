"""Hierarchy commands (Part 3, 24)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPM2B_SENSITIVE_CREATE
from hwtpm.tpm2.types.constants import (
    TPM_CC_ChangeEPS,
    TPM_CC_ChangePPS,
    TPM_CC_Clear,
    TPM_CC_ClearControl,
    TPM_CC_CreatePrimary,
    TPM_CC_HierarchyChangeAuth,
    TPM_CC_HierarchyControl,
    TPM_CC_ReadOnlyControl,
    TPM_CC_SetPrimaryPolicy,
)
from hwtpm.tpm2.types.creation import TPM2B_CREATION_DATA
from hwtpm.tpm2.types.handles import TPM_HANDLE
from hwtpm.tpm2.types.interface import (
    TPMI_ALG_HASH,
    TPMI_RH_BASE_HIERARCHY,
    TPMI_RH_CLEAR,
    TPMI_RH_ENABLES,
    TPMI_RH_HIERARCHY,
    TPMI_RH_HIERARCHY_AUTH,
    TPMI_RH_HIERARCHY_POLICY,
    TPMI_RH_PLATFORM,
    TPMI_YES_NO,
)
from hwtpm.tpm2.types.objects import TPM2B_PUBLIC
from hwtpm.tpm2.types.structures import (
    TPM2B_AUTH,
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_NAME,
    TPML_PCR_SELECTION,
    TPMT_TK_CREATION,
)
from hwtpm.wire import PLUS, Role, Wire


class CreatePrimaryResponse(Wire):
    object_handle: Annotated[TPM_HANDLE, Role.NONE]
    out_public: TPM2B_PUBLIC
    creation_data: TPM2B_CREATION_DATA
    creation_hash: TPM2B_DIGEST
    creation_ticket: TPMT_TK_CREATION
    name: TPM2B_NAME


class CreatePrimary(Command[CreatePrimaryResponse]):
    """The primary object of the template and the seed is loaded at a transient handle.  Part 3, 24.1."""

    CC: ClassVar[int] = TPM_CC_CreatePrimary
    LONG: ClassVar[bool] = True
    primary_handle: Annotated[TPMI_RH_HIERARCHY, Role.USER]
    in_sensitive: TPM2B_SENSITIVE_CREATE
    in_public: TPM2B_PUBLIC
    outside_info: TPM2B_DATA
    creation_pcr: TPML_PCR_SELECTION


class HierarchyControl(Command[Empty]):
    """The hierarchy is enabled, or disabled and its transient objects flushed.  Part 3, 24.2."""

    CC: ClassVar[int] = TPM_CC_HierarchyControl
    NV: ClassVar[bool] = True
    EXTENSIVE: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_BASE_HIERARCHY, Role.USER]
    enable: TPMI_RH_ENABLES
    state: TPMI_YES_NO


class SetPrimaryPolicy(Command[Empty]):
    """The hierarchy has the authorization policy.  Part 3, 24.3."""

    CC: ClassVar[int] = TPM_CC_SetPrimaryPolicy
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_HIERARCHY_POLICY, Role.USER]
    auth_policy: TPM2B_DIGEST
    hash_alg: Annotated[TPMI_ALG_HASH, PLUS]


class ChangePPS(Command[Empty]):
    """The platform primary seed is new and its objects are gone.  Part 3, 24.4."""

    CC: ClassVar[int] = TPM_CC_ChangePPS
    NV: ClassVar[bool] = True
    EXTENSIVE: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PLATFORM, Role.USER]


class ChangeEPS(Command[Empty]):
    """The endorsement primary seed is new and its objects are gone.  Part 3, 24.5."""

    CC: ClassVar[int] = TPM_CC_ChangeEPS
    NV: ClassVar[bool] = True
    EXTENSIVE: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PLATFORM, Role.USER]


class Clear(Command[Empty]):
    """What the owner made is gone and the storage primary seed is new.  Part 3, 24.6."""

    CC: ClassVar[int] = TPM_CC_Clear
    NV: ClassVar[bool] = True
    EXTENSIVE: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_CLEAR, Role.USER]


class ClearControl(Command[Empty]):
    """Clear is disabled or enabled.  Part 3, 24.7."""

    CC: ClassVar[int] = TPM_CC_ClearControl
    NV: ClassVar[bool] = True
    auth: Annotated[TPMI_RH_CLEAR, Role.USER]
    disable: TPMI_YES_NO


class HierarchyChangeAuth(Command[Empty]):
    """The hierarchy or lockout has the authorization value.  Part 3, 24.8."""

    CC: ClassVar[int] = TPM_CC_HierarchyChangeAuth
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_HIERARCHY_AUTH, Role.USER]
    new_auth: TPM2B_AUTH


class ReadOnlyControl(Command[Empty]):
    """The TPM is in read-only mode, or is not.  Part 3, 24.9."""

    CC: ClassVar[int] = TPM_CC_ReadOnlyControl
    auth_handle: Annotated[TPMI_RH_PLATFORM, Role.USER]
    state: TPMI_YES_NO
