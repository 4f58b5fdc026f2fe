"""Commit, EC_Ephemeral, ZGen_2Phase and anonymous signatures, alone and beside swtpm."""

from __future__ import annotations

import pytest

from hwtpm.client import Client
from hwtpm.crypto import ecc, ecexchange, hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import profile
from hwtpm.tpm2.requests.asymmetric import ZGen2Phase
from hwtpm.tpm2.requests.attestation import GetTime
from hwtpm.tpm2.requests.ephemeral import Commit, CommitResponse, ECEphemeral
from hwtpm.tpm2.requests.signing import Sign
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.commits import Commits
from hwtpm.tpm2.state.owner import Start
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_ECDAA,
    TPMS_SIGNATURE_ECC,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMT_TK_HASHCHECK
from hwtpm.wire import decode
from tests.support.tpm2 import Machine, rc_of, refused
from tests.support.tpm2_keys import DECRYPT, SIGN, Areas, elliptic, load, rsa
from tests.support.tpm2_pair import Pair, run

H1, H2, P1, P2, P3, P4 = 0x100, 0x200, 0x140, 0x240, 0x340, 0x440
NO_POINT = TPMS_ECC_POINT(b"", b"")
NO_TICKET = TPMT_TK_HASHCHECK(c.TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
DAA_CURVES = (c.TPM_ECC_BN_P256, c.TPM_ECC_BN_P638, c.TPM_ECC_NIST_P256)
EVERY_CURVE = pytest.mark.parametrize("curve", profile.ECC_CURVES)


def anonymous(curve: int = c.TPM_ECC_BN_P256, hash_alg: int = c.TPM_ALG_SHA256) -> Areas:
    """Return both areas of an ECDAA key."""
    areas = elliptic(SIGN, c.TPM_ALG_ECDAA, hash_alg, curve=curve)
    assert isinstance(areas[0].parameters, TPMS_ECC_PARMS)
    areas[0].parameters.scheme.details = TPMS_SCHEME_ECDAA(hash_alg, 0)
    return areas


def ecdaa(count: int, hash_alg: int = c.TPM_ALG_SHA256) -> TPMT_SIG_SCHEME:
    return TPMT_SIG_SCHEME(c.TPM_ALG_ECDAA, TPMS_SCHEME_ECDAA(hash_alg, count))


def generator(curve: int) -> TPMS_ECC_POINT:
    return TPMS_ECC_POINT(*ecc.EccPrivate(curve, 1).public)


def square_root(curve: int, x: int) -> int | None:
    """Return a y of the point with this x; every p of ours but that of P-224 is 3 modulo 4."""
    found = ecc.curve(curve)
    square = (x**3 + found.a * x + found.b) % found.p
    y = pow(square, (found.p + 1) // 4, found.p)
    return y if y * y % found.p == square else None


def base(curve: int) -> tuple[bytes, TPMS_ECC_POINT]:
    """Return an s2 whose digest is the x of a point, and that point (Part 1, 44.2.3)."""
    found = ecc.curve(curve)
    for i in range(100):
        s2 = b"a basename" + bytes([i])
        x = int.from_bytes(hashes.digest(c.TPM_ALG_SHA256, s2), "big") % found.p
        y = square_root(curve, x)
        if y is not None:
            return s2, TPMS_ECC_POINT(*(number.to_bytes(found.field_size, "big") for number in (x, y)))
    raise AssertionError("no point")


def check_signature(curve: int, areas: Areas, committed: TPMS_ECC_POINT, digest: bytes,
                    signature: TPMT_SIGNATURE) -> None:
    """[s]G = [r]G + [T]Q, with T = H(k || P) (Part 1, 44.3.3.3)."""
    found, given, public = ecc.curve(curve), signature.signature, areas[0].unique
    assert isinstance(given, TPMS_SIGNATURE_ECC)
    assert isinstance(public, TPMS_ECC_POINT)
    t = int.from_bytes(hashes.digest(given.hash, given.signature_r, digest), "big") % found.n
    expected = ecc.combine(found, (1, (committed.x, committed.y)), (t, (public.x, public.y)))
    assert ecc.EccPrivate(curve, given.signature_s).public == expected


def commit_nothing(client: Client, key: int) -> CommitResponse:
    return run(client, Commit(key, NO_POINT, b"", b""))


# Commit

@pytest.mark.parametrize("curve", DAA_CURVES)
def test_a_commitment_and_its_signature_on_both(pair: Pair, curve: int) -> None:
    areas = anonymous(curve)
    digest = bytes(range(32))
    with pair.loaded(areas) as key:
        for client in (pair.ours, pair.theirs):
            made = commit_nothing(client, key)
            assert made.point_k == made.point_l == NO_POINT
            signature = run(client, Sign(key, digest, ecdaa(made.counter), NO_TICKET)).signature
            assert signature.sig_alg == c.TPM_ALG_ECDAA
            check_signature(curve, areas, made.point_e, digest, signature)


@pytest.mark.parametrize("curve", [*DAA_CURVES, c.TPM_ECC_NIST_P192, c.TPM_ECC_SM2_P256])
def test_the_points_of_a_commitment(pair: Pair, curve: int) -> None:
    areas = anonymous(curve)
    secret = int.from_bytes(areas[1].sensitive, "big")
    s2, point = base(curve)
    g = generator(curve)
    with pair.loaded(areas) as key:
        for client in (pair.ours, pair.theirs):
            made = run(client, Commit(key, g, s2, point.y))
            # K = [d](x2, y2) is all that does not depend on the random value.
            k = ecc.EccPrivate(curve, secret).multiply(point.x, point.y)
            assert (made.point_k.x, made.point_k.y) == k
            signature = run(client, Sign(key, bytes(32), ecdaa(made.counter), NO_TICKET)).signature
            check_signature(curve, areas, made.point_e, bytes(32), signature)
            only_base = run(client, Commit(key, NO_POINT, s2, point.y))
            assert only_base.point_k == made.point_k
            assert only_base.point_l not in (made.point_l, NO_POINT)
            assert only_base.point_e == NO_POINT


S2, BASE = base(c.TPM_ECC_BN_P256)
OFF = TPMS_ECC_POINT(BASE.y, BASE.x)


@pytest.mark.parametrize(("areas", "p1", "s2", "y2", "rc"), [
    (rsa(SIGN), NO_POINT, b"", b"", c.TPM_RC_KEY + H1),
    (elliptic(SIGN), NO_POINT, b"", b"", c.TPM_RC_SCHEME + H1),
    (elliptic(SIGN, c.TPM_ALG_ECDSA, c.TPM_ALG_SHA256), NO_POINT, b"", b"", c.TPM_RC_SCHEME + H1),
    (anonymous(), NO_POINT, S2, b"", c.TPM_RC_SIZE + P3),
    (anonymous(), NO_POINT, b"", BASE.y, c.TPM_RC_SIZE + P3),
    (anonymous(), NO_POINT, S2, BASE.x, c.TPM_RC_ECC_POINT + P2),
    (anonymous(), OFF, b"", b"", c.TPM_RC_ECC_POINT + P1),
    (anonymous(), OFF, S2, BASE.x, c.TPM_RC_ECC_POINT + P2),
    (anonymous(), BASE, S2, BASE.y, 0),
    (anonymous(), TPMS_ECC_POINT(b"\1", b""), b"", b"", c.TPM_RC_ECC_POINT + P1),
    (anonymous(), TPMS_ECC_POINT(bytes(81), b""), b"", b"", c.TPM_RC_SIZE + P1),
])
def test_commit_codes(pair: Pair, areas: Areas, p1: TPMS_ECC_POINT, s2: bytes, y2: bytes, rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(Commit(key, p1, s2, y2)) == (rc, rc)


def test_a_commitment_is_used_once(machine: Machine) -> None:
    client = machine.client
    key = load(client, anonymous())
    made = commit_nothing(client, key)
    request = Sign(key, bytes(32), ecdaa(made.counter), NO_TICKET)
    run(client, request)
    with refused(c.TPM_RC_VALUE):
        run(client, request)


def test_a_failing_command_uses_no_commitment(machine: Machine) -> None:
    client = machine.client
    key = load(client, anonymous())
    made = commit_nothing(client, key)
    with refused(c.TPM_RC_SIZE + P1):
        run(client, Sign(key, bytes(31), ecdaa(made.counter), NO_TICKET))
    run(client, Sign(key, bytes(32), ecdaa(made.counter), NO_TICKET))


def test_counters_that_were_never_given(machine: Machine) -> None:
    """Part 1, 44.2.5: TPM_RC_RANGE for what is not among the last; swtpm says TPM_RC_VALUE of all."""
    client = machine.client
    key = load(client, anonymous())
    for counter in (0, 1, 0xFFFF):
        with refused(c.TPM_RC_RANGE):
            run(client, Sign(key, bytes(32), ecdaa(counter), NO_TICKET))
    counters = [commit_nothing(client, key).counter for _ in range(profile.SPLIT_MAX + 2)]
    assert counters == list(range(profile.SPLIT_MAX + 2))
    for counter, rc in ((0, c.TPM_RC_RANGE), (1, c.TPM_RC_RANGE), (2, 0), (counters[-1], 0),
                        (counters[-1] + 1, c.TPM_RC_RANGE), (2, c.TPM_RC_VALUE)):
        code = rc_of(lambda counter=counter: run(client, Sign(key, bytes(32), ecdaa(counter), NO_TICKET)))
        assert code == rc, counter


def test_a_commitment_belongs_to_its_key(machine: Machine) -> None:
    """Another key can use its number, but not its random value: the Name goes into it."""
    client = machine.client
    first, second = anonymous(), anonymous(hash_alg=c.TPM_ALG_SHA1)
    one, two = load(client, first), load(client, second)
    made = commit_nothing(client, one)
    signature = run(client, Sign(two, bytes(20), ecdaa(made.counter, c.TPM_ALG_SHA1), NO_TICKET)).signature
    with pytest.raises(AssertionError):
        check_signature(c.TPM_ECC_BN_P256, second, made.point_e, bytes(20), signature)


@pytest.mark.parametrize("curve", DAA_CURVES)
def test_an_anonymous_attestation_names_nobody(pair: Pair, curve: int) -> None:
    """Part 1, 44.3.3.3: P = H(qualifyingData || H(attest)), without signer and extraData."""
    areas = anonymous(curve)
    with pair.loaded(areas) as key:
        for client in (pair.ours, pair.theirs):
            made = commit_nothing(client, key)
            found = run(client, GetTime(TPM_RH_ENDORSEMENT, key, b"a nonce", ecdaa(made.counter)))
            attested = decode(TPMS_ATTEST, found.time_info)
            assert (attested.qualified_signer, attested.extra_data) == (b"", b"")
            digest = hashes.digest(c.TPM_ALG_SHA256, b"a nonce",
                                   hashes.digest(c.TPM_ALG_SHA256, found.time_info))
            check_signature(curve, areas, made.point_e, digest, found.signature)


# Two-phase exchange

@EVERY_CURVE
def test_ecdh_in_two_phases_with_swtpm(pair: Pair, curve: int) -> None:
    areas = elliptic(DECRYPT, curve=curve)
    static = areas[0].unique
    assert isinstance(static, TPMS_ECC_POINT)
    with pair.loaded(areas) as key:
        ours, theirs = pair.answers(ECEphemeral(curve))
        one = run(pair.ours, ZGen2Phase(key, static, theirs.q, c.TPM_ALG_ECDH, ours.counter))
        two = run(pair.theirs, ZGen2Phase(key, static, ours.q, c.TPM_ALG_ECDH, theirs.counter))
        assert one == two
        assert one.out_z2 != NO_POINT


@EVERY_CURVE
@pytest.mark.parametrize("scheme", [c.TPM_ALG_ECMQV, c.TPM_ALG_SM2])
def test_both_sides_of_an_exchange_agree(machine: Machine, curve: int, scheme: int) -> None:
    """With a party outside; swtpm 0.7 computes ECMQV with no order and SM2 with one bit less."""
    client = machine.client
    areas = elliptic(DECRYPT, curve=curve)
    mine = areas[0].unique
    assert isinstance(mine, TPMS_ECC_POINT)
    static, once = (ecc.EccPrivate(curve, d) for d in (123456789, 987654321))
    key, made = load(client, areas), run(client, ECEphemeral(curve))
    found = run(client, ZGen2Phase(key, TPMS_ECC_POINT(*static.public), TPMS_ECC_POINT(*once.public), scheme,
                                   made.counter))
    exchange = ecexchange.mqv if scheme == c.TPM_ALG_ECMQV else ecexchange.sm2
    assert (found.out_z1.x, found.out_z1.y) == exchange(static, once, (mine.x, mine.y), (made.q.x, made.q.y))
    assert found.out_z2 == NO_POINT


POINT = generator(c.TPM_ECC_NIST_P256)
WRONG = TPMS_ECC_POINT(POINT.y, POINT.x)


@pytest.mark.parametrize(("areas", "first", "second", "scheme", "rc"), [
    (rsa(DECRYPT), POINT, POINT, c.TPM_ALG_ECDH, c.TPM_RC_KEY + H1),
    (elliptic(SIGN), POINT, POINT, c.TPM_ALG_ECDH, c.TPM_RC_ATTRIBUTES + H1),
    (elliptic(DECRYPT, c.TPM_ALG_ECDH, c.TPM_ALG_SHA256), POINT, POINT, c.TPM_ALG_SM2, c.TPM_RC_SCHEME + P3),
    (elliptic(DECRYPT, c.TPM_ALG_ECDH, c.TPM_ALG_SHA256), POINT, POINT, c.TPM_ALG_ECDH, 0),
    (elliptic(DECRYPT), POINT, POINT, c.TPM_ALG_ECDSA, c.TPM_RC_SCHEME + P3),
    (elliptic(DECRYPT), POINT, POINT, c.TPM_ALG_NULL, c.TPM_RC_SCHEME + P3),
    (elliptic(DECRYPT), WRONG, POINT, c.TPM_ALG_ECDH, c.TPM_RC_ECC_POINT + P1),
    (elliptic(DECRYPT), POINT, WRONG, c.TPM_ALG_ECDH, c.TPM_RC_ECC_POINT + P2),
    (elliptic(DECRYPT), NO_POINT, POINT, c.TPM_ALG_ECDH, c.TPM_RC_ECC_POINT + P1),
    (elliptic(DECRYPT), WRONG, WRONG, c.TPM_ALG_SM2, c.TPM_RC_ECC_POINT + P1),
])
def test_exchange_codes(pair: Pair, areas: Areas, first: TPMS_ECC_POINT, second: TPMS_ECC_POINT, scheme: int,
                        rc: int) -> None:
    with pair.loaded(areas) as key:
        codes = []
        for client in (pair.ours, pair.theirs):
            made = run(client, ECEphemeral(c.TPM_ECC_NIST_P256))
            request = ZGen2Phase(key, first, second, scheme, made.counter)
            codes.append(rc_of(lambda client=client, request=request: run(client, request)))
        assert codes == [rc, rc]


def test_an_ephemeral_key_is_used_once(machine: Machine) -> None:
    client = machine.client
    key = load(client, elliptic(DECRYPT))
    made = run(client, ECEphemeral(c.TPM_ECC_NIST_P256))
    request = ZGen2Phase(key, POINT, POINT, c.TPM_ALG_ECDH, made.counter)
    with refused(c.TPM_RC_ECC_POINT + P1):
        run(client, ZGen2Phase(key, WRONG, POINT, c.TPM_ALG_ECDH, made.counter))
    run(client, request)
    with refused(c.TPM_RC_VALUE + P4):
        run(client, request)
    with refused(c.TPM_RC_RANGE + P4):
        run(client, ZGen2Phase(key, POINT, POINT, c.TPM_ALG_ECDH, made.counter + 1))


@pytest.mark.parametrize("curve", [0, 6, 0x30])
def test_no_ephemeral_key_of_an_unknown_curve(pair: Pair, curve: int) -> None:
    rc = c.TPM_RC_CURVE + P1
    assert pair.codes(ECEphemeral(curve)) == (rc, rc)


# State

def test_commitments_outlive_a_resume_and_not_a_reset(machine: Machine) -> None:
    client = machine.client
    areas = anonymous()
    key = load(client, areas)
    made = [commit_nothing(client, key) for _ in range(3)]
    for shutdown, startup, rc in ((c.TPM_SU_STATE, c.TPM_SU_STATE, 0), (c.TPM_SU_STATE, c.TPM_SU_CLEAR, 0),
                                  (c.TPM_SU_CLEAR, c.TPM_SU_CLEAR, c.TPM_RC_RANGE)):
        machine.run(Shutdown(shutdown))
        machine.power_cycle()
        machine.run(Startup(startup))
        key = load(machine.client, areas)
        used = made.pop()
        request = Sign(key, bytes(32), ecdaa(used.counter), NO_TICKET)
        assert rc_of(lambda request=request: run(machine.client, request)) == rc
        if not rc:
            assert rc_of(lambda request=request: run(machine.client, request)) == c.TPM_RC_VALUE


def test_state_of_commitments_round_trips() -> None:
    one, other = (Commits(lambda size, fill=fill: bytes([fill]) * size) for fill in (1, 2))
    key = (c.TPM_ALG_SHA256, b"name", 1 << 256)
    for _ in range(70_000):
        one.commit()
    one.retire(69_999 % 65536)
    assert one.scalar(*key) != other.scalar(*key)
    other.restore(one.save())
    other.restore_volatile(one.save_volatile())
    assert other.save_volatile() == one.save_volatile()
    assert other.scalar(*key) == one.scalar(*key)
    # The number is found again from its low-order 16 bits, across their overflow.
    assert other.pending(69_998 % 65536) == 69_998
    with refused(c.TPM_RC_VALUE):
        other.pending(69_999 % 65536)
    with refused(c.TPM_RC_RANGE):
        other.pending(0)
    other.startup(Start.RESUME)
    assert other.count == 70_000
    other.startup(Start.RESET)
    assert other.count == 0
    with refused(c.TPM_RC_RANGE):
        other.pending(0xFFFF)


@pytest.mark.parametrize("state", [b"", b"\2", b"\1\0"])
def test_state_of_another_version_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match="version"):
        Commits(bytes).restore(state)
    with pytest.raises(TpmError):
        Commits(bytes).restore_volatile(state)
