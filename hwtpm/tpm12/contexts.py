"""Resources that can leave the TPM, and the blobs they leave as (Part 1, 20; Part 3, 21.2 and 21.3)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from hmac import digest as hmac
from typing import Final, NamedTuple

from hwtpm.crypto import ids, symmetric
from hwtpm.crypto.errors import OutOfRange
from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.state.daa import DaaSession
from hwtpm.tpm12.state.handles import chosen_handle
from hwtpm.tpm12.state.keys import KeyEntry
from hwtpm.tpm12.state.sessions import AuthSession
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_BAD_HANDLE,
    TPM_BAD_PARAMETER,
    TPM_BADCONTEXT,
    TPM_INVALID_RESOURCE,
    TPM_KEY_OWNER_CONTROL,
    TPM_NOSRK,
    TPM_OWNER_CONTROL,
    TPM_RESOURCEMISSING,
    TPM_WRONG_ENTITYTYPE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_COUNTER,
    TPM_ET_KEYHANDLE,
    TPM_ET_NV,
    TPM_ET_OWNER,
    TPM_ET_SRK,
    TPM_ISVOLATILE,
    TPM_KH_SRK,
    TPM_PID_OIAP,
    TPM_RT_AUTH,
    TPM_RT_DAA_TPM,
    TPM_RT_KEY,
    TPM_RT_TRANS,
)
from hwtpm.tpm12.types.context import TPM_CONTEXT_BLOB, TPM_CONTEXT_SENSITIVE
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_INTERNAL
from hwtpm.wire import decode, encode

ANY_ENTITY: Final = -1
"""In place of an entity's handle, for TPM_LoadAuthContext, which does not name one; never a UINT32."""
_NO_LABEL: Final = bytes(16)


class Resource(NamedTuple):
    """What is done with resources of one type.

    *export* gives the octets of a loaded one (TpmError if there is none); *check* raises TpmError unless
    those octets can be loaded, given the entity that the caller names; *load* loads them under that handle
    or, unless the handle has to be kept, another one, which it returns; *flush* ends a loaded one, TpmError
    if there is none.
    """

    export: Callable[[Tpm, int], bytes]
    check: Callable[[Tpm, bytes, int], None]
    load: Callable[[Tpm, bytes, int, bool], int]
    flush: Callable[[Tpm, int], None]


def _export_key(tpm: Tpm, handle: int) -> bytes:
    return encode(KeyEntry.of(tpm.keys.get(handle)))


def _check_key(tpm: Tpm, octets: bytes, entity_handle: int) -> None:
    tpm.keys.require_space()


def _load_key(tpm: Tpm, octets: bytes, handle: int, keep: bool) -> int:
    entry = decode(KeyEntry, octets)
    chosen = chosen_handle(tpm.random, tpm.keys.loaded, handle, keep=keep)
    return tpm.keys.add(entry.key.key(), bool(entry.parent_pcr_status), chosen).handle


def flush_key(tpm: Tpm, handle: int) -> None:
    """The key is not loaded any more, and no session is bound to it."""
    entry = tpm.keys.get(handle)
    if entry.owner_evict:
        raise TpmError(TPM_KEY_OWNER_CONTROL)
    tpm.sessions.close_bound(TPM_ET_KEYHANDLE, entry.key.pub_data_digest)
    tpm.keys.evict(handle)


def _export_session(tpm: Tpm, handle: int) -> bytes:
    return encode(tpm.sessions.get(handle))


def _check_session(tpm: Tpm, octets: bytes, entity_handle: int) -> None:
    """The entity that the session is bound to is there, and is the one that the caller names."""
    tpm.sessions.require_space()
    session = decode(AuthSession, octets)
    if session.protocol == TPM_PID_OIAP:
        return
    if _entity_digest(tpm, session, entity_handle) != session.entity_digest:
        raise TpmError(TPM_RESOURCEMISSING)


