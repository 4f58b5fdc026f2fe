"""Grants and event channels: who may use what, and how notify behaves."""

from __future__ import annotations

import pytest

from cusetpm.ring.memory import GrantTable, LocalEventChannels
from hwtpm.errors import ProtocolError


def test_a_granted_page_is_the_same_memory_at_both_ends():
    grants = GrantTable()
    ref, mine = grants.grant(1, 2)
    theirs = grants.map(2, 1, ref)
    mine[17] = 0x5A
    assert theirs[17] == 0x5A
    assert len(mine) == 4096
    assert bytes(mine[:17]) == bytes(17)


def test_only_the_domain_it_was_granted_to_maps_a_page():
    grants = GrantTable()
    ref, _ = grants.grant(1, 2)
    with pytest.raises(ProtocolError):
        grants.map(3, 1, ref)
    with pytest.raises(ProtocolError):
        grants.map(2, 3, ref)
    with pytest.raises(ProtocolError):
        grants.map(2, 1, ref + 1)


def test_a_revoked_reference_cannot_be_mapped_and_is_not_used_again():
    grants = GrantTable()
    ref, _ = grants.grant(1, 2)
    view = grants.map(2, 1, ref)
    grants.revoke(1, ref)
    with pytest.raises(ProtocolError):
        grants.map(2, 1, ref)
    assert view[0] == 0
    assert grants.grant(1, 2)[0] != ref


def test_an_unmapped_view_is_dead_and_the_owners_is_not():
    grants = GrantTable()
    ref, mine = grants.grant(1, 2)
    view = grants.map(2, 1, ref)
    grants.unmap(view)
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert mine[0] == 0


def test_notify_runs_the_peers_handler_before_it_returns():
    log = []
    events = LocalEventChannels()
    front = events.alloc_unbound(1, 2, lambda: log.append("front"))
    back = events.bind_interdomain(2, 1, front.number, lambda: log.append("back"))
    front.notify()
    back.notify()
    back.notify()
    assert log == ["back", "front", "front"]
    assert (front.notifications, back.notifications) == (2, 1)


def test_notify_from_inside_a_handler_does_not_recurse():
    events = LocalEventChannels()
    log = []

    def on_front():
        log.append("front in")
        if len(log) < 6:
            front.notify()
        log.append("front out")

    def on_back():
        log.append("back in")
        back.notify()
        log.append("back out")

    front = events.alloc_unbound(1, 2, on_front)
    back = events.bind_interdomain(2, 1, front.number, on_back)
    front.notify()
    # The handler of the back end is never entered twice, and no event is lost.
    assert log[:4] == ["back in", "front in", "front out", "back out"]
    assert log[4:] == ["back in", "front in", "front out", "back out"]


@pytest.mark.parametrize(("binder", "remote", "offset"), [(3, 1, 0), (2, 3, 0), (2, 1, 100)])
def test_only_the_domain_a_port_was_opened_for_binds_to_it(binder, remote, offset):
    events = LocalEventChannels()
    port = events.alloc_unbound(1, 2, lambda: None)
    with pytest.raises(ProtocolError):
        events.bind_interdomain(binder, remote, port.number + offset, lambda: None)


def test_a_port_is_bound_once_until_its_peer_closes():
    events = LocalEventChannels()
    log = []
    front = events.alloc_unbound(1, 2, lambda: None)
    first = events.bind_interdomain(2, 1, front.number, lambda: log.append(1))
    with pytest.raises(ProtocolError):
        events.bind_interdomain(2, 1, front.number, lambda: None)
    first.close()
    front.notify()
    events.bind_interdomain(2, 1, front.number, lambda: log.append(2))
    front.notify()
    assert log == [2]


def test_nothing_arrives_at_a_closed_port():
    events = LocalEventChannels()
    log = []
    front = events.alloc_unbound(1, 2, lambda: log.append("front"))
    back = events.bind_interdomain(2, 1, front.number, lambda: log.append("back"))
    front.close()
    front.notify()
    back.notify()
    assert log == []
    with pytest.raises(ProtocolError):
        events.bind_interdomain(2, 1, front.number, lambda: None)
