"""Enhanced authorization: assertions that need no authorization of their own (Part 3, 23).

Each extends policyDigest with its command code and what it asserts.  A trial session takes every assertion
as true.  A qualifier of the command to authorize (cpHash, nameHash or the hash of a template) is set once.
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import COMMANDS, Tpm, handles
from hwtpm.tpm2.policy import extend, holds, qualified
from hwtpm.tpm2.profile import DIGEST_SIZE
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.policy import (
    PolicyAuthValue,
    PolicyCommandCode,
    PolicyCounterTimer,
    PolicyCpHash,
    PolicyDuplicationSelect,
    PolicyGetDigest,
    PolicyGetDigestResponse,
    PolicyLocality,
    PolicyNameHash,
    PolicyNvWritten,
    PolicyOR,
    PolicyPassword,
    PolicyPCR,
    PolicyPhysicalPresence,
    PolicyTemplate,
)
from hwtpm.tpm2.state.sessions import Session
from hwtpm.tpm2.types.constants import (
    TPM_RC_COMMAND_CODE,
    TPM_RC_CPHASH,
    TPM_RC_PCR_CHANGED,
    TPM_RC_POLICY,
    TPM_RC_POLICY_CC,
    TPM_RC_RANGE,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
    TPM_SE_TRIAL,
    TPM_CC_Duplicate,
    TPM_CC_PolicyAuthValue,
    TPM_CC_PolicyCommandCode,
    TPM_CC_PolicyCounterTimer,
    TPM_CC_PolicyCpHash,
    TPM_CC_PolicyDuplicationSelect,
    TPM_CC_PolicyLocality,
    TPM_CC_PolicyNameHash,
    TPM_CC_PolicyNvWritten,
    TPM_CC_PolicyOR,
    TPM_CC_PolicyPCR,
    TPM_CC_PolicyPhysicalPresence,
    TPM_CC_PolicyTemplate,
)
from hwtpm.tpm2.types.structures import TPML_PCR_SELECTION
from hwtpm.wire import encode, writer_of

_U32: Final = Struct(">I").pack
_FIRST_EXTENDED: Final = 32  # localities from here on are not bits but numbers (Part 2, 8.5)


def _session(tpm: Tpm, handle: int) -> tuple[Session, bool]:
    """Return the policy session at *handle*, and whether it is a trial."""
    session = tpm.sessions.get(handle)
    return session, session.kind == TPM_SE_TRIAL


@handles
def policy_or(tpm: Tpm, cmd: PolicyOR) -> Empty:
    """The policy was one of the list, and is now the digest of the list.  Part 3, 23.6.

    TPM_RC_VALUE (parameter 1): it was none of them.
    """
    # Input Validation
    session, trial = _session(tpm, cmd.policy_session)
    if not trial and not any([compare_digest(session.policy_digest, d) for d in cmd.p_hash_list]):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    session.policy_digest = bytes(DIGEST_SIZE[session.auth_hash])
    extend(session, TPM_CC_PolicyOR, *cmd.p_hash_list)
    # Command Output
    return Empty()


@handles
def policy_pcr(tpm: Tpm, cmd: PolicyPCR) -> Empty:
    """The selected PCRs have the expected values, and no PCR may change before the use.  Part 3, 23.7.

    TPM_RC_VALUE (parameter 1): they have others.  TPM_RC_PCR_CHANGED: since the last PolicyPCR of the
    session, a PCR has changed.
    """
    # Input Validation
    session, trial = _session(tpm, cmd.policy_session)
    selected, digest = tpm.pcrs.composite(cmd.pcrs, session.auth_hash)
    if trial:
        digest = cmd.pcr_digest or digest
    else:
        if session.check_pcr and session.pcr_counter != tpm.pcrs.counter:
            raise TpmError(TPM_RC_PCR_CHANGED)
        if cmd.pcr_digest and cmd.pcr_digest != digest:
            raise TpmError(TPM_RC_VALUE).parameter(1)
        # Internal Data Update
        session.check_pcr, session.pcr_counter = True, tpm.pcrs.counter
    extend(session, TPM_CC_PolicyPCR, writer_of(TPML_PCR_SELECTION)(selected), digest)
    # Command Output
    return Empty()


@handles
def policy_locality(tpm: Tpm, cmd: PolicyLocality) -> Empty:
    """The command has to come from one of the localities.  Part 3, 23.8.

    TPM_RC_RANGE (parameter 1): no locality is left, or extended localities and others are mixed.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    asked, before = cmd.locality, session.command_locality
    if asked < _FIRST_EXTENDED:
        left = asked & (before or _FIRST_EXTENDED - 1) if before < _FIRST_EXTENDED else 0
    else:
        left = asked if before in (0, asked) else 0
    if not left:
        raise TpmError(TPM_RC_RANGE).parameter(1)
    # Internal Data Update
    session.command_locality = left
    extend(session, TPM_CC_PolicyLocality, bytes([asked]))
    # Command Output
    return Empty()


