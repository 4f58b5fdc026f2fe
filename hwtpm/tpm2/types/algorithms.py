"""Parameters and structures of symmetric and asymmetric algorithms (Part 2, 11; v185).

The null scheme or algorithm is written with its selector alone: ``TPMT_SYM_DEF(TPM_ALG_NULL)``.  The empty
union TPMU_SYM_DETAILS has no octets and no member here.  Of the algorithms that the profile does not have,
arms exist only where they cost nothing; the selectors' interface types refuse them before an arm is chosen.
"""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.base import UINT16
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CAMELLIA,
    TPM_ALG_ECDAA,
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_ECMQV,
    TPM_ALG_ECSCHNORR,
    TPM_ALG_EDDSA,
    TPM_ALG_HASH_EDDSA,
    TPM_ALG_HKDF,
    TPM_ALG_HMAC,
    TPM_ALG_KDF1_SP800_56A,
    TPM_ALG_KDF1_SP800_108,
    TPM_ALG_KDF2,
    TPM_ALG_MGF1,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSAES,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SM2,
    TPM_ALG_SM4,
    TPM_ALG_TDES,
    TPM_ALG_XOR,
    TPM_ECC_NONE,
    TPM_RC_CURVE,
    TPM_RC_SCHEME,
)
from hwtpm.tpm2.types.interface import (
    TPM_ECC_CURVE,
    TPMI_ALG_HASH,
    TPMI_ALG_KDF,
    TPMI_ALG_SIG_SCHEME,
    TPMI_ALG_SYM,
    TPMI_ALG_SYM_MODE,
    TPMI_ALG_SYM_OBJECT,
)
from hwtpm.tpm2.types.structures import SIZE_OF_2B_DIGEST, TPM2B_AUTH, TPMT_HA
from hwtpm.wire import INHERIT, PLUS, SECRET, Arms, Boxed, Int, On, Sized, Wire

# 11.1 Symmetric

TPMI_AES_KEY_BITS = Annotated[int, Int("H", allowed=profile.AES_KEY_BITS)]
TPMI_SM4_KEY_BITS = Annotated[int, Int("H", allowed=frozenset({128}))]
TPMI_CAMELLIA_KEY_BITS = Annotated[int, Int("H", allowed=profile.CAMELLIA_KEY_BITS)]
TPMI_TDES_KEY_BITS = Annotated[int, Int("H", allowed=profile.TDES_KEY_BITS)]

TPMU_SYM_KEY_BITS = Annotated[int | None, Arms({
    TPM_ALG_TDES: TPMI_TDES_KEY_BITS,
    TPM_ALG_AES: TPMI_AES_KEY_BITS,
    TPM_ALG_SM4: TPMI_SM4_KEY_BITS,
    TPM_ALG_CAMELLIA: TPMI_CAMELLIA_KEY_BITS,
    TPM_ALG_XOR: TPMI_ALG_HASH,  # XOR has a hash in place of a size
    TPM_ALG_NULL: None,
})]
TPMU_SYM_MODE = Annotated[int | None, Arms({
    TPM_ALG_TDES: Annotated[TPMI_ALG_SYM_MODE, PLUS],
    TPM_ALG_AES: Annotated[TPMI_ALG_SYM_MODE, PLUS],
    TPM_ALG_SM4: Annotated[TPMI_ALG_SYM_MODE, PLUS],
    TPM_ALG_CAMELLIA: Annotated[TPMI_ALG_SYM_MODE, PLUS],
    TPM_ALG_XOR: None,
    TPM_ALG_NULL: None,
})]


class TPMT_SYM_DEF(Wire):
    """A symmetric algorithm for parameter encryption: a cipher or XOR (Part 2, 11.1.6)."""

    algorithm: Annotated[TPMI_ALG_SYM, INHERIT]
    key_bits: Annotated[TPMU_SYM_KEY_BITS, On("algorithm")] = None
    mode: Annotated[TPMU_SYM_MODE, On("algorithm")] = None


class TPMT_SYM_DEF_OBJECT(Wire):
    """A block cipher of an object (Part 2, 11.1.7)."""

    algorithm: Annotated[TPMI_ALG_SYM_OBJECT, INHERIT]
    key_bits: Annotated[TPMU_SYM_KEY_BITS, On("algorithm")] = None
    mode: Annotated[TPMU_SYM_MODE, On("algorithm")] = None


TPM2B_SYM_KEY = Annotated[bytes, Sized(profile.MAX_SYM_KEY_BYTES), SECRET]


class TPMS_SYMCIPHER_PARMS(Wire):
    """The parameters of a symmetric cipher object (Part 2, 11.1.9)."""

    sym: TPMT_SYM_DEF_OBJECT


