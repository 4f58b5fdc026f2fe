"""Admin testing (Part 3, 4 and 28.3)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_KEY_HANDLE, TPM_NONCE
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_CertifySelfTest,
    TPM_ORD_ContinueSelfTest,
    TPM_ORD_GetTestResult,
    TPM_ORD_SelfTestFull,
)
from hwtpm.wire import Wire


class SelfTestFull(Command[Empty]):
    """The TPM has tested everything.  Part 3, 4.1."""

    ORD: ClassVar[int] = TPM_ORD_SelfTestFull
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True


class ContinueSelfTest(Command[Empty]):
    """The TPM has tested what it had not.  Part 3, 4.2."""

    ORD: ClassVar[int] = TPM_ORD_ContinueSelfTest
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True


class GetTestResultResponse(Wire):
    out_data: SIZED


class GetTestResult(Command[GetTestResultResponse]):
    """What the tests have found is returned, in failure mode too.  Part 3, 4.3."""

    ORD: ClassVar[int] = TPM_ORD_GetTestResult
    NEEDS: ClassVar[Needs] = Needs.NO_LOCKOUT
    BEFORE_TESTS: ClassVar[bool] = True


class CertifySelfTestResponse(Wire):
    sig: SIZED


class CertifySelfTest(Command[CertifySelfTestResponse]):
    """The TPM has tested everything and certifies it.  Part 3, 28.3."""

    ORD: ClassVar[int] = TPM_ORD_CertifySelfTest
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    anti_replay: TPM_NONCE
