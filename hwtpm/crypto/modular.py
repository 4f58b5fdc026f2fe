"""Powers modulo a number of the caller's, for protocols whose exponents are secret."""

from __future__ import annotations

from hwtpm.crypto.errors import OutOfRange


def power(base: int, exponent: int, modulus: int) -> int:
    """Return base**exponent mod modulus, in a time that tells nothing of the exponent but its size.

    No argument is negative; OutOfRange for a *modulus* that is even.
    """
    import gmpy2

    if not modulus & 1:
        raise OutOfRange("an even modulus")
    if not exponent:
        return 1 % modulus
    gmpy2.get_context().allow_release_gil = True
    return int(gmpy2.powmod_sec(base, exponent, modulus))
