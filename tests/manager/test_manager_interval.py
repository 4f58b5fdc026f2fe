"""Saves that the chip counts at intervals: cheap in between, and old copies refused once one is over."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hwtpm.errors import StateError
from hwtpm.tpm2.types.constants import TPM_CC_NV_Increment
from manager.book import Moved, NoVtpm
from manager.manager import Manager
from manager.model import MOVED, Vtpm
from tests.manager.chips import BrokenChip, OwnChip
from tests.support.powercut import Cut, Recording, image, recorded

A, B = UUID(int=0xA), UUID(int=0xB)
INTERVAL = 1000


class Clock:
    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[OwnChip]:
    with closing(OwnChip(tmp_path / "chip")) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "manager.db"


def manager(path: Path, chip: OwnChip, clock: Clock) -> Manager:
    return Manager(path, chip.sealing, os.urandom, now=clock, interval=INTERVAL)


def counted(chip: OwnChip) -> int:
    return chip.codes.count(TPM_CC_NV_Increment)


def power_fails(opened: Manager) -> None:
    """The process is gone: nothing more is counted."""
    opened._ledger.store.close()


def test_one_save_of_an_interval_is_counted_and_every_one_is_kept(path: Path, chip: OwnChip) -> None:
    clock = Clock()
    opened = manager(path, chip, clock)
    before = counted(chip)
    for number in range(10):
        opened.save_hash_key(A, bytes([number]) * 64)
    assert counted(chip) == before + 1
    clock.ms += INTERVAL
    opened.save_hash_key(B, b"b" * 64)
    assert counted(chip) == before + 2
    opened.save_hash_key(A, b"z" * 64)
    power_fails(opened)
    with closing(manager(path, chip, clock)) as again:
        assert again.load_hash_key(A) == b"z" * 64
        assert again.load_hash_key(B) == b"b" * 64


@pytest.mark.parametrize("how", ["count", "close", "next save"])
def test_a_copy_from_before_the_last_count_is_refused(path: Path, chip: OwnChip, how: str) -> None:
    clock = Clock()
    opened = manager(path, chip, clock)
    opened.save_hash_key(A, b"1" * 64)
    opened.save_hash_key(A, b"2" * 64)
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    opened.save_hash_key(A, b"3" * 64)
    if how == "count":
        opened.count()
    elif how == "next save":
        clock.ms += INTERVAL
        opened.save_hash_key(B, b"b" * 64)
    if how == "close":
        opened.close()
    else:
        power_fails(opened)
    shutil.rmtree(path.parent)
    shutil.copytree(copy, path.parent)
    with pytest.raises(StateError, match="an old copy of the store was put back"):
        manager(path, chip, clock)


def test_nothing_is_counted_twice(path: Path, chip: OwnChip) -> None:
    clock = Clock()
    opened = manager(path, chip, clock)
    opened.save_hash_key(A, b"1" * 64)
    opened.save_hash_key(A, b"2" * 64)
    opened.count()
    before = counted(chip)
    opened.count()
    opened.close()
    assert counted(chip) == before


def test_a_count_that_fails_is_made_up_for(path: Path, chip: OwnChip) -> None:
    clock = Clock()
    opened = manager(path, chip, clock)
    opened.save_hash_key(A, b"1" * 64)
    opened.save_hash_key(A, b"2" * 64)
    chip.cut_before(TPM_CC_NV_Increment)
    with pytest.raises(BrokenChip):
        opened.count()
    chip.mend()
    opened.save_hash_key(A, b"3" * 64)
    opened.close()
    with closing(manager(path, chip, clock)) as again:
        assert again.load_hash_key(A) == b"3" * 64


def test_a_chip_that_is_gone_does_not_keep_the_store_open(path: Path, chip: OwnChip) -> None:
    opened = manager(path, chip, Clock())
    opened.save_hash_key(A, b"1" * 64)
    opened.save_hash_key(A, b"2" * 64)
    chip.cut_before(TPM_CC_NV_Increment)
    opened.close()
    chip.mend()
    with closing(manager(path, chip, Clock())) as again:
        assert again.load_hash_key(A) == b"2" * 64


def test_a_new_key_survives_a_loss_of_power_and_so_does_all_that_was_counted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved under the key that was there is durable with the next new key, change or count."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng, clock = random.Random(seed), Clock()
    disk = tmp_path / "disk"
    disk.mkdir()
    key, new = b"k" * 32, b"n" * 32
    with closing(OwnChip(disk / "chip")) as chip, \
            closing(manager(disk / "manager.db", chip, clock)) as opened:
        for uuid in A, B:
            opened.save_hash_key(uuid, bytes(32) + key)
    recording, flushes = Recording(disk), []
    with recorded(recording, monkeypatch), closing(OwnChip(disk / "chip")) as chip, \
            closing(manager(disk / "manager.db", chip, clock)) as opened:
        def save(uuid: UUID, number: int, under: bytes) -> None:
            opened.save_hash_key(uuid, bytes([number]) * 32 + under)
            flushes.append(sum(event.kind == "sync" for event in recording.events))
            recording.ack(f"{number}")

        for number, (uuid, under) in enumerate(
                [(A, key), (A, key), (B, key), (A, key), (B, new), (A, key)], 1):
            save(uuid, number, under)
        opened.count()
        recording.ack("counted")
        power_fails(opened)
    # The first of the interval, and the new key; the others in between do not touch the disk.
    assert [now > then for then, now in pairwise(flushes)] == [
        False, False, False, True, False]
    for n in range(len(recording.events) + 1):
        for how in "none", "some", "all":
            place = tmp_path / "cut"
            told = image(recording, Cut(n, how), place, rng)
            with closing(OwnChip(place / "chip")) as chip, \
                    closing(manager(place / "manager.db", chip, clock)) as again:
                found = {uuid: again.load_hash_key(uuid) for uuid in (A, B)}
            least = 6 if "counted" in told else 5 if "5" in told else 1 if "1" in told else 0
            numbers = [(value or b"")[0] for value in found.values()]
            assert max(numbers) >= least
            assert (found[B] or b"")[32:] == (new if numbers[1] == 5 else key)
            shutil.rmtree(place)


KEY = b"k" * 32


def kept(number: int, key: bytes = KEY) -> bytes:
    return bytes([number]) * 32 + key


@pytest.fixture
def put_off(path: Path, chip: OwnChip) -> Iterator[Manager]:
    """A manager with a save of A that its store does not have yet, the second of two."""
    opened = manager(path, chip, Clock())
    for number in 1, 2:
        opened.save_hash_key(A, kept(number))
    assert stored(opened, A) == kept(1)
    yield opened
    opened.close()


def stored(opened: Manager, uuid: UUID) -> bytes:
    return opened._ledger.book.vtpm(uuid).hash_key


def test_what_was_put_off_is_what_a_vtpm_gets_back(put_off: Manager) -> None:
    assert put_off.load_hash_key(A) == kept(2)
    assert put_off.vtpm(A).hash_key == kept(2)
    assert put_off.saves == 2


@pytest.mark.parametrize("what", ["count", "change", "new key", "backup", "close"])
def test_what_was_put_off_is_stored_with_what_comes_next(
        put_off: Manager, path: Path, chip: OwnChip, tmp_path: Path, what: str) -> None:
    if what == "count":
        put_off.count()
    elif what == "change":
        with put_off.change() as change:
            assert change.vtpm(A).hash_key == kept(2)
            change.put_vtpm(B, Vtpm())
    elif what == "new key":
        put_off.save_hash_key(B, kept(3, b"b" * 32))
    elif what == "backup":
        put_off.backup(tmp_path / "copy.db", lambda book: None)
    else:
        put_off.close()
    if what != "close":
        assert stored(put_off, A) == kept(2)
        power_fails(put_off)
    with closing(manager(path, chip, Clock())) as again:
        assert again.load_hash_key(A) == kept(2)


def test_what_was_put_off_of_a_vtpm_that_is_removed_is_forgotten(put_off: Manager) -> None:
    with put_off.change() as change:
        change.remove_vtpm(A)
    assert put_off.load_hash_key(A) is None
    put_off.count()
    assert put_off.find(A) is None


def test_a_change_that_is_not_made_leaves_what_was_put_off(put_off: Manager) -> None:
    def remove() -> None:
        with put_off.change() as change:
            change.remove_vtpm(A)
            change.remove_vtpm(B)

    with pytest.raises(NoVtpm):
        remove()
    assert put_off.load_hash_key(A) == kept(2)


@pytest.mark.parametrize("made", [False, True])
def test_after_a_commit_that_failed_the_store_says_whether_it_has_what_was_put_off(
        put_off: Manager, path: Path, chip: OwnChip, monkeypatch: pytest.MonkeyPatch, made: bool) -> None:
    """If it has, a save of that transaction must not be covered by an older one that was put off before."""
    real = put_off._ledger.store.commit

    def fail(*what: Any) -> None:
        if made:
            real(*what)
        raise StateError("SQLite: disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(put_off._ledger.store, "commit", fail)
        with pytest.raises(StateError):
            put_off.save_hash_key(A, kept(3, b"n" * 32))
    wanted = kept(3, b"n" * 32) if made else kept(2)
    assert put_off.load_hash_key(A) == wanted
    put_off.count()
    power_fails(put_off)
    with closing(manager(path, chip, Clock())) as again:
        assert again.load_hash_key(A) == wanted


def test_a_moved_vtpm_saves_nothing_whatever_its_key_is(put_off: Manager) -> None:
    with put_off.change() as change:
        vtpm = change.vtpm(A)
        vtpm.flags |= MOVED
        change.put_vtpm(A, vtpm)
    with pytest.raises(Moved):
        put_off.save_hash_key(A, kept(3))
    with pytest.raises(Moved):
        put_off.load_hash_key(A)
