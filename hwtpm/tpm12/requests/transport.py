"""Transport sessions (Part 3, 24)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.types.base import HANDLE, SIZED, TPM_KEY_HANDLE, TPM_NONCE, UINT32, UINT64
from hwtpm.tpm12.types.ordinals import (
    TPM_KEY_DELEGATE_EstablishTransport,
    TPM_KEY_DELEGATE_ReleaseTransportSigned,
    TPM_ORD_EstablishTransport,
    TPM_ORD_ExecuteTransport,
    TPM_ORD_ReleaseTransportSigned,
)
from hwtpm.tpm12.types.ticks import TPM_CURRENT_TICKS
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from hwtpm.wire import Wire


class EstablishTransportResponse(Wire):
    trans_handle: HANDLE
    locality: UINT32
    current_ticks: TPM_CURRENT_TICKS
    trans_nonce_even: TPM_NONCE


class EstablishTransport(Command[EstablishTransportResponse]):
    """A transport session is open.  Part 3, 24.1."""

    ORD: ClassVar[int] = TPM_ORD_EstablishTransport
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_EstablishTransport
    KEY_HANDLES: ClassVar[int] = 1
    WRAPPABLE: ClassVar[bool] = False
    enc_handle: TPM_KEY_HANDLE
    trans_public: TPM_TRANSPORT_PUBLIC
    secret: SIZED


class ExecuteTransportResponse(Wire):
    current_ticks: UINT64
    locality: UINT32
    wrapped_rsp: SIZED


class ExecuteTransport(Command[ExecuteTransportResponse]):
    """A command is executed inside of a session, which authorizes this one.  Part 3, 24.2."""

    ORD: ClassVar[int] = TPM_ORD_ExecuteTransport
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    TRANSPORT: ClassVar[bool] = True
    WRAPPABLE: ClassVar[bool] = False
    wrapped_cmd: SIZED


class ReleaseTransportSignedResponse(Wire):
    locality: UINT32
    current_ticks: TPM_CURRENT_TICKS
    signature: SIZED


class ReleaseTransportSigned(Command[ReleaseTransportSignedResponse]):
    """The session has ended, and the key signs its log.  Part 3, 24.3."""

    ORD: ClassVar[int] = TPM_ORD_ReleaseTransportSigned
    AUTHS: ClassVar[tuple[int, ...]] = (1, 2)
    TRANSPORT: ClassVar[bool] = True
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_ReleaseTransportSigned
    KEY_HANDLES: ClassVar[int] = 1
    WRAPPABLE: ClassVar[bool] = False
    key_handle: TPM_KEY_HANDLE
    anti_replay: TPM_NONCE
