"""What the chip signs and opens for the manager: identity keys, quotes, NV areas; both families."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import sha1, sha256

import pytest

from hwtpm.crypto import ids
from hwtpm.crypto.errors import BadSignature
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMS_CREATION_INFO, TPMS_QUOTE_INFO
from hwtpm.wire import decode
from manager.attesting import AttestingConversation, NewAik
from manager.requests import IdentityKey20
from tests.manager.chips import TestChip
from tests.support.saa import activation12, activation20, name20

LABEL, AUTH = b"L" * 20, b"A" * 20
SELECTION = bytes((0x01, 0, 0xF0))  # PCR 0 and 20 to 23
BADINDEX, AUTHFAIL, NOSPACE = 2, 1, 17


@pytest.fixture
def talk(any_chip: TestChip) -> Iterator[AttestingConversation]:
    with any_chip.sealing.conversation(None) as made:
        yield made
    any_chip.nothing_is_loaded()


def digest(chip: TestChip, octets: bytes) -> bytes:
    return (sha1 if chip.family == "1.2" else sha256)(octets).digest()


def verify(chip: TestChip, modulus: bytes, octets: bytes, signature: bytes) -> None:
    RsaPublic(modulus).verify_pkcs1(
        ids.SHA1 if chip.family == "1.2" else ids.SHA256, digest(chip, octets), signature)


def code(chip: TestChip, error: TpmError) -> int:
    return chip.sealing.return_code(error.rc)


def test_a_new_key_vouches_for_itself_and_its_label(any_chip: TestChip, talk: AttestingConversation) -> None:
    made = talk.make_aik(LABEL, AUTH)
    assert len(made.aik.modulus) == len(made.binding) == 256
    if any_chip.family == "1.2":
        parms = bytes.fromhex("00000001 0001 0002 0000000c 00000800 00000002 00000000 00000100")
        contents = bytes.fromhex("01010000 00000079") + LABEL + parms + made.aik.modulus
        assert made.statement == b""
        verify(any_chip, made.aik.modulus, contents, made.binding)
        return
    attest = decode(TPMS_ATTEST, made.statement)
    assert isinstance(attest.attested, TPMS_CREATION_INFO)
    assert attest.attested.object_name == name20(decode(IdentityKey20, made.aik.blob).public)
    assert attest.extra_data == LABEL
    verify(any_chip, made.aik.modulus, made.statement, made.binding)


def activation(chip: TestChip, endorsement: bytes, made: NewAik, key: bytes) -> bytes:
    if chip.family == "1.2":
        return activation12(endorsement, made.aik.modulus, key)
    return activation20(endorsement, decode(IdentityKey20, made.aik.blob).public, key)


def test_what_a_privacy_ca_sends_is_opened_for_that_key_only(
        any_chip: TestChip, talk: AttestingConversation) -> None:
    key = b"session key 1234"
    made, other = talk.make_aik(LABEL, AUTH), talk.make_aik(LABEL, AUTH)
    sent = activation(any_chip, talk.endorsement_key(), made, key)
    opened = struct.pack(">IHH", 6, 0xFF, 16) if any_chip.family == "1.2" else b"\0\x10"
    assert talk.activate(made.aik.blob, AUTH, sent) == opened + key
    for blob, auth, encrypted in ((other.aik.blob, AUTH, sent), (made.aik.blob, b"B" * 20, sent),
                                  (made.aik.blob, AUTH, sent[:-1]), (made.aik.blob, AUTH, b"")):
        with pytest.raises(TpmError):
            talk.activate(blob, auth, encrypted)


def test_a_quote_signs_pcrs_and_what_it_is_given(any_chip: TestChip, talk: AttestingConversation) -> None:
    made = talk.make_aik(LABEL, AUTH)
    extern = digest(any_chip, b"extern")
    quote = talk.quote(made.aik.blob, AUTH, SELECTION, extern)
    assert quote.values == talk.read_pcrs(SELECTION)
    if any_chip.family == "1.2":
        composite = struct.pack(">H", 3) + SELECTION + struct.pack(">I", len(quote.values)) + quote.values
        signed = b"\1\1\0\0QUOT" + sha1(composite).digest() + extern
        assert quote.statement == b""
    else:
        signed = quote.statement
        attest = decode(TPMS_ATTEST, signed)
        assert isinstance(attest.attested, TPMS_QUOTE_INFO)
        assert attest.extra_data == extern
        assert [(s.hash, s.pcr_select) for s in attest.attested.pcr_select] == [(0x0B, SELECTION)]
        assert attest.attested.pcr_digest == sha256(quote.values).digest()
    verify(any_chip, made.aik.modulus, signed, quote.signature)
    with pytest.raises(BadSignature):
        verify(any_chip, talk.make_aik(LABEL, AUTH).aik.modulus, signed, quote.signature)
    with pytest.raises(TpmError) as caught:
        talk.quote(made.aik.blob, b"B" * 20, SELECTION, extern)
    assert code(any_chip, caught.value) == AUTHFAIL


def test_quote_pcrs_are_set_from_the_managers_locality(
        any_chip: TestChip, talk: AttestingConversation) -> None:
    size = len(digest(any_chip, b""))
    one, two = b"1" * size, b"2" * size
    reset = (b"\xff" if any_chip.family == "1.2" else b"\0") * size  # no dynamic launch: 1.2 Part 3, 16.4
    for _ in range(2):  # whatever they were before
        talk.set_quote_pcrs({20: [one], 21: [two], 23: [one, two]})
        assert talk.read_pcrs(bytes((0, 0, 0xF0))) == b"".join((
            digest(any_chip, reset + one), digest(any_chip, reset + two), reset,
            digest(any_chip, digest(any_chip, bytes(size) + one) + two)))


def test_all_24_pcrs_are_read_in_order(any_chip: TestChip, talk: AttestingConversation) -> None:
    size = len(digest(any_chip, b""))
    together = talk.read_pcrs(b"\xff\xff\xff")
    assert len(together) == 24 * size
    assert [together[n * size : (n + 1) * size] for n in range(24)] == [
        talk.read_pcrs((1 << n).to_bytes(3, "little")) for n in range(24)]
    assert talk.read_pcrs(bytes(3)) == b""


def area(chip: TestChip) -> int:
    """Return the number of an NV area that the owner may give out."""
    return 0x00011101 if chip.family == "1.2" else 0x01800077


def test_an_nv_area_is_defined_written_read_and_deleted(
        any_chip: TestChip, talk: AttestingConversation) -> None:
    index = area(any_chip)
    talk.define_area(index, 600, AUTH)
    assert talk.read_area(index, 0, AUTH, 600) == b"\xff" * 600
    talk.write_area(index, 10, AUTH, b"data" * 140)
    assert talk.read_area(index, 8, AUTH, 568) == b"\xff\xff" + b"data" * 140 + b"\xff" * 6
    refused = [
        (AUTHFAIL, lambda: talk.read_area(index, 0, b"B" * 20, 4)),
        (AUTHFAIL, lambda: talk.write_area(index, 0, b"B" * 20, b"data")),
        (NOSPACE, lambda: talk.write_area(index, 597, AUTH, b"data")),
        (NOSPACE, lambda: talk.read_area(index, 597, AUTH, 4)),
        (BADINDEX, lambda: talk.read_area(index + 1, 0, AUTH, 4)),
        (BADINDEX, lambda: talk.define_area(index + 1, 0, AUTH)),
    ]
    for expected, call in refused:
        with pytest.raises(TpmError) as caught:
            call()
        assert code(any_chip, caught.value) == expected
    talk.define_area(index, 8, b"B" * 20)  # in place of the old one
    assert talk.read_area(index, 0, b"B" * 20, 8) == b"\xff" * 8
    talk.define_area(index, 0, AUTH)
    with pytest.raises(TpmError) as caught:
        talk.read_area(index, 0, AUTH, 4)
    assert code(any_chip, caught.value) == BADINDEX


def test_secrets_cross_encrypted_only(any_chip: TestChip, talk: AttestingConversation) -> None:
    made = talk.make_aik(LABEL, AUTH)
    sent = activation(any_chip, talk.endorsement_key(), made, b"session key 1234")
    assert b"session key 1234" in talk.activate(made.aik.blob, AUTH, sent)
    index = area(any_chip)
    talk.define_area(index, 32, AUTH)
    talk.write_area(index, 0, AUTH, b"what nobody sees")
    assert talk.read_area(index, 0, AUTH, 16) == b"what nobody sees"
    for secret in AUTH, b"session key 1234", b"what nobody sees":
        assert not any(secret in octets for octets in any_chip.traffic)
