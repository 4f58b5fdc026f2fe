"""Curves, ciphers, MACs and signature schemes beyond the usual ones, alone and beside swtpm."""

from __future__ import annotations

import pytest

from hwtpm.client import Password
from hwtpm.crypto import ecc, hashes, symmetric
from hwtpm.errors import TpmError
from hwtpm.tpm2 import profile
from hwtpm.tpm2.requests.asymmetric import (
    ECCDecrypt,
    ECCEncrypt,
    ECCParameters,
    ECDHKeyGen,
    ECDHZGen,
    RSADecrypt,
    RSAEncrypt,
)
from hwtpm.tpm2.requests.capability import GetCapability, TestParms
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import Create, Load, LoadExternal
from hwtpm.tpm2.requests.sequence import MACStart, SequenceComplete, SequenceUpdate
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.requests.symmetric import MAC, EncryptDecrypt2, Hash
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_ECDAA,
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMS_SIGNATURE_ECC,
    TPMS_SYMCIPHER_PARMS,
    TPMT_KDF_SCHEME,
    TPMT_RSA_DECRYPT,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import TPMA_SESSION_DECRYPT, TPMA_SESSION_ENCRYPT
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMT_PUBLIC, TPMT_PUBLIC_PARMS, TPMT_SENSITIVE
from hwtpm.tpm2.types.structures import TPMT_TK_HASHCHECK
from tests.support import templates
from tests.support.tpm2 import Machine, rc_of, refused
from tests.support.tpm2_keys import (
    DECRYPT,
    RESTRICTED,
    SIGN,
    Areas,
    elliptic,
    hash_scheme,
    keyed_hash,
    load,
    rsa,
)
from tests.support.tpm2_pair import Pair, run

H1, P1, P2, P3, P4 = 0x100, 0x140, 0x240, 0x340, 0x440
NEW_CURVES = (c.TPM_ECC_NIST_P192, c.TPM_ECC_NIST_P224, c.TPM_ECC_BN_P256, c.TPM_ECC_BN_P638,
              c.TPM_ECC_SM2_P256)
