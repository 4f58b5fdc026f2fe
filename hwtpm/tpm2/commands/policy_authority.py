"""Enhanced authorization: assertions that somebody or something else vouches for (Part 3, 23).

A signature, an authValue, a ticket, an approved policy, or the content of an NV Index.
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import TYPE_CHECKING, Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import entity, policy, tickets
from hwtpm.tpm2.commands.nv import check_read
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import DIGEST_SIZE, HASHES
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.policy import (
    PolicyAuthorize,
    PolicyAuthorizeNV,
    PolicyNV,
    PolicySecret,
    PolicySecretResponse,
    PolicySigned,
    PolicySignedResponse,
    PolicyTicket,
)
from hwtpm.tpm2.types.algorithms import TPMS_SIGNATURE_ECC, TPMS_SIGNATURE_RSA
from hwtpm.tpm2.types.attributes import TPM_NT_PIN_PASS, TPMA_NV_PLATFORMCREATE
from hwtpm.tpm2.types.constants import (
    TPM_RC_ATTRIBUTES,
    TPM_RC_HASH,
    TPM_RC_INSUFFICIENT,
    TPM_RC_NV_RANGE,
    TPM_RC_POLICY,
    TPM_RC_POLICY_FAIL,
    TPM_RC_SCHEME,
    TPM_RC_SIGNATURE,
    TPM_RC_SIZE,
    TPM_RC_TICKET,
    TPM_RC_VALUE,
    TPM_SE_TRIAL,
    TPM_ST_AUTH_SECRET,
    TPM_ST_AUTH_SIGNED,
    TPM_CC_PolicyAuthorize,
    TPM_CC_PolicyAuthorizeNV,
    TPM_CC_PolicyNV,
    TPM_CC_PolicySecret,
    TPM_CC_PolicySigned,
)
from hwtpm.tpm2.types.handles import (
    TPM_HT_NV_INDEX,
    TPM_HT_PERSISTENT,
    TPM_HT_TRANSIENT,
    TPM_RH_ENDORSEMENT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.structures import TPMT_HA, TPMT_TK_AUTH

if TYPE_CHECKING:
    from hwtpm.tpm2.state.sessions import Session

_U64: Final = Struct(">Q")
_I32: Final = Struct(">i").pack
_UNTIL_RESET: Final = 1 << 63  # in a timeout: a TPM Reset ends the authorization as well


@handles
def policy_signed(tpm: Tpm, cmd: PolicySigned) -> PolicySignedResponse:
    """The key signed this authorization.  Part 3, 23.3.

    What `_check_authorization` raises, with parameters 1, 2 and 4.  TPM_RC_POLICY_FAIL, TPM_RC_SCHEME
    (parameter 5): not a signature of it by the key.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    expires = 0
    if session.kind != TPM_SE_TRIAL:
        expires = _check_authorization(tpm, session, cmd)
        _check_signature(tpm, cmd)
    # Internal Data Update
    name = entity.name(tpm, cmd.auth_object)
    policy.update(session, TPM_CC_PolicySigned, name, cmd.policy_ref)
    policy.limit(session, expires, cmd.cp_hash_a)
    # Command Output
    return PolicySignedResponse(*_ticket(tpm, TPM_ST_AUTH_SIGNED, cmd.auth_object, name, expires, cmd))


def _check_signature(tpm: Tpm, cmd: PolicySigned) -> None:
    # Signatures come in with OpenSSL's help, which no other policy needs.
    from hwtpm.tpm2 import schemes

    given = cmd.auth.signature
    if isinstance(given, TPMS_SIGNATURE_RSA | TPMS_SIGNATURE_ECC):
        alg = given.hash
    elif isinstance(given, TPMT_HA):
        alg = given.hash_alg
    else:
        raise TpmError(TPM_RC_SCHEME).parameter(5)
    signed = hashes.digest(alg, cmd.nonce_tpm, _I32(cmd.expiration), cmd.cp_hash_a, cmd.policy_ref)
    key = tpm.objects.loaded(cmd.auth_object)
    try:
        if key is None:
            raise TpmError(TPM_RC_SCHEME)
        schemes.verify(key, signed, cmd.auth)
    except TpmError as error:
        # Part 3, 23.3.1 has its own code for a signature that is not valid.
        failed = TpmError(TPM_RC_POLICY_FAIL) if error.rc == TPM_RC_SIGNATURE else error
        raise failed.parameter(5) from None


