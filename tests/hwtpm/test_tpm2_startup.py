"""Startup and Shutdown: TPM Reset, Restart, Resume, and what nullifies a Shutdown (Part 3, 9.3 and 9.4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwtpm.client import Password
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import HashSequenceStart
from hwtpm.tpm2.requests.session import StartAuthSession
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.owner import Start
from hwtpm.tpm2.state.power import Power
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import TPMA_STARTUP_CLEAR_ORDERLY
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_CAP_TPM_PROPERTIES,
    TPM_PT_STARTUP_CLEAR,
    TPM_RC_BAD_AUTH,
    TPM_RC_FAILURE,
    TPM_RC_INITIALIZE,
    TPM_RC_LOCALITY,
    TPM_RC_VALUE,
    TPM_SE_HMAC,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_PLATFORM, TRANSIENT_FIRST
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from tests.support.tpm2 import Machine, make_engine, refused, started

ZERO = bytes(32)
ONES = b"\xff" * 32


def pcr(machine: Machine, index: int) -> bytes:
    selection = TPMS_PCR_SELECTION(TPM_ALG_SHA256, (1 << index).to_bytes(3, "little"))
    return machine.run(PCRRead([selection])).pcr_values[0]


def counter(machine: Machine) -> int:
    return machine.run(PCRRead([])).pcr_update_counter


def extend(machine: Machine, index: int) -> None:
    machine.run(PCRExtend(index, [TPMT_HA(TPM_ALG_SHA256, b"\x01" * 32)]), Password())


def counts(machine: Machine) -> tuple[int, int, bool]:
    info = machine.run(ReadClock()).current_time.clock_info
    return info.reset_count, info.restart_count, bool(info.safe)


def again(machine: Machine, shutdown: int | None, startup: int) -> None:
    if shutdown is not None:
        machine.run(Shutdown(shutdown))
    machine.power_cycle()
    machine.run(Startup(startup))


def test_nothing_but_startup_runs_before_startup() -> None:
    machine = make_engine()
    with refused(TPM_RC_INITIALIZE):
        machine.run(GetRandom(4))
    machine.run(Startup(TPM_SU_CLEAR))
    with refused(TPM_RC_INITIALIZE):
        machine.run(Startup(TPM_SU_CLEAR))


@pytest.mark.parametrize("shutdown", [None, TPM_SU_CLEAR])
def test_state_is_refused_without_saved_state(shutdown: int | None) -> None:
    machine = started()
    if shutdown is not None:
        machine.run(Shutdown(shutdown))
    machine.power_cycle()
    with refused(TPM_RC_VALUE | 0x140):
        machine.run(Startup(TPM_SU_STATE))
    machine.run(Startup(TPM_SU_CLEAR))  # The refusal changed nothing.
    assert machine.tpm.power.start is Start.RESET


def test_a_new_tpm_has_no_saved_state() -> None:
    with refused(TPM_RC_VALUE | 0x140):
        make_engine().run(Startup(TPM_SU_STATE))


def test_reset_restores_pcrs_and_counts() -> None:
    machine = started()
    extend(machine, 0)
    before = counts(machine)
    again(machine, TPM_SU_CLEAR, TPM_SU_CLEAR)
    assert machine.tpm.power.start is Start.RESET
    assert pcr(machine, 0) == ZERO
    assert pcr(machine, 17) == ONES
    assert counter(machine) == 20  # all PCRs but 16 and 21 to 23 were reset, and count
    assert counts(machine) == (before[0] + 1, 0, True)


def test_restart_resets_pcrs_and_keeps_the_counter() -> None:
    machine = started()
    extend(machine, 0)
    before, changes = counts(machine), counter(machine)
    again(machine, TPM_SU_STATE, TPM_SU_CLEAR)
    assert machine.tpm.power.start is Start.RESTART
    assert pcr(machine, 0) == ZERO
    assert counter(machine) == changes + 20
    assert counts(machine) == (before[0], 1, True)


def test_resume_keeps_static_pcrs_only() -> None:
    machine = started()
    extend(machine, 0)
    extend(machine, 16)
    value, before = pcr(machine, 0), counts(machine)
    again(machine, TPM_SU_STATE, TPM_SU_STATE)
    assert machine.tpm.power.start is Start.RESUME
    assert pcr(machine, 0) == value
    assert pcr(machine, 16) == ZERO
    assert counts(machine) == (before[0], before[1] + 1, True)


def test_saved_state_serves_once() -> None:
    machine = started()
    again(machine, TPM_SU_STATE, TPM_SU_STATE)
    machine.power_cycle()
    with refused(TPM_RC_VALUE | 0x140):
        machine.run(Startup(TPM_SU_STATE))


def test_loss_of_power_makes_clock_unsafe() -> None:
    machine = started()
    again(machine, None, TPM_SU_CLEAR)
    assert not counts(machine)[2]


@pytest.mark.parametrize(("shutdown", "orderly"), [(None, False), (TPM_SU_CLEAR, True), (TPM_SU_STATE, True)])
def test_orderly_is_reported(shutdown: int | None, orderly: bool) -> None:
    machine = started()
    again(machine, shutdown, TPM_SU_CLEAR)
    data = machine.run(GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_STARTUP_CLEAR, 1)).capability_data.data
    assert bool(data[0].value & TPMA_STARTUP_CLEAR_ORDERLY) is orderly


def open_session(machine: Machine) -> None:
    machine.run(StartAuthSession(TPM_RH_NULL, TPM_RH_NULL, bytes(16), b"", TPM_SE_HMAC,
                                 TPMT_SYM_DEF(TPM_ALG_NULL, None, None), TPM_ALG_SHA256))


@pytest.mark.parametrize("harmless", [
    lambda m: m.run(GetRandom(4)),
    lambda m: extend(m, 16),
    lambda m: m.run(HashSequenceStart(b"", TPM_ALG_SHA256)),
    open_session,
])
def test_what_is_not_saved_does_not_nullify(harmless: Callable[[Machine], object]) -> None:
    machine = started()
    machine.run(Shutdown(TPM_SU_STATE))
    harmless(machine)
    machine.power_cycle()
    machine.run(Startup(TPM_SU_STATE))


def test_extending_a_saved_pcr_nullifies() -> None:
    machine = started()
    machine.run(Shutdown(TPM_SU_STATE))
    extend(machine, 0)
    assert machine.dirty
    machine.power_cycle()
    with refused(TPM_RC_VALUE | 0x140):
        machine.run(Startup(TPM_SU_STATE))
    machine.run(Startup(TPM_SU_CLEAR))
    assert machine.tpm.power.start is Start.RESET
    assert not counts(machine)[2]


def test_platform_auth_survives_resume_only() -> None:
    machine = started()
    machine.run(HierarchyChangeAuth(TPM_RH_PLATFORM, b"secret"), Password())
    again(machine, TPM_SU_STATE, TPM_SU_STATE)
    with refused(TPM_RC_BAD_AUTH | 0x900):
        machine.run(HierarchyChangeAuth(TPM_RH_PLATFORM, b"other"), Password())
    again(machine, TPM_SU_STATE, TPM_SU_CLEAR)
    machine.run(HierarchyChangeAuth(TPM_RH_PLATFORM, b"other"), Password())


@pytest.mark.parametrize("shutdown", [TPM_SU_CLEAR, TPM_SU_STATE])
def test_the_null_hierarchy_changes_at_reset_only(shutdown: int) -> None:
    machine = started()
    before = machine.tpm.hierarchies.seed(TPM_RH_NULL), machine.tpm.hierarchies.proof(TPM_RH_NULL)
    again(machine, shutdown, TPM_SU_CLEAR)
    after = machine.tpm.hierarchies.seed(TPM_RH_NULL), machine.tpm.hierarchies.proof(TPM_RH_NULL)
    assert (before == after) is (shutdown == TPM_SU_STATE)


def test_transient_objects_and_sessions_are_gone() -> None:
    machine = started()
    assert machine.run(HashSequenceStart(b"", TPM_ALG_SHA256)).sequence_handle == TRANSIENT_FIRST
    open_session(machine)
    again(machine, TPM_SU_STATE, TPM_SU_STATE)
    assert machine.tpm.objects.transient == {}
    assert machine.tpm.sessions.loaded == {}


def test_startup_locality_is_0_or_3_and_in_pcr0() -> None:
    machine = make_engine()
    for machine.locality in (1, 2, 4):
        with refused(TPM_RC_LOCALITY):
            machine.run(Startup(TPM_SU_CLEAR))
    machine.locality = 3
    machine.run(Startup(TPM_SU_CLEAR))
    assert pcr(machine, 0) == ZERO[1:] + b"\x03"
    machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    machine.locality = 0
    with refused(TPM_RC_LOCALITY):
        machine.run(Startup(TPM_SU_STATE))
    machine.locality = 3
    machine.run(Startup(TPM_SU_STATE))


def test_saved_state_that_cannot_be_restored_means_failure_mode() -> None:
    machine = started()
    machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    machine.tpm.power.saved[b"pcrs"] = b"\x01"
    with refused(TPM_RC_FAILURE):
        machine.run(Startup(TPM_SU_STATE))
    with refused(TPM_RC_FAILURE):
        machine.run(GetRandom(1))


def test_every_owner_gives_back_what_it_saved() -> None:
    machine = started()
    extend(machine, 0)
    machine.run(Shutdown(TPM_SU_STATE))
    other = Engine(machine.entropy, machine.clock, machine.durable).tpm
    for mine, theirs in zip(machine.tpm.owners, other.owners, strict=True):
        assert theirs.save() == mine.save(), mine.TAG
        theirs.restore_volatile(mine.save_volatile())
        assert theirs.save_volatile() == mine.save_volatile(), mine.TAG


def test_power_state_of_another_version_is_refused() -> None:
    power = Power()
    with pytest.raises(ValueError, match="version 9"):
        power.restore(b"\x09" + power.save()[1:])


def test_a_startup_that_could_not_be_stored_has_not_happened() -> None:
    machine = started()
    machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    assert machine.durable is not None
    _, dirty = machine.engine.execute(bytes.fromhex("8001 0000000c 00000144 0001"))
    assert dirty
    machine.engine.rollback(machine.durable)
    with refused(TPM_RC_INITIALIZE):
        machine.run(GetRandom(1))
    machine.run(Startup(TPM_SU_STATE))
    assert machine.tpm.power.start is Start.RESUME
