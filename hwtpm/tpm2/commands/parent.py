"""What a virtual TPM has the chip below it sign, after Xen's commands for TPM 1.2."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.parent import DeepQuote, DeepQuoteResponse, ParentSignEK, ParentSignEKResponse
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_FIXEDTPM
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_RC_DISABLED, TPM_RC_HIERARCHY
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT
from hwtpm.tpm2.types.parent import deep_quote_digest, endorsement_digest
from hwtpm.tpm2.types.structures import TPMS_QUOTE_INFO


@handles
def deep_quote(tpm: Tpm, cmd: DeepQuote) -> DeepQuoteResponse:
    """The chip's quote of its PCRs and this TPM's is returned, and what it says of this TPM's."""
    quoted = TPMS_QUOTE_INFO(*tpm.pcrs.composite(cmd.pcr_select, TPM_ALG_SHA256))
    return DeepQuoteResponse(
        _quote(tpm, deep_quote_digest(cmd.extern_data, quoted), cmd.chip_pcrs, cmd.flags), quoted)


@handles
def parent_sign_ek(tpm: Tpm, cmd: ParentSignEK) -> ParentSignEKResponse:
    """The chip's quote of its PCRs and of the Name of an endorsement key is returned.

    TPM_RC_HIERARCHY (handle 2): not a key that only this TPM can have, from its endorsement hierarchy.
    TPM_RC_DISABLED: this TPM has been without power since it was manufactured.
    """
    # Input Validation
    key = tpm.objects.loaded(cmd.key_handle)
    if (key is None or key.hierarchy != TPM_RH_ENDORSEMENT
            or not key.public.object_attributes & TPMA_OBJECT_FIXEDTPM):
        raise TpmError(TPM_RC_HIERARCHY).handle(2)
    if not tpm.fresh:
        raise TpmError(TPM_RC_DISABLED)
    # Command Output
    return ParentSignEKResponse(
        _quote(tpm, endorsement_digest(key.name, cmd.extern_data), cmd.chip_pcrs, 0))


def _quote(tpm: Tpm, data: bytes, pcrs: bytes, flags: int) -> bytes:
    assert tpm.parent is not None, "without a parent there are no such commands"
    return tpm.parent(data, pcrs, flags)
