"""The capability commands (Part 3, 7 and 28.1)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_KEY_HANDLE, TPM_NONCE, UINT32
from hwtpm.tpm12.types.capability import TPM_VERSION
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_SetCapability,
    TPM_ORD_GetCapability,
    TPM_ORD_GetCapabilityOwner,
    TPM_ORD_GetCapabilitySigned,
    TPM_ORD_SetCapability,
)
from hwtpm.wire import Wire


class GetCapabilityResponse(Wire):
    resp: SIZED


class GetCapability(Command[GetCapabilityResponse]):
    """What the TPM can do or is at this moment is returned.  Part 3, 7.1.

    *cap_area* is a TPM_CAP value of Part 2, 21.1, and *sub_cap* what it says.
    """

    ORD: ClassVar[int] = TPM_ORD_GetCapability
    NEEDS: ClassVar[Needs] = Needs.NO_LOCKOUT
    BEFORE_TESTS: ClassVar[bool] = True
    cap_area: UINT32
    sub_cap: SIZED


class SetCapability(Command[Empty]):
    """A flag or a datum of the TPM has that value.  Part 3, 7.2.

    *cap_area* is a TPM_SET value of Part 2, 21.4; *sub_cap* is a subcapability of Part 2, 7.
    """

    ORD: ClassVar[int] = TPM_ORD_SetCapability
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_SetCapability
    cap_area: UINT32
    sub_cap: SIZED
    set_value: SIZED


class GetCapabilityOwnerResponse(Wire):
    """Bit n of the flags is member n of TPM_PERMANENT_FLAGS and of TPM_STCLEAR_FLAGS."""

    version: TPM_VERSION
    non_volatile_flags: UINT32
    volatile_flags: UINT32


class GetCapabilityOwner(Command[GetCapabilityOwnerResponse]):
    """Version and all flags are returned to the owner.  Part 3, 7.3."""

    ORD: ClassVar[int] = TPM_ORD_GetCapabilityOwner
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED


class GetCapabilitySignedResponse(Wire):
    version: TPM_VERSION
    resp: SIZED
    sig: SIZED


class GetCapabilitySigned(Command[GetCapabilitySignedResponse]):
    """What TPM_GetCapability returns is returned with a signature.  Part 3, 28.1."""

    ORD: ClassVar[int] = TPM_ORD_GetCapabilitySigned
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    anti_replay: TPM_NONCE
    cap_area: UINT32
    sub_cap: SIZED
