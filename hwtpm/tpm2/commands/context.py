"""Context management (Part 3, 28; Part 1, 27).

The blob is the integrity HMAC as a TPM2B_DIGEST and the encrypted context: the sequence number again, then
the encoded object, sequence object or session.
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import Final

from hwtpm.crypto import hashes, kdf, symmetric
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import (
    CONTEXT_ENCRYPT_ALG,
    CONTEXT_ENCRYPT_KEY_BYTES,
    CONTEXT_INTEGRITY_HASH_ALG,
    CONTEXT_INTEGRITY_HASH_SIZE,
)
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.context import (
    ContextLoad,
    ContextLoadResponse,
    ContextSave,
    ContextSaveResponse,
    FlushContext,
)
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.state.sequences import decode_sequence
from hwtpm.tpm2.state.sessions import Session
from hwtpm.tpm2.types.constants import (
    TPM_RC_FAILURE,
    TPM_RC_HANDLE,
    TPM_RC_HIERARCHY,
    TPM_RC_INTEGRITY,
    TPM_RC_SIZE,
)
from hwtpm.tpm2.types.context import TPMS_CONTEXT
from hwtpm.tpm2.types.handles import TPM_HT_TRANSIENT, TPM_RH_NULL
from hwtpm.wire import decode, encode

# What the saved handle of a transient object says (Part 2, 14.5; Table 58).
_ORDINARY: Final = 0x80000000
_SEQUENCE: Final = 0x80000001
_ST_CLEAR: Final = 0x80000002

_U32, _U64 = Struct(">I").pack, Struct(">Q").pack
_INTEGRITY: Final = 2 + CONTEXT_INTEGRITY_HASH_SIZE
_KEY_BITS: Final = (CONTEXT_ENCRYPT_KEY_BYTES + symmetric.BLOCK) * 8


@handles
def context_save(tpm: Tpm, cmd: ContextSave) -> ContextSaveResponse:
    """The protected context is returned; a session is not loaded any more, an object still is.  Part 3, 28.2.

    TPM_RC_CONTEXT_GAP: the oldest saved session has to be loaded and saved first.
    """
    # Internal Data Update
    if cmd.save_handle >> 24 == TPM_HT_TRANSIENT:
        found = tpm.objects.get(cmd.save_handle)
        number, hierarchy = tpm.sessions.number_object_context(), found.hierarchy
        octets = found.encode()
        handle = (_ST_CLEAR if found.st_clear else _ORDINARY) if isinstance(found, Object) else _SEQUENCE
    else:
        session = tpm.sessions.get(cmd.save_handle)
        octets, handle, hierarchy = encode(session), session.handle, TPM_RH_NULL
        number = tpm.sessions.park(handle)

    # Command Output
    context = TPMS_CONTEXT(number, handle, hierarchy, b"")
    key, iv = _cipher(tpm, context)
    sealed = symmetric.cfb_encrypt(CONTEXT_ENCRYPT_ALG, key, iv, _U64(number) + octets)
    integrity = _integrity(tpm, context, sealed)
    context.context_blob = len(integrity).to_bytes(2, "big") + integrity + sealed
    return ContextSaveResponse(context)


@handles
def context_load(tpm: Tpm, cmd: ContextLoad) -> ContextLoadResponse:
    """The saved object, sequence object or session is loaded.  Part 3, 28.3.

    TPM_RC_SIZE (parameter 1): the blob is too short.  TPM_RC_INTEGRITY (parameter 1): not saved by this TPM,
    since the last TPM Reset (or Restart, with stClear), under the present proof of the hierarchy.
    TPM_RC_HIERARCHY (parameter 1): the hierarchy is disabled.  TPM_RC_HANDLE (parameter 1): the session is
    not the one that was saved last under its handle.  TPM_RC_OBJECT_MEMORY, TPM_RC_SESSION_MEMORY,
    TPM_RC_CONTEXT_GAP: no room.
    """
    # Input Validation
    context = cmd.context
    integrity, sealed = context.context_blob[2:_INTEGRITY], context.context_blob[_INTEGRITY:]
    size = int.from_bytes(context.context_blob[:2], "big")
    if size != CONTEXT_INTEGRITY_HASH_SIZE or len(sealed) < 8:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    if not compare_digest(integrity, _integrity(tpm, context, sealed)):
        raise TpmError(TPM_RC_INTEGRITY).parameter(1)
    key, iv = _cipher(tpm, context)
    octets = symmetric.cfb_decrypt(CONTEXT_ENCRYPT_ALG, key, iv, sealed)
    if octets[:8] != _U64(context.sequence):
        # A sign of power analysis, for the integrity says that this TPM wrote it (Part 1, 27.3.1).
        tpm.power.failed = True
        raise TpmError(TPM_RC_FAILURE)

    # Internal Data Update
    handle = context.saved_handle
    if handle >> 24 != TPM_HT_TRANSIENT:
        session = decode(Session, octets[8:])
        if tpm.sessions.saved.get(handle) != context.sequence:
            raise TpmError(TPM_RC_HANDLE).parameter(1)
        tpm.sessions.unpark(session)
    else:
        if not tpm.hierarchies.enabled(context.hierarchy):
            raise TpmError(TPM_RC_HIERARCHY).parameter(1)
        make = decode_sequence if handle == _SEQUENCE else Object.decode
        handle = tpm.objects.add(make(octets[8:]))

    # Command Output
    return ContextLoadResponse(handle)


@handles
def flush_context(tpm: Tpm, cmd: FlushContext) -> Empty:
    """The transient object, sequence object or session, loaded or saved, is gone.  Part 3, 28.4.

    TPM_RC_HANDLE (parameter 1): there is no such one.
    """
    # Internal Data Update
    owner = tpm.objects if cmd.flush_handle >> 24 == TPM_HT_TRANSIENT else tpm.sessions
    try:
        owner.flush(cmd.flush_handle)
    except KeyError:
        raise TpmError(TPM_RC_HANDLE).parameter(1) from None
    # Command Output
    return Empty()


def _cipher(tpm: Tpm, context: TPMS_CONTEXT) -> tuple[bytes, bytes]:
    """Return the key and the IV of a context (Part 1, 27.3.1)."""
    material = kdf.kdfa(CONTEXT_INTEGRITY_HASH_ALG, tpm.hierarchies.proof(context.hierarchy), b"CONTEXT",
                        _U64(context.sequence), _U32(context.saved_handle), _KEY_BITS)
    return material[:CONTEXT_ENCRYPT_KEY_BYTES], material[CONTEXT_ENCRYPT_KEY_BYTES:]


def _integrity(tpm: Tpm, context: TPMS_CONTEXT, sealed: bytes) -> bytes:
    """Return the HMAC of a context (Part 1, 27.3.2).

    The random value that changes with each TPM Reset is the proof of the NULL hierarchy.
    """
    cleared = _U32(tpm.sessions.clear_count) if context.saved_handle == _ST_CLEAR else b""
    return hashes.hmac(CONTEXT_INTEGRITY_HASH_ALG, tpm.hierarchies.proof(context.hierarchy),
                       tpm.hierarchies.proof(TPM_RH_NULL), cleared, _U64(context.sequence),
                       _U32(context.saved_handle), sealed)
