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
    padding = b"\x01".rjust(size - 2 * digest - 1 - len(message), b"\0")
    return b"\0" + mask(alg, seed, hashes.digest(alg, label) + padding + message)


def decode(alg: int, label: bytes, encoded: bytes) -> bytes:
    """Return the message of what `encode` made; BadPadding for anything else."""
    _, block = unmask(alg, encoded[1:])
    digest = hashes.size(alg)
    start, rest = block[:digest], block[digest:].lstrip(b"\0")
    # One decision about all three, so that none of them shows which it was.
    if not (encoded[:1] == b"\0") & (rest[:1] == b"\x01") & compare_digest(start, hashes.digest(alg, label)):
        raise BadPadding("OAEP")
    return rest[1:]


def mask(alg: int, seed: bytes, block: bytes) -> bytes:
    """Return *seed*, as long as a digest, and *block*, each hidden by a mask made of the other."""
    masked = _xor(block, kdf.mgf1(alg, seed, len(block)))
    return _xor(seed, kdf.mgf1(alg, masked, len(seed))) + masked


def unmask(alg: int, octets: bytes) -> tuple[bytes, bytes]:
    """Return the seed and the block of what `mask` made."""
    digest = hashes.size(alg)
    masked = octets[digest:]
    seed = _xor(octets[:digest], kdf.mgf1(alg, masked, digest))
    return seed, _xor(masked, kdf.mgf1(alg, seed, len(masked)))


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