@handles
def policy_secret(tpm: Tpm, cmd: PolicySecret) -> PolicySecretResponse:
    """The authValue of the entity was proved by the authorization of this command.  Part 3, 23.4.

    What `_check_authorization` raises, with parameters 1, 2 and 4.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    expires = 0
    if session.kind != TPM_SE_TRIAL:
        expires = _check_authorization(tpm, session, cmd)
    # Internal Data Update
    handle = cmd.auth_handle
    name = entity.name(tpm, handle)
    policy.update(session, TPM_CC_PolicySecret, name, cmd.policy_ref)
    policy.limit(session, expires, cmd.cp_hash_a)
    # Command Output
    if handle >> 24 == TPM_HT_NV_INDEX and tpm.nv.get(handle).kind == TPM_NT_PIN_PASS:
        expires = 0  # A ticket would be a use of the PIN that is not counted (Part 3, 23.2.5).
    return PolicySecretResponse(*_ticket(tpm, TPM_ST_AUTH_SECRET, handle, name, expires, cmd))


@handles
def policy_ticket(tpm: Tpm, cmd: PolicyTicket) -> Empty:
    """A former PolicySigned or PolicySecret gave the ticket for this authorization.  Part 3, 23.5.

    TPM_RC_ATTRIBUTES (handle 1): a trial session.  TPM_RC_SIZE (parameter 1): not a timeout of ours.
    TPM_RC_EXPIRED (parameter 1), TPM_RC_SIZE (parameter 2), TPM_RC_CPHASH: see `policy.check`.
    TPM_RC_TICKET (parameter 5): the ticket is not for this.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    if session.kind == TPM_SE_TRIAL:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    if len(cmd.timeout) != _U64.size:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    (told,) = _U64.unpack(cmd.timeout)
    expires = told & ~_UNTIL_RESET
    policy.check(tpm, session, expires, cmd.cp_hash_a, (1, 2))
    ticket = cmd.ticket
    expected = tickets.authorized(tpm, ticket.tag, ticket.hierarchy, cmd.cp_hash_a, cmd.policy_ref,
                                  cmd.auth_name, expires, until_reset=bool(told & _UNTIL_RESET))
    if not compare_digest(expected, ticket.digest):
        raise TpmError(TPM_RC_TICKET).parameter(5)
    # Internal Data Update
    code = TPM_CC_PolicySigned if ticket.tag == TPM_ST_AUTH_SIGNED else TPM_CC_PolicySecret
    policy.update(session, code, cmd.auth_name, cmd.policy_ref)
    policy.limit(session, expires, cmd.cp_hash_a)
    # Command Output
    return Empty()


@handles
def policy_authorize(tpm: Tpm, cmd: PolicyAuthorize) -> Empty:
    """The key approved the policy so far, which is replaced by the key's Name.  Part 3, 23.16.

    TPM_RC_HASH, TPM_RC_SIZE (parameter 3): not a Name.  TPM_RC_VALUE (parameter 1): not the policy so far.
    TPM_RC_POLICY: the ticket is not for this.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    alg = int.from_bytes(cmd.key_sign[:2], "big")
    if alg not in HASHES - tpm.platform.left_out:
        raise TpmError(TPM_RC_HASH).parameter(3)
    if len(cmd.key_sign) != 2 + DIGEST_SIZE[alg]:
        raise TpmError(TPM_RC_SIZE).parameter(3)
    if session.kind != TPM_SE_TRIAL:
        if not compare_digest(session.policy_digest, cmd.approved_policy):
            raise TpmError(TPM_RC_VALUE).parameter(1)
        ticket = cmd.check_ticket
        signed = hashes.digest(alg, cmd.approved_policy, cmd.policy_ref)
        expected = tickets.verified(tpm, ticket.tag, ticket.hierarchy, signed, cmd.key_sign, ticket.metadata)
        if not compare_digest(expected, ticket.hmac):
            raise TpmError(TPM_RC_POLICY)
    # Internal Data Update
    session.policy_digest = bytes(DIGEST_SIZE[session.auth_hash])
    policy.update(session, TPM_CC_PolicyAuthorize, cmd.key_sign, cmd.policy_ref)
    # Command Output
    return Empty()


@handles
def policy_nv(tpm: Tpm, cmd: PolicyNV) -> Empty:
    """A part of the NV Index compares with the operand as the operation says.  Part 3, 23.9.

    What `check_read` raises.  TPM_RC_VALUE (parameter 2), TPM_RC_NV_RANGE: the part is outside.
    TPM_RC_POLICY: it does not.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    start, operand = cmd.offset, cmd.operand_b
    if session.kind != TPM_SE_TRIAL:
        index = check_read(tpm, cmd.auth_handle, cmd.nv_index)
        if start > index.public.data_size:
            raise TpmError(TPM_RC_VALUE).parameter(2)
        part = index.data[start : start + len(operand)]
        if len(part) != len(operand):
            raise TpmError(TPM_RC_NV_RANGE)
        if not policy.holds(cmd.operation, part, operand):
            raise TpmError(TPM_RC_POLICY)
    # Internal Data Update
    asserted = hashes.digest(session.auth_hash, operand, start.to_bytes(2, "big"),
                             cmd.operation.to_bytes(2, "big"))
    policy.extend(session, TPM_CC_PolicyNV, asserted, entity.name(tpm, cmd.nv_index))
    # Command Output
    return Empty()


