"""Key exchange in two phases, and encryption, on elliptic curves (Part 1, 44.8 and 45.2; Part 3, 14.8).

The party here has a static and an ephemeral key, of the other it has both public points, which
must be on the same curve: BadPoint when they are not.  None stands for the point at infinity.
"""

from __future__ import annotations

from hmac import compare_digest

from hwtpm.crypto import hashes, kdf
from hwtpm.crypto.ecc import Curve, EccPrivate, EccPublic, Entropy, Point, combine
from hwtpm.crypto.ecsign import ephemeral
from hwtpm.crypto.errors import AuthenticationFailed


def _associated(point: Point, bits: int) -> int:
    """Return 2**bits plus the low-order *bits* of the x-coordinate."""
    return 1 << bits | int.from_bytes(point[0], "big") & ((1 << bits) - 1)


def _agree(curve: Curve, secret: int, one: Point, factor: int, other: Point) -> Point | None:
    """Return secret * (one + factor * other)."""
    total = combine(curve, (1, EccPublic(curve.id, *one).point),
                    (factor, EccPublic(curve.id, *other).point))
    secret %= curve.n
    if total is None or not secret:
        return None
    return EccPrivate(curve.id, secret).multiply(*total)


def mqv(static: EccPrivate, once: EccPrivate, static_b: Point, once_b: Point) -> Point | None:
    """Return the point shared by full MQV (Part 1, 44.8.4.3; SP 800-56A, 5.7.2.3.1)."""
    c = static.curve
    bits = (c.n.bit_length() + 1) // 2
    secret = (int.from_bytes(once.d, "big")
              + int.from_bytes(static.d, "big") * _associated(once.public, bits))
    return _agree(c, secret, once_b, _associated(once_b, bits), static_b)


def sm2(static: EccPrivate, once: EccPrivate, static_b: Point, once_b: Point) -> Point | None:
    """Return the point shared by the key exchange of SM2 (GB/T 32918.3, 6.1, steps A4 to A7)."""
    c = static.curve
    bits = (c.n.bit_length() + 1) // 2 - 1
    secret = (int.from_bytes(static.d, "big")
              + int.from_bytes(once.d, "big") * _associated(once.public, bits))
    return _agree(c, secret, static_b, _associated(once_b, bits), once_b)


def encrypt(key: EccPublic, alg: int, message: bytes, random: Entropy) -> tuple[Point, bytes, bytes]:
    """Return ephemeral point, ciphertext and digest of *message* (GB/T 32918.4, 6.1; Part 3, 14.8).

    The mask is made by KDF2 with the hash *alg*, of both coordinates of the shared point.
    """
    once = ephemeral(key.curve, random)
    x, y = once.multiply(*key.point)
    return once.public, _masked(alg, x + y, message), hashes.digest(alg, x, message, y)


def decrypt(key: EccPrivate, alg: int, once: Point, cipher: bytes, digest: bytes) -> bytes:
    """Return the message that `encrypt` hid; AuthenticationFailed when the digest is another."""
    x, y = key.multiply(*once)
    message = _masked(alg, x + y, cipher)
    if not compare_digest(hashes.digest(alg, x, message, y), digest):
        raise AuthenticationFailed("ECC encryption")
    return message


def _masked(alg: int, secret: bytes, data: bytes) -> bytes:
    mask = kdf.kdf2(alg, secret, len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(data), "big")
