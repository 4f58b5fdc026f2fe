"""The order of checks of Part 3, 5, and the promise that any octets get one well-formed response."""

from __future__ import annotations

from struct import Struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.errors import StateError
from hwtpm.tpm2 import commands as all_commands
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.types.constants import (
    TPM_RC_FAILURE,
    TPM_ST_NO_SESSIONS,
    TPM_ST_RSP_COMMAND,
    TPM_ST_SESSIONS,
    TPM_CC_GetTestResult,
)
from hwtpm.tpm2.types.handles import TPM_RS_PW
from tests.support.tpm2 import Machine, make_engine, started

HEADER = Struct(">HII")
PASSWORD = TPM_RS_PW.to_bytes(4, "big") + b"\0\0\1\0\0"
AREA = len(PASSWORD).to_bytes(4, "big") + PASSWORD


def rc(machine: Machine, command: str) -> int:
    return int(HEADER.unpack_from(machine.execute(bytes.fromhex(command)))[2])


@pytest.mark.parametrize(("command", "code"), [
    ("", 0x142),
    ("8001", 0x142),
    ("80010000000a0000", 0x142),
    ("8003 0000000a 0000017b", 0x01E),
    ("8003", 0x01E),
    ("8001 0000000b 0000017b 0010", 0x142),
    ("8001 0000000a 0000017b", 0x1DA),  # parameter 1 is missing
    ("8001 0000000a 0000ffff", 0x143),
    ("8001 0000000e 0000017b 0010 0000", 0x095),  # octets left over
    ("8001 0000000a 0000013c", 0x19A),  # handle 1 is missing
    ("8001 0000000e 0000013c 00000005", 0x125),  # handles come before sessions
    ("8001 0000000e 0000013c 00000018", 0x184),  # there is no PCR 24
    ("8002 0000000e 0000017b 0010 0000", 0x144),  # authorizationSize out of range
    ("8002 0000001b 00000165 00000009 40000009 0000 01 0000 80000000", 0x145),  # it takes no sessions
    ("8002 00000019 0000017b 00000009 40000009 0000 01 0000 0010", 0x98B),  # nothing to authorize
    ("8002 00000019 0000017b 00000009 02000000 0000 01 0000 0010", 0x918),  # not loaded
    ("8002 00000019 0000017b 00000009 80000000 0000 01 0000 0010", 0x984),
    ("8002 00000019 0000017b 00000009 40000009 0000 19 0000 0010", 0x9A1),  # reserved bits
    ("8001 0000000c 00000144 0000", 0x100),  # started already
])
def test_the_first_check_that_fails_gives_the_code(command: str, code: int) -> None:
    machine = started()
    assert rc(machine, command) == code
    assert machine.run(GetRandom(4)).random_bytes


def test_before_startup_only_startup_is_answered() -> None:
    machine = make_engine()
    assert rc(machine, "8001 0000000c 0000017b 0010") == 0x100
    assert rc(machine, "8001 0000000c 00000144 0000") == 0


def well_formed(response: bytes) -> int:
    """Return the response code of a response that keeps the format of Part 3, 6."""
    tag, size, code = HEADER.unpack_from(response)
    assert size == len(response) <= 4096
    if code:
        assert size == 10
        assert tag == (TPM_ST_RSP_COMMAND if code == 0x1E else TPM_ST_NO_SESSIONS)
    else:
        assert tag in (TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS)
    return int(code)


handles = st.sampled_from([
    0, 16, 0x40000001, 0x40000007, 0x4000000A, 0x4000000B, 0x4000000C, 0x80000000, 0x81000001, 0x01500000,
    0x02000000, 0x03000000,
]).map(lambda handle: handle.to_bytes(4, "big"))
small = st.sampled_from([b"\0\0", b"\0\1", b"\0\x0b", b"\0\x10", b"\0\x20", b"\0\x23", b"\0\x06\0\x80\0\x43"])
bodies = st.lists(st.one_of(handles, small, st.just(AREA), st.binary(max_size=12)), max_size=10).map(b"".join)
all_commands.load()
LONG = {code for code, entry in COMMANDS.items() if entry.request.LONG}


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0x8001, 0x8002]),
                          st.sampled_from(sorted(set(COMMANDS) - LONG)), bodies), max_size=12),
       st.binary(max_size=40))
def test_any_octets_get_one_response_and_leave_a_working_tpm(
        commands: list[tuple[int, int, bytes]], noise: bytes) -> None:
    machine = started()
    well_formed(machine.execute(noise))
    for tag, code, body in commands:
        before = machine.durable
        response = machine.execute(HEADER.pack(tag, 10 + len(body), code) + body)
        if well_formed(response) and not machine.dirty:
            assert machine.durable == before
    assert len(machine.run(GetRandom(8)).random_bytes) == 8
    # What was called durable is a state that a TPM can be made of.
    machine.power_cycle()


def test_a_defect_ends_in_failure_mode_and_nothing_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    entry = COMMANDS[GetRandom.CC]
    plan = entry.plan
    monkeypatch.setattr(plan, "run", broken)
    outcome = machine.engine.execute(bytes.fromhex("80010000000c0000017b0010"), 0)
    assert outcome == (bytes.fromhex("80010000000a00000101"), False)
    assert isinstance(machine.engine.fault, ZeroDivisionError)
    machine.engine.fault = None
    monkeypatch.undo()
    assert rc(machine, "80010000000c0000017b0010") == TPM_RC_FAILURE
    assert well_formed(machine.execute(HEADER.pack(0x8001, 10, TPM_CC_GetTestResult))) == 0


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_snapshot_is_refused_or_gives_the_same_kind_of_tpm(data: st.DataObject) -> None:
    machine = started()
    assert machine.durable is not None
    snapshot = bytearray(machine.durable)
    cut = data.draw(st.integers(0, len(snapshot) - 1))
    with pytest.raises(StateError):
        Engine(machine.entropy, machine.clock, bytes(snapshot[:cut]))
    with pytest.raises(StateError):
        Engine(machine.entropy, machine.clock, bytes(snapshot) + b"\0")


def test_a_snapshot_of_another_version_says_so() -> None:
    machine = started()
    assert machine.durable is not None
    other = bytearray(machine.durable)
    other[12:14] = b"\0\x63"
    with pytest.raises(StateError, match="version 99"):
        Engine(machine.entropy, machine.clock, bytes(other))
