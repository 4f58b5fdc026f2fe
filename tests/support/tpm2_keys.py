"""Keys for tests: external ones with both areas, which any TPM 2.0 loads alike, and primaries."""

from __future__ import annotations

from functools import cache

from hwtpm.client import Client, Password
from hwtpm.crypto import ecc
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.hashes import digest
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import LoadExternal
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMS_SYMCIPHER_PARMS,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_RSA_SCHEME,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_ECC,
    TPM_ALG_ECDSA,
    TPM_ALG_HMAC,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_SHA256,
    TPM_ALG_SYMCIPHER,
    TPM_ECC_NIST_P256,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import (
    TPMS_ECC_PARMS,
    TPMS_KEYEDHASH_PARMS,
    TPMS_RSA_PARMS,
    TPMT_PUBLIC,
    TPMT_SENSITIVE,
)

SIGN, DECRYPT, RESTRICTED = TPMA_OBJECT_SIGN, TPMA_OBJECT_DECRYPT, TPMA_OBJECT_RESTRICTED
NO_CIPHER = TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL)
_COMMON = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA
_AES128_CFB = TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, 0x43)
Areas = tuple[TPMT_PUBLIC, TPMT_SENSITIVE]


def hash_scheme(alg: int) -> TPMS_SCHEME_HASH | None:
    """Return the details of a scheme whose only one is the hash *alg*; None for no hash."""
    return None if alg == TPM_ALG_NULL else TPMS_SCHEME_HASH(alg)


def scheme(alg: int = TPM_ALG_NULL, hash_alg: int = TPM_ALG_NULL) -> TPMT_SIG_SCHEME:
    """Return the scheme that a command asks for; with no arguments, that of the key."""
    return TPMT_SIG_SCHEME(alg, hash_scheme(hash_alg))


@cache
def rsa_primes(bits: int) -> tuple[int, int]:
    from hwtpm.crypto.primes import generate_rsa

    return generate_rsa(bits, 65537, CtrDrbg(b"an RSA key").generate, lambda: False)


def rsa(attributes: int, scheme: int = TPM_ALG_NULL, hash_alg: int = TPM_ALG_NULL, *, bits: int = 2048,
        name_alg: int = TPM_ALG_SHA256, auth: bytes = b"") -> Areas:
    """Return both areas of an RSA key, always the same one of its size."""
    p, q = rsa_primes(bits)
    if scheme in (TPM_ALG_NULL, TPM_ALG_RSAES):
        hash_alg = TPM_ALG_NULL
    parameters = TPMS_RSA_PARMS(NO_CIPHER, TPMT_RSA_SCHEME(scheme, hash_scheme(hash_alg)), bits, 0)
    public = TPMT_PUBLIC(TPM_ALG_RSA, name_alg, _COMMON | attributes, b"", parameters,
                         RsaPrivate(p * q, p).modulus)
    return public, TPMT_SENSITIVE(TPM_ALG_RSA, auth, b"", p.to_bytes(bits // 16, "big"))


def elliptic(attributes: int, scheme: int = TPM_ALG_NULL, hash_alg: int = TPM_ALG_NULL, *,
             curve: int = TPM_ECC_NIST_P256, name_alg: int = TPM_ALG_SHA256, auth: bytes = b"") -> Areas:
    """Return both areas of an ECC key, always the same one of its curve."""
    key = ecc.EccPrivate(curve, 0x1234567890ABCDEF << 100 | 1)
    parameters = TPMS_ECC_PARMS(NO_CIPHER, TPMT_ECC_SCHEME(scheme, hash_scheme(hash_alg)), curve,
                                TPMT_KDF_SCHEME(TPM_ALG_NULL))
    public = TPMT_PUBLIC(TPM_ALG_ECC, name_alg, _COMMON | attributes, b"", parameters,
                         TPMS_ECC_POINT(*key.public))
    return public, TPMT_SENSITIVE(TPM_ALG_ECC, auth, b"", key.d)


def keyed_hash(attributes: int, scheme: int = TPM_ALG_HMAC, hash_alg: int = TPM_ALG_SHA256, *,
               secret: bytes = b"a secret of an HMAC key") -> Areas:
    """Return both areas of a keyed hash object."""
    seed = bytes(32)
    parameters = TPMS_KEYEDHASH_PARMS(TPMT_KEYEDHASH_SCHEME(scheme, hash_scheme(hash_alg)))
    public = TPMT_PUBLIC(TPM_ALG_KEYEDHASH, TPM_ALG_SHA256, _COMMON | attributes, b"", parameters,
                         digest(TPM_ALG_SHA256, seed, secret))
    return public, TPMT_SENSITIVE(TPM_ALG_KEYEDHASH, b"", seed, secret)


def cipher(attributes: int, mode: int = TPM_ALG_NULL, bits: int = 128) -> Areas:
    """Return both areas of an AES key."""
    seed, key = bytes(32), bytes(range(bits // 8))
    parameters = TPMS_SYMCIPHER_PARMS(TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, bits, mode))
    public = TPMT_PUBLIC(TPM_ALG_SYMCIPHER, TPM_ALG_SHA256, _COMMON | attributes, b"", parameters,
                         digest(TPM_ALG_SHA256, seed, key))
    return public, TPMT_SENSITIVE(TPM_ALG_SYMCIPHER, b"", seed, key)


def load(client: Client, areas: Areas, *, public_only: bool = False, hierarchy: int = TPM_RH_NULL) -> int:
    """Load both areas, or the public one alone; return the handle."""
    public, sensitive = areas
    loaded = client.run(LoadExternal(None if public_only else sensitive, public, hierarchy))
    client.names[loaded.object_handle] = loaded.name
    return loaded.object_handle


def signing_template() -> TPMT_PUBLIC:
    """Return the template of a restricted P-256 key that signs with ECDSA and SHA-256."""
    attributes = (_COMMON | SIGN | RESTRICTED | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT
                  | TPMA_OBJECT_SENSITIVEDATAORIGIN)
    parameters = TPMS_ECC_PARMS(NO_CIPHER, TPMT_ECC_SCHEME(TPM_ALG_ECDSA, TPMS_SCHEME_HASH(TPM_ALG_SHA256)),
                                TPM_ECC_NIST_P256, TPMT_KDF_SCHEME(TPM_ALG_NULL))
    return TPMT_PUBLIC(TPM_ALG_ECC, TPM_ALG_SHA256, attributes, b"", parameters, TPMS_ECC_POINT(b"", b""))


def storage_template() -> TPMT_PUBLIC:
    """Return the template of a P-256 storage key."""
    attributes = (_COMMON | DECRYPT | RESTRICTED | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT
                  | TPMA_OBJECT_SENSITIVEDATAORIGIN)
    parameters = TPMS_ECC_PARMS(_AES128_CFB, TPMT_ECC_SCHEME(TPM_ALG_NULL), TPM_ECC_NIST_P256,
                                TPMT_KDF_SCHEME(TPM_ALG_NULL))
    return TPMT_PUBLIC(TPM_ALG_ECC, TPM_ALG_SHA256, attributes, b"", parameters, TPMS_ECC_POINT(b"", b""))


def create_primary(client: Client, template: TPMT_PUBLIC, hierarchy: int = TPM_RH_OWNER) -> int:
    """Make a primary of *template* with an empty authValue; return the handle."""
    request = CreatePrimary(hierarchy, TPMS_SENSITIVE_CREATE(b"", b""), template, b"", [])
    made = client.run(request, Password())
    client.names[made.object_handle] = made.name
    return made.object_handle
