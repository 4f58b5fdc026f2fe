"""The rules of an open TPM device file, one test each."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.devices.session import READABLE, WRITABLE, Device, Session, SharedDevice, Submit
from tests.conformance.fake_tpm import FakeManager, FakeTpm

COMMAND = bytes.fromhex("80010000000c0000017b0008")
RESPONSE = bytes.fromhex("8001000000140000000000080102030405060708")


NOWHERE = FakeTpm()  # What a session submits is for its front end to execute.


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(clock: Clock) -> Session:
    return Device(NOWHERE, clock).open()


@contextlib.contextmanager
def raises(code: int) -> Iterator[None]:
    with pytest.raises(OSError, match=rf"^\[Errno {code}\] ."):
        yield


def answered(session: Session) -> Session:
    session.write(COMMAND)
    session.response(RESPONSE)
    return session


def test_a_write_submits_the_command_at_the_device_s_locality(clock: Clock) -> None:
    assert Device(NOWHERE, clock, 3).open().write(COMMAND) == Submit(COMMAND, 3)
    assert Device(NOWHERE, clock).open().write(COMMAND) == Submit(COMMAND, 0)


def test_a_second_open_is_busy_until_release(clock: Clock) -> None:
    device = Device(NOWHERE, clock)
    first = device.open()
    with raises(errno.EBUSY):
        device.open()
    first.release()
    second = device.open()
    first.release()  # A late release of the first is not one of the second.
    with raises(errno.EBUSY):
        device.open()
    second.release()


def test_a_shared_device_is_open_any_number_of_times(clock: Clock) -> None:
    device = SharedDevice(FakeManager(), clock)
    first, second = device.open(), device.open()
    answered(first)
    second.write(COMMAND)
    assert second.read(4096) == b""
    assert first.read(4096) == RESPONSE


def test_a_space_ends_with_its_session(clock: Clock) -> None:
    manager = FakeManager()
    device = SharedDevice(manager, clock)
    first, second = device.open(), device.open()
    assert first.transport is not second.transport
    assert manager.spaces == [first.transport, second.transport]
    first.release()
    first.release()
    assert manager.spaces == [second.transport]


def test_more_than_4096_octets_are_too_big(session: Session) -> None:
    largest = b"\x80\x01\x00\x00\x10\x00" + bytes(4090)
    with raises(errno.E2BIG):
        session.write(largest + b"\0")
    assert session.write(largest).command == largest


def test_too_big_comes_before_busy(session: Session) -> None:
    answered(session)
    with raises(errno.E2BIG):
        session.write(bytes(4097))


@pytest.mark.parametrize("length", [0, 1, 5, 6, 9, 11])
def test_fewer_octets_than_the_header_says_are_invalid(session: Session, length: int) -> None:
    with raises(errno.EINVAL):
        session.write(COMMAND[:length])
    assert session.poll() == WRITABLE


def test_six_octets_that_say_six_are_accepted(session: Session) -> None:
    assert session.write(b"\x80\x01\x00\x00\x00\x06").command == b"\x80\x01\x00\x00\x00\x06"


def test_a_header_that_says_nothing_has_no_data(session: Session) -> None:
    with raises(errno.ENODATA):
        session.write(b"\x80\x01\x00\x00\x00\x00")


def test_trailing_octets_are_cut_to_the_header_s_size(session: Session) -> None:
    assert session.write(COMMAND + b"more").command == COMMAND


def test_a_write_while_a_command_executes_is_busy(session: Session) -> None:
    session.write(COMMAND)
    with raises(errno.EBUSY):
        session.write(COMMAND)


def test_a_write_before_an_unread_response_is_busy(session: Session) -> None:
    answered(session)
    with raises(errno.EBUSY):
        session.write(COMMAND)
    assert session.read(4096) == RESPONSE


def test_busy_comes_before_invalid(session: Session) -> None:
    answered(session)
    with raises(errno.EBUSY):
        session.write(b"")


def test_a_response_is_read_in_parts_and_only_once(session: Session) -> None:
    answered(session)
    assert session.read(10) + session.read(3) + session.read(4096) == RESPONSE
    assert session.read(4096) == b""


def test_a_write_after_a_partial_read_discards_the_rest(session: Session) -> None:
    answered(session)
    session.read(1)
    session.write(COMMAND)
    assert session.read(4096) == b""
    session.response(RESPONSE)
    assert session.read(4096) == RESPONSE


def test_an_invalid_write_keeps_the_rest(session: Session) -> None:
    answered(session)
    session.read(1)
    with raises(errno.EINVAL):
        session.write(COMMAND[:9])
    assert session.read(4096) == RESPONSE[1:]


def test_the_response_after_a_partial_read_is_guarded_again(session: Session) -> None:
    answered(session)
    session.read(1)
    answered(session)
    with raises(errno.EBUSY):
        session.write(COMMAND)


def test_a_read_of_nothing_drops_the_response(session: Session) -> None:
    answered(session)
    assert session.read(0) == b""
    assert session.read(4096) == b""


def test_a_read_with_nothing_pending_returns_nothing(session: Session) -> None:
    assert session.read(4096) == b""
    session.write(COMMAND)
    assert session.read(4096) == b""


def test_poll_is_readable_with_a_response_and_else_writable(session: Session) -> None:
    assert session.poll() == WRITABLE
    session.write(COMMAND)
    assert session.poll() == WRITABLE
    session.response(RESPONSE)
    assert session.poll() == READABLE
    session.read(4)
    assert session.poll() == READABLE
    session.read(4096)
    assert session.poll() == WRITABLE


def test_an_unread_response_is_dropped_after_120_seconds(session: Session, clock: Clock) -> None:
    answered(session)
    clock.now += 119.9
    assert session.poll() == READABLE
    clock.now += 0.1
    assert session.poll() == WRITABLE
    assert session.read(4096) == b""
    session.write(COMMAND)


def test_a_rest_is_dropped_after_120_seconds_as_well(session: Session, clock: Clock) -> None:
    answered(session)
    session.read(4)
    clock.now += 120
    assert session.read(4096) == b""


def test_the_120_seconds_start_with_the_response(session: Session, clock: Clock) -> None:
    session.write(COMMAND)
    clock.now += 500
    session.response(RESPONSE)
    assert session.read(4096) == RESPONSE


def test_a_read_reports_the_failure_of_a_queued_command_once(session: Session) -> None:
    session.write(COMMAND)
    session.failed(errno.EPIPE, queued=True)
    assert session.poll() == READABLE
    with raises(errno.EPIPE):
        session.read(4096)
    assert session.read(4096) == b""
    session.write(COMMAND)


def test_the_failure_of_a_blocking_write_leaves_nothing_to_read(session: Session) -> None:
    session.write(COMMAND)
    session.failed(errno.EPIPE, queued=False)
    assert session.poll() == WRITABLE
    session.write(COMMAND)


def test_release_drops_the_command_and_its_response(clock: Clock) -> None:
    device = Device(NOWHERE, clock)
    session = device.open()
    session.write(COMMAND)
    session.release()
    successor = device.open()
    session.response(RESPONSE)
    assert successor.read(4096) == b""
    assert session.read(4096) == b""


_STEPS = st.one_of(
    st.tuples(st.just("write"), st.binary(max_size=64)),
    st.tuples(st.just("write"), st.just(COMMAND)),
    st.tuples(st.just("response"), st.binary(min_size=10, max_size=32)),
    st.tuples(st.just("failed"), st.booleans()),
    st.tuples(st.just("read"), st.integers(0, 40)),
    st.tuples(st.just("wait"), st.integers(0, 130)),
)


@given(st.lists(_STEPS, max_size=30))
def test_any_sequence_of_calls_gives_octets_or_an_oserror(steps: list[tuple[str, object]]) -> None:
    clock = Clock()
    session = Device(NOWHERE, clock).open()
    unread = 0
    for kind, argument in steps:
        before = session.executing
        code: int | None = 0
        try:
            if kind == "write" and isinstance(argument, bytes):
                submit = session.write(argument)
                assert not before
                assert argument.startswith(submit.command)
                unread = 0
            elif kind == "response" and isinstance(argument, bytes):
                session.response(argument)
                unread = len(argument) if before else unread
            elif kind == "failed" and isinstance(argument, bool):
                session.failed(errno.EPIPE, queued=argument)
            elif kind == "read" and isinstance(argument, int):
                unread -= len(session.read(argument))
                assert unread >= 0
            elif isinstance(argument, int):
                clock.now += argument
        except OSError as error:
            code = error.errno
        assert code in (0, errno.EBUSY, errno.EINVAL, errno.ENODATA, errno.EPIPE)
        assert session.poll() in (READABLE, WRITABLE)
