"""The control channel octet by octet beside swtpm: right, short, long, early, late and senseless commands."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.devices.swtpm import abi
from tests.support.emulator import OURS, THEIRS, Emulator, running
from tests.support.fake_machine import u32

GIVE_UP_S = 10
CLOSED = b"closed"


def blob(content: bytes, *, version: int = 2, oldest: int = 1, head: int = 10, flags: int = 4,
         total: int | None = None, tags: tuple[int, int] = (4, 1)) -> bytes:
    """Return a state blob, with whatever is wrong with it."""
    inner = struct.pack(">HI", tags[1], len(content)) + content
    outer = struct.pack(">HI", tags[0], len(inner)) + inner
    size = 10 + len(outer) if total is None else total
    return struct.pack(">BBHHI", version, oldest, head, flags, size) + outer


def set_blob(content: bytes, kind: int = 1, flags: int = 0) -> bytes:
    return u32(abi.CMD_SET_STATEBLOB, flags, kind, len(content)) + content


STOPPED = {
    "what needs power": [u32(code) + bytes(12) for code in (4, 6, 8, 9, 0xA, 0xB, 0xC)],
    "hashing without power": [u32(abi.CMD_HASH_DATA, 3) + b"abc"],
    "configuration": [u32(abi.CMD_GET_CONFIG), u32(abi.CMD_GET_CONFIG) + b"\0"],
    "nothing known": [u32(0), u32(0x99), u32(0xFFFFFFFF) + b"and more"],
    "too short to be a command": [b"\0\0"],
    "information": [u32(abi.CMD_GET_INFO, 0, 0, 0, 0), u32(abi.CMD_GET_INFO, 0, 7, 100_000, 0),
                    u32(abi.CMD_GET_INFO, 0, 7)],
    "buffers": [u32(abi.CMD_SET_BUFFERSIZE) + b"\0\0"],
    "power": [u32(abi.CMD_STOP), u32(abi.CMD_STOP) + b"\0", u32(abi.CMD_STOP), u32(abi.CMD_INIT) + bytes(5),
              u32(abi.CMD_INIT), u32(abi.CMD_SHUTDOWN) + b"\0"],
    "localities": [u32(abi.CMD_SET_LOCALITY) + bytes([locality]) for locality in range(7)],
    "more of a locality": [u32(abi.CMD_SET_LOCALITY) + bytes(4), u32(abi.CMD_SET_LOCALITY) + bytes(40),
                           u32(abi.CMD_SET_LOCALITY)],
    "no blobs": [set_blob(b"abcde"), set_blob(b"abcde", 9), set_blob(b"", 9), set_blob(b""),
                 u32(abi.CMD_SET_STATEBLOB, 0, 1), u32(abi.CMD_SET_STATEBLOB, 0, 1, 3) + b"abcde"],
    "blobs without a state": [set_blob(struct.pack(">BBHHI", 2, 1, 10, 4, 10), kind) for kind in (1, 2, 3)],
    "blobs of nobody's": [set_blob(blob(b"neither of us made this")), set_blob(blob(b"or this"), 3)],
    "wrong headers": [set_blob(blob(b"x", **wrong), kind) for kind in (1, 2, 3) for wrong in (
        {"total": 3}, {"oldest": 3}, {"head": 12}, {"tags": (9, 1)}, {"tags": (4, 9)}, {"flags": 5},
        {"flags": 6}, {"flags": 7})],
    "a blob that is said to be encrypted": [set_blob(blob(b"x"), flags=abi.PTM_STATE_FLAG_ENCRYPTED)],
    "no channel passed": [u32(abi.CMD_SET_DATAFD)],
}
RUNNING = {
    "the bit": [u32(abi.CMD_GET_TPMESTABLISHED), u32(abi.CMD_GET_TPMESTABLISHED) + b"\0"],
    "a launch": [
        u32(abi.CMD_HASH_START) + b"\0", u32(abi.CMD_HASH_START), u32(abi.CMD_GET_TPMESTABLISHED),
        u32(abi.CMD_HASH_DATA, 5) + b"abcde", u32(abi.CMD_HASH_DATA, 0), u32(abi.CMD_HASH_DATA, 5) + b"abc",
        u32(abi.CMD_HASH_DATA), u32(abi.CMD_HASH_DATA, 10_000) + bytes(10_000), u32(abi.CMD_HASH_END) + b"\0",
        u32(abi.CMD_HASH_END), u32(abi.CMD_GET_TPMESTABLISHED)],
    "resetting the bit": [
        *(u32(abi.CMD_RESET_TPMESTABLISHED) + bytes([locality]) for locality in range(7)),
        u32(abi.CMD_RESET_TPMESTABLISHED), u32(abi.CMD_RESET_TPMESTABLISHED) + bytes([3, 0, 0, 0]),
        u32(abi.CMD_GET_TPMESTABLISHED)],
    "nothing to cancel": [u32(abi.CMD_CANCEL_TPM_CMD), u32(abi.CMD_CANCEL_TPM_CMD) + b"\0"],
    "storing": [u32(abi.CMD_STORE_VOLATILE), u32(abi.CMD_STORE_VOLATILE) + b"\0"],
    "states that there are not": [
        u32(abi.CMD_GET_STATEBLOB, 1, 3, 0), u32(abi.CMD_GET_STATEBLOB, 1, 3, 100),
        u32(abi.CMD_GET_STATEBLOB, 1, 1, 1_000_000), u32(abi.CMD_GET_STATEBLOB, 1, 1)],
    "what needs no power": [set_blob(b"abcde"), u32(abi.CMD_SET_BUFFERSIZE, 4096)],
    "power again": [u32(abi.CMD_INIT, 1), u32(abi.CMD_STOP), u32(abi.CMD_GET_TPMESTABLISHED),
                    u32(abi.CMD_INIT, 0)],
}


class Client:
    """A client that comes again when it was let go."""

    def __init__(self, emulator: Emulator) -> None:
        self._path = str(emulator.ctrl)
        self._connection = self._connect()

    def _connect(self) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(GIVE_UP_S)
        found.connect(self._path)
        return found

    def ask(self, message: bytes) -> bytes:
        """Return the reply, or CLOSED."""
        self._connection.sendall(message)
        try:
            reply = self._connection.recv(65536)
        except ConnectionResetError:
            reply = b""
        if reply:
            return reply
        self.close()
        self._connection = self._connect()
        return CLOSED

    def is_quiet(self) -> bool:
        """Tell whether nothing comes that was not asked for."""
        return not select.select([self._connection], [], [], 0)[0]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    """Give a client of ours and one of swtpm's, both with power or both without."""
    directory: Path = tmp_path_factory.mktemp("pair")
    flags = ["--flags", "not-need-init"] if request.param else []
    with (running(OURS, directory / OURS, *flags) as ours,
          running(THEIRS, directory / THEIRS, *flags) as theirs):
        clients = [Client(ours), Client(theirs)]
        yield clients
        for client in clients:
            client.close()


