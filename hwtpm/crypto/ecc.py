"""Elliptic curves: keys, ECDSA and point multiplication (Part 1, 44; FIPS 186-5; SP 800-186).

Coordinates, scalars and signature halves are big-endian octet strings, padded to the size of the
field or of the order (Part 1, 44.5.3).  Every curve of the table has a prime order, so its
cofactor is 1 and a point on the curve is a point of the group.

The library works on the NIST curves; where it gives only one coordinate `points` has both, if it can.
What they lack is done by `weierstrass`, and other signature schemes than ECDSA by `ecsign`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from hwtpm.crypto import ids, points
from hwtpm.crypto.errors import BadKey, BadPoint, BadSignature, OutOfRange, UnsupportedAlgorithm

Point = points.Point
Entropy = Callable[[int], bytes]
"""Gives as many octets as it is asked for."""


@dataclass(frozen=True, slots=True, repr=False)
class Curve:
    """One short Weierstrass curve y**2 = x**3 + a*x + b over the integers modulo p."""

    id: int
    name: str
    p: int
    a: int
    b: int
    gx: int
    gy: int
    n: int
    h: int
    group: ec.EllipticCurve | None  # None where the library lacks the curve
    # ECDSA ignores which hash made a digest.  One algorithm per curve, whose size is the longest
    # whole number of octets that needs no truncation by bits, serves every digest once it is
    # brought to that size; see `_fit`.
    ecdsa: ec.ECDSA | None
    digest_size: int
    bits: int = field(init=False)
    field_size: int = field(init=False)
    order_size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", self.p.bit_length())
        object.__setattr__(self, "field_size", (self.p.bit_length() + 7) // 8)
        object.__setattr__(self, "order_size", (self.n.bit_length() + 7) // 8)

    def __repr__(self) -> str:
        return f"<curve {self.name}>"

    @property
    def scalar_seed_size(self) -> int:
        """Octets that `scalar_from` needs: the order's length and 64 bits more (Part 1, 44.6)."""
        return (self.n.bit_length() + 64 + 7) // 8


def _curve(
    curve_id: int,
    group: ec.EllipticCurve,
    digest: Callable[[], hashes.HashAlgorithm],
    p: int,
    b: int,
    gx: int,
    gy: int,
    n: int,
) -> Curve:
    algorithm = digest()
    scheme = ec.ECDSA(Prehashed(algorithm))
    return Curve(curve_id, group.name, p, p - 3, b, gx, gy, n, 1, group, scheme, algorithm.digest_size)


def _own(curve_id: int, name: str, p: int, a: int, b: int, gx: int, gy: int, n: int) -> Curve:
    return Curve(curve_id, name, p, a, b, gx, gy, n, 1, None, None, 0)


# A Barreto-Naehrig curve has p = 36 t**4 + 36 t**3 + 24 t**2 + 6 t + 1 and, but for 6 t**2 in place of 24,
# the same order (ISO/IEC 15946-5, 7.3).
_BN_638: Final = 2**158 - 2**128 - 2**68 + 1


def _barreto_naehrig(t: int, square: int) -> int:
    return 36 * t**4 + 36 * t**3 + square * t**2 + 6 * t + 1


