"""Authenticated countdown timers and the absence of attached components (Part 3, 32 and 33; Part 1, 40)."""

from __future__ import annotations

import pytest

from hwtpm.client import Password
from hwtpm.crypto.hashes import digest
from hwtpm.tpm2.profile import ACT_COUNT
from hwtpm.tpm2.requests.attached import ACGetCapability, ACSend, PolicyACSendSelect
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.countdown import ACTSetTimeout
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth, HierarchyControl, SetPrimaryPolicy
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types.attributes import TPMA_ACT_PRESERVESIGNALED, TPMA_ACT_SIGNALED
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_CAP_ACT,
    TPM_RC_AUTH_UNAVAILABLE,
    TPM_RC_BAD_AUTH,
    TPM_RC_COMMAND_CODE,
    TPM_RC_CPHASH,
    TPM_RC_VALUE,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    TPM_CC_AC_Send,
    TPM_CC_Policy_AC_SendSelect,
)
from hwtpm.tpm2.types.handles import TPM_RH_ACT_0, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMS_ACT_DATA
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_keys import SIGN, elliptic, load
from tests.support.tpm2_pair import run

P1, S1, H1, H3 = 0x140, 0x900, 0x100, 0x300
ACT = TPM_RH_ACT_0
STOP = 0xFFFFFFFF


def set_timeout(machine: Machine, seconds: int, act: int = ACT) -> None:
    run(machine.client, ACTSetTimeout(act, seconds))


def state(machine: Machine, act: int = ACT) -> tuple[int, int]:
    """Return the seconds left and the attributes."""
    (found,) = machine.run(GetCapability(TPM_CAP_ACT, act, 1)).capability_data.data
    assert isinstance(found, TPMS_ACT_DATA)
    assert found.handle == act
    return found.timeout, found.attributes


def test_a_timer_counts_seconds_and_signals_at_zero(machine: Machine) -> None:
    set_timeout(machine, 3)
    set_timeout(machine, 9, ACT + 1)
    assert state(machine) == (3, 0)
    machine.clock.advance(999)
    assert state(machine) == (3, 0)
    machine.clock.advance(1)
    assert state(machine) == (2, 0)
    machine.clock.advance(5000)
    assert state(machine) == (0, TPMA_ACT_SIGNALED)
    assert state(machine, ACT + 1) == (3, 0)
    assert not machine.dirty


def test_the_four_cases_of_a_new_timeout(machine: Machine) -> None:
    """Part 3, 33.2.1: zero or not, before and after."""
    set_timeout(machine, 0)
    assert state(machine) == (0, 0)
    set_timeout(machine, 5)
    set_timeout(machine, 8)
    assert state(machine) == (8, 0)
    set_timeout(machine, 0)
    assert state(machine) == (0, TPMA_ACT_SIGNALED)
    set_timeout(machine, 0)
    assert state(machine) == (0, TPMA_ACT_SIGNALED)
    set_timeout(machine, 2)
    assert state(machine) == (2, 0)


def test_the_greatest_timeout_silences(machine: Machine) -> None:
    with refused(TPM_RC_VALUE | P1):
        set_timeout(machine, STOP)
    set_timeout(machine, 1)
    machine.clock.advance(1000)
    set_timeout(machine, STOP)
    assert state(machine) == (0, 0)


def test_a_handle_without_timer_is_refused(machine: Machine) -> None:
    with refused(TPM_RC_VALUE | H1):
        set_timeout(machine, 1, ACT + ACT_COUNT)


def test_the_platforms_auth_authorizes_while_it_is_enabled(machine: Machine) -> None:
    run(machine.client, HierarchyChangeAuth(TPM_RH_PLATFORM, b"secret"))
    with refused(TPM_RC_BAD_AUTH | S1):
        set_timeout(machine, 1)
    machine.run(ACTSetTimeout(ACT, 1), Password(b"secret"))
    machine.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_PLATFORM, 0), Password(b"secret"))
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        machine.run(ACTSetTimeout(ACT, 1), Password(b"secret"))


def test_a_policy_of_its_own_authorizes_without_the_platform(machine: Machine) -> None:
    run(machine.client, SetPrimaryPolicy(ACT, bytes(32), TPM_ALG_SHA256))
    run(machine.client, HierarchyControl(TPM_RH_PLATFORM, TPM_RH_PLATFORM, 0))
    session = machine.client.start_session(TPM_SE_POLICY)
    machine.run(ACTSetTimeout(ACT, 7), session)
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        machine.run(ACTSetTimeout(ACT + 1, 7), session)
    machine.run(SetPrimaryPolicy(ACT, b"", TPM_ALG_NULL), session)
    assert machine.tpm.timers.policy(ACT) == (TPM_ALG_NULL, b"")


