"""Self-test commands (Part 3, 10)."""

from __future__ import annotations

from collections.abc import Collection

from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm2 import selftest
from hwtpm.tpm2.commands.capability import ALGORITHMS
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.testing import (
    GetTestResult,
    GetTestResultResponse,
    IncrementalSelfTest,
    IncrementalSelfTestResponse,
    SelfTest,
)
from hwtpm.tpm2.types.constants import (
    TPM_RC_FAILURE,
    TPM_RC_SUCCESS,
    TPM_RC_VALUE,
)


@handles
def self_test(tpm: Tpm, cmd: SelfTest) -> Empty:
    """Every algorithm has been tested, again if asked for in full.  Part 3, 10.2.

    TPM_RC_FAILURE: one gave a wrong result, and failure mode begins.  TPM_RC_CANCELED.
    """
    # Internal Data Update
    _test(tpm, selftest.TESTS.keys() if cmd.full_test else _untested(tpm))
    # Command Output
    return Empty()


@handles
def incremental_self_test(tpm: Tpm, cmd: IncrementalSelfTest) -> IncrementalSelfTestResponse:
    """The algorithms named have been tested; those still untested are returned.  Part 3, 10.3.

    TPM_RC_VALUE (parameter 1): one is not implemented.  TPM_RC_FAILURE: one gave a wrong result, and failure
    mode begins.  TPM_RC_CANCELED.
    """
    # Input Validation
    if any(alg not in ALGORITHMS or alg in tpm.platform.left_out for alg in cmd.to_test):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    _test(tpm, [alg for alg in _untested(tpm) if alg in cmd.to_test])
    # Command Output
    return IncrementalSelfTestResponse(_untested(tpm))


@handles
def get_test_result(tpm: Tpm, cmd: GetTestResult) -> GetTestResultResponse:
    """The result of all tests; those not run yet run now: it is never TPM_RC_NEEDS_TEST.  Part 3, 10.4.

    tpm2_gettestresult takes that value for an unknown one.
    """
    # Internal Data Update
    if not tpm.power.failed:
        try:
            _test(tpm, _untested(tpm))
        except TpmError as error:
            if error.rc != TPM_RC_FAILURE:
                raise
    # Command Output: outData is empty unless the TPM is in failure mode.
    if tpm.power.failed:
        return GetTestResultResponse(b"failure", TPM_RC_FAILURE)
    return GetTestResultResponse(b"", TPM_RC_SUCCESS)


def _untested(tpm: Tpm) -> list[int]:
    return [alg for alg in selftest.TESTS if alg not in tpm.power.tested and alg not in tpm.platform.left_out]


def _test(tpm: Tpm, algs: Collection[int]) -> None:
    """Run the tests; a wrong answer is the end: failure mode, TPM_RC_FAILURE (Part 1, 9.3)."""
    for alg in algs:
        tpm.check_cancel()
        try:
            right = selftest.TESTS[alg]()
        except CryptoError:
            right = False
        if not right:
            tpm.power.failed = True
            raise TpmError(TPM_RC_FAILURE)
        tpm.power.tested.add(alg)
