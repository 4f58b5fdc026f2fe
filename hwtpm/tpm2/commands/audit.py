"""Command audit (Part 3, 21), and the attestation of audits (Part 3, 18.5 and 18.6)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm2.attest import attest
from hwtpm.tpm2.commands.attestation import signer
from hwtpm.tpm2.context import COMMANDS, Tpm, handles
from hwtpm.tpm2.requests.attestation import (
    GetCommandAuditDigest,
    GetCommandAuditDigestResponse,
    GetSessionAuditDigest,
    GetSessionAuditDigestResponse,
)
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_ST_ATTEST_COMMAND_AUDIT,
    TPM_ST_ATTEST_SESSION_AUDIT,
)
from hwtpm.tpm2.types.structures import TPMS_COMMAND_AUDIT_INFO, TPMS_SESSION_AUDIT_INFO


@handles
def set_command_code_audit_status(tpm: Tpm, cmd: SetCommandCodeAuditStatus) -> Empty:
    """The audit digest uses another algorithm, or other commands are audited.  Part 3, 21.2.

    Codes that are not implemented are ignored.  TPM_RC_VALUE (parameter 1): both are to be changed.
    """
    # Input Validation
    change = cmd.audit_alg not in (TPM_ALG_NULL, tpm.audit.alg)
    if change and (cmd.set_list or cmd.clear_list):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    if change:
        tpm.audit.change_alg(cmd.audit_alg)
    else:
        tpm.audit.select(COMMANDS.keys() & set(cmd.set_list), cmd.clear_list)
    # Command Output
    return Empty()


@handles
def get_session_audit_digest(tpm: Tpm, cmd: GetSessionAuditDigest) -> GetSessionAuditDigestResponse:
    """The signed audit digest of the session is returned, without this command.  Part 3, 18.5.

    TPM_RC_KEY (handle 2), TPM_RC_SCHEME (parameter 2): see `signer`.  TPM_RC_TYPE (handle 3): it is not an
    audit session.
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=2, parameter=2)
    session = tpm.sessions.get(cmd.session_handle)
    if not session.is_audit:
        raise TpmError(TPM_RC_TYPE).handle(3)
    # Command Output
    info = TPMS_SESSION_AUDIT_INFO(int(tpm.sessions.exclusive == session.handle), session.audit_digest)
    return GetSessionAuditDigestResponse(
        *attest(tpm, key, chosen, TPM_ST_ATTEST_SESSION_AUDIT, info, cmd.qualifying_data))


@handles
def get_command_audit_digest(tpm: Tpm, cmd: GetCommandAuditDigest) -> GetCommandAuditDigestResponse:
    """The signed digest of the audited commands is returned; signing ends the log.  Part 3, 18.6.

    TPM_RC_KEY (handle 2), TPM_RC_SCHEME (parameter 2): see `signer`.
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=2, parameter=2)
    # Command Output
    audit = tpm.audit
    info = TPMS_COMMAND_AUDIT_INFO(audit.counter, audit.alg, audit.digest, audit.command_digest())
    response = GetCommandAuditDigestResponse(
        *attest(tpm, key, chosen, TPM_ST_ATTEST_COMMAND_AUDIT, info, cmd.qualifying_data))
    # Internal Data Update
    if key is not None:
        audit.end_log()
    return response
