"""Bytes in, bytes out: one command, in the order of checks of Part 3, 5.2 to 5.9."""

from __future__ import annotations

from struct import Struct

from hwtpm.errors import TpmError
from hwtpm.tpm2 import algorithms, entity, password, readonly
from hwtpm.tpm2.auth import SessionArea, cp_hash, rp_hash
from hwtpm.tpm2.context import COMMANDS, VENDOR_COMMANDS, Plan, Tpm
from hwtpm.tpm2.profile import MAX_COMMAND_SIZE
from hwtpm.tpm2.types.constants import (
    TPM_RC_AUTH_CONTEXT,
    TPM_RC_AUTH_MISSING,
    TPM_RC_BAD_TAG,
    TPM_RC_COMMAND_CODE,
    TPM_RC_COMMAND_SIZE,
    TPM_RC_FAILURE,
    TPM_RC_INITIALIZE,
    TPM_RC_INSUFFICIENT,
    TPM_RC_SIZE,
    TPM_RC_SUCCESS,
    TPM_ST_NO_SESSIONS,
    TPM_ST_RSP_COMMAND,
    TPM_ST_SESSIONS,
    TPM_CC_GetCapability,
    TPM_CC_GetTestResult,
    TPM_CC_Startup,
)
from hwtpm.wire import Reader

_HEADER = Struct(">HII")
_unpack_header, _pack_header = _HEADER.unpack_from, _HEADER.pack
_pack_u32 = Struct(">I").pack
_KNOWN_HANDLES = 256  # handle areas that a plan remembers as well-formed
_IN_FAILURE_MODE = (TPM_CC_GetTestResult, TPM_CC_GetCapability)


def error_response(rc: int) -> bytes:
    """Return the ten octets that answer a command with the response code *rc* (Part 3, 6.1)."""
    return _pack_header(TPM_ST_RSP_COMMAND if rc == TPM_RC_BAD_TAG else TPM_ST_NO_SESSIONS, 10, rc)


def execute(tpm: Tpm, command: bytes) -> bytes:
    """Run one command and return its response; raises TpmError with the code that answers it."""
    plan, tag, code = _header(tpm, command)
    tpm.command_code = code
    off = 10
    handles: tuple[int, ...] = ()
    if plan.handle_count:
        handles, off = _handles(tpm, plan, command)
    if tpm.platform.read_only:
        readonly.check(tpm, code, handles)
    if tag == TPM_ST_NO_SESSIONS:
        if plan.auth_count:
            raise TpmError(TPM_RC_AUTH_MISSING)
        audit = _Audit(tpm, code, handles, command[off:]) if code in tpm.audit.commands else None
        handle, parameters = _run(tpm, plan, handles, command, off)
        if not plan.no_sessions:
            tpm.sessions.exclusive = 0
        if audit is not None:
            audit.record(tpm, parameters)
        body = handle + parameters
        return _pack_header(TPM_ST_NO_SESSIONS, 10 + len(body), TPM_RC_SUCCESS) + body
    if plan.no_sessions:
        raise TpmError(TPM_RC_AUTH_CONTEXT)
    found = password.alone(command, off) if plan.auth_count == 1 else None
    if found is not None:
        return _with_password(tpm, plan, code, handles, command, *found)
    area = SessionArea.parse(tpm, plan, code, handles, command, off)
    area.authorize(tpm)
    # The digest is over the parameters as they came in.
    audit = _Audit(tpm, code, handles, area.parameters) if code in tpm.audit.commands else None
    area.decrypt(tpm)
    handle, parameters = _run(tpm, plan, handles, area.parameters, 0)
    parameters, acknowledgements = area.respond(tpm, parameters)
    if audit is not None:
        audit.record(tpm, parameters)
    return _with_sessions(handle, parameters, acknowledgements)


def _with_password(tpm: Tpm, plan: Plan, code: int, handles: tuple[int, ...], command: bytes, auth: bytes,
                   off: int) -> bytes:
    """Run a command whose one session is the password *auth*; its parameters start at *off*."""
    try:
        password.check(tpm, handles[0], plan.roles[0], code, auth)
    except TpmError as error:
        raise error.session(1) from None
    audit = _Audit(tpm, code, handles, command[off:]) if code in tpm.audit.commands else None
    handle, parameters = _run(tpm, plan, handles, command, off)
    tpm.sessions.exclusive = 0
    if audit is not None:
        audit.record(tpm, parameters)
    return _with_sessions(handle, parameters, password.ACKNOWLEDGEMENT)


