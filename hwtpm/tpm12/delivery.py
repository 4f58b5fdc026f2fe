"""A TPM 1.2 as a platform is sold with it (Part 1, 10 and 12; the PC Client specification, 1.4.3).

The maker of the chip gives it an endorsement key; the maker of the platform enables and activates it, lets
software say that somebody is present, and locks its NV storage.
"""

from __future__ import annotations

from collections.abc import Callable

from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.tpm12.commands.endorsement import new_endorsement_key
from hwtpm.tpm12.engine import Engine
from hwtpm.tpm12.types.constants import TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE
from hwtpm.tpm12.types.key import TPM_KEY_PARMS, TPM_RSA_KEY_PARMS
from hwtpm.wire import encode


def delivered(entropy: Callable[[int], bytes], now: Callable[[], int], snapshot: bytes | None = None,
              seed: bytes | None = None,
              primes: Callable[[int, int], tuple[int, int] | None] | None = None,
              running: bytes | None = None, *, endorsement_key: bool = True,
              nv_locked: bool = True) -> Engine:
    """Return the engine of *snapshot*, or a new one as its platform comes; arguments as those of `Engine`.

    With a *seed*, the endorsement key comes from it as well.  Without *endorsement_key* there is none yet;
    without *nv_locked* the maker of the platform can still define indices of its own.
    """
    engine = Engine(entropy, now, snapshot, seed, primes, running)
    if snapshot is None:
        tpm = engine.tpm
        tpm.flags.set(disable=False, deactivated=False, physical_presence_cmd_enable=True,
                      nv_locked=nv_locked)
        if endorsement_key:
            parms = encode(TPM_RSA_KEY_PARMS(2048, 2, b""))
            if seed is not None:
                drbg = CtrDrbg(b"endorsement key" + seed)
                tpm.primes = lambda bits, exponent: _primes(bits, exponent, drbg.generate)
            new_endorsement_key(
                tpm, TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, parms))
            tpm.primes = primes
    return engine


def _primes(bits: int, exponent: int, random: Callable[[int], bytes]) -> tuple[int, int]:
    from hwtpm.crypto.primes import generate_rsa

    return generate_rsa(bits, exponent, random, bool)