@pytest.mark.parametrize(("pair", "messages"), [
    *(pytest.param(False, messages, id=subject) for subject, messages in STOPPED.items()),
    *(pytest.param(True, messages, id=subject) for subject, messages in RUNNING.items())], indirect=["pair"])
def test_replies_are_those_of_swtpm(pair: list[Client], messages: list[bytes]) -> None:
    ours, theirs = pair
    for message in messages:
        replies = ours.ask(message), theirs.ask(message)
        assert replies[0] == replies[1], message[:40].hex()
        assert ours.is_quiet(), message[:40].hex()


@pytest.mark.parametrize("pair", [True], indirect=True, ids=["running"])
@pytest.mark.parametrize("kind", [1, 2])
def test_a_state_has_the_same_wrapping(pair: list[Client], kind: int) -> None:
    heads = []
    for client in pair:
        reply = client.ask(u32(abi.CMD_GET_STATEBLOB, 1, kind, 0))
        result, flags, left, size = struct.unpack(">IIII", reply[:16])
        found = reply[16:]
        version, oldest, head, of_blob, total = struct.unpack(">BBHHI", found[:10])
        assert left == size == total == len(found)
        outer, outer_size, inner, inner_size = struct.unpack(">HIHI", found[10:22])
        assert outer_size == total - 16
        assert inner_size == total - 22
        heads.append((result, flags, version, oldest, head, of_blob, outer, inner))
    assert heads[0] == heads[1]
