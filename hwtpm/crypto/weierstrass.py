"""Points of short Weierstrass curves of odd order, for the curves and operations that the library lacks.

The addition law is the complete one of Renes, Costello and Batina, "Complete addition formulas for
prime order elliptic curves" (EUROCRYPT 2016), section 3: projective coordinates (X : Y : Z) that
stand for (X/Z, Y/Z), with (0 : 1 : 0) for the point at infinity.  It has no exceptional pairs of
points on a curve without points of order two, so a product is the same sequence of operations for
every scalar of one size.  Python's own arithmetic still takes longer for some numbers than others.

Numbers are those of gmpy2, which is loaded by the first import of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gmpy2 import invert, mpz

if TYPE_CHECKING:
    from collections.abc import Iterable

Affine = tuple[int, int]
_Projective = tuple[mpz, mpz, mpz]

_WINDOW: Final = 4
_MASK: Final = (1 << _WINDOW) - 1


def combine(p: int, a: int, b: int, terms: Iterable[tuple[int, Affine]]) -> Affine | None:
    """Return the sum of the products of each scalar and point; None for the point at infinity.

    The curve is y**2 = x**3 + a*x + b modulo the prime *p*, of odd order.  Scalars are not negative;
    the points must be on the curve, which nothing here checks.
    """
    modulus = mpz(p)
    # Small coefficients stay small: a is 0 or -3 on every curve of a TPM.
    linear = mpz(a - p if a > p >> 1 else a)
    triple = mpz(3 * b)
    pairs = [(scalar, _multiples(modulus, linear, triple, point)) for scalar, point in terms]
    bits = max((scalar.bit_length() for scalar, _ in pairs), default=0)
    total: _Projective = (mpz(0), mpz(1), mpz(0))
    for shift in range((bits - 1) // _WINDOW * _WINDOW, -1, -_WINDOW):
        for _ in range(_WINDOW):
            total = _double(modulus, linear, triple, total)
        for scalar, multiples in pairs:
            total = _add(modulus, linear, triple, total, multiples[scalar >> shift & _MASK])
    x, y, z = total
    if not z:
        return None
    inverse = invert(z, modulus)
    return int(x * inverse % modulus), int(y * inverse % modulus)


def missing_y(p: int, a: int, b: int, one: Affine, x1: int, x2: int) -> int:
    """Return the y-coordinate of the point at *x1* whose sum with the point *one* is at *x2*.

    With (x0, y0) + (x1, y1) = (x2, -), the addition law says (y1 - y0)**2 = (x0 + x1 + x2) * (x1 - x0)**2,
    and both squares of y are known from the curve's equation, so y1 is what remains divided by 2 * y0.
    *x1* is not *x0*, and *y0* is not zero, for a group of odd order has no point of order two.
    """
    u, y0, v = mpz(one[0]), mpz(one[1]), mpz(x1)
    squares = u * u * u + v * v * v + a * (u + v) + 2 * b
    gap = v - u
    return int((squares - (u + v + x2) * gap * gap) * invert(2 * y0, mpz(p)) % p)


def _multiples(p: mpz, a: mpz, b3: mpz, point: Affine) -> list[_Projective]:
    """Return the multiples of *point* from none to one less than the window is wide."""
    one = (mpz(point[0]), mpz(point[1]), mpz(1))
    found: list[_Projective] = [(mpz(0), mpz(1), mpz(0)), one]
    while len(found) <= _MASK:
        found.append(_add(p, a, b3, found[-1], one))
    return found


def _add(p: mpz, a: mpz, b3: mpz, left: _Projective, right: _Projective) -> _Projective:
    x1, y1, z1 = left
    x2, y2, z2 = right
    xx, yy, zz = x1 * x2 % p, y1 * y2 % p, z1 * z2 % p
    xy = (x1 * y2 + x2 * y1) % p
    yz = (y1 * z2 + y2 * z1) % p
    xz = (x1 * z2 + x2 * z1) % p
    return _finish(p, a, b3, xx, yy, zz, xy, yz, xz)


def _double(p: mpz, a: mpz, b3: mpz, point: _Projective) -> _Projective:
    x, y, z = point
    return _finish(p, a, b3, x * x % p, y * y % p, z * z % p, 2 * x * y % p, 2 * y * z % p, 2 * x * z % p)


def _finish(p: mpz, a: mpz, b3: mpz, xx: mpz, yy: mpz, zz: mpz, xy: mpz, yz: mpz, xz: mpz) -> _Projective:
    """Return the sum of two points from the symmetric products of their coordinates."""
    t = a * xz + b3 * zz
    u = (a * (xx - a * zz) + b3 * xz) % p
    v = 3 * xx + a * zz
    minus, plus = (yy - t) % p, (yy + t) % p
    return (xy * minus - yz * u) % p, (plus * minus + v * u) % p, (yz * plus + xy * v) % p
