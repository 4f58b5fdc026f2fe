"""Key agreement on Curve25519 (RFC 7748, 6.1)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from hwtpm.crypto.errors import BadPoint, OutOfRange

SIZE: Final = 32
"""Octets of a private key, of a public key and of what two parties share."""


def public(private: bytes) -> bytes:
    """Return the public key of *private*; OutOfRange for another size."""
    return _loaded(private).public_key().public_bytes_raw()


def shared(private: bytes, other: bytes) -> bytes:
    """Return what the owner of *private* shares with that of the public key *other*.

    BadPoint if that is no secret (RFC 7748, 6.1), OutOfRange for keys of another size.
    """
    key = _loaded(private)
    if len(other) != SIZE:
        raise OutOfRange(f"a public key of {len(other)} octets")
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise BadPoint("a public key of small order") from None


def _loaded(private: bytes) -> X25519PrivateKey:
    if len(private) != SIZE:
        raise OutOfRange(f"a private key of {len(private)} octets")
    return X25519PrivateKey.from_private_bytes(private)
