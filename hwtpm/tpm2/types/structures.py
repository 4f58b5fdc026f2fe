"""Digests, sized buffers, PCR selections, tickets, lists, capabilities, clock, attestation, authorizations.

Part 2, 10 (v185).
"""

from __future__ import annotations

from typing import Annotated

from hwtpm.tpm2 import profile
from hwtpm.tpm2.types.attributes import TPMA_ACT, TPMA_ALGORITHM, TPMA_CC, TPMA_SESSION
from hwtpm.tpm2.types.base import UINT16, UINT32, UINT64
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_CAP_ACT,
    TPM_CAP_ALGS,
    TPM_CAP_AUDIT_COMMANDS,
    TPM_CAP_AUTH_POLICIES,
    TPM_CAP_COMMANDS,
    TPM_CAP_ECC_CURVES,
    TPM_CAP_HANDLES,
    TPM_CAP_PCR_PROPERTIES,
    TPM_CAP_PCRS,
    TPM_CAP_PP_COMMANDS,
    TPM_CAP_SPDM_SESSION_INFO,
    TPM_CAP_TPM_PROPERTIES,
    TPM_CAP_VENDOR_PROPERTY,
    TPM_GENERATED_VALUE,
    TPM_RC_TAG,
    TPM_RC_VALUE,
    TPM_ST_ATTEST_CERTIFY,
    TPM_ST_ATTEST_COMMAND_AUDIT,
    TPM_ST_ATTEST_CREATION,
    TPM_ST_ATTEST_NV,
    TPM_ST_ATTEST_NV_DIGEST,
    TPM_ST_ATTEST_QUOTE,
    TPM_ST_ATTEST_SESSION_AUDIT,
    TPM_ST_ATTEST_TIME,
    TPM_ST_AUTH_SECRET,
    TPM_ST_AUTH_SIGNED,
    TPM_ST_CREATION,
    TPM_ST_DIGEST_VERIFIED,
    TPM_ST_HASHCHECK,
    TPM_ST_MESSAGE_VERIFIED,
    TPM_ST_VERIFIED,
)
from hwtpm.tpm2.types.handles import TPM_HANDLE
from hwtpm.tpm2.types.interface import (
    TPM_ALG_ID,
    TPM_CC,
    TPM_ECC_CURVE,
    TPM_PT,
    TPM_PT_PCR,
    TPMI_ALG_HASH,
    TPMI_RH_HIERARCHY,
    TPMI_SH_AUTH_SESSION,
    TPMI_YES_NO,
)
from hwtpm.wire import INHERIT, PLUS, SECRET, Arms, Boxed, Fixed, Int, ListOf, On, Sized, Wire

SIZE_OF_HA = 2 + profile.MAX_DIGEST_SIZE  # TPMT_HA
SIZE_OF_2B_DIGEST = 2 + profile.MAX_DIGEST_SIZE
SIZE_OF_2B_NAME = 2 + SIZE_OF_HA
SIZE_OF_CLOCK_INFO = 8 + 4 + 4 + 1


class TPMS_EMPTY(Wire):
    """A structure without members (Part 2, 10.1).  Union arms say None instead."""


# 10.2 Digests.  A null digest is b"".

TPMU_HA = Annotated[bytes, Arms(
    {alg: Annotated[bytes, Fixed(size)] for alg, size in profile.DIGEST_SIZE.items() if alg in profile.HASHES}
    | {TPM_ALG_NULL: Annotated[bytes, Fixed(0)]})]


class TPMT_HA(Wire):
    """A digest with its algorithm, which implies the size (Part 2, 10.2.2)."""

    hash_alg: Annotated[TPMI_ALG_HASH, INHERIT]
    digest: Annotated[TPMU_HA, On("hash_alg")]


# 10.3 Sized buffers and 10.4 names

