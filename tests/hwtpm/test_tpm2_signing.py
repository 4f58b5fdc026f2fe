"""Sign and VerifySignature (Part 3, 20), alone and beside swtpm."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.crypto import hashes
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.requests.symmetric import Hash
from hwtpm.tpm2.types.algorithms import (
    TPMS_SIGNATURE_ECC,
    TPMS_SIGNATURE_RSA,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_X509SIGN
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDSA,
    TPM_ALG_HMAC,
    TPM_ALG_NULL,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_ECC_NIST_P256,
    TPM_ECC_NIST_P384,
    TPM_ECC_NIST_P521,
    TPM_GENERATED_VALUE,
    TPM_RC_ATTRIBUTES,
    TPM_RC_HANDLE,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_SIGNATURE,
    TPM_RC_SIZE,
    TPM_RC_TAG,
    TPM_RC_TICKET,
    TPM_ST_CREATION,
    TPM_ST_HASHCHECK,
    TPM_ST_VERIFIED,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMT_HA, TPMT_TK_HASHCHECK
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_keys import (
    DECRYPT,
    SIGN,
    Areas,
    cipher,
    create_primary,
    elliptic,
    keyed_hash,
    load,
    rsa,
    scheme,
    signing_template,
)
from tests.support.tpm2_pair import Pair, run

H1, P1, P2, P3 = 0x100, 0x140, 0x240, 0x340
HASHES = (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512)
CURVES = (TPM_ECC_NIST_P256, TPM_ECC_NIST_P384, TPM_ECC_NIST_P521)
NO_TICKET = TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
DEFAULT = scheme()
ECDSA = scheme(TPM_ALG_ECDSA, TPM_ALG_SHA256)
RSASSA = scheme(TPM_ALG_RSASSA, TPM_ALG_SHA256)
DIGEST = hashes.digest(TPM_ALG_SHA256, b"a message")
KINDS = [
    *[(rsa(SIGN, bits=bits), alg, h) for alg in (TPM_ALG_RSASSA, TPM_ALG_RSAPSS)
      for bits, h in ((1024, TPM_ALG_SHA1), (1024, TPM_ALG_SHA512), (2048, TPM_ALG_SHA256),
                      (2048, TPM_ALG_SHA384), (2048, TPM_ALG_SHA512))],
    *[(elliptic(SIGN, curve=curve), TPM_ALG_ECDSA, h) for curve in CURVES for h in HASHES],
    *[(keyed_hash(SIGN, hash_alg=h), TPM_ALG_HMAC, h) for h in HASHES],
]


@pytest.mark.parametrize(("areas", "alg", "hash_alg"), KINDS)
def test_what_one_signs_the_other_verifies(pair: Pair, areas: Areas, alg: int, hash_alg: int) -> None:
    digest = hashes.digest(hash_alg, b"a message")
    with pair.loaded(areas) as key:
        for source, sink in ((pair.ours, pair.theirs), (pair.theirs, pair.ours), (pair.ours, pair.ours)):
            made = run(source, Sign(key, digest, scheme(alg, hash_alg), NO_TICKET)).signature
            assert made.sig_alg == alg
            ticket = run(sink, VerifySignature(key, digest, made)).validation
            assert (ticket.tag, ticket.hierarchy, ticket.hmac) == (TPM_ST_VERIFIED, TPM_RH_NULL, b"")
            with refused(TPM_RC_SIGNATURE + P2):
                run(sink, VerifySignature(key, bytes([digest[0] ^ 1]) + digest[1:], made))


def test_deterministic_signatures_are_those_of_swtpm(pair: Pair) -> None:
    for areas in (rsa(SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256), keyed_hash(SIGN)):
        with pair.loaded(areas) as key:
            ours, theirs = pair.answers(Sign(key, DIGEST, DEFAULT, NO_TICKET))
            assert ours == theirs


def test_halves_of_an_ecc_signature_are_as_long_as_the_order(pair: Pair) -> None:
    for curve, size in zip(CURVES, (32, 48, 66), strict=True):
        with pair.loaded(elliptic(SIGN, curve=curve)) as key:
            for answer in pair.answers(Sign(key, DIGEST, ECDSA, NO_TICKET)):
                value = answer.signature.signature
                assert isinstance(value, TPMS_SIGNATURE_ECC)
                assert (len(value.signature_r), len(value.signature_s)) == (size, size)


def forged(digest: bytes = b"\1" * 64, hierarchy: int = TPM_RH_OWNER) -> TPMT_TK_HASHCHECK:
    return TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, hierarchy, digest)


@pytest.mark.parametrize(("areas", "digest", "asked", "ticket", "rc"), [
    (cipher(SIGN), DIGEST, ECDSA, NO_TICKET, TPM_RC_KEY + H1),
    (rsa(DECRYPT), DIGEST, RSASSA, NO_TICKET, TPM_RC_KEY + H1),
    (elliptic(SIGN | TPMA_OBJECT_X509SIGN), DIGEST, ECDSA, NO_TICKET, TPM_RC_ATTRIBUTES + H1),
    (elliptic(SIGN), DIGEST, DEFAULT, NO_TICKET, TPM_RC_SCHEME + P2),
    (elliptic(SIGN), b"", DEFAULT, NO_TICKET, TPM_RC_SCHEME + P2),
    (elliptic(SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256), DIGEST, DEFAULT, NO_TICKET, 0),
    (elliptic(SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256), DIGEST, ECDSA, NO_TICKET, 0),
    (elliptic(SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256), DIGEST[:20], scheme(TPM_ALG_ECDSA, TPM_ALG_SHA1),
     NO_TICKET, TPM_RC_SCHEME + P2),
    (rsa(SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256), DIGEST, scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA256), NO_TICKET,
     TPM_RC_SCHEME + P2),
    (keyed_hash(SIGN), DIGEST, scheme(TPM_ALG_HMAC, TPM_ALG_SHA1), NO_TICKET, TPM_RC_SCHEME + P2),
    (keyed_hash(SIGN), DIGEST, ECDSA, NO_TICKET, TPM_RC_SCHEME + P2),
    (elliptic(SIGN), DIGEST, RSASSA, NO_TICKET, TPM_RC_SCHEME + P2),
    (rsa(SIGN), DIGEST, ECDSA, NO_TICKET, TPM_RC_SCHEME + P2),
    (rsa(SIGN), DIGEST, scheme(TPM_ALG_HMAC, TPM_ALG_SHA256), NO_TICKET, TPM_RC_SCHEME + P2),
    (keyed_hash(SIGN | DECRYPT, TPM_ALG_NULL, TPM_ALG_NULL), DIGEST, ECDSA, NO_TICKET, TPM_RC_SCHEME + P2),
    (keyed_hash(SIGN | DECRYPT, TPM_ALG_NULL, TPM_ALG_NULL), DIGEST, scheme(TPM_ALG_HMAC, TPM_ALG_SHA256),
     NO_TICKET, 0),
    (elliptic(SIGN), DIGEST[:-1], ECDSA, NO_TICKET, TPM_RC_SIZE + P1),
    (elliptic(SIGN), b"", ECDSA, NO_TICKET, TPM_RC_SIZE + P1),
    (rsa(SIGN), DIGEST, scheme(TPM_ALG_RSASSA, TPM_ALG_SHA384), NO_TICKET, TPM_RC_SIZE + P1),
    (elliptic(SIGN), bytes(65), ECDSA, NO_TICKET, TPM_RC_SIZE + P1),
    (elliptic(SIGN), DIGEST, ECDSA, forged(), TPM_RC_TICKET + P3),
    (elliptic(SIGN), DIGEST, ECDSA, forged(b"\1"), TPM_RC_TICKET + P3),
    (elliptic(SIGN), DIGEST[:-1], ECDSA, forged(), TPM_RC_TICKET + P3),
    (elliptic(SIGN), DIGEST, ECDSA, forged(hierarchy=TPM_RH_NULL), TPM_RC_TICKET + P3),
    (elliptic(SIGN), DIGEST, ECDSA, forged(b"", TPM_RH_OWNER), 0),
    (elliptic(SIGN), DIGEST, ECDSA, TPMT_TK_HASHCHECK(TPM_ST_CREATION, TPM_RH_NULL, b""), TPM_RC_TAG + P3),
])
def test_signing_codes(pair: Pair, areas: Areas, digest: bytes, asked: TPMT_SIG_SCHEME,
                       ticket: TPMT_TK_HASHCHECK, rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(Sign(key, digest, asked, ticket)) == (rc, rc)


def test_null_cannot_sign(pair: Pair) -> None:
    ours, theirs = pair.codes(Sign(TPM_RH_NULL, DIGEST, ECDSA, NO_TICKET))
    assert ours == theirs != 0


@pytest.mark.parametrize("hierarchy", [TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM])
def test_a_restricted_key_signs_what_the_tpm_hashed(pair: Pair, hierarchy: int) -> None:
    for client in (pair.ours, pair.theirs):
        key = create_primary(client, signing_template())
        hashed = client.run(Hash(b"a message", TPM_ALG_SHA256, hierarchy))
        made = run(client, Sign(key, hashed.out_hash, DEFAULT, hashed.validation)).signature
        run(client, VerifySignature(key, DIGEST, made))
        ticket = hashed.validation
        other = TPM_RH_OWNER if hierarchy != TPM_RH_OWNER else TPM_RH_PLATFORM
        for digest, refused_ticket in (
                (DIGEST, NO_TICKET), (bytes(32), ticket), (DIGEST[:20], ticket),
                (DIGEST, TPMT_TK_HASHCHECK(ticket.tag, other, ticket.digest)),
                (DIGEST, TPMT_TK_HASHCHECK(ticket.tag, hierarchy, ticket.digest[:-1])),
                (DIGEST, TPMT_TK_HASHCHECK(ticket.tag, hierarchy, b""))):
            with refused(TPM_RC_TICKET + P3):
                run(client, Sign(key, digest, DEFAULT, refused_ticket))
        flush(client, key)


def flush(client: object, handle: int) -> None:
    from hwtpm.client import Client
    from hwtpm.tpm2.requests.context import FlushContext

    assert isinstance(client, Client)
    client.run(FlushContext(handle))


def test_a_restricted_key_signs_nothing_that_looks_generated(machine: Machine) -> None:
    key = create_primary(machine.client, signing_template())
    message = TPM_GENERATED_VALUE.to_bytes(4, "big") + b"a quote"
    hashed = machine.run(Hash(message, TPM_ALG_SHA256, TPM_RH_OWNER))
    assert hashed.validation == NO_TICKET
    with refused(TPM_RC_TICKET + P3):
        run(machine.client, Sign(key, hashed.out_hash, DEFAULT, hashed.validation))


def test_a_ticket_is_for_the_hash_of_the_scheme(pair: Pair) -> None:
    """Part 3, 20.5: TPM_RC_TICKET when the ticket is of another hash algorithm."""
    for client in (pair.ours, pair.theirs):
        key = load(client, elliptic(SIGN))
        hashed = client.run(Hash(b"a message", TPM_ALG_SHA256, TPM_RH_OWNER))
        run(client, Sign(key, hashed.out_hash, ECDSA, hashed.validation))
        with refused(TPM_RC_TICKET + P3):
            run(client, Sign(key, hashed.out_hash, scheme(TPM_ALG_ECDSA, TPM_ALG_SHA384), hashed.validation))
        flush(client, key)


def ecdsa_of(r: bytes, s: bytes) -> TPMT_SIGNATURE:
    return TPMT_SIGNATURE(TPM_ALG_ECDSA, TPMS_SIGNATURE_ECC(TPM_ALG_SHA256, r, s))


def rsa_of(sig: bytes, alg: int = TPM_ALG_RSASSA) -> TPMT_SIGNATURE:
    return TPMT_SIGNATURE(alg, TPMS_SIGNATURE_RSA(TPM_ALG_SHA256, sig))


def hmac_of(digest: bytes, hash_alg: int = TPM_ALG_SHA256) -> TPMT_SIGNATURE:
    return TPMT_SIGNATURE(TPM_ALG_HMAC, TPMT_HA(hash_alg, digest))


ORDER = bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
ONE = b"\1".rjust(32, b"\0")


@pytest.mark.parametrize(("areas", "digest", "signature", "rc"), [
    (elliptic(DECRYPT), DIGEST, ecdsa_of(ONE, ONE), TPM_RC_ATTRIBUTES + H1),
    (cipher(SIGN), DIGEST, ecdsa_of(ONE, ONE), TPM_RC_SCHEME + P2),
    (elliptic(SIGN), DIGEST, ecdsa_of(ONE, ONE), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), DIGEST, ecdsa_of(b"", b""), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), DIGEST, ecdsa_of(bytes(32), ONE), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), DIGEST, ecdsa_of(ORDER, ONE), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), DIGEST, ecdsa_of(ONE, ORDER), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), DIGEST, ecdsa_of(b"\xff" * 66, ONE), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), b"", ecdsa_of(ONE, ONE), TPM_RC_SIGNATURE + P2),
    (elliptic(SIGN), DIGEST, rsa_of(bytes(256)), TPM_RC_SCHEME + P2),
    (elliptic(SIGN), DIGEST, hmac_of(bytes(32)), TPM_RC_SCHEME + P2),
    (elliptic(SIGN), DIGEST, TPMT_SIGNATURE(TPM_ALG_NULL), TPM_RC_SCHEME + P2),
    (rsa(SIGN), DIGEST, rsa_of(bytes(256)), TPM_RC_SIGNATURE + P2),
    (rsa(SIGN), DIGEST, rsa_of(b"\xff" * 256), TPM_RC_SIGNATURE + P2),
    (rsa(SIGN), DIGEST, rsa_of(bytes(255)), TPM_RC_SIGNATURE + P2),
    (rsa(SIGN), DIGEST, rsa_of(bytes(257), TPM_ALG_RSAPSS), TPM_RC_SIGNATURE + P2),
    (rsa(SIGN), DIGEST, rsa_of(b"\5" * 256, TPM_ALG_RSAPSS), TPM_RC_SIGNATURE + P2),
    (rsa(SIGN), DIGEST[:20], rsa_of(b"\5" * 256), TPM_RC_SIGNATURE + P2),
    (rsa(SIGN), DIGEST, ecdsa_of(ONE, ONE), TPM_RC_SCHEME + P2),
    (rsa(SIGN), DIGEST, hmac_of(bytes(32)), TPM_RC_SCHEME + P2),
    (keyed_hash(SIGN), DIGEST, hmac_of(bytes(32)), TPM_RC_SIGNATURE + P2),
    (keyed_hash(SIGN), DIGEST, hmac_of(bytes(20), TPM_ALG_SHA1), TPM_RC_SIGNATURE + P2),
    (keyed_hash(SIGN), DIGEST, ecdsa_of(ONE, ONE), TPM_RC_SCHEME + P2),
])
def test_verification_codes(pair: Pair, areas: Areas, digest: bytes, signature: TPMT_SIGNATURE,
                            rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(VerifySignature(key, digest, signature)) == (rc, rc)


def test_an_hmac_key_without_its_secret_verifies_nothing(pair: Pair) -> None:
    rc = TPM_RC_HANDLE + P2
    with pair.loaded(keyed_hash(SIGN), public_only=True) as key:
        assert pair.codes(VerifySignature(key, DIGEST, hmac_of(bytes(32)))) == (rc, rc)


def test_a_public_key_of_a_hierarchy_gives_a_ticket(pair: Pair) -> None:
    areas = elliptic(SIGN)
    with pair.loaded(areas) as whole:
        made = run(pair.ours, Sign(whole, DIGEST, ECDSA, NO_TICKET)).signature
        with pair.loaded(areas, public_only=True, hierarchy=TPM_RH_OWNER) as key:
            for answer in pair.answers(VerifySignature(key, DIGEST, made)):
                ticket = answer.validation
                assert (ticket.tag, ticket.hierarchy, len(ticket.hmac)) == (TPM_ST_VERIFIED, TPM_RH_OWNER, 64)


def test_a_key_without_a_name_gives_a_null_ticket(pair: Pair) -> None:
    areas = elliptic(SIGN, name_alg=TPM_ALG_NULL)
    with pair.loaded(elliptic(SIGN)) as whole:
        made = run(pair.ours, Sign(whole, DIGEST, ECDSA, NO_TICKET)).signature
        with pair.loaded(areas, public_only=True, hierarchy=TPM_RH_OWNER) as key:
            for answer in pair.answers(VerifySignature(key, DIGEST, made)):
                assert (answer.validation.hierarchy, answer.validation.hmac) == (TPM_RH_NULL, b"")


def test_pss_takes_any_length_of_salt(pair: Pair) -> None:
    """swtpm's salt is the longest that fits where ours has the size of the digest; each verifies both."""
    with pair.loaded(rsa(SIGN, bits=1024)) as key:
        for source, sink in ((pair.ours, pair.theirs), (pair.theirs, pair.ours)):
            made = run(source, Sign(key, DIGEST, scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA256), NO_TICKET)).signature
            run(sink, VerifySignature(key, DIGEST, made))


@pytest.fixture(scope="module")
def keyed() -> tuple[Machine, int]:
    machine = started()
    return machine, load(machine.client, elliptic(SIGN))


@settings(max_examples=60, deadline=None)
@given(r=st.binary(max_size=66), s=st.binary(max_size=66), digest=st.binary(max_size=64))
def test_no_signature_out_of_nothing(keyed: tuple[Machine, int], r: bytes, s: bytes, digest: bytes) -> None:
    machine, key = keyed
    with refused(TPM_RC_SIGNATURE + P2):
        run(machine.client, VerifySignature(key, digest, ecdsa_of(r, s)))
