"""A slice of the side-by-side oracle of TPM 1.2; `scripts/test --oracle --tpm 1.2` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hwtpm.tpm12.context import COMMANDS
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset
from hwtpm.tpm12.requests.nv import NVDefineSpace, NVReadValue
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.types.constants import TPM_NV_PER_PPWRITE, TPM_ST_CLEAR
from tests.oracle.sides import ENDED
from tests.oracle.tpm12 import scenarios_keys
from tests.oracle.tpm12.comparison import code
from tests.oracle.tpm12.differences import DIFFERENCES
from tests.oracle.tpm12.runner import Oracle
from tests.oracle.tpm12.scenario import SCENARIOS, Case
from tests.oracle.tpm12.scenarios_state import INDEX, area
from tests.oracle.tpm12.sides import NEW
from tests.support.swtpm import Swtpm
from tests.support.tpm12 import selection

SEED = 20
EVERY = 100  # of the variations of a scenario, one in so many


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as found:
        yield found


def test_every_command_has_a_scenario() -> None:
    assert scenarios_keys
    assert COMMANDS.keys() - {scenario.request.ORD for scenario in SCENARIOS} == set()


def test_a_slice_differs_from_swtpm_only_as_explained(oracle: Oracle) -> None:
    for scenario in SCENARIOS:
        oracle.run(scenario, SEED, EVERY, extra=0)
    report = oracle.report
    assert report.broken == []
    assert [f._replace(octets=b"") for f in report.unexplained] == []
    assert sum(report.compared.values()) > 300


def test_every_difference_names_a_clause_or_the_profile() -> None:
    for entry in DIFFERENCES:
        assert entry.why.startswith(("Part 1, ", "Part 2, ", "Part 3, ", "profile: ")), entry


def test_fields_are_where_they_were_encoded() -> None:
    case = Case(NVDefineSpace(area(INDEX, 2), bytes(20)))
    body = case.body()
    found = {f.path: body[f.offset : f.offset + f.size].hex() for f in case.fields(body)}
    assert found["pub_info.tag"] == "0018"
    assert found["pub_info.nv_index"] == "00001234"
    assert found["pub_info.pcr_info_write.pcr_selection.pcr_select.size"] == "0003"
    assert found["pub_info.permission.tag"] == "0017"
    assert found["pub_info.permission.attributes"] == "00000002"
    assert found["pub_info.data_size"] == "00000010"
    assert found["enc_auth"] == "00" * 20


def test_libtpms_answers_as_the_swtpm_around_it_does(oracle: Oracle) -> None:
    theirs = oracle.theirs
    theirs.begin(NEW)
    steps: list[Command[Any] | int | None] = [  # a request, a locality, or None for a loss of power
        Extend(9, b"e" * 20), PcrRead(9), PCRReset(selection(20)), 2, PCRReset(selection(20)),
        Extend(20, b"e" * 20), PcrRead(20), 0, PcrRead(99), None, PcrRead(9), Startup(TPM_ST_CLEAR),
        PcrRead(9), PcrRead(20)]
    with Swtpm(family="1.2") as swtpm:
        for step in steps:
            for tpm in (theirs, swtpm):
                if step is None:
                    tpm.power_cycle()
                elif isinstance(step, int):
                    tpm.set_locality(step)
            if isinstance(step, Command):
                command = Case(step).body()
                assert theirs.execute(command) == swtpm.execute(command), step


def test_both_return_to_the_state_that_was_kept(oracle: Oracle) -> None:
    for side in oracle.sides:
        side.begin(NEW)
        side.set_locality(1)
        side.run(Extend(9, b"one".ljust(20)))
        side.keep()
        kept = side.run(PcrRead(9)).out_digest
        for _ in range(2):
            assert side.run(Extend(9, b"two".ljust(20))).out_digest != kept
            side.back()
            assert side.run(PcrRead(9)).out_digest == kept
        side.begin(NEW)
        assert side.run(PcrRead(9)).out_digest == bytes(20)


def test_what_ends_without_an_answer_is_seen_and_left(oracle: Oracle) -> None:
    theirs = oracle.theirs
    theirs.begin(NEW)
    theirs.run(NVDefineSpace(area(INDEX, TPM_NV_PER_PPWRITE), bytes(20)))
    theirs.keep()
    assert code(theirs.execute(Case(NVReadValue(INDEX, 0xFFFFFFFF, 8)).body())) == ENDED
    theirs.back()
    assert theirs.run(PcrRead(9)).out_digest == bytes(20)
