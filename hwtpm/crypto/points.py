"""Products of a scalar and a point, both coordinates of them: OpenSSL's, where it can be reached.

The `cryptography` package has no call for the second coordinate, and makes a whole key to get a public point.
"""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import ids, libcrypto
from hwtpm.crypto.libcrypto import checked

Point = tuple[bytes, bytes]
"""The coordinates (x, y), each as long as the field."""

# OpenSSL's numbers of the curves.  P-384 is better off with `cryptography`: its OpenSSL is a newer one, which
# multiplies the generator of that curve in half the time.
_NUMBERS: Final = {ids.NIST_P192: 409, ids.NIST_P224: 713, ids.NIST_P256: 415, ids.NIST_P521: 716}
_UNCOMPRESSED: Final = b"\x04"  # what precedes the coordinates of a point (SEC 1, 2.3.3)


class Group:
    """A curve in the library that hashlib uses.  Products change nothing of it, and nothing else is kept."""

    def __init__(self, curve_id: int, field_size: int) -> None:
        """Find functions and curve; raises `libcrypto.Unreachable`, MemoryError if there is no such curve."""
        find = libcrypto.function
        self._number, self._wipe = find("BN_bin2bn", "pbip"), find("BN_clear_free", "-p")
        self._context, self._drop = find("BN_CTX_new", "p"), find("BN_CTX_free", "-p")
        self._point, self._wipe_point = find("EC_POINT_new", "pp"), find("EC_POINT_clear_free", "-p")
        self._read, self._write = find("EC_POINT_oct2point", "ippbzp"), find("EC_POINT_point2oct", "zppibzp")
        self._multiply = find("EC_POINT_mul", "ipppppp")
        self._size = field_size
        self._group = checked(find("EC_GROUP_new_by_curve_name", "pi")(_NUMBERS[curve_id]))

    def product(self, scalar: bytes, point: Point | None = None) -> Point:
        """Return the product of *scalar* and *point*, or of *scalar* and the generator.

        The scalar is in [1, n-1] and the point on the curve, so the product is not at infinity.  OpenSSL,
        since version 1.1.1, takes the same steps for every scalar of a product by itself.
        """
        number = context = given = found = None
        try:
            number, context = checked(self._number(scalar, len(scalar), None)), checked(self._context())
            found = checked(self._point(self._group))
            if point is None:
                checked(self._multiply(self._group, found, number, None, None, context))
            else:
                octets = _UNCOMPRESSED + point[0] + point[1]
                given = checked(self._point(self._group))
                checked(self._read(self._group, given, octets, len(octets), context))
                checked(self._multiply(self._group, found, None, given, number, context))
            size = 1 + 2 * self._size
            result = libcrypto.buffer(size)
            # The point at infinity would be one octet.
            checked(self._write(self._group, found, _UNCOMPRESSED[0], result, size, context) == size)
            return result.raw[1 : 1 + self._size], result.raw[1 + self._size :]
        finally:
            self._wipe(number)
            self._wipe_point(given)
            self._wipe_point(found)
            self._drop(context)


def group(curve_id: int, n: int, generator: Point, opposite: Point) -> Group | None:
    """Return the group of a curve of order *n*; None if there is none, or it gives other than known answers.

    *opposite* is n-1 times the *generator*.
    """
    if curve_id not in _NUMBERS:
        return None
    try:
        found = Group(curve_id, len(generator[0]))
        one, two, half = (number.to_bytes((n.bit_length() + 7) // 8, "big") for number in (1, 2, n >> 1))
        twice, most = found.product(two), found.product(half)
        right = (found.product(one), found.product(half, twice), found.product(two, most))
    except (libcrypto.Unreachable, MemoryError):
        return None
    return found if right == (generator, opposite, opposite) else None
