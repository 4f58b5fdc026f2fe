"""Quotes: what they sign, in both meanings, and what a verifier with public keys makes of them."""

from __future__ import annotations

import struct
from hashlib import sha1, sha256
from typing import Any

import pytest

from manager.attesting import NewAik, Quote
from manager.cfglist import platform_hash
from manager.quote import (
    MEANING_XEN,
    RECOVERS,
    REGISTERS,
    SHOWS,
    Meaning,
    Subject,
    extern_data,
    group_extern,
    pcr_digests,
    requested,
)
from manager.requests import (
    GetQuote,
    GetQuoteResponse,
    GroupNew,
    GroupNewResponse,
    GroupQuote,
    GroupRecover1Response,
    GroupRegister,
    GroupRegisterResponse,
)
from manager.verify import (
    Known,
    NotProven,
    verify_binding,
    verify_group_quote,
    verify_quote,
    verify_recovery,
    verify_registration,
)
from tests.manager.chips import TestChip

DOCUMENTED = Meaning()
NONCE, AUTH = b"N" * 20, b"A" * 20
SUBJECT = Subject(b"G" * 16, b"S" * 256, b"the list", b"V" * 16, b"K" * 20)
KNOWN = Known(SUBJECT.group, SUBJECT.saa, SUBJECT.cfg_list, SUBJECT.vtpm, SUBJECT.kernel)
SELECTION = bytes((0x01, 0, 0xF0))
MEANINGS = pytest.mark.parametrize("meaning", [DOCUMENTED, MEANING_XEN], ids=["documented", "xen"])


def test_external_data_is_as_the_header_says() -> None:
    one, two = sha1(b"V" * 16).digest(), sha1(b"the list").digest()
    assert requested("1.2", 5, SUBJECT, DOCUMENTED) == [one, two]
    assert extern_data("1.2", 5, NONCE, [one, two], DOCUMENTED) == sha1(
        b"\0\0\0\5" + NONCE + sha1(one + two).digest()).digest()
    assert extern_data("1.2", 0, NONCE, [], DOCUMENTED) == sha1(bytes(4) + NONCE).digest()
    assert extern_data("2.0", 0, NONCE, [], DOCUMENTED) == sha256(bytes(4) + NONCE).digest()
    assert group_extern("1.2", DOCUMENTED, SHOWS, NONCE) == sha1(b"SHOW" + NONCE).digest()


def test_external_data_is_as_xens_code_computes_it() -> None:
    """Xen mgmt_authority.c, vtpm_do_quote and do_vtpminfo_hash, on x86."""
    all_four = [sha1(b"V" * 16).digest(), sha1(b"K" * 20).digest(),
                sha1(b"S" * 256 + b"the list").digest(), sha1(b"S" * 256).digest()]
    assert requested("1.2", 15, SUBJECT, MEANING_XEN) == all_four
    assert extern_data("1.2", 15, NONCE, all_four, MEANING_XEN) == sha1(
        b"\x0f\0\0\0" + NONCE + b"".join(all_four)).digest()
    assert group_extern("1.2", MEANING_XEN, REGISTERS, b"x") == sha1(
        bytes(4) + sha1(b"REGRx").digest()).digest()


def test_quote_pcrs_are_extended_as_the_header_says() -> None:
    expected = {20: [sha1(b"S" * 256).digest()], 21: [sha1(b"the list").digest()], 22: [b"K" * 20],
                23: [b"G" * 16 + bytes(4), b"V" * 16 + bytes(4)]}
    assert pcr_digests("1.2", SUBJECT) == expected
    del expected[22], expected[23][1]
    assert pcr_digests("1.2", SUBJECT._replace(vtpm=None)) == expected
    assert pcr_digests("2.0", SUBJECT)[23] == [b"G" * 16 + bytes(16), b"V" * 16 + bytes(16)]


