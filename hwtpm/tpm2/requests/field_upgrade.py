"""Field upgrade (Part 3, 27)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPMT_SIGNATURE
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_CC_FieldUpgradeData, TPM_CC_FieldUpgradeStart, TPM_CC_FirmwareRead
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT, TPMI_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPM2B_DIGEST, TPM2B_MAX_BUFFER, TPMT_HA
from hwtpm.wire import PLUS, Role, Wire


class FieldUpgradeStart(Command[Empty]):
    """The TPM is in field upgrade mode.  Part 3, 27.2."""

    CC: ClassVar[int] = TPM_CC_FieldUpgradeStart
    authorization: Annotated[TPMI_RH_PLATFORM, Role.ADMIN]
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    fu_digest: TPM2B_DIGEST
    manifest_signature: TPMT_SIGNATURE


class FieldUpgradeDataResponse(Wire):
    next_digest: Annotated[TPMT_HA, PLUS]
    first_digest: TPMT_HA


class FieldUpgradeData(Command[FieldUpgradeDataResponse]):
    """The block is installed and the digest of the next is returned.  Part 3, 27.3."""

    CC: ClassVar[int] = TPM_CC_FieldUpgradeData
    NV: ClassVar[bool] = True
    fu_data: TPM2B_MAX_BUFFER


class FirmwareReadResponse(Wire):
    fu_data: TPM2B_MAX_BUFFER


class FirmwareRead(Command[FirmwareReadResponse]):
    """A block of the installed firmware is returned.  Part 3, 27.4."""

    CC: ClassVar[int] = TPM_CC_FirmwareRead
    sequence_number: UINT32