def test_a_resume_goes_on_and_a_restart_ends_timers(machine: Machine) -> None:
    set_timeout(machine, 100)
    set_timeout(machine, 1, ACT + 1)
    run(machine.client, SetPrimaryPolicy(ACT, bytes(32), TPM_ALG_SHA256))
    machine.clock.advance(10_000)
    machine.run(Shutdown(TPM_SU_STATE))
    machine.clock.advance(20_000)
    assert state(machine)[0] == 70, "it counts on after a Shutdown"
    machine.power_cycle()
    machine.run(Startup(TPM_SU_STATE))
    assert state(machine) == (90, 0)
    assert state(machine, ACT + 1) == (0, TPMA_ACT_SIGNALED | TPMA_ACT_PRESERVESIGNALED)
    assert machine.tpm.timers.policy(ACT) == (TPM_ALG_SHA256, bytes(32))
    set_timeout(machine, 4, ACT + 1)
    assert state(machine, ACT + 1) == (4, 0)
    machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    assert state(machine) == state(machine, ACT + 1) == (0, 0)
    assert machine.tpm.timers.policy(ACT) == (TPM_ALG_NULL, b"")


def test_a_timer_that_nobody_set_again_has_half_its_time_after_a_resume(machine: Machine) -> None:
    """Part 1, 40.2: suspending again and again does not put off its end."""
    set_timeout(machine, 100)
    for left in (100, 50, 25):
        machine.run(Shutdown(TPM_SU_STATE))
        machine.power_cycle()
        machine.run(Startup(TPM_SU_STATE))
        assert state(machine) == (left, 0)


def test_a_new_timeout_nullifies_a_shutdown(machine: Machine) -> None:
    machine.run(Shutdown(TPM_SU_STATE))
    set_timeout(machine, 5)
    machine.power_cycle()
    with refused(TPM_RC_VALUE | P1):
        machine.run(Startup(TPM_SU_STATE))


def test_the_state_of_the_owner_survives_its_formats(machine: Machine) -> None:
    set_timeout(machine, 100)
    other = started().tpm.timers
    other.restore(machine.tpm.timers.save())
    other.restore_volatile(machine.tpm.timers.save_volatile())
    assert other.save_volatile() != started().tpm.timers.save_volatile()
    for damage, state_of in ((other.restore, b"\x09"),
                             (other.restore_volatile, b"\x09" + machine.tpm.timers.save_volatile()[1:])):
        with pytest.raises(ValueError, match="version"):
            damage(state_of)


# Attached components.

def test_no_component_has_a_property(machine: Machine) -> None:
    found = machine.run(ACGetCapability(0x90000000, 0, 10))
    assert (found.more_data, found.capabilities_data) == (0, [])


def test_nothing_can_be_sent(machine: Machine) -> None:
    key = load(machine.client, elliptic(SIGN))
    machine.tpm.objects.get(key).public.auth_policy = _policy(machine, b"", b"\x40\0\0\1", b"\x90\0\0\0", 0)
    session = machine.client.start_session(TPM_SE_POLICY)
    name = machine.client.names[key] = machine.tpm.objects.get(key).name
    machine.run(PolicyACSendSelect(session.handle, name, b"\x40\0\0\1", b"\x90\0\0\0", 0))
    with refused(TPM_RC_VALUE | H3):
        machine.run(ACSend(key, TPM_RH_OWNER, 0x90000000, b""), session, Password())


def _policy(machine: Machine, object_name: bytes, authority: bytes, component: bytes, include: int) -> bytes:
    """Return the digest that the policy has by Part 3, 32.4."""
    code = TPM_CC_Policy_AC_SendSelect.to_bytes(4, "big")
    included = object_name if include else b""
    return digest(TPM_ALG_SHA256, bytes(32), code, included, authority, component, bytes([include]))


@pytest.mark.parametrize("include", [0, 1])
def test_the_policy_that_selects_a_component(machine: Machine, include: int) -> None:
    session = machine.client.start_session(TPM_SE_POLICY)
    names = (b"object", b"authority", b"component")
    machine.run(PolicyACSendSelect(session.handle, *names, include))
    held = machine.tpm.sessions.get(session.handle)
    assert held.policy_digest == _policy(machine, *names, include)
    assert held.name_hash == digest(TPM_ALG_SHA256, *names)
    assert held.command_code == TPM_CC_AC_Send
    with refused(TPM_RC_CPHASH):
        machine.run(PolicyACSendSelect(session.handle, *names, include))
    held.name_hash = b""
    with refused(TPM_RC_COMMAND_CODE):
        machine.run(PolicyACSendSelect(session.handle, *names, include))
