"""Attestation commands (Part 3, 18).

Tables do not decorate responses (4.2.2), but without a signing key the signature is a null one (18.1): hence
PLUS in the responses.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.algorithms import TPMT_SIG_SCHEME, TPMT_SIGNATURE
from hwtpm.tpm2.types.constants import (
    TPM_CC_Certify,
    TPM_CC_CertifyCreation,
    TPM_CC_CertifyX509,
    TPM_CC_GetCommandAuditDigest,
    TPM_CC_GetSessionAuditDigest,
    TPM_CC_GetTime,
    TPM_CC_Quote,
)
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT, TPMI_RH_ENDORSEMENT, TPMI_SH_HMAC
from hwtpm.tpm2.types.structures import (
    TPM2B_ATTEST,
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_MAX_BUFFER,
    TPML_PCR_SELECTION,
    TPMT_TK_CREATION,
)
from hwtpm.wire import PLUS, Role, Wire


class CertifyResponse(Wire):
    certify_info: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class Certify(Command[CertifyResponse]):
    """A signed statement that an object of this name is loaded is returned.  Part 3, 18.2."""

    CC: ClassVar[int] = TPM_CC_Certify
    object_handle: Annotated[TPMI_DH_OBJECT, Role.ADMIN]
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    qualifying_data: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]


class CertifyCreationResponse(Wire):
    certify_info: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class CertifyCreation(Command[CertifyCreationResponse]):
    """A signed statement that ties the object to its creation data is returned.  Part 3, 18.3."""

    CC: ClassVar[int] = TPM_CC_CertifyCreation
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    object_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    qualifying_data: TPM2B_DATA
    creation_hash: TPM2B_DIGEST
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]
    creation_ticket: TPMT_TK_CREATION


class QuoteResponse(Wire):
    quoted: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class Quote(Command[QuoteResponse]):
    """A signed digest of the selected PCRs is returned.  Part 3, 18.4."""

    CC: ClassVar[int] = TPM_CC_Quote
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    qualifying_data: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]
    pcr_select: TPML_PCR_SELECTION


class GetSessionAuditDigestResponse(Wire):
    audit_info: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class GetSessionAuditDigest(Command[GetSessionAuditDigestResponse]):
    """The signed audit digest of the session is returned.  Part 3, 18.5."""

    CC: ClassVar[int] = TPM_CC_GetSessionAuditDigest
    privacy_admin_handle: Annotated[TPMI_RH_ENDORSEMENT, Role.USER]
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    session_handle: Annotated[TPMI_SH_HMAC, Role.NONE]
    qualifying_data: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]


class GetCommandAuditDigestResponse(Wire):
    audit_info: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class GetCommandAuditDigest(Command[GetCommandAuditDigestResponse]):
    """The signed digest of the audited commands is returned; signing clears the digest.  Part 3, 18.6."""

    CC: ClassVar[int] = TPM_CC_GetCommandAuditDigest
    NV: ClassVar[bool] = True
    privacy_handle: Annotated[TPMI_RH_ENDORSEMENT, Role.USER]
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    qualifying_data: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]


class GetTimeResponse(Wire):
    time_info: TPM2B_ATTEST
    signature: Annotated[TPMT_SIGNATURE, PLUS]


class GetTime(Command[GetTimeResponse]):
    """The signed values of time and clock are returned.  Part 3, 18.7."""

    CC: ClassVar[int] = TPM_CC_GetTime
    privacy_admin_handle: Annotated[TPMI_RH_ENDORSEMENT, Role.USER]
    sign_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    qualifying_data: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]


class CertifyX509Response(Wire):
    added_to_certificate: TPM2B_MAX_BUFFER
    tbs_digest: TPM2B_DIGEST
    signature: TPMT_SIGNATURE


class CertifyX509(Command[CertifyX509Response]):
    """The rest of an X.509 certificate of the object and its signature are returned.  Part 3, 18.8."""

    CC: ClassVar[int] = TPM_CC_CertifyX509
    object_handle: Annotated[TPMI_DH_OBJECT, Role.ADMIN]
    sign_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    reserved: TPM2B_DATA
    in_scheme: Annotated[TPMT_SIG_SCHEME, PLUS]
    partial_certificate: TPM2B_MAX_BUFFER
