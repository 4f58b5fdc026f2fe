"""Cryptographic functions: the SHA-1 thread (Part 3, 13.1 to 13.4)."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto.running import RunningHash
from hwtpm.errors import TpmError
from hwtpm.tpm12.commands.integrity import extend_pcr, require_extendable
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.profile import BUFFER_SIZE
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.hashing import (
    SHA1Complete,
    SHA1CompleteExtend,
    SHA1CompleteExtendResponse,
    SHA1CompleteResponse,
    SHA1Start,
    SHA1StartResponse,
    SHA1Update,
)
from hwtpm.tpm12.types.codes import TPM_SHA_ERROR, TPM_SHA_THREAD

_BLOCK: Final = 64
_HEAD: Final = 14  # octets of TPM_SHA1Update before the data
_MOST: Final = (BUFFER_SIZE - _HEAD) // _BLOCK * _BLOCK


@handles
def sha1_start(tpm: Tpm, call: Call, cmd: SHA1Start) -> SHA1StartResponse:
    """A thread has begun, in the transport session of the command.  Part 3, 13.1."""
    # Internal Data Update
    tpm.sha1.begin(call.transport)
    # Command Output
    return SHA1StartResponse(_MOST)


@handles
def sha1_update(tpm: Tpm, call: Call, cmd: SHA1Update) -> Empty:
    """The thread has taken the blocks; it ends with an error.  Part 3, 13.2."""
    # Input Validation
    running = tpm.sha1.running
    if running is None:
        raise TpmError(TPM_SHA_THREAD)
    if len(cmd.hash_data) % _BLOCK or len(cmd.hash_data) > _MOST:
        tpm.sha1.end()
        raise TpmError(TPM_SHA_ERROR)
    # Internal Data Update
    running.update(cmd.hash_data)
    # Command Output
    return Empty()


@handles
def sha1_complete(tpm: Tpm, call: Call, cmd: SHA1Complete) -> SHA1CompleteResponse:
    """The thread has ended; the digest is returned.  Part 3, 13.3."""
    # Input Validation
    digest = _digest(tpm.sha1.end(), cmd.hash_data)
    # Command Output
    return SHA1CompleteResponse(digest)


@handles
def sha1_complete_extend(tpm: Tpm, call: Call, cmd: SHA1CompleteExtend) -> SHA1CompleteExtendResponse:
    """The thread has ended, even if the PCR could not take up its digest.  Part 3, 13.4."""
    # Input Validation
    running = tpm.sha1.end()
    require_extendable(tpm, cmd.pcr_num)
    digest = _digest(running, cmd.hash_data)
    # Internal Data Update
    value = extend_pcr(tpm, cmd.pcr_num, digest)
    # Command Output
    return SHA1CompleteExtendResponse(digest, value)


def _digest(running: RunningHash | None, last: bytes) -> bytes:
    """Return the digest of the thread's message, of which *last* is the rest."""
    if len(last) > _BLOCK:
        raise TpmError(TPM_SHA_ERROR)
    if running is None:
        raise TpmError(TPM_SHA_THREAD)
    return running.digest(last)