TPM2B_LABEL = Annotated[bytes, Sized(profile.LABEL_MAX_BUFFER)]


class TPMS_DERIVE(Wire):
    """The label and context of a derived object (Part 2, 11.1.11)."""

    label: TPM2B_LABEL
    context: TPM2B_LABEL


SIZE_OF_DERIVE = 2 * (2 + profile.LABEL_MAX_BUFFER)
TPM2B_DERIVE = Annotated[bytes, Sized(SIZE_OF_DERIVE)]
TPM2B_SENSITIVE_DATA = Annotated[bytes, Sized(max(profile.MAX_SYM_DATA, SIZE_OF_DERIVE)), SECRET]


class TPMS_SENSITIVE_CREATE(Wire):
    """The authorization value and data of an object to create (Part 2, 11.1.15)."""

    user_auth: TPM2B_AUTH
    data: TPM2B_SENSITIVE_DATA


TPM2B_SENSITIVE_CREATE = Annotated[TPMS_SENSITIVE_CREATE, Boxed()]


class TPMS_SCHEME_HASH(Wire):
    """A scheme that a hash completes (Part 2, 11.1.17)."""

    hash_alg: TPMI_ALG_HASH


class TPMS_SCHEME_ECDAA(Wire):
    """A scheme of a hash and a commit count (Part 2, 11.1.18)."""

    hash_alg: TPMI_ALG_HASH
    count: UINT16


TPMI_ALG_KEYEDHASH_SCHEME = Annotated[int, Int("H", allowed=frozenset({TPM_ALG_HMAC, TPM_ALG_XOR}),
                                               null=TPM_ALG_NULL)]
TPMS_SCHEME_HMAC = TPMS_SCHEME_HASH


class TPMS_SCHEME_XOR(Wire):
    """The XOR obfuscation scheme (Part 2, 11.1.21)."""

    hash_alg: TPMI_ALG_HASH
    kdf: Annotated[TPMI_ALG_KDF, PLUS]


TPMU_SCHEME_KEYEDHASH = Annotated[TPMS_SCHEME_HASH | TPMS_SCHEME_XOR | None, Arms({
    TPM_ALG_HMAC: TPMS_SCHEME_HASH,
    TPM_ALG_XOR: TPMS_SCHEME_XOR,
    TPM_ALG_NULL: None,
})]


class TPMT_KEYEDHASH_SCHEME(Wire):
    """The scheme of a keyed-hash object (Part 2, 11.1.23)."""

    scheme: Annotated[TPMI_ALG_KEYEDHASH_SCHEME, INHERIT]
    details: Annotated[TPMU_SCHEME_KEYEDHASH, On("scheme")] = None


# 11.2.1 Signing schemes

TPMS_SIG_SCHEME_RSASSA = TPMS_SCHEME_HASH
TPMS_SIG_SCHEME_RSAPSS = TPMS_SCHEME_HASH
TPMS_SIG_SCHEME_ECDSA = TPMS_SCHEME_HASH
TPMS_SIG_SCHEME_ECDAA = TPMS_SCHEME_ECDAA
TPMS_SIG_SCHEME_SM2 = TPMS_SCHEME_HASH
TPMS_SIG_SCHEME_ECSCHNORR = TPMS_SCHEME_HASH

TPMU_SIG_SCHEME = Annotated[TPMS_SCHEME_HASH | TPMS_SCHEME_ECDAA | None, Arms({
    TPM_ALG_RSASSA: TPMS_SCHEME_HASH,
    TPM_ALG_RSAPSS: TPMS_SCHEME_HASH,
    TPM_ALG_ECDSA: TPMS_SCHEME_HASH,
    TPM_ALG_ECDAA: TPMS_SCHEME_ECDAA,
    TPM_ALG_SM2: TPMS_SCHEME_HASH,
    TPM_ALG_ECSCHNORR: TPMS_SCHEME_HASH,
    TPM_ALG_EDDSA: None,
    TPM_ALG_HASH_EDDSA: None,
    TPM_ALG_HMAC: TPMS_SCHEME_HASH,
    TPM_ALG_NULL: None,
})]


class TPMT_SIG_SCHEME(Wire):
    """A signing scheme (Part 2, 11.2.1.5)."""

    scheme: Annotated[TPMI_ALG_SIG_SCHEME, INHERIT]
    details: Annotated[TPMU_SIG_SCHEME, On("scheme")] = None


# 11.2.2 Encryption and key exchange schemes, 11.2.3 key derivation schemes

