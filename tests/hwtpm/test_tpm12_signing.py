"""Signatures, quotes and certified keys of TPM 1.2 (Part 3, 13.5, 13.8, 13.9, 16.3 and 16.5)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.tpm12.requests.integrity import Extend, Quote, Quote2
from hwtpm.tpm12.requests.signing import CertifyKey, CertifyKey2, Sign
from hwtpm.tpm12.types.capability import VERSION_INFO
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAMETER,
    TPM_INAPPROPRIATE_SIG,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_PCR_INFO,
    TPM_KEYNOTFOUND,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_AUTH_NEVER,
    TPM_ES_NONE,
    TPM_KEY_LEGACY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_EK,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_NO_READ_PUBKEY_AUTH,
    TPM_PCRIGNOREDONREAD,
    TPM_TAG_CERTIFY_INFO2,
    TPM_TAG_KEY12,
    TPM_ES_RSAESPKCSv15,
    TPM_SS_RSASSAPKCS1v15_DER,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_KEY_PARMS, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_PCR_COMPOSITE, TPM_PCR_INFO, TPM_PCR_INFO_LONG, TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.signed import TPM_CERTIFY_INFO
from hwtpm.wire import decode, encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    RSA_2048,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    composite,
    new_key,
    once,
    owned,
    selection,
    signing_key,
)
from tests.support.tpm12_keys import public_key

ZERO, DIGEST, NONCE = bytes(20), b"d" * 20, b"n" * 20


@pytest.fixture
def machine() -> Machine:
    return owned()


def scheme(signature: int, encryption: int = TPM_ES_NONE, parms: bytes = RSA_2048) -> TPM_KEY_PARMS:
    return TPM_KEY_PARMS(TPM_ALG_RSA, encryption, signature, parms)


def sign(client: Client, key: int, area: bytes) -> bytes:
    return client.run(Sign(key, area), once(client.oiap(KEY_AUTH))).sig


def test_the_scheme_sha1_signs_a_digest(machine: Machine) -> None:
    key = signing_key(machine.client)
    public_key(machine.client, key).verify_pkcs1(ids.SHA1, DIGEST, sign(machine.client, key, DIGEST))
    for area in (b"", DIGEST[:-1], DIGEST + b"d"):
        with refused(TPM_BAD_PARAMETER):
            sign(machine.client, key, area)


@pytest.mark.parametrize("bits", [512, 2048])
def test_the_scheme_der_signs_what_it_is_given(machine: Machine, bits: int) -> None:
    parms = scheme(TPM_SS_RSASSAPKCS1v15_DER, parms=encode(TPM_RSA_KEY_PARMS(bits, 2, b"")))
    key = new_key(machine.client, TPM_KEY_SIGNING, parms)
    size = bits // 8
    for area in (b"\x30 a DigestInfo", bytes(size - 11)):
        block = public_key(machine.client, key).raw(sign(machine.client, key, area))
        assert block == b"\0\1" + b"\xff" * (size - 3 - len(area)) + b"\0" + area
    for area in (b"", bytes(size - 10)):
        with refused(TPM_BAD_PARAMETER):
            sign(machine.client, key, area)


def test_the_scheme_info_signs_the_area_with_the_nonce_of_the_command(machine: Machine) -> None:
    client = machine.client
    key = new_key(client, TPM_KEY_SIGNING, scheme(TPM_SS_RSASSAPKCS1v15_INFO))
    for area in (b"a", bytes(1000)):
        session = once(client.oiap(KEY_AUTH))
        signature = client.run(Sign(key, area), session).sig
        info = b"\0\5SIGN" + session.nonce_odd + len(area).to_bytes(4, "big") + area
        public_key(client, key).verify_pkcs1(ids.SHA1, sha1(info).digest(), signature)
    info_parms = scheme(TPM_SS_RSASSAPKCS1v15_INFO)
    free = new_key(client, TPM_KEY_SIGNING, info_parms, auth_data_usage=TPM_AUTH_NEVER)
    with refused(TPM_BAD_PARAMETER):  # no nonce without an authorization
        machine.run(Sign(free, b"a"))


def test_who_may_sign_with_a_key(machine: Machine) -> None:
    client = machine.client
    key = signing_key(client)
    with refused(TPM_AUTHFAIL):
        machine.run(Sign(key, DIGEST))
    with refused(TPM_AUTHFAIL):
        machine.run(Sign(key, DIGEST), client.oiap(SRK_AUTH))
    free = signing_key(client, auth_data_usage=TPM_AUTH_NEVER)
    assert machine.run(Sign(free, DIGEST)).sig
    legacy = new_key(client, TPM_KEY_LEGACY, scheme(TPM_SS_RSASSAPKCS1v15_SHA1, TPM_ES_RSAESPKCSv15))
    assert sign(client, legacy, DIGEST)
    with refused(TPM_INVALID_KEYUSAGE):
        sign(client, new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS), DIGEST)
    with refused(TPM_KEYNOTFOUND):
        sign(client, TPM_KH_EK, DIGEST)
    with refused(TPM_INVALID_KEYHANDLE):
        sign(client, 1, DIGEST)


# Quotes


@pytest.mark.parametrize("octets", [2, 3])
def test_a_quote_is_signed_over_the_composite_and_the_callers_data(machine: Machine, octets: int) -> None:
    client = machine.client
    key = signing_key(client)
    machine.run(Extend(3, DIGEST))
    chosen = selection(3, 10, octets=octets)
    answer = machine.run(Quote(key, NONCE, chosen), client.oiap(KEY_AUTH))
    values = [machine.tpm.pcrs.values[i] for i in (3, 10)]
    assert answer.pcr_data == TPM_PCR_COMPOSITE(chosen, b"".join(values))
    signed = sha1(b"\1\1\0\0QUOT" + composite(chosen, *values) + NONCE).digest()
    public_key(client, key).verify_pkcs1(ids.SHA1, signed, answer.sig)


def test_quote2_tells_the_locality_and_if_asked_the_version(machine: Machine) -> None:
    client = machine.client
    key = signing_key(client)
    machine.locality = 3
    for add_version in (0, 1):
        answer = machine.run(Quote2(key, NONCE, selection(0), add_version), client.oiap(KEY_AUTH))
        assert answer.pcr_data == TPM_PCR_INFO_SHORT(selection(0), 1 << 3, composite(selection(0), ZERO))
        assert answer.version_info == (encode(VERSION_INFO) if add_version else b"")
        signed = b"\0\x36QUT2" + NONCE + encode(answer.pcr_data) + answer.version_info
        public_key(client, key).verify_pkcs1(ids.SHA1, sha1(signed).digest(), answer.sig)


def test_a_quote_of_no_pcr_and_of_too_many(machine: Machine) -> None:
    """The digest of no PCR is zeros (Part 2, 5.4.1)."""
    key = signing_key(machine.client)
    for chosen in (selection(octets=0), selection()):
        answer = machine.run(Quote(key, NONCE, chosen), once(machine.client.oiap(KEY_AUTH)))
        assert answer.pcr_data == TPM_PCR_COMPOSITE(chosen, b"")
        signed = sha1(b"\1\1\0\0QUOT" + ZERO + NONCE).digest()
        public_key(machine.client, key).verify_pkcs1(ids.SHA1, signed, answer.sig)
    command = (b"\0\xc1\0\0\0\x2b\0\0\0\x16" + key.to_bytes(4, "big") + NONCE + b"\0\4" + bytes(7))
    assert machine.execute(command)[6:10] == TPM_INVALID_PCR_INFO.to_bytes(4, "big")


@pytest.mark.parametrize("kind", ["quote", "quote2"])
def test_only_a_key_that_signs_digests_quotes(machine: Machine, kind: str) -> None:
    client = machine.client

    def quote(key: int) -> None:
        request = Quote(key, NONCE, selection(0)) if kind == "quote" else Quote2(key, NONCE, selection(0), 0)
        client.run(request, once(client.oiap(KEY_AUTH)))

    quote(new_key(client, TPM_KEY_SIGNING, scheme(TPM_SS_RSASSAPKCS1v15_INFO)))
    quote(new_key(client, TPM_KEY_LEGACY, scheme(TPM_SS_RSASSAPKCS1v15_SHA1, TPM_ES_RSAESPKCSv15)))
    for key in (new_key(client, TPM_KEY_SIGNING, scheme(TPM_SS_RSASSAPKCS1v15_DER)),
                new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)):
        with refused(TPM_INAPPROPRIATE_SIG):
            quote(key)
    bound = signing_key(client, pcr_info=encode(TPM_PCR_INFO(selection(0), DIGEST, ZERO)))
    with refused(TPM_WRONGPCRVAL):
        quote(bound)


# Certified keys


def certify(client: Client, certifier: int, key: int, *auths: bytes) -> TPM_CERTIFY_INFO:
    return certified(client, certifier, CertifyKey(certifier, key, NONCE), auths)


def certify2(client: Client, certifier: int, key: int, *auths: bytes) -> TPM_CERTIFY_INFO:
    return certified(client, certifier, CertifyKey2(key, certifier, DIGEST, NONCE), auths)


def certified(client: Client, certifier: int, request: CertifyKey | CertifyKey2,
              auths: tuple[bytes, ...]) -> TPM_CERTIFY_INFO:
    answer = client.run(request, *(once(client.oiap(auth)) for auth in auths))
    digest = sha1(encode(answer.certify_info)).digest()
    public_key(client, certifier).verify_pkcs1(ids.SHA1, digest, answer.out_data)
    return answer.certify_info


def test_a_certificate_describes_the_key(machine: Machine) -> None:
    client = machine.client
    certifier = signing_key(client)
    key = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, flags=TPM_MIGRATABLE)
    digest = sha1(public_key(client, key).modulus).digest()
    info = certify(client, certifier, key, KEY_AUTH, KEY_AUTH)
    assert info == TPM_CERTIFY_INFO(0x0101, 0, 0, TPM_KEY_STORAGE, TPM_MIGRATABLE, 1, STORAGE_PARMS, digest,
                                    NONCE, 0, b"", None)
    info = certify2(client, certifier, key, KEY_AUTH, KEY_AUTH)
    assert info == TPM_CERTIFY_INFO(TPM_TAG_CERTIFY_INFO2, 0, 1, TPM_KEY_STORAGE, TPM_MIGRATABLE, 1,
                                    STORAGE_PARMS, digest, NONCE, 0, b"", b"")


def short(*pcrs: int, locality: int = 0x1F) -> TPM_PCR_INFO_SHORT:
    return TPM_PCR_INFO_SHORT(selection(*pcrs), locality, composite(selection(*pcrs), *[ZERO] * len(pcrs)))


def pcr_info(info: TPM_PCR_INFO_SHORT, tag: int) -> bytes:
    if tag == TPM_TAG_KEY12:
        return encode(TPM_PCR_INFO_LONG(1, info.locality_at_release, selection(1), info.pcr_selection, ZERO,
                                        info.digest_at_release))
    return encode(TPM_PCR_INFO(info.pcr_selection, info.digest_at_release, ZERO))


@pytest.mark.parametrize("tag", [0x0101, TPM_TAG_KEY12])
def test_a_certificate_has_pcr_information_as_old_as_can_say_it(machine: Machine, tag: int) -> None:
    """PCR 16 and above, or localities, take a TPM_CERTIFY_INFO2 (Part 3, 13.8)."""
    client = machine.client
    certifier = signing_key(client)
    for info, old in ((short(1, 15), True), (short(16), False), (short(1, locality=1), tag != TPM_TAG_KEY12)):
        key = signing_key(client, tag=tag, pcr_info=pcr_info(info, tag))
        found = certify(client, certifier, key, KEY_AUTH, KEY_AUTH)
        if tag != TPM_TAG_KEY12:
            info.locality_at_release = 0x1F
        if old:
            assert found.tag == 0x0101
            assert decode(TPM_PCR_INFO, found.pcr_info) == TPM_PCR_INFO(
                info.pcr_selection, info.digest_at_release, ZERO)
        else:
            assert (found.tag, found.payload_type) == (TPM_TAG_CERTIFY_INFO2, 1)
            assert decode(TPM_PCR_INFO_SHORT, found.pcr_info) == info
        found = certify2(client, certifier, key, KEY_AUTH, KEY_AUTH)
        assert decode(TPM_PCR_INFO_SHORT, found.pcr_info) == info


def test_a_certificate_tells_that_a_parent_is_bound_to_pcrs(machine: Machine) -> None:
    client = machine.client
    certifier, key = signing_key(client), signing_key(client)
    machine.tpm.keys.get(key).parent_pcr_status = True
    assert certify(client, certifier, key, KEY_AUTH, KEY_AUTH).parent_pcr_status
    assert certify2(client, certifier, key, KEY_AUTH, KEY_AUTH).parent_pcr_status


def test_authorizations_of_certify_key(machine: Machine) -> None:
    """Two: certifier, key; one: key; none.  The certifier without its own has to need none."""
    client = machine.client
    certifier, free = signing_key(client), signing_key(client, auth_data_usage=TPM_AUTH_NEVER)
    key = signing_key(client)
    shown = signing_key(client, auth_data_usage=TPM_NO_READ_PUBKEY_AUTH)
    good, bad = KEY_AUTH, b"x" * 20
    certify(client, free, key, good)
    certify(client, free, shown)
    certify(client, free, free)
    for signer, subject, auths, rc in (
        (certifier, key, (bad, good), TPM_AUTHFAIL), (certifier, key, (good, bad), TPM_AUTH2FAIL),
        (certifier, key, (good,), TPM_AUTHFAIL), (free, key, (bad,), TPM_AUTHFAIL),
        (free, key, (), TPM_AUTHFAIL), (certifier, free, (), TPM_AUTHFAIL),
    ):
        machine.tpm.lockout.reset()
        with refused(rc):
            certify(client, signer, subject, *auths)


def test_authorizations_of_certify_key2(machine: Machine) -> None:
    """Two: key, certifier; one: certifier; none.  The key without its own has to show its public part."""
    client = machine.client
    certifier, free = signing_key(client), signing_key(client, auth_data_usage=TPM_AUTH_NEVER)
    key = signing_key(client)
    shown = signing_key(client, auth_data_usage=TPM_NO_READ_PUBKEY_AUTH)
    good, bad = KEY_AUTH, b"x" * 20
    certify2(client, certifier, shown, good)
    certify2(client, free, shown)
    for signer, subject, auths, rc in (
        (certifier, key, (bad, good), TPM_AUTHFAIL), (certifier, key, (good, bad), TPM_AUTH2FAIL),
        (certifier, key, (good,), TPM_AUTHFAIL), (certifier, shown, (bad,), TPM_AUTHFAIL),
        (free, key, (), TPM_AUTHFAIL), (certifier, shown, (), TPM_AUTHFAIL),
    ):
        machine.tpm.lockout.reset()
        with refused(rc):
            certify2(client, signer, subject, *auths)


def test_which_keys_certify_and_are_certified(machine: Machine) -> None:
    client = machine.client
    good = signing_key(client)
    storage = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)
    der = new_key(client, TPM_KEY_SIGNING, scheme(TPM_SS_RSASSAPKCS1v15_DER))
    migrate = new_key(client, TPM_KEY_MIGRATE, STORAGE_PARMS)
    for run in (lambda *keys: certify(client, *keys, KEY_AUTH, KEY_AUTH),
                lambda *keys: certify2(client, *keys, KEY_AUTH, KEY_AUTH)):
        for certifier in (storage, der):
            with refused(TPM_BAD_KEY_PROPERTY):
                run(certifier, good)
        with refused(TPM_INVALID_KEYUSAGE):
            run(good, migrate)


def test_the_srk_can_be_certified(machine: Machine) -> None:
    client = machine.client
    info = certify(client, signing_key(client), TPM_KH_SRK, KEY_AUTH, SRK_AUTH)
    assert info.pubkey_digest == sha1(machine.tpm.permanent.srk.public.pub_key).digest()


def test_a_key_that_ignores_pcrs_on_read_is_certified_without_them(machine: Machine) -> None:
    client = machine.client
    certifier = signing_key(client)
    info = pcr_info(short(1), 0x0101)
    strict = signing_key(client, pcr_info=info)
    lenient = signing_key(client, pcr_info=info, flags=TPM_PCRIGNOREDONREAD)
    machine.run(Extend(1, DIGEST))
    certify(client, certifier, lenient, KEY_AUTH, KEY_AUTH)
    certify2(client, certifier, lenient, KEY_AUTH, KEY_AUTH)
    for run in (certify, certify2):
        with refused(TPM_WRONGPCRVAL):
            run(client, certifier, strict, KEY_AUTH, KEY_AUTH)
