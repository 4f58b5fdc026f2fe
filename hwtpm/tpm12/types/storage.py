"""Structures of sealed data (Part 2, 9)."""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm12.types.base import SECRET_SIZED, SIZED, TPM_DIGEST, TPM_SECRET, UINT8, UINT16, UINT32
from hwtpm.wire import SECRET, Sized, Wire


class TPM_STORED_DATA(Wire):
    """A TPM_STORED_DATA or TPM_STORED_DATA12, which differ in their first four octets.

    TPM_STORED_DATA begins with a TPM_STRUCT_VER 1.1.0.0 and its *seal_info* is a TPM_PCR_INFO;
    TPM_STORED_DATA12 begins with its tag and an entity type, whose high octet is an ADIP scheme, and its
    *seal_info* is a TPM_PCR_INFO_LONG.  *enc_data* is an encrypted TPM_SEALED_DATA.  Part 2, 9.1 and 9.2.
    """

    tag: UINT16
    et: UINT16
    seal_info: SIZED
    enc_data: SIZED


class TPM_SEALED_DATA(Wire):
    """*stored_digest* is SHA-1 of the TPM_STORED_DATA without encDataSize and encData.  Part 2, 9.3."""

    payload: UINT8
    auth_data: TPM_SECRET
    tpm_proof: TPM_SECRET
    stored_digest: TPM_DIGEST
    data: SECRET_SIZED


class TPM_SYMMETRIC_KEY(Wire):
    """Part 2, 9.4."""

    alg_id: UINT32
    enc_scheme: UINT16
    data: Annotated[bytes, Sized(256), SECRET]
