"""Physical presence, algorithm sets, read-only mode and what cannot be set (Part 3, 24.9, 26 and 30.4)."""

from __future__ import annotations

from typing import Any

import pytest

from hwtpm.client import Client, Password
from hwtpm.tpm2.readonly import REFUSED
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.hierarchy import Clear, ClearControl, HierarchyChangeAuth, ReadOnlyControl
from hwtpm.tpm2.requests.management import PPCommands, SetAlgorithmSet
from hwtpm.tpm2.requests.nv import (
    NVDefineSpace,
    NVDefineSpace2,
    NVExtend,
    NVIncrement,
    NVRead,
    NVReadLock,
    NVReadPublic,
    NVReadPublic2,
    NVWrite,
    NVWriteLock,
)
from hwtpm.tpm2.requests.policy import PolicyPhysicalPresence, PolicySecret
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.platform import GATED, Platform
from hwtpm.tpm2.types.attributes import (
    TPM_NT_EXTEND,
    TPM_NT_PIN_FAIL,
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_CLEAR_STCLEAR,
    TPMA_NV_NO_DA,
    TPMA_NV_ORDERLY,
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_READ_STCLEAR,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_NV_WRITE_STCLEAR,
    TPMA_STARTUP_CLEAR_READONLY,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_CAP_PP_COMMANDS,
    TPM_CAP_TPM_PROPERTIES,
    TPM_PT_ALGORITHM_SET,
    TPM_PT_STARTUP_CLEAR,
    TPM_RC_HANDLE,
    TPM_RC_PP,
    TPM_RC_READ_ONLY,
    TPM_RC_VALUE,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    TPM_CC_Clear,
    TPM_CC_ClearControl,
    TPM_CC_NV_Write,
    TPM_CC_PP_Commands,
    TPM_CC_SetAlgorithmSet,
    TPM_CC_SetCapability,
)
from hwtpm.tpm2.types.handles import (
    TPM_HT_EXTERNAL_NV,
    TPM_HT_NV_INDEX,
    TPM_RH_LOCKOUT,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC, TPMS_NV_PUBLIC_EXP_ATTR, TPMT_NV_PUBLIC_2
from tests.support.tpm2 import Machine, refused
from tests.support.tpm2_pair import Pair, run

P1, P2, S1, H1 = 0x140, 0x240, 0x900, 0x100
INDEX = 0x01500020
OPEN = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA | TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE


def gate(*add: int, remove: tuple[int, ...] = ()) -> PPCommands:
    return PPCommands(TPM_RH_PLATFORM, list(add), list(remove))


def gated(client: Client) -> list[object]:
    return list(run(client, GetCapability(TPM_CAP_PP_COMMANDS, 0, 99)).capability_data.data)


def prop(client: Client, name: int) -> int:
    (found,) = run(client, GetCapability(TPM_CAP_TPM_PROPERTIES, name, 1)).capability_data.data
    return found.value  # type: ignore[union-attr]


def restart(machine: Machine, kind: int = TPM_SU_CLEAR) -> None:
    machine.power_cycle()
    machine.run(Startup(kind))


# Physical presence.

def test_pp_commands_needs_presence_itself(machine: Machine) -> None:
    with refused(TPM_RC_PP | S1):
        run(machine.client, gate(TPM_CC_Clear))
    assert gated(machine.client) == [TPM_CC_PP_Commands]


def test_a_gated_command_needs_presence_for_the_platform_only(machine: Machine) -> None:
    machine.tpm.physical_presence = True
    run(machine.client, gate(TPM_CC_Clear, TPM_CC_ClearControl, TPM_CC_NV_Write, 0x1234))
    machine.tpm.physical_presence = False
    assert gated(machine.client) == [TPM_CC_Clear, TPM_CC_ClearControl, TPM_CC_PP_Commands]
    restart(machine)
    session = machine.client.start_session()
    for sessions in ((Password(),), (session,)):
        with refused(TPM_RC_PP | S1):
            machine.run(ClearControl(TPM_RH_PLATFORM, 0), *sessions)
    run(machine.client, Clear(TPM_RH_LOCKOUT))
    machine.tpm.physical_presence = True
    machine.run(ClearControl(TPM_RH_PLATFORM, 0), session)
    run(machine.client, gate(TPM_CC_Clear, remove=(TPM_CC_Clear, TPM_CC_ClearControl, TPM_CC_PP_Commands)))
    assert gated(machine.client) == [TPM_CC_PP_Commands]


def test_a_policy_can_ask_for_presence(machine: Machine) -> None:
    session = machine.client.start_session(TPM_SE_POLICY)
    machine.run(PolicyPhysicalPresence(session.handle))
    digest = machine.tpm.sessions.get(session.handle).policy_digest
    machine.tpm.hierarchies.set_policy(TPM_RH_OWNER, TPM_ALG_SHA256, digest)
    request = HierarchyChangeAuth(TPM_RH_OWNER, b"")
    with refused(TPM_RC_PP | S1):
        machine.run(request, session)
    machine.tpm.physical_presence = True
    machine.run(request, session)


def test_without_presence_the_list_is_swtpms(pair: Pair) -> None:
    assert gated(pair.ours) == gated(pair.theirs)
    for request in (gate(), gate(TPM_CC_Clear), PPCommands(TPM_RH_OWNER, [], [])):
        ours, theirs = pair.codes(request)
        assert ours == theirs, request


def test_what_can_be_gated_is_named_by_the_platform() -> None:
    """Part 3 marks the handle of each with "+{PP}": all of them can be authorized by the platform."""
    from hwtpm.tpm2.commands import load
    from hwtpm.tpm2.context import COMMANDS

    load()
    assert COMMANDS.keys() >= GATED
    octets = TPM_RH_PLATFORM.to_bytes(4, "big")
    for code in GATED:
        plan = COMMANDS[code].plan
        readers = [read for read, role in zip(plan.handle_readers, plan.roles, strict=True) if role]
        assert any(_accepts(read, octets) for read in readers), hex(code)


def _accepts(read: Any, octets: bytes) -> bool:
    try:
        return bool(read(octets, 0)[1] == 4)
    except Exception:
        return False


# Algorithm sets.

def test_the_algorithm_set_is_reported_and_permanent(machine: Machine) -> None:
    run(machine.client, SetAlgorithmSet(TPM_RH_PLATFORM, 7))
    restart(machine)
    assert prop(machine.client, TPM_PT_ALGORITHM_SET) == 7


@pytest.mark.parametrize("before", [True, False])
def test_no_resume_follows_a_change_of_the_algorithm_set(machine: Machine, before: bool) -> None:
    """Part 3, 26.3: TPM_RC_VALUE for the next Startup(STATE)."""
    if before:
        machine.run(Shutdown(TPM_SU_STATE))
    run(machine.client, SetAlgorithmSet(TPM_RH_PLATFORM, 0))
    if not before:
        machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    with refused(TPM_RC_VALUE | P1):
        machine.run(Startup(TPM_SU_STATE))
    machine.run(Startup(TPM_SU_CLEAR))
    machine.run(Shutdown(TPM_SU_STATE))
    restart(machine, TPM_SU_STATE)


def test_the_algorithm_set_is_swtpms(pair: Pair) -> None:
    for request in (SetAlgorithmSet(TPM_RH_PLATFORM, 3), SetAlgorithmSet(TPM_RH_OWNER, 3)):
        ours, theirs = pair.codes(request)
        assert ours == theirs
    assert prop(pair.ours, TPM_PT_ALGORITHM_SET) == prop(pair.theirs, TPM_PT_ALGORITHM_SET) == 3


# Read-only mode.

def define(kind: int = 0, more: int = 0, *, index: int = INDEX, size: int = 8) -> NVDefineSpace:
    return NVDefineSpace(TPM_RH_OWNER, b"", TPMS_NV_PUBLIC(
        index, TPM_ALG_SHA256, OPEN | kind << TPMA_NV_TPM_NT_SHIFT | more, b"", size))


def read_only(machine: Machine, state: int = 1) -> None:
    run(machine.client, ReadOnlyControl(TPM_RH_PLATFORM, state))


def test_read_only_mode_refuses_before_authorization(machine: Machine) -> None:
    read_only(machine)
    assert prop(machine.client, TPM_PT_STARTUP_CLEAR) & TPMA_STARTUP_CLEAR_READONLY
    requests: list[Command[Any]] = [
        HierarchyChangeAuth(TPM_RH_OWNER, b"x"), Clear(TPM_RH_PLATFORM), define(),
        SetAlgorithmSet(TPM_RH_PLATFORM, 1), SetCommandCodeAuditStatus(TPM_RH_OWNER, TPM_ALG_NULL, [], []),
        gate()]
    for request in requests:
        with refused(TPM_RC_READ_ONLY):
            machine.run(request, Password(b"wrong"))
    machine.run(ReadClock())
    read_only(machine, 0)
    run(machine.client, HierarchyChangeAuth(TPM_RH_OWNER, b"x"))


def test_read_only_mode_lasts_over_a_resume_only(machine: Machine) -> None:
    read_only(machine)
    machine.run(Shutdown(TPM_SU_STATE))
    restart(machine, TPM_SU_STATE)
    assert machine.tpm.platform.read_only
    machine.run(Shutdown(TPM_SU_STATE))
    restart(machine)
    assert not machine.tpm.platform.read_only


def test_only_volatile_indices_are_written_in_read_only_mode(machine: Machine) -> None:
    volatile = TPMA_NV_ORDERLY | TPMA_NV_CLEAR_STCLEAR | TPMA_NV_READ_STCLEAR | TPMA_NV_WRITE_STCLEAR
    run(machine.client, define())
    run(machine.client, define(0, volatile, index=INDEX + 1))
    run(machine.client, define(TPM_NT_EXTEND, volatile, index=INDEX + 2, size=32))
    run(machine.client, NVWrite(INDEX, INDEX, bytes(8), 0))
    read_only(machine)
    for request in (NVWrite(INDEX, INDEX, bytes(8), 0), NVReadLock(INDEX, INDEX), NVWriteLock(INDEX, INDEX),
                    NVIncrement(INDEX + 1, INDEX + 1)):
        with refused(TPM_RC_READ_ONLY):
            run(machine.client, request)
    run(machine.client, NVRead(INDEX, INDEX, 8, 0))
    run(machine.client, NVWrite(INDEX + 1, INDEX + 1, bytes(8), 0))
    run(machine.client, NVExtend(INDEX + 2, INDEX + 2, b"event"))
    run(machine.client, NVWriteLock(INDEX + 1, INDEX + 1))
    run(machine.client, NVReadLock(INDEX + 1, INDEX + 1))


def test_a_pin_index_counts_nothing_in_read_only_mode(machine: Machine) -> None:
    attributes = (TPMA_NV_AUTHREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA
                  | TPM_NT_PIN_FAIL << TPMA_NV_TPM_NT_SHIFT)
    public = TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, attributes, b"", 8)
    run(machine.client, NVDefineSpace(TPM_RH_OWNER, b"", public))
    run(machine.client, NVWrite(TPM_RH_OWNER, INDEX, bytes(4) + b"\0\0\0\5", 0))
    read_only(machine)
    session = machine.client.start_session(TPM_SE_POLICY)
    with refused(TPM_RC_READ_ONLY):
        run(machine.client, PolicySecret(INDEX, session.handle, b"", b"", b"", 0))
    run(machine.client, PolicySecret(TPM_RH_OWNER, session.handle, b"", b"", b"", 0))


