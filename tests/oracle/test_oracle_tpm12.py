"""A slice of the side-by-side oracle of TPM 1.2; `scripts/test --oracle --tpm 1.2` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hwtpm.tpm12.context import COMMANDS
from hwtpm.tpm12.requests.nv import NVDefineSpace
from tests.oracle.tpm12 import scenarios_keys
from tests.oracle.tpm12.differences import DIFFERENCES
from tests.oracle.tpm12.runner import Oracle
from tests.oracle.tpm12.scenario import SCENARIOS, Case
from tests.oracle.tpm12.scenarios_state import INDEX, area

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
    for scenario in SCENARIOS[::2]:  # swtpm takes long to return to a state
        oracle.run(scenario, SEED, EVERY, extra=0)
    report = oracle.report
    assert report.broken == []
    assert [f._replace(octets=b"") for f in report.unexplained] == []
    assert sum(report.compared.values()) > 100


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
