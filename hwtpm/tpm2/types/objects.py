"""Public and sensitive areas of objects, and credentials (Part 2, 12; v185)."""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.algorithms import (
    RSA_PRIVATE_SIZE,
    SIZE_OF_ECC_POINT,
    TPM2B_ECC_PARAMETER,
    TPM2B_PRIVATE_KEY_RSA,
    TPM2B_PUBLIC_KEY_RSA,
    TPM2B_SENSITIVE_DATA,
    TPM2B_SYM_KEY,
    TPMI_ECC_CURVE,
    TPMI_RSA_KEY_BITS,
    TPMS_DERIVE,
    TPMS_ECC_POINT,
    TPMS_SYMCIPHER_PARMS,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_RSA_SCHEME,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_RSA,
    TPM_ALG_SYMCIPHER,
    TPM_RC_TYPE,
)
from hwtpm.tpm2.types.interface import TPMI_ALG_HASH
from hwtpm.tpm2.types.structures import SIZE_OF_2B_DIGEST, TPM2B_AUTH, TPM2B_DIGEST
from hwtpm.wire import INHERIT, PLUS, SECRET, Arms, Boxed, Int, On, Sized, Wire

# 12.2 Public areas

TPMI_ALG_PUBLIC = Annotated[int, Int("H", rc=TPM_RC_TYPE, allowed=(
    profile.ASYMMETRIC | {TPM_ALG_KEYEDHASH, TPM_ALG_SYMCIPHER}))]

TPMU_PUBLIC_ID = Annotated[bytes | TPMS_ECC_POINT, Arms({
    TPM_ALG_KEYEDHASH: TPM2B_DIGEST,
    TPM_ALG_SYMCIPHER: TPM2B_DIGEST,
    TPM_ALG_RSA: TPM2B_PUBLIC_KEY_RSA,
    TPM_ALG_ECC: TPMS_ECC_POINT,
})]


class TPMS_KEYEDHASH_PARMS(Wire):
    """The parameters of a keyed-hash object (Part 2, 12.2.3.3)."""

    scheme: Annotated[TPMT_KEYEDHASH_SCHEME, PLUS]


class TPMS_RSA_PARMS(Wire):
    """The parameters of an RSA key (Part 2, 12.2.3.4); exponent 0 stands for 65537."""

    symmetric: Annotated[TPMT_SYM_DEF_OBJECT, PLUS]
    scheme: Annotated[TPMT_RSA_SCHEME, PLUS]
    key_bits: TPMI_RSA_KEY_BITS
    exponent: UINT32


class TPMS_ECC_PARMS(Wire):
    """The parameters of an ECC key (Part 2, 12.2.3.5)."""

    symmetric: Annotated[TPMT_SYM_DEF_OBJECT, PLUS]
    scheme: Annotated[TPMT_ECC_SCHEME, PLUS]
    curve_id: TPMI_ECC_CURVE
    kdf: Annotated[TPMT_KDF_SCHEME, PLUS]


TPMU_PUBLIC_PARMS = Annotated[
    TPMS_KEYEDHASH_PARMS | TPMS_SYMCIPHER_PARMS | TPMS_RSA_PARMS | TPMS_ECC_PARMS,
    Arms({
        TPM_ALG_KEYEDHASH: TPMS_KEYEDHASH_PARMS,
        TPM_ALG_SYMCIPHER: TPMS_SYMCIPHER_PARMS,
        TPM_ALG_RSA: TPMS_RSA_PARMS,
        TPM_ALG_ECC: TPMS_ECC_PARMS,
    })]


class TPMT_PUBLIC_PARMS(Wire):
    """A set of algorithm parameters to test (Part 2, 12.2.3.10)."""

    type: TPMI_ALG_PUBLIC
    parameters: Annotated[TPMU_PUBLIC_PARMS, On("type")]


class TPMT_PUBLIC(Wire):
    """The public area of an object (Part 2, 12.2.4)."""

    type: TPMI_ALG_PUBLIC
    name_alg: Annotated[TPMI_ALG_HASH, INHERIT]
    object_attributes: TPMA_OBJECT
    auth_policy: TPM2B_DIGEST
    parameters: Annotated[TPMU_PUBLIC_PARMS, On("type")]
    unique: Annotated[TPMU_PUBLIC_ID, On("type")]


TPM2B_PUBLIC = Annotated[TPMT_PUBLIC, Boxed()]


class TPMT_TEMPLATE_DERIVE(Wire):
    """The template of a derived object: here unique is a label and context (Part 2, 12.2.6)."""

    type: TPMI_ALG_PUBLIC
    name_alg: Annotated[TPMI_ALG_HASH, INHERIT]
    object_attributes: TPMA_OBJECT
    auth_policy: TPM2B_DIGEST
    parameters: Annotated[TPMU_PUBLIC_PARMS, On("type")]
    unique: TPMS_DERIVE


# The largest template: type, nameAlg, attributes, policy, the parameters of an ECC key, an RSA modulus.
TPM2B_TEMPLATE = Annotated[bytes, Sized(2 + 2 + 4 + SIZE_OF_2B_DIGEST + 18 + 2 + max(
    profile.MAX_RSA_KEY_BYTES, SIZE_OF_ECC_POINT))]

# 12.3 Private areas

TPMU_SENSITIVE_COMPOSITE = Annotated[bytes, Arms({
    TPM_ALG_RSA: TPM2B_PRIVATE_KEY_RSA,
    TPM_ALG_ECC: TPM2B_ECC_PARAMETER,
    TPM_ALG_KEYEDHASH: TPM2B_SENSITIVE_DATA,
    TPM_ALG_SYMCIPHER: TPM2B_SYM_KEY,
})]


class TPMT_SENSITIVE(Wire):
    """The sensitive area of an object (Part 2, 12.3.2.4)."""

    sensitive_type: TPMI_ALG_PUBLIC
    auth_value: TPM2B_AUTH
    seed_value: Annotated[TPM2B_DIGEST, SECRET]
    sensitive: Annotated[TPMU_SENSITIVE_COMPOSITE, On("sensitive_type"), SECRET]


TPM2B_SENSITIVE = Annotated[TPMT_SENSITIVE | None, Boxed(optional=True)]

SIZE_OF_SENSITIVE = 2 + 2 * SIZE_OF_2B_DIGEST + 2 + max(RSA_PRIVATE_SIZE, profile.MAX_SYM_DATA)
# Two integrity values and a TPM2B_SENSITIVE.
MAX_PRIVATE = 2 * SIZE_OF_2B_DIGEST + 2 + SIZE_OF_SENSITIVE
TPM2B_PRIVATE = Annotated[bytes, Sized(MAX_PRIVATE)]

# 12.4 Credentials


class TPMS_ID_OBJECT(Wire):
    """A credential: an HMAC and the encrypted TPM2B_DIGEST, whose size is encrypted too (Part 2, 12.4.2)."""

    integrity_hmac: TPM2B_DIGEST
    enc_identity: TPM2B_DIGEST


TPM2B_ID_OBJECT = Annotated[bytes, Sized(2 * SIZE_OF_2B_DIGEST)]
