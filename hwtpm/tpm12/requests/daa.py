"""Direct anonymous attestation (Part 3, 26)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.types.base import HANDLE, SIZED, UINT8
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_DAA_Join,
    TPM_DELEGATE_DAA_Sign,
    TPM_ORD_DAA_Join,
    TPM_ORD_DAA_Sign,
)
from hwtpm.wire import Wire


class DAAResponse(Wire):
    output_data: SIZED


class DAAJoin(Command[DAAResponse]):
    """One of the stages in which a TPM joins the group of an issuer.  Part 3, 26.1."""

    ORD: ClassVar[int] = TPM_ORD_DAA_Join
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_DAA_Join
    handle: HANDLE
    stage: UINT8
    input_data0: SIZED
    input_data1: SIZED


class DAASign(Command[DAAResponse]):
    """One of the stages in which a TPM signs as a member of the group.  Part 3, 26.2."""

    ORD: ClassVar[int] = TPM_ORD_DAA_Sign
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_DAA_Sign
    handle: HANDLE
    stage: UINT8
    input_data0: SIZED
    input_data1: SIZED
