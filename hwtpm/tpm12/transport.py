"""What authorizes a command in a transport session, and what is logged of it (Part 1, 19; Part 3, 24.2)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from struct import Struct
from typing import Any, Final

from hwtpm.crypto import hashes, ids
from hwtpm.errors import TpmError
from hwtpm.tpm12 import dataw
from hwtpm.tpm12.auth import use_key
from hwtpm.tpm12.context import COMMANDS, Authorization, Tpm
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER
from hwtpm.tpm12.types.constants import TPM_RT_KEY, TPM_TRANSPORT_LOG
from hwtpm.tpm12.types.ordinals import TPM_ORD_FlushSpecific, TPM_ORD_SaveContext
from hwtpm.tpm12.types.ticks import TPM_CURRENT_TICKS
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_INTERNAL, TPM_TRANSPORT_LOG_IN, TPM_TRANSPORT_LOG_OUT
from hwtpm.wire import encode

_HEADER: Final = Struct(">HII")
_pack_u32 = Struct(">I").pack
# The handle of these is one of a key if the resource type after it says so.
_BY_TYPE: Final = frozenset({TPM_ORD_FlushSpecific, TPM_ORD_SaveContext})


def request_of(octets: bytes) -> type[Command[Any]]:
    """Return what a wrapped command is; TPM_BAD_PARAMETER for none that this TPM has (Part 3, 24.2)."""
    if len(octets) >= _HEADER.size:
        _, size, ordinal = _HEADER.unpack_from(octets)
        entry = COMMANDS.get(ordinal)
        if size == len(octets) and entry is not None:
            area = dataw.in_command(entry.request, octets)
            if area.start <= area.stop:
                return entry.request
    raise TpmError(TPM_BAD_PARAMETER)


def authorize(session: TPM_TRANSPORT_INTERNAL, given: Authorization, digest: bytes, rc: int) -> None:
    """The authorization *given* is the session's, over parameters of that *digest*; else *rc*."""
    expected = hashes.hmac(ids.SHA1, session.auth_data, digest, session.trans_nonce_even, given.nonce_odd,
                           bytes([given.continues]))
    if not compare_digest(expected, given.auth):
        raise TpmError(rc)
    given.key = session.auth_data


def is_logged(session: TPM_TRANSPORT_INTERNAL) -> bool:
    """Tell whether the session keeps a log."""
    return bool(session.trans_public.trans_attributes & TPM_TRANSPORT_LOG)


def log_in(session: TPM_TRANSPORT_INTERNAL, parameters: bytes, pub_key_hash: bytes = ZERO_DIGEST) -> None:
    """A command with that digest of parameters is in the log."""
    _log(session, encode(TPM_TRANSPORT_LOG_IN(parameters, pub_key_hash)))


def log_out(session: TPM_TRANSPORT_INTERNAL, ticks: TPM_CURRENT_TICKS, parameters: bytes,
            locality: int) -> None:
    """A response with that digest of parameters is in the log."""
    _log(session, encode(TPM_TRANSPORT_LOG_OUT(ticks, parameters, locality)))


def _log(session: TPM_TRANSPORT_INTERNAL, record: bytes) -> None:
    session.trans_digest = sha1(session.trans_digest + record).digest()


def key_hash(tpm: Tpm, request: type[Command[Any]], plain: bytes) -> bytes:
    """Return the digest of the public keys whose handles are in the command *plain*, zeros without any.

    Raises what `use_key` does for a key that cannot be used.
    """
    count = request.KEY_HANDLES
    if request.ORD in _BY_TYPE:
        count = int(plain[14:18] == _pack_u32(TPM_RT_KEY))
    if not count:
        return ZERO_DIGEST
    keys = (use_key(tpm, int.from_bytes(plain[at : at + 4], "big"), read_only=True, allow_ek=True)
            for at in range(_HEADER.size, _HEADER.size + 4 * count, 4))
    moduli = (key.public.pub_key for key in keys)
    return sha1(b"".join(sha1(_pack_u32(len(n)) + n).digest() for n in moduli)).digest()
