"""Platform configuration registers (Part 3, 22)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import DIGEST_SIZE, IMPLEMENTATION_PCR
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.pcr import (
    PCRAllocate,
    PCRAllocateResponse,
    PCREvent,
    PCREventResponse,
    PCRExtend,
    PCRRead,
    PCRReadResponse,
    PCRReset,
    PCRSetAuthPolicy,
    PCRSetAuthValue,
)
from hwtpm.tpm2.state.pcr import ATTRIBUTES
from hwtpm.tpm2.types.base import YES
from hwtpm.tpm2.types.constants import TPM_ALG_NULL, TPM_RC_SIZE, TPM_RC_VALUE
from hwtpm.tpm2.types.handles import PCR_FIRST, TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_HA

_MAX_VALUES = 8  # in one TPML_DIGEST (Part 2, 10.8.5)


@handles
def pcr_extend(tpm: Tpm, cmd: PCRExtend) -> Empty:
    """The PCR is extended in each bank that has it and a digest is given for.  Part 3, 22.2.

    Nothing happens to TPM_RH_NULL.  TPM_RC_LOCALITY: not from this locality.
    """
    # Input Validation
    if cmd.pcr_handle == TPM_RH_NULL:
        return Empty()
    index = cmd.pcr_handle - PCR_FIRST
    tpm.pcrs.check_extend(index, tpm.locality)
    # Internal Data Update
    tpm.pcrs.extend(index, cmd.digests)
    # Command Output
    return Empty()


@handles
def pcr_event(tpm: Tpm, cmd: PCREvent) -> PCREventResponse:
    """The PCR is extended with the event in every bank that has it; the digests are returned.  Part 3, 22.3.

    For TPM_RH_NULL they are those of all banks.  TPM_RC_LOCALITY: not from this locality.
    """
    # Input Validation
    pcrs = tpm.pcrs
    if cmd.pcr_handle == TPM_RH_NULL:
        algs = list(pcrs.allocation)
    else:
        index = cmd.pcr_handle - PCR_FIRST
        pcrs.check_extend(index, tpm.locality)
        algs = pcrs.allocated(index)
    # Internal Data Update
    digests = [TPMT_HA(alg, hashes.digest(alg, cmd.event_data)) for alg in algs]
    if cmd.pcr_handle != TPM_RH_NULL:
        pcrs.extend(index, digests)
    # Command Output
    return PCREventResponse(digests)


@handles
def pcr_read(tpm: Tpm, cmd: PCRRead) -> PCRReadResponse:
    """The first eight of the selected PCRs and the count of their updates are returned.  Part 3, 22.4."""
    # Command Output
    selected, values = tpm.pcrs.select(cmd.pcr_selection_in, _MAX_VALUES)
    return PCRReadResponse(tpm.pcrs.counter, selected, values)


@handles
def pcr_reset(tpm: Tpm, cmd: PCRReset) -> Empty:
    """The PCR is zero in every bank.  Part 3, 22.8.  TPM_RC_LOCALITY: not from this locality."""
    # Input Validation
    index = cmd.pcr_handle - PCR_FIRST
    tpm.pcrs.check_reset(index, tpm.locality)
    # Internal Data Update
    tpm.pcrs.reset(index)
    # Command Output
    return Empty()


@handles
def pcr_allocate(tpm: Tpm, cmd: PCRAllocate) -> PCRAllocateResponse:
    """The banks of the selections are allocated from the next power-on.  Part 3, 22.5.

    There is room for every PCR in every bank.
    TPM_RC_PCR: no bank would have the PCR of the H-CRTM, or none that of the D-RTM.
    """
    # Input Validation
    allocation = tpm.pcrs.plan(cmd.pcr_allocation)
    # Internal Data Update
    tpm.pcrs.allocate(allocation)
    if tpm.power.saved:
        tpm.power.nullify()  # What was kept cannot be resumed in other banks.
    # Command Output
    needed = sum(mask.bit_count() * DIGEST_SIZE[alg] for alg, mask in allocation.items())
    available = IMPLEMENTATION_PCR * sum(DIGEST_SIZE.values())
    return PCRAllocateResponse(YES, IMPLEMENTATION_PCR, needed, available)


@handles
def pcr_set_auth_policy(tpm: Tpm, cmd: PCRSetAuthPolicy) -> Empty:
    """The PCRs of the group have the policy, or none.  Part 3, 22.6.

    TPM_RC_SIZE (parameter 1): the policy is not a digest of the algorithm, or not empty without one.
    TPM_RC_VALUE (parameter 3): the PCR is not one of the group.
    """
    # Input Validation
    size = 0 if cmd.hash_alg == TPM_ALG_NULL else hashes.size(cmd.hash_alg)
    if len(cmd.auth_policy) != size:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    if not ATTRIBUTES[cmd.pcr_num - PCR_FIRST].grouped:
        raise TpmError(TPM_RC_VALUE).parameter(3)
    # Internal Data Update
    tpm.pcrs.set_policy(cmd.hash_alg, cmd.auth_policy)
    # Command Output
    return Empty()


@handles
def pcr_set_auth_value(tpm: Tpm, cmd: PCRSetAuthValue) -> Empty:
    """The PCRs of the group have the authValue.  Part 3, 22.7.

    TPM_RC_VALUE: the PCR is not one of the group.
    """
    # Input Validation
    if not ATTRIBUTES[cmd.pcr_handle - PCR_FIRST].grouped:
        raise TpmError(TPM_RC_VALUE)
    # Internal Data Update
    tpm.pcrs.set_auth(cmd.auth)
    # Command Output
    return Empty()