@handles
def policy_counter_timer(tpm: Tpm, cmd: PolicyCounterTimer) -> Empty:
    """A part of TPMS_TIME_INFO compares with the operand as the operation says.  Part 3, 23.10.

    TPM_RC_VALUE (parameter 2), TPM_RC_RANGE: the part is outside.  TPM_RC_POLICY: it does not.
    """
    # Input Validation
    session, trial = _session(tpm, cmd.policy_session)
    info, start = encode(tpm.clock.time_info()), cmd.offset
    if start > len(info):
        raise TpmError(TPM_RC_VALUE).parameter(2)
    part = info[start : start + len(cmd.operand_b)]
    if len(part) != len(cmd.operand_b):
        raise TpmError(TPM_RC_RANGE)
    if not trial and not holds(cmd.operation, part, cmd.operand_b):
        raise TpmError(TPM_RC_POLICY)
    # Internal Data Update
    asserted = hashes.digest(session.auth_hash, cmd.operand_b, start.to_bytes(2, "big"),
                             cmd.operation.to_bytes(2, "big"))
    extend(session, TPM_CC_PolicyCounterTimer, asserted)
    # Command Output
    return Empty()


@handles
def policy_command_code(tpm: Tpm, cmd: PolicyCommandCode) -> Empty:
    """The command has to be this one.  Part 3, 23.11.

    TPM_RC_VALUE (parameter 1): the session is limited to another.  TPM_RC_POLICY_CC (parameter 1): not
    implemented.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    if session.command_code not in (0, cmd.code):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    if cmd.code not in COMMANDS:
        raise TpmError(TPM_RC_POLICY_CC).parameter(1)
    # Internal Data Update
    session.command_code = cmd.code
    extend(session, TPM_CC_PolicyCommandCode, _U32(cmd.code))
    # Command Output
    return Empty()


@handles
def policy_physical_presence(tpm: Tpm, cmd: PolicyPhysicalPresence) -> Empty:
    """Physical presence has to be asserted at the command.  Part 3, 23.12."""
    # Internal Data Update
    session, _ = _session(tpm, cmd.policy_session)
    session.needs_pp = True
    extend(session, TPM_CC_PolicyPhysicalPresence)
    # Command Output
    return Empty()


@handles
def policy_cp_hash(tpm: Tpm, cmd: PolicyCpHash) -> Empty:
    """The command has to have these Names and parameters.  Part 3, 23.13.

    TPM_RC_SIZE (parameter 1): not as long as a digest of the session's hash.  TPM_RC_CPHASH: the session has
    another qualifier.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    _check_size(session, cmd.cp_hash_a)
    if qualified(session) and session.cp_hash != cmd.cp_hash_a:
        raise TpmError(TPM_RC_CPHASH)
    # Internal Data Update
    session.cp_hash = cmd.cp_hash_a
    extend(session, TPM_CC_PolicyCpHash, cmd.cp_hash_a)
    # Command Output
    return Empty()


