"""Commands as octets in, responses as octets out (Part 1, 13 and 18; Part 3, 1 and 2).

The order of checks: header, ordinal, effects that any command has, parameters, state of the TPM, tag,
authorizations, and then what the command itself checks.
"""

from __future__ import annotations

from hashlib import sha1
from struct import Struct
from typing import Any, Final

from hwtpm.crypto import hashes, ids
from hwtpm.errors import TpmError
from hwtpm.tpm12 import selftest
from hwtpm.tpm12.context import COMMANDS, VENDOR_COMMANDS, Authorization, Call, Plan, Tpm
from hwtpm.tpm12.requests.command import Needs
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.types.codes import (
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADTAG,
    TPM_DEACTIVATED,
    TPM_DEFEND_LOCK_RUNNING,
    TPM_DISABLED,
    TPM_FAILEDSELFTEST,
    TPM_INVALID_POSTINIT,
    TPM_INVALID_STRUCTURE,
    TPM_NOSRK,
    TPM_SUCCESS,
)
from hwtpm.tpm12.types.constants import TPM_TAG_RQU_AUTH2_COMMAND, TPM_TAG_RQU_COMMAND, TPM_TAG_RSP_COMMAND
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_DAA_Join,
    TPM_ORD_DAA_Sign,
    TPM_ORD_ExecuteTransport,
    TPM_ORD_Init,
    TPM_ORD_ReleaseTransportSigned,
    TPM_ORD_SHA1Complete,
    TPM_ORD_SHA1CompleteExtend,
    TPM_ORD_SHA1Update,
    TPM_ORD_Startup,
)
from hwtpm.wire import (
    RC_INSUFFICIENT,
    RC_RESERVED_BITS,
    RC_SELECTOR,
    RC_SIZE,
    RC_TAG,
    RC_VALUE,
)

_HEADER: Final = Struct(">HII")
_AUTHORIZATION: Final = Struct(">I20sB20s")
_CONTINUES: Final = 24  # where continueAuthSession stands in it
_GO_ON: Final = (TPM_ORD_SHA1Update, TPM_ORD_SHA1Complete, TPM_ORD_SHA1CompleteExtend,
                 TPM_ORD_ExecuteTransport)
_DAA: Final = (TPM_ORD_DAA_Join.to_bytes(4, "big"), TPM_ORD_DAA_Sign.to_bytes(4, "big"))
_NO_LOCKOUT, _WORKING, _UNLESS_NV_UNLOCKED, _ENABLED, _ACTIVATED, _OWNER = (need.value for need in (
    Needs.NO_LOCKOUT, Needs.WORKING, Needs.UNLESS_NV_UNLOCKED, Needs.ENABLED, Needs.ACTIVATED, Needs.OWNER))
_LIMITED, _FAILED = Tested.LIMITED, Tested.FAILED  # members of an Enum are dear in Python 3.11
_pack_u32 = Struct(">I").pack
_pack_u8 = Struct(">B").pack
_CODES: Final = {  # what decoders raise, as a code of this family
    RC_INSUFFICIENT: TPM_BAD_PARAM_SIZE,
    RC_SIZE: TPM_BAD_PARAM_SIZE,
    RC_TAG: TPM_INVALID_STRUCTURE,
    RC_VALUE: TPM_BAD_PARAMETER,
    RC_SELECTOR: TPM_BAD_PARAMETER,
    RC_RESERVED_BITS: TPM_BAD_PARAMETER,
}


def error_response(rc: int) -> bytes:
    """Return the ten octets that answer a command with the return code *rc* (Part 3, 1)."""
    return _HEADER.pack(TPM_TAG_RSP_COMMAND, 10, rc)


