"""Hash, MAC and event sequences (Part 3, 17)."""

from __future__ import annotations

from hwtpm.crypto.running import RunningCmac, RunningHash, RunningHmac
from hwtpm.errors import TpmError
from hwtpm.tpm2 import tickets
from hwtpm.tpm2.commands.hashing import mac_key
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.sequence import (
    EventSequenceComplete,
    EventSequenceCompleteResponse,
    HashSequenceStart,
    HashSequenceStartResponse,
    MACStart,
    MACStartResponse,
    SequenceComplete,
    SequenceCompleteResponse,
    SequenceUpdate,
)
from hwtpm.tpm2.state.sequences import EventSequence, HashSequence, MacSequence
from hwtpm.tpm2.types.constants import TPM_ALG_NULL, TPM_RC_MODE
from hwtpm.tpm2.types.handles import PCR_FIRST, TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_HA

_SHORTEST_FIRST_BLOCK = 4  # octets, of TPM_GENERATED_VALUE: fewer cannot be seen not to start with it


@handles
def mac_start(tpm: Tpm, cmd: MACStart) -> MACStartResponse:
    """A running MAC with the key is loaded; also TPM2_HMAC_Start, at the same code.  Part 3, 17.3."""
    # Input Validation
    cipher, alg, key = mac_key(tpm, cmd.handle, cmd.in_scheme)
    # Internal Data Update
    running = RunningHmac(alg, key) if cipher == TPM_ALG_NULL else RunningCmac(cipher, key)
    return MACStartResponse(tpm.objects.add(MacSequence(cmd.auth, running)))


@handles
def hash_sequence_start(tpm: Tpm, cmd: HashSequenceStart) -> HashSequenceStartResponse:
    """A running hash is loaded; for TPM_ALG_NULL one for each PCR bank, for an event.  Part 3, 17.4.

    TPM_RC_OBJECT_MEMORY: no transient handle is free.
    """
    # Internal Data Update
    if cmd.hash_alg == TPM_ALG_NULL:
        event = EventSequence(cmd.auth, map(RunningHash, tpm.pcrs.masks()))
        return HashSequenceStartResponse(tpm.objects.add(event))
    return HashSequenceStartResponse(tpm.objects.add(HashSequence(cmd.auth, RunningHash(cmd.hash_alg))))


@handles
def sequence_update(tpm: Tpm, cmd: SequenceUpdate) -> Empty:
    """The data are part of the sequence.  Part 3, 17.7.  TPM_RC_MODE (handle 1): not a sequence."""
    # Input Validation
    sequence = tpm.objects.get(cmd.sequence_handle)
    if not isinstance(sequence, HashSequence | MacSequence | EventSequence):
        raise TpmError(TPM_RC_MODE).handle(1)
    # Internal Data Update
    if isinstance(sequence, HashSequence) and sequence.safe is None:
        sequence.safe = _safe_first_block(cmd.buffer)
    sequence.update(cmd.buffer)
    # Command Output
    return Empty()


@handles
def sequence_complete(tpm: Tpm, cmd: SequenceComplete) -> SequenceCompleteResponse:
    """The digest or MAC of the sequence is returned and the sequence flushed.  Part 3, 17.8.

    A hash comes with a ticket if it may be signed.  TPM_RC_MODE (handle 1): not a hash or MAC sequence.
    """
    # Input Validation
    sequence = tpm.objects.get(cmd.sequence_handle)
    if not isinstance(sequence, HashSequence | MacSequence):
        raise TpmError(TPM_RC_MODE).handle(1)
    # Internal Data Update
    result = sequence.digest(cmd.buffer)
    safe: bool | None = False  # There is no ticket for a MAC.
    if isinstance(sequence, HashSequence):
        safe = _safe_first_block(cmd.buffer) if sequence.safe is None else sequence.safe
    ticket = tickets.hashcheck(tpm, cmd.hierarchy, result, safe=bool(safe))
    tpm.objects.flush(cmd.sequence_handle)
    # Command Output
    return SequenceCompleteResponse(result, ticket)


@handles
def event_sequence_complete(tpm: Tpm, cmd: EventSequenceComplete) -> EventSequenceCompleteResponse:
    """The PCR is extended in every bank with the event, and the sequence flushed.  Part 3, 17.9.

    For TPM_RH_NULL the digests are returned only.  TPM_RC_MODE (handle 2): not an event sequence.
    TPM_RC_LOCALITY: the PCR cannot be extended from this locality.
    """
    # Input Validation
    sequence = tpm.objects.get(cmd.sequence_handle)
    if not isinstance(sequence, EventSequence):
        raise TpmError(TPM_RC_MODE).handle(2)
    if cmd.pcr_handle != TPM_RH_NULL:
        tpm.pcrs.check_extend(cmd.pcr_handle - PCR_FIRST, tpm.locality)
    # Internal Data Update
    digests = [TPMT_HA(alg, digest) for alg, digest in sequence.digests(cmd.buffer)]
    if cmd.pcr_handle != TPM_RH_NULL:
        tpm.pcrs.extend(cmd.pcr_handle - PCR_FIRST, digests)
    tpm.objects.flush(cmd.sequence_handle)
    # Command Output
    return EventSequenceCompleteResponse(digests)


def _safe_first_block(block: bytes) -> bool:
    """Tell whether the first block shows that the message is not TPM-generated (Part 3, 17.7.1)."""
    return len(block) >= _SHORTEST_FIRST_BLOCK and not tickets.looks_generated(block)
