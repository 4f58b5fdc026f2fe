"""Public areas for tests: templates, by what they are for."""

from __future__ import annotations

from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMS_SCHEME_XOR,
    TPMS_SYMCIPHER_PARMS,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_RSA_SCHEME,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_ECC,
    TPM_ALG_HMAC,
    TPM_ALG_KDF1_SP800_108,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_SHA256,
    TPM_ALG_SYMCIPHER,
    TPM_ALG_XOR,
    TPM_ECC_NIST_P256,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_KEYEDHASH_PARMS, TPMS_RSA_PARMS, TPMT_PUBLIC

FIXED = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT
BASE = FIXED | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH
SIGNING = BASE | TPMA_OBJECT_SIGN
DECRYPTION = BASE | TPMA_OBJECT_DECRYPT
STORAGE = DECRYPTION | TPMA_OBJECT_RESTRICTED
SEALED = FIXED | TPMA_OBJECT_USERWITHAUTH
NO_CIPHER = TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL)
AES128 = TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB)
AES256 = TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 256, TPM_ALG_CFB)
NO_SCHEME = TPMT_KEYEDHASH_SCHEME(TPM_ALG_NULL)
HMAC = TPMT_KEYEDHASH_SCHEME(TPM_ALG_HMAC, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
XOR = TPMT_KEYEDHASH_SCHEME(TPM_ALG_XOR, TPMS_SCHEME_XOR(TPM_ALG_SHA256, TPM_ALG_KDF1_SP800_108))
XOR_WITHOUT_KDF = TPMT_KEYEDHASH_SCHEME(TPM_ALG_XOR, TPMS_SCHEME_XOR(TPM_ALG_SHA256, TPM_ALG_NULL))


def ecc(attributes: int = SIGNING, cipher: TPMT_SYM_DEF_OBJECT = NO_CIPHER, scheme: int = TPM_ALG_NULL, *,
        curve: int = TPM_ECC_NIST_P256, kdf: int = TPM_ALG_NULL, name_alg: int = TPM_ALG_SHA256,
        policy: bytes = b"", x: bytes = b"", y: bytes = b"") -> TPMT_PUBLIC:
    """An ECC key; its scheme and KDF take SHA-256."""
    chosen = TPMT_ECC_SCHEME(scheme, None if scheme == TPM_ALG_NULL else TPMS_SCHEME_HASH(TPM_ALG_SHA256))
    derive = TPMT_KDF_SCHEME(kdf, None if kdf == TPM_ALG_NULL else TPMS_SCHEME_HASH(TPM_ALG_SHA256))
    parameters = TPMS_ECC_PARMS(cipher, chosen, curve, derive)
    return TPMT_PUBLIC(TPM_ALG_ECC, name_alg, attributes, policy, parameters, TPMS_ECC_POINT(x, y))


def rsa(attributes: int = SIGNING, cipher: TPMT_SYM_DEF_OBJECT = NO_CIPHER, scheme: int = TPM_ALG_NULL, *,
        bits: int = 2048, exponent: int = 0, name_alg: int = TPM_ALG_SHA256,
        unique: bytes = b"") -> TPMT_PUBLIC:
    """An RSA key; its scheme takes SHA-256."""
    bare = scheme in (TPM_ALG_NULL, TPM_ALG_RSAES)
    chosen = TPMT_RSA_SCHEME(scheme, None if bare else TPMS_SCHEME_HASH(TPM_ALG_SHA256))
    parameters = TPMS_RSA_PARMS(cipher, chosen, bits, exponent)
    return TPMT_PUBLIC(TPM_ALG_RSA, name_alg, attributes, b"", parameters, unique)


def keyed_hash(attributes: int = SEALED, scheme: TPMT_KEYEDHASH_SCHEME = NO_SCHEME, *,
               name_alg: int = TPM_ALG_SHA256, unique: bytes = b"") -> TPMT_PUBLIC:
    """A sealed data object, or with a scheme an HMAC or XOR key."""
    return TPMT_PUBLIC(TPM_ALG_KEYEDHASH, name_alg, attributes, b"", TPMS_KEYEDHASH_PARMS(scheme), unique)


def cipher_key(attributes: int = DECRYPTION | TPMA_OBJECT_SIGN, cipher: TPMT_SYM_DEF_OBJECT = AES128, *,
               name_alg: int = TPM_ALG_SHA256) -> TPMT_PUBLIC:
    """A symmetric cipher key."""
    return TPMT_PUBLIC(TPM_ALG_SYMCIPHER, name_alg, attributes, b"", TPMS_SYMCIPHER_PARMS(cipher), b"")


def storage(attributes: int = STORAGE, cipher: TPMT_SYM_DEF_OBJECT = AES128) -> TPMT_PUBLIC:
    """The Storage Parent that most tests use: P-256, SHA-256."""
    return ecc(attributes, cipher)
