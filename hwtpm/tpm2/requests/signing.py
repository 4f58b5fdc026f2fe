"""Signing and signature verification (Part 3, 20)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.algorithms import TPM2B_SIGNATURE_CTX, TPMT_SIG_SCHEME, TPMT_SIGNATURE
from hwtpm.tpm2.types.constants import (
    TPM_CC_Sign,
    TPM_CC_SignDigest,
    TPM_CC_SignSequenceComplete,
    TPM_CC_VerifyDigestSignature,
    TPM_CC_VerifySequenceComplete,
    TPM_CC_VerifySignature,
)
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT
from hwtpm.tpm2.types.structures import TPM2B_DIGEST, TPM2B_MAX_BUFFER, TPMT_TK_HASHCHECK, TPMT_TK_VERIFIED
from hwtpm.wire import PLUS, Role, Wire


class VerifySignatureResponse(Wire):
    validation: TPMT_TK_VERIFIED


class VerifySignature(Command[VerifySignatureResponse]):
    """A ticket is returned that says that the key made this signature of the digest.  Part 3, 20.2."""

    CC: ClassVar[int] = TPM_CC_VerifySignature
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    digest: TPM2B_DIGEST
    signature: TPMT_SIGNATURE


class VerifySequenceCompleteResponse(Wire):
    validation: TPMT_TK_VERIFIED


class VerifySequenceComplete(Command[VerifySequenceCompleteResponse]):
    """A ticket for the message of the sequence is returned and the sequence is flushed.  Part 3, 20.3."""

    CC: ClassVar[int] = TPM_CC_VerifySequenceComplete
    FLUSHED: ClassVar[bool] = True
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    signature: TPMT_SIGNATURE


class VerifyDigestSignatureResponse(Wire):
    validation: TPMT_TK_VERIFIED


class VerifyDigestSignature(Command[VerifyDigestSignatureResponse]):
    """A ticket is returned that says that the key signed the digest in this context.  Part 3, 20.4."""

    CC: ClassVar[int] = TPM_CC_VerifyDigestSignature
    key_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    context: TPM2B_SIGNATURE_CTX
    digest: TPM2B_DIGEST
    signature: TPMT_SIGNATURE


class SignResponse(Wire):
    signature: TPMT_SIGNATURE


class Sign(Command[SignResponse]):
    """The signature of the digest is returned.  Part 3, 20.5."""

    CC: ClassVar[int] = TPM_CC_Sign
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    digest: TPM2B_DIGEST
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]
    validation: TPMT_TK_HASHCHECK


class SignSequenceCompleteResponse(Wire):
    signature: TPMT_SIGNATURE


class SignSequenceComplete(Command[SignSequenceCompleteResponse]):
    """The signature of the message of the sequence is returned and the sequence is flushed.  Part 3, 20.6."""

    CC: ClassVar[int] = TPM_CC_SignSequenceComplete
    FLUSHED: ClassVar[bool] = True
    sequence_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    buffer: TPM2B_MAX_BUFFER


class SignDigestResponse(Wire):
    signature: TPMT_SIGNATURE


class SignDigest(Command[SignDigestResponse]):
    """The signature of the digest in the given context is returned.  Part 3, 20.7."""

    CC: ClassVar[int] = TPM_CC_SignDigest
    key_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    context: TPM2B_SIGNATURE_CTX
    digest: TPM2B_DIGEST
    validation: TPMT_TK_HASHCHECK
