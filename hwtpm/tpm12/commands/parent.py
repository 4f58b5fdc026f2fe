"""What a virtual TPM has the chip below it sign; the commands are Xen's (stubdom/vtpm-*.patch)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_owner
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.parent import DeepQuote, ParentQuoteResponse, ParentSignEK
from hwtpm.tpm12.types.codes import TPM_DISABLED_CMD, TPM_NO_ENDORSEMENT
from hwtpm.tpm12.types.parent import deep_quote_digest, endorsement_digest
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT


@handles
def deep_quote(tpm: Tpm, call: Call, cmd: DeepQuote) -> ParentQuoteResponse:
    """The chip's quote of its PCRs and this TPM's is returned to the owner."""
    # Input Validation
    authorize_owner(tpm, call)
    # Command Output
    digest = tpm.pcrs.digest(cmd.vt_sel.pcr_select)
    data = deep_quote_digest(cmd.extern_data, TPM_PCR_INFO_SHORT(cmd.vt_sel, 1 << tpm.locality, digest))
    return _quote(tpm, data, cmd.pt_sel.pcr_select, cmd.flags)


@handles
def parent_sign_ek(tpm: Tpm, call: Call, cmd: ParentSignEK) -> ParentQuoteResponse:
    """The chip's quote of its PCRs and the endorsement key is returned to the owner.

    TPM_DISABLED_CMD: this TPM has been without power since its endorsement key was made.
    """
    # Input Validation
    authorize_owner(tpm, call)
    key = tpm.permanent.endorsement_key
    if key is None:
        raise TpmError(TPM_NO_ENDORSEMENT)
    if not tpm.permanent.endorsement_key_fresh:
        raise TpmError(TPM_DISABLED_CMD)
    # Command Output
    return _quote(tpm, endorsement_digest(key.pubkey, cmd.extern_data), cmd.pt_sel.pcr_select, 0)


def _quote(tpm: Tpm, data: bytes, pcrs: bytes, flags: int) -> ParentQuoteResponse:
    assert tpm.parent is not None, "without a parent there are no such commands"
    return ParentQuoteResponse(tpm.parent(data, pcrs, flags))