# The curves of the TCG Algorithm Registry, 6.  P-192 is of FIPS 186-3, D.1.2.1, the others of the NIST of
# SP 800-186, 3.2.1: in all five, a is -3.  BN-256 and BN-638 are of ISO/IEC 15946-5, C.5 and C.7, SM2 of
# GB/T 32918.5.
CURVES: Final[dict[int, Curve]] = {
    curve.id: curve
    for curve in (
        _curve(
            ids.NIST_P192,
            ec.SECP192R1(),
            # The library takes no hash of 24 octets: see `_fit`.
            hashes.SHA224,
            p=2**192 - 2**64 - 1,
            b=0x64210519E59C80E70FA7E9AB72243049FEB8DEECC146B9B1,
            gx=0x188DA80EB03090F67CBF20EB43A18800F4FF0AFD82FF1012,
            gy=0x07192B95FFC8DA78631011ED6B24CDD573F977A11E794811,
            n=0xFFFFFFFFFFFFFFFFFFFFFFFF99DEF836146BC9B1B4D22831,
        ),
        _curve(
            ids.NIST_P224,
            ec.SECP224R1(),
            hashes.SHA224,
            p=2**224 - 2**96 + 1,
            b=0xB4050A850C04B3ABF54132565044B0B7D7BFD8BA270B39432355FFB4,
            gx=0xB70E0CBD6BB4BF7F321390B94A03C1D356C21122343280D6115C1D21,
            gy=0xBD376388B5F723FB4C22DFE6CD4375A05A07476444D5819985007E34,
            n=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFF16A2E0B8F03E13DD29455C5C2A3D,
        ),
        _curve(
            ids.NIST_P256,
            ec.SECP256R1(),
            hashes.SHA256,
            p=2**256 - 2**224 + 2**192 + 2**96 - 1,
            b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
            gx=0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
            gy=0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
            n=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        ),
        _curve(
            ids.NIST_P384,
            ec.SECP384R1(),
            hashes.SHA384,
            p=2**384 - 2**128 - 2**96 + 2**32 - 1,
            b=int(
                "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe814112"
                "0314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
                16,
            ),
            gx=int(
                "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b98"
                "59f741e082542a385502f25dbf55296c3a545e3872760ab7",
                16,
            ),
            gy=int(
                "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147c"
                "e9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
                16,
            ),
            n=int(
                "ffffffffffffffffffffffffffffffffffffffffffffffff"
                "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
                16,
            ),
        ),
        _curve(
            ids.NIST_P521,
            ec.SECP521R1(),
            hashes.SHA512,
            p=2**521 - 1,
            b=int(
                "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e1"
                "56193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
                16,
            ),
            gx=int(
                "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dba"
                "a14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
                16,
            ),
            gy=int(
                "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c"
                "97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
                16,
            ),
            n=int(
                "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
                "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
                16,
            ),
        ),
        _own(
            ids.BN_P256,
            "bn-p256",
            p=0xFFFFFFFFFFFCF0CD46E5F25EEE71A49F0CDC65FB12980A82D3292DDBAED33013,
            a=0,
            b=3,
            gx=1,
            gy=2,
            n=0xFFFFFFFFFFFCF0CD46E5F25EEE71A49E0CDC65FB1299921AF62D536CD10B500D,
        ),
        _own(
            ids.BN_P638,
            "bn-p638",
            p=_barreto_naehrig(_BN_638, 24),
            a=0,
            b=257,
            gx=_barreto_naehrig(_BN_638, 24) - 1,
            gy=16,
            n=_barreto_naehrig(_BN_638, 18),
        ),
        _own(
            ids.SM2_P256,
            "sm2-p256",
            p=2**256 - 2**224 - 2**96 + 2**64 - 1,
            a=2**256 - 2**224 - 2**96 + 2**64 - 4,
            b=0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93,
            gx=0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
            gy=0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
            n=0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123,
        ),
    )
}


def curve(curve_id: int) -> Curve:
    """Return the parameters of a curve; UnsupportedAlgorithm when it is none of ours."""
    try:
        return CURVES[curve_id]
    except KeyError:
        raise UnsupportedAlgorithm(f"no curve 0x{curve_id:04x}") from None


@cache
def _group(curve_id: int) -> points.Group | None:
    c = CURVES[curve_id]
    x, y, opposite = (number.to_bytes(c.field_size, "big") for number in (c.gx, c.gy, c.p - c.gy))
    return points.group(curve_id, c.n, (x, y), (x, opposite))


def on_curve(curve_id: int, x: bytes, y: bytes) -> bool:
    """Say whether (x, y) is a point of the curve, each coordinate less than p (SP 800-56A, 5.6.2.3.3)."""
    c = curve(curve_id)
    u, v = int.from_bytes(x, "big"), int.from_bytes(y, "big")
    return u < c.p and v < c.p and (v * v - (u * u + c.a) * u - c.b) % c.p == 0


def scalar_from(curve_id: int, random: bytes) -> int:
    """Return a private scalar in [1, n-1] made of random octets (Part 1, 44.6; FIPS 186-5, A.2.1).

    *random* is `Curve.scalar_seed_size` octets.  All of their bits count: where the length of the order is no
    whole number of octets they are a few more than 64 beyond it, as other TPMs take them when they derive
    the same object.
    """
    c = curve(curve_id)
    if len(random) != c.scalar_seed_size:
        raise OutOfRange(f"{len(random)} random octets instead of {c.scalar_seed_size}")
    return int.from_bytes(random, "big") % (c.n - 1) + 1


