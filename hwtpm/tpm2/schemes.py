"""Signatures: which keys sign, with which scheme, and how (Part 3, 18.1 and 20).

A chosen scheme is a pair: the signing algorithm and its hash; both are TPM_ALG_NULL when nothing is signed.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Final, cast

from hwtpm.crypto import hashes
from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.profile import ECC_SIGNING_SCHEMES, RSA_SIGNING_SCHEMES
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import (
    TPMS_SIGNATURE_ECC,
    TPMS_SIGNATURE_RSA,
    TPMS_SYMCIPHER_PARMS,
    TPMT_ECC_SCHEME,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_RSA_SCHEME,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_SIGN
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_ECDSA,
    TPM_ALG_HMAC,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSASSA,
    TPM_ALG_SYMCIPHER,
    TPM_RC_HANDLE,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_SIGNATURE,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_HA

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate, EccPublic
    from hwtpm.crypto.rsa import RsaPrivate, RsaPublic

Chosen = tuple[int, int]
UNSIGNED: Final[Chosen] = (TPM_ALG_NULL, TPM_ALG_NULL)
_SCHEMES: Final = {
    TPM_ALG_RSA: RSA_SIGNING_SCHEMES, TPM_ALG_ECC: ECC_SIGNING_SCHEMES, TPM_ALG_KEYEDHASH: (TPM_ALG_HMAC,),
}


def signing_key(tpm: Tpm, handle: int) -> Object | None:
    """Return the signing key at *handle*, None for TPM_RH_NULL; TPM_RC_KEY when it cannot sign."""
    if handle == TPM_RH_NULL:
        return None
    key = tpm.objects.loaded(handle)
    if key is None or not key.attributes & TPMA_OBJECT_SIGN or key.public.type == TPM_ALG_SYMCIPHER:
        raise TpmError(TPM_RC_KEY)
    return key


def choose(key: Object | None, asked: TPMT_SIG_SCHEME) -> Chosen:
    """Return the scheme of a signature: the key's, or the one asked for if the key has none (Part 3, 18.1).

    TPM_RC_SCHEME when both are given and differ, or neither, or when the scheme is not one for keys of this
    type.
    """
    if key is None:
        return UNSIGNED
    wanted = _pair(asked)
    parameters = key.public.parameters
    assert not isinstance(parameters, TPMS_SYMCIPHER_PARMS), "a symmetric cipher is no signing key"
    chosen = _pair(parameters.scheme)
    if chosen[0] == TPM_ALG_NULL:
        chosen = wanted
    elif wanted[0] != TPM_ALG_NULL and wanted != chosen:
        raise TpmError(TPM_RC_SCHEME)
    if chosen[0] not in _SCHEMES[key.public.type]:
        raise TpmError(TPM_RC_SCHEME)
    return chosen


def _pair(scheme: TPMT_SIG_SCHEME | TPMT_RSA_SCHEME | TPMT_ECC_SCHEME | TPMT_KEYEDHASH_SCHEME) -> Chosen:
    details = scheme.details
    return scheme.scheme, TPM_ALG_NULL if details is None else details.hash_alg


def sign(key: Object | None, chosen: Chosen, digest: bytes) -> TPMT_SIGNATURE:
    """Return the signature of *digest*, whose size is that of the scheme's hash; a null one without a key.

    *chosen* is what `choose` returned for the key.
    """
    if key is None:
        return TPMT_SIGNATURE(TPM_ALG_NULL, None)
    alg, hash_alg = chosen
    if alg == TPM_ALG_ECDSA:
        r, s = cast("EccPrivate", key.key).sign(digest)
        return TPMT_SIGNATURE(alg, TPMS_SIGNATURE_ECC(hash_alg, r, s))
    if alg == TPM_ALG_HMAC:
        return TPMT_SIGNATURE(alg, TPMT_HA(hash_alg, _hmac(key, hash_alg, digest)))
    # The smallest modulus, 1024 bits, has room for the largest digest.
    live = cast("RsaPrivate", key.key)
    make = live.sign_pkcs1 if alg == TPM_ALG_RSASSA else live.sign_pss
    return TPMT_SIGNATURE(alg, TPMS_SIGNATURE_RSA(hash_alg, make(hash_alg, digest)))


def _hmac(key: Object, alg: int, digest: bytes) -> bytes:
    assert key.sensitive is not None
    return hashes.hmac(alg, key.sensitive.sensitive, digest)


def verify(key: Object, digest: bytes, signature: TPMT_SIGNATURE) -> None:
    """Return if *signature* is one of *digest* by *key*, else raise TPM_RC_SIGNATURE (Part 3, 20.2).

    TPM_RC_SCHEME when it is not of a kind that keys of this type make, TPM_RC_HANDLE for an HMAC key without
    its sensitive area.
    """
    kind, given = key.public.type, signature.signature
    if kind == TPM_ALG_KEYEDHASH:
        _verify_hmac(key, digest, signature)
    elif kind == TPM_ALG_ECC and isinstance(given, TPMS_SIGNATURE_ECC):
        try:
            cast("EccPublic", key.public_key).verify(digest, given.signature_r, given.signature_s)
        except (CryptoError, TpmError):
            raise TpmError(TPM_RC_SIGNATURE) from None
    elif kind == TPM_ALG_RSA and isinstance(given, TPMS_SIGNATURE_RSA):
        try:
            live = cast("RsaPublic", key.public_key)
            check = live.verify_pkcs1 if signature.sig_alg == TPM_ALG_RSASSA else live.verify_pss
            check(given.hash, digest, given.sig)
        except (CryptoError, TpmError):
            raise TpmError(TPM_RC_SIGNATURE) from None
    else:
        raise TpmError(TPM_RC_SCHEME)


def _verify_hmac(key: Object, digest: bytes, signature: TPMT_SIGNATURE) -> None:
    if key.sensitive is None:
        raise TpmError(TPM_RC_HANDLE)
    given, parameters = signature.signature, key.public.parameters
    if signature.sig_alg != TPM_ALG_HMAC or not isinstance(given, TPMT_HA):
        raise TpmError(TPM_RC_SCHEME)
    assert not isinstance(parameters, TPMS_SYMCIPHER_PARMS)
    own = _pair(parameters.scheme)
    # A key whose scheme is fixed vouches for nothing that was made with a weaker hash.
    if own[0] != TPM_ALG_NULL and own != (TPM_ALG_HMAC, given.hash_alg):
        raise TpmError(TPM_RC_SIGNATURE)
    if not compare_digest(_hmac(key, given.hash_alg, digest), given.digest):
        raise TpmError(TPM_RC_SIGNATURE)
