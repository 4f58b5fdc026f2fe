"""The control channel and the data channel, octet by octet, before a machine that only remembers."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.devices.swtpm import abi
from cusetpm.devices.swtpm.control import Control, Policy
from cusetpm.devices.swtpm.data import DataChannel
from cusetpm.devices.swtpm.protocol import Action, Attach, ControlChannel, End, Hangup
from cusetpm.transport import Cancelled
from tests.support.fake_machine import FakeMachine, u32

READ_CLOCK = bytes.fromhex("80010000000a00000181")
FATAL = {"1.2": bytes.fromhex("00c40000000a00000009"), "2.0": bytes.fromhex("80010000000a00000101")}


def said(actions: Sequence[Action]) -> bytes:
    return b"".join(action for action in actions if isinstance(action, bytes))


def ask(machine: FakeMachine, message: bytes, policy: Policy = Policy()) -> list[Action]:  # noqa: B008
    return ControlChannel(Control(machine, policy, bytes)).receive(message)


@pytest.mark.parametrize(("family", "capabilities"), [("2.0", 0x1FFFF), ("1.2", 0x17FFF)])
def test_only_a_tpm_2_takes_the_header_of_the_tcg(family: str, capabilities: int) -> None:
    assert ask(FakeMachine(family), u32(abi.CMD_GET_CAPABILITY)) == [u32(0, capabilities)]


NEEDS_POWER = {
    abi.CMD_GET_TPMESTABLISHED: b"", abi.CMD_RESET_TPMESTABLISHED: b"\3",
    abi.CMD_HASH_START: b"", abi.CMD_HASH_DATA: u32(0), abi.CMD_HASH_END: b"",
    abi.CMD_CANCEL_TPM_CMD: b"", abi.CMD_STORE_VOLATILE: b"",
    abi.CMD_GET_STATEBLOB: u32(0, 1, 0),
}


@pytest.mark.parametrize("code", NEEDS_POWER)
def test_without_power_a_command_about_the_running_tpm_is_a_bad_ordinal(code: int) -> None:
    body = NEEDS_POWER[code]
    assert ask(FakeMachine(running=False), u32(code) + body) == [u32(abi.TPM_BAD_ORDINAL)]
    # The power is looked at before the size.
    assert ask(FakeMachine(running=False), u32(code) + body + bytes(3)) == [u32(abi.TPM_BAD_ORDINAL)]
    assert said(ask(FakeMachine(), u32(code) + body))[:4] == u32(0)


@pytest.mark.parametrize("message", [u32(abi.CMD_SET_STATEBLOB, 0, 1, 0), u32(abi.CMD_SET_BUFFERSIZE, 4096)])
def test_with_power_the_tpm_cannot_be_changed(message: bytes) -> None:
    assert ask(FakeMachine(), message) == [u32(abi.TPM_BAD_ORDINAL)]
    assert said(ask(FakeMachine(running=False), message))[:4] == u32(0)


@pytest.mark.parametrize("code", [0, 0x14, 0x99, 0xFFFFFFFF])
def test_an_unknown_command_is_a_bad_ordinal(code: int) -> None:
    assert ask(FakeMachine(), u32(code) + b"whatever follows") == [u32(abi.TPM_BAD_ORDINAL)]


@pytest.mark.parametrize("message", [
    u32(abi.CMD_INIT, 0) + b"\0", u32(abi.CMD_STOP) + b"\0", u32(abi.CMD_SHUTDOWN) + b"\0",
    u32(abi.CMD_GET_TPMESTABLISHED) + b"\0", u32(abi.CMD_HASH_START) + b"\0", u32(abi.CMD_HASH_END) + b"\0",
    u32(abi.CMD_CANCEL_TPM_CMD) + b"\0", u32(abi.CMD_STORE_VOLATILE) + b"\0", u32(abi.CMD_GET_CONFIG) + b"\0",
    u32(abi.CMD_HASH_DATA, 2) + b"abc", u32(abi.CMD_SET_BUFFERSIZE) + b"\0\0\0",
    u32(abi.CMD_GET_INFO, 0, 1, 0) + b"\0\0\0", u32(abi.CMD_LOCK_STORAGE) + b"\0\0\0",
    u32(abi.CMD_GET_INFO, 0, 1, 100_000, 0),
])
def test_a_command_of_the_wrong_size_is_a_bad_parameter(message: bytes) -> None:
    machine = FakeMachine()
    assert ask(machine, message) == [u32(abi.TPM_BAD_PARAMETER)]
    assert machine.log == []


def test_a_state_blob_with_more_than_it_says_is_a_bad_parameter() -> None:
    message = u32(abi.CMD_SET_STATEBLOB, 0, 1, 3) + b"abcd"
    assert ask(FakeMachine(running=False), message) == [u32(abi.TPM_BAD_PARAMETER)]


@pytest.mark.parametrize(("message", "reply"), [
    (u32(abi.CMD_INIT, 1), u32(0)),
    (u32(abi.CMD_SET_LOCALITY) + b"\3", u32(0)),
    (u32(abi.CMD_HASH_DATA, 5) + b"abcde", u32(0)),
    (u32(abi.CMD_RESET_TPMESTABLISHED) + b"\4", u32(0)),
    (u32(abi.CMD_GET_STATEBLOB, 1, 3, 0), u32(abi.TPM_RETRY, 0, 0, 0)),
])
def test_a_command_that_says_its_size_may_come_in_pieces(message: bytes, reply: bytes) -> None:
    channel = ControlChannel(Control(FakeMachine()))
    for octet in message[:-1]:
        assert channel.receive(bytes([octet])) == []
        assert channel.waiting
    assert channel.receive(message[-1:]) == [reply]
    assert not channel.waiting


def test_what_is_hashed_may_have_any_size() -> None:
    machine = FakeMachine()
    channel = ControlChannel(Control(machine))
    assert channel.receive(u32(abi.CMD_HASH_DATA, 20_000) + bytes(5000)) == []
    assert not channel.waiting  # There is no hurry once it has begun.
    assert channel.receive(bytes(14_999)) == []
    assert channel.receive(b"\1") == [u32(0)]
    assert b"".join(machine.hashed) == bytes(19_999) + b"\1"
    assert channel.receive(u32(abi.CMD_HASH_DATA, 20_000) + bytes(5000)) == []
    assert channel.eof() == [u32(abi.TPM_IOERROR)]


def test_a_command_with_data_that_is_refused_ends_the_connection_if_data_are_on_their_way() -> None:
    """They would be taken for commands."""
    for running, head in (
        (False, u32(abi.CMD_HASH_DATA, 20_000)), (True, u32(abi.CMD_SET_STATEBLOB, 0, 1, 20_000)),
    ):
        reply = ask(FakeMachine(running=running), head + bytes(5000))
        assert reply == [u32(abi.TPM_BAD_ORDINAL), Hangup()]
    too_large = u32(abi.CMD_SET_STATEBLOB, 0, 1, abi.MAX_STATE_BLOB + 1) + bytes(5000)
    assert ask(FakeMachine(running=False), too_large) == [u32(abi.TPM_FAIL), Hangup()]


def test_a_client_that_leaves_in_the_middle_of_a_state_has_set_none() -> None:
    machine = FakeMachine(running=False)
    channel = ControlChannel(Control(machine))
    assert channel.receive(u32(abi.CMD_SET_STATEBLOB, 0, 1, 20_000) + bytes(5000)) == []
    assert channel.eof() == [u32(abi.TPM_BAD_PARAMETER)]
    assert machine.states[1] == b"permanent"


def test_localities_above_four_are_refused_and_four_on_demand() -> None:
    for locality, policy, result in (
        (4, Policy(), 0), (5, Policy(), abi.TPM_BAD_LOCALITY), (255, Policy(), abi.TPM_BAD_LOCALITY),
        (4, Policy(reject_locality_4=True), abi.TPM_BAD_LOCALITY), (3, Policy(reject_locality_4=True), 0),
    ):
        assert ask(FakeMachine(), u32(abi.CMD_SET_LOCALITY) + bytes([locality]), policy) == [u32(result)]


def test_the_locality_that_is_set_is_that_of_commands() -> None:
    machine = FakeMachine()
    control = Control(machine)
    # QEMU sends the locality with three octets of padding, tpm2-tss without.
    ControlChannel(control).receive(u32(abi.CMD_SET_LOCALITY) + b"\3\0\0\0")
    control.execute(READ_CLOCK)
    assert machine.commands == [(READ_CLOCK, 3)]


@pytest.mark.parametrize(("locality", "result"), [
    (2, abi.TPM_BAD_LOCALITY), (3, 0), (4, 0), (5, abi.TPM_BAD_LOCALITY)])
def test_only_localities_3_and_4_reset_the_bit_of_a_launch(locality: int, result: int) -> None:
    machine = FakeMachine()
    channel = ControlChannel(Control(machine))
    assert channel.receive(u32(abi.CMD_HASH_START)) == [u32(0)]
    assert channel.receive(u32(abi.CMD_GET_TPMESTABLISHED)) == [u32(0) + b"\1\0\0\0"]
    assert channel.receive(u32(abi.CMD_RESET_TPMESTABLISHED) + bytes([locality])) == [u32(result)]
    assert machine.established == bool(result)


def test_init_is_a_power_cycle_and_shutdown_the_end() -> None:
    machine = FakeMachine()
    channel = ControlChannel(Control(machine))
    assert channel.receive(u32(abi.CMD_INIT, 0)) == [u32(0)]
    assert channel.receive(u32(abi.CMD_STOP)) == [u32(0)]
    assert channel.receive(u32(abi.CMD_STOP)) == [u32(0)]
    assert channel.receive(u32(abi.CMD_INIT, abi.PTM_INIT_FLAG_DELETE_VOLATILE)) == [u32(0)]
    assert channel.receive(u32(abi.CMD_SHUTDOWN)) == [u32(0), End()]
    assert [entry for entry in machine.log if entry.startswith("o")] == [
        "off orderly", "on keep", "off orderly", "on", "off orderly"]


def test_no_orderly_shutdown_if_the_user_wants_none() -> None:
    machine = FakeMachine()
    ask(machine, u32(abi.CMD_STOP), Policy(auto_shutdown=False))
    assert machine.log[-1] == "off"


def test_commands_have_one_way_in_that_is_passed_to_us() -> None:
    control = Control(FakeMachine())
    channel = ControlChannel(control)
    for taken, reply in ((True, [u32(abi.TPM_IOERROR)]), (False, [Attach(7), u32(0)])):
        control.data_taken = lambda taken=taken: taken
        assert channel.receive(u32(abi.CMD_SET_DATAFD), [7, 8]) == reply


def test_a_way_in_has_to_come_with_the_command_that_passes_it() -> None:
    control = Control(FakeMachine())
    control.data_taken = bool
    assert ControlChannel(control).receive(u32(abi.CMD_SET_DATAFD)) == [u32(abi.TPM_BAD_PARAMETER)]


def test_the_size_of_messages_is_kept_within_limits() -> None:
    control = Control(FakeMachine(running=False))
    channel = ControlChannel(control)
    smallest, largest = control.family.buffer_sizes
    for wanted, size in ((0, largest), (1, smallest), (0, smallest), (3968, 3968), (5000, largest)):
        assert channel.receive(u32(abi.CMD_SET_BUFFERSIZE, wanted)) == [u32(0, size, smallest, largest)]


def test_a_response_larger_than_the_size_in_use_is_a_failure() -> None:
    machine = FakeMachine(running=False)
    control = Control(machine)
    control.set_buffersize(3968)
    machine.running = True
    machine.execute = lambda *_: bytes(3969)  # type: ignore[method-assign]
    assert control.execute(READ_CLOCK) == FATAL["2.0"]


def test_what_the_tpm_says_of_itself_is_json_that_can_be_fetched_in_parts() -> None:
    reply = said(ask(FakeMachine(), u32(abi.CMD_GET_INFO, 0, 3, 0, 0)))
    body = reply[12:]
    assert reply[:12] == u32(0, len(body), len(body))
    assert body.startswith(b'{"TPMSpecification":{"family":"2.0",')
    assert body.endswith(b"}}\0")
    part = said(ask(FakeMachine(), u32(abi.CMD_GET_INFO, 0, 3, 10, 0)))
    assert part == u32(0, len(body), len(body) - 10) + body[10:]


def test_states_are_fetched_and_set_in_blobs() -> None:
    source, target = FakeMachine(), FakeMachine(running=False)
    for kind in (1, 2):
        reply = said(ask(source, u32(abi.CMD_GET_STATEBLOB, 1, kind, 0)))
        result, flags, total, size = struct.unpack(">IIII", reply[:16])
        assert (result, flags, total) == (0, 0, size)
        blob = reply[16:]
        assert len(blob) == size
        rest = u32(0, 0, size - 5, size - 5) + blob[5:]
        assert ask(source, u32(abi.CMD_GET_STATEBLOB, 1, kind, 5)) == [rest]
        assert ask(source, u32(abi.CMD_GET_STATEBLOB, 1, kind, size)) == [u32(0, 0, 0, 0)]
        assert ask(target, u32(abi.CMD_SET_STATEBLOB, 0, kind, size) + blob) == [u32(0)]
    assert target.states == source.states
    assert ask(source, u32(abi.CMD_GET_STATEBLOB, 1, 3, 0)) == [u32(abi.TPM_RETRY, 0, 0, 0)]
    assert ask(source, u32(abi.CMD_GET_STATEBLOB, 1, 4, 0)) == [u32(abi.TPM_FAIL, 0, 0, 0)]
    assert ask(target, u32(abi.CMD_SET_STATEBLOB, 0, 1, 0)) == [u32(0)]
    assert target.states[1] == b""
    assert ask(target, u32(abi.CMD_SET_STATEBLOB, 0, 4, 0)) == [u32(abi.TPM_BAD_PARAMETER)]


def test_a_state_of_something_else_is_refused() -> None:
    machine = FakeMachine(running=False)
    inner = struct.pack(">HI", 1, 7) + b"foreign"
    outer = struct.pack(">HI", 4, len(inner)) + inner
    foreign = struct.pack(">BBHHI", 2, 1, 10, 4, 10 + len(outer)) + outer
    message = u32(abi.CMD_SET_STATEBLOB, 0, 1, len(foreign)) + foreign
    assert ask(machine, message) == [u32(0x1E)]  # TPM_RC_BAD_TAG


def test_storage_that_another_process_has_is_an_error() -> None:
    machine = FakeMachine(running=False)
    machine.lockable = False
    assert ask(machine, u32(abi.CMD_LOCK_STORAGE, 7)) == [u32(abi.TPM_FAIL)]
    assert ask(machine, u32(abi.CMD_INIT, 0)) == [u32(abi.TPM_FAIL)]
    assert ask(machine, u32(abi.CMD_SET_STATEBLOB, 0, 1, 0)) == [u32(abi.TPM_IOERROR)]
    assert machine.log == ["lock 7", "lock 0", "lock 0"]


def test_the_storage_is_released_with_the_last_state_if_the_user_wants_that() -> None:
    for wanted in (False, True):
        machine = FakeMachine()
        control = Control(machine, Policy(release_lock_outgoing=wanted))
        for kind in (1, 2, 3):
            assert machine.locked
            ControlChannel(control).receive(u32(abi.CMD_GET_STATEBLOB, 1, kind, 0))
        assert machine.locked != wanted
        control.init(0)
        assert machine.log[-2:] == [f"lock {300 if wanted else 0}", "on keep"]


# Any octets.

CODES = st.integers(0, 0x15)
MESSAGES = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda code, body: u32(code) + body, CODES, st.binary(max_size=40)),
    st.builds(lambda code, words: u32(code, *words), CODES, st.lists(st.integers(0, 600_000), max_size=4)),
)


@given(st.lists(MESSAGES, max_size=12), st.booleans(), st.sampled_from(["1.2", "2.0"]))
def test_any_octets_are_answered_or_waited_for(messages: list[bytes], running: bool, family: str) -> None:
    """Every reply begins with a result, and nothing but a command's own effect happens to the machine."""
    channel = ControlChannel(Control(FakeMachine(family, running=running), Policy(), bytes))
    for message in messages:
        actions = channel.receive(message, [])
        replies = [action for action in actions if isinstance(action, bytes)]
        assert len(replies) <= 1
        assert bool(actions) == bool(replies)
        for reply in replies:
            assert len(reply) >= 4
            assert len(reply) == 4 or reply[:4] == u32(0) or len(reply) == 16
    assert all(isinstance(action, bytes) for action in channel.eof())