def _run(tpm: Tpm, plan: Plan, handles: tuple[int, ...], octets: bytes, off: int) -> tuple[bytes, bytes]:
    """Run the command whose parameters are *octets* from *off* on; return handle area and parameters."""
    memory = plan.memory
    if memory is not None:
        known = memory.recall(tpm, handles, octets[off:])
        if known is not None:
            return known
    request, end = plan.read(octets, off, handles)
    if end != len(octets):
        raise TpmError(TPM_RC_SIZE)
    if tpm.platform.left_out:
        algorithms.check(tpm, request)
    response = plan.run(tpm, request)
    parameters = plan.write(response)
    if memory is not None:
        memory.keep(tpm, request, octets[off:], response, parameters)
    if plan.response_handle:
        return _pack_u32(getattr(response, plan.response_handle)), parameters
    return b"", parameters


def _with_sessions(handle: bytes, parameters: bytes, acknowledgements: bytes) -> bytes:
    """Return the response of a command that came with sessions."""
    size = 14 + len(handle) + len(parameters) + len(acknowledgements)
    head = _pack_header(TPM_ST_SESSIONS, size, TPM_RC_SUCCESS) + handle
    return head + _pack_u32(len(parameters)) + parameters + acknowledgements


class _Audit:
    """One audited command in progress (Part 1, 32); not in failure mode, where audit does not function."""

    __slots__ = ("alg", "code", "cp_hash")

    def __init__(self, tpm: Tpm, code: int, handles: tuple[int, ...], parameters: bytes) -> None:
        self.alg, self.code = tpm.audit.alg, code
        self.cp_hash = cp_hash(tpm, self.alg, code, handles, parameters)

    def record(self, tpm: Tpm, parameters: bytes) -> None:
        """Extend the digest, as the command has succeeded and *parameters* are its response's."""
        if not tpm.power.failed:
            tpm.audit.record(self.alg, self.cp_hash, rp_hash(self.alg, self.code, parameters))


def _header(tpm: Tpm, command: bytes) -> tuple[Plan, int, int]:
    """Check the header and the mode; return the command's plan, tag and code (Part 3, 5.2 and 5.3)."""
    size = len(command)
    if size < 10:
        if size >= 2 and int.from_bytes(command[:2], "big") not in (TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS):
            raise TpmError(TPM_RC_BAD_TAG)
        raise TpmError(TPM_RC_COMMAND_SIZE)
    tag, told, code = _unpack_header(command)
    if tag != TPM_ST_SESSIONS and tag != TPM_ST_NO_SESSIONS:
        raise TpmError(TPM_RC_BAD_TAG)
    if told != size or size > MAX_COMMAND_SIZE:
        raise TpmError(TPM_RC_COMMAND_SIZE)
    if tpm.power.failed and (tag != TPM_ST_NO_SESSIONS or code not in _IN_FAILURE_MODE):
        raise TpmError(TPM_RC_FAILURE)
    entry = COMMANDS.get(code)
    if entry is None and tpm.parent is not None:
        entry = VENDOR_COMMANDS.get(code)
    if entry is None:
        raise TpmError(TPM_RC_COMMAND_CODE)
    if tpm.power.started == (code == TPM_CC_Startup) and not tpm.power.failed:
        raise TpmError(TPM_RC_INITIALIZE)
    return entry.plan or entry.compiled(), tag, code


def _handles(tpm: Tpm, plan: Plan, command: bytes) -> tuple[tuple[int, ...], int]:
    """Return the handles, all of the right kind and present, and where they end (Part 3, 5.4)."""
    off = 10
    if len(command) < off + 4 * plan.handle_count:
        # The values that are there are judged first: the first handle at fault names the error.
        for number, read in enumerate(plan.handle_readers, 1):
            if off + 4 > len(command):
                raise TpmError(TPM_RC_INSUFFICIENT).handle(number)
            _read_handle(read, command, off, number)
            off += 4
    handles = plan.take_handles(command, off)
    if handles not in plan.known_handles:
        for number, read in enumerate(plan.handle_readers, 1):
            _read_handle(read, command, off + 4 * number - 4, number)
        # Whether the values are of the right kind never changes; only whether the entities are there.
        if len(plan.known_handles) < _KNOWN_HANDLES:
            plan.known_handles.add(handles)
    number = 0
    for handle in handles:
        number += 1
        if number == 1 or handle != handles[0]:  # The commands on an NV Index often name it twice.
            entity.present(tpm, handle, number)
    return handles, off + 4 * number


def _read_handle(read: Reader, command: bytes, off: int, number: int) -> None:
    try:
        read(command, off)
    except TpmError as error:
        raise error.handle(number) from None
