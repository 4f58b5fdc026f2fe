"""Hashes and HMAC by TCG algorithm identifier (Part 1, 8.4.3 and 8.4.4; RFC 2104).

hashlib does the work: through it a short digest takes half a microsecond, a quarter of what
another layer costs.  One-shot HMACs are composed here from two hashes, because OpenSSL's own
HMAC interface spends longer on its set-up than on the computation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hwtpm.crypto import ids
from hwtpm.crypto.errors import UnsupportedAlgorithm

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

# Identifier: constructor, digest size, block size (octets).
_TABLE: Final[dict[int, tuple[Callable[..., Hash], int, int]]] = {
    ids.SHA1: (hashlib.sha1, 20, 64),
    ids.SHA256: (hashlib.sha256, 32, 64),
    ids.SHA384: (hashlib.sha384, 48, 128),
    ids.SHA512: (hashlib.sha512, 64, 128),
    ids.SHA3_256: (hashlib.sha3_256, 32, 136),
    ids.SHA3_384: (hashlib.sha3_384, 48, 104),
    ids.SHA3_512: (hashlib.sha3_512, 64, 72),
}

# OpenSSL can be built without SM3.
if "sm3" in hashlib.algorithms_available:
    _TABLE[ids.SM3_256] = (lambda data=b"": hashlib.new("sm3", data), 32, 64)

ALGORITHMS: Final = tuple(_TABLE)
"""The identifiers of every hash that works here."""

INNER: Final = bytes(octet ^ 0x36 for octet in range(256))
OUTER: Final = bytes(octet ^ 0x5C for octet in range(256))
"""Translations of a key, one block long, to what comes before the inner and the outer message of an HMAC."""


def _row(alg: int) -> tuple[Callable[..., Hash], int, int]:
    try:
        return _TABLE[alg]
    except KeyError:
        raise UnsupportedAlgorithm(f"no hash algorithm 0x{alg:04x}") from None


def size(alg: int) -> int:
    """Return the size of a digest in octets; UnsupportedAlgorithm when *alg* is no hash of ours."""
    return _row(alg)[1]


def block_size(alg: int) -> int:
    """Return the size of the input block in octets, which bounds an HMAC key (RFC 2104)."""
    return _row(alg)[2]


def digest(alg: int, *parts: bytes) -> bytes:
    """Return the digest of the concatenation of *parts*."""
    try:
        make = _TABLE[alg][0]
    except KeyError:
        raise UnsupportedAlgorithm(f"no hash algorithm 0x{alg:04x}") from None
    return make(parts[0] if len(parts) == 1 else b"".join(parts)).digest()


def new(alg: int) -> Hash:
    """Return a hash object of hashlib."""
    return _row(alg)[0]()


def hmac(alg: int, key: bytes, *parts: bytes) -> bytes:
    """Return the HMAC of the concatenation of *parts*; a key of any size is good (RFC 2104)."""
    try:
        make, _, block = _TABLE[alg]
    except KeyError:
        raise UnsupportedAlgorithm(f"no hash algorithm 0x{alg:04x}") from None
    if len(key) > block:
        key = make(key).digest()
    key = key.ljust(block, b"\0")
    return make(key.translate(OUTER) + make(key.translate(INNER) + b"".join(parts)).digest()).digest()
