"""Structures of capabilities (Part 2, 21)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.tpm12 import profile
from hwtpm.tpm12.types.base import UINT8, UINT16
from hwtpm.tpm12.types.constants import TPM_TAG_CAP_VERSION_INFO
from hwtpm.wire import Fixed, Sized, Wire

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


VERSION: Final = bytes([1, 2, profile.REV_MAJOR, profile.REV_MINOR])
VERSION_INFO: Final = TPM_CAP_VERSION_INFO(
    VERSION, profile.SPEC_LEVEL, profile.ERRATA_REV, profile.VENDOR_ID, b"")
