"""Non-volatile storage (Part 3, 31)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPMT_SIG_SCHEME, TPMT_SIGNATURE
from hwtpm.tpm2.types.base import UINT16, UINT64
from hwtpm.tpm2.types.constants import (
    TPM_CC_NV_Certify,
    TPM_CC_NV_ChangeAuth,
    TPM_CC_NV_DefineSpace,
    TPM_CC_NV_DefineSpace2,
    TPM_CC_NV_Extend,
    TPM_CC_NV_GlobalWriteLock,
    TPM_CC_NV_Increment,
    TPM_CC_NV_Read,
    TPM_CC_NV_ReadLock,
    TPM_CC_NV_ReadPublic,
    TPM_CC_NV_ReadPublic2,
    TPM_CC_NV_SetBits,
    TPM_CC_NV_UndefineSpace,
    TPM_CC_NV_UndefineSpaceSpecial,
    TPM_CC_NV_Write,
    TPM_CC_NV_WriteLock,
)
from hwtpm.tpm2.types.interface import (
    TPMI_DH_OBJECT,
    TPMI_RH_NV_AUTH,
    TPMI_RH_NV_DEFINED_INDEX,
    TPMI_RH_NV_INDEX,
    TPMI_RH_PLATFORM,
    TPMI_RH_PROVISION,
)
from hwtpm.tpm2.types.nv import TPM2B_NV_PUBLIC, TPM2B_NV_PUBLIC_2
from hwtpm.tpm2.types.structures import TPM2B_ATTEST, TPM2B_AUTH, TPM2B_DATA, TPM2B_MAX_NV_BUFFER, TPM2B_NAME
from hwtpm.wire import PLUS, SECRET, Role, Wire


class NVDefineSpace(Command[Empty]):
    """The NV Index exists and is not written.  Part 3, 31.3."""

    CC: ClassVar[int] = TPM_CC_NV_DefineSpace
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PROVISION, Role.USER]
    auth: TPM2B_AUTH
    public_info: TPM2B_NV_PUBLIC


class NVUndefineSpace(Command[Empty]):
    """The NV Index does not exist.  Part 3, 31.4."""

    CC: ClassVar[int] = TPM_CC_NV_UndefineSpace
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PROVISION, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_DEFINED_INDEX, Role.NONE]


class NVUndefineSpaceSpecial(Command[Empty]):
    """The platform's NV Index whose policy protects it from deletion does not exist.  Part 3, 31.5."""

    CC: ClassVar[int] = TPM_CC_NV_UndefineSpaceSpecial
    NV: ClassVar[bool] = True
    nv_index: Annotated[TPMI_RH_NV_DEFINED_INDEX, Role.ADMIN]
    platform: Annotated[TPMI_RH_PLATFORM, Role.USER]


class NVReadPublicResponse(Wire):
    nv_public: TPM2B_NV_PUBLIC
    nv_name: TPM2B_NAME


class NVReadPublic(Command[NVReadPublicResponse]):
    """The public area and the name of the NV Index are returned.  Part 3, 31.6."""

    CC: ClassVar[int] = TPM_CC_NV_ReadPublic
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]


class NVWrite(Command[Empty]):
    """The data are in the NV Index from *offset* on.  Part 3, 31.7."""

    CC: ClassVar[int] = TPM_CC_NV_Write
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    data: Annotated[TPM2B_MAX_NV_BUFFER, SECRET]
    offset: UINT16


class NVIncrement(Command[Empty]):
    """The counter is one higher.  Part 3, 31.8."""

    CC: ClassVar[int] = TPM_CC_NV_Increment
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]


class NVExtend(Command[Empty]):
    """The NV Index is extended with the data as a PCR would be.  Part 3, 31.9."""

    CC: ClassVar[int] = TPM_CC_NV_Extend
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    data: TPM2B_MAX_NV_BUFFER


class NVSetBits(Command[Empty]):
    """The bits are set in the bit field.  Part 3, 31.10."""

    CC: ClassVar[int] = TPM_CC_NV_SetBits
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    bits: UINT64


class NVWriteLock(Command[Empty]):
    """The NV Index is locked for writing, until the next Startup or for ever.  Part 3, 31.11."""

    CC: ClassVar[int] = TPM_CC_NV_WriteLock
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]


class NVGlobalWriteLock(Command[Empty]):
    """Every NV Index with TPMA_NV_GLOBALLOCK is locked for writing.  Part 3, 31.12."""

    CC: ClassVar[int] = TPM_CC_NV_GlobalWriteLock
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PROVISION, Role.USER]


class NVReadResponse(Wire):
    data: Annotated[TPM2B_MAX_NV_BUFFER, SECRET]


class NVRead(Command[NVReadResponse]):
    """*size* octets of the NV Index from *offset* on are returned.  Part 3, 31.13."""

    CC: ClassVar[int] = TPM_CC_NV_Read
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    size: UINT16
    offset: UINT16


class NVReadLock(Command[Empty]):
    """The NV Index cannot be read until the next Startup of type CLEAR.  Part 3, 31.14."""

    CC: ClassVar[int] = TPM_CC_NV_ReadLock
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]


class NVChangeAuth(Command[Empty]):
    """The NV Index has the authorization value.  Part 3, 31.15."""

    CC: ClassVar[int] = TPM_CC_NV_ChangeAuth
    NV: ClassVar[bool] = True
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.ADMIN]
    new_auth: TPM2B_AUTH


class NVCertifyResponse(Wire):
    certify_info: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class NVCertify(Command[NVCertifyResponse]):
    """The signed contents of the NV Index, or their digest, are returned.  Part 3, 31.16."""

    CC: ClassVar[int] = TPM_CC_NV_Certify
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    qualifying_data: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]
    size: UINT16
    offset: UINT16


class NVDefineSpace2(Command[Empty]):
    """The NV Index, which may be external, exists and is not written.  Part 3, 31.17."""

    CC: ClassVar[int] = TPM_CC_NV_DefineSpace2
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PROVISION, Role.USER]
    auth: TPM2B_AUTH
    public_info: TPM2B_NV_PUBLIC_2


class NVReadPublic2Response(Wire):
    nv_public: TPM2B_NV_PUBLIC_2
    nv_name: TPM2B_NAME


class NVReadPublic2(Command[NVReadPublic2Response]):
    """The public area of any kind and the name of the NV Index are returned.  Part 3, 31.18."""

    CC: ClassVar[int] = TPM_CC_NV_ReadPublic2
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
