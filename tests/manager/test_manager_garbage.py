"""Any octets to the whole manager: one well-formed response, and a change only where it says success."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwtpm.command import response_of
from hwtpm.wire import Fixed, Int, Rest, Sized, decode, encode, members
from manager import requests as r
from manager.protocol import Endpoint
from tests.manager.chips import chip_of
from tests.manager.stores import A, B
from tests.support.managed_groups import Host, state
from tests.support.saa import Saa

READS = {0x02000101, 0x02000107, 0x02000108, 0x02000201, 0x02000202, 0x02000301, 0x02000303, 0x02000306}
"""The management requests that never change the store; others may, where they answer with success."""


@pytest.fixture(scope="module", params=["1.2", "2.0"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    path: Path = tmp_path_factory.mktemp("garbage")
    chip = chip_of(f"own-{request.param}", path / "chip")
    made = Host(chip, path / "manager.db")
    made.new_group()
    made.new_group(Saa(made.family, 21))
    made.ask(r.VtpmNew(1, B.bytes))
    yield made
    made.close()
    chip.close()


def member(spec: Any) -> st.SearchStrategy[bytes]:
    """Return octets for a member: right in size, mostly, and mostly wrong in what they say."""
    if isinstance(spec, Int):
        return (st.integers(0, 3) | st.integers(0, 0xFFFFFFFF)).map(lambda n: n.to_bytes(4, "big"))
    if isinstance(spec, Fixed):
        known = st.sampled_from([bytes(spec.size), B.bytes])
        return known | st.binary(min_size=spec.size, max_size=spec.size)
    if isinstance(spec, Sized):
        return st.binary(max_size=60).map(lambda b: len(b).to_bytes({"H": 2, "I": 4}[spec.prefix], "big") + b)
    if isinstance(spec, Rest):
        return st.binary(max_size=80)
    return st.binary(max_size=400)  # a structure


@st.composite
def requests(draw: st.DrawFn, family: str) -> bytes:
    """Return a message with an ordinal that there is."""
    kind = r.REQUESTS[family][draw(st.sampled_from(sorted(r.REQUESTS[family])))]
    body = b"".join(draw(member(m.spec)) for m in members(kind))
    body = draw(st.sampled_from([body, body, body, body[:-1], body + b"\0"]))
    tag = 0x01C2 if kind.MANAGEMENT else 0x01C1
    return struct.pack(">HII", tag, 10 + len(body), kind.ORD) + body


def well_formed(host: Host, octets: bytes, response: bytes, *, told: bool = False) -> int:
    """Return the code of the response, whose members are those of its class; or it says why, if *told*."""
    tag, size, code = struct.unpack_from(">HII", response)
    assert tag in (0x01C4, 0x01C5)
    assert size == len(response) <= 4088
    if code:
        assert told or size == 10
        assert response[10:].decode().isprintable()
    else:
        kind = response_of(r.REQUESTS[host.family][int.from_bytes(octets[6:10], "big")])
        assert encode(decode(kind, response[10:])) == response[10:]
    return code


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_administrators_garbage(host: Host, data: st.DataObject) -> None:
    octets = data.draw(requests(host.family))
    before, ordinal = state(host.manager), int.from_bytes(octets[6:10], "big")
    code = well_formed(host, octets, host.admin.execute(octets), told=True)
    if code or ordinal in READS:
        assert state(host.manager) == before
    host.chip.nothing_is_loaded()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_guests_garbage(host: Host, data: st.DataObject) -> None:
    guest: Endpoint = host.guest(A)
    octets = data.draw(requests(host.family))
    before = state(host.manager)
    host.chip.codes.clear()
    code = well_formed(host, octets, guest.execute(octets))
    if octets[:2] == b"\x01\xc2":
        assert code == 1
        assert host.chip.codes == []
    if code:
        assert state(host.manager) == before
    guest.close()


