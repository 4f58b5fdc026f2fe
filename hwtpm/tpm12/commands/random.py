"""Random numbers (Part 3, 13.6 and 13.7)."""

from __future__ import annotations

from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.profile import MAX_RANDOM
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.random import GetRandom, GetRandomResponse, StirRandom
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER

_MOST_STIRRED: Final = 255


@handles
def get_random(tpm: Tpm, call: Call, cmd: GetRandom) -> GetRandomResponse:
    """Random octets are returned: as many as asked for, at most what fits.  Part 3, 13.6."""
    # Command Output
    return GetRandomResponse(tpm.random(min(cmd.bytes_requested, MAX_RANDOM)))


@handles
def stir_random(tpm: Tpm, call: Call, cmd: StirRandom) -> Empty:
    """All random octets from now on depend on the data as well.  Part 3, 13.7.

    TPM_BAD_PARAMETER for more than 255 octets.
    """
    # Input Validation
    if len(cmd.in_data) > _MOST_STIRRED:
        raise TpmError(TPM_BAD_PARAMETER)
    # Internal Data Update
    tpm.random.stir(cmd.in_data)
    # Command Output
    return Empty()
