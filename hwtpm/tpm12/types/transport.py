"""Transport sessions (Part 2, 13)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.types.base import TPM_DIGEST, TPM_NONCE, TPM_SECRET, UINT16, UINT32
from hwtpm.tpm12.types.constants import (
    TPM_TAG_TRANSPORT_AUTH,
    TPM_TAG_TRANSPORT_INTERNAL,
    TPM_TAG_TRANSPORT_LOG_IN,
    TPM_TAG_TRANSPORT_LOG_OUT,
    TPM_TAG_TRANSPORT_PUBLIC,
)
from hwtpm.tpm12.types.ticks import TPM_CURRENT_TICKS
from hwtpm.wire import Wire


class TPM_TRANSPORT_PUBLIC(Wire):
    """What kind of session it is; the algorithm counts with TPM_TRANSPORT_ENCRYPT only.  Part 2, 13.1."""

    TAG: ClassVar[int] = TPM_TAG_TRANSPORT_PUBLIC
    trans_attributes: UINT32
    alg_id: UINT32
    enc_scheme: UINT16


class TPM_TRANSPORT_INTERNAL(Wire):
    """A session; *trans_digest* is the log until now.  Part 2, 13.2."""

    TAG: ClassVar[int] = TPM_TAG_TRANSPORT_INTERNAL
    auth_data: TPM_SECRET
    trans_public: TPM_TRANSPORT_PUBLIC
    trans_handle: UINT32
    trans_nonce_even: TPM_NONCE
    trans_digest: TPM_DIGEST


class TPM_TRANSPORT_LOG_IN(Wire):
    """What is logged of a command.  Part 2, 13.3."""

    TAG: ClassVar[int] = TPM_TAG_TRANSPORT_LOG_IN
    parameters: TPM_DIGEST
    pub_key_hash: TPM_DIGEST


class TPM_TRANSPORT_LOG_OUT(Wire):
    """What is logged of a response.  Part 2, 13.4."""

    TAG: ClassVar[int] = TPM_TAG_TRANSPORT_LOG_OUT
    current_ticks: TPM_CURRENT_TICKS
    parameters: TPM_DIGEST
    locality: UINT32


class TPM_TRANSPORT_AUTH(Wire):
    """The secret of a session, as it is encrypted for a key.  Part 2, 13.5."""

    TAG: ClassVar[int] = TPM_TAG_TRANSPORT_AUTH
    auth_data: TPM_SECRET