@handles
def policy_name_hash(tpm: Tpm, cmd: PolicyNameHash) -> Empty:
    """The command has to have these Names.  Part 3, 23.14.

    TPM_RC_SIZE (parameter 1): not as long as a digest of the session's hash.  TPM_RC_CPHASH: the session has
    a qualifier.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    _check_size(session, cmd.name_hash)
    if qualified(session):
        raise TpmError(TPM_RC_CPHASH)
    # Internal Data Update
    session.name_hash = cmd.name_hash
    extend(session, TPM_CC_PolicyNameHash, cmd.name_hash)
    # Command Output
    return Empty()


@handles
def policy_duplication_select(tpm: Tpm, cmd: PolicyDuplicationSelect) -> Empty:
    """The command has to be the duplication of this object to this parent.  Part 3, 23.15.

    TPM_RC_CPHASH: the session has a qualifier.  TPM_RC_COMMAND_CODE: it is limited to a command.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    if qualified(session):
        raise TpmError(TPM_RC_CPHASH)
    if session.command_code:
        raise TpmError(TPM_RC_COMMAND_CODE)
    # Internal Data Update
    session.name_hash = hashes.digest(session.auth_hash, cmd.object_name, cmd.new_parent_name)
    session.command_code = TPM_CC_Duplicate
    included = cmd.object_name if cmd.include_object else b""
    extend(session, TPM_CC_PolicyDuplicationSelect, included, cmd.new_parent_name,
           bytes([cmd.include_object]))
    # Command Output
    return Empty()


@handles
def policy_auth_value(tpm: Tpm, cmd: PolicyAuthValue) -> Empty:
    """The key of the command's HMAC has to include the authValue of the entity.  Part 3, 23.17."""
    # Internal Data Update
    session, _ = _session(tpm, cmd.policy_session)
    session.needs_auth_value, session.needs_password = True, False
    extend(session, TPM_CC_PolicyAuthValue)
    # Command Output
    return Empty()


@handles
def policy_password(tpm: Tpm, cmd: PolicyPassword) -> Empty:
    """The authValue of the entity has to be given in place of an HMAC.  Part 3, 23.18.

    The digest is that of PolicyAuthValue: the same policy allows both.
    """
    # Internal Data Update
    session, _ = _session(tpm, cmd.policy_session)
    session.needs_auth_value, session.needs_password = False, True
    extend(session, TPM_CC_PolicyAuthValue)
    # Command Output
    return Empty()


@handles
def policy_get_digest(tpm: Tpm, cmd: PolicyGetDigest) -> PolicyGetDigestResponse:
    """The policyDigest is returned.  Part 3, 23.19."""
    # Command Output
    return PolicyGetDigestResponse(tpm.sessions.get(cmd.policy_session).policy_digest)


@handles
def policy_nv_written(tpm: Tpm, cmd: PolicyNvWritten) -> Empty:
    """The NV Index to be authorized must, or must not, have been written.  Part 3, 23.20.

    TPM_RC_VALUE (parameter 1): the session says the opposite.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    wanted = 2 if cmd.written_set else 1
    if session.nv_written not in (0, wanted):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    session.nv_written = wanted
    extend(session, TPM_CC_PolicyNvWritten, bytes([cmd.written_set]))
    # Command Output
    return Empty()


@handles
def policy_template(tpm: Tpm, cmd: PolicyTemplate) -> Empty:
    """The command has to create an object with this template.  Part 3, 23.21.

    TPM_RC_VALUE (parameter 1): the session is limited to another.  TPM_RC_CPHASH: it has another qualifier.
    TPM_RC_SIZE (parameter 1): not as long as a digest of the session's hash.
    """
    # Input Validation
    session, _ = _session(tpm, cmd.policy_session)
    if session.template_hash:
        if session.template_hash != cmd.template_hash:
            raise TpmError(TPM_RC_VALUE).parameter(1)
    elif qualified(session):
        raise TpmError(TPM_RC_CPHASH)
    _check_size(session, cmd.template_hash)
    # Internal Data Update
    session.template_hash = cmd.template_hash
    extend(session, TPM_CC_PolicyTemplate, cmd.template_hash)
    # Command Output
    return Empty()


def _check_size(session: Session, digest: bytes) -> None:
    if len(digest) != DIGEST_SIZE[session.auth_hash]:
        raise TpmError(TPM_RC_SIZE).parameter(1)