def _entity_digest(tpm: Tpm, session: AuthSession, entity_handle: int) -> bytes:
    kind, permanent = session.entity_type, tpm.permanent
    if entity_handle == ANY_ENTITY:
        return _digest_somewhere(tpm, session)
    if kind == TPM_ET_KEYHANDLE and entity_handle != TPM_KH_SRK:
        entry = tpm.keys.loaded.get(entity_handle)
        if entry is None:
            raise TpmError(TPM_BAD_HANDLE)
        return entry.key.pub_data_digest
    if kind in (TPM_ET_KEYHANDLE, TPM_ET_SRK):
        if permanent.srk is None:
            raise TpmError(TPM_NOSRK if kind == TPM_ET_KEYHANDLE else TPM_RESOURCEMISSING)
        return permanent.srk.pub_data_digest
    if kind == TPM_ET_OWNER:
        if not permanent.owner_installed:
            raise TpmError(TPM_RESOURCEMISSING)
        return permanent.owner_auth
    if kind == TPM_ET_COUNTER:
        return tpm.counters.get(entity_handle).digest
    if kind == TPM_ET_NV:
        return tpm.nv.get(entity_handle).digest
    raise TpmError(TPM_WRONG_ENTITYTYPE)


def _digest_somewhere(tpm: Tpm, session: AuthSession) -> bytes:
    """Return the digest that the session is bound to if any entity has it, else nothing."""
    owned = [key.pub_data_digest for key in (tpm.permanent.srk,) if key is not None]
    found = [entry.key.pub_data_digest for entry in tpm.keys.loaded.values()] + owned
    found += [tpm.permanent.owner_auth] if tpm.permanent.owner_installed else []
    found += [tpm.counters.get(number).digest for number in tpm.counters.created]
    found += [area.digest for area in tpm.nv.areas.values()]
    return session.entity_digest if session.entity_digest in found else b""


def _load_session(tpm: Tpm, octets: bytes, handle: int, keep: bool) -> int:
    session = decode(AuthSession, octets)
    session.handle = chosen_handle(tpm.random, tpm.sessions.open, handle, keep=keep)
    tpm.sessions.open[session.handle] = session
    return session.handle


def _flush_session(tpm: Tpm, handle: int) -> None:
    tpm.sessions.get(handle)
    tpm.sessions.close(handle)


def _export_transport(tpm: Tpm, handle: int) -> bytes:
    return encode(tpm.transports.get(handle))


def _check_transport(tpm: Tpm, octets: bytes, entity_handle: int) -> None:
    tpm.transports.require_space()


def _load_transport(tpm: Tpm, octets: bytes, handle: int, keep: bool) -> int:
    session = decode(TPM_TRANSPORT_INTERNAL, octets)
    session.trans_handle = chosen_handle(tpm.random, tpm.transports.open, handle, keep=keep)
    tpm.transports.open[session.trans_handle] = session
    return session.trans_handle


def _flush_transport(tpm: Tpm, handle: int) -> None:
    tpm.transports.get(handle)
    tpm.transports.close(handle)


def _export_daa(tpm: Tpm, handle: int) -> bytes:
    return encode(tpm.daa.get(handle))


def _check_daa(tpm: Tpm, octets: bytes, entity_handle: int) -> None:
    tpm.daa.require_space()


def _load_daa(tpm: Tpm, octets: bytes, handle: int, keep: bool) -> int:
    session = decode(DaaSession, octets)
    session.handle = chosen_handle(tpm.random, tpm.daa.open, handle, keep=keep)
    tpm.daa.add(session)
    return session.handle


def _flush_daa(tpm: Tpm, handle: int) -> None:
    tpm.daa.get(handle)
    tpm.daa.close(handle)


RESOURCES: Final = {
    TPM_RT_KEY: Resource(_export_key, _check_key, _load_key, flush_key),
    TPM_RT_AUTH: Resource(_export_session, _check_session, _load_session, _flush_session),
    TPM_RT_TRANS: Resource(_export_transport, _check_transport, _load_transport, _flush_transport),
    TPM_RT_DAA_TPM: Resource(_export_daa, _check_daa, _load_daa, _flush_daa),
}


