"""The raw socket as a whole: its file, its threads, its relay, and what can go wrong."""

from __future__ import annotations

import errno
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cusetpm.devices.rawsocket import ManagedSocket, RawSocket, tcti
from tests.conformance.fake_tpm import (
    CREATE_PRIMARY,
    FLUSH_CONTEXT,
    GET_RANDOM,
    UNKNOWN_OBJECT,
    UNKNOWN_OBJECT_CODE,
    FakeManager,
    FakeTpm,
    message,
)

GET_8 = message(GET_RANDOM, b"\0\x08")
CREATE = message(CREATE_PRIMARY)


@pytest.fixture
def tpm() -> FakeTpm:
    return FakeTpm(key_s=60)


@pytest.fixture
def server(tmp_path: Path, tpm: FakeTpm) -> Iterator[RawSocket]:
    made = RawSocket(tmp_path / "tpm.sock", tpm)
    made.start()
    yield made
    made.stop()


def connect(server: RawSocket) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(server.path)
    return connection


def test_stop_ends_connections_and_commands_and_removes_the_file(server: RawSocket, tpm: FakeTpm) -> None:
    with connect(server) as idle, connect(server) as busy:
        busy.sendall(CREATE)
        assert tpm.creating.wait(30)
        server.stop()
        server.stop()
        assert idle.recv(4096) == b""
        assert tpm.cancels == 1
    assert not Path(server.path).exists()
    assert not [thread for thread in threading.enumerate() if server.path in thread.name]


def test_it_starts_again_after_stop(server: RawSocket) -> None:
    server.stop()
    server.start()
    with connect(server) as connection:
        connection.sendall(GET_8)
        assert len(connection.recv(4096)) == 20


def test_stop_leaves_a_file_that_is_another_s(server: RawSocket) -> None:
    Path(server.path).unlink()
    Path(server.path).touch()
    server.stop()
    assert Path(server.path).exists()


def test_many_clients_at_once_are_all_accepted_even_if_they_do_not_wait(server: RawSocket) -> None:
    with ExitStack() as stack:
        # A timeout makes connect() one that does not block.
        clients = [stack.enter_context(connect(server)) for _ in range(500)]
        for client in clients[::50]:
            client.sendall(GET_8)
            assert len(client.recv(4096)) == 20


def test_a_client_that_leaves_does_not_cancel(server: RawSocket, tpm: FakeTpm) -> None:
    with connect(server) as leaves:
        leaves.sendall(CREATE)
        assert tpm.creating.wait(30)
    with connect(server) as stays:
        stays.sendall(GET_8)
        assert tpm.cancels == 0
        tpm.cancel()
        assert len(stays.recv(4096)) == 20


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager(key_s=60)


@pytest.fixture
def managed(tmp_path: Path, manager: FakeManager) -> Iterator[ManagedSocket]:
    made = ManagedSocket(tmp_path / "tpmrm.sock", manager)
    made.start()
    yield made
    made.stop()


def test_a_managed_connection_is_a_space(managed: ManagedSocket, manager: FakeManager) -> None:
    with connect(managed) as first, connect(managed) as second:
        for connection in (first, second):
            connection.sendall(GET_8)
            assert len(connection.recv(4096)) == 20
        assert len(manager.spaces) == 2
        first.sendall(message(FLUSH_CONTEXT, UNKNOWN_OBJECT))
        assert first.recv(4096) == message(UNKNOWN_OBJECT_CODE)
    managed.stop()
    assert manager.spaces == []