TPM2B_DIGEST = Annotated[bytes, Sized(profile.MAX_DIGEST_SIZE)]
TPM2B_DATA = Annotated[bytes, Sized(SIZE_OF_HA)]
TPM2B_NONCE = TPM2B_DIGEST
TPM2B_AUTH = Annotated[bytes, Sized(profile.MAX_DIGEST_SIZE), SECRET]
TPM2B_OPERAND = TPM2B_DIGEST
TPM2B_EVENT = Annotated[bytes, Sized(1024)]
TPM2B_MAX_BUFFER = Annotated[bytes, Sized(profile.MAX_DIGEST_BUFFER)]
TPM2B_MAX_NV_BUFFER = Annotated[bytes, Sized(profile.MAX_NV_BUFFER_SIZE)]
TPM2B_TIMEOUT = Annotated[bytes, Sized(8)]
TPM2B_IV = Annotated[bytes, Sized(profile.MAX_SYM_BLOCK_SIZE)]
TPM2B_SHARED_SECRET = Annotated[bytes, Sized(profile.MAX_DIGEST_SIZE), SECRET]
TPM2B_KEM_CIPHERTEXT = Annotated[bytes, Sized(2 * (2 + profile.MAX_ECC_KEY_BYTES))]
TPM2B_VENDOR_PROPERTY = Annotated[bytes, Sized(512)]
TPM2B_NAME = Annotated[bytes, Sized(SIZE_OF_HA)]


# 10.5 PCR structures

_PCR_BITS = Sized(profile.PCR_SELECT_MAX, prefix="B", least=profile.PCR_SELECT_MIN, rc=TPM_RC_VALUE)


class TPMS_PCR_SELECT(Wire):
    """A bit map of PCRs: PCR n is bit n % 8 of octet n // 8 (Part 2, 10.5.1)."""

    pcr_select: Annotated[bytes, _PCR_BITS]


class TPMS_PCR_SELECTION(Wire):
    """A bit map of PCRs of one bank (Part 2, 10.5.2)."""

    hash: TPMI_ALG_HASH
    pcr_select: Annotated[bytes, _PCR_BITS]


# 10.6 Tickets

class TPMT_TK_CREATION(Wire):
    """Evidence that this TPM made creation data for an object (Part 2, 10.6.3)."""

    tag: Annotated[int, Int("H", allowed=frozenset({TPM_ST_CREATION}), rc=TPM_RC_TAG)]
    hierarchy: Annotated[TPMI_RH_HIERARCHY, PLUS]
    digest: TPM2B_DIGEST


TPMU_TK_VERIFIED_META = Annotated[int | None, Arms({
    TPM_ST_VERIFIED: None,
    TPM_ST_MESSAGE_VERIFIED: None,
    TPM_ST_DIGEST_VERIFIED: TPMI_ALG_HASH,
})]


class TPMT_TK_VERIFIED(Wire):
    """Evidence that this TPM verified a signature (Part 2, 10.6.5)."""

    tag: Annotated[int, Int("H", rc=TPM_RC_TAG, allowed=frozenset(
        {TPM_ST_VERIFIED, TPM_ST_MESSAGE_VERIFIED, TPM_ST_DIGEST_VERIFIED}))]
    hierarchy: Annotated[TPMI_RH_HIERARCHY, PLUS]
    metadata: Annotated[TPMU_TK_VERIFIED_META, On("tag")]
    hmac: TPM2B_DIGEST


class TPMT_TK_AUTH(Wire):
    """Evidence of a PolicySigned or PolicySecret that expires (Part 2, 10.6.6)."""

    tag: Annotated[int, Int("H", allowed=frozenset({TPM_ST_AUTH_SIGNED, TPM_ST_AUTH_SECRET}), rc=TPM_RC_TAG)]
    hierarchy: Annotated[TPMI_RH_HIERARCHY, PLUS]
    digest: TPM2B_DIGEST


class TPMT_TK_HASHCHECK(Wire):
    """Evidence that a digest is not of a message that looks TPM-generated (Part 2, 10.6.7)."""

    tag: Annotated[int, Int("H", allowed=frozenset({TPM_ST_HASHCHECK}), rc=TPM_RC_TAG)]
    hierarchy: Annotated[TPMI_RH_HIERARCHY, PLUS]
    digest: TPM2B_DIGEST


