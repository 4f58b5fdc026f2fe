"""Policies over what the TPM is and over parameters (Part 3, 23.23 to 23.25), by the definitions of v185.

libtpms 0.9 has none of them, so there is nothing to compare with.
"""

from __future__ import annotations

from struct import Struct

import pytest

from hwtpm.client import Client, Password, Session
from hwtpm.crypto import hashes
from hwtpm.tpm2.profile import SPEC_VERSION
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.nv import NVRead, NVWrite
from hwtpm.tpm2.requests.policy import (
    PolicyCapability,
    PolicyCpHash,
    PolicyGetDigest,
    PolicyNameHash,
    PolicyParameters,
    PolicyTransportSPDM,
)
from hwtpm.tpm2.requests.session import PolicyRestart
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.attributes import TPMA_NV_NO_DA, TPMA_NV_OWNERWRITE, TPMA_NV_POLICYREAD
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from tests.support.tpm2 import refused, started
from tests.support.tpm2_either import INDEX, define, rename

ALG = c.TPM_ALG_SHA256
ZEROS = bytes(32)
ONE = bytes(31) + b"\1"
ARGUMENTS = Struct(">HHII")
FIRST, SECOND, FOURTH = 0x140, 0x240, 0x440


@pytest.fixture
def client() -> Client:
    return started().client


def digest_of(client: Client, session: Session) -> bytes:
    return client.run(PolicyGetDigest(session.handle)).policy_digest


def check(client: Client, operand: bytes, offset: int, operation: int, capability: int, prop: int,
          kind: int = c.TPM_SE_POLICY) -> bytes:
    """Run a PolicyCapability in a session of its own and return the digest."""
    session = client.start_session(kind)
    try:
        client.run(PolicyCapability(session.handle, operand, offset, operation, capability, prop))
        return digest_of(client, session)
    finally:
        client.run(FlushContext(session.handle))


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def test_the_digest_is_as_defined_and_the_same_in_a_trial(client: Client) -> None:
    """The example of 23.23.1: a policy for a version of the specification."""
    asked = (u32(100), 4, c.TPM_EO_UNSIGNED_GE, c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_REVISION)
    asserted = hashes.digest(ALG, asked[0], ARGUMENTS.pack(*asked[1:]))
    expected = hashes.digest(ALG, ZEROS, u32(c.TPM_CC_PolicyCapability), asserted)
    assert check(client, *asked) == check(client, *asked, kind=c.TPM_SE_TRIAL) == expected


def test_a_trial_compares_nothing(client: Client) -> None:
    check(client, u32(0), 4, c.TPM_EO_EQ, c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_REVISION, c.TPM_SE_TRIAL)
    check(client, bytes(60), 90, c.TPM_EO_EQ, c.TPM_CAP_ALGS, 0xEEEE, c.TPM_SE_TRIAL)


@pytest.mark.parametrize(("capability", "prop", "octets"), [
    (c.TPM_CAP_ALGS, c.TPM_ALG_SHA256, "000b 00000004"),
    (c.TPM_CAP_HANDLES, TPM_RH_OWNER, "40000001"),
    (c.TPM_CAP_HANDLES, 5, "00000005"),
    (c.TPM_CAP_COMMANDS, c.TPM_CC_GetRandom, "0000017b"),
    (c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_REVISION, f"00000102 {SPEC_VERSION:08x}"),
    (c.TPM_CAP_PCR_PROPERTIES, c.TPM_PT_PCR_RESET_L4, "0000000a 03 00007e"),
    (c.TPM_CAP_ECC_CURVES, c.TPM_ECC_NIST_P256, "0003"),
    (c.TPM_CAP_AUTH_POLICIES, TPM_RH_OWNER, "40000001 0010"),
])
def test_a_property_is_compared_in_its_structure(client: Client, capability: int, prop: int,
                                                 octets: str) -> None:
    found = bytes.fromhex(octets)
    check(client, found, 0, c.TPM_EO_EQ, capability, prop)
    check(client, found[1:], 1, c.TPM_EO_EQ, capability, prop)
    check(client, b"", len(found), c.TPM_EO_EQ, capability, prop)
    with refused(c.TPM_RC_POLICY):
        check(client, found, 0, c.TPM_EO_NEQ, capability, prop)
    with refused(c.TPM_RC_RANGE):
        check(client, found + b"\0", 0, c.TPM_EO_EQ, capability, prop)
    with refused(c.TPM_RC_VALUE | SECOND):
        check(client, b"", len(found) + 1, c.TPM_EO_EQ, capability, prop)