def test_who_has_gone_before_a_command_has_gone_for_it(
        server: RawSocket, managed: ManagedSocket, manager: FakeManager,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the client that goes may be late: it does not matter."""
    left: list[int] = []
    execute = server._transport.execute

    def look(*arguments: object) -> bytes:
        left.append(len(manager.spaces))
        return execute(*arguments)

    monkeypatch.setattr(server._transport, "execute", look)
    server.heeds = managed
    with connect(server) as raw, connect(managed) as stays:
        stays.sendall(GET_8)
        stays.recv(4096)
        for _ in range(300):
            with connect(managed) as leaves:
                leaves.sendall(GET_8)
                leaves.recv(4096)
            raw.sendall(GET_8)
            raw.recv(4096)
    assert left == [1] * 300


def test_a_managed_client_that_leaves_cancels(managed: ManagedSocket, manager: FakeManager) -> None:
    with connect(managed) as leaves:
        leaves.sendall(GET_8)
        leaves.recv(4096)
        (space,) = manager.spaces
        leaves.sendall(CREATE)
        assert space.creating.wait(30)
        leaves.shutdown(socket.SHUT_WR)
        assert not space.asks()  # It may still read.
    assert space.asks()
    space.cancel()


def test_a_socket_that_a_killed_process_left_is_replaced(server: RawSocket, tmp_path: Path) -> None:
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(left))
    second = RawSocket(left, FakeTpm())
    second.start()
    with connect(second) as connection:
        connection.sendall(GET_8)
        assert len(connection.recv(4096)) == 20
    second.stop()


def test_a_path_in_use_is_refused(server: RawSocket, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for path in (server.path, tmp_path / "file"):
        with pytest.raises(OSError, match="in use") as caught:
            RawSocket(path, FakeTpm()).start()
        assert caught.value.errno == errno.EADDRINUSE
    assert (tmp_path / "file").read_text() == "precious"


def test_a_path_too_long_is_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 octets") as caught:
        RawSocket(tmp_path / ("x" * 107), FakeTpm()).start()
    assert caught.value.errno == errno.ENAMETOOLONG
    with pytest.raises(FileNotFoundError):
        RawSocket(tmp_path / "missing" / "x", FakeTpm()).start()


def test_a_transport_that_fails_ends_the_connection_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeTpm):
        def execute(self, command: bytes, locality: int = 0, cancelled=None) -> bytes:
            raise RuntimeError("gone")

    server = RawSocket(tmp_path / "tpm.sock", Broken())
    server.start()
    for _ in range(2):
        with connect(server) as connection:
            connection.sendall(GET_8)
            assert connection.recv(4096) == b""
    server.stop()
    assert "a command failed" in caplog.text


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=200))
def test_garbage_gets_well_formed_responses_or_the_end(garbage: bytes) -> None:
    ours, theirs = socket.socketpair()
    server = RawSocket("/nowhere", FakeTpm(key_s=0))
    with ours, theirs:
        ours.sendall(garbage)
        ours.shutdown(socket.SHUT_WR)
        server._exchange(theirs, FakeTpm(key_s=0))
        theirs.shutdown(socket.SHUT_RDWR)
        got = ours.makefile("rb").read()
    while got:
        size = int.from_bytes(got[2:6], "big")
        assert 10 <= size <= len(got)
        got = got[size:]


def test_the_relay_carries_commands_of_tpm2_tools(server: RawSocket) -> None:
    kind, _, relay = tcti(server.path).partition(":")
    assert kind == "cmd"
    # The `cmd` TCTI runs its configuration with sh, and stops it by closing its input.
    with subprocess.Popen(["sh", "-c", relay], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for octets in (8, 4000, 1):
            process.stdin.write(message(GET_RANDOM, octets.to_bytes(2, "big")))
            process.stdin.flush()
            assert len(process.stdout.read(12 + octets)) == 12 + octets
    assert process.returncode == 0


def test_the_relay_ends_at_sigterm_even_for_a_tool_that_ignores_it(server: RawSocket) -> None:
    ignoring = f"trap '' TERM; {tcti(server.path).partition(':')[2]}"
    with subprocess.Popen(["sh", "-c", ignoring], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(GET_8)
        process.stdin.flush()
        assert len(process.stdout.read(20)) == 20
        # As the TCTI does: its end of the pipes stays open until the process is gone.
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_the_relay_says_what_is_missing_in_one_line(tmp_path: Path) -> None:
    relay = tcti(tmp_path / "it's missing").partition(":")[2]
    assert shlex.split(relay)[-1] == str(tmp_path / "it's missing")
    done = subprocess.run(["sh", "-c", relay], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"cusetpm: {tmp_path}/it's missing: No such file or directory\n"
