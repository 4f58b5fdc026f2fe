"""Products of points with the OpenSSL that hashlib uses; `test_crypto_ecc` has the curves both ways."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from hwtpm.crypto import ecc, ids, libcrypto, points, weierstrass
from tests.support.leaks import growth

SEED = 20261128
CURVES = [c for c in ecc.CURVES.values() if c.id in points._NUMBERS]


@pytest.fixture(params=CURVES, ids=str)
def c(request: pytest.FixtureRequest) -> ecc.Curve:
    found: ecc.Curve = request.param
    return found


@pytest.fixture
def group(c: ecc.Curve) -> points.Group:
    found = ecc._group(c.id)
    if found is None:
        pytest.skip("hashlib's OpenSSL cannot be reached, or does not have the curve")
    return found


def expected(c: ecc.Curve, d: int, point: tuple[int, int]) -> ecc.Point:
    found = weierstrass.combine(c.p, c.a, c.b, [(d, point)])
    assert found is not None
    return ecc._octets(c, found)


@pytest.mark.usefixtures("openssl")
def test_the_library_of_hashlib_is_used_where_it_is_openssl() -> None:
    """Every OpenSSL has P-256; without this, TPM2_ECDH_ZGen takes twice as long."""
    assert ecc._group(ids.NIST_P256) is not None
    assert ecc._group(ids.NIST_P384) is None
    assert ecc._group(ids.BN_P256) is None


@pytest.mark.usefixtures("strange_library")
def test_a_library_that_is_not_known_to_work_is_not_used(c: ecc.Curve) -> None:
    assert ecc._group.__wrapped__(c.id) is None


@pytest.mark.parametrize(("name", "answer"), [
    ("EC_GROUP_new_by_curve_name", 0), ("EC_POINT_mul", 0), ("EC_POINT_mul", 1), ("EC_POINT_oct2point", 0),
    ("EC_POINT_oct2point", 1), ("EC_POINT_point2oct", 0), ("EC_POINT_point2oct", 65)])
def test_a_function_that_does_something_else_is_noticed(name: str, answer: int,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    find = libcrypto.function

    def function(wanted: str, signature: str) -> libcrypto.Function:
        return find(wanted, signature) if wanted != name else lambda *_: answer

    monkeypatch.setattr(libcrypto, "function", function)
    assert ecc._group.__wrapped__(ids.NIST_P256) is None


@pytest.mark.usefixtures("openssl")
def test_a_curve_that_the_library_lacks_leaves_no_error_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some distributions take P-192 out.  hashlib and ssl would find the error in the library's queue."""
    monkeypatch.setitem(points._NUMBERS, ids.NIST_P192, 1)
    assert ecc._group.__wrapped__(ids.NIST_P192) is None
    assert not libcrypto.function("ERR_peek_error", "u")()


def test_products_are_those_of_our_own_arithmetic(c: ecc.Curve, group: points.Group) -> None:
    random = Random(SEED)
    drawn = [random.randrange(1, c.n) for _ in range(10)]
    for d in (1, 2, 3, 16, 1 << 64, c.n >> 1, c.n - 2, c.n - 1, *drawn):
        octets = d.to_bytes(c.order_size, "big")
        point = expected(c, random.randrange(1, c.n), (c.gx, c.gy))
        numbers = int.from_bytes(point[0], "big"), int.from_bytes(point[1], "big")
        assert group.product(octets) == expected(c, d, (c.gx, c.gy)), d
        assert group.product(octets, point) == expected(c, d, numbers), (d, point)


def test_a_failure_says_so_and_the_next_product_is_right(c: ecc.Curve, group: points.Group) -> None:
    """A point off the curve, which no caller gives, and the point at infinity, which no scalar makes."""
    x, y = (number.to_bytes(c.field_size, "big") for number in (c.gx, c.gy))
    pending = libcrypto.function("ERR_peek_error", "u")
    for scalar, point in ((b"\5", (y, x)), (b"\5", (x, x)), (b"\5", (x[1:], y)), (bytes(c.order_size), None),
                          (c.n.to_bytes(c.order_size, "big"), (x, y))):
        with pytest.raises(MemoryError):
            group.product(scalar, point)
        assert not pending()
    assert group.product(b"\1", (x, y)) == (x, y)


def test_threads_multiply_at_the_same_time(c: ecc.Curve, group: points.Group) -> None:
    random = Random(SEED)
    scalars = [random.randrange(1, c.n).to_bytes(c.order_size, "big") for _ in range(16)]
    base = group.product(b"\7")
    alone = [(group.product(scalar), group.product(scalar, base)) for scalar in scalars]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda s: (group.product(s), group.product(s, base)), scalars)) == alone


def test_products_leave_no_memory_behind() -> None:
    """A point of P-256 that is not freed is 200 octets and more, a number 80."""
    group = ecc._group(ids.NIST_P256)
    if group is None:
        pytest.skip("hashlib's OpenSSL cannot be reached")
    scalar, base = b"\7" * 32, group.product(b"\7")

    def work() -> None:
        group.product(scalar)
        group.product(scalar, base)
        with pytest.raises(MemoryError):
            group.product(scalar, base[::-1])

    assert growth(work, 20_000) < 20_000 * 40
