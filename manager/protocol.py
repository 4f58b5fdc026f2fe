"""The manager's protocol with vTPMs (Xen stubdom/vtpmmgr/vtpm_manager.h), without I/O.

A message is tag u16, size u32 and ordinal or return code u32, then the payload; big-endian.  Return codes
are those of TPM 1.2.  SAVEHASHKEY carries 52 to 64 octets to keep, LOADHASHKEY gives them back exactly as
they came, where Xen pads or cuts them to 52 or 64; `manager.requests` has all other requests.  The tags tell
who may ask: VTPM_TAG_REQ is for every vTPM, VTPM_TAG_REQ2 for those that administrate, and a TPM's own tags
are for commands that are passed on to the chip.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from struct import Struct
from typing import Final

from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADTAG,
    TPM_DISABLED,
    TPM_FAIL,
    TPM_SUCCESS,
)
from hwtpm.wire import decode, encode
from manager.model import HASH_KEY_MAX, HASH_KEY_MIN
from manager.refused import Refused
from manager.seldom import Seldom
from manager.service import Service
from manager.vtpms import Connection

VTPM_TAG_REQ: Final = 0x01C1
VTPM_TAG_REQ2: Final = 0x01C2
VTPM_TAG_RSP: Final = 0x01C4
VTPM_TAG_RSP2: Final = 0x01C5
VTPM_ORD_SAVEHASHKEY: Final = 1
VTPM_ORD_LOADHASHKEY: Final = 2
VTPM_ORD_GET_QUOTE: Final = 4

_HEADER = Struct(">HII")
_TPM_ST_NO_SESSIONS = 0x8001  # also the tag of a response that comes from the ring, not from the manager
_CHIP_TAGS = frozenset({0x00C1, 0x00C2, 0x00C3, 0x8001, 0x8002})  # of commands of both families

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


class Endpoint:
    """The manager as one connection sees it: a transport that answers any octets with one response.

    *failed* hears why the manager could not do what it was asked, or why the vTPM cannot be used, which no
    return code tells; without it, that is logged.  What is refused is logged with the name of the connection,
    as often as `manager.seldom` says.  An administrator is told instead: the line is what his response has
    behind the return code.
    """

    def __init__(self, service: Service, connection: Connection,
                 failed: Callable[[Exception], None] | None = None) -> None:
        self._service, self._connection = service, connection
        self._failed = failed or self._log
        self._seldom = Seldom(log, connection.name, service.now)

    def execute(self, command: bytes, locality: int = 0,
                cancelled: Callable[[], bool] | None = None) -> bytes:
        """Return the response; what has changed is durable by then.  Any *locality* may ask."""
        command = bytes(command)
        try:
            if len(command) < _HEADER.size:
                # As in Xen, where nothing looks at the size in the header.
                raise Refused(TPM_BAD_PARAMETER, f"a request of {len(command)} octets")
            tag, size, ordinal = _HEADER.unpack_from(command)
            if tag in _CHIP_TAGS and (tag < _TPM_ST_NO_SESSIONS or self._service.family == "2.0"):
                return self._passed_on(command)
            if tag not in (VTPM_TAG_REQ, VTPM_TAG_REQ2):
                raise Refused(TPM_BADTAG, f"a request with tag 0x{tag:04x}")
            if size != len(command):
                raise Refused(TPM_BAD_PARAM_SIZE, f"a request of {len(command)} octets that says {size}")
            return _response(TPM_SUCCESS, self._answer(tag, ordinal, command[_HEADER.size :]))
        except Refused as refusal:
            tag = VTPM_TAG_RSP2 if isinstance(refusal, _RefusedAtOnce) else VTPM_TAG_RSP
            if self._connection.administrator:
                return _response(refusal.code, refusal.why.encode(), tag)
            if refusal.code == TPM_DISABLED:
                # No return code tells a vTPM that cannot be used what its user has to know.
                self._failed(StateError(f"{self._connection.name}: {refusal.why}"))
            else:
                self._refused(command, refusal)
            return _response(refusal.code, tag=tag)
        except (OSError, ProtocolError, StateError, TpmError) as error:
            self._failed(error)
            return _response(TPM_FAIL)

    def cancel(self) -> None:
        """Nothing here can be cancelled."""

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may write to the disk, or have the chip do more than a moment's work."""
        if len(command) < _HEADER.size:
            return False
        tag, _, ordinal = _HEADER.unpack_from(command)
        return tag == VTPM_TAG_REQ2 or (
            tag == VTPM_TAG_REQ and ordinal in (VTPM_ORD_SAVEHASHKEY, VTPM_ORD_GET_QUOTE))

    def close(self) -> None:
        """The connection is over: its vTPM can be opened by another one."""
        self._service.vtpms.leave(self._connection)
        self._seldom.close()

    def _answer(self, tag: int, ordinal: int, body: bytes) -> bytes:
        """Return the payload of the response; raises Refused before anything is changed."""
        vtpms, connection = self._service.vtpms, self._connection
        if tag == VTPM_TAG_REQ:
            if ordinal == VTPM_ORD_SAVEHASHKEY:
                vtpms.save(connection, body)
                return b""
            if ordinal == VTPM_ORD_LOADHASHKEY:
                if body:
                    raise Refused(TPM_BAD_PARAM_SIZE, "LOADHASHKEY with parameters")
                return vtpms.load(connection)
        elif not vtpms.administrates(connection):
            raise _RefusedAtOnce(TPM_AUTHFAIL, "it may not manage")
        # What only few need is imported when it is.
        from manager.requests import REQUESTS

        kind = REQUESTS[self._service.family].get(ordinal)
        if kind is None or (tag == VTPM_TAG_REQ2) != kind.MANAGEMENT:
            refusal = _RefusedAtOnce if tag == VTPM_TAG_REQ2 else Refused
            raise refusal(TPM_BAD_ORDINAL, f"no request has the ordinal 0x{ordinal:x}")
        try:
            request = decode(kind, body)
        except TpmError:
            raise Refused(TPM_BAD_PARAMETER, f"{kind.__name__} that is cut short or too long") from None
        return encode(self._service.answers.answer(connection, request))

    def _passed_on(self, command: bytes) -> bytes:
        response = self._service.pass_through(command, self._connection)
        code = _HEADER.unpack_from(response)[2]
        if code:
            self._seldom.warning(f"a command to the chip, 0x{_HEADER.unpack_from(command)[2]:x}, is answered "
                                 f"0x{code:x}")
        return response

    def _refused(self, command: bytes, refusal: Refused) -> None:
        if refusal.why:
            ordinal = int.from_bytes(command[6:10], "big")
            self._seldom.warning(f"the manager refuses request 0x{ordinal:x} with return code "
                                 f"{refusal.code}: {refusal.why}")

    def _log(self, error: Exception) -> None:
        log.error("%s: the manager failed: %s", self._connection.name, error)


class _RefusedAtOnce(Refused):
    """A management request that nobody looks into: Xen answers it with VTPM_TAG_RSP2."""


def _response(code: int, payload: bytes = b"", tag: int = VTPM_TAG_RSP) -> bytes:
    return _HEADER.pack(tag, _HEADER.size + len(payload), code) + payload
