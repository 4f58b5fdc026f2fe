"""What authorization asks of an entity: its Name, authValue, policy and dictionary-attack protection.

An entity is whatever a handle of the handle area names (Part 1, "TPM Control Domains" to "PCR"): a hierarchy,
a PCR, a loaded or persistent object, an NV Index or a session.  `present` decides first whether it is there
(Part 3, 5.4); the other functions take a handle that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwtpm.errors import TpmError
from hwtpm.tpm2.state.pcr import ATTRIBUTES
from hwtpm.tpm2.types.attributes import (
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_NO_DA,
    TPMA_NV_PLATFORMCREATE,
    TPMA_NV_POLICYREAD,
    TPMA_NV_POLICYWRITE,
    TPMA_OBJECT_ADMINWITHPOLICY,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_RC_HANDLE,
    TPM_RC_HIERARCHY,
    TPM_RC_PP,
    TPM_RC_REFERENCE_H0,
    TPM_RC_VALUE,
    TPM_SE_HMAC,
    TPM_CC_NV_Extend,
    TPM_CC_NV_Increment,
    TPM_CC_NV_SetBits,
    TPM_CC_NV_Write,
    TPM_CC_NV_WriteLock,
)
from hwtpm.tpm2.types.handles import (
    PLATFORM_PERSISTENT,
    TPM_HT_AC,
    TPM_HT_HMAC_SESSION,
    TPM_HT_NV_INDEX,
    TPM_HT_PCR,
    TPM_HT_PERMANENT,
    TPM_HT_PERSISTENT,
    TPM_HT_POLICY_SESSION,
    TPM_HT_TRANSIENT,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
    TPM_RS_PW,
)

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Tpm
    from hwtpm.tpm2.state.objects import Object
    from hwtpm.tpm2.state.sequences import AnySequence

_HIERARCHIES = (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM)
_NOT_CHECKED = (TPM_HT_PCR, TPM_HT_AC)
_OBJECTS = (TPM_HT_TRANSIENT, TPM_HT_PERSISTENT)
_SESSIONS = (TPM_HT_HMAC_SESSION, TPM_HT_POLICY_SESSION)
_ALWAYS_PRESENT = (TPM_RH_NULL, TPM_RH_LOCKOUT, TPM_RS_PW)
_NV_WRITES = frozenset({
    TPM_CC_NV_Write, TPM_CC_NV_Increment, TPM_CC_NV_Extend, TPM_CC_NV_SetBits, TPM_CC_NV_WriteLock,
})


def present(tpm: Tpm, handle: int, number: int) -> None:
    """Return if the entity is there and enabled, else raise what Part 3, 5.4 asks for.

    *number* is that of the handle in its area, from 1.  Raises TPM_RC_REFERENCE_Hx for a transient object or
    session that is not loaded, TPM_RC_HIERARCHY for a disabled hierarchy, and TPM_RC_HANDLE for a persistent
    object or NV Index that is not there or whose hierarchy is disabled: that of its handle, and for an object
    that of its primary as well.
    """
    kind = handle >> 24
    if kind in _NOT_CHECKED:
        return  # An attached component that is not there is for its commands to answer.
    if kind == TPM_HT_PERMANENT:
        if handle in _HIERARCHIES:
            if not tpm.hierarchies.enabled(handle):
                raise TpmError(TPM_RC_HIERARCHY).handle(number)
        elif handle not in _ALWAYS_PRESENT and handle not in tpm.timers.HANDLES:
            raise TpmError(TPM_RC_VALUE).handle(number)
        return
    try:
        if kind == TPM_HT_TRANSIENT:
            tpm.objects.get(handle)
        elif kind == TPM_HT_PERSISTENT:
            # The handle says whether the platform or the owner made room for it, whatever it hangs from.
            keeper = TPM_RH_PLATFORM if handle >= PLATFORM_PERSISTENT else TPM_RH_OWNER
            needed = keeper, tpm.objects.persistent[handle].hierarchy
            if not all([tpm.hierarchies.enabled(hierarchy) for hierarchy in needed]):
                raise TpmError(TPM_RC_HANDLE).handle(number)
        elif kind in _SESSIONS:
            if (tpm.sessions.get(handle).kind == TPM_SE_HMAC) != (kind == TPM_HT_HMAC_SESSION):
                raise TpmError(TPM_RC_HANDLE).handle(number)
        elif kind == TPM_HT_NV_INDEX:
            platform = tpm.nv.get(handle).public.attributes & TPMA_NV_PLATFORMCREATE
            if not (tpm.hierarchies.ph_enable_nv if platform else tpm.hierarchies.enabled(TPM_RH_OWNER)):
                raise TpmError(TPM_RC_HANDLE).handle(number)
        else:
            raise TpmError(TPM_RC_VALUE).handle(number)
    except KeyError:
        if kind in (TPM_HT_NV_INDEX, TPM_HT_PERSISTENT):
            raise TpmError(TPM_RC_HANDLE).handle(number) from None
        raise TpmError(TPM_RC_REFERENCE_H0 + number - 1) from None


def check_presence(tpm: Tpm, handle: int, code: int) -> None:
    """Raise TPM_RC_PP if the platform has to be there to authorize the command *code* and is not."""
    if handle == TPM_RH_PLATFORM and code in tpm.platform.gated and not tpm.physical_presence:
        raise TpmError(TPM_RC_PP)


def name(tpm: Tpm, handle: int) -> bytes:
    """Return the Name: nameAlg and digest of an object or Index, else the handle itself (Part 1, 14)."""
    kind = handle >> 24
    if kind in _OBJECTS:
        return tpm.objects.get(handle).name
    if kind == TPM_HT_NV_INDEX:
        return tpm.nv.get(handle).name
    return handle.to_bytes(4, "big")


def auth_value(tpm: Tpm, handle: int) -> bytes:
    """Return the authValue without trailing zeros; empty for an entity that has gone or has none."""
    kind = handle >> 24
    try:
        if kind in _OBJECTS:
            return tpm.objects.get(handle).auth_value
        if kind == TPM_HT_NV_INDEX:
            return tpm.nv.get(handle).auth_value
    except KeyError:
        return b""
    if kind == TPM_HT_PCR:
        return tpm.pcrs.auth(handle)
    if handle == TPM_RH_NULL:
        return b""
    if handle in tpm.timers.HANDLES:
        handle = TPM_RH_PLATFORM
    return tpm.hierarchies.auth(handle)


def policy(tpm: Tpm, handle: int) -> tuple[int, bytes]:
    """Return the policy's hash algorithm and digest; (TPM_ALG_NULL, empty) if there is none."""
    kind = handle >> 24
    if kind in _OBJECTS:
        obj = tpm.objects.get(handle)
        if obj.is_sequence:
            return TPM_ALG_NULL, b""
        public = _object(obj).public
        return public.name_alg, public.auth_policy
    if kind == TPM_HT_NV_INDEX:
        index = tpm.nv.get(handle).public
        return index.name_alg, index.auth_policy
    if kind == TPM_HT_PCR:
        return tpm.pcrs.policy(handle)
    if handle in tpm.timers.HANDLES:
        return tpm.timers.policy(handle)
    return tpm.hierarchies.policy(handle)


