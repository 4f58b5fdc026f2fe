"""Self-test commands (Part 3, 10)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.constants import TPM_CC_GetTestResult, TPM_CC_IncrementalSelfTest, TPM_CC_SelfTest
from hwtpm.tpm2.types.interface import TPM_RC, TPMI_YES_NO
from hwtpm.tpm2.types.structures import TPM2B_MAX_BUFFER, TPML_ALG
from hwtpm.wire import Wire


class SelfTest(Command[Empty]):
    """Every function is tested, or every one that was not tested before.  Part 3, 10.2."""

    CC: ClassVar[int] = TPM_CC_SelfTest
    NV: ClassVar[bool] = True
    LONG: ClassVar[bool] = True
    full_test: TPMI_YES_NO


class IncrementalSelfTestResponse(Wire):
    to_do_list: TPML_ALG


class IncrementalSelfTest(Command[IncrementalSelfTestResponse]):
    """The named algorithms are tested or will be; those still to be tested are returned.  Part 3, 10.3."""

    CC: ClassVar[int] = TPM_CC_IncrementalSelfTest
    NV: ClassVar[bool] = True
    LONG: ClassVar[bool] = True
    to_test: TPML_ALG


class GetTestResultResponse(Wire):
    out_data: TPM2B_MAX_BUFFER
    test_result: TPM_RC


class GetTestResult(Command[GetTestResultResponse]):
    """The result of the self-test is returned; it works in failure mode.  Part 3, 10.4."""

    CC: ClassVar[int] = TPM_CC_GetTestResult
    LONG: ClassVar[bool] = True