class Signed:
    """A chip's key and what it signs for a vTPM."""

    def __init__(self, chip: TestChip) -> None:
        self.family = chip.family
        with chip.sealing.conversation(None) as talk:
            self.made: NewAik = talk.make_aik(b"L" * 20, AUTH)
        self._chip = chip
        self.aik = self.made.aik.modulus

    def quote(self, extern: bytes, meaning: Meaning, subject: Subject, pcrs: bytes = SELECTION) -> Quote:
        with self._chip.sealing.conversation(None) as talk:
            if meaning.documented_pcrs:
                talk.set_quote_pcrs(pcr_digests(self.family, subject))
            return talk.quote(self.made.aik.blob, AUTH, pcrs, extern)

    def rest(self, quote: Quote, *more: bytes) -> bytes:
        sized = struct.pack(">H", len(quote.statement)) + quote.statement if quote.statement else b""
        return sized + b"".join(more)

    def get_quote(self, flags: int, meaning: Meaning) -> tuple[GetQuote, GetQuoteResponse]:
        hashes = requested(self.family, flags, SUBJECT, meaning)
        quote = self.quote(extern_data(self.family, flags, NONCE, hashes, meaning), meaning, SUBJECT)
        return (GetQuote(NONCE, SELECTION, flags),
                GetQuoteResponse(quote.signature, self.rest(quote, *hashes, quote.values)))


@pytest.fixture
def signed(any_chip: TestChip) -> Signed:
    return Signed(any_chip)


@MEANINGS
@pytest.mark.parametrize("flags", [0, 1, 6, 15])
def test_a_good_quote_is_proven_with_all_that_is_known(signed: Signed, meaning: Meaning, flags: int) -> None:
    request, response = signed.get_quote(flags, meaning)
    proof = verify_quote(signed.family, signed.aik, request, response, KNOWN, meaning)
    assert list(proof.pcrs) == [0, 20, 21, 22, 23]
    assert list(proof.hashes) == [flag for flag in (1, 2, 4, 8) if flags & flag]
    lines = 1 + flags.bit_count() + (4 if meaning.documented_pcrs else 0)
    assert len(proof.says) == lines
    assert "PCRs 0, 20, 21, 22, 23" in proof.says[0]
    unknown = verify_quote(signed.family, signed.aik, request, response, Known(), meaning)
    assert len(unknown.says) == lines
    assert not any("is the one" in line or "is what was given" in line for line in unknown.says[1:])


@MEANINGS
def test_every_change_of_the_evidence_is_noticed(signed: Signed, meaning: Meaning) -> None:
    request, response = signed.get_quote(15, meaning)
    family = signed.family

    def refused(says: str, aik: bytes = signed.aik, known: Known = KNOWN, *, asked: GetQuote = request,
                given: GetQuoteResponse = response, how: Meaning = meaning) -> None:
        with pytest.raises(NotProven, match=says) as caught:
            verify_quote(family, aik, asked, given, known, how)
        assert "\n" not in str(caught.value)

    changed = "the signature is not" if family == "1.2" else "other data"
    refused(changed, asked=GetQuote(b"M" * 20, SELECTION, 15))
    refused("values of 5 PCRs for a selection of 4", asked=GetQuote(NONCE, bytes((1, 0, 0x70)), 15))
    refused("the signature is not" if family == "1.2" else "other PCRs",
            asked=GetQuote(NONCE, bytes((2, 0, 0xF0)), 15))
    refused("the signature is not", Signed(signed._chip).aik)
    refused("the signature is not", bytes(256))
    refused("the signature is not", given=GetQuoteResponse(bytes(256), response.rest))
    size = 20 if family == "1.2" else 32
    for back in (1, 5 * size + 1, 8 * size + 1):  # a value of a PCR, and two of the hashes
        rest = response.rest[:-back] + bytes([response.rest[-back] ^ 1]) + response.rest[-back:][1:]
        refused("signature is not|other data|values of the PCRs",
                given=GetQuoteResponse(response.signature, rest))
    refused("values of 4 PCRs", given=GetQuoteResponse(response.signature, response.rest[:-size]))
    if family == "2.0":
        refused("cut short", given=GetQuoteResponse(response.signature, response.rest[:20]))
        refused("cut short", given=GetQuoteResponse(response.signature, b""))
    for name, says in (("vtpm", "the vTPM's UUID"), ("kernel", "the vTPM's kernel"), ("saa", "SAA|list"),
                       ("cfg_list", "configuration list")):
        size = len(getattr(KNOWN, name))
        refused(f"{says}.* is not (the one that|what) was given", known=KNOWN._replace(**{name: b"x" * size}))
    other = MEANING_XEN if meaning == DOCUMENTED else DOCUMENTED
    refused(changed, how=other)