def execute(tpm: Tpm, command: bytes, transport: int = 0, encrypted: bool = False) -> bytes:
    """Run one command and return its response; every TpmError becomes a return code.

    *transport* is the handle of the transport session that wraps the command, 0 for none; *encrypted* tells
    whether that hides the parameters.
    """
    try:
        plan, tag = _header(tpm, command)
        prepare(tpm, plan, transport)
        call, request = parse(tpm, plan, tag, command, 10)
        call.transport, call.encrypted = transport, encrypted
        return respond(tpm, plan, call, *run(tpm, plan, call, request))
    except TpmError as error:
        if command[6:10] in _DAA:
            _end_daa(tpm, command)
        return error_response(_CODES.get(error.rc, error.rc))


def _end_daa(tpm: Tpm, command: bytes) -> None:
    """A join or a signature whose *command* was answered with an error, whichever, has ended (Part 3, 26.1).

    Stage 0 has no session yet: its handle means nothing.
    """
    handle, stage = command[10:14], command[14:15]
    if stage > b"\0":
        tpm.daa.close(int.from_bytes(handle, "big"))


def _header(tpm: Tpm, command: bytes) -> tuple[Plan, int]:
    """Check the header; return the plan of the command and its tag."""
    size = len(command)
    if size < 10:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    tag, told, ordinal = _HEADER.unpack_from(command)
    if told != size:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    entry = COMMANDS.get(ordinal)
    if entry is None and tpm.parent is not None:
        entry = VENDOR_COMMANDS.get(ordinal)
    if entry is None:
        _receive(tpm, ordinal, 0)  # a wrapped command is known to exist
        raise TpmError(TPM_BAD_ORDINAL)
    return entry.plan or entry.compiled(), tag


def prepare(tpm: Tpm, plan: Plan, transport: int = 0) -> None:
    """What every command does to the TPM before its parameters are looked at has happened.

    Tests that are outstanding run now, unless the command can do without them (Part 3, 4.2: action 1.c).
    *transport* is the handle of the transport session that wraps the command, 0 for none.
    """
    if tpm.power.tested is _LIMITED and not plan.request.BEFORE_TESTS:
        selftest.run_all(tpm)
    _receive(tpm, plan.request.ORD, transport)


def _receive(tpm: Tpm, ordinal: int, transport: int) -> None:
    """What does not outlive the receipt of another command is gone: a saved state, a SHA-1 thread,
    an exclusive transport session.

    Whether the thread is gone shows with the command that TPM_ExecuteTransport wraps (Part 3, 13).
    """
    if ordinal not in (TPM_ORD_Startup, TPM_ORD_Init):
        tpm.power.forget()
    if ordinal not in _GO_ON or (ordinal != TPM_ORD_ExecuteTransport and transport != tpm.sha1.transport):
        tpm.sha1.end()
    # These two end another exclusive session themselves, once they know their own (Part 3, 24.1).
    if not transport and ordinal not in (TPM_ORD_ExecuteTransport, TPM_ORD_ReleaseTransportSigned):
        tpm.transports.interrupt()


def parse(tpm: Tpm, plan: Plan, tag: int, command: bytes, off: int) -> tuple[Call, Any]:
    """Return the command from octet *off* on, once its parameters, the TPM's state and its tag are right."""
    start = off + plan.handle_size
    if len(command) < start:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    request, end = plan.read(command, start, plan.take_handles(command, off))
    _check_state(tpm, plan.needs, authorized=tag != TPM_TAG_RQU_COMMAND)
    count = tag - TPM_TAG_RQU_COMMAND
    if not TPM_TAG_RQU_COMMAND <= tag <= TPM_TAG_RQU_AUTH2_COMMAND or count not in plan.request.AUTHS:
        raise TpmError(TPM_BADTAG)
    authorizations = []
    at = end
    for i in range(count):
        if command[at + _CONTINUES : at + _CONTINUES + 1] > b"\1":
            raise TpmError(TPM_BAD_PARAMETER)
        if len(command) < at + _AUTHORIZATION.size:
            raise TpmError(TPM_BAD_PARAM_SIZE)
        fields = _AUTHORIZATION.unpack_from(command, at)
        at += _AUTHORIZATION.size
        last = plan.request.TRANSPORT and i == count - 1
        authorizations.append(Authorization(tpm.transports if last else tpm.sessions, *fields))
    if at != len(command):
        raise TpmError(TPM_BAD_PARAM_SIZE)
    call = Call(plan.request, command[start:end], authorizations)
    call.audited = tpm.audit.audited(plan.request)
    return call, request


