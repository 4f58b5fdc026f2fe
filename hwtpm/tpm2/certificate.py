"""X.509 certificates of TPM objects: what the caller gives and the TPM adds (RFC 5280; Part 3, 18.8)."""

from __future__ import annotations

from typing import Final, NamedTuple

from hwtpm.crypto import hashes, ids
from hwtpm.crypto.rsa import salt_size
from hwtpm.errors import TpmError
from hwtpm.tpm2 import der
from hwtpm.tpm2.profile import RSA_DEFAULT_PUBLIC_EXPONENT
from hwtpm.tpm2.schemes import Chosen
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SIGN,
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
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_RC_ATTRIBUTES,
    TPM_RC_RESERVED_BITS,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_RSA_PARMS

_SERIAL_SIZE: Final = 20  # octets at most (RFC 5280, 4.1.2.2)
_VERSION_3: Final = der.encode(der.CONTEXT, der.integer(2))
_EXTENSIONS: Final = der.CONTEXT + 3
_KEY_USAGE: Final = der.identifier("2.5.29.15")
_TPMA_OBJECT: Final = der.identifier("2.23.133.10.1.1.1")  # tcg-tpmaObject
_RESERVED: Final = 0x007FFFFF

# What the object has to be able to do for a use of its public key (Part 2, 8.11).
_D, _S = TPMA_OBJECT_DECRYPT, TPMA_OBJECT_SIGN
_NEEDED: Final = {
    TPMA_X509_KEY_USAGE_DECIPHERONLY: _D,
    TPMA_X509_KEY_USAGE_ENCIPHERONLY: _D,
    TPMA_X509_KEY_USAGE_CRLSIGN: _S,
    TPMA_X509_KEY_USAGE_KEYCERTSIGN: _S,
    TPMA_X509_KEY_USAGE_KEYAGREEMENT: _D,
    TPMA_X509_KEY_USAGE_DATAENCIPHERMENT: _D,
    TPMA_X509_KEY_USAGE_KEYENCIPHERMENT: _D | TPMA_OBJECT_RESTRICTED,
    TPMA_X509_KEY_USAGE_NONREPUDIATION: TPMA_OBJECT_FIXEDTPM,
    TPMA_X509_KEY_USAGE_DIGITALSIGNATURE: _S,
}

# Object identifiers of algorithms (RFC 3279, 4055, 5480, 5758, 8692; NIST CSOR; GM/T 0006).
_RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
_MGF1: Final = "1.2.840.113549.1.1.8"
_RSASSA_PSS: Final = "1.2.840.113549.1.1.10"
_EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_NIST_HASH, _NIST_SIGNATURE = "2.16.840.1.101.3.4.2.", "2.16.840.1.101.3.4.3."
_HASHES: Final = {
    ids.SHA1: "1.3.14.3.2.26", ids.SHA256: _NIST_HASH + "1", ids.SHA384: _NIST_HASH + "2",
    ids.SHA512: _NIST_HASH + "3", ids.SHA3_256: _NIST_HASH + "8", ids.SHA3_384: _NIST_HASH + "9",
    ids.SHA3_512: _NIST_HASH + "10",
}
_RSASSA: Final = {
    ids.SHA1: "1.2.840.113549.1.1.5", ids.SHA256: "1.2.840.113549.1.1.11",
    ids.SHA384: "1.2.840.113549.1.1.12", ids.SHA512: "1.2.840.113549.1.1.13",
    ids.SHA3_256: _NIST_SIGNATURE + "14", ids.SHA3_384: _NIST_SIGNATURE + "15",
    ids.SHA3_512: _NIST_SIGNATURE + "16",
}
_ECDSA: Final = {
    ids.SHA1: "1.2.840.10045.4.1", ids.SHA256: "1.2.840.10045.4.3.2", ids.SHA384: "1.2.840.10045.4.3.3",
    ids.SHA512: "1.2.840.10045.4.3.4", ids.SHA3_256: _NIST_SIGNATURE + "10",
    ids.SHA3_384: _NIST_SIGNATURE + "11", ids.SHA3_512: _NIST_SIGNATURE + "12",
}
_CURVES: Final = {
    ids.NIST_P192: "1.2.840.10045.3.1.1", ids.NIST_P224: "1.3.132.0.33",
    ids.NIST_P256: "1.2.840.10045.3.1.7", ids.NIST_P384: "1.3.132.0.34", ids.NIST_P521: "1.3.132.0.35",
    ids.SM2_P256: "1.2.156.10197.1.301",
}


class Partial(NamedTuple):
    """What the caller gives, each as the octets of its element; the first is empty if it is left out."""

    algorithm: bytes
    issuer_to_subject: bytes  # issuer, validity and subject
    extensions: bytes


def parse(octets: bytes) -> Partial:
    """Return the parts of a partialCertificate.

    TPM_RC_SIZE: it is not one SEQUENCE.  TPM_RC_VALUE: it is not three or four of them, and one [3].
    """
    if not octets:
        raise TpmError(TPM_RC_VALUE)
    try:
        (outer,) = der.elements(octets)
    except ValueError:
        raise TpmError(TPM_RC_SIZE) from None
    if outer.tag != der.SEQUENCE:
        raise TpmError(TPM_RC_SIZE)
    try:
        inner = der.elements(outer.contents)
    except ValueError:
        raise TpmError(TPM_RC_VALUE) from None
    sequences = [element.octets for element in inner if element.tag == der.SEQUENCE]
    extensions = [element.octets for element in inner if element.tag == _EXTENSIONS]
    if len(sequences) not in (3, 4) or len(extensions) != 1 or len(inner) != len(sequences) + 1:
        raise TpmError(TPM_RC_VALUE)
    algorithm = sequences.pop(0) if len(sequences) == 4 else b""
    return Partial(algorithm, b"".join(sequences), extensions[0])