TPMS_ENC_SCHEME_OAEP = TPMS_SCHEME_HASH
TPMS_KEY_SCHEME_ECDH = TPMS_SCHEME_HASH
TPMS_KEY_SCHEME_SM2 = TPMS_SCHEME_HASH
TPMS_KEY_SCHEME_ECMQV = TPMS_SCHEME_HASH
TPMS_KDF_SCHEME_MGF1 = TPMS_SCHEME_HASH
TPMS_KDF_SCHEME_KDF2 = TPMS_SCHEME_HASH
TPMS_KDF_SCHEME_KDF1_SP800_56A = TPMS_SCHEME_HASH
TPMS_KDF_SCHEME_KDF1_SP800_108 = TPMS_SCHEME_HASH
TPMS_KDF_SCHEME_HKDF = TPMS_SCHEME_HASH

TPMU_KDF_SCHEME = Annotated[TPMS_SCHEME_HASH | None, Arms({
    TPM_ALG_MGF1: TPMS_SCHEME_HASH,
    TPM_ALG_KDF2: TPMS_SCHEME_HASH,
    TPM_ALG_KDF1_SP800_56A: TPMS_SCHEME_HASH,
    TPM_ALG_KDF1_SP800_108: TPMS_SCHEME_HASH,
    TPM_ALG_HKDF: TPMS_SCHEME_HASH,
    TPM_ALG_NULL: None,
})]


class TPMT_KDF_SCHEME(Wire):
    """A key derivation scheme (Part 2, 11.2.3.3)."""

    scheme: Annotated[TPMI_ALG_KDF, INHERIT]
    details: Annotated[TPMU_KDF_SCHEME, On("scheme")] = None


# 11.2.4 RSA

TPMI_ALG_RSA_SCHEME = Annotated[int, Int("H", null=TPM_ALG_NULL, allowed=(
    profile.RSA_SIGNING_SCHEMES | profile.RSA_ENCRYPTION_SCHEMES))]
TPMU_RSA_SCHEME = Annotated[TPMS_SCHEME_HASH | None, Arms({
    TPM_ALG_RSASSA: TPMS_SCHEME_HASH,
    TPM_ALG_RSAES: None,
    TPM_ALG_RSAPSS: TPMS_SCHEME_HASH,
    TPM_ALG_OAEP: TPMS_SCHEME_HASH,
    TPM_ALG_NULL: None,
})]


class TPMT_RSA_SCHEME(Wire):
    """The scheme of an RSA key (Part 2, 11.2.4.3)."""

    scheme: Annotated[TPMI_ALG_RSA_SCHEME, INHERIT]
    details: Annotated[TPMU_RSA_SCHEME, On("scheme")] = None


TPMI_ALG_RSA_DECRYPT = Annotated[int, Int("H", allowed=profile.RSA_ENCRYPTION_SCHEMES, null=TPM_ALG_NULL)]


class TPMT_RSA_DECRYPT(Wire):
    """The scheme of an RSA encryption (Part 2, 11.2.4.5)."""

    scheme: Annotated[TPMI_ALG_RSA_DECRYPT, INHERIT]
    details: Annotated[TPMU_RSA_SCHEME, On("scheme")] = None


TPM2B_PUBLIC_KEY_RSA = Annotated[bytes, Sized(profile.MAX_RSA_KEY_BYTES)]
TPMI_RSA_KEY_BITS = Annotated[int, Int("H", allowed=profile.RSA_KEY_BITS)]
RSA_PRIVATE_SIZE = profile.MAX_RSA_KEY_BYTES // 2  # one prime
TPM2B_PRIVATE_KEY_RSA = Annotated[bytes, Sized(RSA_PRIVATE_SIZE), SECRET]

# 11.2.5 ECC

TPM2B_ECC_PARAMETER = Annotated[bytes, Sized(profile.MAX_ECC_KEY_BYTES)]


class TPMS_ECC_POINT(Wire):
    """The affine coordinates of a point (Part 2, 11.2.5.2)."""

    x: TPM2B_ECC_PARAMETER
    y: TPM2B_ECC_PARAMETER


SIZE_OF_ECC_POINT = 2 * (2 + profile.MAX_ECC_KEY_BYTES)
TPM2B_ECC_POINT = Annotated[TPMS_ECC_POINT, Boxed()]
TPMI_ALG_ECC_SCHEME = Annotated[int, Int("H", rc=TPM_RC_SCHEME, null=TPM_ALG_NULL, allowed=(
    profile.ECC_SIGNING_SCHEMES | profile.ECC_KEY_EXCHANGES))]
TPMI_ECC_CURVE = Annotated[int, Int("H", allowed=frozenset(profile.ECC_CURVES), rc=TPM_RC_CURVE,
                                    null=TPM_ECC_NONE)]
