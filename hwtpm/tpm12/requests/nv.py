"""NV storage and DIR commands (Part 3, 20 and 27.3)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIRVALUE, TPM_ENCAUTH, UINT32
from hwtpm.tpm12.types.nv import TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_DirWriteAuth,
    TPM_DELEGATE_NV_DefineSpace,
    TPM_DELEGATE_NV_ReadValue,
    TPM_DELEGATE_NV_WriteValue,
    TPM_ORD_DirRead,
    TPM_ORD_DirWriteAuth,
    TPM_ORD_NV_DefineSpace,
    TPM_ORD_NV_ReadValue,
    TPM_ORD_NV_ReadValueAuth,
    TPM_ORD_NV_WriteValue,
    TPM_ORD_NV_WriteValueAuth,
)
from hwtpm.wire import Wire

_NV = Needs.WORKING | Needs.NO_LOCKOUT  # commands on areas judge disable and deactivated by themselves


class NVDefineSpace(Command[Empty]):
    """The area is defined, or not defined any more.  Part 3, 20.1."""

    ORD: ClassVar[int] = TPM_ORD_NV_DefineSpace
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.USABLE | Needs.UNLESS_NV_UNLOCKED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_NV_DefineSpace
    pub_info: TPM_NV_DATA_PUBLIC
    enc_auth: TPM_ENCAUTH


class NVWriteValue(Command[Empty]):
    """The area holds the data; with the owner's authorization, or none.  Part 3, 20.2."""

    ORD: ClassVar[int] = TPM_ORD_NV_WriteValue
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = _NV
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_NV_WriteValue
    nv_index: UINT32
    offset: UINT32
    data: SIZED


class NVWriteValueAuth(Command[Empty]):
    """The area holds the data; with the area's own authorization.  Part 3, 20.3."""

    ORD: ClassVar[int] = TPM_ORD_NV_WriteValueAuth
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.USABLE
    nv_index: UINT32
    offset: UINT32
    data: SIZED


class NVReadResponse(Wire):
    data: SIZED


class NVReadValue(Command[NVReadResponse]):
    """Data of the area are returned; with the owner's authorization, or none.  Part 3, 20.4."""

    ORD: ClassVar[int] = TPM_ORD_NV_ReadValue
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = _NV
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_NV_ReadValue
    nv_index: UINT32
    offset: UINT32
    data_size: UINT32


class NVReadValueAuth(Command[NVReadResponse]):
    """Data of the area are returned; with the area's own authorization.  Part 3, 20.5."""

    ORD: ClassVar[int] = TPM_ORD_NV_ReadValueAuth
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.USABLE
    nv_index: UINT32
    offset: UINT32
    data_size: UINT32


class DirWriteAuth(Command[Empty]):
    """The DIR has a new value.  Part 3, 27.3.1."""

    ORD: ClassVar[int] = TPM_ORD_DirWriteAuth
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.USABLE
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_DirWriteAuth
    dir_index: UINT32
    new_contents: TPM_DIRVALUE


class DirReadResponse(Wire):
    dir_contents: TPM_DIRVALUE


class DirRead(Command[DirReadResponse]):
    """The value of the DIR is returned.  Part 3, 27.3.2."""

    ORD: ClassVar[int] = TPM_ORD_DirRead
    dir_index: UINT32