SCHEMES = (c.TPM_ALG_ECDSA, c.TPM_ALG_ECSCHNORR, c.TPM_ALG_SM2)
NO_TICKET = TPMT_TK_HASHCHECK(c.TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
NO_SCHEME = TPMT_SIG_SCHEME(c.TPM_ALG_NULL)
SHA3 = (c.TPM_ALG_SHA3_256, c.TPM_ALG_SHA3_384, c.TPM_ALG_SHA3_512)
CIPHERS = [(alg, bits) for alg, sizes in (
    (c.TPM_ALG_AES, (128, 192, 256)), (c.TPM_ALG_CAMELLIA, (128, 192, 256)), (c.TPM_ALG_TDES, (128, 192)),
) for bits in sizes]
# libtpms has no keys of 192 bits but for TDES.
SHARED_CIPHERS = [(alg, bits) for alg, bits in CIPHERS if alg == c.TPM_ALG_TDES or bits != 192]
TDES = bytes.fromhex("0123456789abcdef23456789abcdef01456789abcdef0123")


def scheme(alg: int, hash_alg: int = c.TPM_ALG_SHA256) -> TPMT_SIG_SCHEME:
    return TPMT_SIG_SCHEME(alg, hash_scheme(hash_alg))


def cipher_key(alg: int, bits: int, mode: int = c.TPM_ALG_NULL, attributes: int = SIGN | DECRYPT,
               secret: bytes | None = None) -> Areas:
    """Return both areas of a cipher key."""
    template = templates.cipher_key(0, TPMT_SYM_DEF_OBJECT(alg, bits, mode))
    key = TDES[: bits // 8] if secret is None and alg == c.TPM_ALG_TDES else secret or bytes(range(bits // 8))
    seed = bytes(32)
    public = TPMT_PUBLIC(template.type, template.name_alg, attributes | 0x440, b"", template.parameters,
                         hashes.digest(c.TPM_ALG_SHA256, seed, key))
    return public, TPMT_SENSITIVE(c.TPM_ALG_SYMCIPHER, b"", seed, key)


def capability(machine: Machine, group: int) -> list:  # type: ignore[type-arg]
    return machine.run(GetCapability(group, 0, 999)).capability_data.data


# What there is

def test_every_algorithm_of_swtpm_is_there_with_its_attributes(pair: Pair) -> None:
    """And SHA-3 and SM3, which it lacks."""
    ours, theirs = ({a.alg: a.alg_properties for a in r.capability_data.data}
                    for r in pair.answers(GetCapability(c.TPM_CAP_ALGS, 0, 999)))
    assert {alg: ours.get(alg) for alg in theirs} == theirs
    assert ours.keys() - theirs.keys() <= {*SHA3, c.TPM_ALG_SM3_256}


def test_every_curve_of_swtpm_is_there(pair: Pair) -> None:
    ours, theirs = pair.answers(GetCapability(c.TPM_CAP_ECC_CURVES, 0, 999))
    assert ours == theirs
    assert ours.capability_data.data == list(profile.ECC_CURVES)


@pytest.mark.parametrize("curve", profile.ECC_CURVES)
def test_parameters_of_a_curve_are_those_of_swtpm(pair: Pair, curve: int) -> None:
    if curve == c.TPM_ECC_SM2_P256 and c.TPM_ALG_SM3_256 not in profile.HASHES:
        pytest.skip("this OpenSSL has no SM3")
    ours, theirs = pair.answers(ECCParameters(curve))
    assert ours == theirs


@pytest.mark.parametrize("alg", sorted(profile.HASHES))
def test_a_listed_hash_works_everywhere(machine: Machine, alg: int) -> None:
    """Hash, nameAlg, HMAC, OAEP, RSA and ECC signatures."""
    client = machine.client
    digest = machine.run(Hash(b"message", alg, TPM_RH_NULL)).out_hash
    assert digest == hashes.digest(alg, b"message")
    areas = elliptic(SIGN, name_alg=alg)
    key = load(client, areas)
    assert client.names[key][:2] == alg.to_bytes(2, "big")
    made = run(client, Sign(key, digest, scheme(c.TPM_ALG_ECDSA, alg), NO_TICKET)).signature
    run(client, VerifySignature(key, digest, made))
    client.run(FlushContext(key))
    key = load(client, rsa(SIGN | DECRYPT))
    for kind in (c.TPM_ALG_RSASSA, c.TPM_ALG_RSAPSS):
        made = run(client, Sign(key, digest, scheme(kind, alg), NO_TICKET)).signature
        run(client, VerifySignature(key, digest, made))
    oaep = TPMT_RSA_DECRYPT(c.TPM_ALG_OAEP, TPMS_SCHEME_HASH(alg))
    sent = run(client, RSAEncrypt(key, b"text", oaep, b"label\0")).out_data
    assert run(client, RSADecrypt(key, sent, oaep, b"label\0")).message == b"text"
    key = load(client, keyed_hash(SIGN, hash_alg=alg))
    assert run(client, MAC(key, b"message", alg)).out_mac == hashes.hmac(
        alg, b"a secret of an HMAC key", b"message")


@pytest.mark.parametrize(("alg", "bits"), SHARED_CIPHERS)
def test_parameters_of_what_there_is_are_accepted(pair: Pair, alg: int, bits: int) -> None:
    for mode in (*profile.SYM_MODES, c.TPM_ALG_CMAC, c.TPM_ALG_NULL):
        parameters = TPMS_SYMCIPHER_PARMS(TPMT_SYM_DEF_OBJECT(alg, bits, mode))
        request = TestParms(TPMT_PUBLIC_PARMS(c.TPM_ALG_SYMCIPHER, parameters))
        assert pair.codes(request) == (0, 0)


def test_sizes_of_keys_that_no_cipher_has(pair: Pair) -> None:
    for alg, bits in ((c.TPM_ALG_TDES, 256), (c.TPM_ALG_TDES, 168), (c.TPM_ALG_CAMELLIA, 160)):
        parameters = TPMS_SYMCIPHER_PARMS(TPMT_SYM_DEF_OBJECT(alg, bits, c.TPM_ALG_CFB))
        ours, theirs = pair.codes(TestParms(TPMT_PUBLIC_PARMS(c.TPM_ALG_SYMCIPHER, parameters)))
        assert ours == theirs != 0


# Curves

@pytest.mark.parametrize("curve", NEW_CURVES)
def test_names_of_keys_and_points_shared_with_swtpm(pair: Pair, curve: int) -> None:
    with pair.loaded(elliptic(DECRYPT, curve=curve)) as key:
        assert pair.ours.names[key] == pair.theirs.names[key]
        for source, sink in ((pair.ours, pair.theirs), (pair.theirs, pair.ours)):
            made = run(source, ECDHKeyGen(key))
            assert run(sink, ECDHZGen(key, made.pub_point)).out_point == made.z_point
        wrong = TPMS_ECC_POINT(made.pub_point.y, made.pub_point.x)
        assert pair.codes(ECDHZGen(key, wrong)) == (c.TPM_RC_ECC_POINT + P1, c.TPM_RC_ECC_POINT + P1)


@pytest.mark.parametrize("curve", profile.ECC_CURVES)
@pytest.mark.parametrize("alg", SCHEMES)
@pytest.mark.parametrize("hash_alg", [c.TPM_ALG_SHA1, c.TPM_ALG_SHA256, c.TPM_ALG_SHA512])
def test_signatures_verify_on_the_other_tpm(pair: Pair, curve: int, alg: int, hash_alg: int) -> None:
    digest = hashes.digest(hash_alg, b"a message")
    size = ecc.curve(curve).order_size
    with pair.loaded(elliptic(SIGN, curve=curve)) as key:
        for source, sink in ((pair.ours, pair.theirs), (pair.theirs, pair.ours), (pair.ours, pair.ours)):
            made = run(source, Sign(key, digest, scheme(alg, hash_alg), NO_TICKET)).signature
            assert isinstance(made.signature, TPMS_SIGNATURE_ECC)
            assert (made.sig_alg, made.signature.hash) == (alg, hash_alg)
            assert len(made.signature.signature_r) == len(made.signature.signature_s) == size
            run(sink, VerifySignature(key, digest, made))
            made.signature.signature_s = bytes([made.signature.signature_s[0] ^ 1]) + bytes(size - 1)
            rc = c.TPM_RC_SIGNATURE + P2
            assert pair.codes(VerifySignature(key, digest, made)) == (rc, rc)


@pytest.mark.parametrize("curve", NEW_CURVES)
@pytest.mark.parametrize("alg", SCHEMES)
def test_halves_of_signatures_out_of_range(pair: Pair, curve: int, alg: int) -> None:
    digest, rc = bytes(32), c.TPM_RC_SIGNATURE + P2
    order = ecc.curve(curve).n.to_bytes(ecc.curve(curve).order_size, "big")
    with pair.loaded(elliptic(SIGN, curve=curve)) as key:
        for r, s in ((b"", b"\1"), (b"\1", b""), (order, b"\1"), (b"\1", order), (b"\1", b"\1")):
            bad = TPMT_SIGNATURE(alg, TPMS_SIGNATURE_ECC(c.TPM_ALG_SHA256, r, s))
            assert pair.codes(VerifySignature(key, digest, bad)) == (rc, rc)


@pytest.mark.parametrize(("own", "asked", "rc"), [
    (c.TPM_ALG_ECSCHNORR, NO_SCHEME, 0),
    (c.TPM_ALG_ECSCHNORR, scheme(c.TPM_ALG_ECSCHNORR), 0),
    (c.TPM_ALG_ECSCHNORR, scheme(c.TPM_ALG_ECSCHNORR, c.TPM_ALG_SHA1), c.TPM_RC_SCHEME + P2),
    (c.TPM_ALG_ECSCHNORR, scheme(c.TPM_ALG_ECDSA), c.TPM_RC_SCHEME + P2),
    (c.TPM_ALG_SM2, scheme(c.TPM_ALG_ECDSA), c.TPM_RC_SCHEME + P2),
    (c.TPM_ALG_SM2, NO_SCHEME, 0),
    (c.TPM_ALG_ECDAA, NO_SCHEME, c.TPM_RC_SCHEME + P2),
    (c.TPM_ALG_ECDAA, scheme(c.TPM_ALG_ECDSA), c.TPM_RC_SCHEME + P2),
])
def test_the_scheme_of_a_key_decides(pair: Pair, own: int, asked: TPMT_SIG_SCHEME, rc: int) -> None:
    areas = elliptic(SIGN, own, c.TPM_ALG_SHA256)
    if own == c.TPM_ALG_ECDAA:
        assert isinstance(areas[0].parameters, TPMS_ECC_PARMS)
        areas[0].parameters.scheme.details = TPMS_SCHEME_ECDAA(c.TPM_ALG_SHA256, 0)
    with pair.loaded(areas) as key:
        assert pair.codes(Sign(key, bytes(32), asked, NO_TICKET)) == (rc, rc)


def test_no_tpm_verifies_an_anonymous_signature(pair: Pair) -> None:
    rc = c.TPM_RC_SCHEME + P2
    given = TPMT_SIGNATURE(c.TPM_ALG_ECDAA, TPMS_SIGNATURE_ECC(c.TPM_ALG_SHA256, b"\1", b"\1"))
    with pair.loaded(elliptic(SIGN)) as key:
        assert pair.codes(VerifySignature(key, bytes(32), given)) == (rc, rc)


@pytest.mark.parametrize("curve", NEW_CURVES)
def test_keys_of_every_curve_are_made_and_are_the_same_again(machine: Machine, curve: int) -> None:
    client = machine.client
    template = templates.ecc(templates.STORAGE, templates.AES128, curve=curve)
    made = [run(client, CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), template, b"", []))
            for _ in range(2)]
    assert made[0].name == made[1].name
    point = made[0].out_public.unique
    assert isinstance(point, TPMS_ECC_POINT)
    assert ecc.on_curve(curve, point.x, point.y)
    assert len(point.x) == len(point.y) == ecc.curve(curve).field_size
    parent = made[0].object_handle
    client.names[parent] = made[0].name
    child = run(client, Create(parent, TPMS_SENSITIVE_CREATE(b"", b""), templates.ecc(curve=curve), b"", []))
    loaded = run(client, Load(parent, child.out_private, child.out_public))
    client.names[loaded.object_handle] = loaded.name
    key = loaded.object_handle
    signature = run(client, Sign(key, bytes(32), scheme(c.TPM_ALG_ECDSA), NO_TICKET)).signature
    run(client, VerifySignature(key, bytes(32), signature))


