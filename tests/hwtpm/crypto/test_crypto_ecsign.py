"""Schnorr, ECDAA, SM2 and MQV against published examples and their definitions, on every curve."""

from __future__ import annotations

import pytest

from hwtpm.crypto import ecc, ecexchange, ecsign, hashes, ids, weierstrass
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.errors import AuthenticationFailed, BadPoint, BadSignature

CURVES = list(ecc.CURVES.values())
EVERY = pytest.mark.parametrize("c", CURVES, ids=str)
SM2 = ecc.curve(ids.SM2_P256)
needs_sm3 = pytest.mark.skipif(ids.SM3_256 not in hashes.ALGORITHMS, reason="this OpenSSL has no SM3")


def number(text: str) -> bytes:
    return bytes.fromhex(text)


def fixed(curve: ecc.Curve, k: str) -> ecc.Entropy:
    """The entropy of which `scalar_from` makes the scalar *k*."""
    return lambda size: (int(k, 16) - 1).to_bytes(size, "big")


def pair(seed: bytes, c: ecc.Curve) -> tuple[ecc.EccPrivate, ecc.EccPublic]:
    private = ecsign.ephemeral(c, CtrDrbg(seed).generate)
    return private, ecc.EccPublic(c.id, *private.public)


# GB/T 32918.5-2017, annex A: a signature and an encryption with the recommended curve.
D = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8"
K = "59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21"
X = "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
Y = "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
DIGEST = number("F0B43E94BA45ACCAACE692ED534382EB17E6AB5A19CE7B31F4486FDFC0D28640")
R = number("F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3")
S = number("B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA")


def test_sm2_signature_of_the_standard() -> None:
    key = ecc.EccPrivate(ids.SM2_P256, number(D))
    assert key.public == (number(X), number(Y))
    assert ecsign.sm2_sign(key, DIGEST, fixed(SM2, K)) == (R, S)
    ecsign.sm2_verify(ecc.EccPublic(ids.SM2_P256, *key.public), DIGEST, R, S)


@needs_sm3
def test_sm2_digest_covers_the_identity_of_the_signer() -> None:
    """Part 1, 45.2.2.1: Z of identity, curve and key, then e of Z and the message."""
    identity = b"1234567812345678"
    numbers = b"".join(n.to_bytes(32, "big") for n in (SM2.a, SM2.b, SM2.gx, SM2.gy))
    z = hashes.digest(ids.SM3_256, (len(identity) * 8).to_bytes(2, "big"), identity, numbers, number(X + Y))
    assert hashes.digest(ids.SM3_256, z, b"message digest") == DIGEST


@needs_sm3
def test_sm2_encryption_of_the_standard() -> None:
    key = ecc.EccPrivate(ids.SM2_P256, number(D))
    public = ecc.EccPublic(ids.SM2_P256, *key.public)
    c1, c2, c3 = ecexchange.encrypt(public, ids.SM3_256, b"encryption standard", fixed(SM2, K))
    assert c1 == (number("04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"),
                  number("E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"))
    assert c2 == number("21886CA989CA9C7D58087307CA93092D651EFA")
    assert c3 == number("59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766")
    assert ecexchange.decrypt(key, ids.SM3_256, c1, c2, c3) == b"encryption standard"


@needs_sm3
def test_sm2_key_exchange_of_the_standard() -> None:
    """GB/T 32918.5-2017, annex B: both sides get the key, through the points of this exchange."""
    static = [ecc.EccPrivate(ids.SM2_P256, number(d)) for d in (
        "81EB26E941BB5AF16DF116495F90695272AE2CD63D6C4AE1678418BE48230029",
        "785129917D45A9EA5437A59356B82338EAADDA6CEB199088F14AE10DEFA229B5")]
    once = [ecc.EccPrivate(ids.SM2_P256, number(r)) for r in (
        "D4DE15474DB74D06491C440D305E012400990F3E390C7E87153C12DB2EA60BB3",
        "7E07124814B309489125EAED101113164EBF0F3458C5BD88335C1F9D596243D6")]
    u = ecexchange.sm2(static[0], once[0], static[1].public, once[1].public)
    v = ecexchange.sm2(static[1], once[1], static[0].public, once[0].public)
    assert u == v is not None
    identity = b"1234567812345678"
    numbers = b"".join(n.to_bytes(32, "big") for n in (SM2.a, SM2.b, SM2.gx, SM2.gy))
    z = [hashes.digest(ids.SM3_256, b"\0\x80", identity, numbers, *key.public) for key in static]
    key = hashes.digest(ids.SM3_256, *u, *z, b"\0\0\0\x01")[:16]
    assert key == number("6C89347354DE2484C60B4AB1FDE4C6E5")


@EVERY
def test_a_signature_verifies_until_something_differs(c: ecc.Curve) -> None:
    private, public = pair(b"a key", c)
    _, other = pair(b"another key", c)
    random = CtrDrbg(b"nonces").generate
    for digest in (bytes(range(20)), bytes(range(32)), bytes(range(64))):
        for sign, verify in (
            (lambda d: ecsign.schnorr_sign(private, ids.SHA256, d, random),
             lambda key, d, r, s: ecsign.schnorr_verify(key, ids.SHA256, d, r, s)),
            (lambda d: ecsign.sm2_sign(private, d, random), ecsign.sm2_verify),
            (lambda d: ecsign.ecdsa_sign(private, d, random), ecsign.ecdsa_verify),
        ):
            r, s = sign(digest)
            assert len(r) == len(s) == c.order_size
            verify(public, digest, r, s)
            order, zero = c.n.to_bytes(c.order_size, "big"), bytes(c.order_size)
            for key, text, one, two in ((other, digest, r, s), (public, digest + b"\1", s, r),
                                        (public, b"\1" + digest[1:], r, s), (public, digest, zero, s),
                                        (public, digest, r, zero), (public, digest, order, s),
                                        (public, digest, r, order), (public, digest, s, r)):
                with pytest.raises(BadSignature):
                    verify(key, text, one, two)


