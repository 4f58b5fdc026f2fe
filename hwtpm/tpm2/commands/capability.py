"""Capability commands (Part 3, 30): what this TPM is, has and holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from hwtpm.errors import TpmError
from hwtpm.tpm2 import entity, profile
from hwtpm.tpm2.context import COMMANDS, VENDOR_COMMANDS, Tpm, handles
from hwtpm.tpm2.requests.capability import GetCapability, GetCapabilityResponse, SetCapability, TestParms
from hwtpm.tpm2.requests.command import Empty, tpma_cc
from hwtpm.tpm2.state import pcr
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.attributes import (
    TPMA_ALGORITHM_ASYMMETRIC,
    TPMA_ALGORITHM_ENCRYPTING,
    TPMA_ALGORITHM_HASH,
    TPMA_ALGORITHM_METHOD,
    TPMA_ALGORITHM_OBJECT,
    TPMA_ALGORITHM_SIGNING,
    TPMA_ALGORITHM_SYMMETRIC,
    TPMA_CC_COMMANDINDEX,
    TPMA_CC_V,
    TPMA_PERMANENT_DISABLECLEAR,
    TPMA_PERMANENT_ENDORSEMENTAUTHSET,
    TPMA_PERMANENT_INLOCKOUT,
    TPMA_PERMANENT_LOCKOUTAUTHSET,
    TPMA_PERMANENT_OWNERAUTHSET,
    TPMA_PERMANENT_TPMGENERATEDEPS,
    TPMA_STARTUP_CLEAR_EHENABLE,
    TPMA_STARTUP_CLEAR_ORDERLY,
    TPMA_STARTUP_CLEAR_PHENABLE,
    TPMA_STARTUP_CLEAR_PHENABLENV,
    TPMA_STARTUP_CLEAR_READONLY,
    TPMA_STARTUP_CLEAR_SHENABLE,
)
from hwtpm.tpm2.types.handles import (
    HMAC_SESSION_FIRST,
    HR_HANDLE_MASK,
    HR_SHIFT,
    TPM_HT_AC,
    TPM_HT_LOADED_SESSION,
    TPM_HT_NV_INDEX,
    TPM_HT_PCR,
    TPM_HT_PERMANENT,
    TPM_HT_PERSISTENT,
    TPM_HT_SAVED_SESSION,
    TPM_HT_TRANSIENT,
    TPM_RH_ACT_0,
    TPM_RH_ACT_F,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
    TPM_RH_PLATFORM_NV,
    TPM_RS_PW,
)
from hwtpm.tpm2.types.structures import (
    TPMS_ACT_DATA,
    TPMS_ALG_PROPERTY,
    TPMS_CAPABILITY_DATA,
    TPMS_TAGGED_PCR_SELECT,
    TPMS_TAGGED_POLICY,
    TPMS_TAGGED_PROPERTY,
    TPMT_HA,
)
from hwtpm.wire import encode

_A, _S, _H = TPMA_ALGORITHM_ASYMMETRIC, TPMA_ALGORITHM_SYMMETRIC, TPMA_ALGORITHM_HASH
_O, _SIGN, _ENC = TPMA_ALGORITHM_OBJECT, TPMA_ALGORITHM_SIGNING, TPMA_ALGORITHM_ENCRYPTING
_M = TPMA_ALGORITHM_METHOD
_EVERY_KIND: Final = {
    c.TPM_ALG_RSA: _A | _O, c.TPM_ALG_ECC: _A | _O,
    c.TPM_ALG_HMAC: _H | _SIGN, c.TPM_ALG_XOR: _H | _S,
    c.TPM_ALG_KEYEDHASH: _H | _O | _SIGN | _ENC, c.TPM_ALG_SYMCIPHER: _O,
}
_RSA_ENCRYPTION = dict.fromkeys(profile.RSA_ENCRYPTION_SCHEMES, _A | _ENC)
_SIGNING = dict.fromkeys(profile.RSA_SIGNING_SCHEMES | profile.ECC_SIGNING_SCHEMES, _A | _SIGN)
_EXCHANGES = {alg: _A | _M | _SIGNING.get(alg, 0) for alg in profile.ECC_KEY_EXCHANGES}
ALGORITHMS: Final[dict[int, int]] = dict(sorted({
    **_EVERY_KIND, **_RSA_ENCRYPTION, **_SIGNING, **_EXCHANGES,
    **dict.fromkeys(profile.HASHES, _H), **dict.fromkeys(profile.SYMMETRIC, _S),
    **dict.fromkeys(profile.SYM_MODES, _S | _ENC), **dict.fromkeys(profile.MAC_SCHEMES, _S | _SIGN),
    **dict.fromkeys(profile.KDFS, _H | _M),
}.items()))
"""Every implemented algorithm with its TPMA_ALGORITHM, in ascending order."""

_CONTEXT_HEADER: Final = 8 + 4 + 4 + 2  # TPMS_CONTEXT without the octets of the blob
FIXED: Final[dict[int, int]] = {
    c.TPM_PT_FAMILY_INDICATOR: profile.SPEC_FAMILY,
    c.TPM_PT_LEVEL: profile.SPEC_LEVEL,
    c.TPM_PT_REVISION: profile.SPEC_VERSION,
    c.TPM_PT_ERRATA: profile.SPEC_ERRATA,
    c.TPM_PT_YEAR: profile.SPEC_YEAR,
    c.TPM_PT_MANUFACTURER: profile.MANUFACTURER,
    c.TPM_PT_VENDOR_STRING_1: profile.VENDOR_STRINGS[0],
    c.TPM_PT_VENDOR_STRING_2: profile.VENDOR_STRINGS[1],
    c.TPM_PT_VENDOR_STRING_3: profile.VENDOR_STRINGS[2],
    c.TPM_PT_VENDOR_STRING_4: profile.VENDOR_STRINGS[3],
    c.TPM_PT_VENDOR_TPM_TYPE: profile.VENDOR_TPM_TYPE,
    c.TPM_PT_FIRMWARE_VERSION_1: profile.FIRMWARE_VERSION_1,
    c.TPM_PT_FIRMWARE_VERSION_2: profile.FIRMWARE_VERSION_2,
    c.TPM_PT_INPUT_BUFFER: profile.MAX_DIGEST_BUFFER,
    c.TPM_PT_HR_TRANSIENT_MIN: profile.MAX_LOADED_OBJECTS,
    c.TPM_PT_HR_PERSISTENT_MIN: profile.MIN_EVICT_OBJECTS,
    c.TPM_PT_HR_LOADED_MIN: profile.MAX_LOADED_SESSIONS,
    c.TPM_PT_ACTIVE_SESSIONS_MAX: profile.MAX_ACTIVE_SESSIONS,
    c.TPM_PT_PCR_COUNT: profile.IMPLEMENTATION_PCR,
    c.TPM_PT_PCR_SELECT_MIN: profile.PCR_SELECT_MIN,
    c.TPM_PT_CONTEXT_GAP_MAX: profile.CONTEXT_GAP_MAX,
    c.TPM_PT_NV_COUNTERS_MAX: profile.NV_COUNTERS_MAX,
    c.TPM_PT_NV_INDEX_MAX: profile.MAX_NV_INDEX_SIZE,
    c.TPM_PT_MEMORY: profile.MEMORY_ATTRIBUTES,
    c.TPM_PT_CLOCK_UPDATE: profile.CLOCK_UPDATE_MS,
    c.TPM_PT_CONTEXT_HASH: profile.CONTEXT_INTEGRITY_HASH_ALG,
    c.TPM_PT_CONTEXT_SYM: profile.CONTEXT_ENCRYPT_ALG,
    c.TPM_PT_CONTEXT_SYM_SIZE: profile.CONTEXT_ENCRYPT_KEY_BITS,
    c.TPM_PT_ORDERLY_COUNT: profile.MAX_ORDERLY_COUNT,
    c.TPM_PT_MAX_COMMAND_SIZE: profile.MAX_COMMAND_SIZE,
    c.TPM_PT_MAX_RESPONSE_SIZE: profile.MAX_RESPONSE_SIZE,
    c.TPM_PT_MAX_DIGEST: profile.MAX_DIGEST_SIZE,
    c.TPM_PT_MAX_OBJECT_CONTEXT: _CONTEXT_HEADER + profile.MAX_CONTEXT_SIZE,
    c.TPM_PT_MAX_SESSION_CONTEXT: _CONTEXT_HEADER + profile.MAX_CONTEXT_SIZE,
    c.TPM_PT_PS_FAMILY_INDICATOR: profile.PS_FAMILY_INDICATOR,
    c.TPM_PT_PS_LEVEL: profile.PS_LEVEL,
    c.TPM_PT_PS_REVISION: profile.PS_REVISION,
    c.TPM_PT_PS_DAY_OF_YEAR: profile.PS_DAY_OF_YEAR,
    c.TPM_PT_PS_YEAR: profile.PS_YEAR,
    c.TPM_PT_SPLIT_MAX: profile.SPLIT_MAX,
    c.TPM_PT_NV_BUFFER_MAX: profile.MAX_NV_BUFFER_SIZE,
    c.TPM_PT_MODES: profile.MODES,
    c.TPM_PT_MAX_CAP_BUFFER: profile.MAX_CAP_BUFFER,
}
"""TPM_PT_FIXED except for the numbers of commands.

