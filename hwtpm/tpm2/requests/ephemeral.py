"""Ephemeral EC keys (Part 3, 19)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.algorithms import (
    TPM2B_ECC_PARAMETER,
    TPM2B_ECC_POINT,
    TPM2B_SENSITIVE_DATA,
    TPMI_ECC_CURVE,
)
from hwtpm.tpm2.types.base import UINT16
from hwtpm.tpm2.types.constants import TPM_CC_Commit, TPM_CC_EC_Ephemeral
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT
from hwtpm.wire import Role, Wire


class CommitResponse(Wire):
    """The points K, L and E; their names are spelled out because one letter says too little."""

    point_k: TPM2B_ECC_POINT
    point_l: TPM2B_ECC_POINT
    point_e: TPM2B_ECC_POINT
    counter: UINT16


class Commit(Command[CommitResponse]):
    """The first part of an anonymous signature is done; *counter* names its ephemeral key.  Part 3, 19.2."""

    CC: ClassVar[int] = TPM_CC_Commit
    LONG: ClassVar[bool] = True
    sign_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    p1: TPM2B_ECC_POINT
    s2: TPM2B_SENSITIVE_DATA
    y2: TPM2B_ECC_PARAMETER


class ECEphemeralResponse(Wire):
    q: TPM2B_ECC_POINT
    counter: UINT16


class ECEphemeral(Command[ECEphemeralResponse]):
    """An ephemeral key for a two-phase exchange exists; *counter* names it.  Part 3, 19.3."""

    CC: ClassVar[int] = TPM_CC_EC_Ephemeral
    curve_id: TPMI_ECC_CURVE
