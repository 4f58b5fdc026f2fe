"""Admin testing (Part 3, 4 and 28.3)."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12 import selftest
from hwtpm.tpm12.auth import authorize_key, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.testing import (
    CertifySelfTest,
    CertifySelfTestResponse,
    ContinueSelfTest,
    GetTestResult,
    GetTestResultResponse,
    SelfTestFull,
)
from hwtpm.tpm12.signing import require_signing, sign
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.types.codes import TPM_BAD_SCHEME
from hwtpm.tpm12.types.constants import TPM_SS_RSASSAPKCS1v15_SHA1
from hwtpm.tpm12.types.ordinals import TPM_ORD_CertifySelfTest

_PASSED: Final = b"Test Passed"


@handles
def self_test_full(tpm: Tpm, call: Call, cmd: SelfTestFull) -> Empty:
    """Everything has been tested; TPM_FAILEDSELFTEST, and failure mode, for a wrong answer.  Part 3, 4.1."""
    # Internal Data Update
    selftest.require_all(tpm)
    # Command Output
    return Empty()


@handles
def continue_self_test(tpm: Tpm, call: Call, cmd: ContinueSelfTest) -> Empty:
    """What was not tested has been, or everything where the flags want that.  Part 3, 4.2."""
    # Internal Data Update
    flags = tpm.flags.permanent
    if tpm.power.tested is Tested.LIMITED or flags.fips or flags.tpm_post:
        selftest.require_all(tpm)
    # Command Output
    return Empty()


@handles
def get_test_result(tpm: Tpm, call: Call, cmd: GetTestResult) -> GetTestResultResponse:
    """One line says how far the tests have come, or which one failed.  Part 3, 4.3."""
    # Command Output
    text = {Tested.LIMITED: "limited tests passed", Tested.FULL: "all tests passed",
            Tested.FAILED: f"failed: {tpm.power.failure}"}[tpm.power.tested]
    return GetTestResultResponse(text.encode())


@handles
def certify_self_test(tpm: Tpm, call: Call, cmd: CertifySelfTest) -> CertifySelfTestResponse:
    """Everything has been tested, which the key signs with the caller's nonce.  Part 3, 28.3.

    TPM_FAILEDSELFTEST, and failure mode, for a wrong answer.
    """
    # Input Validation
    selftest.require_all(tpm)
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    if key.public.algorithm_parms.sig_scheme != TPM_SS_RSASSAPKCS1v15_SHA1:
        raise TpmError(TPM_BAD_SCHEME)
    require_signing(key)
    # Command Output
    message = _PASSED + cmd.anti_replay + TPM_ORD_CertifySelfTest.to_bytes(4, "big")
    return CertifySelfTestResponse(sign(key, sha1(message).digest()))