@given(st.binary(max_size=400), st.lists(st.integers(1, 50)))
def test_how_octets_arrive_does_not_change_which_commands_they_are(octets: bytes, cuts: list[int]) -> None:
    """As long as sizes can be right: what cannot be is a command as far as it has come."""
    parts = octets.split(b"\0")
    whole = b"".join(struct.pack(">HII", 0x8001, 10 + len(part), 0x17B) + part for part in parts) + octets[:3]
    channel, pieces = DataChannel(Control(FakeMachine())), DataChannel(Control(FakeMachine()))
    found = []
    rest = whole
    for cut in cuts:
        found += pieces.receive(rest[:cut])
        rest = rest[cut:]
    found += pieces.receive(rest)
    assert found == channel.receive(whole)


@given(st.binary(max_size=100))
def test_any_command_gets_one_response(octets: bytes) -> None:
    control = Control(FakeMachine())
    channel = DataChannel(control)
    for command in channel.receive(octets):
        response = channel.execute(command)
        assert len(response) >= 10


# Commands for the TPM itself.


@pytest.mark.parametrize("family", ["1.2", "2.0"])
def test_a_tpm_without_power_has_failed(family: str) -> None:
    machine = FakeMachine(family, running=False)
    channel = DataChannel(Control(machine))
    (command,) = channel.receive(READ_CLOCK)
    assert channel.execute(command) == FATAL[family]
    assert machine.commands == []


