"""Integrity collection and reporting (Part 3, 16)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.profile import NUM_PCR
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.integrity import (
    Extend,
    ExtendResponse,
    PcrRead,
    PcrReadResponse,
    PCRReset,
)
from hwtpm.tpm12.state.pcr import EXTEND_LOCALITIES, RESET_LOCALITIES, selected
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_BADINDEX,
    TPM_INVALID_PCR_INFO,
    TPM_NOTLOCAL,
    TPM_NOTRESETABLE,
)


@handles
def extend(tpm: Tpm, call: Call, cmd: Extend) -> ExtendResponse:
    """The PCR holds SHA-1 of its value and the digest; a TPM that is off shows zeros.  Part 3, 16.1."""
    # Input Validation
    require_extendable(tpm, cmd.pcr_num)
    # Internal Data Update
    value = extend_pcr(tpm, cmd.pcr_num, cmd.in_digest)
    # Command Output
    return ExtendResponse(value)


def require_extendable(tpm: Tpm, number: int) -> None:
    """There is a PCR of that number (TPM_BADINDEX), which the locality may extend (TPM_BAD_LOCALITY)."""
    if number >= NUM_PCR:
        raise TpmError(TPM_BADINDEX)
    tpm.require_locality(EXTEND_LOCALITIES[number])


def extend_pcr(tpm: Tpm, number: int, digest: bytes) -> bytes:
    """The PCR has taken up *digest*; return what may be shown of its value: zeros by a TPM that is off."""
    value = tpm.pcrs.extend(number, digest)
    off = tpm.flags.permanent.disable or tpm.flags.stclear.deactivated
    return ZERO_DIGEST if off else value


@handles
def pcr_read(tpm: Tpm, call: Call, cmd: PcrRead) -> PcrReadResponse:
    """The value of the PCR is returned.  Part 3, 16.2."""
    # Input Validation
    if cmd.pcr_index >= NUM_PCR:
        raise TpmError(TPM_BADINDEX)
    # Command Output
    return PcrReadResponse(tpm.pcrs.values[cmd.pcr_index])


@handles
def pcr_reset(tpm: Tpm, call: Call, cmd: PCRReset) -> Empty:
    """All selected PCRs are reset, or none.  Part 3, 16.4."""
    # Input Validation
    numbers = selected(cmd.pcr_selection.pcr_select)
    if not numbers:
        raise TpmError(TPM_INVALID_PCR_INFO)
    for number in numbers:
        if not RESET_LOCALITIES[number]:
            raise TpmError(TPM_NOTRESETABLE)
        if not RESET_LOCALITIES[number] >> tpm.locality & 1:
            raise TpmError(TPM_NOTLOCAL)
    # Internal Data Update
    for number in numbers:
        tpm.pcrs.reset(number, tos_present=tpm.flags.tos_present)
    # Command Output
    return Empty()
