"""Attestation (Part 3, 18 and 31.16), alone and beside swtpm."""

from __future__ import annotations

from typing import Any

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto import hashes
from hwtpm.crypto.kdf import kdfa
from hwtpm.tpm2.attest import FIRMWARE_VERSION
from hwtpm.tpm2.requests.attestation import Certify, CertifyCreation, GetTime, Quote
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.nv import NVCertify, NVDefineSpace, NVWrite
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRReset
from hwtpm.tpm2.requests.sequence import HashSequenceStart
from hwtpm.tpm2.requests.signing import VerifySignature
from hwtpm.tpm2.requests.startup import Shutdown
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE, TPMT_SIG_SCHEME, TPMT_SIGNATURE
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE, TPMA_NV_NO_DA
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
    TPM_GENERATED_VALUE,
    TPM_RC_KEY,
    TPM_RC_NV_RANGE,
    TPM_RC_NV_UNINITIALIZED,
    TPM_RC_SCHEME,
    TPM_RC_TICKET,
    TPM_RC_VALUE,
    TPM_ST_ATTEST_CERTIFY,
    TPM_ST_ATTEST_CREATION,
    TPM_ST_ATTEST_NV,
    TPM_ST_ATTEST_NV_DIGEST,
    TPM_ST_ATTEST_QUOTE,
    TPM_ST_ATTEST_TIME,
    TPM_ST_CREATION,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMS_PCR_SELECTION, TPMT_HA, TPMT_TK_CREATION
from hwtpm.wire import decode
from tests.support.tpm2 import Machine, refused
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

H1, H2, P2, P3, P4 = 0x100, 0x200, 0x240, 0x340, 0x440
NONCE = b"qualifying data"
INDEX = 0x01500010
PCRS = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\x81\x00\x01")]
DEFAULT, ECDSA = scheme(), scheme(TPM_ALG_ECDSA, TPM_ALG_SHA256)
UNSIGNED = TPMT_SIGNATURE(TPM_ALG_NULL, None)


def statement(octets: bytes, kind: int) -> tuple[TPMS_ATTEST, Any]:
    """Return the decoded attestation of *kind* with NONCE, and what it attests."""
    found = decode(TPMS_ATTEST, octets)
    assert (found.magic, found.type, found.extra_data) == (TPM_GENERATED_VALUE, kind, NONCE)
    return found, found.attested


@pytest.mark.parametrize(("areas", "asked"), [
    (elliptic(SIGN), ECDSA),
    (elliptic(SIGN), scheme(TPM_ALG_ECDSA, TPM_ALG_SHA1)),
    (rsa(SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA384), DEFAULT),
    (rsa(SIGN), scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA512)),
    (keyed_hash(SIGN), DEFAULT),
])
def test_a_quote_verifies_on_the_other_tpm(pair: Pair, areas: Areas, asked: TPMT_SIG_SCHEME) -> None:
    with pair.loaded(areas) as key:
        request = Quote(key, NONCE, asked, PCRS)
        ours, theirs = pair.answers(request)
        contents = []
        for made, sink in ((ours, pair.theirs), (theirs, pair.ours), (ours, pair.ours)):
            alg = made.signature.signature
            assert alg is not None
            assert not isinstance(alg, bytes)
            hash_alg = alg.hash_alg if isinstance(alg, TPMT_HA) else alg.hash
            run(sink, VerifySignature(key, hashes.digest(hash_alg, made.quoted), made.signature))
            found, quoted = statement(made.quoted, TPM_ST_ATTEST_QUOTE)
            contents.append((found.qualified_signer, quoted))
        assert contents[0] == contents[1]


