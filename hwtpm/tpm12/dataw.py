"""DATAw: what a transport session encrypts of a command or a response (Part 1, 19; Part 3, 24.2).

It is what comes after the handles, without authorizations; of commands that open authorization sessions next
to nothing.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import Any, Final

from hwtpm.command import response_of
from hwtpm.crypto import ids, kdf, symmetric
from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.types.codes import TPM_BAD_KEY_PROPERTY, TPM_INAPPROPRIATE_ENC
from hwtpm.tpm12.types.constants import (
    TPM_ALG_AES128,
    TPM_ALG_MGF1,
    TPM_ES_NONE,
    TPM_ES_SYM_CTR,
    TPM_ES_SYM_OFB,
    TPM_TAG_RQU_AUTH1_COMMAND,
    TPM_TAG_RQU_AUTH2_COMMAND,
    TPM_TAG_RSP_AUTH1_COMMAND,
    TPM_TAG_RSP_AUTH2_COMMAND,
    TPM_TRANSPORT_ENCRYPT,
)
from hwtpm.tpm12.types.ordinals import TPM_ORD_DSAP, TPM_ORD_OIAP, TPM_ORD_OSAP
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from hwtpm.wire import handle_area

_HEADER: Final = Struct(">HII")
_MODES: Final = {TPM_ES_SYM_CTR: ids.CTR, TPM_ES_SYM_OFB: ids.OFB}
_BLOCK: Final = 16  # octets of AES
_RQU_AUTHS: Final = {TPM_TAG_RQU_AUTH1_COMMAND: 45, TPM_TAG_RQU_AUTH2_COMMAND: 90}  # octets
_RSP_AUTHS: Final = {TPM_TAG_RSP_AUTH1_COMMAND: 41, TPM_TAG_RSP_AUTH2_COMMAND: 82}
# Octets of parameters that stay in the clear before DATAw, of the command and of the response.
_CLEAR: Final = {TPM_ORD_OIAP: (0, 20), TPM_ORD_OSAP: (26, 40), TPM_ORD_DSAP: (30, 40)}


@cache
def _starts(request: type[Command[Any]]) -> tuple[int, int]:
    clear = _CLEAR.get(request.ORD, (0, 0))
    return (_HEADER.size + 4 * len(handle_area(request)) + clear[0],
            _HEADER.size + 4 * len(handle_area(response_of(request))) + clear[1])


def in_command(request: type[Command[Any]], octets: bytes) -> slice:
    """Return where DATAw is in a command of that type; it has a negative length where that is too short."""
    return slice(_starts(request)[0], len(octets) - _RQU_AUTHS.get(int.from_bytes(octets[:2], "big"), 0))


def in_response(request: type[Command[Any]], octets: bytes) -> slice:
    """Return where DATAw is in the response to a command of that type; nowhere in that of an error."""
    tag, size, rc = _HEADER.unpack_from(octets)
    return slice(size, size) if rc else slice(_starts(request)[1], size - _RSP_AUTHS.get(tag, 0))


def check_algorithm(public: TPM_TRANSPORT_PUBLIC, *, fips: bool) -> None:
    """The session encrypts as this TPM can (TPM_BAD_KEY_PROPERTY) and may (TPM_INAPPROPRIATE_ENC)."""
    if public.alg_id == TPM_ALG_MGF1:
        right = public.enc_scheme == TPM_ES_NONE and not fips
    elif public.alg_id == TPM_ALG_AES128:
        right = public.enc_scheme in _MODES
    else:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    if not right:
        raise TpmError(TPM_INAPPROPRIATE_ENC)


def crypt(public: TPM_TRANSPORT_PUBLIC, secret: bytes, octets: bytes, nonces: bytes,
          direction: bytes) -> bytes:
    """Return *octets*, DATAw, encrypted or, if they are, decrypted; unchanged unless the session encrypts.

    *nonces* are nonceEven and nonceOdd; *direction* is b"in" of a command and b"out" of a response.
    """
    if not public.trans_attributes & TPM_TRANSPORT_ENCRYPT or not octets:
        return octets
    if public.alg_id == TPM_ALG_MGF1:
        mask = kdf.mgf1(ids.SHA1, nonces + direction + secret, len(octets))
        return (int.from_bytes(octets, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(octets), "big")
    # Both modes are their own inverse.
    counter = kdf.mgf1(ids.SHA1, nonces + direction, _BLOCK)
    return symmetric.encrypt(ids.AES, _MODES[public.enc_scheme], secret[:_BLOCK], counter, octets)[0]