@pytest.mark.parametrize("curve", NEW_CURVES)
def test_a_key_of_every_curve_salts_a_session(machine: Machine, curve: int) -> None:
    """The secret of a session conveyed to a key on the curve: both sides derive the same."""
    from hwtpm.tpm2.secret import decrypt_secret, encrypt_secret

    key = load(machine.client, elliptic(DECRYPT, curve=curve))
    found = machine.tpm.objects.get(key)
    secret, sent = encrypt_secret(found, b"SECRET", machine.tpm.random)
    assert decrypt_secret(found, sent, b"SECRET") == secret


@pytest.mark.parametrize("curve", [c.TPM_ECC_BN_P638, c.TPM_ECC_SM2_P256])
def test_areas_that_do_not_belong_together(pair: Pair, curve: int) -> None:
    public, _ = elliptic(SIGN, curve=curve)
    for change, rc in ((b"\7", c.TPM_RC_BINDING), (bytes(80), c.TPM_RC_KEY_SIZE),
                       (b"\xff" * 80, c.TPM_RC_KEY_SIZE)):
        other = TPMT_SENSITIVE(c.TPM_ALG_ECC, b"", b"", change)
        ours, theirs = pair.codes(LoadExternal(other, public, TPM_RH_NULL))
        assert ours == theirs
        assert ours & 0xBF == rc