# 10.7 Properties

class TPMS_ALG_PROPERTY(Wire):
    """An algorithm and its attributes (Part 2, 10.7.1)."""

    alg: TPM_ALG_ID
    alg_properties: TPMA_ALGORITHM


class TPMS_TAGGED_PROPERTY(Wire):
    """A TPM property and its value (Part 2, 10.7.2)."""

    property: TPM_PT
    value: UINT32


class TPMS_TAGGED_PCR_SELECT(Wire):
    """A PCR property and the PCRs that have it (Part 2, 10.7.3)."""

    tag: TPM_PT_PCR
    pcr_select: Annotated[bytes, _PCR_BITS]


class TPMS_TAGGED_POLICY(Wire):
    """A permanent handle and its policy (Part 2, 10.7.4).

    A handle without policy has the null digest, although the table's type does not carry "+".
    """

    handle: TPM_HANDLE
    policy_hash: Annotated[TPMT_HA, PLUS]


class TPMS_ACT_DATA(Wire):
    """The state of an authenticated countdown timer (Part 2, 10.7.5)."""

    handle: TPM_HANDLE
    timeout: UINT32
    attributes: TPMA_ACT


class TPMS_SPDM_SESSION_INFO(Wire):
    """The keys of the secure channel that carries the command (Part 2, 10.7.6)."""

    req_key_name: TPM2B_NAME
    tpm_key_name: TPM2B_NAME


# 10.8 Lists

TPML_CC = Annotated[list[TPM_CC], ListOf(profile.MAX_CAP_CC)]
TPML_CCA = Annotated[list[TPMA_CC], ListOf(profile.MAX_CAP_CC)]
TPML_ALG = Annotated[list[TPM_ALG_ID], ListOf(profile.MAX_ALG_LIST_SIZE)]
TPML_HANDLE = Annotated[list[TPM_HANDLE], ListOf(profile.MAX_CAP_HANDLES)]
TPML_DIGEST = Annotated[list[TPM2B_DIGEST], ListOf(8, least=2)]
# TPML_DIGEST in a response, where the minimum of TPM2_PolicyOR does not hold.
TPML_DIGEST_RESPONSE = Annotated[list[TPM2B_DIGEST], ListOf(8)]
TPML_DIGEST_VALUES = Annotated[list[TPMT_HA], ListOf(profile.HASH_COUNT)]
TPML_PCR_SELECTION = Annotated[list[TPMS_PCR_SELECTION], ListOf(profile.HASH_COUNT)]
TPML_ALG_PROPERTY = Annotated[list[TPMS_ALG_PROPERTY], ListOf(profile.MAX_CAP_ALGS)]
TPML_TAGGED_TPM_PROPERTY = Annotated[list[TPMS_TAGGED_PROPERTY], ListOf(profile.MAX_TPM_PROPERTIES)]
TPML_TAGGED_PCR_PROPERTY = Annotated[list[TPMS_TAGGED_PCR_SELECT], ListOf(profile.MAX_PCR_PROPERTIES)]
TPML_ECC_CURVE = Annotated[list[TPM_ECC_CURVE], ListOf(profile.MAX_ECC_CURVES)]
TPML_TAGGED_POLICY = Annotated[list[TPMS_TAGGED_POLICY], ListOf(profile.MAX_TAGGED_POLICIES)]
TPML_ACT_DATA = Annotated[list[TPMS_ACT_DATA], ListOf(profile.MAX_ACT_DATA)]
TPML_SPDM_SESSION_INFO = Annotated[list[TPMS_SPDM_SESSION_INFO], ListOf(profile.MAX_SPDM_SESSION_INFO)]
TPML_VENDOR_PROPERTY = Annotated[list[TPM2B_VENDOR_PROPERTY], ListOf(profile.MAX_VENDOR_PROPERTY)]