def da_protected(tpm: Tpm, handle: int) -> bool:
    """Tell whether failed authorizations of the entity count (Part 1, "Dictionary Attack Protection")."""
    kind = handle >> 24
    if kind in _OBJECTS:
        obj = tpm.objects.get(handle)
        return not (obj.is_sequence or _object(obj).public.object_attributes & TPMA_OBJECT_NODA)
    if kind == TPM_HT_NV_INDEX:
        return not tpm.nv.get(handle).public.attributes & TPMA_NV_NO_DA
    return handle == TPM_RH_LOCKOUT


def bound(tpm: Tpm, handle: int) -> bytes:
    """Return what a session keeps of the entity it is bound to (Part 1, "Bound Sessions").

    The Name, padded, with the authValue XORed in from the end: it changes when either does.
    """
    entity, auth = name(tpm, handle), auth_value(tpm, handle)
    width = max(len(entity) + len(auth), 132)
    padded = bytearray(entity.ljust(width, b"\0"))
    for i, octet in enumerate(reversed(auth)):
        padded[width - 1 - i] ^= octet
    return bytes(padded)


def needs_policy(tpm: Tpm, handle: int, role: str) -> bool:
    """Tell whether only a policy session can authorize *role* (Part 1, "Authorization Roles")."""
    kind = handle >> 24
    if role == "DUP":
        return True
    if role == "ADMIN":
        if kind in _OBJECTS:
            obj = tpm.objects.get(handle)
            return bool(not obj.is_sequence
                        and _object(obj).public.object_attributes & TPMA_OBJECT_ADMINWITHPOLICY)
        return True
    return kind == TPM_HT_PCR and tpm.pcrs.policy(handle)[0] != TPM_ALG_NULL


def auth_value_usable(tpm: Tpm, handle: int, role: str, code: int) -> bool:
    """Tell whether a password or HMAC session may authorize *role* of the entity in command *code*."""
    kind = handle >> 24
    if kind in _OBJECTS:
        found = tpm.objects.get(handle)
        if found.is_sequence:
            return True
        obj = _object(found)
        if obj.sensitive is None:
            return False
        attributes = obj.public.object_attributes
        if attributes & TPMA_OBJECT_USERWITHAUTH:
            return True
        return role == "ADMIN" and not attributes & TPMA_OBJECT_ADMINWITHPOLICY
    if kind == TPM_HT_NV_INDEX:
        wanted = TPMA_NV_AUTHWRITE if code in _NV_WRITES else TPMA_NV_AUTHREAD
        return tpm.nv.get(handle).auth_usable(wanted)
    # The authValue of a timer is that of the platform (Part 1, 40.2).
    return handle not in tpm.timers.HANDLES or tpm.hierarchies.enabled(TPM_RH_PLATFORM)


def policy_usable(tpm: Tpm, handle: int, role: str, code: int) -> bool:
    """Tell whether a policy session may authorize *role* of the entity in command *code*."""
    kind = handle >> 24
    if kind in _OBJECTS:
        obj = tpm.objects.get(handle)
        return not obj.is_sequence and _object(obj).sensitive is not None
    if kind == TPM_HT_NV_INDEX:
        index = tpm.nv.get(handle).public
        if not index.auth_policy:
            return False
        wanted = TPMA_NV_POLICYWRITE if code in _NV_WRITES else TPMA_NV_POLICYREAD
        return needs_policy(tpm, handle, role) or bool(index.attributes & wanted)
    if kind == TPM_HT_PCR:
        return ATTRIBUTES[handle].grouped
    return bool(policy(tpm, handle)[1])


def _object(found: Object | AnySequence) -> Object:
    """Narrow a found object that is known not to be a sequence."""
    return found  # type: ignore[return-value]
