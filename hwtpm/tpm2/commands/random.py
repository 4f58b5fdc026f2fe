"""Random number generator (Part 3, 16)."""

from __future__ import annotations

from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import MAX_DIGEST_SIZE
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.random import GetRandom, GetRandomResponse, StirRandom


@handles
def get_random(tpm: Tpm, cmd: GetRandom) -> GetRandomResponse:
    """Random octets are returned: as many as asked for, at most 64.  Part 3, 16.1."""
    # Command Output: no more than fits into a TPM2B_DIGEST.
    size = cmd.bytes_requested
    return GetRandomResponse(tpm.random(size if size < MAX_DIGEST_SIZE else MAX_DIGEST_SIZE))


@handles
def stir_random(tpm: Tpm, cmd: StirRandom) -> Empty:
    """All random octets from now on depend on the data as well.  Part 3, 16.2."""
    # Internal Data Update
    tpm.random.stir(cmd.in_data)
    # Command Output
    return Empty()