# 10.9 Capabilities.  There is no arm for TPM_CAP_PUB_KEYS: those are the keys of a secure channel, which this
# TPM does not have.

TPMU_CAPABILITIES = Annotated[
    list[TPMS_ALG_PROPERTY] | list[int] | list[TPMS_PCR_SELECTION] | list[TPMS_TAGGED_PROPERTY]
    | list[TPMS_TAGGED_PCR_SELECT] | list[TPMS_TAGGED_POLICY] | list[TPMS_ACT_DATA]
    | list[TPMS_SPDM_SESSION_INFO] | list[bytes],
    Arms({
        TPM_CAP_ALGS: TPML_ALG_PROPERTY,
        TPM_CAP_HANDLES: TPML_HANDLE,
        TPM_CAP_COMMANDS: TPML_CCA,
        TPM_CAP_PP_COMMANDS: TPML_CC,
        TPM_CAP_AUDIT_COMMANDS: TPML_CC,
        TPM_CAP_PCRS: TPML_PCR_SELECTION,
        TPM_CAP_TPM_PROPERTIES: TPML_TAGGED_TPM_PROPERTY,
        TPM_CAP_PCR_PROPERTIES: TPML_TAGGED_PCR_PROPERTY,
        TPM_CAP_ECC_CURVES: TPML_ECC_CURVE,
        TPM_CAP_AUTH_POLICIES: TPML_TAGGED_POLICY,
        TPM_CAP_ACT: TPML_ACT_DATA,
        TPM_CAP_SPDM_SESSION_INFO: TPML_SPDM_SESSION_INFO,
        TPM_CAP_VENDOR_PROPERTY: TPML_VENDOR_PROPERTY,
    })]


class TPMS_CAPABILITY_DATA(Wire):
    """One group of capabilities (Part 2, 10.9.2)."""

    capability: UINT32
    data: Annotated[TPMU_CAPABILITIES, On("capability")]


# There are no settable capabilities here, so any is a wrong value.
TPMU_SET_CAPABILITIES = Annotated[None, Arms({}, rc=TPM_RC_VALUE)]


class TPMS_SET_CAPABILITY_DATA(Wire):
    """A settable capability and its value (Part 2, 10.9.3)."""

    set_capability: UINT32
    data: Annotated[TPMU_SET_CAPABILITIES, On("set_capability")]


TPM2B_SET_CAPABILITY_DATA = Annotated[TPMS_SET_CAPABILITY_DATA, Boxed()]


# 10.10 Clock and counters

class TPMS_CLOCK_INFO(Wire):
    """Clock in ms, and how often the TPM was reset and restarted (Part 2, 10.10.1)."""

    clock: UINT64
    reset_count: UINT32
    restart_count: UINT32
    safe: TPMI_YES_NO


class TPMS_TIME_INFO(Wire):
    """Time since power on in ms, and the clock (Part 2, 10.10.6)."""

    time: UINT64
    clock_info: TPMS_CLOCK_INFO


# 10.11 Attestation

class TPMS_TIME_ATTEST_INFO(Wire):
    """What TPM2_GetTime attests (Part 2, 10.11.2)."""

    time: TPMS_TIME_INFO
    firmware_version: UINT64


class TPMS_CERTIFY_INFO(Wire):
    """What TPM2_Certify attests (Part 2, 10.11.3)."""

    name: TPM2B_NAME
    qualified_name: TPM2B_NAME


class TPMS_QUOTE_INFO(Wire):
    """What TPM2_Quote attests (Part 2, 10.11.4)."""

    pcr_select: TPML_PCR_SELECTION
    pcr_digest: TPM2B_DIGEST


class TPMS_COMMAND_AUDIT_INFO(Wire):
    """What TPM2_GetCommandAuditDigest attests (Part 2, 10.11.5)."""

    audit_counter: UINT64
    digest_alg: TPM_ALG_ID
    audit_digest: TPM2B_DIGEST
    command_digest: TPM2B_DIGEST