TPMU_ECC_SCHEME = Annotated[TPMS_SCHEME_HASH | TPMS_SCHEME_ECDAA | None, Arms({
    TPM_ALG_ECDSA: TPMS_SCHEME_HASH,
    TPM_ALG_ECSCHNORR: TPMS_SCHEME_HASH,
    TPM_ALG_EDDSA: None,
    TPM_ALG_HASH_EDDSA: None,
    TPM_ALG_ECDAA: TPMS_SCHEME_ECDAA,
    TPM_ALG_SM2: TPMS_SCHEME_HASH,
    TPM_ALG_ECDH: TPMS_SCHEME_HASH,
    TPM_ALG_ECMQV: TPMS_SCHEME_HASH,
    TPM_ALG_NULL: None,
})]


class TPMT_ECC_SCHEME(Wire):
    """The scheme of an ECC key (Part 2, 11.2.5.7)."""

    scheme: Annotated[TPMI_ALG_ECC_SCHEME, INHERIT]
    details: Annotated[TPMU_ECC_SCHEME, On("scheme")] = None


class TPMS_ALGORITHM_DETAIL_ECC(Wire):
    """The parameters of a curve (Part 2, 11.2.5.8); *key_size* is in bits."""

    curve_id: TPM_ECC_CURVE
    key_size: UINT16
    kdf: Annotated[TPMT_KDF_SCHEME, PLUS]
    sign: Annotated[TPMT_ECC_SCHEME, PLUS]
    p: TPM2B_ECC_PARAMETER
    a: TPM2B_ECC_PARAMETER
    b: TPM2B_ECC_PARAMETER
    g_x: TPM2B_ECC_PARAMETER
    g_y: TPM2B_ECC_PARAMETER
    n: TPM2B_ECC_PARAMETER
    h: TPM2B_ECC_PARAMETER


# 11.3 Signatures

class TPMS_SIGNATURE_RSA(Wire):
    """An RSA signature, as long as the modulus (Part 2, 11.3.1)."""

    hash: TPMI_ALG_HASH
    sig: TPM2B_PUBLIC_KEY_RSA


class TPMS_SIGNATURE_ECC(Wire):
    """An ECC signature (Part 2, 11.3.2)."""

    hash: TPMI_ALG_HASH
    signature_r: TPM2B_ECC_PARAMETER
    signature_s: TPM2B_ECC_PARAMETER


TPMS_SIGNATURE_RSASSA = TPMS_SIGNATURE_RSA
TPMS_SIGNATURE_RSAPSS = TPMS_SIGNATURE_RSA
TPMS_SIGNATURE_ECDSA = TPMS_SIGNATURE_ECC
TPMS_SIGNATURE_ECDAA = TPMS_SIGNATURE_ECC
TPMS_SIGNATURE_SM2 = TPMS_SIGNATURE_ECC
TPMS_SIGNATURE_ECSCHNORR = TPMS_SIGNATURE_ECC
TPM2B_SIGNATURE_EDDSA = Annotated[bytes, Sized(2 * profile.MAX_ECC_KEY_BYTES)]

TPMU_SIGNATURE = Annotated[TPMS_SIGNATURE_RSA | TPMS_SIGNATURE_ECC | TPMT_HA | bytes | None, Arms({
    TPM_ALG_RSASSA: TPMS_SIGNATURE_RSA,
    TPM_ALG_RSAPSS: TPMS_SIGNATURE_RSA,
    TPM_ALG_ECDSA: TPMS_SIGNATURE_ECC,
    TPM_ALG_ECDAA: TPMS_SIGNATURE_ECC,
    TPM_ALG_SM2: TPMS_SIGNATURE_ECC,
    TPM_ALG_ECSCHNORR: TPMS_SIGNATURE_ECC,
    TPM_ALG_EDDSA: TPM2B_SIGNATURE_EDDSA,
    TPM_ALG_HASH_EDDSA: TPM2B_SIGNATURE_EDDSA,
    TPM_ALG_HMAC: TPMT_HA,
    TPM_ALG_NULL: None,
})]


class TPMT_SIGNATURE(Wire):
    """A signature with its scheme (Part 2, 11.3.6)."""

    sig_alg: Annotated[TPMI_ALG_SIG_SCHEME, INHERIT]
    signature: Annotated[TPMU_SIGNATURE, On("sig_alg")] = None


TPM2B_SIGNATURE_CTX = Annotated[bytes, Sized(255)]
TPM2B_SIGNATURE_HINT = Annotated[bytes, Sized(profile.MAX_ECC_KEY_BYTES)]

# 11.4 Key and secret exchange

TPM2B_ENCRYPTED_SECRET = Annotated[bytes, Sized(
    max(SIZE_OF_ECC_POINT, profile.MAX_RSA_KEY_BYTES, SIZE_OF_2B_DIGEST))]
