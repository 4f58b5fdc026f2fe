"""Asymmetric primitives (Part 3, 14)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.algorithms import (
    TPM2B_ECC_POINT,
    TPM2B_PUBLIC_KEY_RSA,
    TPMI_ECC_CURVE,
    TPMS_ALGORITHM_DETAIL_ECC,
    TPMT_KDF_SCHEME,
    TPMT_RSA_DECRYPT,
)
from hwtpm.tpm2.types.base import UINT16
from hwtpm.tpm2.types.constants import (
    TPM_CC_Decapsulate,
    TPM_CC_ECC_Decrypt,
    TPM_CC_ECC_Encrypt,
    TPM_CC_ECC_Parameters,
    TPM_CC_ECDH_KeyGen,
    TPM_CC_ECDH_ZGen,
    TPM_CC_Encapsulate,
    TPM_CC_RSA_Decrypt,
    TPM_CC_RSA_Encrypt,
    TPM_CC_ZGen_2Phase,
)
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT, TPMI_ECC_KEY_EXCHANGE
from hwtpm.tpm2.types.structures import (
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_KEM_CIPHERTEXT,
    TPM2B_MAX_BUFFER,
    TPM2B_SHARED_SECRET,
)
from hwtpm.wire import PLUS, SECRET, Role, Wire


class RSAEncryptResponse(Wire):
    out_data: TPM2B_PUBLIC_KEY_RSA


class RSAEncrypt(Command[RSAEncryptResponse]):
    """The message is returned padded and encrypted with the public key.  Part 3, 14.2."""

    CC: ClassVar[int] = TPM_CC_RSA_Encrypt
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    message: Annotated[TPM2B_PUBLIC_KEY_RSA, SECRET]
    in_scheme: Annotated[TPMT_RSA_DECRYPT, PLUS]
    label: TPM2B_DATA


class RSADecryptResponse(Wire):
    message: Annotated[TPM2B_PUBLIC_KEY_RSA, SECRET]


class RSADecrypt(Command[RSADecryptResponse]):
    """The message is returned decrypted with the private key and without its padding.  Part 3, 14.3."""

    CC: ClassVar[int] = TPM_CC_RSA_Decrypt
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    cipher_text: TPM2B_PUBLIC_KEY_RSA
    in_scheme: Annotated[TPMT_RSA_DECRYPT, PLUS]
    label: TPM2B_DATA


class ECDHKeyGenResponse(Wire):
    z_point: Annotated[TPM2B_ECC_POINT, SECRET]
    pub_point: TPM2B_ECC_POINT


class ECDHKeyGen(Command[ECDHKeyGenResponse]):
    """An ephemeral key is made; its public point and the point shared with the key are returned.

    Part 3, 14.4.
    """

    CC: ClassVar[int] = TPM_CC_ECDH_KeyGen
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class ECDHZGenResponse(Wire):
    out_point: Annotated[TPM2B_ECC_POINT, SECRET]


class ECDHZGen(Command[ECDHZGenResponse]):
    """The point shared between the private key and the given public point is returned.  Part 3, 14.5."""

    CC: ClassVar[int] = TPM_CC_ECDH_ZGen
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    in_point: TPM2B_ECC_POINT


class ECCParametersResponse(Wire):
    parameters: TPMS_ALGORITHM_DETAIL_ECC


class ECCParameters(Command[ECCParametersResponse]):
    """The parameters of the curve are returned.  Part 3, 14.6."""

    CC: ClassVar[int] = TPM_CC_ECC_Parameters
    curve_id: TPMI_ECC_CURVE


class ZGen2PhaseResponse(Wire):
    out_z1: Annotated[TPM2B_ECC_POINT, SECRET]
    out_z2: Annotated[TPM2B_ECC_POINT, SECRET]


class ZGen2Phase(Command[ZGen2PhaseResponse]):
    """The points of a two-phase key exchange are returned and its ephemeral key is used up.  Part 3, 14.7."""

    CC: ClassVar[int] = TPM_CC_ZGen_2Phase
    LONG: ClassVar[bool] = True
    key_a: Annotated[TPMI_DH_OBJECT, Role.USER]
    in_qs_b: TPM2B_ECC_POINT
    in_qe_b: TPM2B_ECC_POINT
    in_scheme: TPMI_ECC_KEY_EXCHANGE
    counter: UINT16


class ECCEncryptResponse(Wire):
    c1: TPM2B_ECC_POINT
    c2: TPM2B_MAX_BUFFER
    c3: TPM2B_DIGEST


class ECCEncrypt(Command[ECCEncryptResponse]):
    """The text is returned encrypted with an ephemeral key for the ECC key.  Part 3, 14.8."""

    CC: ClassVar[int] = TPM_CC_ECC_Encrypt
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    plain_text: Annotated[TPM2B_MAX_BUFFER, SECRET]
    in_scheme: Annotated[TPMT_KDF_SCHEME, PLUS]


class ECCDecryptResponse(Wire):
    plain_text: Annotated[TPM2B_MAX_BUFFER, SECRET]


class ECCDecrypt(Command[ECCDecryptResponse]):
    """The text that was encrypted for the ECC key is returned.  Part 3, 14.9."""

    CC: ClassVar[int] = TPM_CC_ECC_Decrypt
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    c1: TPM2B_ECC_POINT
    c2: TPM2B_MAX_BUFFER
    c3: TPM2B_DIGEST
    in_scheme: Annotated[TPMT_KDF_SCHEME, PLUS]


class EncapsulateResponse(Wire):
    shared_secret: TPM2B_SHARED_SECRET
    ciphertext: TPM2B_KEM_CIPHERTEXT


class Encapsulate(Command[EncapsulateResponse]):
    """A fresh shared secret and its encapsulation for the key are returned.  Part 3, 14.10."""

    CC: ClassVar[int] = TPM_CC_Encapsulate
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class DecapsulateResponse(Wire):
    shared_secret: TPM2B_SHARED_SECRET


class Decapsulate(Command[DecapsulateResponse]):
    """The shared secret that was encapsulated for the key is returned.  Part 3, 14.11."""

    CC: ClassVar[int] = TPM_CC_Decapsulate
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    ciphertext: TPM2B_KEM_CIPHERTEXT