def _check_state(tpm: Tpm, needs: int, *, authorized: bool) -> None:
    if needs & _NO_LOCKOUT and authorized and tpm.lockout.seconds_left:
        raise TpmError(TPM_DEFEND_LOCK_RUNNING)
    if needs & _WORKING and tpm.power.tested is _FAILED:
        raise TpmError(TPM_FAILEDSELFTEST)
    # TPM_Init and TPM_Startup are the ones that need nothing at all.
    if not tpm.power.started and needs:
        raise TpmError(TPM_INVALID_POSTINIT)
    if not needs & _UNLESS_NV_UNLOCKED or tpm.flags.permanent.nv_locked:
        if needs & _ENABLED and tpm.flags.permanent.disable:
            raise TpmError(TPM_DISABLED)
        if needs & _ACTIVATED and tpm.flags.stclear.deactivated:
            raise TpmError(TPM_DEACTIVATED)
    if needs & _OWNER and not tpm.permanent.owner_installed:
        raise TpmError(TPM_NOSRK)


def run(tpm: Tpm, plan: Plan, call: Call, request: Any) -> tuple[bytes, bytes]:
    """Run the command; return the handles and the parameters of its response.

    A command that fails ends the sessions it named (Part 3, 18.2, action 14.a, and 18.3, 6.a), unless the TPM
    only defends itself.
    """
    try:
        response = plan.run(tpm, call, request)
    except TpmError as error:
        if error.rc != TPM_DEFEND_LOCK_RUNNING:
            for given in call.authorizations:
                given.sessions.close(given.handle)
        raise
    handles = plan.write_handles(*[getattr(response, name) for name in plan.response_handles])
    return handles, plan.write(response)


def respond(tpm: Tpm, plan: Plan, call: Call, handles: bytes, parameters: bytes) -> bytes:
    """Return the response; the sessions' nonces are new, and sessions that do not continue are closed."""
    if call.audited:
        _audit(tpm, call, parameters)
    used = call.authorizations
    body = handles + parameters
    if used:
        covered = parameters if call.covered is None else call.covered
        digest = sha1(_pack_u32(TPM_SUCCESS) + _pack_u32(call.ordinal) + covered).digest()
        for given in used:
            nonce, continues = given.nonce_even or tpm.random(20), _pack_u8(given.continues)
            if given.session is not None:
                given.session.nonce_even = nonce
            body += nonce + continues
            body += hashes.hmac(ids.SHA1, given.key, digest, nonce, given.nonce_odd, continues)
            if not given.continues:
                given.sessions.close(given.handle)
    return _HEADER.pack(TPM_TAG_RSP_COMMAND + len(used), 10 + len(body), TPM_SUCCESS) + body


def _audit(tpm: Tpm, call: Call, parameters: bytes) -> None:
    """The command, which succeeds, is in the audit digest (Part 3, 8.1).

    What an encrypted transport session hides is left out; of TPM_ExecuteTransport, what it wraps is what
    counts (Part 3, 24.2).  If auditing fails, so does the TPM: TPM_AUDITFAIL_SUCCESSFUL.
    """
    ordinal = _pack_u32(call.ordinal)
    if call.wrapped is not None:
        received, sent = call.wrapped
    else:
        received = sha1(ordinal).digest() if call.encrypted else call.in_param_digest()
        sent = sha1(_pack_u32(TPM_SUCCESS) + ordinal + (b"" if call.encrypted else parameters)).digest()
    try:
        tpm.audit.record_in(received)
    except TpmError:
        tpm.power.fail("auditing")
        for given in call.authorizations:
            given.sessions.close(given.handle)
        raise
    tpm.audit.record_out(sent)
