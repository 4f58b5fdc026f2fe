"""Auditing (Part 3, 8)."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_key, authorize_owner, use_key
from hwtpm.tpm12.context import COMMANDS, Call, Tpm, handles
from hwtpm.tpm12.requests.audit import (
    GetAuditDigest,
    GetAuditDigestResponse,
    GetAuditDigestSigned,
    GetAuditDigestSignedResponse,
    SetOrdinalAuditStatus,
)
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.signing import require_signing, sign, signs_digests
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER, TPM_BADINDEX, TPM_INVALID_KEYUSAGE
from hwtpm.tpm12.types.constants import TPM_KEY_IDENTITY
from hwtpm.tpm12.types.signed import TPM_SIGN_INFO
from hwtpm.wire import encode

_TEXT: Final = b"ADIG"


@handles
def get_audit_digest(tpm: Tpm, call: Call, cmd: GetAuditDigest) -> GetAuditDigestResponse:
    """Counter, digest and audited ordinals, all of them, are returned.  Part 3, 8.3."""
    # Command Output
    return GetAuditDigestResponse(tpm.audit.counter, tpm.audit.digest, 0, _audited(tpm, cmd.start_ordinal))


@handles
def get_audit_digest_signed(tpm: Tpm, call: Call, cmd: GetAuditDigestSigned) -> GetAuditDigestSignedResponse:
    """The audit digest is signed; the session ends if asked to, which takes an identity key.  Part 3, 8.4."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    require_signing(key)
    if not signs_digests(key) or (cmd.close_audit and key.public.key_usage != TPM_KEY_IDENTITY):
        raise TpmError(TPM_INVALID_KEYUSAGE)
    # Command Output
    counter, digest = tpm.audit.counter, tpm.audit.digest
    ordinals = sha1(_audited(tpm, 0)).digest()
    info = TPM_SIGN_INFO(_TEXT, cmd.anti_replay, digest + encode(counter) + ordinals)
    signature = sign(key, sha1(encode(info)).digest())
    # Internal Data Update
    if cmd.close_audit:
        tpm.audit.close()
    return GetAuditDigestSignedResponse(counter, digest, ordinals, signature)


@handles
def set_ordinal_audit_status(tpm: Tpm, call: Call, cmd: SetOrdinalAuditStatus) -> Empty:
    """The command is audited or not, this one only from the next time on.  Part 3, 8.5.

    TPM_BADINDEX for an ordinal that this TPM does not have, TPM_BAD_PARAMETER for a command that is never
    audited.
    """
    # Input Validation
    authorize_owner(tpm, call)
    entry = COMMANDS.get(cmd.ordinal_to_audit)
    if entry is None:
        raise TpmError(TPM_BADINDEX)
    if cmd.audit_state and not entry.request.AUDITABLE:
        raise TpmError(TPM_BAD_PARAMETER)
    # Internal Data Update
    tpm.audit.set_audited(entry.request, bool(cmd.audit_state))
    # Command Output
    return Empty()


def _audited(tpm: Tpm, start: int) -> bytes:
    """Return the audited ordinals from *start* on, in order, four octets each."""
    return b"".join(ordinal.to_bytes(4, "big") for ordinal in sorted(COMMANDS)
                    if ordinal >= start and tpm.audit.audited(COMMANDS[ordinal].request))
