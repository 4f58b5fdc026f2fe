"""A slice of the side-by-side oracle, and its parts; `scripts/test --oracle` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hwtpm.client import Password
from hwtpm.tpm2.requests.nv import NVDefineSpace
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from tests.oracle import mutations, scenarios_keys, scenarios_state
from tests.oracle.comparison import rc_name
from tests.oracle.differences import DIFFERENCES
from tests.oracle.layout import fields
from tests.oracle.runner import Oracle
from tests.oracle.scenario import SCENARIOS
from tests.oracle.sides import Ours, octets

SEED = 20
EVERY = 40  # of the variations of a scenario, one in so many


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    assert scenarios_keys
    assert scenarios_state
    with Oracle() as found:
        yield found


def test_a_slice_differs_from_swtpm_only_as_explained(oracle: Oracle) -> None:
    for scenario in SCENARIOS:
        oracle.run(scenario, SEED, EVERY, extra=0)
    report = oracle.report
    assert report.broken == []
    assert [f._replace(octets=b"") for f in report.unexplained] == []
    assert sum(report.compared.values()) > 1000


def test_every_command_has_a_scenario(oracle: Oracle) -> None:
    assert oracle.without_scenario() == []


def test_every_difference_names_a_clause_or_the_profile() -> None:
    for entry in DIFFERENCES:
        assert entry.why.startswith(("Part 1, ", "Part 2, ", "Part 3, ", "PC Client ", "profile: ")), entry


def test_fields_are_where_they_were_encoded() -> None:
    request = NVDefineSpace(0x40000001, b"pin", TPMS_NV_PUBLIC(0x01500001, 0x0B, 0x00040004, b"", 16))
    command = octets(Ours(), request, Password(b"ab"))
    found = {f.path: command[f.offset : f.offset + f.size].hex() for f in fields(request, command)}
    assert found == {
        "tag": "8002",
        "commandSize": "00000032",
        "commandCode": "0000012a",
        "auth_handle": "40000001",
        "authorizationSize": "0000000b",
        "session1.handle": "40000009",
        "session1.nonce.size": "0000",
        "session1.nonce": "",
        "session1.attributes": "01",
        "session1.hmac.size": "0002",
        "session1.hmac": "6162",
        "auth.size": "0003",
        "auth": "70696e",
        "public_info.size": "000e",
        "public_info.nv_index": "01500001",
        "public_info.name_alg": "000b",
        "public_info.attributes": "00040004",
        "public_info.auth_policy.size": "0000",
        "public_info.auth_policy": "",
        "public_info.data_size": "0010",
    }


def test_a_longer_member_makes_the_sizes_around_it_fit() -> None:
    request = NVDefineSpace(0x40000001, b"", TPMS_NV_PUBLIC(0x01500001, 0x0B, 0x00040004, b"", 16))
    command = octets(Ours(), request, Password())
    found = fields(request, command)
    longer = next(m for m in mutations.each(command, found) if m.label == "public_info.auth_policy one long")
    policy = TPMS_NV_PUBLIC(0x01500001, 0x0B, 0x00040004, b"\1", 16)
    expected = octets(Ours(), NVDefineSpace(0x40000001, b"", policy), Password())
    assert mutations.apply(command, found, longer) == expected


def test_response_codes_are_named() -> None:
    assert [rc_name(rc) for rc in (0, 0x1D5, 0x184, 0x98E, 0x125, 0x921)] == [
        "ok",
        "SIZE P1",
        "VALUE H1",
        "AUTH_FAIL S1",
        "AUTH_MISSING",
        "LOCKOUT",
    ]
