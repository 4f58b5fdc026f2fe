"""Symmetric primitives (Part 3, 15)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.constants import (
    TPM_CC_HMAC,
    TPM_CC_MAC,
    TPM_CC_EncryptDecrypt,
    TPM_CC_EncryptDecrypt2,
    TPM_CC_Hash,
)
from hwtpm.tpm2.types.interface import (
    TPMI_ALG_CIPHER_MODE,
    TPMI_ALG_HASH,
    TPMI_ALG_MAC_SCHEME,
    TPMI_DH_OBJECT,
    TPMI_RH_HIERARCHY,
    TPMI_YES_NO,
)
from hwtpm.tpm2.types.structures import TPM2B_DIGEST, TPM2B_IV, TPM2B_MAX_BUFFER, TPMT_TK_HASHCHECK
from hwtpm.wire import PLUS, SECRET, Role, Wire


class EncryptDecryptResponse(Wire):
    out_data: Annotated[TPM2B_MAX_BUFFER, SECRET]
    iv_out: TPM2B_IV


class EncryptDecrypt(Command[EncryptDecryptResponse]):
    """The data are returned encrypted or decrypted, with the IV of the next part.  Part 3, 15.2."""

    CC: ClassVar[int] = TPM_CC_EncryptDecrypt
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    decrypt: TPMI_YES_NO
    mode: Annotated[TPMI_ALG_CIPHER_MODE, PLUS]
    iv_in: TPM2B_IV
    in_data: Annotated[TPM2B_MAX_BUFFER, SECRET]


class EncryptDecrypt2Response(Wire):
    out_data: Annotated[TPM2B_MAX_BUFFER, SECRET]
    iv_out: TPM2B_IV


class EncryptDecrypt2(Command[EncryptDecrypt2Response]):
    """The same as EncryptDecrypt is true; a session can encrypt the data.  Part 3, 15.3."""

    CC: ClassVar[int] = TPM_CC_EncryptDecrypt2
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    in_data: Annotated[TPM2B_MAX_BUFFER, SECRET]
    decrypt: TPMI_YES_NO
    mode: Annotated[TPMI_ALG_CIPHER_MODE, PLUS]
    iv_in: TPM2B_IV


class HashResponse(Wire):
    out_hash: TPM2B_DIGEST
    validation: TPMT_TK_HASHCHECK


class Hash(Command[HashResponse]):
    """The digest of the data is returned, with a ticket if it may be signed.  Part 3, 15.4."""

    CC: ClassVar[int] = TPM_CC_Hash
    data: TPM2B_MAX_BUFFER
    hash_alg: TPMI_ALG_HASH
    hierarchy: TPMI_RH_HIERARCHY


class HMACResponse(Wire):
    out_hmac: TPM2B_DIGEST


class HMAC(Command[HMACResponse]):
    """The HMAC of the data under the key is returned.  Part 3, 15.5."""

    CC: ClassVar[int] = TPM_CC_HMAC
    handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    buffer: TPM2B_MAX_BUFFER
    hash_alg: Annotated[TPMI_ALG_HASH, PLUS]


class MACResponse(Wire):
    out_mac: TPM2B_DIGEST


class MAC(Command[MACResponse]):
    """The MAC of the data under the key is returned; a TPM has this or HMAC, at one code.  Part 3, 15.6."""

    CC: ClassVar[int] = TPM_CC_MAC
    handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    buffer: TPM2B_MAX_BUFFER
    in_scheme: Annotated[TPMI_ALG_MAC_SCHEME, PLUS]
