"""Platform configuration registers (Part 3, 22)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.pcr import (
    PCREvent,
    PCREventResponse,
    PCRExtend,
    PCRRead,
    PCRReadResponse,
    PCRReset,
)
from hwtpm.tpm2.types.handles import PCR_FIRST, TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_HA

_MAX_VALUES = 8  # in one TPML_DIGEST (Part 2, 10.8.5)


@handles
def pcr_extend(tpm: Tpm, cmd: PCRExtend) -> Empty:
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
    # Command Output
    selected, values = tpm.pcrs.select(cmd.pcr_selection_in, _MAX_VALUES)
    return PCRReadResponse(tpm.pcrs.counter, selected, values)


@handles
def pcr_reset(tpm: Tpm, cmd: PCRReset) -> Empty:
    # Input Validation
    index = cmd.pcr_handle - PCR_FIRST
    tpm.pcrs.check_reset(index, tpm.locality)
    # Internal Data Update
    tpm.pcrs.reset(index)
    # Command Output
    return Empty()