@pytest.mark.parametrize(("capability", "prop"), [
    (c.TPM_CAP_ALGS, 0x7FFF),
    (c.TPM_CAP_HANDLES, 0x81000001),
    (c.TPM_CAP_HANDLES, 0x80000000),
    (c.TPM_CAP_HANDLES, 0xFF000000),  # no kind of handle
    (c.TPM_CAP_COMMANDS, c.TPM_CC_PolicyTransportSPDM),
    (c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_PERMANENT + 0x90),
    (c.TPM_CAP_ECC_CURVES, 0x7F),
    (c.TPM_CAP_AUTH_POLICIES, 1),
    (c.TPM_CAP_PUB_KEYS, 0),
    (c.TPM_CAP_SPDM_SESSION_INFO, 0),
    (c.TPM_CAP_VENDOR_PROPERTY, 1),
])
def test_a_property_that_does_not_exist_is_only_not_equal(client: Client, capability: int, prop: int) -> None:
    for operation in range(c.TPM_EO_EQ, c.TPM_EO_BITCLEAR + 1):
        if operation == c.TPM_EO_NEQ:
            check(client, bytes(4), 0, operation, capability, prop)
        else:
            with refused(c.TPM_RC_POLICY):
                check(client, b"", 0, operation, capability, prop)


def test_a_loaded_session_is_a_property_whatever_its_kind(client: Client) -> None:
    other = client.start_session(c.TPM_SE_POLICY)
    number = other.handle & 0xFFFFFF
    check(client, u32(other.handle), 0, c.TPM_EO_EQ, c.TPM_CAP_HANDLES, 0x02000000 | number)
    with refused(c.TPM_RC_POLICY):
        check(client, b"", 0, c.TPM_EO_EQ, c.TPM_CAP_HANDLES, 0x03000000 | number)


def test_pcrs_and_unknown_capabilities_are_refused_even_in_a_trial(client: Client) -> None:
    for kind in (c.TPM_SE_POLICY, c.TPM_SE_TRIAL):
        for capability in (c.TPM_CAP_PCRS, c.TPM_CAP_LAST + 1, 0xFFFFFFFF):
            with refused(c.TPM_RC_VALUE | FOURTH):
                check(client, b"", 0, c.TPM_EO_EQ, capability, 0, kind)


def guarded(client: Client, policy: bytes) -> None:
    define(client, attributes=TPMA_NV_POLICYREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA, policy=policy)
    client.run(NVWrite(TPM_RH_OWNER, INDEX, bytes(range(16)), 0), Password())
    rename(client, INDEX)


def p_hash(code: int, parameters: bytes) -> bytes:
    return hashes.digest(ALG, u32(code), parameters)


def test_parameters_are_bound_and_objects_are_not(client: Client) -> None:
    """The digest is cpHash without the Names; it is checked when the session is used."""
    wanted = p_hash(c.TPM_CC_NV_Read, b"\0\4\0\2")
    trial = client.start_session(c.TPM_SE_TRIAL)
    client.run(PolicyParameters(trial.handle, wanted))
    policy = digest_of(client, trial)
    assert policy == hashes.digest(ALG, ZEROS, u32(c.TPM_CC_PolicyParameters), wanted)
    guarded(client, policy)
    session = client.start_session(c.TPM_SE_POLICY)
    client.run(PolicyParameters(session.handle, wanted))
    with refused(c.TPM_RC_POLICY_FAIL | 0x900):
        client.run(NVRead(INDEX, INDEX, 4, 3), session)
    assert client.run(NVRead(INDEX, INDEX, 4, 2), session).data == bytes(range(2, 6))


def test_parameters_are_one_qualifier_among_others(client: Client) -> None:
    session = client.start_session(c.TPM_SE_POLICY)
    with refused(c.TPM_RC_SIZE | FIRST):
        client.run(PolicyParameters(session.handle, bytes(20)))
    client.run(PolicyParameters(session.handle, ONE))
    for other in (PolicyParameters, PolicyCpHash, PolicyNameHash):
        with refused(c.TPM_RC_CPHASH):
            client.run(other(session.handle, ONE))
    client.run(PolicyRestart(session.handle))
    client.run(PolicyNameHash(session.handle, ONE))
    with refused(c.TPM_RC_CPHASH):
        client.run(PolicyParameters(session.handle, ONE))


def test_a_policy_for_a_secure_channel_is_refused_and_not_reported(client: Client) -> None:
    session = client.start_session(c.TPM_SE_POLICY)
    with refused(c.TPM_RC_COMMAND_CODE):
        client.run(PolicyTransportSPDM(session.handle, b"", b""))
    first = client.run(GetCapability(c.TPM_CAP_COMMANDS, c.TPM_CC_PolicyTransportSPDM, 1)).capability_data
    assert [found & 0xFFFF for found in first.data] != [c.TPM_CC_PolicyTransportSPDM]