@pytest.mark.parametrize("alg", [TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512])
def test_the_pcr_digest_is_made_with_the_hash_of_the_scheme(pair: Pair, alg: int) -> None:
    selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\x02\x00\x01"),
                 TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\x00\x00\x00")]
    for client in (pair.ours, pair.theirs):
        run(client, PCRReset(16))
        run(client, PCRExtend(16, [TPMT_HA(TPM_ALG_SHA256, bytes(range(32)))]))
    with pair.loaded(elliptic(SIGN)) as key:
        ours, theirs = pair.answers(Quote(key, NONCE, scheme(TPM_ALG_ECDSA, alg), selection))
        quoted = statement(ours.quoted, TPM_ST_ATTEST_QUOTE)[1]
        assert quoted == statement(theirs.quoted, TPM_ST_ATTEST_QUOTE)[1]
        pcr16 = hashes.digest(TPM_ALG_SHA256, bytes(32) + bytes(range(32)))
        assert quoted.pcr_digest == hashes.digest(alg, bytes(32) + pcr16)
        assert quoted.pcr_select == selection


def test_a_quote_of_nothing_is_the_digest_of_nothing(pair: Pair) -> None:
    with pair.loaded(elliptic(SIGN)) as key:
        ours, theirs = pair.answers(Quote(key, NONCE, ECDSA, []))
        quoted = statement(ours.quoted, TPM_ST_ATTEST_QUOTE)[1]
        assert quoted == statement(theirs.quoted, TPM_ST_ATTEST_QUOTE)[1]
        assert quoted.pcr_digest == hashes.digest(TPM_ALG_SHA256, b"")


SIGNERS = [
    (elliptic(DECRYPT), ECDSA, TPM_RC_KEY, False),
    (cipher(SIGN), ECDSA, TPM_RC_KEY, False),
    (elliptic(SIGN), DEFAULT, TPM_RC_SCHEME, True),
    (elliptic(SIGN), scheme(TPM_ALG_RSASSA, TPM_ALG_SHA256), TPM_RC_SCHEME, True),
    (elliptic(SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256), scheme(TPM_ALG_ECDSA, TPM_ALG_SHA1), TPM_RC_SCHEME, True),
    (keyed_hash(SIGN), ECDSA, TPM_RC_SCHEME, True),
    (keyed_hash(SIGN), scheme(TPM_ALG_HMAC, TPM_ALG_SHA256), 0, True),
    (elliptic(SIGN), ECDSA, 0, True),
]


@pytest.mark.parametrize(("areas", "asked", "code", "of_parameter"), SIGNERS)
def test_signer_codes(pair: Pair, areas: Areas, asked: TPMT_SIG_SCHEME, code: int,
                      of_parameter: bool) -> None:
    """Each command names its own handle and parameter."""
    with pair.loaded(areas) as key, pair.loaded(elliptic(SIGN)) as other:
        null_ticket = TPMT_TK_CREATION(TPM_ST_CREATION, TPM_RH_NULL, b"")
        requests: list[tuple[Command[Any], int, int]] = [
            (Quote(key, NONCE, asked, PCRS), H1, P2),
            (GetTime(TPM_RH_ENDORSEMENT, key, NONCE, asked), H2, P2),
            (Certify(other, key, NONCE, asked), H2, P2),
            (CertifyCreation(key, other, NONCE, b"", asked, null_ticket), H1, P3),
        ]
        for request, handle, parameter in requests:
            rc = code + (parameter if of_parameter else handle) if code else 0
            if rc == 0 and isinstance(request, CertifyCreation):
                rc = TPM_RC_TICKET + P4
            assert pair.codes(request) == (rc, rc), type(request).__name__


def test_without_a_key_nothing_is_signed(pair: Pair) -> None:
    with pair.loaded(elliptic(SIGN)) as other:
        for client in (pair.ours, pair.theirs):
            certified = run(client, Certify(other, TPM_RH_NULL, NONCE, DEFAULT))
            found, info = statement(certified.certify_info, TPM_ST_ATTEST_CERTIFY)
            assert certified.signature == UNSIGNED
            assert found.qualified_signer == TPM_RH_NULL.to_bytes(4, "big")
            assert info.name == client.names[other]
            timed = run(client, GetTime(TPM_RH_ENDORSEMENT, TPM_RH_NULL, NONCE, ECDSA))
            assert timed.signature == UNSIGNED
            statement(timed.time_info, TPM_ST_ATTEST_TIME)


