"""Identity structures (Part 2, 12)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.types.base import SECRET_SIZED, TPM_DIGEST, UINT16, UINT32
from hwtpm.tpm12.types.constants import TPM_TAG_EK_BLOB, TPM_TAG_EK_BLOB_ACTIVATE
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.storage import TPM_SYMMETRIC_KEY
from hwtpm.wire import Fixed, Wire


class TPM_EK_BLOB(Wire):
    """What is encrypted for the endorsement key.  Part 2, 12.1."""

    TAG: ClassVar[int] = TPM_TAG_EK_BLOB
    ek_type: UINT16
    blob: SECRET_SIZED


class TPM_EK_BLOB_ACTIVATE(Wire):
    """A session key for an identity, which is released in a state of the PCRs.  Part 2, 12.2."""

    TAG: ClassVar[int] = TPM_TAG_EK_BLOB_ACTIVATE
    session_key: TPM_SYMMETRIC_KEY
    id_digest: TPM_DIGEST
    pcr_info: TPM_PCR_INFO_SHORT


class TPM_IDENTITY_CONTENTS(Wire):
    """What a new identity signs; it begins with a TPM_STRUCT_VER 1.1.0.0.  Part 2, 12.5."""

    ver: Annotated[bytes, Fixed(4)]
    ordinal: UINT32
    label_priv_ca_digest: TPM_DIGEST
    identity_pub_key: TPM_PUBKEY


class TPM_ASYM_CA_CONTENTS(Wire):
    """A session key for an identity, as in TPM 1.1.  Part 2, 12.8."""

    session_key: TPM_SYMMETRIC_KEY
    id_digest: TPM_DIGEST
