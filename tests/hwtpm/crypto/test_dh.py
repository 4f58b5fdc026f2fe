"""Diffie-Hellman over the 2048-bit MODP group of RFC 3526."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from hwtpm.crypto.dh import PRIME, SIZE, Exchange
from hwtpm.crypto.errors import OutOfRange


def test_both_sides_have_the_same_key() -> None:
    one, two = Exchange(os.urandom), Exchange(os.urandom)
    assert len(one.public) == len(two.public) == SIZE
    assert one.public != two.public
    assert one.key(two.public) == two.key(one.public)
    assert len(one.key(two.public)) == 32


def test_the_key_is_sha_256_of_the_shared_number() -> None:
    """RFC 2631, 2.1.1: ZZ = yb ^ xa mod p, as many octets as p has."""
    ours, secret = Exchange(os.urandom), int.from_bytes(os.urandom(32), "big")
    theirs = pow(2, secret, PRIME).to_bytes(SIZE, "big")
    shared = pow(int.from_bytes(ours.public, "big"), secret, PRIME).to_bytes(SIZE, "big")
    assert ours.key(theirs) == sha256(shared).digest()


def test_the_prime_is_that_of_the_rfc() -> None:
    """RFC 3526, 3: 2^2048 - 2^1984 - 1 + 2^64 * ([2^1918 pi] + 124476), a safe prime."""
    import gmpy2

    with gmpy2.context(precision=2100):
        pi = int(gmpy2.floor(gmpy2.const_pi() * gmpy2.mpfr(2) ** 1918))
    assert 2**2048 - 2**1984 - 1 + 2**64 * (pi + 124476) == PRIME
    assert gmpy2.is_prime(PRIME)
    assert gmpy2.is_prime((PRIME - 1) // 2)


@pytest.mark.parametrize("value", [0, 1, PRIME - 1, PRIME, PRIME + 1, 2**2048 - 1])
def test_a_value_that_gives_the_secret_away_is_refused(value: int) -> None:
    with pytest.raises(OutOfRange):
        Exchange(os.urandom).key(value.to_bytes(SIZE, "big"))


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_a_value_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(OutOfRange):
        Exchange(os.urandom).key(b"\2" * size)


def test_the_secret_is_in_no_repr() -> None:
    assert "0x" not in repr(Exchange(os.urandom))