def test_a_quote_without_a_key_takes_the_hash_that_is_asked_for(machine: Machine) -> None:
    """Part 3, 18.4 since version 185; swtpm, as versions up to 183 allow, refuses all of them."""
    made = run(machine.client, Quote(TPM_RH_NULL, NONCE, scheme(TPM_ALG_ECDSA, TPM_ALG_SHA384), PCRS))
    assert made.signature == UNSIGNED
    quoted = statement(made.quoted, TPM_ST_ATTEST_QUOTE)[1]
    assert quoted.pcr_digest == hashes.digest(TPM_ALG_SHA384, bytes(96)[:64] + b"\0" * 32)
    with refused(TPM_RC_SCHEME + P2):
        run(machine.client, Quote(TPM_RH_NULL, NONCE, DEFAULT, PCRS))


def test_certify_tells_both_names(pair: Pair) -> None:
    for client in (pair.ours, pair.theirs):
        key, other = create_primary(client, signing_template()), load(client, elliptic(SIGN))
        made = run(client, Certify(other, key, NONCE, DEFAULT))
        found, info = statement(made.certify_info, TPM_ST_ATTEST_CERTIFY)
        public = client.run(ReadPublic(other))
        assert (info.name, info.qualified_name) == (public.name, public.qualified_name)
        assert found.qualified_signer == client.run(ReadPublic(key)).qualified_name
        run(client, VerifySignature(key, hashes.digest(TPM_ALG_SHA256, made.certify_info), made.signature))
        flush(client, key, other)


def flush(client: Client, *handles: int) -> None:
    for handle in handles:
        client.run(FlushContext(handle))


def test_a_sequence_cannot_be_certified(machine: Machine) -> None:
    key = load(machine.client, elliptic(SIGN))
    sequence = machine.run(HashSequenceStart(b"", TPM_ALG_SHA256)).sequence_handle
    with refused(TPM_RC_KEY + H1):
        machine.run(Certify(sequence, key, NONCE, ECDSA), Password(), Password())


def test_creation_is_certified_with_its_ticket(pair: Pair) -> None:
    for client in (pair.ours, pair.theirs):
        sensitive = TPMS_SENSITIVE_CREATE(b"", b"")
        made = run(client, CreatePrimary(TPM_RH_OWNER, sensitive, signing_template(), b"", PCRS))
        key = made.object_handle
        client.names[key] = made.name
        ticket, digest = made.creation_ticket, made.creation_hash
        answer = run(client, CertifyCreation(key, key, NONCE, digest, DEFAULT, ticket))
        info = statement(answer.certify_info, TPM_ST_ATTEST_CREATION)[1]
        assert (info.object_name, info.creation_hash) == (made.name, digest)
        unsigned = run(client, CertifyCreation(TPM_RH_NULL, key, NONCE, digest, DEFAULT, ticket))
        assert unsigned.signature == UNSIGNED
        other = load(client, elliptic(SIGN))
        for wrong_digest, wrong_ticket, handle in (
                (bytes(32), ticket, key), (digest, ticket, other), (b"", ticket, key),
                (digest, TPMT_TK_CREATION(ticket.tag, TPM_RH_PLATFORM, ticket.digest), key),
                (digest, TPMT_TK_CREATION(ticket.tag, TPM_RH_OWNER, b""), key)):
            with refused(TPM_RC_TICKET + P4):
                run(client, CertifyCreation(key, handle, NONCE, wrong_digest, DEFAULT, wrong_ticket))
        flush(client, key, other)


