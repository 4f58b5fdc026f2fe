"""Signatures on elliptic curves beside the library's ECDSA: Schnorr, ECDAA, SM2 (Part 1, 44.3 and 45.2).

All of them work on every curve.  They take keys of `ecc` and digests; signatures are pairs of
big-endian octet strings as long as the order (Part 1, 44.5.3).  *random* gives as many octets as
it is asked for, and the same octets make the same signature.
"""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.crypto.ecc import Curve, EccPrivate, EccPublic, Entropy, Point, combine, scalar_from
from hwtpm.crypto.errors import BadSignature

Signature = tuple[bytes, bytes]


def ephemeral(curve: Curve, random: Entropy) -> EccPrivate:
    """Return a key of one use, whose scalar is uniform in [1, n-1] (Part 1, 44.6)."""
    return EccPrivate(curve.id, scalar_from(curve.id, random(curve.scalar_seed_size)))


def _pair(curve: Curve, r: int, s: int) -> Signature:
    return r.to_bytes(curve.order_size, "big"), s.to_bytes(curve.order_size, "big")


def _numbers(curve: Curve, r: bytes, s: bytes) -> tuple[int, int]:
    """Return both halves as numbers; BadSignature unless they are in [1, n-1]."""
    numbers = int.from_bytes(r, "big"), int.from_bytes(s, "big")
    if not all(0 < number < curve.n for number in numbers):
        raise BadSignature(f"out of range for {curve.name}")
    return numbers


def _generator(curve: Curve) -> Point:
    return curve.gx.to_bytes(curve.field_size, "big"), curve.gy.to_bytes(curve.field_size, "big")


def _sum_x(key: EccPublic, of_generator: int, of_key: int) -> int:
    """Return the x-coordinate of a sum of products of the generator and the public point."""
    point = combine(key.curve, (of_generator, _generator(key.curve)), (of_key, key.point))
    if point is None:
        raise BadSignature("the point at infinity")
    return int.from_bytes(point[0], "big")


def _leftmost(curve: Curve, digest: bytes) -> int:
    """Return the leftmost bits of a digest, as many as the order has (FIPS 186-5, 6.4.1)."""
    value = int.from_bytes(digest[: curve.order_size], "big")
    return value >> max(0, 8 * min(len(digest), curve.order_size) - curve.n.bit_length())


def ecdsa_sign(key: EccPrivate, digest: bytes, random: Entropy) -> Signature:
    """Return the ECDSA signature of *digest* (FIPS 186-5, 6.4.1)."""
    c = key.curve
    e, d = _leftmost(c, digest), int.from_bytes(key.d, "big")
    while True:
        nonce = ephemeral(c, random)
        r = int.from_bytes(nonce.public[0], "big") % c.n
        s = pow(int.from_bytes(nonce.d, "big"), -1, c.n) * (e + r * d) % c.n
        if r and s:
            return _pair(c, r, s)


def ecdsa_verify(key: EccPublic, digest: bytes, r: bytes, s: bytes) -> None:
    """Return if (r, s) is an ECDSA signature of *digest*, else raise BadSignature (FIPS 186-5, 6.4.2)."""
    c = key.curve
    first, second = _numbers(c, r, s)
    inverse = pow(second, -1, c.n)
    if _sum_x(key, _leftmost(c, digest) * inverse % c.n, first * inverse % c.n) % c.n != first:
        raise BadSignature(f"ECDSA on {c.name}")


def _challenge(curve: Curve, alg: int, x: int, digest: bytes) -> int:
    """Return what Schnorr's signature commits to: a hash, cut to the octets of the order (44.3.4.2)."""
    # The x-coordinate goes in as long as the order, which on every curve of ours the field is too.
    return int.from_bytes(hashes.digest(alg, x.to_bytes(curve.order_size, "big"), digest)[: curve.order_size],
                          "big")


def schnorr_sign(key: EccPrivate, alg: int, digest: bytes, random: Entropy) -> Signature:
    """Return the EC Schnorr signature of *digest* with the hash *alg* (Part 1, 44.3.4.2)."""
    c = key.curve
    d = int.from_bytes(key.d, "big")
    while True:
        nonce = ephemeral(c, random)
        k = int.from_bytes(nonce.d, "big")
        r = _challenge(c, alg, int.from_bytes(nonce.public[0], "big"), digest)
        s = (k + r * d) % c.n
        # An r of the order or more is in no signature that other TPMs verify; it all but never happens.
        if 0 < r < c.n and s and s != k:
            return _pair(c, r, s)


def schnorr_verify(key: EccPublic, alg: int, digest: bytes, r: bytes, s: bytes) -> None:
    """Return if (r, s) is an EC Schnorr signature of *digest*, else raise BadSignature (44.3.4.3)."""
    c = key.curve
    first, second = _numbers(c, r, s)
    if _challenge(c, alg, _sum_x(key, second, c.n - first), digest) != first:
        raise BadSignature(f"EC Schnorr on {c.name}")


def ecdaa_sign(key: EccPrivate, alg: int, digest: bytes, commit: int, random: Entropy) -> Signature:
    """Return (k, s), the TPM's part of an anonymous signature of *digest* (Part 1, 44.3.3.3).

    *commit* is the scalar that TPM2_Commit() has used before, and is used up now.
    """
    c = key.curve
    d = int.from_bytes(key.d, "big")
    while True:
        nonce = scalar_from(c.id, random(c.scalar_seed_size)).to_bytes(c.order_size, "big")
        t = int.from_bytes(hashes.digest(alg, nonce, digest), "big") % c.n
        s = (commit + t * d) % c.n
        if t and s:
            return nonce, s.to_bytes(c.order_size, "big")


def sm2_sign(key: EccPrivate, digest: bytes, random: Entropy) -> Signature:
    """Return the SM2 signature of *digest*, which covers the signer's identity too (Part 1, 45.2.2.1)."""
    c = key.curve
    d, e = int.from_bytes(key.d, "big"), int.from_bytes(digest, "big")
    if d == c.n - 1:
        raise BadSignature("this key has no SM2 signatures")
    while True:
        nonce = ephemeral(c, random)
        k = int.from_bytes(nonce.d, "big")
        r = (e + int.from_bytes(nonce.public[0], "big")) % c.n
        s = pow(1 + d, -1, c.n) * (k - r * d) % c.n
        if r and r + k != c.n and s:
            return _pair(c, r, s)


def sm2_verify(key: EccPublic, digest: bytes, r: bytes, s: bytes) -> None:
    """Return if (r, s) is an SM2 signature of *digest*, else raise BadSignature (Part 1, 45.2.2.2)."""
    c = key.curve
    first, second = _numbers(c, r, s)
    t = (first + second) % c.n
    if not t or (int.from_bytes(digest, "big") + _sum_x(key, second, t)) % c.n != first:
        raise BadSignature(f"SM2 on {c.name}")
