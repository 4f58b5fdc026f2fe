"""What the TPM tells of itself (Part 3, 7.1, 7.3 and 28.1; Part 2, 21)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from struct import Struct
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12 import profile, selftest
from hwtpm.tpm12.auth import authorize_key, authorize_owner, use_key
from hwtpm.tpm12.context import COMMANDS, VENDOR_COMMANDS, Call, Tpm, handles
from hwtpm.tpm12.requests.capability import (
    GetCapability,
    GetCapabilityOwner,
    GetCapabilityOwnerResponse,
    GetCapabilityResponse,
    GetCapabilitySigned,
    GetCapabilitySignedResponse,
)
from hwtpm.tpm12.signing import require_signing, sign
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types import ordinals
from hwtpm.tpm12.types.capability import (
    TPM_DA_ACTION_TYPE,
    TPM_DA_INFO,
    TPM_DA_INFO_LIMITED,
    TPM_KEY_HANDLE_LIST,
    TPM_SELECT_SIZE,
    VERSION,
    VERSION_INFO,
)
from hwtpm.tpm12.types.codes import TPM_BAD_MODE, TPM_BAD_PARAMETER, TPM_FAILEDSELFTEST, TPM_INAPPROPRIATE_SIG
from hwtpm.tpm12.types.counter import COUNT_ID_ILLEGAL, COUNT_ID_NULL
from hwtpm.tpm12.types.key import TPM_KEY_PARMS
from hwtpm.wire import Wire, decode, encode, members

_U32 = Struct(">I").pack
_Tell = Callable[[Tpm, int], bytes]

_VERSION_1_1: Final = bytes([1, 1, 0, 0])  # for software that knows no other (Part 2, 21.1)
_ALL_SESSIONS: Final = profile.AUTH_SESSIONS + profile.TRANSPORT_SESSIONS
_SELECT_1_1: Final = 2  # octets: there were 16 PCRs


def _bool(value: object) -> bytes:
    return b"\1" if value else b"\0"


def _supports(*numbers: int) -> _Tell:
    return lambda tpm, number: _bool(number in numbers)


_PROTOCOLS: Final = {  # the command without which there is no such protocol
    c.TPM_PID_OIAP: ordinals.TPM_ORD_OIAP,
    c.TPM_PID_OSAP: ordinals.TPM_ORD_OSAP,
    c.TPM_PID_ADIP: ordinals.TPM_ORD_OSAP,
    c.TPM_PID_ADCP: ordinals.TPM_ORD_ChangeAuth,
    c.TPM_PID_OWNER: ordinals.TPM_ORD_TakeOwnership,
    c.TPM_PID_DSAP: ordinals.TPM_ORD_DSAP,
    c.TPM_PID_TRANSPORT: ordinals.TPM_ORD_EstablishTransport,
}


def _protocol(tpm: Tpm, protocol: int) -> bytes:
    return _bool(_PROTOCOLS.get(protocol) in COMMANDS)


def _flags(tpm: Tpm, which: int) -> bytes:
    if which == c.TPM_CAP_FLAG_PERMANENT:
        return encode(tpm.flags.permanent)
    if which == c.TPM_CAP_FLAG_VOLATILE:
        return encode(tpm.flags.stclear)
    raise TpmError(TPM_BAD_MODE)


_PROPERTIES: Final[dict[int, Callable[[Tpm], bytes]]] = {
    c.TPM_CAP_PROP_PCR: lambda tpm: _U32(profile.NUM_PCR),
    c.TPM_CAP_PROP_DIR: lambda tpm: _U32(1),
    c.TPM_CAP_PROP_MANUFACTURER: lambda tpm: profile.VENDOR_ID,
    c.TPM_CAP_PROP_KEYS: lambda tpm: _U32(profile.KEY_HANDLES - len(tpm.keys.loaded)),
    c.TPM_CAP_PROP_MIN_COUNTER: lambda tpm: _U32(0),
    c.TPM_CAP_PROP_AUTHSESS: lambda tpm: _U32(profile.AUTH_SESSIONS - len(tpm.sessions.open)),
    c.TPM_CAP_PROP_TRANSESS: lambda tpm: _U32(profile.TRANSPORT_SESSIONS - len(tpm.transports.open)),
    c.TPM_CAP_PROP_COUNTERS: lambda tpm: _U32(profile.COUNTERS - len(tpm.counters.created)),
    c.TPM_CAP_PROP_MAX_AUTHSESS: lambda tpm: _U32(profile.AUTH_SESSIONS),
    c.TPM_CAP_PROP_MAX_TRANSESS: lambda tpm: _U32(profile.TRANSPORT_SESSIONS),
    c.TPM_CAP_PROP_MAX_COUNTERS: lambda tpm: _U32(profile.COUNTERS),
    c.TPM_CAP_PROP_MAX_KEYS: lambda tpm: _U32(profile.KEY_HANDLES),
    c.TPM_CAP_PROP_OWNER: lambda tpm: _bool(tpm.permanent.owner_installed),
    c.TPM_CAP_PROP_CONTEXT: lambda tpm: _U32(profile.SESSION_LIST - len(tpm.contexts.saved)),
    c.TPM_CAP_PROP_MAX_CONTEXT: lambda tpm: _U32(profile.SESSION_LIST),
    c.TPM_CAP_PROP_FAMILYROWS: lambda tpm: _U32(profile.FAMILY_ROWS),
    c.TPM_CAP_PROP_TIS_TIMEOUT: lambda tpm: b"".join(map(_U32, profile.TIMEOUTS_US)),
    c.TPM_CAP_PROP_STARTUP_EFFECT: lambda tpm: _U32(profile.STARTUP_EFFECTS),
    c.TPM_CAP_PROP_DELEGATE_ROW: lambda tpm: _U32(profile.DELEGATE_ROWS),
    c.TPM_CAP_PROP_MAX_DAASESS: lambda tpm: _U32(profile.DAA_SESSIONS),
    c.TPM_CAP_PROP_DAASESS: lambda tpm: _U32(profile.DAA_SESSIONS - len(tpm.daa.open)),
    c.TPM_CAP_PROP_CONTEXT_DIST: lambda tpm: _U32(0xFFFFFFFF),
    c.TPM_CAP_PROP_DAA_INTERRUPT: lambda tpm: _bool(True),
    c.TPM_CAP_PROP_SESSIONS: lambda tpm: _U32(
        _ALL_SESSIONS - len(tpm.sessions.open) - len(tpm.transports.open)),
    c.TPM_CAP_PROP_MAX_SESSIONS: lambda tpm: _U32(_ALL_SESSIONS),
    c.TPM_CAP_PROP_CMK_RESTRICTION: lambda tpm: _U32(tpm.permanent.restrict_delegate),
    c.TPM_CAP_PROP_DURATION: lambda tpm: b"".join(map(_U32, profile.DURATIONS_US)),
    c.TPM_CAP_PROP_ACTIVE_COUNTER: lambda tpm: _U32(
        COUNT_ID_NULL if tpm.counters.active == COUNT_ID_ILLEGAL else tpm.counters.active),
    c.TPM_CAP_PROP_MAX_NV_AVAILABLE: lambda tpm: _U32(tpm.nv.available),
    c.TPM_CAP_PROP_INPUT_BUFFER: lambda tpm: _U32(profile.BUFFER_SIZE),
}
# What a TPM tells that has failed, too (Part 3, 7.1: action 3); the area without a property is all of it.
_ALWAYS: Final = {c.TPM_CAP_VERSION, c.TPM_CAP_VERSION_VAL, c.TPM_CAP_MFR}
_ALWAYS_PROPERTIES: Final = set(map(_U32, (
    c.TPM_CAP_PROP_MANUFACTURER, c.TPM_CAP_PROP_DURATION, c.TPM_CAP_PROP_TIS_TIMEOUT)))


def _property(tpm: Tpm, which: int) -> bytes:
    tell = _PROPERTIES.get(which)
    if tell is None:
        raise TpmError(TPM_BAD_MODE)
    return tell(tpm)


_HANDLES: Final[dict[int, Callable[[Tpm], list[int]]]] = {
    c.TPM_RT_KEY: lambda tpm: sorted(tpm.keys.loaded),
    c.TPM_RT_AUTH: lambda tpm: list(tpm.sessions.open),
    c.TPM_RT_TRANS: lambda tpm: list(tpm.transports.open),
    c.TPM_RT_CONTEXT: lambda tpm: tpm.contexts.saved,
    c.TPM_RT_COUNTER: lambda tpm: tpm.counters.created,
    c.TPM_RT_DAA_TPM: lambda tpm: list(tpm.daa.open),
}


def _handle_list(tpm: Tpm, resource: int) -> bytes:
    tell = _HANDLES.get(resource)
    if tell is None:
        raise TpmError(TPM_BAD_PARAMETER)
    return encode(TPM_KEY_HANDLE_LIST(tell(tpm)))


def _check_loaded(tpm: Tpm, sub_cap: bytes) -> bytes:
    parms = decode(TPM_KEY_PARMS, sub_cap)
    return _bool(parms.algorithm_id == c.TPM_ALG_RSA and len(tpm.keys.loaded) < profile.KEY_HANDLES)


def _select_size(tpm: Tpm, sub_cap: bytes) -> bytes:
    asked = decode(TPM_SELECT_SIZE, sub_cap)
    most = _SELECT_1_1 if asked.minor == 1 else profile.NUM_PCR // 8
    return _bool(0 < asked.req_size <= most)


def _da_logic(tpm: Tpm, sub_cap: bytes) -> bytes:
    """All secrets are defended together: the entity type in *sub_cap* makes no difference."""
    left = tpm.lockout.seconds_left
    state = c.TPM_DA_STATE_ACTIVE if left else c.TPM_DA_STATE_INACTIVE
    action = TPM_DA_ACTION_TYPE(c.TPM_DA_ACTION_TIMEOUT)
    if tpm.flags.permanent.disable_full_da_logic_info:
        return encode(TPM_DA_INFO_LIMITED(state, action, b""))
    count = min(tpm.lockout.failures, 0xFFFF)
    return encode(TPM_DA_INFO(state, count, profile.LOCKOUT_THRESHOLD, action, left, b""))


_BY_NUMBER: Final[dict[int, tuple[int, _Tell]]] = {  # areas whose subCap is a number of so many octets
    c.TPM_CAP_ORD: (4, lambda tpm, ordinal: _bool(
        ordinal in COMMANDS or (tpm.parent is not None and ordinal in VENDOR_COMMANDS))),
    c.TPM_CAP_ALG: (4, _supports(c.TPM_ALG_RSA)),
    c.TPM_CAP_PID: (2, _protocol),
    c.TPM_CAP_FLAG: (4, _flags),
    c.TPM_CAP_PROPERTY: (4, _property),
    c.TPM_CAP_SYM_MODE: (4, _supports()),
    c.TPM_CAP_KEY_STATUS: (4, lambda tpm, handle: _bool(tpm.keys.get(handle).owner_evict)),
    c.TPM_CAP_NV_INDEX: (4, lambda tpm, nv_index: encode(tpm.nv.get(nv_index).public)),
    c.TPM_CAP_TRANS_ALG: (4, _supports(c.TPM_ALG_MGF1, c.TPM_ALG_AES128)),
    c.TPM_CAP_HANDLE: (4, _handle_list),
    c.TPM_CAP_TRANS_ES: (2, _supports(c.TPM_ES_SYM_CTR, c.TPM_ES_SYM_OFB)),
    c.TPM_CAP_AUTH_ENCRYPT: (4, _supports(c.TPM_ALG_XOR, c.TPM_ALG_AES128)),
}
_BY_OCTETS: Final[dict[int, Callable[[Tpm, bytes], bytes]]] = {
    c.TPM_CAP_VERSION: lambda tpm, sub_cap: _VERSION_1_1,
    c.TPM_CAP_KEY_HANDLE: lambda tpm, sub_cap: _handle_list(tpm, c.TPM_RT_KEY),
    c.TPM_CAP_CHECK_LOADED: _check_loaded,
    c.TPM_CAP_NV_LIST: lambda tpm, sub_cap: b"".join(map(_U32, tpm.nv.areas)),
    c.TPM_CAP_SELECT_SIZE: _select_size,
    c.TPM_CAP_DA_LOGIC: _da_logic,
    c.TPM_CAP_VERSION_VAL: lambda tpm, sub_cap: encode(VERSION_INFO),
}


def capability(tpm: Tpm, area: int, sub_cap: bytes) -> bytes:
    """Return what Part 2, 21.1 and 21.2 say of the capability; TPM_BAD_MODE for one that is unknown."""
    if area in _BY_OCTETS:
        return _BY_OCTETS[area](tpm, sub_cap)
    size, tell = _BY_NUMBER.get(area, (0, None))
    if tell is None or len(sub_cap) != size:
        raise TpmError(TPM_BAD_MODE)
    return tell(tpm, int.from_bytes(sub_cap, "big"))


@handles
def get_capability(tpm: Tpm, call: Call, cmd: GetCapability) -> GetCapabilityResponse:
    """The capability is returned; a TPM that has failed tells its version and timing only.  Part 3, 7.1."""
    # Input Validation
    always = cmd.cap_area in _ALWAYS or (
        cmd.cap_area == c.TPM_CAP_PROPERTY and cmd.sub_cap in _ALWAYS_PROPERTIES)
    if not always and tpm.power.tested is Tested.LIMITED:
        selftest.run_all(tpm)
    if not always and tpm.power.tested is Tested.FAILED:
        raise TpmError(TPM_FAILEDSELFTEST)
    # Command Output
    return GetCapabilityResponse(capability(tpm, cmd.cap_area, cmd.sub_cap))


@handles
def get_capability_owner(tpm: Tpm, call: Call, cmd: GetCapabilityOwner) -> GetCapabilityOwnerResponse:
    """Version and all flags are returned to the owner.  Part 3, 7.3."""
    # Input Validation
    authorize_owner(tpm, call)
    # Command Output
    return GetCapabilityOwnerResponse(VERSION, _bits(tpm.flags.permanent), _bits(tpm.flags.stclear))


def _bits(flags: Wire) -> int:
    """Return a number whose bit n is member n of *flags*."""
    return sum(getattr(flags, member.name) << i for i, member in enumerate(members(type(flags))))


@handles
def get_capability_signed(tpm: Tpm, call: Call, cmd: GetCapabilitySigned) -> GetCapabilitySignedResponse:
    """The capability and the caller's nonce are signed.  Part 3, 28.1."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    response = capability(tpm, cmd.cap_area, cmd.sub_cap)
    require_signing(key)
    if key.public.algorithm_parms.sig_scheme != c.TPM_SS_RSASSAPKCS1v15_SHA1:
        raise TpmError(TPM_INAPPROPRIATE_SIG)
    # Command Output
    signature = sign(key, sha1(response + cmd.anti_replay).digest())
    return GetCapabilitySignedResponse(VERSION, response, signature)
