"""What our TPM 1.2 and swtpm do with one key that both have loaded: equal signatures, texts and codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.integrity import Extend, Quote, Quote2
from hwtpm.tpm12.requests.signing import CertifyKey, CertifyKey2, Sign
from hwtpm.tpm12.requests.storage import EvictKey, GetPubKey, KeyControlOwner, LoadKey, LoadKey2, UnBind
from hwtpm.tpm12.types.constants import (
    TPM_AUTH_NEVER,
    TPM_ES_NONE,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_BIND,
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_EK,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_NO_READ_PUBKEY_AUTH,
    TPM_PCRIGNOREDONREAD,
    TPM_PT_SEAL,
    TPM_SS_NONE,
    TPM_TAG_KEY12,
    TPM_ES_RSAESPKCSv15,
    TPM_SS_RSASSAPKCS1v15_DER,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    composite,
    key_template,
    selection,
)
from tests.support.tpm12_both import Both, Owned, modulus, owned_pair, rsa_parms

ZERO, DIGEST, NONCE, BAD = bytes(20), b"d" * 20, b"n" * 20, b"x" * 20
OAEP, PKCS, NO_ES = TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_ES_RSAESPKCSv15, TPM_ES_NONE
SHA1, DER, INFO = TPM_SS_RSASSAPKCS1v15_SHA1, TPM_SS_RSASSAPKCS1v15_DER, TPM_SS_RSASSAPKCS1v15_INFO
KINDS = {
    "sha1": (TPM_KEY_SIGNING, rsa_parms(NO_ES, SHA1)),
    "der": (TPM_KEY_SIGNING, rsa_parms(NO_ES, DER)),
    "legacy": (TPM_KEY_LEGACY, rsa_parms(PKCS, SHA1)),
    "bind": (TPM_KEY_BIND, rsa_parms(OAEP, TPM_SS_NONE)),
    "bind pkcs": (TPM_KEY_BIND, rsa_parms(PKCS, TPM_SS_NONE)),
    "storage": (TPM_KEY_STORAGE, STORAGE_PARMS),
    "migrate": (TPM_KEY_MIGRATE, STORAGE_PARMS),
}
PCR_3, PCR_16 = selection(3), selection(16)
BOUND = {  # PCR information, and the version of the key that has it
    "nothing": (b"", 0x0101),
    "PCR 3": (encode(TPM_PCR_INFO(PCR_3, composite(PCR_3, ZERO), ZERO)), 0x0101),
    "PCR 3 (1.2)": (encode(TPM_PCR_INFO_LONG(1, 0x1F, PCR_3, PCR_3, ZERO, composite(PCR_3, ZERO))),
                    TPM_TAG_KEY12),
    "PCR 16": (encode(TPM_PCR_INFO(PCR_16, composite(PCR_16, ZERO), ZERO)), 0x0101),
    "locality 0": (encode(TPM_PCR_INFO_LONG(1, 1, PCR_3, selection(), ZERO, ZERO)), TPM_TAG_KEY12),
    "what PCR 3 is not": (encode(TPM_PCR_INFO(PCR_3, DIGEST, ZERO)), 0x0101),
}


@pytest.fixture(scope="module")
def module() -> Iterator[Owned]:
    with owned_pair() as both:
        yield both


@pytest.fixture
def both(module: Owned) -> Iterator[Owned]:
    yield module
    module.forgive()


@pytest.mark.parametrize("kind", KINDS)
def test_sign(both: Owned, kind: str) -> None:
    key = both.load(*KINDS[kind])
    for area in (b"", DIGEST, DIGEST[1:], bytes(245), bytes(246), bytes(256)):
        both.agree(Sign(key, area), KEY_AUTH)
    both.agree(Sign(key, DIGEST))
    both.agree(Sign(key, DIGEST), BAD)


@pytest.mark.parametrize("bits", [512, 1024])
def test_short_keys(both: Owned, bits: int) -> None:
    key = both.load(TPM_KEY_SIGNING, rsa_parms(NO_ES, SHA1, bits), bits)
    assert both.agree(Sign(key, DIGEST), KEY_AUTH).sig
    assert both.agree(GetPubKey(key), KEY_AUTH).pub_key
    key = both.load(TPM_KEY_BIND, rsa_parms(PKCS, TPM_SS_NONE, bits), bits)
    cipher = RsaPublic(modulus(bits)).encrypt_pkcs1(b"\1\1\0\0\2data")
    assert both.agree(UnBind(key, cipher), KEY_AUTH).out_data == b"data"


@pytest.mark.parametrize("kind", ["sha1", "der", "legacy", "storage"])
def test_quotes(both: Owned, kind: str) -> None:
    key = both.load(*KINDS[kind])
    both.agree(Extend(9, DIGEST))
    for chosen in (selection(9), selection(0, 9, 23), selection(9, octets=2), selection(octets=0),
                   selection()):
        both.agree(Quote(key, NONCE, chosen), KEY_AUTH)
        for locality in (0, 3):
            both.pair.set_locality(locality)
            both.agree(Quote2(key, NONCE, chosen, 0), KEY_AUTH)
        both.pair.set_locality(0)
    both.agree(Quote(key, NONCE, selection(0)))
    both.agree(Quote2(key, NONCE, selection(0), 0), BAD)


@pytest.mark.parametrize("bound", BOUND)
def test_certificates(both: Owned, bound: str) -> None:
    certifier = both.load(*KINDS["sha1"])
    pcr_info, tag = BOUND[bound]
    key = both.load(*KINDS["storage"], tag=tag, pcr_info=pcr_info)
    for auths in ((KEY_AUTH, KEY_AUTH), (BAD, KEY_AUTH), (KEY_AUTH, BAD), ()):
        both.agree(CertifyKey(certifier, key, NONCE), *auths)
        both.agree(CertifyKey2(key, certifier, ZERO, NONCE), *auths)
    both.agree(GetPubKey(key), KEY_AUTH)


@pytest.mark.parametrize("kind", KINDS)
def test_which_keys_certify_and_are_certified(both: Owned, kind: str) -> None:
    signer, key = both.load(*KINDS["sha1"]), both.load(*KINDS[kind])
    for one, other in ((signer, key), (key, signer)):
        both.agree(CertifyKey(one, other, NONCE), KEY_AUTH, KEY_AUTH)
        both.agree(CertifyKey2(one, other, ZERO, NONCE), KEY_AUTH, KEY_AUTH)


def test_keys_that_need_no_authorization(both: Owned) -> None:
    free = both.load(*KINDS["sha1"], auth_data_usage=TPM_AUTH_NEVER)
    shown = both.load(*KINDS["sha1"], auth_data_usage=TPM_NO_READ_PUBKEY_AUTH)
    for key in (free, shown):
        both.agree(GetPubKey(key))
        both.agree(Sign(key, DIGEST))
        both.agree(CertifyKey(free, key, NONCE))
        both.agree(CertifyKey2(key, free, ZERO, NONCE))
    both.agree(CertifyKey(free, shown, NONCE), KEY_AUTH)
    both.agree(CertifyKey2(shown, free, ZERO, NONCE), KEY_AUTH)


@pytest.mark.parametrize("kind", KINDS)
def test_bound_data(both: Owned, kind: str) -> None:
    key = both.load(*KINDS[kind])
    public = RsaPublic(modulus())
    for message in (b"\1\1\0\0\2data", b"\1\1\0\0\2", b"\1\2\0\0\2data", b"\1\1\0\0\5data", b"\1\1\0\0",
                    b"data of no kind", b""):
        for cipher in (public.encrypt_oaep(ids.SHA1, b"TCPA", message), public.encrypt_pkcs1(message)):
            both.agree(UnBind(key, cipher), KEY_AUTH)
    for cipher in (b"", b"x", bytes(256), bytes(257), b"\xff" * 256):
        both.agree(UnBind(key, cipher), KEY_AUTH)
    both.agree(UnBind(key, bytes(256)))


@pytest.mark.parametrize(("usage", "template", "inside"), [
    (TPM_KEY_SIGNING, {}, {}),
    (TPM_KEY_SIGNING, {"flags": 0}, {}),
    (TPM_KEY_SIGNING, {"flags": TPM_MIGRATEAUTHORITY}, {}),
    (TPM_KEY_SIGNING, {"tag": TPM_TAG_KEY12}, {}),
    (TPM_KEY_SIGNING, {"tag": 0x0102}, {}),
    (TPM_KEY_SIGNING, {"tag": 0x0027}, {}),
    (TPM_KEY_SIGNING, {"pcr_info": BOUND["what PCR 3 is not"][0]}, {}),
    (TPM_KEY_SIGNING, {"pcr_info": b"x"}, {}),
    (TPM_KEY_SIGNING, {"auth_data_usage": 2}, {}),
    (TPM_KEY_SIGNING, {"parms": rsa_parms(NO_ES, INFO)}, {}),
    (TPM_KEY_SIGNING, {"parms": rsa_parms(NO_ES, TPM_SS_NONE)}, {}),
    (TPM_KEY_SIGNING, {"parms": rsa_parms(NO_ES, SHA1, exponent=b"\1\0\1")}, {}),
    (TPM_KEY_SIGNING, {}, {"payload": TPM_PT_SEAL}),
    (TPM_KEY_SIGNING, {}, {"payload": 6}),
    (TPM_KEY_SIGNING, {}, {"pub_data_digest": ZERO}),
    (TPM_KEY_SIGNING, {}, {"migration_auth": ZERO}),
    (TPM_KEY_IDENTITY, {}, {}),
    (TPM_KEY_STORAGE, {}, {}),
    (TPM_KEY_AUTHCHANGE, {"parms": STORAGE_PARMS}, {}),
])
@pytest.mark.parametrize("command", [LoadKey, LoadKey2])
def test_loading(both: Owned, usage: int, template: dict[str, Any], inside: dict[str, Any],
                 command: type[Command[Any]]) -> None:
    key = both.wrap(key_template(usage, **({"parms": SIGNING_PARMS, "flags": TPM_MIGRATABLE} | template)),
                    **inside)
    answers = both.answers(command(TPM_KH_SRK, key), SRK_AUTH)
    loaded = [not isinstance(answer, str) for answer in answers]
    for client, answer in zip(both.clients, answers, strict=True):
        if not isinstance(answer, str):
            both.keep(client, answer.inkey_handle)
    assert loaded[0] == loaded[1], answers
    assert loaded[0] or answers.ours == answers.theirs


def test_parents_that_are_none(both: Owned) -> None:
    wrapped = both.wrap(key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATABLE))
    for parent in (TPM_KH_EK, TPM_KH_OWNER, 0x40000002, 0x40000003, 0x40000004, 0x40000005, 0x12345):
        both.agree(LoadKey2(parent, wrapped), SRK_AUTH)
    both.agree(LoadKey2(both.load(*KINDS["sha1"]), wrapped), KEY_AUTH)
    both.agree(LoadKey2(TPM_KH_SRK, Both(wrapped.theirs, wrapped.ours)), SRK_AUTH)
    both.agree(LoadKey2(TPM_KH_SRK, wrapped))
    both.agree(LoadKey2(TPM_KH_SRK, with_enc_data(wrapped.ours, b"x" * 257)), SRK_AUTH)


def test_keys_bound_to_pcrs_and_localities(both: Owned) -> None:
    wrong = BOUND["what PCR 3 is not"][0]
    for flags in (TPM_MIGRATABLE, TPM_MIGRATABLE | TPM_PCRIGNOREDONREAD):
        key = both.load(*KINDS["sha1"], pcr_info=wrong, flags=flags)
        both.agree(Sign(key, DIGEST), KEY_AUTH)
        both.agree(GetPubKey(key), KEY_AUTH)
    pcr_info, tag = BOUND["locality 0"]
    key = both.load(*KINDS["sha1"], tag=tag, pcr_info=pcr_info)
    for locality in (0, 1):
        both.pair.set_locality(locality)
        both.agree(Sign(key, DIGEST), KEY_AUTH)
    both.pair.set_locality(0)


def test_keys_of_the_owner(both: Owned) -> None:
    key, other = both.load(*KINDS["sha1"]), both.load(*KINDS["migrate"])
    public = both.agree(GetPubKey(key), KEY_AUTH).pub_key
    for bit, value, auth in ((2, 1, OWNER_AUTH), (1, 1, BAD), (1, 1, OWNER_AUTH), (1, 1, OWNER_AUTH)):
        both.agree(KeyControlOwner(key, public, bit, value), auth)
    both.agree(EvictKey(key))
    both.agree(KeyControlOwner(other, public, 1, 1), OWNER_AUTH)
    both.agree(KeyControlOwner(TPM_KH_SRK, public, 1, 1), OWNER_AUTH)
    both.agree(KeyControlOwner(key, TPM_PUBKEY(STORAGE_PARMS, public.pub_key), 1, 0), OWNER_AUTH)
    both.agree(KeyControlOwner(key, public, 1, 0), OWNER_AUTH)
    for handle in (key, key, TPM_KH_SRK, other):
        both.agree(EvictKey(handle))
