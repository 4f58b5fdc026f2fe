"""Public keys as other programs write them: SubjectPublicKeyInfo, PEM or DER (RFC 5280, 4.1; RFC 7468)."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm as LibraryUnsupported
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from hwtpm.crypto import ecc
from hwtpm.crypto.errors import BadKey, UnsupportedAlgorithm

RsaNumbers = tuple[int, int]
"""Modulus and exponent."""
EccNumbers = tuple[int, bytes, bytes]
"""TPM_ECC_CURVE, x and y, each as long as the field."""


def public_numbers(data: bytes) -> RsaNumbers | EccNumbers:
    """Return the parts of the public key in *data*.

    Raises BadKey when it is none, UnsupportedAlgorithm when it is of a kind or curve that is not known.
    """
    try:
        key = (load_pem_public_key if data.lstrip().startswith(b"-----BEGIN") else load_der_public_key)(data)
    except (ValueError, TypeError, LibraryUnsupported):
        raise BadKey("not a public key in PEM or DER") from None
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return numbers.n, numbers.e
    if isinstance(key, ec.EllipticCurvePublicKey):
        for curve in ecc.CURVES.values():
            if curve.group is not None and curve.group.name == key.curve.name:
                point = key.public_numbers()
                size = curve.field_size
                return curve.id, point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")
    raise UnsupportedAlgorithm("a public key that is neither RSA nor of a known curve")


def rsa_public(modulus: bytes, exponent: int = 65537) -> bytes:
    """Return the public key with *modulus* as PEM; BadKey if it cannot be one."""
    try:
        key = rsa.RSAPublicNumbers(exponent, int.from_bytes(modulus, "big")).public_key()
    except ValueError:
        raise BadKey("not the modulus of an RSA key") from None
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
