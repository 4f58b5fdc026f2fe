"""Commands through a ring: counts, sizes, cancel, and peers that answer badly or not at all."""

from __future__ import annotations

import struct
import sys
import threading

import pytest

from cusetpm.ring.front import RingClosed
from cusetpm.ring.link import Host, connect
from hwtpm.errors import TpmError
from tests.cusetpm.ring_peers import (
    COMMAND,
    UUID,
    Echo,
    RawBack,
    RawFront,
    Slow,
    in_thread,
    make_back,
    make_front,
    respond,
)

CANCELED = bytes.fromhex("80010000000a00000909")
FAILURE = bytes.fromhex("80010000000a00000101")
COMMAND_SIZE = bytes.fromhex("80010000000a00000142")
LOCALITY = bytes.fromhex("80010000000a00000907")


@pytest.fixture
def link():
    link = connect(Echo())
    yield link
    link.close()


@pytest.fixture
def guest():
    """A raw front end on a back end with an Echo, as guest.tpm."""
    host = Host()
    host.add_device(1, 0, 0, UUID)
    guest = RawFront(host)
    guest.tpm = Echo()
    guest.back = make_back(host, guest.tpm)
    guest.connect()
    return guest


@pytest.fixture
def peer():
    """A raw back end, connected to peer.front_end."""
    host = Host()
    host.add_device(1, 0, 0, UUID)
    peer = RawBack(host)
    peer.serve()
    peer.front_end = make_front(host)
    peer.front_end.connect()
    return peer


def test_each_command_crosses_the_ring_once(link):
    for number in range(1, 6):
        assert link.front.execute(COMMAND, number % 5) == respond(COMMAND + bytes([number % 5]))
        for end in (link.front, link.back):
            assert (end.submitted, end.finished, end.notifications) == (number, number, number)


def test_takes_long_is_asked_behind_the_ring(link):
    assert link.front.takes_long(b"very long")
    assert not link.front.takes_long(b"short")


def test_a_front_that_knows_nothing_takes_everything_for_long():
    assert make_front(Host()).takes_long(b"short")


def test_the_longest_command_and_response_pass():
    tpm = Echo()
    tpm.answer = respond(b"\x5a" * 4078)
    link = connect(tpm)
    command = b"\xa5" * 4088
    assert link.front.execute(command) == tpm.answer
    assert tpm.asked == [(command, 0)]
    link.close()


def test_an_oversize_command_is_answered_without_the_ring(link):
    assert link.front.execute(bytes(4089)) == COMMAND_SIZE
    assert link.front.submitted == link.back.submitted == 0


@pytest.mark.parametrize("locality", [-1, 5, 256])
def test_a_locality_that_does_not_exist_is_answered_without_the_ring(link, locality):
    assert link.front.execute(COMMAND, locality) == LOCALITY
    assert link.front.submitted == 0


def test_an_empty_command_is_answered(link):
    assert link.front.execute(b"") == COMMAND_SIZE


@pytest.mark.parametrize("answer", [b"", bytes(9), respond(bytes(4079)), respond(bytes(90000))])
def test_a_response_that_does_not_fit_the_ring_is_a_failure(link, answer):
    transport = Echo()
    transport.answer = answer
    own = connect(transport)
    assert own.front.execute(COMMAND) == FAILURE
    transport.answer = None
    assert own.front.execute(COMMAND) == respond(COMMAND + b"\0")
    own.close()


def test_a_transport_that_raises_is_answered_for(caplog):
    class Broken(Echo):
        def execute(self, command, locality=0, cancelled=None):
            raise self.error

    tpm = Broken()
    link = connect(tpm)
    tpm.error = TpmError(0x922)
    assert link.front.execute(COMMAND).hex() == "80010000000a00000922"
    assert caplog.text == ""
    tpm.error = ZeroDivisionError()
    assert link.front.execute(COMMAND) == FAILURE
    assert "ZeroDivisionError" in caplog.text
    link.close()


# A front end that does not keep the rules.


@pytest.mark.parametrize("length", [0, 4089, 4096, 0xFFFFFFFF])
def test_back_answers_a_bad_length(guest, length):
    guest.put(COMMAND, length=length)
    assert guest.page.state == 2
    assert guest.response() == COMMAND_SIZE
    assert guest.tpm.asked == []
    assert guest.events == 1


