"""Management of sessions and contexts (Part 3, 21, 22, 27.1 and 27.2)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12 import contexts
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.context import (
    FlushSpecific,
    LoadAuthContext,
    LoadContext,
    LoadContextResponse,
    LoadKeyContext,
    SaveAuthContext,
    SaveContext,
    SaveContextResponse,
    SaveKeyContext,
    TerminateHandle,
)
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER, TPM_INVALID_RESOURCE, TPM_KEY_OWNER_CONTROL
from hwtpm.tpm12.types.constants import TPM_RT_AUTH, TPM_RT_CONTEXT, TPM_RT_KEY


@handles
def flush_specific(tpm: Tpm, call: Call, cmd: FlushSpecific) -> Empty:
    """The resource is not loaded any more, or the saved session can never be.  Part 3, 22.1."""
    # Input Validation
    resource = contexts.RESOURCES.get(cmd.resource_type)
    if resource is None and cmd.resource_type != TPM_RT_CONTEXT:
        raise TpmError(TPM_INVALID_RESOURCE)
    # Internal Data Update
    try:
        if resource is not None:
            resource.flush(tpm, cmd.handle)
        else:
            tpm.contexts.require(cmd.handle)
            tpm.contexts.forget(cmd.handle)
    except TpmError as error:
        # A session says itself that there is none; of other resources the parameter is at fault.
        if cmd.resource_type == TPM_RT_AUTH or error.rc == TPM_KEY_OWNER_CONTROL:
            raise
        raise TpmError(TPM_BAD_PARAMETER) from None
    # Command Output
    return Empty()


@handles
def terminate_handle(tpm: Tpm, call: Call, cmd: TerminateHandle) -> Empty:
    """The authorization session is closed.  Part 3, 27.1.2."""
    # Internal Data Update
    contexts.RESOURCES[TPM_RT_AUTH].flush(tpm, cmd.handle)
    # Command Output
    return Empty()


@handles
def save_context(tpm: Tpm, call: Call, cmd: SaveContext) -> SaveContextResponse:
    """The resource is returned as a blob.  Part 3, 21.2."""
    # Command Output
    return SaveContextResponse(contexts.save(tpm, cmd.resource_type, cmd.handle, cmd.label))


@handles
def load_context(tpm: Tpm, call: Call, cmd: LoadContext) -> LoadContextResponse:
    """The resource of the blob is loaded.  Part 3, 21.3."""
    # Command Output
    handle = contexts.load(tpm, cmd.context_blob, cmd.entity_handle, keep=bool(cmd.keep_handle))
    return LoadContextResponse(handle)


@handles
def save_key_context(tpm: Tpm, call: Call, cmd: SaveKeyContext) -> SaveContextResponse:
    """The key is returned as a blob, and not loaded any more.  Part 3, 27.2.1."""
    # Input Validation
    tpm.keys.get(cmd.key_handle)
    # Internal Data Update
    blob = contexts.save(tpm, TPM_RT_KEY, cmd.key_handle)
    tpm.keys.evict(cmd.key_handle)
    # Command Output
    return SaveContextResponse(blob)


@handles
def load_key_context(tpm: Tpm, call: Call, cmd: LoadKeyContext) -> LoadContextResponse:
    """The key of a blob that was saved since the last start is loaded.  Part 3, 27.2.2."""
    # Command Output
    handle = contexts.load(tpm, cmd.key_context_blob, 0, keep=False, only=TPM_RT_KEY, this_start=True)
    return LoadContextResponse(handle)


@handles
def save_auth_context(tpm: Tpm, call: Call, cmd: SaveAuthContext) -> SaveContextResponse:
    """The authorization session is returned as a blob, and not open any more.  Part 3, 27.2.3."""
    # Input Validation
    tpm.sessions.get(cmd.auth_handle)
    # Command Output
    return SaveContextResponse(contexts.save(tpm, TPM_RT_AUTH, cmd.auth_handle))


@handles
def load_auth_context(tpm: Tpm, call: Call, cmd: LoadAuthContext) -> LoadContextResponse:
    """The authorization session of the blob is open; the key it is bound to is loaded.  Part 3, 27.2.4."""
    # Command Output
    handle = contexts.load(tpm, cmd.auth_context_blob, contexts.ANY_ENTITY, keep=False, only=TPM_RT_AUTH)
    return LoadContextResponse(handle)