def _checked_point(c: Curve, x: int, y: int) -> tuple[int, int]:
    if x >= c.p or y >= c.p or (y * y - (x * x + c.a) * x - c.b) % c.p:
        raise BadPoint(f"not a point of {c.name}")
    return x, y


def combine(c: Curve, *terms: tuple[int, Point]) -> Point | None:
    """Return the sum of products of scalars and points of the curve; None for the point at infinity.

    The points must be on the curve, and the scalars not negative.
    """
    from hwtpm.crypto import weierstrass

    numbers = [(d, (int.from_bytes(x, "big"), int.from_bytes(y, "big"))) for d, (x, y) in terms]
    total = weierstrass.combine(c.p, c.a, c.b, numbers)
    return None if total is None else _octets(c, total)


def _octets(c: Curve, point: tuple[int, int]) -> Point:
    return point[0].to_bytes(c.field_size, "big"), point[1].to_bytes(c.field_size, "big")


def _library_point(c: Curve, x: int, y: int) -> ec.EllipticCurvePublicKey:
    assert c.group is not None, "the library knows the curve"
    # The library reduces coordinates modulo p; here they have one form only.
    if x >= c.p or y >= c.p:
        raise BadPoint(f"not a point of {c.name}")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, c.group).public_key()
    except ValueError:
        raise BadPoint(f"not a point of {c.name}") from None


def _fit(c: Curve, digest: bytes) -> bytes:
    """Bring a digest to the size that the curve's ECDSA object takes, with the same value.

    FIPS 186-5, 6.4: the leftmost length(n) bits count, as an integer; so a long digest loses its
    tail, and leading zeros change nothing for a short one.
    """
    size = c.digest_size
    if size > c.order_size:
        # P-192 has no hash of its length either; the library takes off the tail that is put on here.
        return digest[: c.order_size].rjust(c.order_size, b"\0").ljust(size, b"\0")
    if len(digest) <= size:
        return digest.rjust(size, b"\0")
    if size != c.order_size:
        # P-521 has no hash of its length; nothing longer than SHA-512 exists in a TPM.
        raise OutOfRange(f"a digest of {len(digest)} octets for {c.name}")
    return digest[:size]


