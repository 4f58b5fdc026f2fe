"""Whatever a front end does: nothing is raised out of the back end, and no other front end notices."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from cusetpm.ring.link import Host
from cusetpm.ring.tpmif import is_response
from cusetpm.ring.xenstore import StoreError
from tests.cusetpm.ring_peers import COMMAND, UUID, Echo, RawFront, make_back, respond


@contextmanager
def no_errors_logged():
    """The back end and the store log an exception that they had to swallow; there must be none."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    keep = Keep(logging.ERROR)
    logger = logging.getLogger("cusetpm.ring")
    logger.addHandler(keep)
    try:
        yield
    finally:
        logger.removeHandler(keep)
    assert records == []


def make_pair() -> tuple[RawFront, RawFront]:
    host = Host()
    host.add_device(1, 0, 0, UUID)
    host.add_device(2, 0, 0, UUID)
    make_back(host, Echo())
    return RawFront(host, 1), RawFront(host, 2)


def check(victim: RawFront) -> None:
    assert victim.back_state == "4"
    before = victim.events
    victim.put(COMMAND)
    assert victim.response() == respond(COMMAND + b"\0")
    assert victim.events == before + 1


pages = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda length, state, rest: length.to_bytes(4, "little") + bytes([state]) + rest,
        st.integers(0, 5000),
        st.integers(0, 4),
        st.binary(max_size=40),
    ),
)


@given(st.lists(pages, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_page_contents(contents):
    attacker, victim = make_pair()
    attacker.connect()
    victim.connect()
    with no_errors_logged():
        for content in contents:
            attacker.page.view[: len(content)] = content
            state, extra, events = attacker.page.state, attacker.page.view[7], attacker.events
            attacker.port.notify()
            if state == 1:
                assert attacker.page.state == 2
                assert is_response(attacker.response(8 + 4 * extra))
                assert attacker.events == events + 1
            elif state == 3:
                assert attacker.page.state in (0, 2)
            else:
                assert attacker.page.state == state
        check(victim)
        attacker.page.view[:8] = bytes(8)
        check(attacker)


keys = st.sampled_from(
    [
        "state",
        "ring-ref",
        "event-channel",
        "feature-protocol-v2",
        "backend",
        "backend-id",
        "handle",
        "",
        "x/y",
    ]
)
values = st.one_of(
    st.sampled_from(
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "8", "-1", "", "ring", "port", "victim"]
    ),
    st.text(max_size=20),
)
writes = st.lists(st.tuples(st.sampled_from(["write", "rm", "mkdir", "connect"]), keys, values), max_size=25)


@given(writes)
@settings(max_examples=300, deadline=None)
def test_any_store_writes(steps):
    attacker, victim = make_pair()
    attacker.make_ring()
    victim.connect()
    with no_errors_logged():
        for what, key, value in steps:
            path = f"{attacker.directory}/{key}".rstrip("/")
            meant = {"ring": str(attacker.ref), "port": str(attacker.port.number), "victim": str(victim.ref)}
            with suppress(StoreError):
                if what == "write":
                    attacker.store.write(path, meant.get(value, value))
                elif what == "mkdir":
                    attacker.store.mkdir(path)
                elif what == "rm":
                    attacker.store.rm(path)
                else:
                    attacker.publish()
        check(victim)


paths = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "/",
            "/local",
            "/local/domain/0/backend/vtpm",
            "/local/domain/0/backend/vtpm/2/0",
            "/local/domain/0/backend/vtpm/2/0/state",
            "/local/domain/0/backend/vtpm/1/0/online",
            "/local/domain/0/backend/vtpm/9/9",
            "/local/domain/2/device/vtpm/0",
            "/local/domain/2/device/vtpm/0/state",
            "/local/domain/1",
        ]
    ),
)


@given(st.lists(st.tuples(st.sampled_from(["write", "rm", "mkdir", "perms"]), paths, values), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_store_writes_outside_of_its_own_tree(steps):
    attacker, victim = make_pair()
    victim.connect()
    with no_errors_logged():
        for what, path, value in steps:
            with suppress(StoreError):
                if what == "write":
                    attacker.store.write(path, value)
                elif what == "mkdir":
                    attacker.store.mkdir(path)
                elif what == "rm":
                    attacker.store.rm(path)
                else:
                    attacker.store.set_perms(path, ((1, "b"),))
        check(victim)
