"""The /dev/cuse conversation, message by message."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.devices.cuse.protocol import MAX_WRITE, READ_BUFFER, Action, Cancel, CuseProtocol, Execute
from cusetpm.devices.session import READABLE, WRITABLE, Device, SharedDevice, Submit
from hwtpm.errors import ProtocolError
from tests.conformance.fake_tpm import FakeManager, FakeTpm

# Opcodes and layouts are written out here, so that they are checked against those of the program.
OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INTERRUPT, IOCTL, POLL, INIT = (
    14,
    15,
    16,
    18,
    20,
    25,
    36,
    39,
    40,
    4096,
)
COMMAND = bytes.fromhex("80010000000c0000017b0008")
RESPONSE = bytes.fromhex("8001000000140000000000080102030405060708")


def message(opcode: int, body: bytes = b"", unique: int = 2) -> bytes:
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, unique, 1, 0, 0, 77, 0) + body


def init(minor: int = 38) -> bytes:
    return message(INIT, struct.pack("=IIII", 7, minor, 0, 1))


def open_() -> bytes:
    return message(OPEN, struct.pack("=II", os.O_RDWR, 0))


def write(data: bytes, fh: int = 1, flags: int = os.O_RDWR, unique: int = 2) -> bytes:
    return message(WRITE, struct.pack("=QQIIQII", fh, 0, len(data), 0, 0, flags, 0) + data, unique)


def read(size: int = 4096, fh: int = 1) -> bytes:
    return message(READ, struct.pack("=QQIIQII", fh, 0, size, 0, 0, os.O_RDWR, 0))


def poll(fh: int = 1, kh: int = 9, schedule: bool = False) -> bytes:
    return message(POLL, struct.pack("=QQII", fh, kh, int(schedule), 0x145))


def release(fh: int = 1) -> bytes:
    return message(RELEASE, struct.pack("=QIIQ", fh, os.O_RDWR, 0, 0))


def reply(body: bytes = b"", unique: int = 2) -> bytes:
    return struct.pack("=IiQ", 16 + len(body), 0, unique) + body


def error(code: int, unique: int = 2) -> bytes:
    return struct.pack("=IiQ", 16, -code, unique)


def notification(kh: int) -> bytes:
    return struct.pack("=IiQQ", 24, 1, 0, kh)


def written(size: int, unique: int = 2) -> bytes:
    return reply(struct.pack("=II", size, 0), unique)


def polled(events: int) -> bytes:
    return reply(struct.pack("=II", events, 0))


@pytest.fixture
def fresh() -> CuseProtocol:
    return CuseProtocol("tpm3", Device(FakeTpm(), lambda: 0.0))


@pytest.fixture
def protocol(fresh: CuseProtocol) -> CuseProtocol:
    fresh.receive(init())
    fresh.receive(open_())
    return fresh


def executed(actions: list[Action]) -> Execute:
    assert isinstance(actions[-1], Execute)
    return actions[-1]


def test_init_names_the_device_and_takes_writes_that_are_too_big_whole(fresh: CuseProtocol) -> None:
    (answer,) = fresh.receive(init())
    assert isinstance(answer, bytes)
    major, minor, _, flags, max_read, max_write, dev_major, dev_minor = struct.unpack_from("=8I", answer, 16)
    assert (major, minor, flags, dev_major, dev_minor) == (7, 31, 0, 0, 0)
    assert max_read >= 4096
    assert max_write == MAX_WRITE > 4096
    assert max(8192, 80 + MAX_WRITE) <= READ_BUFFER
    assert answer[16 + 72 :] == b"DEVNAME=tpm3\0"
    assert len(answer) == int.from_bytes(answer[:4], "little" if struct.pack("=H", 1)[0] else "big")


def test_init_answers_an_older_kernel_with_its_own_version(fresh: CuseProtocol) -> None:
    (answer,) = fresh.receive(init(minor=12))
    assert isinstance(answer, bytes)
    assert struct.unpack_from("=II", answer, 16) == (7, 12)


@pytest.mark.parametrize(
    "first", [init(10), message(INIT, struct.pack("=IIII", 8, 1, 0, 0)), message(INIT), open_()]
)
def test_another_protocol_is_not_spoken(fresh: CuseProtocol, first: bytes) -> None:
    with pytest.raises(ProtocolError):
        fresh.receive(first)


def test_open_is_for_one_at_a_time(protocol: CuseProtocol) -> None:
    assert protocol.receive(open_()) == [error(errno.EBUSY)]
    assert protocol.receive(release()) == [reply()]
    (answer,) = protocol.receive(open_())
    assert isinstance(answer, bytes)
    fh, flags, _ = struct.unpack_from("=QII", answer, 16)
    assert fh == 2
    assert flags == 1 | 4  # FOPEN_DIRECT_IO, FOPEN_NONSEEKABLE


def test_a_blocking_write_is_answered_when_the_command_has_run(protocol: CuseProtocol) -> None:
    execute = executed(protocol.receive(write(COMMAND + b"more")))
    assert (execute.submit, execute.queued, execute.tid) == (Submit(COMMAND, 0), False, 77)
    assert protocol.finish(execute, RESPONSE) == [written(16)]
    assert protocol.receive(read()) == [reply(RESPONSE)]
    assert protocol.receive(read()) == [reply()]


def test_a_nonblocking_write_is_answered_at_once(protocol: CuseProtocol) -> None:
    first, execute = protocol.receive(write(COMMAND, flags=os.O_RDWR | os.O_NONBLOCK))
    assert first == written(12)
    assert isinstance(execute, Execute)
    assert protocol.receive(read()) == [reply()]
    assert protocol.receive(write(COMMAND)) == [error(errno.EBUSY)]
    assert protocol.finish(execute, RESPONSE) == []
    assert protocol.receive(read(4)) == [reply(RESPONSE[:4])]


def test_poll_is_notified_once_when_the_response_comes(protocol: CuseProtocol) -> None:
    execute = executed(protocol.receive(write(COMMAND, flags=os.O_NONBLOCK)))
    assert protocol.receive(poll(schedule=True)) == [polled(WRITABLE)]
    assert protocol.finish(execute, RESPONSE) == [notification(9)]
    assert protocol.receive(poll()) == [polled(READABLE)]
    assert protocol.receive(read()) == [reply(RESPONSE)]
    assert protocol.receive(poll()) == [polled(WRITABLE)]


def test_poll_is_notified_when_a_read_makes_room(protocol: CuseProtocol) -> None:
    protocol.finish(executed(protocol.receive(write(COMMAND))), RESPONSE)
    assert protocol.receive(poll(kh=5, schedule=True)) == [polled(READABLE)]
    assert protocol.receive(read()) == [reply(RESPONSE), notification(5)]


def test_a_tpm_that_is_gone_breaks_the_pipe(protocol: CuseProtocol) -> None:
    execute = executed(protocol.receive(write(COMMAND)))
    assert protocol.fail(execute, errno.EPIPE) == [error(errno.EPIPE)]
    assert protocol.receive(read()) == [reply()]
    execute = executed(protocol.receive(write(COMMAND, flags=os.O_NONBLOCK)))
    assert protocol.fail(execute, errno.EPIPE) == []
    assert protocol.receive(read()) == [error(errno.EPIPE)]


def test_an_interrupt_names_the_command_and_has_no_reply(protocol: CuseProtocol) -> None:
    execute = executed(protocol.receive(write(COMMAND, unique=10)))
    assert protocol.receive(message(INTERRUPT, struct.pack("=Q", 8), 9)) == []
    assert protocol.receive(message(INTERRUPT, struct.pack("=Q", 10), 11)) == [Cancel(execute, gone=False)]
    assert protocol.finish(execute, RESPONSE) == [written(12, 10)]
    assert protocol.receive(message(INTERRUPT, struct.pack("=Q", 10), 11)) == []


def test_release_cancels_what_nobody_can_read(protocol: CuseProtocol) -> None:
    execute = executed(protocol.receive(write(COMMAND, flags=os.O_NONBLOCK)))
    assert protocol.receive(release()) == [reply(), Cancel(execute, gone=True)]
    protocol.receive(open_())
    assert protocol.finish(execute, RESPONSE) == []
    assert protocol.receive(read(fh=2)) == [reply()]
    executed(protocol.receive(write(COMMAND, fh=2)))


def test_the_files_of_a_shared_device_are_each_their_own() -> None:
    manager = FakeManager()
    protocol = CuseProtocol("tpmrm3", SharedDevice(manager, lambda: 0.0))
    for action in (init(), open_(), open_()):
        protocol.receive(action)
    first = executed(protocol.receive(write(COMMAND, fh=1, unique=10)))
    second = executed(protocol.receive(write(COMMAND, fh=2, flags=os.O_NONBLOCK, unique=12)))
    assert (first.transport, second.transport) == tuple(manager.spaces)
    assert protocol.receive(poll(fh=1, kh=5, schedule=True)) == [polled(WRITABLE)]
    assert protocol.receive(poll(fh=2, kh=6, schedule=True)) == [polled(WRITABLE)]
    assert protocol.finish(second, RESPONSE) == [notification(6)]
    assert protocol.receive(read(fh=1)) == [reply()]
    assert protocol.receive(read(fh=2)) == [reply(RESPONSE)]
    assert protocol.receive(message(INTERRUPT, struct.pack("=Q", 10), 11)) == [Cancel(first, gone=False)]
    assert protocol.receive(release(fh=1)) == [reply(), Cancel(first, gone=True)]
    assert manager.spaces == [second.transport]


def test_a_command_that_is_not_executed_ends_the_write_or_the_read(protocol: CuseProtocol) -> None:
    execute = executed(protocol.receive(write(COMMAND)))
    assert protocol.fail(execute, errno.EINVAL) == [error(errno.EINVAL)]
    execute = executed(protocol.receive(write(COMMAND, flags=os.O_NONBLOCK)))
    assert protocol.receive(poll(schedule=True)) == [polled(WRITABLE)]
    assert protocol.fail(execute, errno.EINVAL) == [notification(9)]
    assert protocol.receive(read()) == [error(errno.EINVAL)]


def test_init_asks_for_the_numbers_that_are_wanted() -> None:
    (answer,) = CuseProtocol("tpm3", Device(FakeTpm()), (10, 224)).receive(init())
    assert isinstance(answer, bytes)
    assert struct.unpack_from("=II", answer, 16 + 24) == (10, 224)


def test_what_the_kernel_s_device_has_not_is_refused(protocol: CuseProtocol) -> None:
    tcgets = struct.pack("=QIIQII", 1, 0, 0x5401, 0, 0, 0)
    assert protocol.receive(message(IOCTL, tcgets)) == [error(errno.ENOTTY)]
    assert protocol.receive(message(FSYNC, bytes(16))) == [error(errno.EINVAL)]
    assert protocol.receive(message(FLUSH, bytes(24))) == [reply()]
    assert protocol.receive(message(3)) == [error(errno.ENOSYS)]
    assert protocol.receive(message(INIT, bytes(16))) == [error(errno.ENOSYS)]
    assert protocol.receive(message(2, bytes(8))) == []  # FUSE_FORGET


def test_a_write_that_is_too_big_is_refused_whole(protocol: CuseProtocol) -> None:
    assert protocol.receive(write(bytes(4097))) == [error(errno.E2BIG)]
    assert protocol.receive(write(bytes(5))) == [error(errno.EINVAL)]


@pytest.mark.parametrize("stale", [read(fh=7), write(COMMAND, fh=7), poll(fh=7), release(fh=7)])
def test_another_file_is_not_open(protocol: CuseProtocol, stale: bytes) -> None:
    assert protocol.receive(stale) == [error(errno.EBADF)]


@pytest.mark.parametrize("opcode", [OPEN, READ, WRITE, RELEASE, POLL])
def test_a_message_without_its_body_is_invalid(protocol: CuseProtocol, opcode: int) -> None:
    assert protocol.receive(message(opcode)) == [error(errno.EINVAL)]


def test_a_length_that_is_not_the_message_s_breaks_the_protocol(protocol: CuseProtocol) -> None:
    for broken in (b"", read()[:39], read()[:-1], read() + b"\0"):
        with pytest.raises(ProtocolError):
            protocol.receive(broken)


_OPCODES = st.sampled_from([OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INTERRUPT, IOCTL, POLL, INIT, 2, 99])
_MESSAGES = st.one_of(
    st.binary(max_size=100),
    st.builds(message, _OPCODES, st.binary(max_size=80), st.integers(0, 2**64 - 1)),
    st.sampled_from([init(), open_(), read(), release(), poll(schedule=True)]),
    st.builds(
        write, st.one_of(st.just(COMMAND), st.binary(max_size=20)), st.just(1), st.sampled_from([0, 2048])
    ),
)


@given(st.lists(_MESSAGES, max_size=30), st.booleans())
def test_garbage_gets_replies_or_protocol_error(messages: list[bytes], started: bool) -> None:
    protocol = CuseProtocol("tpm0", Device(FakeTpm(), lambda: 0.0))
    if started:
        protocol.receive(init())
    for number, each in enumerate(messages):
        try:
            actions = protocol.receive(each)
        except ProtocolError:
            continue
        for action in actions:
            if isinstance(action, Execute) and number % 3:
                actions = [*actions, *protocol.finish(action, RESPONSE)]
        for action in actions:
            if isinstance(action, bytes):
                length, code, _ = struct.unpack_from("=IiQ", action)
                assert length == len(action)
                assert -4095 < code <= 1
