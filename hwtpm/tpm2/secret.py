"""Secrets that a caller shares with the TPM through one of its keys (Part 1, 8.4.5, 43.4 and 44.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwtpm.crypto import hashes, kdf
from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSA,
    TPM_RC_KEY,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_RSA_PARMS
from hwtpm.wire import decode

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate
    from hwtpm.crypto.rsa import RsaPrivate
    from hwtpm.tpm2.state.objects import Object


def decrypt_secret(key: Object, secret: bytes, label: bytes) -> bytes:
    """Return the secret that the buffer of a TPM2B_ENCRYPTED_SECRET conveys to *key*.

    *label* is "SECRET", "IDENTITY" or "DUPLICATE", without its terminating zero.  The secret is at most as
    long as the digest of the hash that protects it.  Raises TPM_RC_KEY when *key* is not asymmetric and
    TPM_RC_VALUE when *secret* is not of the form that it takes, or its scheme is not for this.
    """
    label += b"\0"
    try:
        if key.public.type == TPM_ALG_RSA:
            return _decrypt_rsa(key, secret, label)
        if key.public.type == TPM_ALG_ECC:
            return _decrypt_ecc(key, secret, label)
    except CryptoError:
        raise TpmError(TPM_RC_VALUE) from None
    raise TpmError(TPM_RC_KEY)


def _decrypt_rsa(key: Object, secret: bytes, label: bytes) -> bytes:
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_RSA_PARMS)
    alg, scheme = key.public.name_alg, parameters.scheme
    if scheme.scheme == TPM_ALG_OAEP and scheme.details is not None:
        alg = scheme.details.hash_alg
    elif scheme.scheme != TPM_ALG_NULL:
        raise TpmError(TPM_RC_VALUE)
    private: RsaPrivate = key.key  # type: ignore[assignment]
    found = private.decrypt_oaep(alg, label, secret)
    if len(found) > hashes.size(alg):
        raise TpmError(TPM_RC_VALUE)
    return found


def _decrypt_ecc(key: Object, secret: bytes, label: bytes) -> bytes:
    public = key.public
    assert isinstance(public.parameters, TPMS_ECC_PARMS)
    assert isinstance(public.unique, TPMS_ECC_POINT)
    try:
        point = decode(TPMS_ECC_POINT, secret)
    except TpmError:
        raise TpmError(TPM_RC_VALUE) from None
    private: EccPrivate = key.key  # type: ignore[assignment]
    z = private.shared_x(point.x, point.y)
    width = len(z)
    return kdf.kdfe(public.name_alg, z, label, point.x.rjust(width, b"\0"),
                    public.unique.x.rjust(width, b"\0"), hashes.size(public.name_alg) * 8)