def save(tpm: Tpm, resource_type: int, handle: int, label: bytes = _NO_LABEL) -> bytes:
    """Return the resource as a blob; a session is not loaded any more.

    TPM_INVALID_RESOURCE for a type that cannot be saved or a handle without a resource, TPM_OWNER_CONTROL for
    a key under the owner's control, and what `Contexts.register` raises.
    """
    resource = RESOURCES.get(resource_type)
    if resource is None:
        raise TpmError(TPM_INVALID_RESOURCE)
    try:
        internal = resource.export(tpm, handle)
    except TpmError:
        raise TpmError(TPM_INVALID_RESOURCE) from None
    if resource_type == TPM_RT_KEY:
        if tpm.keys.get(handle).owner_evict:
            raise TpmError(TPM_OWNER_CONTROL)
        nonce, count = tpm.contexts.nonce_for_key(), 0
    else:
        nonce, count = tpm.contexts.nonce_for_session(), tpm.contexts.register()
        resource.flush(tpm, handle)
    plain = encode(TPM_CONTEXT_SENSITIVE(nonce, internal))
    counter = tpm.random(16)
    blob = TPM_CONTEXT_BLOB(resource_type, handle, label, count, ZERO_DIGEST, counter, plain)
    blob.integrity_digest = hmac(tpm.permanent.tpm_proof, encode(blob), "sha1")
    blob.sensitive_data = _crypt(tpm, counter, plain)
    return encode(blob)


def _crypt(tpm: Tpm, counter: bytes, octets: bytes) -> bytes:
    try:
        return symmetric.encrypt(ids.AES, ids.CTR, tpm.permanent.context_key, counter, octets)[0]
    except OutOfRange:
        raise TpmError(TPM_BADCONTEXT) from None


def load(tpm: Tpm, octets: bytes, entity_handle: int, *, keep: bool, only: int | None = None,
         this_start: bool = False) -> int:
    """Return the handle of the resource in a blob that `save` gave, loaded again.

    TPM_BADCONTEXT for a blob that this TPM did not save, or that counts no more; a session can be loaded
    once, a key again and again.  With *only*, another type is TPM_BAD_PARAMETER.  Keys that are volatile or
    depend on PCRs through a parent, and with *this_start* all keys, have to be saved since the last
    TPM_Startup(ST_CLEAR).
    """
    blob = decode(TPM_CONTEXT_BLOB, octets)
    if only is not None and blob.resource_type != only:
        raise TpmError(TPM_BAD_PARAMETER)
    resource = RESOURCES.get(blob.resource_type)
    if resource is None:
        raise TpmError(TPM_INVALID_RESOURCE)
    told = blob.integrity_digest
    blob.integrity_digest = ZERO_DIGEST
    blob.sensitive_data = _crypt(tpm, blob.additional_data, blob.sensitive_data)
    if not compare_digest(hmac(tpm.permanent.tpm_proof, encode(blob), "sha1"), told):
        raise TpmError(TPM_BADCONTEXT)
    content = decode(TPM_CONTEXT_SENSITIVE, blob.sensitive_data)
    if blob.resource_type == TPM_RT_KEY:
        entry = decode(KeyEntry, content.internal_data)
        bound = entry.parent_pcr_status or entry.key.public.key_flags & TPM_ISVOLATILE
        if (this_start or bound) and content.context_nonce != tpm.contexts.nonce_for_key():
            raise TpmError(TPM_BADCONTEXT)
    else:
        if content.context_nonce != tpm.contexts.nonce_for_session():
            raise TpmError(TPM_BADCONTEXT)
        tpm.contexts.require(blob.context_count)
    resource.check(tpm, content.internal_data, entity_handle)
    try:
        handle = resource.load(tpm, content.internal_data, blob.handle, keep)
    except ValueError:
        raise TpmError(TPM_BADCONTEXT) from None
    if blob.resource_type != TPM_RT_KEY:
        tpm.contexts.forget(blob.context_count)
    return handle