# Encryption with ECC keys

KDF2 = TPMT_KDF_SCHEME(c.TPM_ALG_KDF2, TPMS_SCHEME_HASH(c.TPM_ALG_SHA256))


@pytest.mark.parametrize("curve", profile.ECC_CURVES)
def test_ecc_encryption_is_undone(machine: Machine, curve: int) -> None:
    client = machine.client
    key = load(client, elliptic(DECRYPT, curve=curve))
    for text in (b"", b"text", bytes(range(256)) * 4):
        sent = run(client, ECCEncrypt(key, text, KDF2))
        assert run(client, ECCDecrypt(key, sent.c1, sent.c2, sent.c3, KDF2)).plain_text == text
        with refused(c.TPM_RC_VALUE):
            run(client, ECCDecrypt(key, sent.c1, sent.c2[:-1] if text else b"\0", sent.c3, KDF2))


@pytest.mark.parametrize(("areas", "kdf", "rc"), [
    (rsa(DECRYPT), KDF2, c.TPM_RC_KEY + H1),
    (elliptic(DECRYPT), TPMT_KDF_SCHEME(c.TPM_ALG_NULL), c.TPM_RC_SCHEME + P2),
    (elliptic(DECRYPT), TPMT_KDF_SCHEME(c.TPM_ALG_MGF1, TPMS_SCHEME_HASH(c.TPM_ALG_SHA256)),
     c.TPM_RC_SCHEME + P2),
    (elliptic(SIGN), KDF2, 0),
])
def test_ecc_encryption_codes(machine: Machine, areas: Areas, kdf: TPMT_KDF_SCHEME, rc: int) -> None:
    """Part 3, 14.8: the attributes of the key are not looked at."""
    key = load(machine.client, areas)
    assert rc_of(lambda: run(machine.client, ECCEncrypt(key, b"text", kdf))) == rc


