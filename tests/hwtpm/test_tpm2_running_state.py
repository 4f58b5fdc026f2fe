"""The state of a running TPM: restored at any point, it goes on as if nothing had been."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm import snapshot as frame
from hwtpm.client import Password
from hwtpm.crypto import hashes
from hwtpm.errors import StateError
from hwtpm.tpm2.engine import _RUNNING, RUNNING_VERSION, Engine
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave
from hwtpm.tpm2.requests.countdown import ACTSetTimeout
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth, HierarchyControl
from hwtpm.tpm2.requests.management import SetAlgorithmSet
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import HashSequenceStart
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.testing import GetTestResult
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.attributes import TPMA_SESSION_AUDIT, TPMA_SESSION_AUDITEXCLUSIVE
from hwtpm.tpm2.types.handles import (
    TPM_RH_ACT_0,
    TPM_RH_LOCKOUT,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.structures import TPMT_HA
from tests.support import tpm2_running_fixture as fixture
from tests.support.machine import ManualClock
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_running import LiveWalk, Twins, observe_live
from tests.support.tpm2_state import observe

FILES = sorted((Path(__file__).resolve().parents[1] / "vectors").glob("running-*.json"))
NONE = Password()
MESSAGE = b"what is launched" * 100


def twins() -> Twins:
    machine = Twins()
    machine.run(Startup(c.TPM_SU_CLEAR))
    return machine


def pcr(machine: Machine, index: int) -> bytes:
    [value] = machine.run(PCRRead([fixture.TPMS_PCR_SELECTION(
        c.TPM_ALG_SHA256, (1 << index).to_bytes(3, "little"))])).pcr_values
    return value


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), before=st.integers(0, 80), after=st.integers(1, 60))
def test_a_resumed_tpm_cannot_be_told_from_one_that_went_on(seed: int, before: int, after: int) -> None:
    """The twin gives the same octets for every command after a random history; `Twins` compares them."""
    machine = twins()
    walk = LiveWalk(seed, machine)
    walk.go(before)
    machine.part()
    walk.go(after)
    observe_live(machine)
    observe(machine, walk)
    machine.assert_equal()


# What a random walk seldom reaches; the twin has to give the same answers here, too.

def test_the_exclusive_audit_session_stays_exclusive() -> None:
    machine = twins()
    session = machine.client.start_session()
    session.attributes |= TPMA_SESSION_AUDIT
    machine.run(GetRandom(4), session)
    machine.part()
    session.attributes |= TPMA_SESSION_AUDITEXCLUSIVE
    machine.run(GetRandom(4), session)
    machine.run(GetRandom(4))
    with refused(c.TPM_RC_EXCLUSIVE):
        machine.run(GetRandom(4), session)


def test_a_disabled_platform_hierarchy_stays_disabled() -> None:
    machine = twins()
    machine.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_PLATFORM, 0), NONE)
    machine.part()
    with refused(c.TPM_RC_HIERARCHY | 0x100):
        machine.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_OWNER, 0), NONE)


def test_no_resume_follows_a_change_of_the_algorithms() -> None:
    """Part 3, 26.3."""
    machine = twins()
    machine.run(SetAlgorithmSet(TPM_RH_PLATFORM, machine.tpm.platform.algorithm_set), NONE)
    machine.part()
    machine.run(Shutdown(c.TPM_SU_STATE))
    machine.power_cycle()
    with refused(c.TPM_RC_VALUE | 0x140):
        machine.run(Startup(c.TPM_SU_STATE))


@pytest.mark.parametrize("updated", [False, True])
def test_a_timer_is_halved_only_if_nobody_has_set_it(*, updated: bool) -> None:
    """Part 1, 40.2: whether it was set in this run is part of the state."""
    machine = twins()
    machine.run(ACTSetTimeout(TPM_RH_ACT_0, 1000), NONE)
    machine.run(Shutdown(c.TPM_SU_STATE))
    machine.power_cycle()
    machine.run(Startup(c.TPM_SU_STATE))
    if updated:
        machine.run(ACTSetTimeout(TPM_RH_ACT_0, 800), NONE)
    machine.part()
    machine.run(Shutdown(c.TPM_SU_STATE))
    machine.power_cycle()
    machine.run(Startup(c.TPM_SU_STATE))
    timers = machine.run(GetCapability(c.TPM_CAP_ACT, TPM_RH_ACT_0, 1)).capability_data.data
    assert timers[0].timeout == (800 if updated else 500)


@pytest.mark.parametrize("changes", [False, True])
def test_a_shutdown_counts_until_the_state_changes(*, changes: bool) -> None:
    """Part 3, 9.4.1.  Time that passes is no change, although timers count."""
    machine = twins()
    machine.run(ACTSetTimeout(TPM_RH_ACT_0, 1000), NONE)
    machine.run(Shutdown(c.TPM_SU_STATE))
    machine.part()
    machine.clock.advance(5000)
    machine.run(GetCapability(c.TPM_CAP_ACT, TPM_RH_ACT_0, 1))
    if changes:
        machine.run(PCRExtend(0, [TPMT_HA(c.TPM_ALG_SHA256, bytes(32))]), NONE)
    machine.power_cycle()
    if changes:
        with refused(c.TPM_RC_VALUE | 0x140):
            machine.run(Startup(c.TPM_SU_STATE))
    else:
        machine.run(Startup(c.TPM_SU_STATE))


def test_the_times_of_lockouts_go_on() -> None:
    machine = twins()
    machine.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    with refused(c.TPM_RC_AUTH_FAIL | 0x900):
        machine.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b""), NONE)
    machine.clock.advance(999_000)
    machine.part()
    with refused(c.TPM_RC_LOCKOUT):
        machine.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b""), Password(b"lock"))
    machine.clock.advance(1000)
    machine.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b""), Password(b"lock"))


def test_failure_mode_stays() -> None:
    machine = twins()
    machine.tpm.power.failed = True
    machine.part()
    machine.run(GetTestResult())
    with refused(c.TPM_RC_FAILURE):
        machine.run(GetRandom(1))


@pytest.mark.parametrize("when", range(4))
def test_a_launch_goes_on_before_the_startup_and_after_it(when: int) -> None:
    """Part 3, 22.9 to 22.11: an H-CRTM measures into PCR 0, a D-RTM into PCR 17."""
    digest = hashes.digest(c.TPM_ALG_SHA256, MESSAGE)
    for early in (True, False):
        machine = Twins()
        if not early:
            machine.run(Startup(c.TPM_SU_CLEAR))
        for number, act in enumerate((Engine.hash_start, lambda e: e.hash_data(MESSAGE[:777]),
                                      lambda e: e.hash_data(MESSAGE[777:]), Engine.hash_end)):
            if number == when:
                machine.part()
            machine.platform(act)
        if early:
            machine.run(Startup(c.TPM_SU_CLEAR))
        before = bytes(31) + (b"\4" if early else b"\0")
        assert pcr(machine, 0 if early else 17) == hashes.digest(c.TPM_ALG_SHA256, before, digest)


def test_a_tpm_that_is_not_started_can_be_saved() -> None:
    machine = Twins()
    machine.power_cycle()
    machine.part()
    with refused(c.TPM_RC_INITIALIZE):
        machine.run(GetRandom(1))
    machine.run(Startup(c.TPM_SU_CLEAR))


def test_contexts_that_were_saved_before_can_be_loaded() -> None:
    machine = twins()
    handle = machine.run(HashSequenceStart(b"", c.TPM_ALG_SHA256)).sequence_handle
    session = machine.client.start_session()
    contexts = [machine.run(ContextSave(h)).context for h in (handle, session.handle)]
    machine.part()
    for context in contexts:
        machine.run(ContextLoad(context))
    with refused(c.TPM_RC_HANDLE | 0x140):
        machine.run(ContextLoad(contexts[1]))


# The state itself.

def test_the_time_between_saving_and_resuming_does_not_count() -> None:
    machine = started()
    machine.clock.advance(1234)
    before = machine.run(ReadClock()).current_time
    running = machine.engine.snapshot_running()
    clock = ManualClock()
    clock.ms = 5
    engine = Engine(machine.entropy, clock, machine.engine.snapshot(), running=running)
    machine.engine = engine
    assert machine.run(ReadClock()).current_time == before
    clock.advance(10)
    assert machine.run(ReadClock()).current_time.time == before.time + 10


def test_a_state_that_is_resumed_twice_gives_two_streams_of_random_octets() -> None:
    """Else two signatures that want a nonce of their own would share one, and tell the private key."""
    machine = started()
    running, snapshot = machine.engine.snapshot_running(), machine.engine.snapshot()
    one, two = (Machine(seed, snapshot, running).run(GetRandom(32)).random_bytes for seed in (b"1", b"2"))
    assert one != two


@cache
def saved() -> tuple[bytes, bytes]:
    """Permanent and running state of a TPM with something of everything."""
    machine = fixture.make()
    running = machine.engine.snapshot_running()
    return machine.engine.snapshot(), running


def packed(sections: dict[bytes, bytes], snapshot: bytes) -> bytes:
    return frame.pack_running(*_RUNNING, sections, snapshot)


def resume(snapshot: bytes, running: bytes) -> Machine:
    return Machine(b"resumed", snapshot, running)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 1 << 20), change=st.binary(max_size=3), size=st.integers(0, 40))
def test_damage_is_refused(at: int, change: bytes, size: int) -> None:
    snapshot, running = saved()
    at %= len(running)
    damaged = running[:at] + change + running[at + size :]
    if damaged != running:
        with pytest.raises(StateError):
            resume(snapshot, damaged)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_no_section_of_any_content_does_more_than_be_refused(data: st.DataObject) -> None:
    """The digest over it is right; what is accepted makes a TPM that answers commands and can be saved."""
    snapshot, running = saved()
    sections = frame.unpack_running(*_RUNNING, "TPM", running, snapshot)
    tag = data.draw(st.sampled_from(sorted(sections)))
    changed = bytearray(sections[tag])
    if changed and data.draw(st.booleans()):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    sections[tag] = bytes(changed)
    try:
        machine = resume(snapshot, packed(sections, snapshot))
    except StateError:
        return
    observe_live(machine)
    machine.engine.snapshot_running()


def test_a_state_of_other_sections_or_another_version_is_refused() -> None:
    snapshot, running = saved()
    sections = frame.unpack_running(*_RUNNING, "TPM", running, snapshot)
    for tag in sections:
        fewer = {name: octets for name, octets in sections.items() if name != tag}
        with pytest.raises(StateError, match="other sections"):
            resume(snapshot, packed(fewer, snapshot))
        with pytest.raises(StateError, match="damaged"):
            resume(snapshot, packed({**sections, tag: b"\0\0\0\0\x09"}, snapshot))
    with pytest.raises(StateError, match="other sections"):
        resume(snapshot, packed({**sections, b"more": b""}, snapshot))
    with pytest.raises(StateError, match="version 99"):
        resume(snapshot, frame.pack_running(_RUNNING[0], 99, sections, snapshot))


def test_a_state_of_another_permanent_state_is_refused() -> None:
    """PCR values of one time must not come back at another."""
    snapshot, running = saved()
    machine = resume(snapshot, running)
    machine.run(HierarchyChangeAuth(TPM_RH_OWNER, b"other"), NONE)
    for other in (machine.engine.snapshot(), started(b"another").engine.snapshot()):
        with pytest.raises(StateError, match="not of this permanent state"):
            resume(other, running)
    with pytest.raises(StateError, match="not the state of a running TPM"):
        resume(snapshot, snapshot)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_stored_state_is_read(path: Path) -> None:
    stored = json.loads(path.read_text())
    machine = resume(bytes.fromhex(stored["snapshot"]), bytes.fromhex(stored["running"]))
    assert [response.hex() for response in fixture.ask(machine)] == stored["responses"]


def test_there_is_a_file_of_today() -> None:
    """A change of the format needs a new version, with a file of its own (tests/support)."""
    versions = [json.loads(path.read_text())["version"] for path in FILES]
    assert versions == list(range(1, RUNNING_VERSION + 1))
