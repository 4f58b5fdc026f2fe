"""Storage: making and loading keys (Part 3, 10.4 to 10.6)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.types.base import TPM_ENCAUTH, TPM_KEY_HANDLE
from hwtpm.tpm12.types.key import TPM_KEY
from hwtpm.tpm12.types.ordinals import (
    TPM_KEY_DELEGATE_CreateWrapKey,
    TPM_KEY_DELEGATE_LoadKey2,
    TPM_ORD_CreateWrapKey,
    TPM_ORD_LoadKey2,
)
from hwtpm.wire import Wire


class CreateWrapKeyResponse(Wire):
    wrapped_key: TPM_KEY


class CreateWrapKey(Command[CreateWrapKeyResponse]):
    """A key is made, and returned under its parent.  Part 3, 10.4."""

    ORD: ClassVar[int] = TPM_ORD_CreateWrapKey
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CreateWrapKey
    KEY_HANDLES: ClassVar[int] = 1
    LONG: ClassVar[bool] = True
    parent_handle: TPM_KEY_HANDLE
    data_usage_auth: TPM_ENCAUTH
    data_migration_auth: TPM_ENCAUTH
    key_info: TPM_KEY


class LoadKeyResponse(Wire):
    inkey_handle: TPM_KEY_HANDLE


class LoadKey2(Command[LoadKeyResponse]):
    """The key has a handle, which the response's authorization does not cover.  Part 3, 10.5."""

    ORD: ClassVar[int] = TPM_ORD_LoadKey2
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_LoadKey2
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    in_key: TPM_KEY