def test_ecc_decryption_codes(machine: Machine) -> None:
    client = machine.client
    key = load(client, elliptic(DECRYPT))
    sent = run(client, ECCEncrypt(key, b"text", KDF2))
    wrong = TPMS_ECC_POINT(sent.c1.y, sent.c1.x)
    for request, rc in (
        (ECCDecrypt(key, wrong, sent.c2, sent.c3, KDF2), c.TPM_RC_ECC_POINT + P1),
        (ECCDecrypt(key, sent.c1, sent.c2, b"", KDF2), c.TPM_RC_VALUE),
        (ECCDecrypt(key, sent.c1, sent.c2, sent.c3, TPMT_KDF_SCHEME(c.TPM_ALG_NULL)), c.TPM_RC_SCHEME + P4),
        (ECCDecrypt(load(client, elliptic(SIGN)), sent.c1, sent.c2, sent.c3, KDF2), c.TPM_RC_ATTRIBUTES + H1),
        (ECCDecrypt(load(client, rsa(DECRYPT)), sent.c1, sent.c2, sent.c3, KDF2), c.TPM_RC_KEY + H1),
    ):
        with refused(rc):
            run(client, request)


# Ciphers

@pytest.mark.parametrize(("alg", "bits"), SHARED_CIPHERS)
@pytest.mark.parametrize("mode", sorted(profile.SYM_MODES))
def test_ciphertexts_are_those_of_swtpm(pair: Pair, alg: int, bits: int, mode: int) -> None:
    block = symmetric.block_size(alg)
    iv = b"" if mode == c.TPM_ALG_ECB else bytes(range(7, 7 + block))
    sizes = (0, block, 5 * block) if mode in (c.TPM_ALG_ECB, c.TPM_ALG_CBC) else (0, 1, block, 3 * block + 5)
    with pair.loaded(cipher_key(alg, bits)) as key:
        for size in sizes:
            data = bytes(i * 7 & 255 for i in range(size))
            ours, theirs = pair.answers(EncryptDecrypt2(key, data, 0, mode, iv))
            assert ours.out_data == theirs.out_data
            if size and size % block == 0:
                assert ours.iv_out == theirs.iv_out
            back = run(pair.ours, EncryptDecrypt2(key, ours.out_data, 1, mode, iv))
            assert back.out_data == data
        wrong = bytes(block - 1) if iv else bytes(block)
        rc = c.TPM_RC_SIZE + P4
        assert pair.codes(EncryptDecrypt2(key, b"", 0, mode, wrong)) == (rc, rc)


def test_a_key_for_macs_encrypts_nothing(pair: Pair) -> None:
    rc = c.TPM_RC_MODE + H1
    with pair.loaded(cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_CMAC, SIGN)) as key:
        assert pair.codes(EncryptDecrypt2(key, b"", 0, c.TPM_ALG_CFB, bytes(16))) == (rc, rc)
        rc = c.TPM_RC_MODE + P3
        assert pair.codes(EncryptDecrypt2(key, b"", 0, c.TPM_ALG_CMAC, bytes(16))) == (rc, rc)


def test_a_decryption_key_is_for_no_mac(pair: Pair) -> None:
    for attributes in (DECRYPT, SIGN | DECRYPT):
        public, sensitive = cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_CMAC, attributes)
        ours, theirs = pair.codes(LoadExternal(sensitive, public, TPM_RH_NULL))
        assert ours == theirs
        assert ours & 0xBF == c.TPM_RC_SCHEME


