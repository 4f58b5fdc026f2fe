"""The sockets of swtpm's protocols, before a machine that only remembers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.devices.streams import Connections, InheritedEndpoint, TcpEndpoint, UnixEndpoint, open_socket
from cusetpm.devices.swtpm import abi
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.swtpm.server import ControlServer, DataServer, Located
from tests.support.fake_machine import FakeMachine, u32

READ_CLOCK = bytes.fromhex("80010000000a00000181")
FRAMED = bytes.fromhex("00000008 02 0000000a") + READ_CLOCK
SUCCESS = bytes.fromhex("80010000000a00000000")
GIVE_UP_S = 30


class Served:
    """Both channels at unix sockets, and what they told."""

    def __init__(self, directory: Path, *, end_with_client: bool = False, once: bool = False) -> None:
        self.machine = FakeMachine()
        self.control = Control(self.machine)
        self.ended, self.gone = threading.Event(), threading.Event()
        self.data = DataServer(self.control, "data", once=once, on_gone=self.gone.set)
        self.ctrl = ControlServer(self.control, "ctrl", self.data.attach, self.ended.set,
                                  end_with_client=end_with_client)
        self.data.allow_passing()
        self.paths = directory / "ctrl", directory / "data"
        self.ctrl.listen(UnixEndpoint(self.paths[0]))
        self.data.listen(UnixEndpoint(self.paths[1]))

    def to_ctrl(self) -> socket.socket:
        return connected(self.paths[0])

    def to_data(self) -> socket.socket:
        return connected(self.paths[1])

    def stop(self) -> None:
        self.ctrl.stop()
        self.data.stop()


def connected(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(GIVE_UP_S)
    found.connect(str(path))
    return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.stop()
    assert not [path for path in made.paths if path.exists()]


def test_commands_are_answered_on_both_channels_from_several_clients(served: Served) -> None:
    with served.to_ctrl() as one, served.to_ctrl() as other, served.to_data() as data:
        for connection in (one, other, one):
            connection.sendall(u32(abi.CMD_SET_LOCALITY) + b"\1")
            assert connection.recv(100) == u32(0)
        data.sendall(READ_CLOCK)
        assert data.recv(100) == SUCCESS
        data.sendall(FRAMED)
        assert data.recv(100) == u32(10) + SUCCESS + u32(0)
    assert served.machine.commands == [(READ_CLOCK, 1), (READ_CLOCK, 2)]


def test_half_a_command_ends_the_connection_after_a_while_and_no_other(served: Served) -> None:
    with served.to_ctrl() as half, served.to_ctrl() as whole:
        half.sendall(u32(abi.CMD_INIT) + b"\0")
        assert half.recv(100) == b""
        whole.sendall(u32(abi.CMD_STOP))
        assert whole.recv(100) == u32(0)
    assert "on" not in served.machine.log


def test_a_client_that_leaves_in_the_middle_is_told_why_nothing_was_done(served: Served) -> None:
    served.machine.running = False
    with served.to_ctrl() as client:
        client.sendall(u32(abi.CMD_SET_STATEBLOB, 0, 1, 10_000) + bytes(5000))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == u32(abi.TPM_BAD_PARAMETER)
        assert client.recv(100) == b""


def test_a_channel_for_commands_can_be_passed(served: Served) -> None:
    with served.to_ctrl() as ctrl:
        for _ in range(20):  # As soon as one client has gone, another may follow.
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    socket.send_fds(ctrl, [u32(abi.CMD_SET_DATAFD)], [theirs.fileno()])
                assert ctrl.recv(100) == u32(0)
                ours.settimeout(GIVE_UP_S)
                ours.sendall(READ_CLOCK)
                assert ours.recv(100) == SUCCESS
                # There is one already.
                socket.send_fds(ctrl, [u32(abi.CMD_SET_DATAFD)], [ours.fileno()])
                assert ctrl.recv(100) == u32(abi.TPM_IOERROR)


def test_files_that_nobody_asked_for_are_closed(served: Served) -> None:
    hear, tell = os.pipe()
    with served.to_ctrl() as ctrl:
        socket.send_fds(ctrl, [u32(abi.CMD_GET_CONFIG)], [tell, tell, tell])
        assert ctrl.recv(100) == u32(0, 0)
        os.close(tell)
        # The end of the pipe shows that nobody has it open for writing any more.
        assert os.read(hear, 1) == b""
    os.close(hear)


def test_what_is_passed_has_to_be_a_socket(served: Served) -> None:
    with served.to_ctrl() as ctrl, open(os.devnull) as null:
        socket.send_fds(ctrl, [u32(abi.CMD_SET_DATAFD)], [null.fileno()])
        assert ctrl.recv(100) == b""
    assert not served.control.data_taken()


def test_shutdown_is_answered_and_ends_the_program(served: Served) -> None:
    with served.to_ctrl() as ctrl:
        ctrl.sendall(u32(abi.CMD_SHUTDOWN))
        assert ctrl.recv(100) == u32(0)
        assert served.ended.wait(GIVE_UP_S)
    assert not served.machine.running


def test_the_program_ends_with_its_client_on_demand(tmp_path: Path) -> None:
    for wanted in (True, False):
        served = Served(tmp_path, end_with_client=wanted)
        with served.to_ctrl() as ctrl:
            ctrl.sendall(u32(abi.CMD_GET_CONFIG))
            assert ctrl.recv(100) == u32(0, 0)
            assert not served.ended.is_set()
        if wanted:
            assert served.ended.wait(GIVE_UP_S)
        served.ended.clear()
        served.stop()
        assert not served.ended.is_set()


def test_a_connection_for_each_command_on_demand(tmp_path: Path) -> None:
    served = Served(tmp_path, once=True)
    for _ in range(2):
        with served.to_data() as data:
            data.sendall(READ_CLOCK)
            assert data.recv(100) == SUCCESS
            assert data.recv(100) == b""
    served.stop()


def test_a_raw_socket_has_the_locality_of_the_control_channel() -> None:
    machine = FakeMachine()
    control = Control(machine)
    machine.takes_long = lambda command: False  # type: ignore[attr-defined]
    transport = Located(control, machine)  # type: ignore[arg-type]
    control.set_locality(3)
    assert transport.execute(READ_CLOCK, 0) == SUCCESS
    assert machine.commands == [(READ_CLOCK, 3)]


def test_tcp_ports_and_inherited_sockets_are_served_alike() -> None:
    def echo(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))

    inherited = TcpEndpoint("127.0.0.1", 0).listen().detach()
    for endpoint in (TcpEndpoint("127.0.0.1", 0), InheritedEndpoint(inherited)):
        connections = Connections("echo", echo)
        connections.listen(endpoint)
        listener = connections._listener
        assert listener is not None
        with socket.socket(listener.family) as client:
            client.settimeout(GIVE_UP_S)
            client.connect(listener.getsockname())
            client.sendall(b"to and fro")
            assert client.recv(100) == b"to and fro"
        connections.stop()


@pytest.mark.parametrize("host", ["not.an.address", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_named(host: str) -> None:
    with pytest.raises(OSError, match=f"{host}:2321"):
        TcpEndpoint(host, 2321).listen()


def test_a_port_in_use_is_named() -> None:
    with TcpEndpoint("127.0.0.1", 0).listen() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"in use: '127.0.0.1:{port}'"):
            TcpEndpoint("127.0.0.1", port).listen()


def test_a_number_that_is_no_socket_is_named() -> None:
    hear, tell = os.pipe()
    with pytest.raises(OSError, match=f"file descriptor {hear}"):
        open_socket(hear)
    os.close(hear)
    os.close(tell)
    with pytest.raises(OSError, match="file descriptor 999"):
        open_socket(999)


def test_a_unix_socket_has_the_permissions_that_were_asked_for(tmp_path: Path) -> None:
    endpoint = UnixEndpoint(tmp_path / "sock", 0o660, os.getuid(), os.getgid())
    with endpoint.listen():
        assert os.stat(tmp_path / "sock").st_mode & 0o777 == 0o660
    endpoint.remove()
    assert not (tmp_path / "sock").exists()
