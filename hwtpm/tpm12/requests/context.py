"""Management of sessions and contexts (Part 3, 21, 22, 27.1 and 27.2)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import HANDLE, SIZED, TPM_BOOL, TPM_KEY_HANDLE, UINT32
from hwtpm.tpm12.types.context import TPM_CONTEXT_LABEL
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_FlushSpecific,
    TPM_ORD_LoadAuthContext,
    TPM_ORD_LoadContext,
    TPM_ORD_LoadKeyContext,
    TPM_ORD_SaveAuthContext,
    TPM_ORD_SaveContext,
    TPM_ORD_SaveKeyContext,
    TPM_ORD_Terminate_Handle,
)
from hwtpm.wire import Wire


class FlushSpecific(Command[Empty]):
    """The resource is not loaded any more.  Part 3, 22.1."""

    ORD: ClassVar[int] = TPM_ORD_FlushSpecific
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT
    handle: HANDLE
    resource_type: UINT32


class TerminateHandle(Command[Empty]):
    """The authorization session is closed.  Part 3, 27.1.2."""

    ORD: ClassVar[int] = TPM_ORD_Terminate_Handle
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT
    handle: HANDLE


class SaveContextResponse(Wire):
    context_blob: SIZED


class SaveContext(Command[SaveContextResponse]):
    """The resource is returned as a blob; a session is then not loaded any more.  Part 3, 21.2."""

    ORD: ClassVar[int] = TPM_ORD_SaveContext
    handle: HANDLE
    resource_type: UINT32
    label: TPM_CONTEXT_LABEL


class LoadContextResponse(Wire):
    handle: HANDLE


class LoadContext(Command[LoadContextResponse]):
    """The resource of the blob is loaded.  Part 3, 21.3."""

    ORD: ClassVar[int] = TPM_ORD_LoadContext
    entity_handle: HANDLE
    keep_handle: TPM_BOOL
    context_blob: SIZED


class SaveKeyContext(Command[SaveContextResponse]):
    """The key is returned as a blob, and not loaded any more.  Part 3, 27.2.1."""

    ORD: ClassVar[int] = TPM_ORD_SaveKeyContext
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE


class LoadKeyContext(Command[LoadContextResponse]):
    """The key of the blob is loaded.  Part 3, 27.2.2."""

    ORD: ClassVar[int] = TPM_ORD_LoadKeyContext
    key_context_blob: SIZED


class SaveAuthContext(Command[SaveContextResponse]):
    """The authorization session is returned as a blob, and not open any more.  Part 3, 27.2.3."""

    ORD: ClassVar[int] = TPM_ORD_SaveAuthContext
    auth_handle: HANDLE


class LoadAuthContext(Command[LoadContextResponse]):
    """The authorization session of the blob is open.  Part 3, 27.2.4."""

    ORD: ClassVar[int] = TPM_ORD_LoadAuthContext
    auth_context_blob: SIZED
