"""Both ports of Microsoft's simulator, octet by octet and over TCP, before a machine that only remembers."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.devices.mssim import protocol as ms
from cusetpm.devices.mssim.protocol import (
    CommandPort,
    End,
    Execute,
    Hangup,
    PlatformPort,
    Simulator,
    executed,
)
from cusetpm.devices.mssim.server import SimulatorServer
from cusetpm.devices.swtpm.control import Control
from cusetpm.transport import Cancelled
from tests.support.fake_machine import FakeMachine, u32
from tests.support.ports import free_pair

READ_CLOCK = bytes.fromhex("80010000000a00000181")
SUCCESS = bytes.fromhex("80010000000a00000000")
BAD_LOCALITY = bytes.fromhex("80010000000a00000907")
DONE, UNKNOWN = u32(0), u32(1)
GIVE_UP_S = 30


def send(command: bytes, locality: int = 0) -> bytes:
    return struct.pack(">IBI", ms.TPM_SEND_COMMAND, locality, len(command)) + command


def ports(machine: FakeMachine) -> tuple[CommandPort, PlatformPort]:
    simulator = Simulator(Control(machine))
    return CommandPort(simulator), PlatformPort(simulator)


def test_commands_come_with_their_locality_and_in_pieces() -> None:
    commands, _ = ports(FakeMachine())
    whole = send(READ_CLOCK, 3) + send(READ_CLOCK)
    found = [action for octet in whole for action in commands.receive(bytes([octet]))]
    assert found == [Execute(READ_CLOCK, 3), Execute(READ_CLOCK, 0)]
    assert executed(SUCCESS) == u32(10) + SUCCESS + DONE


def test_a_launch_is_measured_through_the_command_port() -> None:
    machine = FakeMachine()
    commands, _ = ports(machine)
    data = u32(ms.TPM_SIGNAL_HASH_DATA, 3) + b"abc"
    whole = u32(ms.TPM_SIGNAL_HASH_START) + data + u32(ms.TPM_SIGNAL_HASH_END)
    assert commands.receive(whole) == [DONE, DONE, DONE]
    assert machine.log == ["hashed b'abc'"]


def test_the_handshake_tells_versions_and_abilities() -> None:
    commands, _ = ports(FakeMachine())
    assert commands.receive(u32(ms.TPM_REMOTE_HANDSHAKE, 1)) == [u32(1, 13, 0)]
    assert commands.receive(u32(ms.TPM_SET_ALTERNATIVE_RESULT, 5)) == [DONE]
    assert commands.receive(u32(ms.TPM_REMOTE_HANDSHAKE, 0)) == [Hangup()]


def test_power_goes_without_a_shutdown_and_comes_once() -> None:
    machine = FakeMachine(running=False)
    _, platform = ports(machine)
    for code, running in ((ms.TPM_SIGNAL_POWER_ON, True), (ms.TPM_SIGNAL_POWER_ON, True),
                          (ms.TPM_SIGNAL_RESET, True), (ms.TPM_SIGNAL_POWER_OFF, False),
                          (ms.TPM_SIGNAL_POWER_OFF, False), (ms.TPM_SIGNAL_RESTART, True)):
        assert platform.receive(u32(code)) == [DONE]
        assert machine.running == running
    assert [entry for entry in machine.log if entry.startswith("o")] == ["on", "off", "on", "off", "on"]


@pytest.mark.parametrize("code", [ms.TPM_SIGNAL_HASH_START, ms.TPM_SIGNAL_HASH_END])
def test_a_tpm_without_power_hears_no_signal(code: int) -> None:
    machine = FakeMachine(running=False)
    commands, platform = ports(machine)
    assert commands.receive(u32(code)) == [DONE]
    assert platform.receive(u32(ms.TPM_SIGNAL_PHYS_PRES_ON)) == [DONE]
    assert machine.log == []


def test_signals_of_the_platform() -> None:
    machine = FakeMachine()
    _, platform = ports(machine)
    heard = (ms.TPM_SIGNAL_PHYS_PRES_ON, ms.TPM_SIGNAL_PHYS_PRES_OFF, ms.TPM_SIGNAL_NV_ON,
             ms.TPM_SIGNAL_NV_OFF, ms.TPM_SIGNAL_KEY_CACHE_ON, ms.TPM_SIGNAL_KEY_CACHE_OFF)
    assert platform.receive(u32(*heard)) == [DONE] * len(heard)
    assert machine.log == ["presence True", "presence False"]


def test_the_end_of_a_session_is_not_acknowledged_and_of_the_simulator_neither() -> None:
    for port in range(2):
        for code, action in ((ms.TPM_SESSION_END, Hangup()), (ms.TPM_STOP, End())):
            assert ports(FakeMachine())[port].receive(u32(code)) == [action]


def test_what_is_unknown_ends_the_connection_and_what_follows_does_not_count() -> None:
    machine = FakeMachine()
    for code in (99, ms.TPM_SIGNAL_HASH_START):
        _, platform = ports(machine)
        assert platform.receive(u32(code, ms.TPM_SIGNAL_POWER_OFF)) == [UNKNOWN, Hangup()]
    for code in (99, ms.TPM_SIGNAL_POWER_OFF):
        commands, _ = ports(machine)
        assert commands.receive(u32(code) + send(READ_CLOCK)) == [Hangup()]
    assert machine.running


def test_more_than_there_is_room_for_ends_the_connection() -> None:
    head = struct.pack(">IBI", ms.TPM_SEND_COMMAND, 0, ms.MAX_BUFFER + 1)
    assert ports(FakeMachine())[0].receive(head) == [Hangup()]


@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 40).map(u32)), max_size=8))
def test_any_octets_are_answered_or_waited_for_or_end_the_connection(pieces: list[bytes]) -> None:
    for port in ports(FakeMachine()):
        over = False
        for piece in pieces:
            actions = port.receive(piece)
            over = over or any(isinstance(action, Hangup | End) for action in actions)
            assert all(action in (DONE, UNKNOWN, u32(1, 13, 0)) or not isinstance(action, bytes)
                       for action in actions)
            if over:
                break


# Over TCP.


class Served:
    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.ended = threading.Event()
        self.port = free_pair()
        self.server = SimulatorServer(Control(self.machine), "127.0.0.1", self.port, self.ended.set)
        self.server.start()

    def connect(self, offset: int = 0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port + offset), GIVE_UP_S)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.stop()


def test_commands_are_executed_at_their_locality(served: Served) -> None:
    with served.connect() as commands:
        for locality, response in ((2, SUCCESS), (0, SUCCESS), (5, BAD_LOCALITY)):
            commands.sendall(send(READ_CLOCK, locality))
            assert commands.recv(100) == executed(response)
    assert served.machine.commands == [(READ_CLOCK, 2), (READ_CLOCK, 0)]


def test_a_tpm_without_power_gives_no_response(served: Served) -> None:
    with served.connect() as commands, served.connect(1) as platform:
        platform.sendall(u32(ms.TPM_SIGNAL_POWER_OFF))
        assert platform.recv(100) == DONE
        commands.sendall(send(READ_CLOCK))
        assert commands.recv(100) == u32(0) + DONE


def test_cancelling_lasts_until_it_is_taken_back(served: Served) -> None:
    asked: list[bool] = []

    def execute(command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        assert cancelled is not None
        asked.append(cancelled())
        return SUCCESS

    served.machine.execute = execute  # type: ignore[method-assign]
    with served.connect() as commands, served.connect(1) as platform:
        for code in (ms.TPM_SIGNAL_CANCEL_ON, ms.TPM_SIGNAL_CANCEL_OFF):
            platform.sendall(u32(code))
            assert platform.recv(100) == DONE
            for _ in range(2):
                commands.sendall(send(READ_CLOCK))
                assert commands.recv(100) == executed(SUCCESS)
    assert asked == [True, True, False, False]


def test_a_client_can_stop_it(served: Served) -> None:
    with served.connect(1) as platform:
        platform.sendall(u32(ms.TPM_STOP))
        assert platform.recv(100) == b""
    assert served.ended.wait(GIVE_UP_S)
