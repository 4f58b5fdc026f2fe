"""Monotonic counters (Part 3, 25)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize, authorize_owner, close_bound, decrypt_auth
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.counter import (
    CounterResponse,
    CreateCounter,
    CreateCounterResponse,
    IncrementCounter,
    ReadCounter,
    ReleaseCounter,
    ReleaseCounterOwner,
)
from hwtpm.tpm12.types.codes import TPM_BAD_COUNTER
from hwtpm.tpm12.types.constants import TPM_ET_COUNTER, TPM_PID_OSAP
from hwtpm.tpm12.types.counter import COUNT_ID_NULL


@handles
def create_counter(tpm: Tpm, call: Call, cmd: CreateCounter) -> CreateCounterResponse:
    """There is a new counter, above all others.  Part 3, 25.1."""
    # Input Validation
    given = authorize_owner(tpm, call, protocol=TPM_PID_OSAP)
    given.continues = 0
    auth_data = decrypt_auth(given, cmd.enc_auth)
    # Internal Data Update
    count_id = tpm.counters.create(cmd.label, auth_data)
    # Command Output
    return CreateCounterResponse(count_id, tpm.counters.get(count_id).public)


@handles
def increment_counter(tpm: Tpm, call: Call, cmd: IncrementCounter) -> CounterResponse:
    """The counter has one more; until the next start no other can be incremented.  Part 3, 25.2."""
    # Input Validation
    if tpm.counters.active not in (COUNT_ID_NULL, cmd.count_id):
        raise TpmError(TPM_BAD_COUNTER)
    counter = tpm.counters.get(cmd.count_id)
    authorize(tpm, call, 0, TPM_ET_COUNTER, counter.auth_data, counter.digest)
    # Internal Data Update
    counter = tpm.counters.increment(cmd.count_id)
    # Command Output
    return CounterResponse(counter.public)


@handles
def read_counter(tpm: Tpm, call: Call, cmd: ReadCounter) -> CounterResponse:
    """The value of the counter is returned.  Part 3, 25.3."""
    # Command Output
    return CounterResponse(tpm.counters.get(cmd.count_id).public)


@handles
def release_counter(tpm: Tpm, call: Call, cmd: ReleaseCounter) -> Empty:
    """There is no such counter any more, and no session for it.  Part 3, 25.4."""
    # Input Validation
    counter = tpm.counters.get(cmd.count_id)
    authorize(tpm, call, 0, TPM_ET_COUNTER, counter.auth_data, counter.digest)
    # Internal Data Update
    _release(tpm, call, cmd.count_id)
    # Command Output
    return Empty()


@handles
def release_counter_owner(tpm: Tpm, call: Call, cmd: ReleaseCounterOwner) -> Empty:
    """There is no such counter any more, and no session for it.  Part 3, 25.5."""
    # Input Validation
    authorize_owner(tpm, call)
    tpm.counters.get(cmd.count_id)
    # Internal Data Update
    _release(tpm, call, cmd.count_id)
    # Command Output
    return Empty()


def _release(tpm: Tpm, call: Call, count_id: int) -> None:
    close_bound(tpm, call, TPM_ET_COUNTER, tpm.counters.get(count_id).digest)
    tpm.counters.release(count_id)
