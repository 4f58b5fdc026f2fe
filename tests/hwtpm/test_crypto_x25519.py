"""Key agreement on Curve25519: the two parties agree, and only on secrets."""

from __future__ import annotations

import os

import pytest

from hwtpm.crypto import x25519
from hwtpm.crypto.errors import BadPoint, OutOfRange


def test_both_parties_share_what_nobody_else_does() -> None:
    one, other, third = (os.urandom(32) for _ in range(3))
    shared = x25519.shared(one, x25519.public(other))
    assert shared == x25519.shared(other, x25519.public(one))
    assert shared != x25519.shared(third, x25519.public(one))
    assert len(shared) == len(x25519.public(one)) == x25519.SIZE


def test_the_base_point_is_nine() -> None:
    """X25519(k, 9) is the public key of k (RFC 7748, 6.1), which `shared` computes from its definition."""
    private = os.urandom(32)
    assert x25519.public(private) == x25519.shared(private, (9).to_bytes(32, "little"))


@pytest.mark.parametrize("point", [0, 1, 2**255 - 19 - 1])
def test_a_point_of_small_order_shares_no_secret(point: int) -> None:
    with pytest.raises(BadPoint):
        x25519.shared(os.urandom(32), point.to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(OutOfRange):
        x25519.public(bytes(size))
    with pytest.raises(OutOfRange):
        x25519.shared(bytes(size), bytes(32))
    with pytest.raises(OutOfRange):
        x25519.shared(os.urandom(32), bytes(size))
