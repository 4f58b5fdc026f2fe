"""Commands of Xen's virtual TPMs that have the chip below sign (Xen stubdom/vtpm-*.patch).

Neither has a bit by which the owner could delegate it, nor is it audited or run in a transport session.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.requests.command import Command, Needs
from hwtpm.tpm12.types.base import TPM_NONCE, UINT32
from hwtpm.tpm12.types.parent import TPM_ORD_DeepQuote, TPM_ORD_ParentSignEK
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from hwtpm.wire import Rest, Wire


class ParentQuoteResponse(Wire):
    """What the manager answers a quote with: the signature of 256 octets, and what it signs."""

    quote: Annotated[bytes, Rest()]


class _Owners(Command[ParentQuoteResponse]):
    """What the owner may ask, and nobody for him."""

    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    AUDITABLE: ClassVar[bool] = False
    WRAPPABLE: ClassVar[bool] = False
    LONG: ClassVar[bool] = True


class DeepQuote(_Owners):
    """The chip's quote of its PCRs and this TPM's is returned; *flags* are VTPM_QUOTE_FLAGS_."""

    ORD: ClassVar[int] = TPM_ORD_DeepQuote
    extern_data: TPM_NONCE
    vt_sel: TPM_PCR_SELECTION
    pt_sel: TPM_PCR_SELECTION
    flags: UINT32


class ParentSignEK(_Owners):
    """The chip's quote of its PCRs and the endorsement key is returned, while that is as it was delivered."""

    ORD: ClassVar[int] = TPM_ORD_ParentSignEK
    extern_data: TPM_NONCE
    pt_sel: TPM_PCR_SELECTION
