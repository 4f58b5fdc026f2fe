"""Search for RSA primes: a sieve, then Miller-Rabin (Part 1, 43.8; FIPS 186-5, A.1.3 and B.3.1).

All randomness, that of the witnesses as well, comes from the caller in a fixed order, so the same
octets make the same key: that is how a primary RSA key is derived from its seed.  The modular powers
(`powers`) run without the interpreter lock, and the caller is asked again and again whether the search
still matters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from hwtpm.crypto import powers
from hwtpm.crypto.errors import Cancelled, OutOfRange

Entropy = Callable[[int], bytes]
"""Gives as many octets as it is asked for."""

_WINDOW: Final = 1024
"""Odd numbers sieved at a time, about three times as many as a prime of 1024 bits takes."""

_SPAN: Final = 2 * _WINDOW

_LIMIT: Final = 1 << 16
"""Numbers with a factor below this are not tested; more sieving costs more than it saves."""

_TOGETHER: Final = 2
"""Candidates tested at a time: for two of them `powers` may need no longer than for one."""

_GROUP: Final = 240
"""Bits of a product of small primes: one long division stands for a division by each of them."""


@functools.cache
def _small_primes() -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return the odd primes below _LIMIT in groups, each with its product of at most _GROUP bits."""
    flags = bytearray(b"\x01") * _LIMIT
    for i in range(3, math.isqrt(_LIMIT) + 1, 2):
        if flags[i]:
            flags[i * i :: 2 * i] = bytes(len(range(i * i, _LIMIT, 2 * i)))
    groups: list[tuple[int, tuple[int, ...]]] = []
    product = 1
    group: list[int] = []
    for r in range(3, _LIMIT, 2):
        if not flags[r]:
            continue
        if (product * r).bit_length() > _GROUP:
            groups.append((product, tuple(group)))
            product, group = 1, []
        product *= r
        group.append(r)
    groups.append((product, tuple(group)))
    return tuple(groups)


def _candidates(start: int) -> Iterator[int]:
    """Yield the numbers start + 2*i, i < _WINDOW, that have no factor below _LIMIT; *start* is odd."""
    composite = bytearray(_WINDOW)
    for product, group in _small_primes():
        residue = -start % product
        for r in group:
            gap = residue % r  # start + gap is divisible by r; most primes have no multiple in the window
            if gap < _SPAN or r < _SPAN:
                i = (gap + r if gap & 1 else gap) >> 1
                if i < _WINDOW:
                    composite[i::r] = b"\x01" * ((_WINDOW - 1 - i) // r + 1)
    i = composite.find(0)
    while i >= 0:
        yield start + 2 * i
        i = composite.find(0, i + 1)


def rounds(bits: int) -> int:
    """Return how many Miller-Rabin rounds a prime factor of *bits* bits takes (FIPS 186-5, Table B.1).

    The value for 512 bits is that of FIPS 186-4, Table C.3: the newer table knows no such keys.  For fewer
    bits it is that of the Handbook of Applied Cryptography, Table 4.4, for an error below 2**-80.
    """
    return 4 if bits >= 1536 else 5 if bits >= 1024 else 7 if bits >= 512 else 12


def is_probable_prime(n: int, entropy: Entropy, count: int) -> bool:
    """Say whether odd *n* > 3 passes *count* rounds of Miller-Rabin with random witnesses (B.3.1)."""
    power = powers.fastest().power
    shift = ((n - 1) & (1 - n)).bit_length() - 1
    odd = (n - 1) >> shift
    size = (n.bit_length() + 7) // 8
    for _ in range(count):
        # Eight more octets than n has make the witnesses even over [2, n-2].
        witness = int.from_bytes(entropy(size + 8), "big") % (n - 3) + 2
        z = power(witness, odd, n)
        if z in (1, n - 1):
            continue
        for _ in range(shift - 1):
            z = z * z % n
            if z == n - 1:
                break
        else:
            return False
    return True


def _likely(candidates: Iterator[int], cancelled: Callable[[], bool]) -> Iterator[int]:
    """Yield the candidates that pass a Fermat test: hardly any composite does, and it takes no entropy."""
    fermat = powers.fastest().fermat
    while some := list(islice(candidates, _TOGETHER)):
        if cancelled():
            raise Cancelled("prime search")
        for candidate, residue in zip(some, fermat(some), strict=True):
            if residue == 1:
                yield candidate


def generate_prime(bits: int, e: int, entropy: Entropy, cancelled: Callable[[], bool]) -> int:
    """Return a probable prime of *bits* bits, its two highest bits set, p-1 coprime to *e*.

    *bits* is a multiple of 8 of at least 256.  Searches upward from a random number and starts
    anew after each window.  Cancelled when *cancelled* says so.
    """
    if bits % 8 or bits < 256:
        raise OutOfRange(f"a prime of {bits} bits")
    while True:
        start = int.from_bytes(entropy(bits // 8), "big") | 3 << (bits - 2) | 1
        for candidate in _likely(_candidates(start), cancelled):
            # Only a start within the last window below 2**bits can run out of it.
            if (math.gcd(candidate - 1, e) == 1 and candidate.bit_length() == bits
                    and is_probable_prime(candidate, entropy, rounds(bits))):
                return candidate


def generate_rsa(bits: int, e: int, entropy: Entropy, cancelled: Callable[[], bool]) -> tuple[int, int]:
    """Return the primes (p, q) of a new RSA key with a modulus of exactly *bits* bits (Part 1, 43.8.3).

    *bits* is a multiple of 16 of at least 512 and *e* odd.  The primes differ by more than
    2**(bits/2 - 100), and the private exponent is at least 2**(bits/2).  Cancelled when
    *cancelled* says so; OutOfRange for a size or an exponent that cannot be.
    """
    if bits % 16 or bits < 512:
        raise OutOfRange(f"an RSA modulus of {bits} bits")
    if e < 3 or not e & 1:
        raise OutOfRange("an RSA public exponent that is even or less than three")
    while True:
        p = generate_prime(bits // 2, e, entropy, cancelled)
        q = generate_prime(bits // 2, e, entropy, cancelled)
        if abs(p - q) <= 1 << (bits // 2 - 100):
            continue
        if pow(e, -1, (p - 1) * (q - 1)) >> (bits // 2):
            return p, q