def framed(locality: int, command: bytes) -> bytes:
    return struct.pack(">IBI", 8, locality, len(command)) + command


def test_a_command_in_the_tcg_s_frame_brings_its_locality_and_is_answered_in_one() -> None:
    machine = FakeMachine()
    control = Control(machine)
    channel = DataChannel(control)
    (command,) = channel.receive(framed(2, READ_CLOCK))
    assert channel.execute(command) == u32(10) + bytes.fromhex("80010000000a00000000") + u32(0)
    assert machine.commands == [(READ_CLOCK, 2)]
    (command,) = channel.receive(framed(7, READ_CLOCK))
    assert channel.execute(command) == u32(10) + bytes.fromhex("80010000000a00000907") + u32(0)
    assert len(machine.commands) == 1
    assert control.locality == 2


def test_a_tpm_1_2_has_no_frame() -> None:
    assert DataChannel(Control(FakeMachine("1.2"))).receive(framed(0, READ_CLOCK))[0].framed is False


def test_a_size_that_cannot_be_right_is_for_the_tpm_to_judge() -> None:
    for size in (0, 9, 4097, 0xFFFFFFFF):
        header = struct.pack(">HII", 0x8001, size, 0x17B) + b"\0\7"
        (command,) = DataChannel(Control(FakeMachine())).receive(header)
        assert command.octets == header


