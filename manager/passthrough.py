"""The commands of the chip that the manager passes on for vTPMs: GetRandom, PcrRead, and Extend.

Everybody may have random octets and read PCRs; only the administrative vTPM may extend, because whoever
extends a PCR decides whether groups open and what quotes say (Xen vtpm_cmd_handler.c).

A command of the chip's own family goes to it as it is.  A command of TPM 1.2 for a chip that is a TPM 2.0 is
translated, its PCRs being those of the SHA-1 bank; Xen does that for GetRandom.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from hwtpm.client import Client, Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA1,
    TPM_RC_AUTH_CONTEXT,
    TPM_RC_COMMAND_SIZE,
    TPM_RC_DISABLED,
    TPM_ST_NO_SESSIONS,
    TPM_ST_SESSIONS,
    TPM_CC_GetRandom,
    TPM_CC_PCR_Extend,
    TPM_CC_PCR_Read,
)
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from hwtpm.tpm12.types.codes import (
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_BADTAG,
    TPM_DISABLED_CMD,
    TPM_FAIL,
    TPM_SUCCESS,
)
from hwtpm.tpm12.types.constants import (
    TPM_TAG_RQU_AUTH1_COMMAND,
    TPM_TAG_RQU_AUTH2_COMMAND,
    TPM_TAG_RQU_COMMAND,
    TPM_TAG_RSP_COMMAND,
)
from hwtpm.tpm12.types.ordinals import TPM_ORD_Extend, TPM_ORD_GetRandom, TPM_ORD_PcrRead

TAGS_12: Final = frozenset({
    TPM_TAG_RQU_COMMAND, TPM_TAG_RQU_AUTH1_COMMAND, TPM_TAG_RQU_AUTH2_COMMAND})
TAGS_20: Final = frozenset({TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS})
"""The tags of commands of each family."""

_HEADER: Final = Struct(">HII")
_U32: Final = Struct(">I")
_EXTEND: Final = Struct(">I20s")
_PCRS: Final = 24


def pass_through(family: str, transmit: Callable[[bytes], bytes], command: bytes, *,
                 administrative: bool) -> bytes:
    """Return the response of the chip of *family*, or what the manager says in its place.

    *command* has a tag of TAGS_12, or one of TAGS_20 if the chip is a TPM 2.0, and at least a header.
    Raises what *transmit* raises.
    """
    tag, size, code = _HEADER.unpack_from(command)
    if tag in TAGS_20:
        refused = _refused_20(tag, size, code, len(command), administrative)
        return _HEADER.pack(TPM_ST_NO_SESSIONS, 10, refused) if refused else transmit(command)
    refused = _refused_12(size, code, len(command), administrative)
    if refused:
        return _response(refused)
    if family == "1.2":
        return transmit(command)
    if tag != TPM_TAG_RQU_COMMAND:
        return _response(TPM_BADTAG)
    chip = Client(transmit, bytes)  # Without sessions it needs no nonces.
    try:
        return _response(TPM_SUCCESS, _translated(chip, code, command[_HEADER.size :]))
    except _Answered as answered:
        return _response(answered.code)
    except TpmError:
        return _response(TPM_FAIL)


def _refused_12(size: int, code: int, length: int, administrative: bool) -> int:
    """Return why the manager does not pass this command on, 0 if it does."""
    if size != length:
        return TPM_BAD_PARAM_SIZE
    if code in (TPM_ORD_GetRandom, TPM_ORD_PcrRead) or (code == TPM_ORD_Extend and administrative):
        return TPM_SUCCESS
    return TPM_DISABLED_CMD


def _refused_20(tag: int, size: int, code: int, length: int, administrative: bool) -> int:
    if size != length:
        return TPM_RC_COMMAND_SIZE
    if code == TPM_CC_PCR_Extend and administrative:
        return 0
    if code not in (TPM_CC_GetRandom, TPM_CC_PCR_Read):
        return TPM_RC_DISABLED
    # The sessions that the chip has are the manager's.
    return TPM_RC_AUTH_CONTEXT if tag == TPM_ST_SESSIONS else 0


def _translated(chip: Client, code: int, parameters: bytes) -> bytes:
    """Return what a TPM 1.2 answers to *code*, having had the TPM 2.0 do it."""
    if len(parameters) != (_EXTEND.size if code == TPM_ORD_Extend else _U32.size):
        raise _Answered(TPM_BAD_PARAMETER)
    if code == TPM_ORD_GetRandom:
        wanted = min(_U32.unpack(parameters)[0], 0xFFFF)
        found = chip.run(GetRandom(wanted)).random_bytes
        return _U32.pack(len(found)) + found
    if code == TPM_ORD_PcrRead:
        return _read(chip, _U32.unpack(parameters)[0])
    number, digest = _EXTEND.unpack(parameters)
    _read(chip, number)  # There is a SHA-1 bank that has it.
    chip.run(PCRExtend(number, [TPMT_HA(TPM_ALG_SHA1, digest)]), Password())
    return _read(chip, number)


def _read(chip: Client, number: int) -> bytes:
    if number >= _PCRS:
        raise _Answered(TPM_BADINDEX)
    select = (1 << number).to_bytes(3, "little")
    values = chip.run(PCRRead([TPMS_PCR_SELECTION(TPM_ALG_SHA1, select)])).pcr_values
    if not values:
        raise _Answered(TPM_BADINDEX)
    return values[0]


class _Answered(Exception):
    """The command has its return code already."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _response(code: int, parameters: bytes = b"") -> bytes:
    return _HEADER.pack(TPM_TAG_RSP_COMMAND, _HEADER.size + len(parameters), code) + parameters
