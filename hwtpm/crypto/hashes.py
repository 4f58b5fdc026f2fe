"""Hashes and HMAC by TCG algorithm identifier (Part 1, 8.4.3 and 8.4.4; RFC 2104).

hashlib does the work: through it a short digest takes half a microsecond, a quarter of what
another layer costs.  One-shot HMACs are composed here from two hashes, because OpenSSL's own
HMAC interface spends longer on its set-up than on the computation.
"""

from __future__ import annotations

import hashlib
import hmac as _hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hwtpm.crypto import ids
from hwtpm.crypto.errors import UnsupportedAlgorithm

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

# Identifier: constructor, digest size, block size (octets), hashlib's name.
_TABLE: Final[dict[int, tuple[Callable[..., Hash], int, int, str]]] = {
    ids.SHA1: (hashlib.sha1, 20, 64, "sha1"),
    ids.SHA256: (hashlib.sha256, 32, 64, "sha256"),
    ids.SHA384: (hashlib.sha384, 48, 128, "sha384"),
    ids.SHA512: (hashlib.sha512, 64, 128, "sha512"),
    ids.SHA3_256: (hashlib.sha3_256, 32, 136, "sha3_256"),
    ids.SHA3_384: (hashlib.sha3_384, 48, 104, "sha3_384"),
    ids.SHA3_512: (hashlib.sha3_512, 64, 72, "sha3_512"),
}

# OpenSSL can be built without SM3.
if "sm3" in hashlib.algorithms_available:
    _TABLE[ids.SM3_256] = (lambda data=b"": hashlib.new("sm3", data), 32, 64, "sm3")

ALGORITHMS: Final = tuple(_TABLE)
"""The identifiers of every hash that works here."""

_INNER: Final = bytes(octet ^ 0x36 for octet in range(256))
_OUTER: Final = bytes(octet ^ 0x5C for octet in range(256))


def _row(alg: int) -> tuple[Callable[..., Hash], int, int, str]:
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


def name(alg: int) -> str:
    """Return the name under which hashlib knows *alg*."""
    return _row(alg)[3]


def digest(alg: int, *parts: bytes) -> bytes:
    """Return the digest of the concatenation of *parts*."""
    try:
        make = _TABLE[alg][0]
    except KeyError:
        raise UnsupportedAlgorithm(f"no hash algorithm 0x{alg:04x}") from None
    return make(parts[0] if len(parts) == 1 else b"".join(parts)).digest()


def new(alg: int) -> Hash:
    """Return a running hash with hashlib's interface: update(), digest(), copy()."""
    return _row(alg)[0]()


def hmac(alg: int, key: bytes, *parts: bytes) -> bytes:
    """Return the HMAC of the concatenation of *parts*; a key of any size is good (RFC 2104)."""
    try:
        make, _, block, _ = _TABLE[alg]
    except KeyError:
        raise UnsupportedAlgorithm(f"no hash algorithm 0x{alg:04x}") from None
    if len(key) > block:
        key = make(key).digest()
    key = key.ljust(block, b"\0")
    return make(key.translate(_OUTER) + make(key.translate(_INNER) + b"".join(parts)).digest()).digest()


def new_hmac(alg: int, key: bytes) -> _hmac.HMAC:
    """Return a running HMAC: update(), digest(), copy()."""
    return _hmac.new(key, digestmod=name(alg))
