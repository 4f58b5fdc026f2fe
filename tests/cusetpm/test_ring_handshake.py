"""The xenbus handshake: both ends against peers that the test plays, and against each other."""

from __future__ import annotations

import pytest

from cusetpm.ring.front import RingClosed
from cusetpm.ring.link import Host, connect
from cusetpm.ring.xenbus import BACK, FRONT, XenbusState
from hwtpm.errors import ProtocolError
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

ANSWER = respond(COMMAND + b"\0")


@pytest.fixture
def host():
    host = Host()
    host.add_device(1, 0, 0, UUID)
    return host


# The toolstack.


def test_the_toolstack_announces_the_device_in_both_directories(host):
    root = host.store.client(0)
    assert root.directory("/local/domain/1/device/vtpm/0") == ["backend", "backend-id", "handle", "state"]
    back = "/local/domain/0/backend/vtpm/1/0"
    assert root.directory(back) == ["frontend", "frontend-id", "handle", "online", "resume", "state", "uuid"]
    assert root.read("/local/domain/1/device/vtpm/0/backend") == back
    assert root.read(f"{back}/frontend") == "/local/domain/1/device/vtpm/0"
    assert root.read(f"{back}/resume") == "False"


def test_a_guest_cannot_write_into_its_back_ends_directory(host):
    guest = host.store.client(1)
    back = "/local/domain/0/backend/vtpm/1/0"
    assert guest.read(f"{back}/state") == "1"
    with pytest.raises(OSError, match="EACCES"):
        guest.write(f"{back}/uuid", "another")


# The back end.


def test_back_offers_protocol_2_and_waits(host):
    guest = RawFront(host)
    make_back(host, Echo())
    assert guest.back_state == "2"
    assert guest.store.read(f"{guest.backend}/feature-protocol-v2") == "1"
    assert guest.store.get(f"{guest.backend}/ready") is None


@pytest.mark.parametrize("state", ["3", "4"])
def test_back_connects_to_a_front_in_initialised_or_connected(host, state):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.make_ring()
    guest.publish(state)
    assert guest.back_state == "4"
    assert guest.store.read(f"{guest.backend}/ready") == "1"
    guest.put(COMMAND)
    assert guest.response() == ANSWER
    assert (back.submitted, back.finished, back.notifications, guest.events) == (1, 1, 1, 1)


def test_back_that_starts_after_the_front_connects(host):
    guest = RawFront(host)
    guest.connect()
    make_back(host, Echo())
    assert guest.back_state == "4"


def test_back_refuses_a_front_without_protocol_2_and_takes_it_later(host):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.make_ring()
    guest.publish(feature=None)
    assert guest.back_state == "5"
    assert "protocol 2 required" in guest.store.read(f"{guest.backend}/error")
    assert back.ring(1, 0) is None
    guest.set_state(6)
    assert guest.back_state == "2"
    guest.publish()
    assert guest.back_state == "4"
    assert guest.store.get(f"{guest.backend}/error") is None


@pytest.mark.parametrize("key", ["ring-ref", "event-channel"])
@pytest.mark.parametrize("value", ["", "x", "-1", "99999", "4294967296", "9" * 400, "٣"])
def test_back_refuses_a_bad_page_or_port(host, key, value):
    guest = RawFront(host)
    make_back(host, Echo())
    guest.make_ring()

    def write(tx):
        for name, text in {
            "ring-ref": str(guest.ref),
            "event-channel": str(guest.port.number),
            "feature-protocol-v2": "1",
            "state": "3",
            key: value,
        }.items():
            guest.store.write(f"{guest.directory}/{name}", text, tx)

    guest.store.transact(write)
    assert guest.back_state == "5"


def test_back_refuses_the_page_of_another_guest(host):
    host.add_device(2, 0, 0, UUID)
    victim, thief = RawFront(host, 1), RawFront(host, 2)
    make_back(host, Echo())
    victim.connect()
    thief.make_ring()
    thief.ref = victim.ref
    thief.publish()
    assert (victim.back_state, thief.back_state) == ("4", "5")
    victim.put(COMMAND)
    assert victim.response() == ANSWER