def check_extensions(octets: bytes, attributes: int) -> None:
    """Check key usage and, if it is there, TPMA_OBJECT against the *attributes* of the object.

    TPM_RC_ATTRIBUTES: they do not agree.  TPM_RC_RESERVED_BITS: the usage has unknown bits.  TPM_RC_VALUE:
    there is no usage, or the extensions are not well-formed.
    """
    try:
        (outer,) = der.elements(octets)
        (listed,) = der.elements(outer.contents)
        told = _extension(listed, _TPMA_OBJECT)
        usage = _extension(listed, _KEY_USAGE)
    except ValueError:
        raise TpmError(TPM_RC_VALUE) from None
    if told not in (None, attributes):
        raise TpmError(TPM_RC_ATTRIBUTES)
    if usage is None:
        raise TpmError(TPM_RC_VALUE)
    if usage & _RESERVED:
        raise TpmError(TPM_RC_RESERVED_BITS)
    for bit, needed in _NEEDED.items():
        if usage & bit and attributes & needed != needed:
            raise TpmError(TPM_RC_ATTRIBUTES)


def _extension(listed: der.Element, identifier: bytes) -> int | None:
    """Return the bits that the extension says, None if there is no such extension; raises ValueError."""
    if listed.tag != der.SEQUENCE:
        raise ValueError("no list of extensions")
    for element in der.elements(listed.contents):
        if element.tag != der.SEQUENCE:
            raise ValueError("no extension")
        name, *rest = der.elements(element.contents)
        if name.octets == identifier:
            for value in rest:
                if value.tag == der.OCTET_STRING:
                    return der.bits(value.contents)
            raise ValueError("an extension without value")
    return None


def public_key(key: Object) -> bytes:
    """Return the SubjectPublicKeyInfo (RFC 5280, 4.1.2.7); empty for a key that has none."""
    parameters, unique = key.public.parameters, key.public.unique
    if isinstance(parameters, TPMS_RSA_PARMS) and isinstance(unique, bytes):
        exponent = parameters.exponent or RSA_DEFAULT_PUBLIC_EXPONENT
        numbers = der.sequence(der.integer(int.from_bytes(unique, "big")), der.integer(exponent))
        return der.sequence(der.sequence(der.identifier(_RSA_ENCRYPTION), der.NULL), der.bit_string(numbers))
    if (isinstance(parameters, TPMS_ECC_PARMS) and isinstance(unique, TPMS_ECC_POINT)
            and parameters.curve_id in _CURVES):
        curve = der.identifier(_CURVES[parameters.curve_id])
        algorithm = der.sequence(der.identifier(_EC_PUBLIC_KEY), curve)
        return der.sequence(algorithm, der.bit_string(b"\x04" + unique.x + unique.y))
    return b""


def algorithm(key: Object, chosen: Chosen) -> bytes:
    """Return the AlgorithmIdentifier of a signature; empty for a scheme that has none."""
    scheme, alg = chosen.alg, chosen.hash_alg
    if scheme == TPM_ALG_ECDSA and alg in _ECDSA:
        return der.sequence(der.identifier(_ECDSA[alg]))
    if scheme == TPM_ALG_RSASSA and alg in _RSASSA:
        return der.sequence(der.identifier(_RSASSA[alg]), der.NULL)
    if scheme == TPM_ALG_RSAPSS and alg in _HASHES and isinstance(key.public.unique, bytes):
        return der.sequence(der.identifier(_RSASSA_PSS), _pss_parameters(alg, len(key.public.unique)))
    return b""


def _pss_parameters(alg: int, modulus_size: int) -> bytes:
    """Return RSASSA-PSS-params; what is the default, with SHA-1, is left out (RFC 4055, 3.1)."""
    salt = salt_size(modulus_size, alg)
    parts = []
    if alg != ids.SHA1:
        digest = der.sequence(der.identifier(_HASHES[alg]), der.NULL)
        mask = der.sequence(der.identifier(_MGF1), digest)
        parts = [der.encode(der.CONTEXT, digest), der.encode(der.CONTEXT + 1, mask)]
    if salt != hashes.size(ids.SHA1):
        parts.append(der.encode(der.CONTEXT + 2, der.integer(salt)))
    return der.sequence(*parts)


def complete(partial: Partial, algorithm: bytes, public: bytes, *unique: bytes) -> tuple[bytes, bytes]:
    """Return what is added to *partial*, and the whole TBSCertificate (RFC 5280, 4.1).

    *algorithm* is empty if the caller gave it.  The serial number is a digest of the certificate and of what
    makes it *unique*.
    """
    signature = partial.algorithm or algorithm
    rest = (partial.issuer_to_subject, public, partial.extensions)
    digest = hashes.digest(ids.SHA256, signature, *rest, *unique)
    # Positive and not zero, in _SERIAL_SIZE octets.
    number = int.from_bytes(digest[:_SERIAL_SIZE], "big") >> 1 | 1
    serial = der.integer(number)
    added = der.sequence(_VERSION_3, serial, algorithm, public)
    return added, der.sequence(_VERSION_3, serial, signature, *rest)