SET_LOCALITY = struct.pack(">HII", 0x8001, 11, abi.TPM2_CC_SET_LOCALITY)


def test_the_command_of_vtpm_proxy_sets_the_locality_if_the_user_allows_it() -> None:
    for policy, locality, code in (
        (Policy(), 1, 0x101), (Policy(allow_set_locality=True), 1, 0),
        (Policy(allow_set_locality=True), 5, 0x907),
        (Policy(allow_set_locality=True, reject_locality_4=True), 4, 0x907),
    ):
        machine = FakeMachine()
        control = Control(machine, policy)
        response = control.execute(SET_LOCALITY + bytes([locality]))
        assert response == struct.pack(">HII", 0x8001, 10, code)
        assert control.locality == (0 if code else locality)
        assert machine.commands == []
    assert Control(FakeMachine()).execute(SET_LOCALITY) == struct.pack(">HII", 0x8001, 10, 0x9A)


def test_a_cancel_is_for_the_command_in_progress_and_for_no_later_one() -> None:
    machine = FakeMachine()
    control = Control(machine)
    channel = ControlChannel(control)
    seen: list[bool] = []

    def execute(command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        assert cancelled is not None
        seen.append(cancelled())
        assert channel.receive(u32(abi.CMD_CANCEL_TPM_CMD)) == [u32(0)]
        seen.append(cancelled())
        return READ_CLOCK

    machine.execute = execute  # type: ignore[method-assign]
    control.execute(READ_CLOCK)
    control.execute(READ_CLOCK)
    assert seen == [False, True, False, True]
    assert machine.log == ["cancel", "cancel"]
