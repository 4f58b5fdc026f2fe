"""Self-tests: with the answers that are known, at power-on and when first needed (Part 1, 7.2; Part 3, 4).

At power-on SHA-1 is tested, which is all that TPM_Startup, TPM_Extend and the SHA-1 commands need.  The other
tests run with TPM_ContinueSelfTest, or before the first command that may need one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from hmac import compare_digest
from typing import Final

from hwtpm.crypto import ids, selftest
from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import MissingPrimitive, TpmError
from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.types.codes import TPM_FAILEDSELFTEST
from hwtpm.tpm12.wrapping import OAEP_LABEL, decrypt, encrypt

_LIMITED: Final = "SHA-1"
TESTS: Final[dict[str, Callable[[], bool]]] = {
    _LIMITED: partial(selftest.hash_is_right, ids.SHA1),
    "HMAC with SHA-1": partial(selftest.hmac_is_right, ids.SHA1),
    "AES-128 in counter mode": partial(selftest.aes_is_right, ids.CTR),
    "AES-128 in output feedback mode": partial(selftest.aes_is_right, ids.OFB),
    "RSA signatures with SHA-1": partial(selftest.rsassa_is_right, ids.SHA1),
    "RSA encryption with SHA-1": partial(selftest.oaep_is_right, ids.SHA1, OAEP_LABEL),
    "RSA with 512 bits": partial(selftest.rsassa_is_right, ids.SHA1, 512),
    "the random number generator": selftest.drbg_is_right,
}
"""The test of each primitive, by the name that people are told; False means a wrong answer."""


@cache
def require_primitives() -> None:
    """Every primitive of TPM 1.2 can be used here; else MissingPrimitive, which names those that cannot.

    A library that is configured for security may refuse SHA-1 and short RSA keys.  This asks it before a
    guest depends on them; whether the answers are right is for the self-tests.
    """
    missing = [name for name, test in TESTS.items() if not _works(test)]
    if missing:
        raise MissingPrimitive(
            f"this machine's cryptographic library refuses {', '.join(missing)}, and a TPM 1.2 needs that: "
            "allow it in the configuration of OpenSSL or in the system's crypto policy, or use a TPM 2.0")


def _works(test: Callable[[], bool]) -> bool:
    try:
        test()
    except Exception:  # Libraries have many ways to refuse, and all of them mean the same here.
        return False
    return True


def run_limited(tpm: Tpm) -> None:
    """What is needed before all tests have run is tested; a wrong answer begins failure mode."""
    _run(tpm, (_LIMITED,))


def run_all(tpm: Tpm) -> None:
    """All tests have run: the TPM is fully tested, or in failure mode."""
    _run(tpm, TESTS)
    if tpm.power.tested is not Tested.FAILED and not _endorsement_key_works(tpm):
        tpm.power.fail("the endorsement key")
    if tpm.power.tested is not Tested.FAILED:
        tpm.power.tested = Tested.FULL


def require_all(tpm: Tpm) -> None:
    """All tests have run now with the right answers; else TPM_FAILEDSELFTEST, and failure mode begins."""
    run_all(tpm)
    if tpm.power.tested is Tested.FAILED:
        raise TpmError(TPM_FAILEDSELFTEST)


def _run(tpm: Tpm, names: Iterable[str]) -> None:
    for name in names:
        try:
            right = TESTS[name]()
        except CryptoError:
            right = False
        if not right:
            tpm.power.fail(name)
            return


def _endorsement_key_works(tpm: Tpm) -> bool:
    """Tell whether the endorsement key, if there is one, decrypts what it encrypts (Part 1, 7.2)."""
    key = tpm.permanent.endorsement_key
    if key is None:
        return True
    message = tpm.random(20)
    try:
        return compare_digest(decrypt(key, encrypt(key.rsa, message)), message)
    except TpmError:
        return False
