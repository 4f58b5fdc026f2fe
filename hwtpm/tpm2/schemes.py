"""Signatures: which keys sign, with which scheme, and how (Part 3, 18.1 and 20).

A chosen scheme is the signing algorithm, its hash, and for ECDAA the number of the commitment to use; both
algorithms are TPM_ALG_NULL when nothing is signed.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from hwtpm.crypto import hashes
from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_ALG, ECC_SIGNING_SCHEMES, RSA_SIGNING_SCHEMES
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import (
    TPMS_SCHEME_ECDAA,
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
    TPM_ALG_ECDAA,
    TPM_ALG_ECDSA,
    TPM_ALG_ECSCHNORR,
    TPM_ALG_HMAC,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSASSA,
    TPM_ALG_SM2,
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


class Chosen(NamedTuple):
    """The scheme of one signature."""

    alg: int
    hash_alg: int
    commitment: int = 0


UNSIGNED: Final = Chosen(TPM_ALG_NULL, TPM_ALG_NULL)
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
    type, or is ECDAA and nothing is asked for, which leaves the commitment open.
    """
    if key is None:
        return UNSIGNED
    wanted = _chosen(asked)
    parameters = key.public.parameters
    assert not isinstance(parameters, TPMS_SYMCIPHER_PARMS), "a symmetric cipher is no signing key"
    chosen = _chosen(parameters.scheme)
    if chosen.alg == TPM_ALG_NULL:
        chosen = wanted
    elif wanted.alg == TPM_ALG_NULL:
        if chosen.alg == TPM_ALG_ECDAA:
            raise TpmError(TPM_RC_SCHEME)
    elif wanted[:2] != chosen[:2]:
        raise TpmError(TPM_RC_SCHEME)
    else:
        chosen = wanted
    if chosen.alg not in _SCHEMES[key.public.type]:
        raise TpmError(TPM_RC_SCHEME)
    return chosen


def _chosen(scheme: TPMT_SIG_SCHEME | TPMT_RSA_SCHEME | TPMT_ECC_SCHEME | TPMT_KEYEDHASH_SCHEME) -> Chosen:
    details = scheme.details
    if details is None:
        return Chosen(scheme.scheme, TPM_ALG_NULL)
    count = details.count if isinstance(details, TPMS_SCHEME_ECDAA) else 0
    return Chosen(scheme.scheme, details.hash_alg, count)


def sign(tpm: Tpm, key: Object | None, chosen: Chosen, digest: bytes) -> TPMT_SIGNATURE:
    """Return the signature of *digest*, whose size is that of the scheme's hash; a null one without a key.

    *chosen* is what `choose` returned for the key.  ECDAA uses up a commitment: TPM_RC_RANGE, TPM_RC_VALUE
    when there is none of that number.
    """
    if key is None:
        return TPMT_SIGNATURE(TPM_ALG_NULL, None)
    alg, hash_alg, _ = chosen
    if key.public.type == TPM_ALG_ECC:
        r, s = _sign_ecc(tpm, key, chosen, digest)
        return TPMT_SIGNATURE(alg, TPMS_SIGNATURE_ECC(hash_alg, r, s))
    if alg == TPM_ALG_HMAC:
        return TPMT_SIGNATURE(alg, TPMT_HA(hash_alg, _hmac(key, hash_alg, digest)))
    # The smallest modulus, 1024 bits, has room for the largest digest.
    live = cast("RsaPrivate", key.key)
    make = live.sign_pkcs1 if alg == TPM_ALG_RSASSA else live.sign_pss
    return TPMT_SIGNATURE(alg, TPMS_SIGNATURE_RSA(hash_alg, make(hash_alg, digest)))


def _sign_ecc(tpm: Tpm, key: Object, chosen: Chosen, digest: bytes) -> tuple[bytes, bytes]:
    live = cast("EccPrivate", key.key)
    if chosen.alg == TPM_ALG_ECDSA:
        return live.sign(digest, tpm.random)
    from hwtpm.crypto import ecsign

    if chosen.alg == TPM_ALG_ECSCHNORR:
        return ecsign.schnorr_sign(live, chosen.hash_alg, digest, tpm.random)
    if chosen.alg == TPM_ALG_SM2:
        return ecsign.sm2_sign(live, digest, tpm.random)
    number = tpm.commits.pending(chosen.commitment)
    alg = CONTEXT_INTEGRITY_HASH_ALG if key.public.name_alg == TPM_ALG_NULL else key.public.name_alg
    once = tpm.commits.scalar(alg, key.name, live.curve.n, number)
    signature = ecsign.ecdaa_sign(live, chosen.hash_alg, digest, once, tpm.random)
    tpm.commits.retire(chosen.commitment)
    return signature


def _hmac(key: Object, alg: int, digest: bytes) -> bytes:
    assert key.sensitive is not None
    return hashes.hmac(alg, key.sensitive.sensitive, digest)


def verify(key: Object, digest: bytes, signature: TPMT_SIGNATURE) -> None:
    """Return if *signature* is one of *digest* by *key*, else raise TPM_RC_SIGNATURE (Part 3, 20.2).

    TPM_RC_SCHEME when it is not of a kind that keys of this type make, or ECDAA, which no TPM verifies
    (Part 1, 44.3.3.1); TPM_RC_HANDLE for an HMAC key without
    its sensitive area.
    """
    kind, given = key.public.type, signature.signature
    if kind == TPM_ALG_KEYEDHASH:
        _verify_hmac(key, digest, signature)
    elif kind == TPM_ALG_ECC and isinstance(given, TPMS_SIGNATURE_ECC) and signature.sig_alg != TPM_ALG_ECDAA:
        try:
            _verify_ecc(cast("EccPublic", key.public_key), digest, signature.sig_alg, given)
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


def _verify_ecc(key: EccPublic, digest: bytes, alg: int, given: TPMS_SIGNATURE_ECC) -> None:
    if alg == TPM_ALG_ECDSA:
        return key.verify(digest, given.signature_r, given.signature_s)
    from hwtpm.crypto import ecsign

    if alg == TPM_ALG_SM2:
        return ecsign.sm2_verify(key, digest, given.signature_r, given.signature_s)
    return ecsign.schnorr_verify(key, given.hash, digest, given.signature_r, given.signature_s)


def _verify_hmac(key: Object, digest: bytes, signature: TPMT_SIGNATURE) -> None:
    if key.sensitive is None:
        raise TpmError(TPM_RC_HANDLE)
    given, parameters = signature.signature, key.public.parameters
    if signature.sig_alg != TPM_ALG_HMAC or not isinstance(given, TPMT_HA):
        raise TpmError(TPM_RC_SCHEME)
    assert not isinstance(parameters, TPMS_SYMCIPHER_PARMS)
    own = _chosen(parameters.scheme)
    # A key whose scheme is fixed vouches for nothing that was made with a weaker hash.
    if own[0] != TPM_ALG_NULL and own[:2] != (TPM_ALG_HMAC, given.hash_alg):
        raise TpmError(TPM_RC_SIGNATURE)
    if not compare_digest(_hmac(key, given.hash_alg, digest), given.digest):
        raise TpmError(TPM_RC_SIGNATURE)
