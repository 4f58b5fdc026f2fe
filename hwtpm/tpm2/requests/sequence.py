"""Hash, HMAC, event and signature sequences (Part 3, 17)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPM2B_SIGNATURE_CTX, TPM2B_SIGNATURE_HINT
from hwtpm.tpm2.types.constants import (
    TPM_CC_EventSequenceComplete,
    TPM_CC_HashSequenceStart,
    TPM_CC_HMAC_Start,
    TPM_CC_MAC_Start,
    TPM_CC_SequenceComplete,
    TPM_CC_SequenceUpdate,
    TPM_CC_SignSequenceStart,
    TPM_CC_VerifySequenceStart,
)
from hwtpm.tpm2.types.interface import (
    TPMI_ALG_HASH,
    TPMI_ALG_MAC_SCHEME,
    TPMI_DH_OBJECT,
    TPMI_DH_PCR,
    TPMI_RH_HIERARCHY,
)
from hwtpm.tpm2.types.structures import (
    TPM2B_AUTH,
    TPM2B_DIGEST,
    TPM2B_MAX_BUFFER,
    TPML_DIGEST_VALUES,
    TPMT_TK_HASHCHECK,
)
from hwtpm.wire import PLUS, Role, Wire


class HMACStartResponse(Wire):
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class HMACStart(Command[HMACStartResponse]):
    """An HMAC sequence with the key is loaded at a transient handle.  Part 3, 17.2."""

    CC: ClassVar[int] = TPM_CC_HMAC_Start
    handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    auth: TPM2B_AUTH
    hash_alg: Annotated[TPMI_ALG_HASH, PLUS]


class MACStartResponse(Wire):
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class MACStart(Command[MACStartResponse]):
    """A MAC sequence with the key is loaded; a TPM has this or HMACStart, at one code.  Part 3, 17.3."""

    CC: ClassVar[int] = TPM_CC_MAC_Start
    handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    auth: TPM2B_AUTH
    in_scheme: Annotated[TPMI_ALG_MAC_SCHEME, PLUS]


class HashSequenceStartResponse(Wire):
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class HashSequenceStart(Command[HashSequenceStartResponse]):
    """A hash sequence is loaded at a transient handle; TPM_ALG_NULL makes it an event sequence.

    Part 3, 17.4.
    """

    CC: ClassVar[int] = TPM_CC_HashSequenceStart
    auth: TPM2B_AUTH
    hash_alg: Annotated[TPMI_ALG_HASH, PLUS]


class SignSequenceStartResponse(Wire):
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class SignSequenceStart(Command[SignSequenceStartResponse]):
    """A signing sequence for the key is loaded at a transient handle.  Part 3, 17.5."""

    CC: ClassVar[int] = TPM_CC_SignSequenceStart
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    auth: TPM2B_AUTH
    context: TPM2B_SIGNATURE_CTX


class VerifySequenceStartResponse(Wire):
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]


class VerifySequenceStart(Command[VerifySequenceStartResponse]):
    """A verification sequence for the key is loaded at a transient handle.  Part 3, 17.6."""

    CC: ClassVar[int] = TPM_CC_VerifySequenceStart
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    auth: TPM2B_AUTH
    hint: TPM2B_SIGNATURE_HINT
    context: TPM2B_SIGNATURE_CTX


class SequenceUpdate(Command[Empty]):
    """The data are part of the sequence.  Part 3, 17.7."""

    CC: ClassVar[int] = TPM_CC_SequenceUpdate
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    buffer: TPM2B_MAX_BUFFER


class SequenceCompleteResponse(Wire):
    result: TPM2B_DIGEST
    validation: TPMT_TK_HASHCHECK


class SequenceComplete(Command[SequenceCompleteResponse]):
    """The digest or HMAC of the sequence is returned and the sequence is flushed.  Part 3, 17.8."""

    CC: ClassVar[int] = TPM_CC_SequenceComplete
    FLUSHED: ClassVar[bool] = True
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    buffer: TPM2B_MAX_BUFFER
    hierarchy: TPMI_RH_HIERARCHY


class EventSequenceCompleteResponse(Wire):
    results: TPML_DIGEST_VALUES


class EventSequenceComplete(Command[EventSequenceCompleteResponse]):
    """The PCR is extended in every bank with the event, and the sequence is flushed.  Part 3, 17.9."""

    CC: ClassVar[int] = TPM_CC_EventSequenceComplete
    NV: ClassVar[bool] = True
    FLUSHED: ClassVar[bool] = True
    pcr_handle: Annotated[TPMI_DH_PCR, PLUS, Role.USER]
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    buffer: TPM2B_MAX_BUFFER
