"""The manager's protocol with vTPMs (Xen stubdom/vtpmmgr/vtpm_manager.h), without I/O.

A message is tag u16, size u32 and ordinal or return code u32, then the payload; big-endian.  Return codes
are those of TPM 1.2.  Two ordinals exist: SAVEHASHKEY carries 52 to 64 octets to keep, LOADHASHKEY gives
them back exactly as they came, where Xen pads or cuts them to 52 or 64.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from struct import Struct
from typing import Final, Protocol
from uuid import UUID

from hwtpm.errors import ProtocolError, StateError, TpmError
from manager.model import HASH_KEY_MAX, HASH_KEY_MIN

VTPM_TAG_REQ: Final = 0x01C1
VTPM_TAG_RSP: Final = 0x01C4
VTPM_ORD_SAVEHASHKEY: Final = 1
VTPM_ORD_LOADHASHKEY: Final = 2

TPM_SUCCESS: Final = 0
TPM_BAD_PARAMETER: Final = 3
TPM_FAIL: Final = 9
TPM_BAD_ORDINAL: Final = 10
TPM_BAD_PARAM_SIZE: Final = 25
TPM_BADTAG: Final = 30

_HEADER = Struct(">HII")
_TPM_ST_NO_SESSIONS = 0x8001  # the tag of a response that comes from the ring, not from the manager

log = logging.getLogger(__name__)


def save_hash_key(hash_key: bytes) -> bytes:
    """Return the request to keep *hash_key*, 52 to 64 octets; ProtocolError for another size."""
    if not HASH_KEY_MIN <= len(hash_key) <= HASH_KEY_MAX:
        raise ProtocolError(f"SAVEHASHKEY: {len(hash_key)} octets, not {HASH_KEY_MIN} to {HASH_KEY_MAX}")
    return _HEADER.pack(VTPM_TAG_REQ, _HEADER.size + len(hash_key), VTPM_ORD_SAVEHASHKEY) + hash_key


def load_hash_key() -> bytes:
    """Return the request for what was kept last."""
    return _HEADER.pack(VTPM_TAG_REQ, _HEADER.size, VTPM_ORD_LOADHASHKEY)


def open_response(response: bytes, request: bytes) -> bytes:
    """Return the payload of the manager's *response* to *request*, one that this module built.

    It is empty for SAVEHASHKEY, and for LOADHASHKEY when nothing is kept for this vTPM, which the manager
    says with TPM_BAD_PARAMETER, as Xen's does.  Raises ProtocolError, one line for people, for every other
    return code and for a malformed response.
    """
    ordinal = _HEADER.unpack_from(request)[2]
    name = "SAVEHASHKEY" if ordinal == VTPM_ORD_SAVEHASHKEY else "LOADHASHKEY"
    if len(response) < _HEADER.size:
        raise ProtocolError(f"{name}: a response of {len(response)} octets from the manager")
    tag, size, code = _HEADER.unpack_from(response)
    if size != len(response):
        raise ProtocolError(f"{name}: a response of {len(response)} octets from the manager that says {size}")
    if tag == _TPM_ST_NO_SESSIONS:
        raise ProtocolError(f"{name}: the ring to the manager answered TPM_RC 0x{code:03x}")
    if tag != VTPM_TAG_RSP:
        raise ProtocolError(f"{name}: a response with tag 0x{tag:04x} from the manager")
    payload = response[_HEADER.size :]
    if code == TPM_BAD_PARAMETER and ordinal == VTPM_ORD_LOADHASHKEY and not payload:
        return b""
    if code != TPM_SUCCESS:
        raise ProtocolError(f"{name}: the manager answered with return code {code}")
    wanted = range(HASH_KEY_MIN, HASH_KEY_MAX + 1) if ordinal == VTPM_ORD_LOADHASHKEY else range(1)
    if len(payload) not in wanted:
        raise ProtocolError(f"{name}: {len(payload)} octets of payload from the manager")
    return payload


class Keeper(Protocol):
    """What an endpoint needs of the manager."""

    def save_hash_key(self, uuid: UUID, hash_key: bytes, /) -> None:
        """*hash_key* is what the vTPM gets back from now on, and durable."""
        ...

    def load_hash_key(self, uuid: UUID, /) -> bytes | None:
        """Return what was saved last for the vTPM; None if nothing was."""
        ...


class Endpoint:
    """The manager as one vTPM sees it: a transport that answers any octets with one well-formed response.

    *failed* hears why the manager could not do what it was asked, which no return code tells; without it,
    that is logged.
    """

    def __init__(self, manager: Keeper, uuid: UUID,
                 failed: Callable[[Exception], None] | None = None) -> None:
        self._manager, self._uuid = manager, uuid
        self._failed = failed or self._log

    def execute(self, command: bytes, locality: int = 0,
                cancelled: Callable[[], bool] | None = None) -> bytes:
        """Return the response; what SAVEHASHKEY brought is durable by then.  Any *locality* may ask."""
        try:
            return _response(TPM_SUCCESS, self._answer(bytes(command)))
        except _Refused as refusal:
            return _response(refusal.code)
        except (OSError, ProtocolError, StateError, TpmError) as error:
            self._failed(error)
            return _response(TPM_FAIL)

    def _log(self, error: Exception) -> None:
        log.error("vTPM %s: the manager failed: %s", self._uuid, error)

    def cancel(self) -> None:
        """Nothing here can be cancelled."""

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* writes to the disk and to the chip."""
        return len(command) >= _HEADER.size and _HEADER.unpack_from(command)[2] == VTPM_ORD_SAVEHASHKEY

    def _answer(self, command: bytes) -> bytes:
        """Return the payload of the response; raises _Refused before anything is changed."""
        if len(command) < _HEADER.size:
            raise _Refused(TPM_BAD_PARAM_SIZE)
        tag, size, ordinal = _HEADER.unpack_from(command)
        if tag != VTPM_TAG_REQ:
            raise _Refused(TPM_BADTAG)
        if size != len(command):
            raise _Refused(TPM_BAD_PARAM_SIZE)
        payload = command[_HEADER.size :]
        if ordinal == VTPM_ORD_SAVEHASHKEY:
            if not HASH_KEY_MIN <= len(payload) <= HASH_KEY_MAX:
                raise _Refused(TPM_BAD_PARAMETER)
            self._manager.save_hash_key(self._uuid, payload)
            return b""
        if ordinal == VTPM_ORD_LOADHASHKEY:
            if payload:
                raise _Refused(TPM_BAD_PARAM_SIZE)
            found = self._manager.load_hash_key(self._uuid)
            if found is None:
                raise _Refused(TPM_BAD_PARAMETER)
            return found
        raise _Refused(TPM_BAD_ORDINAL)


class _Refused(Exception):
    """The request cannot be answered; *code* says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _response(code: int, payload: bytes = b"") -> bytes:
    return _HEADER.pack(VTPM_TAG_RSP, _HEADER.size + len(payload), code) + payload