@pytest.mark.parametrize("extra", [1, 2, 255])
def test_back_answers_extra_pages_where_such_a_front_looks(guest, extra):
    guest.put(COMMAND, extra=extra)
    assert guest.page.state == 2
    assert guest.response(8 + 4 * extra) == COMMAND_SIZE
    assert guest.tpm.asked == []


def test_back_answers_a_bad_locality(guest):
    guest.put(COMMAND, locality=5)
    assert guest.response() == LOCALITY
    guest.put(COMMAND, locality=4)
    assert guest.tpm.asked == [(COMMAND, 4)]


@pytest.mark.parametrize("state", [0, 2, 4, 255])
def test_back_ignores_a_notification_without_a_submit(guest, state):
    guest.put(COMMAND, state=state)
    assert guest.events == 0
    assert guest.tpm.asked == []
    assert guest.page.state == state


def test_back_copies_the_command_before_it_uses_it(guest):
    class Scribbled(Echo):
        def execute(self, command, locality=0, cancelled=None):
            guest.page.view[:] = b"\xff" * 4096
            return super().execute(command, locality)

    guest.back.ring(1, 0)._transport = Scribbled()
    guest.put(COMMAND)
    assert guest.page.state == 2
    assert guest.response() == respond(COMMAND + b"\0")


def test_a_front_that_submits_again_while_the_back_works_runs_nothing_twice():
    host = Host()
    host.add_device(1, 0, 0, UUID)
    guest, tpm = RawFront(host), Slow()
    back = make_back(host, tpm)
    guest.connect()
    join = in_thread(lambda: guest.put(COMMAND))
    assert tpm.started.wait(30)
    for state in (1, 0, 2, 200, 1):
        guest.put(b"another", state=state)
    tpm.release()
    join()
    assert guest.page.state == 2
    assert guest.response() == respond(COMMAND + b"\0")
    assert len(tpm.asked) == 1
    assert (back.submitted, back.finished) == (1, 1)
    guest.put(COMMAND)
    assert len(tpm.asked) == 2


def test_a_front_that_submits_from_its_handler_is_served(guest):
    answers = []

    def again():
        answers.append(guest.response())
        if len(answers) < 50:
            guest.put(COMMAND)

    guest.event = again
    guest.connect()
    guest.put(COMMAND)
    assert answers == [respond(COMMAND + b"\0")] * 50


def test_a_busy_front_does_not_keep_another_waiting():
    host = Host()
    slow, quick = Slow(), Echo()
    one = connect(slow, host=host, front_domid=1, uuid="one")
    two = connect(quick, host=host, front_domid=2, uuid="two")
    join = in_thread(lambda: one.front.execute(COMMAND))
    assert slow.started.wait(30)
    assert two.front.execute(COMMAND) == respond(COMMAND + b"\0")
    slow.release()
    assert join() == respond(COMMAND + b"\0")
    one.close()
    two.close()


# Cancel.


def test_cancel_while_busy_reaches_the_transport_and_the_response_comes():
    tpm = Slow()
    link = connect(tpm)
    join = in_thread(lambda: link.front.execute(COMMAND))
    assert tpm.started.wait(30)
    link.front.cancel()
    assert join() == CANCELED
    assert tpm.cancels == 1
    assert link.back.finished == 1
    link.close()


def test_cancel_goes_through_two_hops():
    host = Host()
    tpm = Slow()
    upper = connect(tpm, host=host, front_domid=2, back_domid=0)
    lower = connect(upper.front, host=host, front_domid=7, back_domid=2)
    join = in_thread(lambda: lower.front.execute(COMMAND))
    assert tpm.started.wait(30)
    lower.front.cancel()
    assert join() == CANCELED
    lower.close()
    upper.close()


def test_cancel_without_a_command_does_nothing(link):
    link.front.cancel()
    assert link.back.notifications == 0
    link.front.execute(COMMAND)
    link.front.cancel()
    assert link.back.notifications == 1
    assert link.front.execute(COMMAND) == respond(COMMAND + b"\0")


def test_cancel_on_an_idle_back_gives_idle_and_a_notification(guest):
    guest.put(b"", state=3)
    assert guest.page.state == 0
    assert guest.events == 1
    assert guest.tpm.cancels == 0


def test_cancel_that_overwrote_finish_gets_the_response(guest):
    guest.put(COMMAND)
    guest.page.state = 3
    guest.port.notify()
    assert guest.page.state == 2
    assert guest.response() == respond(COMMAND + b"\0")
    assert guest.events == 2
    guest.page.state = 3
    guest.port.notify()
    assert guest.page.state == 0


