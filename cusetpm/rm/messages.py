"""What a resource manager reads in commands, responses and contexts, and commands of its own."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from hwtpm.tpm2.types.attributes import (
    TPMA_CC_CHANDLES,
    TPMA_CC_CHANDLES_SHIFT,
    TPMA_CC_COMMANDINDEX,
    TPMA_CC_EXTENSIVE,
    TPMA_CC_FLUSHED,
    TPMA_CC_RHANDLE,
    TPMA_CC_V,
    TPMA_SESSION_CONTINUESESSION,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_CAP_HANDLES,
    TPM_RC_SUCCESS,
    TPM_ST_NO_SESSIONS,
    TPM_ST_SESSIONS,
    TPM_CC_ContextLoad,
    TPM_CC_ContextSave,
    TPM_CC_FlushContext,
    TPM_CC_GetCapability,
    TPM_CC_HashSequenceStart,
)
from hwtpm.tpm2.types.handles import (
    HR_HANDLE_MASK,
    HR_SHIFT,
    TPM_HT_HMAC_SESSION,
    TPM_HT_POLICY_SESSION,
    TPM_HT_TRANSIENT,
)

HEADER: Final = Struct(">HII")
U32: Final = Struct(">I")
SAVED_SEQUENCE: Final = 0x80000001
"""What the savedHandle of a sequence object says (Part 2, Table 58): its context changes with every use."""

_ST_SESSIONS: Final = TPM_ST_SESSIONS.to_bytes(2, "big")
_SESSIONS: Final = (TPM_HT_HMAC_SESSION, TPM_HT_POLICY_SESSION)
_QUERY: Final = Struct(">III")
_LIST: Final = Struct(">BII")
_SAVED_HANDLE: Final = 8  # in a TPMS_CONTEXT: after the sequence number
_ANY: Final = 254  # more than any TPM has, and than fits into a response


class Attributes(NamedTuple):
    """What TPMA_CC says of a command (Part 2, 8.9).

    *plain*: without sessions, it concerns nothing that a resource manager keeps.
    """

    handles: int
    returns_handle: bool
    flushes: bool
    extensive: bool
    plain: bool


class Named(NamedTuple):
    """What a command names: objects, with the places of their handles in octets, and sessions, by number.

    `ended` are those of the sessions that are not to continue after the command.
    """

    objects: list[tuple[int, int]]
    sessions: set[int]
    ended: set[int]


def attributes(tpma_cc: int) -> tuple[int, Attributes]:
    """Return the command code of *tpma_cc* and its attributes.

    As in Linux, the one parameter of FlushContext counts as its handle.
    """
    code = tpma_cc & (TPMA_CC_COMMANDINDEX | TPMA_CC_V)
    handles = (tpma_cc & TPMA_CC_CHANDLES) >> TPMA_CC_CHANDLES_SHIFT
    concerned = tpma_cc & (TPMA_CC_CHANDLES | TPMA_CC_RHANDLE | TPMA_CC_FLUSHED | TPMA_CC_EXTENSIVE)
    return code, Attributes(
        1 if code == TPM_CC_FlushContext else handles,
        bool(tpma_cc & TPMA_CC_RHANDLE),
        bool(tpma_cc & TPMA_CC_FLUSHED),
        bool(tpma_cc & TPMA_CC_EXTENSIVE),
        not concerned and code not in (TPM_CC_FlushContext, TPM_CC_GetCapability),
    )


def is_session(handle: int) -> bool:
    """Tell whether *handle* is one of a session, of either kind."""
    return handle >> HR_SHIFT in _SESSIONS


def index(handle: int) -> int:
    """Return the number of a session, which HMAC and policy sessions share."""
    return handle & HR_HANDLE_MASK


def code_of(response: bytes) -> int:
    """Return the response code."""
    return int.from_bytes(response[6:10], "big")


def named(command: bytes, handles: int) -> Named:
    """Return what *command*, which has a header and should have that many *handles*, names."""
    off = HEADER.size
    objects: list[tuple[int, int]] = []
    sessions: set[int] = set()
    ended: set[int] = set()
    for _ in range(min(handles, (len(command) - off) // 4)):
        (handle,) = U32.unpack_from(command, off)
        kind = handle >> HR_SHIFT
        if kind == TPM_HT_TRANSIENT:
            objects.append((off, handle))
        elif kind in _SESSIONS:
            sessions.add(handle & HR_HANDLE_MASK)
        off += 4
    if has_sessions(command):
        for handle, kept in _authorizations(command, handles):
            if handle >> HR_SHIFT in _SESSIONS:
                sessions.add(handle & HR_HANDLE_MASK)
                if not kept & TPMA_SESSION_CONTINUESESSION:
                    ended.add(handle & HR_HANDLE_MASK)
    return Named(objects, sessions, ended)


def has_sessions(command: bytes) -> bool:
    """Tell whether *command* has an authorization area."""
    return command[:2] == _ST_SESSIONS


def _authorizations(command: bytes, handles: int) -> list[tuple[int, int]]:
    """Return handle and attributes of each session, as far as the authorization area is well-formed.

    What is not is the TPM's to refuse (Part 1, 15.4).
    """
    found: list[tuple[int, int]] = []
    off = HEADER.size + 4 * handles
    if len(command) < off + 4:
        return found
    end = off + 4 + U32.unpack_from(command, off)[0]
    off += 4
    # The least is handle, an empty nonce, attributes and an empty HMAC.
    while off + 9 <= end <= len(command):
        handle = U32.unpack_from(command, off)[0]
        off += 6 + int.from_bytes(command[off + 4 : off + 6], "big")
        if off + 3 > end:
            break
        found.append((handle, command[off]))
        off += 3 + int.from_bytes(command[off + 1 : off + 3], "big")
    return found


def command(code: int, body: bytes = b"") -> bytes:
    """Return a command without sessions."""
    return HEADER.pack(TPM_ST_NO_SESSIONS, HEADER.size + len(body), code) + body


def success(body: bytes = b"") -> bytes:
    """Return a response without sessions."""
    return HEADER.pack(TPM_ST_NO_SESSIONS, HEADER.size + len(body), TPM_RC_SUCCESS) + body


def context_save(handle: int) -> bytes:
    """Return the command that saves what is loaded at *handle*."""
    return command(TPM_CC_ContextSave, U32.pack(handle))


def context_load(context: bytes) -> bytes:
    """Return the command that loads a TPMS_CONTEXT."""
    return command(TPM_CC_ContextLoad, context)


def flush_context(handle: int) -> bytes:
    """Return the command that flushes *handle*."""
    return command(TPM_CC_FlushContext, U32.pack(handle))


def hash_sequence_start() -> bytes:
    """Return a command that loads something at the lowest free handle, whatever the state of the TPM."""
    return command(TPM_CC_HashSequenceStart, b"\0\0" + TPM_ALG_SHA256.to_bytes(2, "big"))


def get_capability(capability: int, prop: int, count: int = _ANY) -> bytes:
    """Return the command that asks for *count* values of a group."""
    return command(TPM_CC_GetCapability, _QUERY.pack(capability, prop, count))


def query(command: bytes) -> tuple[int, int, int]:
    """Return capability, property and count that a GetCapability asks for, with or without sessions.

    All are zero if it is malformed.
    """
    off = HEADER.size
    if has_sessions(command):
        off += 4 + int.from_bytes(command[off : off + 4], "big")
    if len(command) != off + _QUERY.size:
        return 0, 0, 0
    capability, prop, count = _QUERY.unpack_from(command, off)
    return capability, prop, count


def values(response: bytes) -> list[int]:
    """Return the values of a response to GetCapability whose list is one of UINT32; none if it failed."""
    if code_of(response):
        return []
    _, _, count = _LIST.unpack_from(response, HEADER.size)
    return list(Struct(f">{count}I").unpack_from(response, HEADER.size + _LIST.size))


def has_more(response: bytes) -> bool:
    """Tell whether a response to GetCapability says that there are more values."""
    return bool(response[HEADER.size])


def handle_list(handles: list[int], count: int) -> bytes:
    """Return the response to a GetCapability that asks for at most *count* of *handles*."""
    given = handles[: min(count, _ANY)]
    more = len(given) < len(handles)
    return success(_LIST.pack(more, TPM_CAP_HANDLES, len(given)) + b"".join(map(U32.pack, given)))


def saved_handle(context: bytes) -> int:
    """Return the savedHandle of a TPMS_CONTEXT; zero if it is cut short."""
    return int.from_bytes(context[_SAVED_HANDLE : _SAVED_HANDLE + 4], "big")


def sequence_number(context: bytes) -> int:
    """Return the number of a TPMS_CONTEXT: the higher, the later it was saved."""
    return int.from_bytes(context[:_SAVED_HANDLE], "big")
