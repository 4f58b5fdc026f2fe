"""TPM2_CertifyX509 (Part 3, 18.8), read by another X.509 implementation, and beside swtpm."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric import rsa as library_rsa
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.client import Password
from hwtpm.crypto import hashes
from hwtpm.tpm2 import der
from hwtpm.tpm2.certificate import check_extensions, parse
from hwtpm.tpm2.requests.attestation import CertifyX509
from hwtpm.tpm2.types.algorithms import TPMS_SIGNATURE_ECC, TPMS_SIGNATURE_RSA, TPMT_SIG_SCHEME
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_NODA,
    TPMA_X509_KEY_USAGE_CRLSIGN,
    TPMA_X509_KEY_USAGE_DATAENCIPHERMENT,
    TPMA_X509_KEY_USAGE_DECIPHERONLY,
    TPMA_X509_KEY_USAGE_DIGITALSIGNATURE,
    TPMA_X509_KEY_USAGE_ENCIPHERONLY,
    TPMA_X509_KEY_USAGE_KEYAGREEMENT,
    TPMA_X509_KEY_USAGE_KEYCERTSIGN,
    TPMA_X509_KEY_USAGE_KEYENCIPHERMENT,
    TPMA_X509_KEY_USAGE_NONREPUDIATION,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDSA,
    TPM_ALG_HMAC,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_ECC_NIST_P384,
    TPM_RC_ASYMMETRIC,
    TPM_RC_ATTRIBUTES,
    TPM_RC_KEY,
    TPM_RC_RESERVED_BITS,
    TPM_RC_SCHEME,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from tests.support.tpm2 import Machine, rc_of, refused
from tests.support.tpm2_keys import (
    DECRYPT,
    RESTRICTED,
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

H1, H2, P1, P2, P3 = 0x100, 0x200, 0x140, 0x240, 0x340
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a TPM")])
KEY_USAGE = der.identifier("2.5.29.15")
TPMA_OBJECT = der.identifier("2.23.133.10.1.1.1")
SHA256_ECDSA = der.sequence(der.identifier("1.2.840.10045.4.3.2"))
ECDSA = scheme(TPM_ALG_ECDSA, TPM_ALG_SHA256)


def usage(bits: int, *, critical: bool = True) -> bytes:
    """Return the extension of a key usage; *bits* is a TPMA_X509_KEY_USAGE."""
    octets = bits.to_bytes(4, "big").rstrip(b"\0") or b"\0"
    unused = (octets[-1] & -octets[-1]).bit_length() - 1 if octets[-1] else 0
    value = der.encode(der.BIT_STRING, bytes([unused]), octets)
    return der.sequence(KEY_USAGE, b"\x01\x01\xff" if critical else b"",
                        der.encode(der.OCTET_STRING, value))


def attributes_extension(attributes: int) -> bytes:
    value = der.bit_string(attributes.to_bytes(4, "big"))
    return der.sequence(TPMA_OBJECT, der.encode(der.OCTET_STRING, value))


def extensions(*listed: bytes) -> bytes:
    return der.encode(der.CONTEXT + 3, der.sequence(*listed))


SIGNING = usage(TPMA_X509_KEY_USAGE_DIGITALSIGNATURE)
VALIDITY = der.sequence(*[der.encode(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
                          for when in (datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC))])
SUBJECT = NAME.public_bytes()


def partial(*listed: bytes, algorithm: bytes = b"") -> bytes:
    return der.sequence(algorithm, SUBJECT, VALIDITY, SUBJECT, extensions(*listed or (SIGNING,)))


def assemble(given: bytes, added: bytes, signature: object) -> x509.Certificate:
    """Return the whole certificate, as the caller puts it together."""
    (outer,) = der.elements(given)
    mine = [e.octets for e in der.elements(outer.contents)]
    (outer,) = der.elements(added)
    theirs = [e.octets for e in der.elements(outer.contents)]
    algorithm = mine.pop(0) if len(mine) == 5 else theirs[2]
    tbs = der.sequence(*theirs[:2], algorithm, *mine[:3], theirs[-1], mine[3])
    if isinstance(signature, TPMS_SIGNATURE_RSA):
        octets = signature.sig
    else:
        assert isinstance(signature, TPMS_SIGNATURE_ECC)
        octets = der.sequence(*[der.integer(int.from_bytes(n, "big"))
                                for n in (signature.signature_r, signature.signature_s)])
    return x509.load_der_x509_certificate(der.sequence(tbs, algorithm, der.bit_string(octets)))


def verify(certificate: x509.Certificate, key: object) -> None:
    """Check the signature with the parameters that the certificate itself states."""
    alg = certificate.signature_hash_algorithm
    assert alg is not None
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(alg))
    else:
        assert isinstance(key, library_rsa.RSAPublicKey)
        chosen = certificate.signature_algorithm_parameters
        assert isinstance(chosen, padding.PKCS1v15 | padding.PSS)
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, chosen, alg)


@pytest.mark.parametrize(("signer", "asked"), [
    (elliptic(SIGN), ECDSA),
    (elliptic(SIGN, curve=TPM_ECC_NIST_P384), scheme(TPM_ALG_ECDSA, TPM_ALG_SHA384)),
    (elliptic(SIGN), scheme(TPM_ALG_ECDSA, TPM_ALG_SHA1)),
    (rsa(SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256), scheme()),
    (rsa(SIGN), scheme(TPM_ALG_RSASSA, TPM_ALG_SHA512)),
    (rsa(SIGN), scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA256)),
    (rsa(SIGN), scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA384)),
], ids=str)
@pytest.mark.parametrize("subject", [elliptic(SIGN, curve=TPM_ECC_NIST_P384), rsa(SIGN)], ids=["ecc", "rsa"])
def test_the_parts_make_a_certificate(machine: Machine, signer: Areas, asked: TPMT_SIG_SCHEME,
                                      subject: Areas) -> None:
    """The certificate is what another implementation reads as one, with the right key and signature."""
    key, issuer = load(machine.client, subject), load(machine.client, signer)
    text = partial(SIGNING, attributes_extension(subject[0].object_attributes))
    got = run(machine.client, CertifyX509(key, issuer, b"", asked, text))
    certificate = assemble(text, got.added_to_certificate, got.signature.signature)
    assert certificate.version is x509.Version.v3
    assert certificate.subject == certificate.issuer == NAME
    assert 0 < certificate.serial_number < 1 << 159
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    chosen = asked.details or signer[0].parameters.scheme.details  # type: ignore[union-attr]
    assert chosen is not None
    assert got.tbs_digest == hashes.digest(chosen.hash_alg, certificate.tbs_certificate_bytes)
    text = partial(SIGNING, attributes_extension(signer[0].object_attributes))
    own = run(machine.client, CertifyX509(issuer, issuer, b"", asked, text))
    self_signed = assemble(text, own.added_to_certificate, own.signature.signature)
    verify(self_signed, self_signed.public_key())
    verify(certificate, self_signed.public_key())
    public = certificate.public_key()
    unique = subject[0].unique
    if isinstance(unique, bytes):
        assert isinstance(public, library_rsa.RSAPublicKey)
        assert public.public_numbers().n == int.from_bytes(unique, "big")
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert public.public_numbers().x == int.from_bytes(unique.x, "big")


def test_the_callers_algorithm_is_used_as_it_is(machine: Machine) -> None:
    key = load(machine.client, elliptic(SIGN))
    text = partial(algorithm=SHA256_ECDSA)
    got = run(machine.client, CertifyX509(key, key, b"", ECDSA, text))
    certificate = assemble(text, got.added_to_certificate, got.signature.signature)
    verify(certificate, certificate.public_key())
    (added,) = der.elements(got.added_to_certificate)
    assert len(der.elements(added.contents)) == 3, "version, serial number and public key"


def test_serial_numbers_differ_with_signer_subject_and_contents(machine: Machine) -> None:
    one, two = load(machine.client, elliptic(SIGN)), load(machine.client, rsa(SIGN))
    serials = set()
    for subject, signer, listed in ((one, one, SIGNING), (two, one, SIGNING),
                                    (one, one, usage(TPMA_X509_KEY_USAGE_CRLSIGN))):
        got = run(machine.client, CertifyX509(subject, signer, b"", ECDSA, partial(listed)))
        (added,) = der.elements(got.added_to_certificate)
        serials.add(der.elements(added.contents)[1].contents)
    assert len(serials) == 3


@pytest.mark.parametrize(("bit", "needed"), [
    (TPMA_X509_KEY_USAGE_DECIPHERONLY, DECRYPT), (TPMA_X509_KEY_USAGE_ENCIPHERONLY, DECRYPT),
    (TPMA_X509_KEY_USAGE_CRLSIGN, SIGN), (TPMA_X509_KEY_USAGE_KEYCERTSIGN, SIGN),
    (TPMA_X509_KEY_USAGE_KEYAGREEMENT, DECRYPT), (TPMA_X509_KEY_USAGE_DATAENCIPHERMENT, DECRYPT),
    (TPMA_X509_KEY_USAGE_KEYENCIPHERMENT, DECRYPT | RESTRICTED),
    (TPMA_X509_KEY_USAGE_NONREPUDIATION, TPMA_OBJECT_FIXEDTPM),
    (TPMA_X509_KEY_USAGE_DIGITALSIGNATURE, SIGN),
])
def test_each_usage_needs_its_attributes(bit: int, needed: int) -> None:
    """Part 2, 8.11."""
    everything = SIGN | DECRYPT | RESTRICTED | TPMA_OBJECT_FIXEDTPM
    check_extensions(extensions(usage(bit)), needed)
    for attribute in (SIGN, DECRYPT, RESTRICTED, TPMA_OBJECT_FIXEDTPM):
        if needed & attribute:
            with refused(TPM_RC_ATTRIBUTES):
                check_extensions(extensions(usage(bit)), everything & ~attribute)


def test_the_attributes_extension_has_to_be_exact(machine: Machine) -> None:
    key = create_primary(machine.client, signing_template())
    attributes = machine.tpm.objects.get(key).attributes
    good, bad = (partial(SIGNING, attributes_extension(told))
                 for told in (attributes, attributes ^ TPMA_OBJECT_NODA))
    run(machine.client, CertifyX509(key, key, b"", scheme(), good))
    with refused(TPM_RC_ATTRIBUTES | H1):
        run(machine.client, CertifyX509(key, key, b"", scheme(), bad))


def numbered(rc: int) -> int:
    """Return a code of libtpms with the number of the handle: it calls the signing key the first."""
    return {TPM_RC_KEY | H1: TPM_RC_KEY | H2, TPM_RC_SCHEME | H1: TPM_RC_SCHEME | H2,
            TPM_RC_ATTRIBUTES | H2: TPM_RC_ATTRIBUTES | H1,
            TPM_RC_ASYMMETRIC | H2: TPM_RC_ASYMMETRIC | H1}.get(rc, rc)


MALFORMED = {
    "empty": b"",
    "no sequence": der.integer(1),
    "more behind": partial() + b"\0",
    "cut short": partial()[:-1],
    "an empty sequence": der.sequence(),
    "indefinite length": b"\x30\x80\0\0",
    "a length of three octets": b"\x30\x83\0\0\0",
    "a large tag": b"\x1f\x81\1\0",
    "no extensions": der.sequence(SUBJECT, VALIDITY, SUBJECT),
    "extensions twice": der.sequence(SUBJECT, VALIDITY, SUBJECT, extensions(SIGNING), extensions(SIGNING)),
    "too few": der.sequence(SUBJECT, VALIDITY, extensions(SIGNING)),
    "too many": der.sequence(*[SUBJECT] * 5, extensions(SIGNING)),
    "something else": der.sequence(SUBJECT, VALIDITY, SUBJECT, der.integer(1), extensions(SIGNING)),
    "a broken element": der.sequence(SUBJECT, VALIDITY, SUBJECT, extensions(SIGNING), b"\x30\x05\0"),
    "extensions of nothing": der.sequence(SUBJECT, VALIDITY, SUBJECT, der.encode(der.CONTEXT + 3)),
    "extensions of a number": der.sequence(SUBJECT, VALIDITY, SUBJECT,
                                           der.encode(der.CONTEXT + 3, der.integer(1))),
    "no usage": partial(attributes_extension(elliptic(SIGN)[0].object_attributes)),
    "other attributes": partial(attributes_extension(0)),
    "no extension at all": der.sequence(SUBJECT, VALIDITY, SUBJECT, extensions()),
    "usage without value": partial(der.sequence(KEY_USAGE)),
    "usage that is no bit string": partial(der.sequence(KEY_USAGE, der.encode(der.OCTET_STRING,
                                                                              der.integer(1)))),
    "usage with a bad count": partial(der.sequence(KEY_USAGE, der.encode(
        der.OCTET_STRING, der.encode(der.BIT_STRING, b"\x08\x80")))),
    "good, without a use": partial(der.sequence(KEY_USAGE, der.encode(der.OCTET_STRING,
                                                                 der.encode(der.BIT_STRING, b"\0")))),
    "reserved bits": partial(usage(TPMA_X509_KEY_USAGE_DIGITALSIGNATURE | 1 << 20)),
    "a usage of five octets": partial(der.sequence(KEY_USAGE, der.encode(
        der.OCTET_STRING, der.encode(der.BIT_STRING, b"\0\x80\0\0\0\0")))),
    "not an extension": partial(SIGNING, der.integer(1)),
    "good": partial(),
    "good, not critical": partial(usage(TPMA_X509_KEY_USAGE_DIGITALSIGNATURE, critical=False)),
    "good, with algorithm": partial(algorithm=SHA256_ECDSA),
    "good, with other extensions": partial(der.sequence(der.identifier("2.5.29.19"), der.encode(4, b"")),
                                           SIGNING),
}
# What is signed is well-formed throughout, and has no bits that Part 2, 8.11, reserves.
STRICTER = {"not an extension": TPM_RC_VALUE | P3, "a usage of five octets": TPM_RC_VALUE | P3,
            "reserved bits": TPM_RC_RESERVED_BITS | P3}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_partial_certificates_are_judged_as_by_swtpm(pair: Pair, text: bytes,
                                                     request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    with pair.loaded(elliptic(SIGN)) as key:
        ours, theirs = pair.codes(CertifyX509(key, key, b"", ECDSA, text))
    assert ours == STRICTER.get(name, numbered(theirs)), name
    assert (ours == 0) == name.startswith("good")


@pytest.mark.parametrize("bit", range(23, 32))
def test_a_usage_that_the_key_does_not_allow_is_tpm_rc_attributes(pair: Pair, bit: int) -> None:
    """Part 3, 18.8.1, says TPM_RC_ATTRIBUTES; libtpms answers TPM_RC_VALUE for the third parameter.

    It also takes keyAgreement and keyEncipherment for each other (Part 2, 8.11).
    """
    mixed_up = (TPMA_X509_KEY_USAGE_KEYAGREEMENT, TPMA_X509_KEY_USAGE_KEYENCIPHERMENT)
    wanted = ((0, 0), (TPM_RC_ATTRIBUTES | H1, TPM_RC_VALUE | P3))
    for subject in (elliptic(SIGN), elliptic(DECRYPT), rsa(DECRYPT), elliptic(SIGN | DECRYPT)):
        with pair.loaded(subject) as key, pair.loaded(rsa(SIGN)) as signer:
            ours, theirs = pair.codes(CertifyX509(key, signer, b"", scheme(TPM_ALG_RSASSA, TPM_ALG_SHA256),
                                                  partial(usage(1 << bit))))
        assert (ours, theirs) in wanted or 1 << bit in mixed_up


def test_keys_and_schemes_are_judged_as_by_swtpm(pair: Pair) -> None:
    good = partial()
    with pair.loaded(elliptic(SIGN)) as key, pair.loaded(rsa(DECRYPT)) as other:
        for request, rc in (
            (CertifyX509(key, key, b"x", ECDSA, good), TPM_RC_SIZE | P1),
            (CertifyX509(key, other, b"", ECDSA, good), TPM_RC_KEY | H2),
            (CertifyX509(key, key, b"", scheme(), good), TPM_RC_SCHEME | P2),
            (CertifyX509(key, key, b"", scheme(TPM_ALG_RSASSA, TPM_ALG_SHA256), good), TPM_RC_SCHEME | P2),
        ):
            ours, theirs = pair.codes(request)
            assert ours == numbered(theirs) == rc, request
    with pair.loaded(keyed_hash(SIGN)) as mac, pair.loaded(elliptic(SIGN)) as key:
        hmac = scheme(TPM_ALG_HMAC, TPM_ALG_SHA256)
        for request, rc in (
            (CertifyX509(key, mac, b"", hmac, good), TPM_RC_SCHEME | H2),
            (CertifyX509(mac, key, b"", ECDSA, good), TPM_RC_ASYMMETRIC | H1),
            (CertifyX509(key, mac, b"", hmac, partial(algorithm=SHA256_ECDSA)), 0),
        ):
            ours, theirs = pair.codes(request)
            assert ours == numbered(theirs) == rc, request
    with pair.loaded(cipher(DECRYPT)) as symmetric, pair.loaded(elliptic(SIGN)) as key:
        request = CertifyX509(symmetric, key, b"", ECDSA, good)
        ours, theirs = pair.codes(request)
        assert ours == numbered(theirs) == TPM_RC_ASYMMETRIC | H1


@pytest.mark.parametrize("asked", [
    scheme(TPM_ALG_RSASSA, TPM_ALG_SHA256), scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA256),
    scheme(TPM_ALG_RSASSA, TPM_ALG_SHA1), scheme(TPM_ALG_RSAPSS, TPM_ALG_SHA512)], ids=str)
def test_all_but_the_serial_number_is_swtpms(pair: Pair, asked: TPMT_SIG_SCHEME) -> None:
    with pair.loaded(rsa(SIGN)) as signer, pair.loaded(elliptic(SIGN)) as key:
        answers = pair.answers(CertifyX509(key, signer, b"", asked, partial()))
    parts = [[e.octets for e in der.elements(der.elements(a.added_to_certificate)[0].contents)]
             for a in answers]
    assert parts[0][:1] + parts[0][2:] == parts[1][:1] + parts[1][2:]


def test_a_key_without_private_area_is_not_certified(machine: Machine) -> None:
    key = load(machine.client, elliptic(SIGN))
    public = load(machine.client, elliptic(SIGN), public_only=True)
    assert rc_of(lambda: machine.run(CertifyX509(public, key, b"", ECDSA, partial()),
                                     Password(), Password())) == 0x12F  # TPM_RC_AUTH_UNAVAILABLE


@given(st.binary(max_size=64))
def test_any_octets_are_parsed_or_refused(octets: bytes) -> None:
    for judge in (lambda: parse(octets), lambda: check_extensions(octets, 0),
                  lambda: check_extensions(der.encode(der.CONTEXT + 3, octets), 0)):
        assert rc_of(judge) in (0, TPM_RC_SIZE, TPM_RC_VALUE, TPM_RC_ATTRIBUTES, TPM_RC_RESERVED_BITS)


@given(st.integers(0, 1 << 200), st.binary(max_size=70_000))
def test_der_gives_back_what_it_encodes(number: int, octets: bytes) -> None:
    first, second = der.elements(der.integer(number) + der.encode(der.OCTET_STRING, octets[:0x7FFF]))
    assert int.from_bytes(first.contents, "big") == number
    assert not first.contents[0] & 0x80
    assert second.contents == octets[:0x7FFF]