class EccPrivate:
    """A private key, with the library's live object once it is needed."""

    __slots__ = ("_d", "_key", "_next", "_public", "curve")

    def __init__(self, curve_id: int, d: int | bytes) -> None:
        """Make the key of scalar *d* (big-endian when octets); BadKey unless 0 < d < n."""
        self.curve = curve(curve_id)
        if not isinstance(d, int):
            d = int.from_bytes(d, "big")
        if not 0 < d < self.curve.n:
            raise BadKey(f"a private scalar out of range for {self.curve.name}")
        self._d = d
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._next: ec.EllipticCurvePrivateKey | None = None
        self._public: Point | None = None

    def __repr__(self) -> str:
        return f"<private key on {self.curve.name}>"

    @property
    def d(self) -> bytes:
        """The private scalar, as long as the order."""
        return self._d.to_bytes(self.curve.order_size, "big")

    @property
    def public(self) -> Point:
        """The public point (x, y)."""
        if self._public is None:
            c = self.curve
            if (group := _group(c.id)) is not None:
                self._public = group.product(self.d)
            elif c.group is None:
                self._public = self._times((c.gx, c.gy))
            else:
                numbers = self._library_key(c.group).public_key().public_numbers()
                self._public = _octets(c, (numbers.x, numbers.y))
        return self._public

    def _library_key(self, group: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
        if self._key is None:
            self._key = ec.derive_private_key(self._d, group)
        return self._key

    def _times(self, point: tuple[int, int]) -> Point:
        """Return the product of the scalar and a point of the curve, which is never at infinity."""
        from hwtpm.crypto import weierstrass

        c = self.curve
        # A multiple of the order on top changes no product and gives every scalar the same length.
        scalar = self._d + c.n
        if scalar.bit_length() == c.n.bit_length():
            scalar += c.n
        product = weierstrass.combine(c.p, c.a, c.b, [(scalar, point)])
        assert product is not None, "the order of the curve is prime"
        return _octets(c, product)

    def sign(self, digest: bytes, random: Entropy | None = None) -> tuple[bytes, bytes]:
        """Return the ECDSA signature (r, s) of a digest of any size, each as long as the order.

        *random* makes the signature of a curve that the library lacks, and is needed for it; elsewhere the
        library's own generator does.  OutOfRange only for P-521 and a digest of more than 64 octets.
        """
        c = self.curve
        if c.group is None or c.ecdsa is None:
            from hwtpm.crypto import ecsign

            if random is None:
                raise UnsupportedAlgorithm(f"no ECDSA on {c.name} without a source of randomness")
            return ecsign.ecdsa_sign(self, digest, random)
        r, s = decode_dss_signature(self._library_key(c.group).sign(_fit(c, digest), c.ecdsa))
        return r.to_bytes(c.order_size, "big"), s.to_bytes(c.order_size, "big")

    def shared_x(self, x: bytes, y: bytes) -> bytes:
        """Return the x-coordinate of the product of the scalar and a point (SP 800-56A, 5.7.1.2).

        BadPoint when (x, y) is not on the curve.
        """
        c = self.curve
        if c.group is None or _group(c.id) is not None:
            return self.multiply(x, y)[0]
        point = _library_point(c, int.from_bytes(x, "big"), int.from_bytes(y, "big"))
        return self._library_key(c.group).exchange(ec.ECDH(), point)

    def multiply(self, x: bytes, y: bytes) -> Point:
        """Return the product of the scalar and the point (x, y); BadPoint when that is not on the curve."""
        c = self.curve
        point = _checked_point(c, int.from_bytes(x, "big"), int.from_bytes(y, "big"))
        if (group := _group(c.id)) is not None:
            return group.product(self.d, _octets(c, point))
        return self._times(point) if c.group is None else self._exchanged(c.group, point)

    def _exchanged(self, group: ec.EllipticCurve, one: tuple[int, int]) -> Point:
        """Return the product of the scalar and a point of the curve.

        The library gives the x-coordinates of d*P and of (d+1)*P, which decide the y-coordinate of d*P.
        """
        c, (x0, y0) = self.curve, one
        point = _library_point(c, x0, y0)
        # For these two one of the points is at infinity, or they are the same.
        if self._d == 1:
            return _octets(c, one)
        if self._d == c.n - 1:
            return _octets(c, (x0, c.p - y0))
        if self._next is None:
            self._next = ec.derive_private_key(self._d + 1, group)
        from hwtpm.crypto import weierstrass

        product = self._library_key(group).exchange(ec.ECDH(), point)
        x1 = int.from_bytes(product, "big")
        x2 = int.from_bytes(self._next.exchange(ec.ECDH(), point), "big")
        y1 = weierstrass.missing_y(c.p, c.a, c.b, one, x1, x2)
        return product, y1.to_bytes(c.field_size, "big")


class EccPublic:
    """A public key, with the library's live object."""

    __slots__ = ("_key", "curve", "point")

    def __init__(self, curve_id: int, x: bytes, y: bytes) -> None:
        """Make the key of a point; BadPoint when it is not on the curve."""
        self.curve = curve(curve_id)
        u, v = int.from_bytes(x, "big"), int.from_bytes(y, "big")
        self._key = None if self.curve.group is None else _library_point(self.curve, u, v)
        if self._key is None:
            _checked_point(self.curve, u, v)
        size = self.curve.field_size
        self.point: Point = u.to_bytes(size, "big"), v.to_bytes(size, "big")

    def verify(self, digest: bytes, r: bytes, s: bytes) -> None:
        """Return if (r, s) is an ECDSA signature of *digest* by this key, else raise BadSignature."""
        c = self.curve
        if self._key is None or c.ecdsa is None:
            from hwtpm.crypto import ecsign

            return ecsign.ecdsa_verify(self, digest, r, s)
        signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        try:
            self._key.verify(signature, _fit(c, digest), c.ecdsa)
        except InvalidSignature:
            raise BadSignature(f"ECDSA on {c.name}") from None