@handles
def policy_authorize_nv(tpm: Tpm, cmd: PolicyAuthorizeNV) -> Empty:
    """The NV Index holds the policy so far, which is replaced by the Name of the Index.  Part 3, 23.22.

    What `check_read` raises.  TPM_RC_INSUFFICIENT: the Index is too small for a digest.  TPM_RC_HASH: it
    holds one of another hash.  TPM_RC_VALUE: it holds another policy.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    if session.kind != TPM_SE_TRIAL:
        index = check_read(tpm, cmd.auth_handle, cmd.nv_index)
        alg = int.from_bytes(index.data[:2], "big")
        if len(index.data) < 2:
            raise TpmError(TPM_RC_INSUFFICIENT)
        if alg not in HASHES - tpm.platform.left_out:
            raise TpmError(TPM_RC_HASH)
        if len(index.data) < 2 + DIGEST_SIZE[alg]:
            raise TpmError(TPM_RC_INSUFFICIENT)
        if alg != session.auth_hash:
            raise TpmError(TPM_RC_HASH)
        if not compare_digest(index.data[2 : 2 + DIGEST_SIZE[alg]], session.policy_digest):
            raise TpmError(TPM_RC_VALUE)
    # Internal Data Update
    session.policy_digest = bytes(DIGEST_SIZE[session.auth_hash])
    policy.update(session, TPM_CC_PolicyAuthorizeNV, entity.name(tpm, cmd.nv_index), None)
    # Command Output
    return Empty()


def _check_authorization(tpm: Tpm, session: Session, cmd: PolicySigned | PolicySecret) -> int:
    """Return when the authorization expires; raise if it is not good for the session (Part 3, 23.2.2).

    TPM_RC_VALUE (parameter 1): another nonceTPM.  TPM_RC_EXPIRED (parameter 4), TPM_RC_SIZE (parameter 2),
    TPM_RC_CPHASH: see `policy.check`.
    """
    if cmd.nonce_tpm and not compare_digest(cmd.nonce_tpm, session.nonce_tpm):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    expires = policy.timeout(session, cmd.expiration, cmd.nonce_tpm)
    policy.check(tpm, session, expires, cmd.cp_hash_a, (4, 2))
    return expires


def _ticket(tpm: Tpm, tag: int, handle: int, name: bytes, expires: int,
            cmd: PolicySigned | PolicySecret) -> tuple[bytes, TPMT_TK_AUTH]:
    """Return the timeout and ticket of an authorization by *handle*; a NULL Ticket if none is asked for."""
    if not expires or cmd.expiration >= 0:
        return b"", TPMT_TK_AUTH(tag, TPM_RH_NULL, b"")
    until_reset = not cmd.nonce_tpm
    hierarchy = _hierarchy(tpm, handle)
    digest = tickets.authorized(tpm, tag, hierarchy, cmd.cp_hash_a, cmd.policy_ref, name, expires,
                                until_reset=until_reset)
    told = expires | (_UNTIL_RESET if until_reset else 0)
    return _U64.pack(told), TPMT_TK_AUTH(tag, hierarchy, digest)


def _hierarchy(tpm: Tpm, handle: int) -> int:
    """Return the hierarchy that an entity belongs to."""
    kind = handle >> 24
    if kind in (TPM_HT_TRANSIENT, TPM_HT_PERSISTENT):
        return tpm.objects.get(handle).hierarchy
    if kind == TPM_HT_NV_INDEX:
        platform = tpm.nv.get(handle).public.attributes & TPMA_NV_PLATFORMCREATE
        return TPM_RH_PLATFORM if platform else TPM_RH_OWNER
    return handle if handle in (TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, TPM_RH_NULL) else TPM_RH_OWNER
