"""Asymmetric primitives (Part 3, 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from hwtpm.crypto.errors import BadPadding, BadPoint, OutOfRange
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import HASHES
from hwtpm.tpm2.requests.asymmetric import (
    ECCParameters,
    ECCParametersResponse,
    ECDHKeyGen,
    ECDHKeyGenResponse,
    ECDHZGen,
    ECDHZGenResponse,
    RSADecrypt,
    RSADecryptResponse,
    RSAEncrypt,
    RSAEncryptResponse,
)
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import (
    TPMS_ALGORITHM_DETAIL_ECC,
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_RSA_DECRYPT,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_DECRYPT, TPMA_OBJECT_RESTRICTED
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_ECDH,
    TPM_ALG_KDF1_SP800_56A,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_ALG_SM3_256,
    TPM_ECC_NIST_P192,
    TPM_ECC_NIST_P224,
    TPM_ECC_NIST_P256,
    TPM_ECC_NIST_P384,
    TPM_ECC_NIST_P521,
    TPM_ECC_SM2_P256,
    TPM_RC_ATTRIBUTES,
    TPM_RC_ECC_POINT,
    TPM_RC_HASH,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_RSA_PARMS

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate
    from hwtpm.crypto.rsa import RsaPrivate, RsaPublic

_USES: Final = TPMA_OBJECT_DECRYPT | TPMA_OBJECT_RESTRICTED
# The hash that the key derivation of each curve goes with (TCG Algorithm Registry, 6); none for the others.
_KDF_HASH: Final = {
    TPM_ECC_NIST_P192: TPM_ALG_SHA256, TPM_ECC_NIST_P224: TPM_ALG_SHA256, TPM_ECC_NIST_P256: TPM_ALG_SHA256,
    TPM_ECC_NIST_P384: TPM_ALG_SHA384, TPM_ECC_NIST_P521: TPM_ALG_SHA512, TPM_ECC_SM2_P256: TPM_ALG_SM3_256,
}


def _key(tpm: Tpm, handle: int, kind: int) -> Object:
    """Return the key of type *kind* at *handle*, the first of the command; TPM_RC_KEY if it is none."""
    key = tpm.objects.loaded(handle)
    if key is None or key.public.type != kind:
        raise TpmError(TPM_RC_KEY).handle(1)
    return key


def decryption_key(tpm: Tpm, handle: int, kind: int) -> Object:
    """Return an unrestricted decryption key; TPM_RC_KEY or TPM_RC_ATTRIBUTES if it is none."""
    key = _key(tpm, handle, kind)
    if key.attributes & _USES != TPMA_OBJECT_DECRYPT:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    return key


def ecc_key(tpm: Tpm, handle: int) -> tuple[Object, TPMS_ECC_PARMS]:
    """Return the ECC key at *handle*, the first of the command, and its parameters; TPM_RC_KEY if none."""
    key = _key(tpm, handle, TPM_ALG_ECC)
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_ECC_PARMS)
    return key, parameters


def _check_label(label: bytes) -> None:
    """A label is a string with its terminating zero, even where the scheme does not use it."""
    if label and label[-1]:
        raise TpmError(TPM_RC_VALUE).parameter(3)


def _padding(key: Object, asked: TPMT_RSA_DECRYPT) -> tuple[int, int]:
    """Return padding scheme and hash: the key's, or those asked for if it has none (Part 3, Table 42)."""
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_RSA_PARMS)
    own = parameters.scheme
    if own.scheme == TPM_ALG_NULL:
        scheme, details = asked.scheme, asked.details
    elif asked.scheme == TPM_ALG_NULL or (asked.scheme == own.scheme and asked.details == own.details):
        scheme, details = own.scheme, own.details
    else:
        raise TpmError(TPM_RC_SCHEME).parameter(2)
    return scheme, TPM_ALG_NULL if details is None else details.hash_alg


@handles
def rsa_encrypt(tpm: Tpm, cmd: RSAEncrypt) -> RSAEncryptResponse:
    """The message is returned padded and encrypted with the public key.  Part 3, 14.2.

    TPM_RC_KEY (handle 1): not an RSA key.  TPM_RC_ATTRIBUTES (handle 1): decrypt is CLEAR.  TPM_RC_VALUE
    (parameter 3): the label does not end with zero.  TPM_RC_SCHEME (parameter 2): not the key's scheme.
    TPM_RC_VALUE: the message is too long for the padding, or not less than the modulus.  TPM_RC_HASH: the
    modulus is too small for the hash of OAEP.
    """
    from hwtpm.crypto.rsa import max_oaep_message

    # Input Validation
    key = _key(tpm, cmd.key_handle, TPM_ALG_RSA)
    if not key.attributes & TPMA_OBJECT_DECRYPT:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    _check_label(cmd.label)
    scheme, hash_alg = _padding(key, cmd.in_scheme)
    try:
        live = cast("RsaPublic", key.public_key)
    except TpmError as error:
        raise error.handle(1) from None

    # Command Output
    try:
        if scheme == TPM_ALG_NULL:
            out = live.raw(cmd.message)
        elif scheme == TPM_ALG_RSAES:
            out = live.encrypt_pkcs1(cmd.message)
        elif max_oaep_message(live.size, hash_alg) < 0:
            raise TpmError(TPM_RC_HASH)
        else:
            out = live.encrypt_oaep(hash_alg, cmd.label, cmd.message, tpm.random)
    except OutOfRange:
        raise TpmError(TPM_RC_VALUE) from None
    return RSAEncryptResponse(out)