class TPMS_SESSION_AUDIT_INFO(Wire):
    """What TPM2_GetSessionAuditDigest attests (Part 2, 10.11.6)."""

    exclusive_session: TPMI_YES_NO
    session_digest: TPM2B_DIGEST


class TPMS_CREATION_INFO(Wire):
    """What TPM2_CertifyCreation attests (Part 2, 10.11.7)."""

    object_name: TPM2B_NAME
    creation_hash: TPM2B_DIGEST


class TPMS_NV_CERTIFY_INFO(Wire):
    """What TPM2_NV_Certify attests: contents (Part 2, 10.11.8)."""

    index_name: TPM2B_NAME
    offset: UINT16
    nv_contents: TPM2B_MAX_NV_BUFFER


class TPMS_NV_DIGEST_CERTIFY_INFO(Wire):
    """What TPM2_NV_Certify attests: the digest of the contents (Part 2, 10.11.9)."""

    index_name: TPM2B_NAME
    nv_digest: TPM2B_DIGEST


_ATTESTED = {
    TPM_ST_ATTEST_CERTIFY: TPMS_CERTIFY_INFO,
    TPM_ST_ATTEST_CREATION: TPMS_CREATION_INFO,
    TPM_ST_ATTEST_QUOTE: TPMS_QUOTE_INFO,
    TPM_ST_ATTEST_COMMAND_AUDIT: TPMS_COMMAND_AUDIT_INFO,
    TPM_ST_ATTEST_SESSION_AUDIT: TPMS_SESSION_AUDIT_INFO,
    TPM_ST_ATTEST_TIME: TPMS_TIME_ATTEST_INFO,
    TPM_ST_ATTEST_NV: TPMS_NV_CERTIFY_INFO,
    TPM_ST_ATTEST_NV_DIGEST: TPMS_NV_DIGEST_CERTIFY_INFO,
}
TPMI_ST_ATTEST = Annotated[int, Int("H", allowed=frozenset(_ATTESTED))]
TPMU_ATTEST = Annotated[
    TPMS_CERTIFY_INFO | TPMS_CREATION_INFO | TPMS_QUOTE_INFO | TPMS_COMMAND_AUDIT_INFO
    | TPMS_SESSION_AUDIT_INFO | TPMS_TIME_ATTEST_INFO | TPMS_NV_CERTIFY_INFO | TPMS_NV_DIGEST_CERTIFY_INFO,
    Arms(_ATTESTED)]


class TPMS_ATTEST(Wire):
    """What an attestation signs (Part 2, 10.11.12)."""

    magic: Annotated[int, Int("I", allowed=frozenset({TPM_GENERATED_VALUE}))]
    type: TPMI_ST_ATTEST
    qualified_signer: TPM2B_NAME
    extra_data: TPM2B_DATA
    clock_info: TPMS_CLOCK_INFO
    firmware_version: UINT64
    attested: Annotated[TPMU_ATTEST, On("type")]


# The largest is that of TPM2_NV_Certify.
TPM2B_ATTEST = Annotated[bytes, Sized(
    4 + 2 + SIZE_OF_2B_NAME + 2 + SIZE_OF_HA + SIZE_OF_CLOCK_INFO + 8
    + SIZE_OF_2B_NAME + 2 + 2 + profile.MAX_NV_BUFFER_SIZE)]


# 10.12 Authorizations

class TPMS_AUTH_COMMAND(Wire):
    """One authorization of a command (Part 2, 10.12.2)."""

    session_handle: Annotated[TPMI_SH_AUTH_SESSION, PLUS]
    nonce: TPM2B_NONCE
    session_attributes: TPMA_SESSION
    hmac: TPM2B_AUTH


class TPMS_AUTH_RESPONSE(Wire):
    """One authorization of a response (Part 2, 10.12.3)."""

    nonce: TPM2B_NONCE
    session_attributes: TPMA_SESSION
    hmac: TPM2B_AUTH