def test_back_refuses_an_unknown_uuid(host):
    host.add_device(2, 0, 0, "00000000-0000-4000-8000-00000000dead")
    stranger, guest = RawFront(host, 2), RawFront(host, 1)
    make_back(host, Echo())
    stranger.connect()
    guest.connect()
    assert (stranger.back_state, guest.back_state) == ("5", "4")


def test_removing_a_device_without_a_back_end_does_not_wait_for_ever(host):
    assert not host.remove_device(1, 0, timeout=0.01)
    assert host.store.client(0).get("/local/domain/1/device/vtpm/0/state") is None


def test_rings_come_and_go_in_many_threads_at_once():
    host = Host()

    def run(number):
        for _ in range(20):
            link = connect(
                Echo(), host=host, front_domid=10 + number, back_domid=number % 2, uuid=f"u{number}"
            )
            assert link.front.execute(COMMAND) == ANSWER
            link.front.resume()
            assert link.front.execute(COMMAND) == ANSWER
            link.close()
        return link.back

    joins = [in_thread(lambda number=number: run(number)) for number in range(4)]
    backs = {id(back): back for back in [join() for join in joins]}
    assert [back.finished for back in backs.values()] == [80, 80]


def test_back_follows_a_closing_front(host):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.connect()
    guest.set_state(5)
    assert guest.back_state == "5"
    guest.set_state(6)
    assert guest.back_state == "2"
    assert back.ring(1, 0) is None
    guest.put(COMMAND)
    assert guest.events == 0
    guest.connect()
    guest.put(COMMAND)
    assert guest.response() == ANSWER
    assert back.submitted == 1


def test_back_frees_a_front_whose_node_is_gone(host):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.connect()
    guest.store.rm(guest.directory)
    assert back.ring(1, 0) is None
    assert guest.back_state == "6"


def test_back_says_closed_when_the_toolstack_removes_the_device(host):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.connect()
    assert host.remove_device(1, 0)
    assert back.ring(1, 0) is None
    assert guest.back_state is None
    host.add_device(1, 0, 0, UUID)
    again = RawFront(host)
    again.connect()
    assert again.back_state == "4"


def test_back_notices_a_device_that_was_removed_and_made_anew_between_two_looks(host):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.connect()
    root = host.store.client(0)

    def replace(tx):
        root.rm("/local/domain/1/device/vtpm/0", tx)
        root.rm(guest.backend, tx)

    def busy(_path):
        # While this callback runs, nothing is delivered to the back end.
        root.transact(replace)
        host.add_device(1, 0, 0, UUID)

    root.watch("/busy", busy)
    assert guest.back_state == "2"
    assert back.ring(1, 0) is None
    assert guest.store.read(f"{guest.backend}/feature-protocol-v2") == "1"
    guest.connect()
    guest.put(COMMAND)
    assert guest.response() == ANSWER


def test_back_takes_the_new_page_of_a_front_that_began_again(host):
    """Linux resumes by publishing a new page and port in Initialised, without closing."""
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.connect()
    first = back.ring(1, 0)
    guest.connect()
    guest.put(COMMAND)
    assert guest.response() == ANSWER
    assert back.ring(1, 0) is not first


def test_back_keeps_its_ring_when_nothing_changed(host):
    guest = RawFront(host)
    back = make_back(host, Echo())
    guest.connect()
    first = back.ring(1, 0)
    guest.set_state(4)
    assert back.ring(1, 0) is first


def test_back_that_was_killed_is_followed_by_another_unnoticed(host):
    guest = RawFront(host)
    dead = make_back(host, Echo())
    guest.connect()
    dead.ring(1, 0).close(host.grants)
    dead._unwatch()
    guest.put(COMMAND)
    assert guest.events == 0
    guest.woken.clear()
    make_back(host, Echo())
    # The command is still on the page; it runs although nobody notifies again.
    assert guest.woken.wait(30)
    assert guest.response() == ANSWER


