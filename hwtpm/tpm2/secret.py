"""Secrets that a caller shares with the TPM through one of its keys (Part 1, 8.4.5, 43.4 and 44.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hwtpm.crypto import hashes, kdf
from hwtpm.crypto.errors import BadPoint, CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSA,
    TPM_RC_ECC_POINT,
    TPM_RC_KEY,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_RSA_PARMS
from hwtpm.wire import decode, encode

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate
    from hwtpm.crypto.rsa import RsaPrivate, RsaPublic
    from hwtpm.tpm2.state.objects import Object


def decrypt_secret(key: Object, secret: bytes, label: bytes) -> bytes:
    """Return the secret that the buffer of a TPM2B_ENCRYPTED_SECRET conveys to *key*.

    *label* is "SECRET", "IDENTITY" or "DUPLICATE", without its terminating zero.  The secret is at most as
    long as the digest of the hash that protects it.  Raises TPM_RC_KEY when *key* is not asymmetric.  For an
    RSA key: TPM_RC_SIZE when *secret* is not as long as the modulus, TPM_RC_VALUE when nothing was encrypted
    with this key and label, or the scheme of the key is not for this.  For an ECC key: what the decoding of a
    point raises, TPM_RC_ECC_POINT when it is not on the curve.
    """
    label += b"\0"
    try:
        if key.public.type == TPM_ALG_RSA:
            return _decrypt_rsa(key, secret, label)
        if key.public.type == TPM_ALG_ECC:
            return _decrypt_ecc(key, secret, label)
    except BadPoint:
        raise TpmError(TPM_RC_ECC_POINT) from None
    except CryptoError:
        raise TpmError(TPM_RC_VALUE) from None
    raise TpmError(TPM_RC_KEY)


def encrypt_secret(key: Object, label: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Return a new secret, and the buffer of the TPM2B_ENCRYPTED_SECRET that conveys it to *key*.

    The secret is as long as a digest of the key's nameAlg; only the public area is used.  *label* is as for
    `decrypt_secret`.  Raises TPM_RC_KEY when *key* is not asymmetric or not a valid public key, TPM_RC_VALUE
    when the modulus is too short for OAEP with that hash.
    """
    label += b"\0"
    try:
        if key.public.type == TPM_ALG_RSA:
            return _encrypt_rsa(key, label, random)
        if key.public.type == TPM_ALG_ECC:
            return _encrypt_ecc(key, label, random)
    except BadPoint:
        raise TpmError(TPM_RC_KEY) from None
    except CryptoError:
        raise TpmError(TPM_RC_VALUE) from None
    raise TpmError(TPM_RC_KEY)


def _encrypt_rsa(key: Object, label: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    alg = key.public.name_alg
    public: RsaPublic = key.public_key  # type: ignore[assignment]
    secret = random(hashes.size(alg))
    return secret, public.encrypt_oaep(alg, label, secret, random)


def _encrypt_ecc(key: Object, label: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    from hwtpm.crypto import ecc

    parameters, unique = key.public.parameters, key.public.unique
    assert isinstance(parameters, TPMS_ECC_PARMS)
    assert isinstance(unique, TPMS_ECC_POINT)
    curve = parameters.curve_id
    ephemeral = ecc.EccPrivate(curve, ecc.scalar_from(curve, random(ecc.curve(curve).scalar_seed_size)))
    point = TPMS_ECC_POINT(*ephemeral.public)
    return _shared(key, label, ephemeral.shared_x(unique.x, unique.y), point), encode(point)


def _shared(key: Object, label: bytes, z: bytes, ephemeral: TPMS_ECC_POINT) -> bytes:
    """Return the secret that both sides of the key exchange derive from *z* (Part 1, 44.6)."""
    alg, unique = key.public.name_alg, key.public.unique
    assert isinstance(unique, TPMS_ECC_POINT)
    x, own = (number.lstrip(b"\0").rjust(len(z), b"\0") for number in (ephemeral.x, unique.x))
    return kdf.kdfe(alg, z, label, x, own, hashes.size(alg) * 8)


def _decrypt_rsa(key: Object, secret: bytes, label: bytes) -> bytes:
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_RSA_PARMS)
    alg, scheme = key.public.name_alg, parameters.scheme
    if scheme.scheme == TPM_ALG_OAEP and scheme.details is not None:
        alg = scheme.details.hash_alg
    elif scheme.scheme != TPM_ALG_NULL:
        raise TpmError(TPM_RC_VALUE)
    private: RsaPrivate = key.key  # type: ignore[assignment]
    if len(secret) != private.size:
        raise TpmError(TPM_RC_SIZE)
    found = private.decrypt_oaep(alg, label, secret)
    if len(found) > hashes.size(alg):
        raise TpmError(TPM_RC_VALUE)
    return found


def _decrypt_ecc(key: Object, secret: bytes, label: bytes) -> bytes:
    point = decode(TPMS_ECC_POINT, secret)
    private: EccPrivate = key.key  # type: ignore[assignment]
    return _shared(key, label, private.shared_x(point.x, point.y), point)
