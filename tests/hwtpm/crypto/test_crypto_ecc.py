"""Curves against published vectors and an affine textbook implementation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.crypto import ecc, ids, kdf
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.errors import BadKey, BadPoint, BadSignature, OutOfRange, UnsupportedAlgorithm

VECTORS = Path(__file__).parents[2] / "vectors" / "crypto"
NAMES = {"P-224": ids.NIST_P224, "P-256": ids.NIST_P256, "P-384": ids.NIST_P384, "P-521": ids.NIST_P521}
CURVES = list(ecc.CURVES.values())

Affine = tuple[int, int] | None


@pytest.fixture(scope="module", params=["OpenSSL", "cryptography"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Products are those of the OpenSSL that hashlib uses, where it can be reached, or never."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "cryptography":
            patch.setattr(ecc, "_group", lambda curve_id: None)
        yield


def load(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    return rows


def add(c: ecc.Curve, one: Affine, other: Affine) -> Affine:
    """The chord and tangent rule, with None for the point at infinity."""
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2:
        if (y1 + y2) % c.p == 0:
            return None
        slope = (3 * x1 * x1 + c.a) * pow(2 * y1, -1, c.p)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, c.p)
    x = (slope * slope - x1 - x2) % c.p
    return x, (slope * (x1 - x) - y1) % c.p


def times(c: ecc.Curve, d: int, point: Affine) -> Affine:
    result: Affine = None
    for bit in bin(d)[2:]:
        result = add(c, result, result)
        if bit == "1":
            result = add(c, result, point)
    return result


def octets(c: ecc.Curve, point: Affine) -> ecc.Point:
    assert point is not None
    return point[0].to_bytes(c.field_size, "big"), point[1].to_bytes(c.field_size, "big")


@pytest.mark.parametrize("c", CURVES, ids=str)
def test_parameters_describe_a_group_of_order_n(c: ecc.Curve) -> None:
    assert (c.gy**2 - c.gx**3 - c.a * c.gx - c.b) % c.p == 0
    assert times(c, c.n, (c.gx, c.gy)) is None
    assert ecc.on_curve(c.id, *octets(c, (c.gx, c.gy)))
    assert ecc.EccPrivate(c.id, 1).public == octets(c, (c.gx, c.gy))
    assert c.bits == c.p.bit_length()


@pytest.mark.parametrize("row", load("ecc_keypair.json"))
def test_public_points_match_cavp(row: dict[str, Any]) -> None:
    c = ecc.curve(NAMES[row["curve"]])
    key = ecc.EccPrivate(c.id, bytes.fromhex(row["d"]))
    assert key.public == octets(c, (int(row["x"], 16), int(row["y"], 16)))
    assert int.from_bytes(key.d, "big") == int(row["d"], 16)
    assert len(key.d) == c.order_size


@pytest.mark.parametrize("row", load("ecdsa_sigver.json"))
def test_verification_matches_cavp(row: dict[str, Any]) -> None:
    c = ecc.curve(NAMES[row["curve"]])
    digest = hashlib.new(row["hash"], bytes.fromhex(row["msg"])).digest()
    key = ecc.EccPublic(c.id, *octets(c, (int(row["x"], 16), int(row["y"], 16))))
    r, s = (int(row[name], 16).to_bytes(c.order_size, "big") for name in "rs")
    if row["valid"]:
        key.verify(digest, r, s)
    else:
        with pytest.raises(BadSignature):
            key.verify(digest, r, s)


@pytest.mark.parametrize("c", CURVES, ids=str)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_multiplication_gives_both_coordinates(c: ecc.Curve, data: st.DataObject) -> None:
    near = st.sampled_from([1, 2, 3, c.n - 3, c.n - 2, c.n - 1])
    d = data.draw(near | st.integers(1, c.n - 1))
    k = data.draw(near | st.integers(1, c.n - 1))
    point = times(c, k, (c.gx, c.gy))
    expected = octets(c, times(c, d, point))
    key = ecc.EccPrivate(c.id, d)
    assert key.multiply(*octets(c, point)) == expected
    assert key.multiply(*octets(c, (c.gx, c.gy))) == key.public
    assert key.shared_x(*octets(c, point)) == expected[0]


@pytest.mark.parametrize("c", CURVES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 20, 28, 32, 48, 64])
def test_ecdsa_takes_the_leftmost_bits_of_any_digest(c: ecc.Curve, size: int) -> None:
    """FIPS 186-5, 6.4.2, computed from the definition."""
    key = ecc.EccPrivate(c.id, 0x1234567890ABCDEF)
    digest = bytes(range(200, 200 + size)) if size < 56 else bytes(range(size))
    r_octets, s_octets = key.sign(digest, CtrDrbg(b"nonces").generate)
    assert len(r_octets) == len(s_octets) == c.order_size
    r, s = int.from_bytes(r_octets, "big"), int.from_bytes(s_octets, "big")
    e = int.from_bytes(digest, "big") >> max(0, size * 8 - c.n.bit_length())
    w = pow(s, -1, c.n)
    q = (int.from_bytes(key.public[0], "big"), int.from_bytes(key.public[1], "big"))
    point = add(c, times(c, e * w % c.n, (c.gx, c.gy)), times(c, r * w % c.n, q))
    assert point is not None
    assert point[0] % c.n == r
    public = ecc.EccPublic(c.id, *key.public)
    public.verify(digest, r_octets, s_octets)
    for bad_r, bad_s in ((s, r), (0, s), (r, 0), (r + c.n, s), (r, (s + 1) % c.n)):
        with pytest.raises(BadSignature):
            public.verify(digest, *(v.to_bytes(c.order_size + 1, "big") for v in (bad_r, bad_s)))


def test_digest_longer_than_any_hash_is_refused_on_p521() -> None:
    with pytest.raises(OutOfRange):
        ecc.EccPrivate(ids.NIST_P521, 5).sign(bytes(65))


@pytest.mark.parametrize("c", CURVES, ids=str)
def test_scalars_use_64_bits_more_than_the_order(c: ecc.Curve) -> None:
    """Part 1, 44.6: d = (c mod (n - 1)) + 1."""
    size = c.scalar_seed_size
    assert size == -(-(c.n.bit_length() + 64) // 8)
    assert ecc.scalar_from(c.id, bytes(size)) == 1
    assert ecc.scalar_from(c.id, (c.n - 2).to_bytes(size, "big")) == c.n - 1
    assert ecc.scalar_from(c.id, (c.n - 1).to_bytes(size, "big")) == 1
    assert 0 < ecc.scalar_from(c.id, b"\xff" * size) < c.n
    with pytest.raises(OutOfRange):
        ecc.scalar_from(c.id, bytes(size - 1))


@pytest.mark.parametrize("c", CURVES, ids=str)
def test_scalars_and_points_out_of_range_are_refused(c: ecc.Curve) -> None:
    for d in (0, c.n, c.n + 1, -1):
        with pytest.raises(BadKey):
            ecc.EccPrivate(c.id, d)
    x, y = octets(c, (c.gx, c.gy))
    wrong = (c.gy + 1).to_bytes(c.field_size, "big")
    beyond = (c.gx + c.p).to_bytes(c.field_size + 1, "big")
    key = ecc.EccPrivate(c.id, 7)
    for point in ((x, wrong), (beyond, y), (bytes(c.field_size), bytes(c.field_size)), (b"", b"")):
        assert not ecc.on_curve(c.id, *point)
        for call in (key.multiply, key.shared_x, lambda *p: ecc.EccPublic(c.id, *p)):
            with pytest.raises(BadPoint):
                call(*point)


def test_unknown_curve_is_refused() -> None:
    with pytest.raises(UnsupportedAlgorithm):
        ecc.EccPrivate(0x0030, 5)


@pytest.mark.parametrize("c", [c for c in CURVES if c.group is None], ids=str)
def test_a_signature_without_the_library_needs_randomness(c: ecc.Curve) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        ecc.EccPrivate(c.id, 5).sign(bytes(32))


def test_private_key_shows_no_secret() -> None:
    assert "11259375" not in repr(ecc.EccPrivate(ids.NIST_P256, 11259375))
    assert "abcdef" not in repr(ecc.EccPrivate(ids.NIST_P256, 0xABCDEF)).lower()


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : at + 2 + size], at + 2 + size


@pytest.mark.parametrize("row", load("tpm_ecc_encaps.json"), ids=lambda row: row["Name"])
def test_secrets_shared_with_a_tpm_key(row: dict[str, Any]) -> None:
    """The sender's half of Part 1, 44.7: z by ECDH, the seed by KDFe."""
    c = ecc.curve(NAMES["P-" + row["Name"].split("_")[2][1:]])
    public = bytes.fromhex(row["PublicKey"])
    alg = int.from_bytes(public[2:4], "big")
    y = public[-c.field_size :]
    x = public[-2 * c.field_size - 2 : -c.field_size - 2]
    ephemeral_x, at = _sized(bytes.fromhex(row["Ciphertext"]), 0)
    ephemeral_y, _ = _sized(bytes.fromhex(row["Ciphertext"]), at)
    ephemeral = ecc.EccPrivate(c.id, bytes.fromhex(row["EphemeralPrivate"]))
    assert ephemeral.public == (ephemeral_x, ephemeral_y)
    private = bytes.fromhex(row["PrivateKey"])
    _, at = _sized(private, 2)
    _, at = _sized(private, at)
    scalar, _ = _sized(private, at)
    secret = bytes.fromhex(row["Secret"])
    static = ecc.EccPrivate(c.id, scalar)
    assert static.public == (x, y)
    for z in (ephemeral.shared_x(x, y), static.multiply(ephemeral_x, ephemeral_y)[0]):
        assert kdf.kdfe(alg, z, row["Label"].encode(), ephemeral_x, x, len(secret) * 8) == secret