def test_back_takes_a_command_that_was_submitted_before_it_connected(host):
    guest = RawFront(host)
    guest.make_ring()
    guest.put(COMMAND)
    guest.publish()
    make_back(host, Echo())
    assert guest.woken.wait(30)
    assert guest.response() == ANSWER


def test_back_close_tells_every_front(host):
    host.add_device(2, 0, 0, UUID)
    guests = [RawFront(host, 1), RawFront(host, 2)]
    back = make_back(host, Echo())
    for guest in guests:
        guest.connect()
    back.close()
    assert [guest.back_state for guest in guests] == ["6", "6"]
    host.add_device(3, 0, 0, UUID)
    assert RawFront(host, 3).back_state == "1"


# The front end.


def test_front_publishes_in_one_transaction_and_connects(host):
    back = RawBack(host)
    seen = []
    back.store.watch(
        back.frontend, lambda _path: seen.append((back.front("state"), back.front("ring-ref") is not None))
    )
    back.serve()
    front = make_front(host)
    front.connect()
    assert front.state is XenbusState.CONNECTED
    assert (back.front("feature-protocol-v2"), back.front("state")) == ("1", "4")
    assert ("3", False) not in seen
    assert ("1", True) not in seen


def test_front_connects_to_a_back_in_initialised(host):
    back = RawBack(host)
    back.write(state="2", feature_protocol_v2="1")
    front = make_front(host)
    back.store.watch(
        f"{back.frontend}/state", lambda _path: back.front("state") == "3" and back.write(state="3")
    )
    front.connect()
    assert back.front("state") == "4"


def test_front_refuses_a_back_without_protocol_2(host):
    back = RawBack(host)
    back.serve(feature=None)
    front = make_front(host)
    with pytest.raises(RingClosed, match="protocol 2 required"):
        front.connect()
    assert back.front("ring-ref") is None
    assert back.front("state") == "6"
    back.write(feature_protocol_v2="1", state="2")
    front.connect()
    assert front.state is XenbusState.CONNECTED


def test_front_gives_up_after_the_time_it_was_given(host):
    front = make_front(host)
    with pytest.raises(RingClosed, match="does not connect"):
        front.connect(timeout=0.01)
    with pytest.raises(RingClosed, match="not connected"):
        front.execute(COMMAND)
    RawBack(host).serve()
    front.connect()


def test_front_without_a_device_says_so():
    with pytest.raises(RingClosed, match="no such device"):
        make_front(Host()).connect()


@pytest.mark.parametrize("state", ["5", "6"])
def test_front_loses_the_ring_when_the_back_closes(host, state):
    back = RawBack(host)
    back.serve()
    front = make_front(host)
    front.connect()
    ref = int(back.front("ring-ref"))
    back.write(state=state)
    assert back.front("state") == "6"
    assert back.front("ring-ref") is None
    with pytest.raises(RingClosed):
        front.execute(COMMAND)
    with pytest.raises(ProtocolError):
        host.grants.map(0, 1, ref)
    back.write(state="2")
    front.connect()
    assert front.state is XenbusState.CONNECTED


def test_front_loses_the_ring_when_the_back_is_gone(host):
    back = RawBack(host)
    back.serve()
    front = make_front(host)
    front.connect()
    back.store.rm(back.directory)
    assert front.state is XenbusState.CLOSED
    front.close()


def test_front_close_walks_through_closing_and_closed(host):
    back = RawBack(host)
    back.serve()
    states = []

    def follow(_path):
        states.append(back.front("state"))
        if states[-1] == "5":
            back.write(state="5")
        elif states[-1] == "6":
            assert back.front("ring-ref") is None
            back.write(state="2")

    front = make_front(host)
    front.connect()
    back.store.watch(f"{back.frontend}/state", follow)
    front.close()
    assert front.state is XenbusState.INITIALISING
    assert states[0] == "4"
    assert states[-1] == "1"
    assert "5" in states


