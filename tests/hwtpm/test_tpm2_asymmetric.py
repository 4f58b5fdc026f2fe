"""RSA encryption and elliptic curve key exchange (Part 3, 14), alone and beside swtpm."""

from __future__ import annotations

import pytest

from hwtpm.crypto import ecc
from hwtpm.tpm2.requests.asymmetric import ECCParameters, ECDHKeyGen, ECDHZGen, RSADecrypt, RSAEncrypt
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT, TPMT_RSA_DECRYPT
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSAES,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_ECC_NIST_P256,
    TPM_ECC_NIST_P384,
    TPM_ECC_NIST_P521,
    TPM_RC_ATTRIBUTES,
    TPM_RC_CURVE,
    TPM_RC_ECC_POINT,
    TPM_RC_HASH,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from tests.support.tpm2 import Machine, refused
from tests.support.tpm2_keys import (
    DECRYPT,
    SIGN,
    Areas,
    create_primary,
    elliptic,
    hash_scheme,
    load,
    rsa,
    storage_template,
)
from tests.support.tpm2_pair import Pair, run

H1, P1, P2, P3 = 0x100, 0x140, 0x240, 0x340
CURVES = (TPM_ECC_NIST_P256, TPM_ECC_NIST_P384, TPM_ECC_NIST_P521)
HASHES = (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512)


def padding(scheme: int = TPM_ALG_NULL, hash_alg: int = TPM_ALG_NULL) -> TPMT_RSA_DECRYPT:
    return TPMT_RSA_DECRYPT(scheme, hash_scheme(hash_alg))


RAW, RSAES, OAEP = padding(), padding(TPM_ALG_RSAES), padding(TPM_ALG_OAEP, TPM_ALG_SHA256)