def difference(client: Client, hierarchy: int) -> tuple[int, int, int]:
    """Return what is added to firmware version, resetCount and restartCount for a key of *hierarchy*."""
    key = TPM_RH_NULL if hierarchy == TPM_RH_NULL else create_primary(client, signing_template(), hierarchy)
    made = run(client, GetTime(TPM_RH_ENDORSEMENT, key, NONCE, DEFAULT))
    if key != TPM_RH_NULL:
        run(client, VerifySignature(key, hashes.digest(TPM_ALG_SHA256, made.time_info), made.signature))
        flush(client, key)
    found, info = statement(made.time_info, TPM_ST_ATTEST_TIME)
    shown, clear = found.clock_info, info.time.clock_info
    assert abs(shown.clock - clear.clock) < 1000
    assert (clear.reset_count, clear.restart_count) == read_counts(client)
    return ((found.firmware_version - info.firmware_version) & 0xFFFFFFFFFFFFFFFF,
            (shown.reset_count - clear.reset_count) & 0xFFFFFFFF,
            (shown.restart_count - clear.restart_count) & 0xFFFFFFFF)


def read_counts(client: Client) -> tuple[int, int]:
    clock = client.run(ReadClock()).current_time.clock_info
    return clock.reset_count, clock.restart_count


def test_counts_are_obfuscated_outside_endorsement_and_platform(pair: Pair) -> None:
    """Part 1, 33.7."""
    for client in (pair.ours, pair.theirs):
        assert difference(client, TPM_RH_ENDORSEMENT) == (0, 0, 0)
        assert difference(client, TPM_RH_PLATFORM) == (0, 0, 0)
        owner = difference(client, TPM_RH_OWNER)
        null = difference(client, TPM_RH_NULL)
        assert all(owner)
        assert all(null)
        assert owner != null
        assert difference(client, TPM_RH_OWNER) == owner


def test_the_obfuscation_is_kdfa_of_the_owner_proof(machine: Machine) -> None:
    key = create_primary(machine.client, signing_template())
    signer = machine.run(ReadPublic(key)).qualified_name
    made = run(machine.client, Quote(key, NONCE, DEFAULT, PCRS))
    value = kdfa(TPM_ALG_SHA256, machine.tpm.hierarchies.proof(TPM_RH_OWNER), b"OBFUSCATE", signer, b"", 128)
    found = statement(made.quoted, TPM_ST_ATTEST_QUOTE)[0]
    assert found.firmware_version == (FIRMWARE_VERSION + int.from_bytes(value[:8], "big")) % 2**64
    assert found.clock_info.reset_count == (1 + int.from_bytes(value[8:12], "big")) % 2**32
    assert found.clock_info.restart_count == int.from_bytes(value[12:], "big")


def test_time_and_clock_are_those_of_read_clock(machine: Machine) -> None:
    machine.clock.advance(12345)
    made = run(machine.client, GetTime(TPM_RH_ENDORSEMENT, TPM_RH_NULL, NONCE, DEFAULT))
    info = statement(made.time_info, TPM_ST_ATTEST_TIME)[1]
    assert info.time == machine.run(ReadClock()).current_time
    assert info.time.time == 12345


def test_a_signed_clock_ends_an_orderly_shutdown(machine: Machine) -> None:
    """A Clock value that was signed must not be signed again after the next Startup."""
    key = load(machine.client, elliptic(SIGN))
    machine.run(Shutdown(TPM_SU_CLEAR))
    run(machine.client, Quote(TPM_RH_NULL, NONCE, ECDSA, PCRS))
    assert machine.tpm.power.orderly == TPM_SU_CLEAR
    run(machine.client, Quote(key, NONCE, ECDSA, PCRS))
    assert machine.tpm.power.orderly is None
    assert machine.dirty


def define(client: Client, *, write: bytes | None = b"0123456789abcdef") -> None:
    attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA
    public = TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, attributes, b"", 32)
    client.run(NVDefineSpace(TPM_RH_OWNER, b"", public), Password())
    if write is not None:
        run(client, NVWrite(INDEX, INDEX, write, 0))