@pytest.mark.parametrize(("secret", "rc"), [
    (TDES[:16], 0),
    (bytes(octet ^ 1 for octet in TDES[:16]), 0),
    (TDES[:8] * 2, c.TPM_RC_KEY),
    (TDES[:8] + bytes(8), c.TPM_RC_KEY),
    (TDES, c.TPM_RC_KEY_SIZE),
])
def test_weak_keys_of_tdes(machine: Machine, secret: bytes, rc: int) -> None:
    public, sensitive = cipher_key(c.TPM_ALG_TDES, 128, secret=secret)
    code = rc_of(lambda: machine.run(LoadExternal(sensitive, public, TPM_RH_NULL)))
    assert code == (rc | P1 if rc else 0)


@pytest.mark.parametrize(("alg", "bits"), CIPHERS)
def test_cipher_keys_are_made_and_protect_children(machine: Machine, alg: int, bits: int) -> None:
    client = machine.client
    cipher = TPMT_SYM_DEF_OBJECT(alg, bits, c.TPM_ALG_CFB)
    for template in (templates.ecc(templates.STORAGE, cipher),
                     templates.cipher_key(templates.STORAGE, cipher)):
        made = run(client, CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), template, b"", []))
        parent = made.object_handle
        client.names[parent] = made.name
        below = templates.cipher_key(cipher=cipher)
        child = run(client, Create(parent, TPMS_SENSITIVE_CREATE(b"", b""), below, b"", []))
        loaded = run(client, Load(parent, child.out_private, child.out_public)).object_handle
        secret = machine.tpm.objects.get(loaded).sensitive.sensitive
        assert len(secret) * 8 == bits
        if alg == c.TPM_ALG_TDES:
            assert symmetric.with_parity(secret) == secret
            assert symmetric.is_tdes_key(secret)
        for handle in (loaded, parent):
            client.run(FlushContext(handle))


@pytest.mark.parametrize(("alg", "bits"), SHARED_CIPHERS)
def test_sessions_encrypt_parameters_with_every_cipher(pair: Pair, alg: int, bits: int) -> None:
    with pair.loaded(keyed_hash(SIGN)) as key:
        expected = hashes.hmac(c.TPM_ALG_SHA256, b"a secret of an HMAC key", b"a message")
        for client in (pair.ours, pair.theirs):
            session = client.start_session(symmetric_definition=TPMT_SYM_DEF(alg, bits, c.TPM_ALG_CFB))
            session.attributes |= TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT
            for _ in range(2):
                found = client.run(MAC(key, b"a message", c.TPM_ALG_NULL), Password(), session)
                assert found.out_mac == expected
            client.run(FlushContext(session.handle))


# MACs

@pytest.mark.parametrize(("alg", "bits"), SHARED_CIPHERS)
@pytest.mark.parametrize("mode", [c.TPM_ALG_CMAC, c.TPM_ALG_NULL])
def test_cmac_is_that_of_swtpm_and_of_a_sequence(pair: Pair, alg: int, bits: int, mode: int) -> None:
    """But for TDES, where libtpms takes the constant of 128-bit blocks; SP 800-38B, 5.3 has another."""
    with pair.loaded(cipher_key(alg, bits, mode, SIGN)) as key:
        for data in (b"", b"a", bytes(range(32)), bytes(1000)):
            ours, theirs = pair.answers(MAC(key, data, c.TPM_ALG_CMAC))
            assert ours == theirs or alg == c.TPM_ALG_TDES
            assert len(ours.out_mac) == symmetric.block_size(alg)
            sequence = run(pair.ours, MACStart(key, b"", c.TPM_ALG_CMAC)).sequence_handle
            pair.ours.names[sequence] = b""
            run(pair.ours, SequenceUpdate(sequence, data[:17]))
            found = run(pair.ours, SequenceComplete(sequence, data[17:], TPM_RH_NULL))
            assert found.result == ours.out_mac
            assert found.validation.digest == b""


