"""Structures of capabilities (Part 2, 21)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.tpm12 import profile
from hwtpm.tpm12.types.base import SIZED, UINT8, UINT16, UINT32
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER
from hwtpm.tpm12.types.constants import (
    TPM_TAG_CAP_VERSION_INFO,
    TPM_TAG_DA_ACTION_TYPE,
    TPM_TAG_DA_INFO,
    TPM_TAG_DA_INFO_LIMITED,
)
from hwtpm.wire import Fixed, Int, ListOf, Sized, Wire

TPM_VERSION = Annotated[bytes, Fixed(4)]
"""Major and minor number of the specification, then of this TPM (Part 2, 5.3)."""


class TPM_CAP_VERSION_INFO(Wire):
    """What this TPM is.  Part 2, 21.6."""

    TAG: ClassVar[int] = TPM_TAG_CAP_VERSION_INFO
    version: TPM_VERSION
    spec_level: UINT16
    errata_rev: UINT8
    tpm_vendor_id: Annotated[bytes, Fixed(4)]
    vendor_specific: Annotated[bytes, Sized(0xFFFF)]


class TPM_KEY_HANDLE_LIST(Wire):
    """Handles of one kind of resource.  Part 2, 5.7."""

    handles: Annotated[list[UINT32], ListOf(0xFFFF, prefix="H")]


class TPM_SELECT_SIZE(Wire):
    """A version of the specification, 1.1 or 1.2, and a size of PCR selections in octets.  Part 2, 5.18."""

    major: Annotated[int, Int("B", allowed=(1,), rc=TPM_BAD_PARAMETER)]
    minor: Annotated[int, Int("B", allowed=(1, 2), rc=TPM_BAD_PARAMETER)]
    req_size: UINT16


class TPM_DA_ACTION_TYPE(Wire):
    """What happens when the threshold is reached: TPM_DA_ACTION bits.  Part 2, 21.10."""

    TAG: ClassVar[int] = TPM_TAG_DA_ACTION_TYPE
    actions: UINT32


class TPM_DA_INFO(Wire):
    """The defence against dictionary attacks.  Part 2, 21.7.

    *action_depend_value* is how many seconds authorizations are still refused.
    """

    TAG: ClassVar[int] = TPM_TAG_DA_INFO
    state: UINT8
    current_count: UINT16
    threshold_count: UINT16
    action_at_threshold: TPM_DA_ACTION_TYPE
    action_depend_value: UINT32
    vendor_data: SIZED


class TPM_DA_INFO_LIMITED(Wire):
    """What is told of it while the owner wants no more to be told.  Part 2, 21.8."""

    TAG: ClassVar[int] = TPM_TAG_DA_INFO_LIMITED
    state: UINT8
    action_at_threshold: TPM_DA_ACTION_TYPE
    vendor_data: SIZED


VERSION: Final = bytes([1, 2, profile.REV_MAJOR, profile.REV_MINOR])
VERSION_INFO: Final = TPM_CAP_VERSION_INFO(
    VERSION, profile.SPEC_LEVEL, profile.ERRATA_REV, profile.VENDOR_ID, b"")