@EVERY
def test_the_same_entropy_makes_the_same_signature(c: ecc.Curve) -> None:
    private, _ = pair(b"a key", c)
    digest = bytes(range(32))
    for sign in (
        lambda random: ecsign.schnorr_sign(private, ids.SHA256, digest, random),
        lambda random: ecsign.sm2_sign(private, digest, random),
        lambda random: ecsign.ecdaa_sign(private, ids.SHA256, digest, 12345, random),
    ):
        one, two, three = (sign(CtrDrbg(seed).generate) for seed in (b"1", b"1", b"2"))
        assert one == two != three


@EVERY
def test_ecdaa_signature_matches_the_commitment(c: ecc.Curve) -> None:
    """[s]G = [r]G + [T]Q for the committed r and T = H(k || digest) (Part 1, 44.3.3.3)."""
    private, public = pair(b"a key", c)
    digest, r = bytes(range(32)), ecsign.ephemeral(c, CtrDrbg(b"a commitment").generate)
    k, s = ecsign.ecdaa_sign(private, ids.SHA256, digest, int.from_bytes(r.d, "big"),
                             CtrDrbg(b"nonces").generate)
    t = int.from_bytes(hashes.digest(ids.SHA256, k, digest), "big") % c.n
    expected = ecc.combine(c, (1, r.public), (t, public.point))
    assert ecc.EccPrivate(c.id, s).public == expected


@EVERY
def test_both_sides_of_a_two_phase_exchange_agree(c: ecc.Curve) -> None:
    keys = [ecsign.ephemeral(c, CtrDrbg(bytes([i])).generate) for i in range(4)]
    a, once_a, b, once_b = keys
    for exchange in (ecexchange.mqv, ecexchange.sm2):
        one = exchange(a, once_a, b.public, once_b.public)
        assert one == exchange(b, once_b, a.public, once_a.public) is not None
        assert one != exchange(a, once_a, once_b.public, b.public)
        for wrong in ((b.public, (b.public[1], b.public[0])), ((b.public[1], b.public[0]), b.public)):
            with pytest.raises(BadPoint):
                exchange(a, once_a, *wrong)


@EVERY
def test_mqv_is_computed_as_its_definition_says(c: ecc.Curve) -> None:
    a, once_a, b, once_b = (ecsign.ephemeral(c, CtrDrbg(bytes([i])).generate) for i in range(4))
    half = -(-c.n.bit_length() // 2)

    def avf(key: ecc.EccPrivate) -> int:
        return 2**half + int.from_bytes(key.public[0], "big") % 2**half

    d, e = (int.from_bytes(key.d, "big") for key in (b, once_b))
    t = int.from_bytes(once_a.d, "big") + int.from_bytes(a.d, "big") * avf(once_a)
    product = t * (e + d * avf(once_b)) % c.n
    assert ecexchange.mqv(a, once_a, b.public, once_b.public) == ecc.EccPrivate(c.id, product).public


@EVERY
def test_an_exchange_can_end_at_infinity(c: ecc.Curve) -> None:
    a, once_a, b, _ = (ecsign.ephemeral(c, CtrDrbg(bytes([i])).generate) for i in range(4))
    # One public point minus a multiple of the other.
    bits = (c.n.bit_length() + 1) // 2 - 1
    factor = 1 << bits | int.from_bytes(b.public[0], "big") & ((1 << bits) - 1)
    d = -int.from_bytes(b.d, "big") * factor % c.n
    assert ecexchange.sm2(a, once_a, ecc.EccPrivate(c.id, d).public, b.public) is None


@EVERY
def test_changed_ciphertexts_are_noticed(c: ecc.Curve) -> None:
    private, public = pair(b"a key", c)
    for message in (b"", b"x", bytes(100)):
        c1, c2, c3 = ecexchange.encrypt(public, ids.SHA256, message, CtrDrbg(b"once").generate)
        assert ecexchange.decrypt(private, ids.SHA256, c1, c2, c3) == message
        with pytest.raises(AuthenticationFailed):
            ecexchange.decrypt(private, ids.SHA256, c1, c2 + b"\0", c3)
        with pytest.raises(AuthenticationFailed):
            ecexchange.decrypt(private, ids.SHA256, c1, c2, bytes(32))
        with pytest.raises(BadPoint):
            ecexchange.decrypt(private, ids.SHA256, (c1[1], c1[0]), c2, c3)


@EVERY
def test_sums_that_have_no_chord(c: ecc.Curve) -> None:
    """The complete addition law at its corners: equal points, opposite points, infinity."""
    g = (c.gx, c.gy)
    twice = weierstrass.combine(c.p, c.a, c.b, [(2, g)])
    assert weierstrass.combine(c.p, c.a, c.b, [(1, g), (1, g)]) == twice
    assert weierstrass.combine(c.p, c.a, c.b, [(1, g), (1, (c.gx, c.p - c.gy))]) is None
    assert weierstrass.combine(c.p, c.a, c.b, [(c.n, g)]) is None
    assert weierstrass.combine(c.p, c.a, c.b, [(0, g), (c.n + 2, g)]) == twice
    assert weierstrass.combine(c.p, c.a, c.b, []) is None
