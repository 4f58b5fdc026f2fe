"""Encryption with ECC keys (Part 3, 14.8 and 14.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hwtpm.crypto.errors import AuthenticationFailed, BadPoint
from hwtpm.errors import TpmError
from hwtpm.tpm2.commands.asymmetric import decryption_key, ecc_key
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.asymmetric import ECCDecrypt, ECCDecryptResponse, ECCEncrypt, ECCEncryptResponse
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT, TPMT_KDF_SCHEME
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_KDF2,
    TPM_ALG_NULL,
    TPM_RC_ECC_POINT,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate, EccPublic


def _hash(own: TPMT_KDF_SCHEME, asked: TPMT_KDF_SCHEME, number: int) -> int:
    """Return the hash of KDF2, the one KDF there is for this; else TPM_RC_SCHEME (parameter *number*)."""
    chosen = asked if own.scheme == TPM_ALG_NULL else own
    if chosen.scheme != TPM_ALG_KDF2 or (asked.scheme != TPM_ALG_NULL and asked != chosen):
        raise TpmError(TPM_RC_SCHEME).parameter(number)
    assert chosen.details is not None
    return chosen.details.hash_alg


@handles
def ecc_encrypt(tpm: Tpm, cmd: ECCEncrypt) -> ECCEncryptResponse:
    """The text is returned masked, with a digest of it and the ephemeral point.  Part 3, 14.8.

    TPM_RC_KEY (handle 1): not an ECC key, or its point is not on its curve.  TPM_RC_SCHEME (parameter 2): not
    KDF2, or not the KDF of the key.
    """
    from hwtpm.crypto import ecexchange

    # Input Validation
    key, parameters = ecc_key(tpm, cmd.key_handle)
    alg = _hash(parameters.kdf, cmd.in_scheme, 2)
    try:
        public = cast("EccPublic", key.public_key)
    except TpmError:
        raise TpmError(TPM_RC_KEY).handle(1) from None
    # Command Output
    point, cipher, digest = ecexchange.encrypt(public, alg, cmd.plain_text, tpm.random)
    return ECCEncryptResponse(TPMS_ECC_POINT(*point), cipher, digest)


@handles
def ecc_decrypt(tpm: Tpm, cmd: ECCDecrypt) -> ECCDecryptResponse:
    """The text that was encrypted for the key is returned.  Part 3, 14.9.

    TPM_RC_KEY, TPM_RC_ATTRIBUTES (handle 1): see `decryption_key`.  TPM_RC_SCHEME (parameter 4): not KDF2, or
    not the KDF of the key.  TPM_RC_ECC_POINT (parameter 1): C1 is not on the curve.  TPM_RC_VALUE: C3 is not
    the digest of what is found.
    """
    from hwtpm.crypto import ecexchange

    # Input Validation
    key = decryption_key(tpm, cmd.key_handle, TPM_ALG_ECC)
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_ECC_PARMS)
    alg = _hash(parameters.kdf, cmd.in_scheme, 4)
    # Command Output
    try:
        text = ecexchange.decrypt(cast("EccPrivate", key.key), alg, (cmd.c1.x, cmd.c1.y), cmd.c2, cmd.c3)
    except BadPoint:
        raise TpmError(TPM_RC_ECC_POINT).parameter(1) from None
    except AuthenticationFailed:
        raise TpmError(TPM_RC_VALUE) from None
    return ECCDecryptResponse(text)
