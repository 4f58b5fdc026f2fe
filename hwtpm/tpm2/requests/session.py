"""Session commands (Part 3, 11)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPM2B_ENCRYPTED_SECRET, TPMT_SYM_DEF
from hwtpm.tpm2.types.constants import TPM_CC_PolicyRestart, TPM_CC_StartAuthSession
from hwtpm.tpm2.types.interface import (
    TPM_SE,
    TPMI_ALG_HASH,
    TPMI_DH_ENTITY,
    TPMI_DH_OBJECT,
    TPMI_SH_AUTH_SESSION,
    TPMI_SH_POLICY,
)
from hwtpm.tpm2.types.structures import TPM2B_NONCE
from hwtpm.wire import PLUS, Role, Wire


class StartAuthSessionResponse(Wire):
    session_handle: Annotated[TPMI_SH_AUTH_SESSION, Role.NONE]
    nonce_tpm: TPM2B_NONCE


class StartAuthSession(Command[StartAuthSessionResponse]):
    """An authorization session is loaded and its handle returned.  Part 3, 11.1."""

    CC: ClassVar[int] = TPM_CC_StartAuthSession
    tpm_key: Annotated[TPMI_DH_OBJECT, PLUS, Role.NONE]
    bind: Annotated[TPMI_DH_ENTITY, PLUS, Role.NONE]
    nonce_caller: TPM2B_NONCE
    encrypted_salt: TPM2B_ENCRYPTED_SECRET
    session_type: TPM_SE
    symmetric: Annotated[TPMT_SYM_DEF, PLUS]
    auth_hash: TPMI_ALG_HASH


class PolicyRestart(Command[Empty]):
    """The policy session is as it was when it started.  Part 3, 11.2."""

    CC: ClassVar[int] = TPM_CC_PolicyRestart
    session_handle: Annotated[TPMI_SH_POLICY, Role.NONE]
