"""The OAEP encoding for the hashes with which the library does not do it (RFC 8017, 7.1; Part 1, 43.4)."""

from __future__ import annotations

from hmac import compare_digest

from hwtpm.crypto import hashes, kdf
from hwtpm.crypto.errors import BadPadding


def encode(alg: int, label: bytes, message: bytes, size: int, seed: bytes) -> bytes:
    """Return *message* encoded for a modulus of *size* octets; *seed* is as long as a digest and random.

    The message must fit: at most *size* - 2 * digest - 2 octets.
    """
    digest = len(seed)
    block = hashes.digest(alg, label) + b"\x01".rjust(size - 2 * digest - 1 - len(message), b"\0") + message
    masked = _xor(block, kdf.mgf1(alg, seed, len(block)))
    return b"\0" + _xor(seed, kdf.mgf1(alg, masked, digest)) + masked


def decode(alg: int, label: bytes, encoded: bytes) -> bytes:
    """Return the message of what `encode` made; BadPadding for anything else."""
    digest = hashes.size(alg)
    masked = encoded[1 + digest :]
    seed = _xor(encoded[1 : 1 + digest], kdf.mgf1(alg, masked, digest))
    block = _xor(masked, kdf.mgf1(alg, seed, len(masked)))
    start, rest = block[:digest], block[digest:].lstrip(b"\0")
    # One decision about all three, so that none of them shows which it was.
    if not (encoded[:1] == b"\0") & (rest[:1] == b"\x01") & compare_digest(start, hashes.digest(alg, label)):
        raise BadPadding("OAEP")
    return rest[1:]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
