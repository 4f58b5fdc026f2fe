"""GetCapability: every group, paging, and what is left of it in failure mode (Part 3, 30.2)."""

from __future__ import annotations

from typing import Any

import pytest

from hwtpm.client import Password
from hwtpm.tpm2 import profile
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.requests.capability import GetCapability, GetCapabilityResponse
from hwtpm.tpm2.requests.context import ContextSave
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import HashSequenceStart
from hwtpm.tpm2.requests.session import StartAuthSession
from hwtpm.tpm2.requests.testing import GetTestResult
from hwtpm.tpm2.state.pcr import ALL_PCRS, selection
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import (
    TPMA_CC_COMMANDINDEX,
    TPMA_PERMANENT_OWNERAUTHSET,
    TPMA_PERMANENT_TPMGENERATEDEPS,
    TPMA_STARTUP_CLEAR_EHENABLE,
    TPMA_STARTUP_CLEAR_ORDERLY,
    TPMA_STARTUP_CLEAR_PHENABLE,
    TPMA_STARTUP_CLEAR_PHENABLENV,
    TPMA_STARTUP_CLEAR_SHENABLE,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_RC_FAILURE,
    TPM_RC_HANDLE,
    TPM_RC_VALUE,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.structures import TPMS_TAGGED_PROPERTY
from tests.support.tpm2 import Machine, make_engine, refused, started

P1, P2 = 0x140, 0x240
MANY = 1000


def ask(machine: Machine, capability: int, first: int = 0, count: int = MANY) -> GetCapabilityResponse:
    found = machine.run(GetCapability(capability, first, count))
    assert found.capability_data.capability == capability
    return found


def values(machine: Machine, capability: int, first: int = 0, count: int = MANY) -> Any:
    return ask(machine, capability, first, count).capability_data.data


def properties(machine: Machine, first: int) -> dict[int, int]:
    return {p.property: p.value for p in values(machine, c.TPM_CAP_TPM_PROPERTIES, first)}


def session(machine: Machine, kind: int = TPM_SE_HMAC) -> int:
    no_cipher = TPMT_SYM_DEF(TPM_ALG_NULL, None, None)
    return machine.run(StartAuthSession(TPM_RH_NULL, TPM_RH_NULL, bytes(16), b"", kind, no_cipher,
                                        TPM_ALG_SHA256)).session_handle


PAGED = {
    c.TPM_CAP_ALGS: 0, c.TPM_CAP_COMMANDS: 0, c.TPM_CAP_PCR_PROPERTIES: 0, c.TPM_CAP_ECC_CURVES: 0,
    c.TPM_CAP_HANDLES: 0x40000000, c.TPM_CAP_AUTH_POLICIES: 0x40000000,
}


def key_of(capability: int, value: Any) -> int:
    if capability == c.TPM_CAP_COMMANDS:
        return int(value & TPMA_CC_COMMANDINDEX)
    for name in ("alg", "property", "tag", "handle"):
        if hasattr(value, name):
            return int(getattr(value, name))
    return int(value)


@pytest.mark.parametrize(("capability", "first"), PAGED.items())
def test_paging_gives_the_same_as_one_answer(capability: int, first: int) -> None:
    machine = started()
    whole = ask(machine, capability, first)
    assert not whole.more_data
    pages, at = [], first
    while True:
        page = ask(machine, capability, at, 3)
        found: Any = page.capability_data.data
        pages += found
        if not page.more_data:
            break
        at = key_of(capability, found[-1]) + 1
    assert pages == whole.capability_data.data
    keys = [key_of(capability, value) for value in pages]
    assert keys == sorted(keys)
    nothing = ask(machine, capability, first, 0)
    assert nothing.more_data
    assert nothing.capability_data.data == []
    after = ask(machine, capability, keys[-1] + 1)
    assert not after.more_data
    assert after.capability_data.data == []


def test_algorithms_are_those_of_the_profile() -> None:
    algs = {p.alg: p.alg_properties for p in values(started(), c.TPM_CAP_ALGS)}
    assert algs.keys() >= profile.HASHES | profile.SYMMETRIC | profile.SYM_MODES | profile.KDFS
    assert algs.keys() >= profile.RSA_SIGNING_SCHEMES | profile.ECC_KEY_EXCHANGES
    # As libtpms reports them.
    assert algs[c.TPM_ALG_KEYEDHASH] == 0x30C
    assert algs[c.TPM_ALG_ECDH] == 0x401
    assert algs[c.TPM_ALG_HMAC] == 0x104


def test_commands_are_the_registered_ones() -> None:
    found = values(started(), c.TPM_CAP_COMMANDS)
    assert [v & TPMA_CC_COMMANDINDEX for v in found] == sorted(COMMANDS)
    assert values(started(), c.TPM_CAP_PP_COMMANDS) == [c.TPM_CC_PP_Commands]
    assert values(started(), c.TPM_CAP_AUDIT_COMMANDS) == [c.TPM_CC_SetCommandCodeAuditStatus]


def test_pcrs_are_returned_whole() -> None:
    machine = started()
    for count in (0, 1, MANY):
        found = ask(machine, c.TPM_CAP_PCRS, 0, count)
        assert not found.more_data
        assert found.capability_data.data == [selection(alg, ALL_PCRS) for alg in profile.PCR_BANKS]
    with refused(TPM_RC_VALUE | P2):
        ask(machine, c.TPM_CAP_PCRS, 1)


def test_curves_are_those_of_the_profile() -> None:
    assert values(started(), c.TPM_CAP_ECC_CURVES) == sorted(profile.ECC_CURVES)


def test_handles_of_every_kind() -> None:
    machine = started()
    assert values(machine, c.TPM_CAP_HANDLES, 0) == list(range(24))
    assert values(machine, c.TPM_CAP_HANDLES, 22) == [22, 23]
    assert values(machine, c.TPM_CAP_HANDLES, 24) == []
    for kind in (0x01, 0x02, 0x03, 0x80, 0x81, 0x90):
        assert values(machine, c.TPM_CAP_HANDLES, kind << 24) == []
    sequence = machine.run(HashSequenceStart(b"", TPM_ALG_SHA256)).sequence_handle
    assert values(machine, c.TPM_CAP_HANDLES, 0x80000000) == [sequence]
    assert values(machine, c.TPM_CAP_HANDLES, sequence + 1) == []
    with refused(TPM_RC_HANDLE | P2):
        ask(machine, c.TPM_CAP_HANDLES, 0x05000000)


def test_saved_sessions_are_listed_as_hmac_sessions() -> None:
    machine = started()
    first, second, third = session(machine), session(machine, TPM_SE_POLICY), session(machine)
    assert [first, second, third] == [0x02000000, 0x03000001, 0x02000002]
    assert values(machine, c.TPM_CAP_HANDLES, 0x02000000) == [first, second, third]
    assert values(machine, c.TPM_CAP_HANDLES, 0x02000001) == [second, third]
    machine.run(ContextSave(second))
    assert values(machine, c.TPM_CAP_HANDLES, 0x02000000) == [first, third]
    assert values(machine, c.TPM_CAP_HANDLES, 0x03000000) == [0x02000001]
    found = properties(machine, c.TPM_PT_PERMANENT)
    assert found[c.TPM_PT_HR_LOADED] == 2
    assert found[c.TPM_PT_HR_LOADED_AVAIL] == profile.MAX_LOADED_SESSIONS - 2
    assert found[c.TPM_PT_HR_ACTIVE] == 3
    assert found[c.TPM_PT_HR_ACTIVE_AVAIL] == profile.MAX_ACTIVE_SESSIONS - 3


def test_fixed_properties() -> None:
    machine = started()
    found = properties(machine, 0)
    assert found == properties(machine, c.TPM_PT_FAMILY_INDICATOR)
    # Reserved, and those of functions that this TPM lacks, are absent.
    absent = {0x115, c.TPM_PT_FIRMWARE_SVN, c.TPM_PT_FIRMWARE_MAX_SVN, c.TPM_PT_ML_PARAMETER_SETS}
    assert found.keys() == set(range(0x100, 0x132)) - absent
    assert found[c.TPM_PT_FAMILY_INDICATOR] == int.from_bytes(b"2.0\0", "big")
    assert found[c.TPM_PT_TOTAL_COMMANDS] == found[c.TPM_PT_LIBRARY_COMMANDS] == len(COMMANDS)
    assert found[c.TPM_PT_PCR_COUNT] == 24
    assert found[c.TPM_PT_MAX_DIGEST] == 64


def test_variable_properties() -> None:
    machine = started()
    found = properties(machine, c.TPM_PT_PERMANENT)
    assert list(found) == list(range(0x200, 0x215))
    assert found[c.TPM_PT_PERMANENT] == TPMA_PERMANENT_TPMGENERATEDEPS
    assert found[c.TPM_PT_STARTUP_CLEAR] == (
        TPMA_STARTUP_CLEAR_PHENABLE | TPMA_STARTUP_CLEAR_SHENABLE | TPMA_STARTUP_CLEAR_EHENABLE
        | TPMA_STARTUP_CLEAR_PHENABLENV | TPMA_STARTUP_CLEAR_ORDERLY)
    assert found[c.TPM_PT_MAX_AUTH_FAIL] == profile.DA_MAX_TRIES
    machine.run(HierarchyChangeAuth(TPM_RH_OWNER, b"secret"), Password())
    found = properties(machine, c.TPM_PT_PERMANENT)
    assert found[c.TPM_PT_PERMANENT] == TPMA_PERMANENT_TPMGENERATEDEPS | TPMA_PERMANENT_OWNERAUTHSET


def test_properties_stay_within_their_group() -> None:
    machine = started()
    page = ask(machine, c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_MAX_CAP_BUFFER, 10)
    assert page.capability_data.data == [
        TPMS_TAGGED_PROPERTY(c.TPM_PT_MAX_CAP_BUFFER, profile.MAX_CAP_BUFFER)]
    assert not page.more_data
    assert values(machine, c.TPM_CAP_TPM_PROPERTIES, 0x300) == []


def test_pcr_properties_follow_the_localities() -> None:
    found = {p.tag: int.from_bytes(p.pcr_select, "little")
             for p in values(started(), c.TPM_CAP_PCR_PROPERTIES)}
    assert found[c.TPM_PT_PCR_SAVE] == 0x00FFFF
    assert found[c.TPM_PT_PCR_EXTEND_L0] == 0x81FFFF
    assert found[c.TPM_PT_PCR_RESET_L0] == 0x810000
    assert found[c.TPM_PT_PCR_EXTEND_L2] == 0x7FFFFF | 0x800000
    assert found[c.TPM_PT_PCR_RESET_L4] == 0x7E0000
    assert found[c.TPM_PT_PCR_NO_INCREMENT] == 0xE10000
    assert found[c.TPM_PT_PCR_DRTM_RESET] == 0x7E0000
    assert found[c.TPM_PT_PCR_POLICY] == found[c.TPM_PT_PCR_AUTH] == 0x700000


def test_policies_of_the_permanent_handles() -> None:
    machine = started()
    found = values(machine, c.TPM_CAP_AUTH_POLICIES, 0x40000000)
    assert [(p.handle, p.policy_hash.hash_alg) for p in found] == [
        (h, TPM_ALG_NULL) for h in (0x40000001, 0x4000000A, 0x4000000B, 0x4000000C, 0x40000110, 0x40000111)]
    machine.tpm.hierarchies.set_policy(TPM_RH_OWNER, TPM_ALG_SHA256, b"\x07" * 32)
    first = values(machine, c.TPM_CAP_AUTH_POLICIES, 0x40000000, 1)[0]
    assert first.policy_hash.digest == b"\x07" * 32
    with refused(TPM_RC_VALUE | P2):
        ask(machine, c.TPM_CAP_AUTH_POLICIES, 0)


def test_timers_are_listed_and_there_is_no_secure_channel() -> None:
    machine = started()
    assert [timer.handle for timer in values(machine, c.TPM_CAP_ACT, 0x40000111)] == [0x40000111]
    assert values(machine, c.TPM_CAP_ACT, 0x40000112) == []
    with refused(TPM_RC_VALUE | P2):
        ask(machine, c.TPM_CAP_ACT)
    for capability in (c.TPM_CAP_PUB_KEYS, c.TPM_CAP_SPDM_SESSION_INFO, 0x0D, c.TPM_CAP_VENDOR_PROPERTY):
        with refused(TPM_RC_VALUE | P1):
            ask(machine, capability)


@pytest.mark.parametrize("after_startup", [False, True])
def test_failure_mode_tells_who_made_it_and_nothing_else(after_startup: bool) -> None:
    machine = started() if after_startup else make_engine()
    machine.tpm.power.failed = True
    assert list(properties(machine, 0)) == list(range(c.TPM_PT_MANUFACTURER, c.TPM_PT_FIRMWARE_VERSION_2 + 1))
    assert list(properties(machine, c.TPM_PT_FIRMWARE_VERSION_2)) == [c.TPM_PT_FIRMWARE_VERSION_2]
    page = ask(machine, c.TPM_CAP_TPM_PROPERTIES, 0, 1)
    assert page.more_data
    assert properties(machine, c.TPM_PT_PERMANENT) == {}
    assert values(machine, c.TPM_CAP_ALGS) == []
    assert machine.run(GetTestResult()).test_result == TPM_RC_FAILURE
    with refused(TPM_RC_FAILURE):
        machine.run(GetRandom(1))
    with refused(TPM_RC_FAILURE):  # with sessions, even what else is allowed
        machine.run(GetCapability(c.TPM_CAP_TPM_PROPERTIES, 0, 1), Password())