def test_cancel_that_overwrote_submit_gives_idle(guest):
    """The page holds a command that has not run, not the last response."""
    guest.put(COMMAND)
    guest.put(COMMAND, state=3)
    assert guest.page.state == 0
    assert len(guest.tpm.asked) == 1


@pytest.fixture
def eager_switching():
    """Threads are switched as often as the interpreter can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switching")
def test_a_response_that_crosses_with_cancel_is_not_lost():
    """Every command is cancelled at some instant; the answer is the echo or CANCELED, and says the truth."""
    tpm = Echo()
    link = connect(tpm)
    stop = threading.Event()

    def canceller():
        while not stop.is_set():
            link.front.cancel()

    join = in_thread(canceller)
    ran = 0
    for number in range(2000):
        response = link.front.execute(COMMAND + struct.pack(">I", number))
        if response == respond(COMMAND + struct.pack(">I", number) + b"\0"):
            ran += 1
        else:
            assert response == CANCELED
    stop.set()
    join()
    assert ran == len(tpm.asked)
    link.close()


def test_a_cancel_that_is_late_for_its_command_does_not_hit_the_next():
    """It has found the command on the page, but writes only when the response has been taken."""
    tpm = Echo()
    link = connect(tpm)
    assert link.front.execute(COMMAND) == respond(COMMAND + b"\0")
    ring = link.front._ring
    ring.page.state = 3
    join = in_thread(lambda: link.front.execute(b"next"))
    ring.port.notify()
    assert join() == respond(b"next\0")
    assert tpm.asked == [(COMMAND, 0), (b"next", 0)]
    link.close()


# A back end that does not keep the rules.


@pytest.mark.parametrize(
    ("length", "extra", "answer"),
    [
        (4089, 0, COMMAND),
        (0xFFFFFFFF, 0, COMMAND),
        (0, 0, b""),
        (9, 0, bytes(9)),
        (12, 0, respond(b"abc")),
        (13, 1, respond(b"abc")),
    ],
)
def test_front_does_not_believe_a_bad_response(peer, length, extra, answer):
    def serve():
        peer.page.view[8 : 8 + len(answer)] = answer
        struct.pack_into("<IBBBB", peer.page.view, 0, length, 2, 0, 0, extra)
        peer.port.notify()

    peer.on_event = serve
    assert peer.front_end.execute(COMMAND) == FAILURE


def test_front_takes_a_state_that_does_not_exist_for_a_failure(peer):
    def serve():
        peer.page.state = 77

    peer.on_event = serve
    assert peer.front_end.execute(COMMAND) == FAILURE


def test_front_takes_idle_for_cancelled(peer):
    def serve():
        peer.page.state = 0
        peer.port.notify()

    peer.on_event = serve
    assert peer.front_end.execute(COMMAND) == CANCELED


def test_front_waits_for_a_back_that_answers_from_another_thread(peer):
    submitted = threading.Event()
    peer.on_event = submitted.set
    join = in_thread(lambda: peer.front_end.execute(COMMAND))
    assert submitted.wait(30)
    peer.page.finish(respond(b"late"))
    peer.port.notify()
    assert join() == respond(b"late")


def test_front_cancels_after_its_timeout_and_returns_what_then_comes(peer):
    peer.front_end.close(timeout=0.01)
    peer.write(state="2")
    front = make_front(peer.host, timeout=0.01)
    states = []

    def serve():
        states.append(peer.page.state)
        if states[-1] == 3:
            peer.page.finish(CANCELED)
            peer.port.notify()

    peer.on_event = serve
    front.connect()
    assert front.execute(COMMAND) == CANCELED
    assert states == [1, 3]


def test_front_gives_up_on_a_back_that_ignores_cancel(peer):
    peer.front_end.close(timeout=0.01)
    peer.write(state="2")
    front = make_front(peer.host, timeout=0.01)
    front.connect()
    with pytest.raises(RingClosed, match="does not answer"):
        front.execute(COMMAND)
    # The page is still the back end's, so that the next command may not touch it.
    with pytest.raises(RingClosed, match="does not answer"):
        front.execute(COMMAND)
    assert front.submitted == 1


def test_commands_of_many_threads_are_serial(link):
    joins = [
        in_thread(lambda n=n: [link.front.execute(COMMAND + bytes([n, i])) for i in range(100)])
        for n in range(4)
    ]
    for n, join in enumerate(joins):
        assert join() == [respond(COMMAND + bytes([n, i, 0])) for i in range(100)]
    assert link.back.submitted == link.front.finished == 400