def test_what_read_only_mode_refuses_is_registered() -> None:
    from hwtpm.tpm2.commands import load
    from hwtpm.tpm2.context import COMMANDS

    load()
    assert COMMANDS.keys() >= REFUSED


# What cannot be set, and indices of the other format.

def test_no_capability_can_be_set(machine: Machine) -> None:
    """No TCG registry defines one (Part 2, 10.9.3)."""
    header = TPM_CC_SetCapability.to_bytes(4, "big") + TPM_RH_OWNER.to_bytes(4, "big")
    area = (9).to_bytes(4, "big") + 0x40000009.to_bytes(4, "big") + bytes(5)
    for capability in (0, TPM_CAP_TPM_PROPERTIES, 0x100):
        body = header + area + b"\0\4" + capability.to_bytes(4, "big")
        command = b"\x80\2" + (6 + len(body)).to_bytes(4, "big") + body
        assert int.from_bytes(machine.execute(command)[6:10], "big") == TPM_RC_VALUE | P1


def test_the_second_way_to_define_an_index_is_the_same(machine: Machine) -> None:
    public = define().public_info
    run(machine.client, NVDefineSpace2(TPM_RH_OWNER, b"", TPMT_NV_PUBLIC_2(TPM_HT_NV_INDEX, public)))
    found, again = machine.run(NVReadPublic(INDEX)), machine.run(NVReadPublic2(INDEX))
    assert found.nv_public == again.nv_public.public_area == public
    assert (again.nv_public.handle_type, again.nv_name) == (TPM_HT_NV_INDEX, found.nv_name)