def test_nv_contents_are_certified(fresh: Pair) -> None:
    for client in (fresh.ours, fresh.theirs):
        define(client, write=bytes(range(32)))
    with fresh.loaded(elliptic(SIGN)) as key:
        for size, offset in ((8, 4), (0, 4), (32, 0), (0, 32)):
            infos = []
            for made in fresh.answers(NVCertify(key, INDEX, INDEX, NONCE, ECDSA, size, offset)):
                infos.append(statement(made.certify_info, TPM_ST_ATTEST_NV)[1])
                digest = hashes.digest(TPM_ALG_SHA256, made.certify_info)
                run(fresh.theirs, VerifySignature(key, digest, made.signature))
            assert infos[0] == infos[1]
            assert infos[0].nv_contents == bytes(range(32))[offset : offset + size]
        ours, theirs = fresh.answers(NVCertify(key, INDEX, INDEX, NONCE, ECDSA, 0, 0))
        info = statement(ours.certify_info, TPM_ST_ATTEST_NV_DIGEST)[1]
        assert info == statement(theirs.certify_info, TPM_ST_ATTEST_NV_DIGEST)[1]
        assert info.nv_digest == hashes.digest(TPM_ALG_SHA256, bytes(range(32)))


def test_nv_certify_codes(fresh: Pair) -> None:
    for client in (fresh.ours, fresh.theirs):
        define(client, write=None)

    def codes(key: int, asked: TPMT_SIG_SCHEME, size: int, offset: int) -> tuple[int, int]:
        return fresh.codes(NVCertify(key, INDEX, INDEX, NONCE, asked, size, offset))

    with fresh.loaded(elliptic(SIGN)) as key, fresh.loaded(elliptic(DECRYPT)) as other:
        assert codes(key, ECDSA, 0, 0) == (TPM_RC_NV_UNINITIALIZED,) * 2
        for client in (fresh.ours, fresh.theirs):
            run(client, NVWrite(INDEX, INDEX, bytes(32), 0))
        assert codes(other, ECDSA, 8, 0) == (TPM_RC_KEY + H1,) * 2
        assert codes(key, DEFAULT, 8, 0) == (TPM_RC_SCHEME + P2,) * 2
        assert codes(key, ECDSA, 33, 0) == (TPM_RC_NV_RANGE,) * 2
        assert codes(key, ECDSA, 0, 33) == (TPM_RC_NV_RANGE,) * 2
        assert codes(key, ECDSA, 0xFFFF, 0xFFFF) == (TPM_RC_NV_RANGE,) * 2
        assert codes(TPM_RH_NULL, DEFAULT, 8, 0) == (0, 0)


def test_an_nv_digest_without_a_key_needs_a_hash(machine: Machine) -> None:
    """Part 3, 31.16 since version 185."""
    define(machine.client)
    with refused(TPM_RC_SCHEME + P2):
        run(machine.client, NVCertify(TPM_RH_NULL, INDEX, INDEX, NONCE, DEFAULT, 0, 0))
    made = run(machine.client, NVCertify(TPM_RH_NULL, INDEX, INDEX, NONCE, ECDSA, 0, 0))
    info = statement(made.certify_info, TPM_ST_ATTEST_NV_DIGEST)[1]
    assert info.nv_digest == hashes.digest(TPM_ALG_SHA256, b"0123456789abcdef" + bytes(16))


def test_more_nv_than_one_response_takes_is_refused(machine: Machine) -> None:
    attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE
    public = TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, attributes, b"", 1025)
    machine.run(NVDefineSpace(TPM_RH_OWNER, b"", public), Password())
    run(machine.client, NVWrite(INDEX, INDEX, b"x", 0))
    with refused(TPM_RC_VALUE + P3):
        run(machine.client, NVCertify(TPM_RH_NULL, INDEX, INDEX, NONCE, DEFAULT, 1025, 0))
