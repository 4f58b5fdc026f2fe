"""A slice of the walks over our TIS model and QEMU's; `scripts/test --tis` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwtpm.tis.fifo import State
from hwtpm.tis.registers import TIS_LOCALITIES, TIS_PAGE, TPM_INT_VECTOR
from tests.oracle.tis.accesses import Step
from tests.oracle.tis.differences import DIFFERENCES
from tests.oracle.tis.sides import both
from tests.oracle.tis.walk import Walk, long_commands, new_report, walk

SEEDS = range(1, 13)
STEPS = 300
families = pytest.mark.parametrize("family", ["2.0", "1.2"])
EVERY_TRANSITION = {
    (State.IDLE, State.IDLE), (State.IDLE, State.READY),
    (State.READY, State.READY), (State.READY, State.RECEPTION), (State.READY, State.IDLE),
    (State.RECEPTION, State.RECEPTION), (State.RECEPTION, State.READY), (State.RECEPTION, State.IDLE),
    (State.RECEPTION, State.EXECUTION), (State.RECEPTION, State.COMPLETION),
    (State.EXECUTION, State.EXECUTION), (State.EXECUTION, State.COMPLETION),
    (State.EXECUTION, State.READY), (State.EXECUTION, State.IDLE),
    (State.COMPLETION, State.COMPLETION), (State.COMPLETION, State.READY), (State.COMPLETION, State.IDLE),
}


@families
def test_a_slice_differs_from_qemu_s_model_only_as_explained(tmp_path: Path, family: str) -> None:
    report = new_report()
    with both(tmp_path, family, established=True) as sides:
        long_commands(sides, report)
        for seed in SEEDS:
            walk(sides, seed, STEPS, report)
    assert report.unexplained == []
    assert sum(report.steps.values()) > len(SEEDS) * STEPS
    assert {(a.value, b.value) for a, b in EVERY_TRANSITION} <= set(report.transitions)


@families
def test_every_offset_of_every_locality_reads_the_same_after_a_reset(tmp_path: Path, family: str) -> None:
    with both(tmp_path, family) as (ours, theirs):
        places = [(TIS_PAGE * locality + offset, size) for size in (1, 2, 4)
                  for locality in range(TIS_LOCALITIES) for offset in range(0, TIS_PAGE, size)]
        read = zip(places, ours.read_all(places), theirs.read_all(places), strict=True)
        assert [(hex(place), size, one, other) for (place, size), one, other in read if one != other] == []


def test_a_walk_finds_a_model_that_is_wrong(tmp_path: Path) -> None:
    report = new_report()
    with both(tmp_path, "2.0") as sides:
        walking = Walk(sides, report, "wrong")
        walking.reset()
        sides[0].tis.self_test_done = True
        assert not walking.take(Step(0, 1, 0x02))
        sides[0].tis.self_test_done = False
        assert walking.take(Step(0x18, 1, 0x40))
        sides[0].write(TPM_INT_VECTOR, 1, 6)
        assert not walking.take(Step(0, 1))
    assert [found[0].where for _, found in report.unexplained] == [
        "TPM_STS, the rest of 0", "TPM_INT_VECTOR of 0"]


def test_every_difference_names_a_clause() -> None:
    for entry in DIFFERENCES:
        assert entry.why.startswith(("PTP 6.", "PTP, ")), entry
