"""State: save and restore at any point change nothing that can be observed, and damage is noticed."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR, TPM_SU_STATE
from tests.support.tpm2 import Machine, started
from tests.support.tpm2_state import Walk, observe

STEPS = 60
SEEDS = range(12)


def scratch() -> Tpm:
    tpm = Tpm(bytes, lambda: 0)
    tpm.hierarchies.manufacture(bytes)
    return tpm


def walked(seed: int) -> tuple[Machine, Walk]:
    machine, walk = started(), Walk(seed)
    for _ in range(STEPS):
        walk.step(machine)
    return machine, walk


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_of_power_leaves_what_was_durable(seed: int) -> None:
    """One twin stores what commands call dirty, the other everything anew; both come up the same."""
    one, two = started(), started()
    walk = Walk(seed)
    for round_ in range(3):
        for _ in range(STEPS // 3):
            answers = walk.step(one, two)
            assert answers[0] == answers[1]
        two.engine._sections.clear()  # nothing is remembered: every owner encodes its state
        two.durable = two.engine.snapshot()
        orderly = round_ == 1
        for machine in (one, two):
            if orderly:
                machine.run(Shutdown(TPM_SU_CLEAR))
            machine.power_cycle()
            machine.run(Startup(TPM_SU_CLEAR))
        walk.auths.pop(0x4000000C, None)  # platformAuth is gone
        assert observe(one, walk) == observe(two, walk)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_resume_leaves_what_a_resume_keeps(seed: int) -> None:
    """A TPM that was shut down and resumed is the same as its twin that never lost power."""
    one, two = started(), started()
    walk = Walk(seed, resumable=True)
    for _ in range(STEPS):
        answers = walk.step(one, two)
        assert answers[0] == answers[1]
    for machine in (one, two):
        machine.run(Shutdown(TPM_SU_STATE))
    two.power_cycle()
    one.clock.advance(1000)
    two.run(Startup(TPM_SU_STATE))
    found, expected = observe(two, walk), observe(one, walk)
    for name, value in expected.items():
        if name.startswith("kept"):
            assert found[name] == value, name


@pytest.mark.parametrize("seed", SEEDS)
def test_every_owner_restores_what_it_saved(seed: int) -> None:
    machine, _ = walked(seed)
    fresh = scratch()
    for owner, other in zip(machine.tpm.owners, fresh.owners, strict=True):
        saved = owner.save()
        other.restore(saved)
        assert other.save() == saved, owner.TAG
    for owner, other in zip(machine.tpm.owners, fresh.owners, strict=True):
        volatile = owner.save_volatile()
        other.restore_volatile(volatile)
        assert other.save_volatile() == volatile, owner.TAG


@pytest.fixture(scope="module")
def states() -> list[dict[str, bytes]]:
    """The states of every owner after some walks, permanent and volatile."""
    found = []
    for seed in range(3):
        machine, _ = walked(seed)
        found.append({"save": {o.TAG: o.save() for o in machine.tpm.owners},
                      "volatile": {o.TAG: o.save_volatile() for o in machine.tpm.owners}})
    return found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_state_is_refused_with_an_error_of_ours(states: list[dict[str, dict[bytes, bytes]]],
                                                        data: st.DataObject) -> None:
    """Any other exception would be a defect; what is accepted can be saved again."""
    state = states[data.draw(st.integers(0, len(states) - 1))]
    tpm = scratch()
    for owner in tpm.owners:
        owner.restore(state["save"][owner.TAG])
    owner = tpm.owners[data.draw(st.integers(0, len(tpm.owners) - 1))]
    kind = data.draw(st.sampled_from(["save", "volatile"]))
    damaged = bytearray(state[kind][owner.TAG])
    if damaged and data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    try:
        (owner.restore if kind == "save" else owner.restore_volatile)(bytes(damaged))
    except (TpmError, ValueError):
        return
    owner.save()
    owner.save_volatile()


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_of_a_snapshot_is_the_same(seed: int) -> None:
    machine, _ = walked(seed)
    snapshot = machine.engine.snapshot()
    again = Engine(machine.entropy, machine.clock, snapshot)
    assert again.snapshot() == snapshot
    again._sections.clear()
    assert again.snapshot() == snapshot


def test_a_rollback_that_fails_changes_nothing() -> None:
    """Every owner in turn has the section that cannot be read."""
    machine, _ = walked(1)
    before = machine.engine.snapshot()
    earlier = deepcopy(started().engine.snapshot())
    tags = [owner.TAG for owner in machine.tpm.owners]
    for tag in tags:
        at = earlier.index(tag)
        size = int.from_bytes(earlier[at + 4 : at + 8], "big")
        assert size
        damaged = earlier[: at + 8] + b"\xee" + earlier[at + 9 :]
        with pytest.raises(StateError, match="damaged"):
            machine.engine.rollback(damaged)
        machine.engine._sections.clear()
        assert machine.engine.snapshot() == before, tag
    machine.engine.rollback(earlier)
    machine.engine._sections.clear()
    assert machine.engine.snapshot() == earlier
