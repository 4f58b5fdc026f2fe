"""Timing ticks (Part 3, 23)."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_key, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.ticks import GetTicks, GetTicksResponse, TickStampBlob, TickStampBlobResponse
from hwtpm.tpm12.signing import require_signing, sign, signs_digests
from hwtpm.tpm12.types.codes import TPM_INAPPROPRIATE_SIG
from hwtpm.tpm12.types.signed import TPM_SIGN_INFO
from hwtpm.wire import encode

_STAMP: Final = b"TSTP"


@handles
def get_ticks(tpm: Tpm, call: Call, cmd: GetTicks) -> GetTicksResponse:
    """The ticks are returned.  Part 3, 23.1."""
    # Command Output
    return GetTicksResponse(tpm.ticks.current())


@handles
def tick_stamp_blob(tpm: Tpm, call: Call, cmd: TickStampBlob) -> TickStampBlobResponse:
    """The digest and the ticks are signed with the key.  Part 3, 23.2."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    require_signing(key)
    if not signs_digests(key):
        raise TpmError(TPM_INAPPROPRIATE_SIG)
    # Command Output
    ticks = tpm.ticks.current()
    info = TPM_SIGN_INFO(_STAMP, cmd.anti_replay, cmd.digest_to_stamp + encode(ticks))
    return TickStampBlobResponse(ticks, sign(key, sha1(encode(info)).digest()))