# OAEP with SHA-512 does not fit into 1024 bits.
PADDINGS = [(bits, scheme) for bits in (1024, 2048)
            for scheme in (RAW, RSAES, *[padding(TPM_ALG_OAEP, alg) for alg in HASHES[: bits // 512 + 1]])]


@pytest.mark.parametrize(("bits", "scheme"), PADDINGS)
@pytest.mark.parametrize("label", [b"", b"a label\0"])
def test_what_one_encrypts_the_other_decrypts(pair: Pair, scheme: TPMT_RSA_DECRYPT, label: bytes,
                                              bits: int) -> None:
    with pair.loaded(rsa(DECRYPT, bits=bits)) as key:
        for source, sink in ((pair.ours, pair.theirs), (pair.theirs, pair.ours), (pair.ours, pair.ours)):
            sent = run(source, RSAEncrypt(key, b"\0\x01message", scheme, label)).out_data
            assert len(sent) == bits // 8
            received = run(sink, RSADecrypt(key, sent, scheme, label)).message
            expected = b"\0\x01message"
            assert received == (expected.rjust(bits // 8, b"\0") if scheme is RAW else expected)


def test_raw_encryption_is_deterministic_and_returns_the_size_of_the_modulus(pair: Pair) -> None:
    with pair.loaded(rsa(DECRYPT)) as key:
        for message in (b"", b"\0", b"\x02", bytes(300) + b"\x07", b"\x7f" * 256):
            ours, theirs = pair.answers(RSAEncrypt(key, message, RAW, b""))
            assert ours == theirs


def test_the_scheme_of_the_key_is_the_default(machine: Machine) -> None:
    key = load(machine.client, rsa(DECRYPT, TPM_ALG_OAEP, TPM_ALG_SHA256))
    sent = run(machine.client, RSAEncrypt(key, b"text", RAW, b"")).out_data
    assert run(machine.client, RSADecrypt(key, sent, OAEP, b"")).message == b"text"


@pytest.mark.parametrize(("own", "asked", "rc"), [
    ((TPM_ALG_RSAES, TPM_ALG_NULL), RAW, 0),
    ((TPM_ALG_RSAES, TPM_ALG_NULL), RSAES, 0),
    ((TPM_ALG_RSAES, TPM_ALG_NULL), OAEP, TPM_RC_SCHEME + P2),
    ((TPM_ALG_OAEP, TPM_ALG_SHA256), RAW, 0),
    ((TPM_ALG_OAEP, TPM_ALG_SHA256), OAEP, 0),
    ((TPM_ALG_OAEP, TPM_ALG_SHA256), RSAES, TPM_RC_SCHEME + P2),
    ((TPM_ALG_OAEP, TPM_ALG_SHA256), padding(TPM_ALG_OAEP, TPM_ALG_SHA1), TPM_RC_SCHEME + P2),
])
def test_padding_scheme_selection(pair: Pair, own: tuple[int, int], asked: TPMT_RSA_DECRYPT, rc: int) -> None:
    """Part 3, Table 42."""
    with pair.loaded(rsa(DECRYPT, *own)) as key:
        assert pair.codes(RSAEncrypt(key, b"text", asked, b"")) == (rc, rc)


MODULUS = rsa(DECRYPT)[0].unique
assert isinstance(MODULUS, bytes)


@pytest.mark.parametrize(("areas", "message", "scheme", "label", "rc"), [
    (elliptic(DECRYPT), b"", RAW, b"", TPM_RC_KEY + H1),
    (rsa(SIGN), b"", RSAES, b"", TPM_RC_ATTRIBUTES + H1),
    (rsa(SIGN), b"", RSAES, b"x", TPM_RC_ATTRIBUTES + H1),
    (rsa(SIGN | DECRYPT), b"", RSAES, b"", 0),
    (rsa(DECRYPT), b"", RSAES, b"not terminated", TPM_RC_VALUE + P3),
    (rsa(DECRYPT), b"", RAW, b"not terminated", TPM_RC_VALUE + P3),
    (rsa(DECRYPT, TPM_ALG_RSAES), b"", OAEP, b"not terminated", TPM_RC_VALUE + P3),
    (rsa(DECRYPT), b"m" * 245, RSAES, b"", 0),
    (rsa(DECRYPT), b"m" * 190, OAEP, b"", 0),
    (rsa(DECRYPT), b"\x01" * 257, RAW, b"", TPM_RC_VALUE),
    (rsa(DECRYPT), b"\x01" * 513, RAW, b"", TPM_RC_SIZE + P1),
])
def test_encryption_codes(pair: Pair, areas: Areas, message: bytes, scheme: TPMT_RSA_DECRYPT, label: bytes,
                          rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(RSAEncrypt(key, message, scheme, label)) == (rc, rc)


@pytest.mark.parametrize(("areas", "cipher_text", "scheme", "label", "rc"), [
    (elliptic(DECRYPT), b"", RAW, b"", TPM_RC_KEY + H1),
    (rsa(SIGN), b"", RAW, b"", TPM_RC_ATTRIBUTES + H1),
    (rsa(DECRYPT), bytes(256), RAW, b"x", TPM_RC_VALUE + P3),
    (rsa(DECRYPT), bytes(256), RAW, b"", 0),
    (rsa(DECRYPT), bytes(255), RAW, b"", TPM_RC_SIZE),
    (rsa(DECRYPT), bytes(257), RAW, b"", TPM_RC_SIZE),
    (rsa(DECRYPT), bytes(257), OAEP, b"", TPM_RC_SIZE),
    (rsa(DECRYPT, TPM_ALG_RSAES), bytes(256), OAEP, b"", TPM_RC_SCHEME + P2),
])
def test_decryption_codes(pair: Pair, areas: Areas, cipher_text: bytes, scheme: TPMT_RSA_DECRYPT,
                          label: bytes, rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(RSADecrypt(key, cipher_text, scheme, label)) == (rc, rc)


@pytest.mark.parametrize(("areas", "message", "scheme", "label", "rc"), [
    (rsa(DECRYPT), b"m" * 246, RSAES, b"", TPM_RC_VALUE),
    (rsa(DECRYPT), b"m" * 191, OAEP, b"", TPM_RC_VALUE),
    (rsa(DECRYPT, bits=1024), b"", padding(TPM_ALG_OAEP, TPM_ALG_SHA512), b"", TPM_RC_HASH),
    (rsa(DECRYPT), MODULUS, RAW, b"", TPM_RC_VALUE),
    (rsa(DECRYPT), b"\xff" * 256, RAW, b"", TPM_RC_VALUE),
])
def test_encryption_codes_where_swtpm_only_knows_failure(
        machine: Machine, areas: Areas, message: bytes, scheme: TPMT_RSA_DECRYPT, label: bytes,
        rc: int) -> None:
    """What goes wrong in its library, swtpm answers with TPM_RC_FAILURE; Part 3, Table 43 has the limits."""
    key = load(machine.client, areas)
    with refused(rc):
        run(machine.client, RSAEncrypt(key, message, scheme, label))


@pytest.mark.parametrize(("areas", "cipher_text", "scheme", "label", "rc"), [
    (rsa(DECRYPT), b"\xff" * 256, RAW, b"", TPM_RC_SIZE),
    (rsa(DECRYPT), MODULUS, RAW, b"", TPM_RC_SIZE),
    (rsa(DECRYPT), MODULUS, RSAES, b"", TPM_RC_SIZE),
    (rsa(DECRYPT), MODULUS, OAEP, b"", TPM_RC_SIZE),
    (rsa(DECRYPT), bytes(256), RSAES, b"", TPM_RC_VALUE),
    (rsa(DECRYPT), bytes(256), OAEP, b"", TPM_RC_VALUE),
    (rsa(DECRYPT), b"\x05" * 256, RSAES, b"", TPM_RC_VALUE),
    (rsa(DECRYPT), b"\x05" * 256, OAEP, b"", TPM_RC_VALUE),
    (rsa(DECRYPT, bits=1024), bytes(128), padding(TPM_ALG_OAEP, TPM_ALG_SHA512), b"", TPM_RC_VALUE),
])
def test_decryption_codes_where_swtpm_only_knows_failure(
        machine: Machine, areas: Areas, cipher_text: bytes, scheme: TPMT_RSA_DECRYPT, label: bytes,
        rc: int) -> None:
    """Part 3, 14.3: TPM_RC_VALUE if the padding checks fail."""
    key = load(machine.client, areas)
    with refused(rc):
        run(machine.client, RSADecrypt(key, cipher_text, scheme, label))


def test_a_wrong_label_is_a_wrong_padding(machine: Machine) -> None:
    key = load(machine.client, rsa(DECRYPT))
    sent = run(machine.client, RSAEncrypt(key, b"text", OAEP, b"one\0")).out_data
    for label in (b"", b"two\0", b"one\0\0"):
        with refused(TPM_RC_VALUE):
            run(machine.client, RSADecrypt(key, sent, OAEP, label))


def test_a_public_key_alone_encrypts(machine: Machine) -> None:
    areas = rsa(DECRYPT)
    public, whole = load(machine.client, areas, public_only=True), load(machine.client, areas)
    sent = run(machine.client, RSAEncrypt(public, b"text", RSAES, b"")).out_data
    assert run(machine.client, RSADecrypt(whole, sent, RSAES, b"")).message == b"text"


def test_a_storage_key_decrypts_and_exchanges_nothing(pair: Pair) -> None:
    handles = [create_primary(client, storage_template()) for client in (pair.ours, pair.theirs)]
    assert handles[0] == handles[1]
    generator = ecc.curve(TPM_ECC_NIST_P256)
    point = TPMS_ECC_POINT(generator.gx.to_bytes(32, "big"), generator.gy.to_bytes(32, "big"))
    rc = TPM_RC_ATTRIBUTES + H1
    assert pair.codes(ECDHZGen(handles[0], point)) == (rc, rc)
    rc = TPM_RC_KEY + H1
    assert pair.codes(RSADecrypt(handles[0], bytes(256), RAW, b"")) == (rc, rc)


@pytest.mark.parametrize("curve", CURVES)
def test_both_sides_of_a_key_exchange_agree(pair: Pair, curve: int) -> None:
    with pair.loaded(elliptic(DECRYPT, curve=curve)) as key:
        for source, sink in ((pair.ours, pair.theirs), (pair.theirs, pair.ours), (pair.ours, pair.ours)):
            made = run(source, ECDHKeyGen(key))
            assert ecc.on_curve(curve, made.pub_point.x, made.pub_point.y)
            assert run(sink, ECDHZGen(key, made.pub_point)).out_point == made.z_point


def test_each_ephemeral_key_is_new(machine: Machine) -> None:
    key = load(machine.client, elliptic(SIGN), public_only=True)
    points = [run(machine.client, ECDHKeyGen(key)).pub_point.x for _ in range(3)]
    assert len(set(points)) == 3


POINT = elliptic(DECRYPT)[0].unique
assert isinstance(POINT, TPMS_ECC_POINT)
OTHER = TPMS_ECC_POINT(POINT.x, POINT.x)


@pytest.mark.parametrize(("areas", "point", "rc"), [
    (rsa(DECRYPT), POINT, TPM_RC_KEY + H1),
    (elliptic(SIGN), POINT, TPM_RC_ATTRIBUTES + H1),
    (elliptic(SIGN | DECRYPT), POINT, 0),
    (elliptic(DECRYPT, TPM_ALG_ECDH, TPM_ALG_SHA256), POINT, 0),
    (elliptic(DECRYPT), OTHER, TPM_RC_ECC_POINT + P1),
    (elliptic(DECRYPT), TPMS_ECC_POINT(bytes(32), bytes(32)), TPM_RC_ECC_POINT + P1),
    (elliptic(DECRYPT), TPMS_ECC_POINT(b"", b""), TPM_RC_ECC_POINT + P1),
    (elliptic(DECRYPT), TPMS_ECC_POINT(POINT.x, b"\xff" * 32), TPM_RC_ECC_POINT + P1),
    (elliptic(DECRYPT), TPMS_ECC_POINT(bytes(100), POINT.y), TPM_RC_SIZE + P1),
    (elliptic(DECRYPT), TPMS_ECC_POINT(bytes(4) + POINT.x, bytes(3) + POINT.y), 0),
])
def test_key_exchange_codes(pair: Pair, areas: Areas, point: TPMS_ECC_POINT, rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(ECDHZGen(key, point)) == (rc, rc)


def test_an_ephemeral_key_needs_an_ecc_key(pair: Pair) -> None:
    rc = TPM_RC_KEY + H1
    with pair.loaded(rsa(DECRYPT), public_only=True) as key:
        assert pair.codes(ECDHKeyGen(key)) == (rc, rc)


@pytest.mark.parametrize("curve", CURVES)
def test_curve_parameters_are_those_of_swtpm(pair: Pair, curve: int) -> None:
    ours, theirs = pair.answers(ECCParameters(curve))
    assert ours == theirs
    assert ours.parameters.curve_id == curve


@pytest.mark.parametrize("curve", [0, 0x30, 0x55])
def test_an_unknown_curve_has_no_parameters(pair: Pair, curve: int) -> None:
    rc = TPM_RC_CURVE + P1
    assert pair.codes(ECCParameters(curve)) == (rc, rc)


def test_a_signing_scheme_excludes_a_key_exchange(pair: Pair) -> None:
    """Such a key cannot be made; the attribute is looked at before the scheme."""
    rc = TPM_RC_ATTRIBUTES + H1
    with pair.loaded(elliptic(SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256)) as key:
        assert pair.codes(ECDHZGen(key, POINT)) == (rc, rc)
    with pair.loaded(rsa(SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256)) as key:
        assert pair.codes(RSAEncrypt(key, b"", RAW, b"")) == (rc, rc)