def test_without_flags_the_pcrs_alone_show_another_subject(signed: Signed) -> None:
    request, response = signed.get_quote(0, DOCUMENTED)
    replaced: dict[str, Any]
    for number, replaced in ((20, {"saa": b"x" * 256}), (21, {"cfg_list": b"x"}), (22, {"kernel": b"x" * 20}),
                             (23, {"group": b"x" * 16}), (23, {"vtpm": b"x" * 16})):
        with pytest.raises(NotProven, match=f"PCR {number}: .* is not what was given"):
            verify_quote(signed.family, signed.aik, request, response, KNOWN._replace(**replaced), DOCUMENTED)


@MEANINGS
def test_a_quote_of_a_group_tells_no_vtpm(signed: Signed, meaning: Meaning) -> None:
    subject = SUBJECT._replace(vtpm=None)
    quote = signed.quote(group_extern(signed.family, meaning, SHOWS, NONCE), meaning, subject)
    request = GroupQuote(0, NONCE, SELECTION)
    response = GetQuoteResponse(quote.signature, signed.rest(quote, quote.values))
    proof = verify_group_quote(signed.family, signed.aik, request, response, KNOWN, meaning)
    assert len(proof.says) == (4 if meaning.documented_pcrs else 1)
    with pytest.raises(NotProven):
        verify_group_quote(signed.family, signed.aik, GroupQuote(0, b"M" * 20, SELECTION), response, KNOWN,
                           meaning)
    if meaning.documented_pcrs:
        with pytest.raises(NotProven, match="the group's UUID is not"):
            verify_group_quote(signed.family, signed.aik, request, response,
                               KNOWN._replace(group=b"x" * 16), meaning)


@MEANINGS
def test_registration_and_recovery_prove_the_exchange_and_the_platform(
        signed: Signed, meaning: Meaning) -> None:
    one, two, blob, pcrs = b"1" * 256, b"2" * 256, b"b" * 32, b"\3\0\0"
    subject = SUBJECT._replace(vtpm=None)
    extern = group_extern(signed.family, meaning, REGISTERS, one, two, blob)
    quote = signed.quote(extern, meaning, subject, pcrs)
    platform, other = (platform_hash(signed.family, pcrs, values)
                       for values in (quote.values, b"x" * len(quote.values)))
    request = GroupRegister(0, one, bytes(256), pcrs)
    response = GroupRegisterResponse(two, blob, quote.signature, signed.rest(quote))
    found = verify_registration(signed.family, signed.aik, request, response, [other, platform], meaning)
    assert found == platform
    changed = GroupRegisterResponse(two, b"c" * 32, quote.signature, signed.rest(quote))
    for given, platforms in ((response, [other]), (response, []), (changed, [platform])):
        with pytest.raises(NotProven):
            verify_registration(signed.family, signed.aik, request, given, platforms, meaning)

    extern = group_extern(signed.family, meaning, RECOVERS, NONCE, one)
    quote = signed.quote(extern, meaning, subject, pcrs)
    recovery = GroupRecover1Response(one, quote.signature, signed.rest(quote))
    assert verify_recovery(
        signed.family, signed.aik, NONCE, pcrs, recovery, [platform], meaning) == platform
    with pytest.raises(NotProven):
        verify_recovery(signed.family, signed.aik, b"M" * 20, pcrs, recovery, [platform], meaning)


def test_the_binding_of_a_key_proves_its_label(signed: Signed) -> None:
    made = signed.made
    rest = b""
    if made.statement:
        public = made.aik.blob[2 + int.from_bytes(made.aik.blob[:2], "big") :]
        rest = struct.pack(">H", len(made.statement)) + made.statement + public
    response = GroupNewResponse(bytes(16), signed.aik, made.binding, rest)
    says = verify_binding(signed.family, GroupNew(b"L" * 20, bytes(256)), response)
    assert "not proven" in says[1]
    other = Signed(signed._chip)
    for label, aik in ((b"M" * 20, signed.aik), (b"L" * 20, other.aik)):
        with pytest.raises(NotProven):
            verify_binding(signed.family, GroupNew(label, bytes(256)),
                           GroupNewResponse(bytes(16), aik, made.binding, rest))
    if rest:
        swapped = rest[: -len(public)] + other.made.aik.blob[-len(public) :]
        with pytest.raises(NotProven, match="another key"):
            verify_binding(signed.family, GroupNew(b"L" * 20, bytes(256)),
                           GroupNewResponse(bytes(16), signed.aik, made.binding, swapped))