def test_front_close_does_not_wait_for_ever(host):
    back = RawBack(host)
    back.serve()
    front = make_front(host)
    front.connect()
    front.close(timeout=0.01)
    assert back.front("state") == "6"


# Both ends.


def test_connect_close_and_connect_again():
    tpm = Echo()
    link = connect(tpm)
    assert link.front.execute(COMMAND) == ANSWER
    link.front.close()
    with pytest.raises(RingClosed):
        link.front.execute(COMMAND)
    link.front.connect()
    assert link.front.execute(COMMAND, 2) == respond(COMMAND + b"\x02")
    link.close()
    link.close()
    with pytest.raises(RingClosed):
        link.front.execute(COMMAND)
    counts = (link.front.submitted, link.front.finished, link.front.notifications)
    assert counts == (link.back.submitted, link.back.finished, link.back.notifications) == (2, 2, 2)


def test_resume_moves_to_a_new_page():
    link = connect(Echo())
    first = link.back.ring(1, 0)
    link.front.resume()
    assert link.back.ring(1, 0) is not first
    assert link.front.execute(COMMAND) == ANSWER
    link.close()


def test_rings_of_one_host_share_back_ends_and_do_not_mix():
    host = Host()
    tpms = {domid: Echo() for domid in range(2, 6)}
    links = {
        domid: connect(tpm, host=host, front_domid=domid, uuid=f"uuid-{domid}") for domid, tpm in tpms.items()
    }
    assert len({id(link.back) for link in links.values()}) == 1
    for domid, link in links.items():
        for _ in range(domid):
            assert link.front.execute(COMMAND) == ANSWER
    links[3].close()
    assert links[4].front.execute(COMMAND) == ANSWER
    assert {domid: len(tpm.asked) for domid, tpm in tpms.items()} == {2: 2, 3: 3, 4: 5, 5: 5}
    with pytest.raises(ValueError, match="already serves"):
        connect(Echo(), host=host, front_domid=9, uuid="uuid-2")
    with pytest.raises(ValueError, match="exists already"):
        connect(Echo(), host=host, front_domid=2, uuid="uuid-9")
    connect(Echo(), host=host, front_domid=3, uuid="uuid-3").close()


def test_two_hops_are_crossed_by_one_command():
    """Guest device -> vTPM -> manager: a front end is a transport, so it stands behind a back end."""
    host = Host()
    manager = Echo()
    upper = connect(manager, host=host, front_domid=2, back_domid=0)
    lower = connect(upper.front, host=host, front_domid=7, back_domid=2)
    assert lower.front.execute(COMMAND) == ANSWER
    for end in (lower.front, lower.back, upper.front, upper.back):
        assert (end.submitted, end.finished, end.notifications) == (1, 1, 1)
    lower.close()
    upper.close()


def test_back_that_closes_wakes_a_waiting_front():
    tpm = Slow()
    link = connect(tpm)
    join = in_thread(lambda: link.front.execute(COMMAND))
    assert tpm.started.wait(30)
    link.back.close()
    with pytest.raises(RingClosed, match="gone"):
        join()
    assert tpm.cancels == 1


def test_front_close_cancels_the_command_in_progress():
    tpm = Slow()
    link = connect(tpm)
    join = in_thread(lambda: link.front.execute(COMMAND))
    assert tpm.started.wait(30)
    link.close()
    assert join()[6:] == b"\0\0\x09\x09"


def test_the_tables_lead_from_every_state_back_to_connected():
    """No state that a step enters is a dead end, whatever the peer does next."""
    for table in (BACK, FRONT):
        left = {own for own, _ in table}
        for step in table.values():
            assert step.state in left or step.state is XenbusState.CLOSED