@pytest.mark.parametrize(("areas", "asked", "rc"), [
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_CMAC, SIGN), c.TPM_ALG_NULL, 0),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_NULL, SIGN), c.TPM_ALG_NULL, c.TPM_RC_VALUE + P2),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_NULL, SIGN), c.TPM_ALG_SHA256, c.TPM_RC_SCHEME + P2),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_CMAC, SIGN), c.TPM_ALG_SHA256, c.TPM_RC_VALUE + P2),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_CFB, SIGN), c.TPM_ALG_CMAC, c.TPM_RC_VALUE + P2),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_CFB, SIGN), c.TPM_ALG_NULL, c.TPM_RC_SCHEME + P2),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_NULL, DECRYPT), c.TPM_ALG_CMAC, c.TPM_RC_KEY + H1),
    (cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_NULL, SIGN), c.TPM_ALG_AES, c.TPM_RC_SYMMETRIC + P2),
    (keyed_hash(SIGN, c.TPM_ALG_HMAC), c.TPM_ALG_CMAC, c.TPM_RC_VALUE + P2),
    (keyed_hash(SIGN | DECRYPT, c.TPM_ALG_NULL, c.TPM_ALG_NULL), c.TPM_ALG_CMAC, c.TPM_RC_SCHEME + P2),
    (keyed_hash(SIGN | DECRYPT, c.TPM_ALG_NULL, c.TPM_ALG_NULL), c.TPM_ALG_SHA1, 0),
    (keyed_hash(SIGN | DECRYPT, c.TPM_ALG_NULL, c.TPM_ALG_NULL), c.TPM_ALG_NULL, c.TPM_RC_VALUE + P2),
    (elliptic(SIGN), c.TPM_ALG_SHA256, c.TPM_RC_TYPE + H1),
])
def test_mac_codes(pair: Pair, areas: Areas, asked: int, rc: int) -> None:
    """Part 3, Table 82."""
    with pair.loaded(areas) as key:
        assert pair.codes(MAC(key, b"data", asked)) == (rc, rc)
        if rc:
            # The scheme is the second parameter of both.
            assert pair.codes(MACStart(key, b"", asked)) == (rc, rc)


def test_a_cipher_key_signs_no_digest(pair: Pair) -> None:
    rc = c.TPM_RC_KEY + H1
    with pair.loaded(cipher_key(c.TPM_ALG_AES, 128, c.TPM_ALG_NULL, SIGN)) as key:
        assert pair.codes(Sign(key, bytes(32), NO_SCHEME, NO_TICKET)) == (rc, rc)


# Templates

USES = (templates.SIGNING, templates.DECRYPTION, templates.STORAGE, templates.SIGNING | DECRYPT,
        templates.SIGNING | RESTRICTED)


@pytest.mark.parametrize("curve", [c.TPM_ECC_BN_P256, c.TPM_ECC_BN_P638, c.TPM_ECC_SM2_P256, 1])
def test_templates_of_ecc_keys_are_answered_as_by_swtpm(pair: Pair, curve: int) -> None:
    for attributes in USES:
        for own in (c.TPM_ALG_NULL, c.TPM_ALG_ECDSA, c.TPM_ALG_ECDAA, c.TPM_ALG_SM2, c.TPM_ALG_ECSCHNORR,
                    c.TPM_ALG_ECDH, c.TPM_ALG_ECMQV):
            for kdf in (c.TPM_ALG_NULL, c.TPM_ALG_KDF2):
                cipher = templates.AES128 if attributes == templates.STORAGE else templates.NO_CIPHER
                template = templates.ecc(attributes, cipher, own, curve=curve, kdf=kdf)
                assert isinstance(template.parameters, TPMS_ECC_PARMS)
                if own == c.TPM_ALG_ECDAA:
                    template.parameters.scheme.details = TPMS_SCHEME_ECDAA(c.TPM_ALG_SHA256, 5)
                check_creation(pair, template)


@pytest.mark.parametrize(("alg", "bits"), SHARED_CIPHERS)
def test_templates_of_cipher_keys_are_answered_as_by_swtpm(pair: Pair, alg: int, bits: int) -> None:
    for attributes in USES:
        for mode in (c.TPM_ALG_NULL, c.TPM_ALG_CFB, c.TPM_ALG_CTR, c.TPM_ALG_CMAC):
            check_creation(pair, templates.cipher_key(attributes, TPMT_SYM_DEF_OBJECT(alg, bits, mode)))


def check_creation(pair: Pair, template: TPMT_PUBLIC) -> None:
    """Both make a primary of the template, or refuse it with the same code."""
    codes = []
    request = CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), template, b"", [])
    for client in (pair.ours, pair.theirs):
        try:
            made = run(client, request)
        except TpmError as error:
            codes.append(error.rc)
        else:
            client.run(FlushContext(made.object_handle))
            codes.append(0)
    assert codes[0] == codes[1], f"{template}: 0x{codes[0]:x} 0x{codes[1]:x}"