The properties of firmware SVN and ML parameter sets are absent, for this TPM has neither.
"""

_PERMANENT_HANDLES: Final = (TPM_RH_OWNER, TPM_RH_NULL, TPM_RS_PW, TPM_RH_LOCKOUT, TPM_RH_ENDORSEMENT,
                             TPM_RH_PLATFORM, TPM_RH_PLATFORM_NV)
_WITH_POLICY: Final = (TPM_RH_OWNER, TPM_RH_LOCKOUT, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM)
_IN_FAILURE_MODE: Final = range(c.TPM_PT_MANUFACTURER, c.TPM_PT_FIRMWARE_VERSION_2 + 1)
_SESSIONS: Final = (TPM_HT_LOADED_SESSION, TPM_HT_SAVED_SESSION)
_GROUP: Final = 0x100  # properties in a group (Part 2, 6.13)


@handles
def get_capability(tpm: Tpm, cmd: GetCapability) -> GetCapabilityResponse:
    """The values of the group from the property on are returned, and whether there are more.  Part 3, 30.2.

    TPM_RC_VALUE (parameter 1): no such group.  In failure mode, only some properties of the TPM are told.
    """
    # Input Validation
    if cmd.capability not in _GROUPS:
        raise TpmError(c.TPM_RC_VALUE).parameter(1)
    values_from, limit = _GROUPS[cmd.capability]
    if tpm.power.failed:
        values: Iterable[Any] = ()
        if cmd.capability == c.TPM_CAP_TPM_PROPERTIES:
            values = [TPMS_TAGGED_PROPERTY(p, FIXED[p]) for p in _IN_FAILURE_MODE if p >= cmd.property]
    else:
        values = values_from(tpm, cmd.property)
    # Command Output: the allocation of PCRs is always returned whole (Part 3, 30.2.1).
    found = list(values)
    count = len(found) if cmd.capability == c.TPM_CAP_PCRS else min(cmd.property_count, limit)
    return GetCapabilityResponse(int(len(found) > count), TPMS_CAPABILITY_DATA(cmd.capability, found[:count]))


@handles
def set_capability(tpm: Tpm, cmd: SetCapability) -> Empty:
    """Nothing can be set: the decoder of the request answers every capability.  Part 3, 30.4.

    TPM_RC_VALUE (parameter 1).
    """
    raise TpmError(c.TPM_RC_VALUE).parameter(1)


def find(tpm: Tpm, capability: int, prop: int) -> bytes | None:
    """Return the octets of one property in its structure (Part 3, Table 184), None if there is none."""
    if capability not in _GROUPS:
        return None
    try:
        values = list(_GROUPS[capability][0](tpm, prop))
    except TpmError:  # There cannot be such a property.
        return None
    if not values:
        return None
    width = 2 if capability in (c.TPM_CAP_ALGS, c.TPM_CAP_ECC_CURVES) else 4
    octets = values[0].to_bytes(width, "big") if isinstance(values[0], int) else encode(values[0])
    # Each structure begins with what names it.
    named = int.from_bytes(octets[:width], "big")
    if capability == c.TPM_CAP_COMMANDS:
        named &= TPMA_CC_COMMANDINDEX | TPMA_CC_V
    elif capability == c.TPM_CAP_HANDLES and prop >> HR_SHIFT in _SESSIONS:
        # HMAC and policy sessions share their numbers.
        named, prop = named & HR_HANDLE_MASK, prop & HR_HANDLE_MASK
    return octets if named == prop else None


@handles
def test_parms(tpm: Tpm, cmd: TestParms) -> Empty:
    """The TPM supports these parameters: the decoder of the request has seen to it.  Part 3, 30.3."""
    # Command Output
    return Empty()


# One function for each group: all values from a property on, in order.

def _algorithms(tpm: Tpm, first: int) -> Iterable[TPMS_ALG_PROPERTY]:
    return [TPMS_ALG_PROPERTY(alg, bits) for alg, bits in ALGORITHMS.items()
            if alg >= first and alg not in tpm.platform.left_out]


def _handles(tpm: Tpm, first: int) -> Iterable[int]:
    kind = first >> HR_SHIFT
    if kind == TPM_HT_LOADED_SESSION:
        # In the order of their numbers, which HMAC and policy sessions share.
        return [session.handle for index, session in sorted(tpm.sessions.loaded.items())
                if index >= first & HR_HANDLE_MASK]
    if kind == TPM_HT_SAVED_SESSION:
        saved = sorted(handle & HR_HANDLE_MASK for handle in tpm.sessions.saved)
        return [HMAC_SESSION_FIRST + index for index in saved if index >= first & HR_HANDLE_MASK]
    if kind == TPM_HT_PCR:
        return range(first, profile.IMPLEMENTATION_PCR)
    if kind == TPM_HT_NV_INDEX:
        found: Iterable[int] = tpm.nv.handles()
    elif kind == TPM_HT_PERMANENT:
        found = (*_PERMANENT_HANDLES, *tpm.timers.HANDLES)
    elif kind == TPM_HT_TRANSIENT:
        found = sorted(tpm.objects.transient)
    elif kind == TPM_HT_PERSISTENT:
        found = sorted(tpm.objects.persistent)
    elif kind == TPM_HT_AC:
        found = ()
    else:
        raise TpmError(c.TPM_RC_HANDLE).parameter(2)
    return [handle for handle in found if handle >= first]


def _commands(tpm: Tpm, first: int) -> Iterable[int]:
    # TPMA_CC has the vendor's last, as their codes are (Part 3, 30.2.1).
    table = COMMANDS | VENDOR_COMMANDS if tpm.parent is not None else COMMANDS
    return [tpma_cc(table[code].request) for code in sorted(table) if code >= first]


def _gated(tpm: Tpm, first: int) -> Iterable[int]:
    return [code for code in sorted(tpm.platform.gated) if code >= first]


def _audited(tpm: Tpm, first: int) -> Iterable[int]:
    return [code for code in sorted(tpm.audit.commands) if code >= first]


def _pcrs(tpm: Tpm, first: int) -> Iterable[Any]:
    if first:
        raise TpmError(c.TPM_RC_VALUE).parameter(2)
    return [pcr.selection(alg, mask) for alg, mask in tpm.pcrs.masks().items()]


def _tpm_properties(tpm: Tpm, first: int) -> Iterable[TPMS_TAGGED_PROPERTY]:
    first = max(first, c.TPM_PT_FAMILY_INDICATOR)
    if first // _GROUP == c.TPM_PT_FAMILY_INDICATOR // _GROUP:
        properties = dict(sorted((FIXED | _command_counts(tpm)).items()))
    elif first // _GROUP == c.TPM_PT_PERMANENT // _GROUP:
        properties = _variable(tpm)
    else:
        return ()
    return [TPMS_TAGGED_PROPERTY(p, value) for p, value in properties.items() if p >= first]


def _command_counts(tpm: Tpm) -> dict[int, int]:
    vendor = len(VENDOR_COMMANDS) if tpm.parent is not None else 0
    return {c.TPM_PT_TOTAL_COMMANDS: len(COMMANDS) + vendor, c.TPM_PT_LIBRARY_COMMANDS: len(COMMANDS),
            c.TPM_PT_VENDOR_COMMANDS: vendor}


def _variable(tpm: Tpm) -> dict[int, int]:
    sessions, objects, nv, lockout = tpm.sessions, tpm.objects, tpm.nv, tpm.lockout
    active = len(sessions.loaded) + len(sessions.saved)
    lockout.heal()
    return {
        c.TPM_PT_PERMANENT: _permanent_attributes(tpm),
        c.TPM_PT_STARTUP_CLEAR: _startup_attributes(tpm),
        c.TPM_PT_HR_NV_INDEX: len(nv.handles()),
        c.TPM_PT_HR_LOADED: len(sessions.loaded),
        c.TPM_PT_HR_LOADED_AVAIL: profile.MAX_LOADED_SESSIONS - len(sessions.loaded),
        c.TPM_PT_HR_ACTIVE: active,
        c.TPM_PT_HR_ACTIVE_AVAIL: profile.MAX_ACTIVE_SESSIONS - active,
        c.TPM_PT_HR_TRANSIENT_AVAIL: profile.MAX_LOADED_OBJECTS - len(objects.transient),
        c.TPM_PT_HR_PERSISTENT: len(objects.persistent),
        c.TPM_PT_HR_PERSISTENT_AVAIL: profile.MAX_EVICT_OBJECTS - len(objects.persistent),
        c.TPM_PT_NV_COUNTERS: nv.counters,
        c.TPM_PT_NV_COUNTERS_AVAIL: nv.counters_available,
        c.TPM_PT_ALGORITHM_SET: tpm.platform.algorithm_set,
        c.TPM_PT_LOADED_CURVES: len(profile.ECC_CURVES),
        c.TPM_PT_LOCKOUT_COUNTER: lockout.failed_tries,
        c.TPM_PT_MAX_AUTH_FAIL: lockout.max_tries,
        c.TPM_PT_LOCKOUT_INTERVAL: lockout.recovery_time,
        c.TPM_PT_LOCKOUT_RECOVERY: lockout.lockout_recovery,
        c.TPM_PT_NV_WRITE_RECOVERY: 0,
        c.TPM_PT_AUDIT_COUNTER_0: tpm.audit.counter >> 32,
        c.TPM_PT_AUDIT_COUNTER_1: tpm.audit.counter & 0xFFFFFFFF,
    }


def _permanent_attributes(tpm: Tpm) -> int:
    """Return TPMA_PERMANENT (Part 2, 8.6)."""
    hierarchies = tpm.hierarchies
    bits = TPMA_PERMANENT_TPMGENERATEDEPS
    for handle, bit in ((TPM_RH_OWNER, TPMA_PERMANENT_OWNERAUTHSET),
                        (TPM_RH_ENDORSEMENT, TPMA_PERMANENT_ENDORSEMENTAUTHSET),
                        (TPM_RH_LOCKOUT, TPMA_PERMANENT_LOCKOUTAUTHSET)):
        if hierarchies.auth(handle):
            bits |= bit
    if hierarchies.disable_clear:
        bits |= TPMA_PERMANENT_DISABLECLEAR
    if tpm.lockout.in_lockout():
        bits |= TPMA_PERMANENT_INLOCKOUT
    return bits


def _startup_attributes(tpm: Tpm) -> int:
    """Return TPMA_STARTUP_CLEAR (Part 2, 8.7)."""
    hierarchies = tpm.hierarchies
    bits = 0
    for handle, bit in ((TPM_RH_PLATFORM, TPMA_STARTUP_CLEAR_PHENABLE),
                        (TPM_RH_OWNER, TPMA_STARTUP_CLEAR_SHENABLE),
                        (TPM_RH_ENDORSEMENT, TPMA_STARTUP_CLEAR_EHENABLE)):
        if hierarchies.enabled(handle):
            bits |= bit
    if hierarchies.ph_enable_nv:
        bits |= TPMA_STARTUP_CLEAR_PHENABLENV
    if tpm.platform.read_only:
        bits |= TPMA_STARTUP_CLEAR_READONLY
    if tpm.power.was_orderly:
        bits |= TPMA_STARTUP_CLEAR_ORDERLY
    return bits


def _pcr_properties(tpm: Tpm, first: int) -> Iterable[TPMS_TAGGED_PCR_SELECT]:
    return [TPMS_TAGGED_PCR_SELECT(tag, pcr.selection(0, _mask(has)).pcr_select)
            for tag, has in _PCR_PROPERTIES.items() if tag >= first]


def _mask(has: Callable[[pcr.Attributes], bool]) -> int:
    return sum(1 << index for index, attributes in enumerate(pcr.ATTRIBUTES) if has(attributes))


def _extendable(locality: int) -> Callable[[pcr.Attributes], bool]:
    return lambda attributes: bool(attributes.extend >> locality & 1)


def _resettable(locality: int) -> Callable[[pcr.Attributes], bool]:
    return lambda attributes: bool(attributes.reset >> locality & 1)


_PCR_PROPERTIES: Final[dict[int, Callable[[pcr.Attributes], bool]]] = {
    c.TPM_PT_PCR_SAVE: lambda a: a.saved,
    c.TPM_PT_PCR_EXTEND_L0: _extendable(0),
    c.TPM_PT_PCR_RESET_L0: _resettable(0),
    c.TPM_PT_PCR_EXTEND_L1: _extendable(1),
    c.TPM_PT_PCR_RESET_L1: _resettable(1),
    c.TPM_PT_PCR_EXTEND_L2: _extendable(2),
    c.TPM_PT_PCR_RESET_L2: _resettable(2),
    c.TPM_PT_PCR_EXTEND_L3: _extendable(3),
    c.TPM_PT_PCR_RESET_L3: _resettable(3),
    c.TPM_PT_PCR_EXTEND_L4: _extendable(4),
    c.TPM_PT_PCR_RESET_L4: _resettable(4),
    c.TPM_PT_PCR_NO_INCREMENT: lambda a: not a.counted,
    c.TPM_PT_PCR_DRTM_RESET: lambda a: a.dynamic,
    c.TPM_PT_PCR_POLICY: lambda a: a.grouped,
    c.TPM_PT_PCR_AUTH: lambda a: a.grouped,
}


def _curves(tpm: Tpm, first: int) -> Iterable[int]:
    return [curve for curve in sorted(profile.ECC_CURVES) if curve >= first]


def _policies(tpm: Tpm, first: int) -> Iterable[TPMS_TAGGED_POLICY]:
    if first >> HR_SHIFT != TPM_HT_PERMANENT:
        raise TpmError(c.TPM_RC_VALUE).parameter(2)
    return [TPMS_TAGGED_POLICY(handle, TPMT_HA(*entity.policy(tpm, handle)))
            for handle in (*_WITH_POLICY, *tpm.timers.HANDLES) if handle >= first]


def _timers(tpm: Tpm, first: int) -> Iterable[TPMS_ACT_DATA]:
    if not TPM_RH_ACT_0 <= first <= TPM_RH_ACT_F:
        raise TpmError(c.TPM_RC_VALUE).parameter(2)
    return [tpm.timers.data(handle) for handle in tpm.timers.HANDLES if handle >= first]


_GROUPS: Final[dict[int, tuple[Callable[[Tpm, int], Iterable[Any]], int]]] = {
    c.TPM_CAP_ALGS: (_algorithms, profile.MAX_CAP_ALGS),
    c.TPM_CAP_HANDLES: (_handles, profile.MAX_CAP_HANDLES),
    c.TPM_CAP_COMMANDS: (_commands, profile.MAX_CAP_CC),
    c.TPM_CAP_PP_COMMANDS: (_gated, profile.MAX_CAP_CC),
    c.TPM_CAP_AUDIT_COMMANDS: (_audited, profile.MAX_CAP_CC),
    c.TPM_CAP_PCRS: (_pcrs, profile.HASH_COUNT),
    c.TPM_CAP_TPM_PROPERTIES: (_tpm_properties, profile.MAX_TPM_PROPERTIES),
    c.TPM_CAP_PCR_PROPERTIES: (_pcr_properties, profile.MAX_PCR_PROPERTIES),
    c.TPM_CAP_ECC_CURVES: (_curves, profile.MAX_ECC_CURVES),
    c.TPM_CAP_AUTH_POLICIES: (_policies, profile.MAX_TAGGED_POLICIES),
    c.TPM_CAP_ACT: (_timers, profile.MAX_ACT_DATA),
}
"""The function and the most values at once of each group.

Absent are the keys and sessions of a secure channel and vendor properties, for this TPM has neither.
"""