@handles
def rsa_decrypt(tpm: Tpm, cmd: RSADecrypt) -> RSADecryptResponse:
    """The message is returned decrypted with the private key and without its padding.  Part 3, 14.3.

    TPM_RC_KEY (handle 1): not an RSA key.  TPM_RC_ATTRIBUTES (handle 1): decrypt is CLEAR or restricted SET.
    TPM_RC_VALUE (parameter 3): the label does not end with zero.  TPM_RC_SCHEME (parameter 2): not the key's
    scheme.  TPM_RC_SIZE: the ciphertext is not as long as the modulus, or not less than it.  TPM_RC_VALUE:
    the padding is wrong.
    """
    from hwtpm.crypto.rsa import max_oaep_message

    # Input Validation
    key = decryption_key(tpm, cmd.key_handle, TPM_ALG_RSA)
    _check_label(cmd.label)
    scheme, hash_alg = _padding(key, cmd.in_scheme)
    live = cast("RsaPrivate", key.key)
    if len(cmd.cipher_text) != live.size:
        raise TpmError(TPM_RC_SIZE)

    # Command Output
    try:
        if scheme == TPM_ALG_NULL:
            message = live.raw_private(cmd.cipher_text)
        elif scheme == TPM_ALG_RSAES:
            message = live.decrypt_pkcs1(cmd.cipher_text)
        elif max_oaep_message(live.size, hash_alg) < 0:
            raise BadPadding("OAEP")
        else:
            message = live.decrypt_oaep(hash_alg, cmd.label, cmd.cipher_text)
    except OutOfRange:
        raise TpmError(TPM_RC_SIZE) from None
    except BadPadding:
        raise TpmError(TPM_RC_VALUE) from None
    return RSADecryptResponse(message)


@handles
def ecdh_key_gen(tpm: Tpm, cmd: ECDHKeyGen) -> ECDHKeyGenResponse:
    """An ephemeral key is made; its public point and the point shared with the key are returned.

    TPM_RC_KEY (handle 1): not an ECC key, or its point is not on its curve.  Part 3, 14.4.
    """
    from hwtpm.crypto import ecc

    # Input Validation
    key = _key(tpm, cmd.key_handle, TPM_ALG_ECC)
    parameters, point = key.public.parameters, key.public.unique
    assert isinstance(parameters, TPMS_ECC_PARMS)
    assert isinstance(point, TPMS_ECC_POINT)
    curve = parameters.curve_id

    # Command Output
    ephemeral = ecc.EccPrivate(curve, ecc.scalar_from(curve, tpm.random(ecc.curve(curve).scalar_seed_size)))
    try:
        shared = ephemeral.multiply(point.x, point.y)
    except BadPoint:
        raise TpmError(TPM_RC_KEY).handle(1) from None
    return ECDHKeyGenResponse(TPMS_ECC_POINT(*shared), TPMS_ECC_POINT(*ephemeral.public))


@handles
def ecdh_z_gen(tpm: Tpm, cmd: ECDHZGen) -> ECDHZGenResponse:
    """The point shared between the private key and the given public point is returned.  Part 3, 14.5.

    TPM_RC_KEY (handle 1): not an ECC key.  TPM_RC_ATTRIBUTES (handle 1): decrypt is CLEAR or restricted SET.
    TPM_RC_SCHEME (handle 1): the key's scheme is not ECDH.  TPM_RC_ECC_POINT (parameter 1): the point is not
    on the curve.  The product is never at infinity: the order of every curve here is prime.
    """
    # Input Validation
    key = decryption_key(tpm, cmd.key_handle, TPM_ALG_ECC)
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_ECC_PARMS)
    if parameters.scheme.scheme not in (TPM_ALG_ECDH, TPM_ALG_NULL):
        raise TpmError(TPM_RC_SCHEME).handle(1)

    # Command Output
    try:
        shared = cast("EccPrivate", key.key).multiply(cmd.in_point.x, cmd.in_point.y)
    except BadPoint:
        raise TpmError(TPM_RC_ECC_POINT).parameter(1) from None
    return ECDHZGenResponse(TPMS_ECC_POINT(*shared))


@handles
def ecc_parameters(tpm: Tpm, cmd: ECCParameters) -> ECCParametersResponse:
    """The parameters of the curve are returned, as long as the field or order, except zero.  Part 3, 14.6.

    The type of the parameter has refused what is not one of our curves (TPM_RC_CURVE).
    """
    from hwtpm.crypto import ecc

    # Command Output
    curve = ecc.curve(cmd.curve_id)
    p, a, b, x, y = [number.to_bytes(curve.field_size if number else 1, "big")
                     for number in (curve.p, curve.a, curve.b, curve.gx, curve.gy)]
    alg = _KDF_HASH.get(cmd.curve_id)
    kdf = TPMT_KDF_SCHEME(TPM_ALG_NULL)
    if alg in HASHES:
        kdf = TPMT_KDF_SCHEME(TPM_ALG_KDF1_SP800_56A, TPMS_SCHEME_HASH(alg))
    return ECCParametersResponse(TPMS_ALGORITHM_DETAIL_ECC(
        cmd.curve_id, curve.bits, kdf, TPMT_ECC_SCHEME(TPM_ALG_NULL), p, a, b, x, y,
        curve.n.to_bytes(curve.order_size, "big"), bytes([curve.h])))