def test_there_are_no_external_indices(machine: Machine) -> None:
    public = TPMS_NV_PUBLIC_EXP_ATTR(0x11000001, TPM_ALG_SHA256, OPEN, b"", 8)
    with refused(TPM_RC_HANDLE | P2):
        run(machine.client, NVDefineSpace2(TPM_RH_OWNER, b"", TPMT_NV_PUBLIC_2(TPM_HT_EXTERNAL_NV, public)))
    for handle in (0x11000001, 0x12000001):
        with refused(TPM_RC_VALUE | H1):
            machine.run(NVReadPublic2(handle))


def test_the_state_of_the_owner_survives_both_formats() -> None:
    platform = Platform()
    platform.gate([TPM_CC_Clear], [])
    platform.select_algorithms(5)
    platform.establish(True)
    platform.read_only = True
    other = Platform()
    other.restore(platform.save())
    other.restore_volatile(platform.save_volatile())
    assert (other.save(), other.save_volatile()) == (platform.save(), platform.save_volatile())
    for damage in (other.restore, other.restore_volatile):
        with pytest.raises(ValueError, match="version 9"):
            damage(b"\x09" + (platform.save() if damage == other.restore else platform.save_volatile())[1:])
    assert TPM_CC_SetAlgorithmSet not in GATED
