"""Timing ticks (Part 3, 23)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_KEY_HANDLE, TPM_NONCE
from hwtpm.tpm12.types.ordinals import TPM_KEY_DELEGATE_TickStampBlob, TPM_ORD_GetTicks, TPM_ORD_TickStampBlob
from hwtpm.tpm12.types.ticks import TPM_CURRENT_TICKS
from hwtpm.wire import Wire


class GetTicksResponse(Wire):
    current_time: TPM_CURRENT_TICKS


class GetTicks(Command[GetTicksResponse]):
    """The ticks are returned.  Part 3, 23.1."""

    ORD: ClassVar[int] = TPM_ORD_GetTicks


class TickStampBlobResponse(Wire):
    current_ticks: TPM_CURRENT_TICKS
    sig: SIZED


class TickStampBlob(Command[TickStampBlobResponse]):
    """The digest was there at a tick, which the key signs.  Part 3, 23.2."""

    ORD: ClassVar[int] = TPM_ORD_TickStampBlob
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_TickStampBlob
    KEY_HANDLES: ClassVar[int] = 1
    key_handle: TPM_KEY_HANDLE
    anti_replay: TPM_NONCE
    digest_to_stamp: TPM_DIGEST
