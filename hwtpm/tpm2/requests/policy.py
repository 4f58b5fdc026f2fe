"""Enhanced authorization: the policy commands (Part 3, 23)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPMT_SIGNATURE
from hwtpm.tpm2.types.attributes import TPMA_LOCALITY
from hwtpm.tpm2.types.base import INT32, UINT16, UINT32
from hwtpm.tpm2.types.constants import (
    TPM_CC_PolicyAuthorize,
    TPM_CC_PolicyAuthorizeNV,
    TPM_CC_PolicyAuthValue,
    TPM_CC_PolicyCapability,
    TPM_CC_PolicyCommandCode,
    TPM_CC_PolicyCounterTimer,
    TPM_CC_PolicyCpHash,
    TPM_CC_PolicyDuplicationSelect,
    TPM_CC_PolicyGetDigest,
    TPM_CC_PolicyLocality,
    TPM_CC_PolicyNameHash,
    TPM_CC_PolicyNV,
    TPM_CC_PolicyNvWritten,
    TPM_CC_PolicyOR,
    TPM_CC_PolicyParameters,
    TPM_CC_PolicyPassword,
    TPM_CC_PolicyPCR,
    TPM_CC_PolicyPhysicalPresence,
    TPM_CC_PolicySecret,
    TPM_CC_PolicySigned,
    TPM_CC_PolicyTemplate,
    TPM_CC_PolicyTicket,
    TPM_CC_PolicyTransportSPDM,
)
from hwtpm.tpm2.types.interface import (
    TPM_CAP,
    TPM_CC,
    TPM_EO,
    TPMI_DH_ENTITY,
    TPMI_DH_OBJECT,
    TPMI_RH_NV_AUTH,
    TPMI_RH_NV_INDEX,
    TPMI_SH_POLICY,
    TPMI_YES_NO,
)
from hwtpm.tpm2.types.structures import (
    TPM2B_DIGEST,
    TPM2B_NAME,
    TPM2B_NONCE,
    TPM2B_OPERAND,
    TPM2B_TIMEOUT,
    TPML_DIGEST,
    TPML_PCR_SELECTION,
    TPMT_TK_AUTH,
    TPMT_TK_VERIFIED,
)
from hwtpm.wire import Role, Wire


class PolicySignedResponse(Wire):
    timeout: TPM2B_TIMEOUT
    policy_ticket: TPMT_TK_AUTH


class PolicySigned(Command[PolicySignedResponse]):
    """The policy includes a signed authorization.  Part 3, 23.3."""

    CC: ClassVar[int] = TPM_CC_PolicySigned
    auth_object: Annotated[TPMI_DH_OBJECT, Role.NONE]
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    nonce_tpm: TPM2B_NONCE
    cp_hash_a: TPM2B_DIGEST
    policy_ref: TPM2B_NONCE
    expiration: INT32
    auth: TPMT_SIGNATURE


class PolicySecretResponse(Wire):
    timeout: TPM2B_TIMEOUT
    policy_ticket: TPMT_TK_AUTH


class PolicySecret(Command[PolicySecretResponse]):
    """The policy includes that the authValue of the entity is known.  Part 3, 23.4."""

    CC: ClassVar[int] = TPM_CC_PolicySecret
    auth_handle: Annotated[TPMI_DH_ENTITY, Role.USER]
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    nonce_tpm: TPM2B_NONCE
    cp_hash_a: TPM2B_DIGEST
    policy_ref: TPM2B_NONCE
    expiration: INT32


class PolicyTicket(Command[Empty]):
    """The policy includes the authorization for which the ticket was made.  Part 3, 23.5."""

    CC: ClassVar[int] = TPM_CC_PolicyTicket
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    timeout: TPM2B_TIMEOUT
    cp_hash_a: TPM2B_DIGEST
    policy_ref: TPM2B_NONCE
    auth_name: TPM2B_NAME
    ticket: TPMT_TK_AUTH


class PolicyOR(Command[Empty]):
    """The policy is the digest of the list, one of which it was before.  Part 3, 23.6."""

    CC: ClassVar[int] = TPM_CC_PolicyOR
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    p_hash_list: TPML_DIGEST


class PolicyPCR(Command[Empty]):
    """The policy includes the values of the selected PCRs.  Part 3, 23.7."""

    CC: ClassVar[int] = TPM_CC_PolicyPCR
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    pcr_digest: TPM2B_DIGEST
    pcrs: TPML_PCR_SELECTION


class PolicyLocality(Command[Empty]):
    """The policy is limited to the localities.  Part 3, 23.8."""

    CC: ClassVar[int] = TPM_CC_PolicyLocality
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    locality: TPMA_LOCALITY


class PolicyNV(Command[Empty]):
    """The policy includes the comparison of an NV Index with the operand.  Part 3, 23.9."""

    CC: ClassVar[int] = TPM_CC_PolicyNV
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    operand_b: TPM2B_OPERAND
    offset: UINT16
    operation: TPM_EO


class PolicyCounterTimer(Command[Empty]):
    """The policy includes the comparison of the time information with the operand.  Part 3, 23.10."""

    CC: ClassVar[int] = TPM_CC_PolicyCounterTimer
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    operand_b: TPM2B_OPERAND
    offset: UINT16
    operation: TPM_EO


class PolicyCommandCode(Command[Empty]):
    """The policy is limited to one command.  Part 3, 23.11."""

    CC: ClassVar[int] = TPM_CC_PolicyCommandCode
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    code: TPM_CC


class PolicyPhysicalPresence(Command[Empty]):
    """The policy demands physical presence at the authorized command.  Part 3, 23.12."""

    CC: ClassVar[int] = TPM_CC_PolicyPhysicalPresence
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]


class PolicyCpHash(Command[Empty]):
    """The policy is limited to one command with these names and parameters.  Part 3, 23.13."""

    CC: ClassVar[int] = TPM_CC_PolicyCpHash
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    cp_hash_a: TPM2B_DIGEST


class PolicyNameHash(Command[Empty]):
    """The policy is limited to these entities in the handle area.  Part 3, 23.14."""

    CC: ClassVar[int] = TPM_CC_PolicyNameHash
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    name_hash: TPM2B_DIGEST


class PolicyDuplicationSelect(Command[Empty]):
    """The policy is limited to duplication to one parent.  Part 3, 23.15."""

    CC: ClassVar[int] = TPM_CC_PolicyDuplicationSelect
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    object_name: TPM2B_NAME
    new_parent_name: TPM2B_NAME
    include_object: TPMI_YES_NO


class PolicyAuthorize(Command[Empty]):
    """The policy, which the key approved, is replaced by one that names only the key.  Part 3, 23.16."""

    CC: ClassVar[int] = TPM_CC_PolicyAuthorize
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    approved_policy: TPM2B_DIGEST
    policy_ref: TPM2B_NONCE
    key_sign: TPM2B_NAME
    check_ticket: TPMT_TK_VERIFIED


class PolicyAuthValue(Command[Empty]):
    """The policy demands the authValue of the object, proved by HMAC.  Part 3, 23.17."""

    CC: ClassVar[int] = TPM_CC_PolicyAuthValue
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]


class PolicyPassword(Command[Empty]):
    """The policy demands the authValue of the object, given as a password.  Part 3, 23.18."""

    CC: ClassVar[int] = TPM_CC_PolicyPassword
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]


class PolicyGetDigestResponse(Wire):
    policy_digest: TPM2B_DIGEST


class PolicyGetDigest(Command[PolicyGetDigestResponse]):
    """The policyDigest of the session is returned.  Part 3, 23.19."""

    CC: ClassVar[int] = TPM_CC_PolicyGetDigest
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]


class PolicyNvWritten(Command[Empty]):
    """The policy demands that the NV Index has, or has not, been written.  Part 3, 23.20."""

    CC: ClassVar[int] = TPM_CC_PolicyNvWritten
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    written_set: TPMI_YES_NO


class PolicyTemplate(Command[Empty]):
    """The policy is limited to the creation of objects with one template.  Part 3, 23.21."""

    CC: ClassVar[int] = TPM_CC_PolicyTemplate
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    template_hash: TPM2B_DIGEST


class PolicyAuthorizeNV(Command[Empty]):
    """The policy, which the NV Index holds, is replaced by one that names only the Index.  Part 3, 23.22."""

    CC: ClassVar[int] = TPM_CC_PolicyAuthorizeNV
    auth_handle: Annotated[TPMI_RH_NV_AUTH, Role.USER]
    nv_index: Annotated[TPMI_RH_NV_INDEX, Role.NONE]
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]


class PolicyCapability(Command[Empty]):
    """The policy includes the comparison of a capability with the operand.  Part 3, 23.23."""

    CC: ClassVar[int] = TPM_CC_PolicyCapability
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    operand_b: TPM2B_OPERAND
    offset: UINT16
    operation: TPM_EO
    capability: TPM_CAP
    property: UINT32


class PolicyParameters(Command[Empty]):
    """The policy is limited to one command with these parameters.  Part 3, 23.24."""

    CC: ClassVar[int] = TPM_CC_PolicyParameters
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    p_hash: TPM2B_DIGEST


class PolicyTransportSPDM(Command[Empty]):
    """The policy is limited to a secure channel between these keys.  Part 3, 23.25."""

    CC: ClassVar[int] = TPM_CC_PolicyTransportSPDM
    policy_session: Annotated[TPMI_SH_POLICY, Role.NONE]
    req_key_name: TPM2B_NAME
    tpm_key_name: TPM2B_NAME
