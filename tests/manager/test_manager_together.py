"""Saves that arrive together are one transaction, and each is acknowledged only when that is durable."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hwtpm.errors import StateError
from manager.book import Closed, Moved
from manager.manager import Manager
from manager.model import ADMIN, DEFAULT_PCRS, MOVED, Changes, Group, Mark, Platform, Vtpm
from manager.store import Store
from tests.manager.chips import OwnChip
from tests.manager.stores import A, B, kept, manager

MANY = [UUID(int=n) for n in range(1, 17)]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnChip]:
    with closing(OwnChip(tmp_path / "chip")) as made:
        yield made


class Gate:
    """Commits of *opened* wait at the first one until `open`; `commits` has the changes of each."""

    def __init__(self, opened: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits: list[Changes] = []
        self.failing: Exception | None = None
        self._opened, self._go, self._here = opened, threading.Event(), threading.Event()
        real = Store.commit

        def commit(store: Store, mark: Mark, changes: Changes, *rest: Any) -> None:
            self.commits.append(changes)
            self._here.set()
            assert self._go.wait(60)
            if self.failing is not None:
                raise self.failing
            real(store, mark, changes, *rest)

        monkeypatch.setattr(Store, "commit", commit)

    def saves(self, *uuids: UUID) -> dict[UUID, BaseException | None]:
        """The first of *uuids* saves, and while it does, all others; return how each has ended."""
        ended: dict[UUID, BaseException | None] = {}

        def save(uuid: UUID) -> None:
            try:
                self._opened.save_hash_key(uuid, uuid.bytes * 4)
            except Exception as error:
                ended[uuid] = error
            else:
                ended[uuid] = None

        threads = [threading.Thread(target=save, args=(uuid,)) for uuid in uuids]
        threads[0].start()
        assert self._here.wait(60)
        for thread in threads[1:]:
            thread.start()
        while len(self._opened._waiting) < len(uuids) - 1:
            time.sleep(0.001)
        assert not ended
        self._go.set()
        for thread in threads:
            thread.join()
        return ended


def test_sixteen_saves_at_once_are_two_transactions(
        path: Path, own: OwnChip, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what makes them share the flushes of the device: one for the first, one for all others."""
    with closing(manager(path, own)) as opened:
        gate = Gate(opened, monkeypatch)
        assert set(gate.saves(*MANY).values()) == {None}
        assert [len(changes) for changes in gate.commits] == [1, 15]
        assert opened.saves == 16
        assert [opened.vtpm(uuid).flags for uuid in MANY] == [ADMIN] + [0] * 15
    assert kept(path, own, *MANY) == [uuid.bytes * 4 for uuid in MANY]


def test_two_of_the_same_vtpm_are_taken_in_their_order(
        path: Path, own: OwnChip, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(manager(path, own)) as opened:
        opened._waiting.extend(_saves((A, b"1" * 64), (A, b"2" * 64)))
        opened.save_hash_key(B, b"b" * 64)
    assert kept(path, own, A, B) == [b"2" * 64, b"b" * 64]


def _saves(*each: tuple[UUID, bytes]) -> list[object]:
    from manager.manager import _Save

    return [_Save(uuid, hash_key) for uuid, hash_key in each]


@pytest.mark.parametrize("what", ["moved", "closed"])
def test_one_that_is_refused_is_no_reason_for_the_others(
        path: Path, own: OwnChip, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    with closing(manager(path, own)) as opened, opened.change() as change:
        one = change.new_group(Group(bytes(16)), [Platform(DEFAULT_PCRS, bytes(32))])
        change.put_vtpm(MANY[3], Vtpm(MOVED) if what == "moved" else Vtpm(), 0 if what == "moved" else one)
    with closing(manager(path, own)) as opened:
        ended = Gate(opened, monkeypatch).saves(*MANY)
        assert isinstance(ended.pop(MANY[3]), Moved if what == "moved" else Closed)
        assert set(ended.values()) == {None}
        assert opened.saves == 15


def test_a_transaction_that_fails_is_told_to_all(
        path: Path, own: OwnChip, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, closing(manager(path, own)) as opened:
        gate = Gate(opened, patch)
        gate.failing = StateError("SQLite: database or disk is full; make room there")
        ended = gate.saves(*MANY)
        assert all(isinstance(error, StateError) for error in ended.values())
        assert opened.saves == 0
        patch.undo()
        assert opened.load_hash_key(MANY[0]) is None
        opened.save_hash_key(MANY[0], b"n" * 64)
    assert kept(path, own, MANY[0], MANY[1]) == [b"n" * 64, None]


def per_second(work: Callable[[], object], seconds: float) -> float:
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        done += 1
    return done / (time.perf_counter() - start)


def large(path: Path, own: OwnChip, count: int) -> list[UUID]:
    uuids = [UUID(int=n) for n in range(1, count + 1)]
    with closing(Manager(path, own.sealing, os.urandom)) as opened, opened.change() as change:
        for uuid in uuids:
            change.put_vtpm(uuid, Vtpm(0, bytes(64)))
    return uuids


@pytest.mark.slow
def test_a_store_of_20000_opens_at_once_and_saves_as_a_small_one(path: Path, own: OwnChip) -> None:
    """The bounds are for a machine under load; docs/performance.md has figures."""
    times = {}
    for count in 10, 20_000:
        store = path.with_name(f"{count}.db")
        uuids = large(store, own, count)
        start = time.perf_counter()
        with closing(Manager(store, own.sealing, os.urandom, interval=60_000)) as opened:
            assert time.perf_counter() - start < 4
            opened.save_hash_key(uuids[0], b"x" * 64)
            # Under the key that is there already: what is measured is the work, without a flush.
            save = partial(opened.save_hash_key, uuids[1], b"x" * 64)
            times[count] = min(1 / per_second(save, 0.1) for _ in range(10))
    print({count: f"{1e6 * each:.0f} us" for count, each in times.items()})
    assert times[20_000] < 2 * times[10] + 100e-6
