"""Power goes at any moment of any change: what was acknowledged is there, and all else is whole or not."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from manager.manager import Manager
from manager.model import MOVED, Group, Vtpm
from tests.manager.chips import OwnChip
from tests.manager.stores import A, B, manager
from tests.support.powercut import Cut, Recording, image, recorded

C, NEW = UUID(int=0xC), UUID(int=0xD)


def put_first(opened: Manager) -> None:
    with opened.change() as change:
        one, two = change.new_group(Group(b"\1" * 16, b"old")), change.new_group(Group(b"\2" * 16))
        assert (one, two) == (1, 2)
        for uuid, group in (A, 0), (B, 0), (C, 1):
            change.put_vtpm(uuid, Vtpm(0, b"0" * 64), group)


def in_a_change(work: Callable[..., object]) -> Callable[[Manager], None]:
    def do(opened: Manager) -> None:
        with opened.change() as change:
            work(change)
    return do


def several(change: object) -> None:
    change.new_group(Group(b"\3" * 16))  # type: ignore[attr-defined]
    change.put_vtpm(NEW, Vtpm(0, b"n" * 64), 3)  # type: ignore[attr-defined]
    change.put_vtpm(C, Vtpm(MOVED, b"0" * 64))  # type: ignore[attr-defined]


STEPS: dict[str, Callable[[Manager], None]] = {
    "save": lambda opened: opened.save_hash_key(A, b"1" * 64),
    "save again": lambda opened: opened.save_hash_key(A, b"2" * 64),
    "save a new one": lambda opened: opened.save_hash_key(UUID(int=0xE), b"e" * 64),
    "edit a group": in_a_change(lambda change: change.put_group(1, Group(b"\1" * 16, b"new"))),
    "remove a vTPM": in_a_change(lambda change: change.remove_vtpm(B)),
    "several at once": in_a_change(several),
    "remove a group": in_a_change(lambda change: change.remove_group(2)),
    "seal again": in_a_change(lambda change: change.seal(1)),
}
SEEN: dict[str, Callable[[Manager], bool]] = {
    "save": lambda opened: opened.load_hash_key(A) in (b"1" * 64, b"2" * 64),
    "save again": lambda opened: opened.load_hash_key(A) == b"2" * 64,
    "save a new one": lambda opened: opened.load_hash_key(UUID(int=0xE)) == b"e" * 64,
    "edit a group": lambda opened: opened.group(1).saa == b"new",
    "remove a vTPM": lambda opened: opened.find(B) is None,
    "several at once": lambda opened: (
        3 in opened.groups() and opened.load_hash_key(NEW) == b"n" * 64
        and bool(opened.vtpm(C).flags & MOVED)),
    "remove a group": lambda opened: 2 not in opened.groups(),
    "seal again": lambda opened: opened.closed(1) is None,
}
UNSEEN: dict[str, Callable[[Manager], bool]] = {
    "several at once": lambda opened: (
        3 not in opened.groups() and opened.find(NEW) is None and not opened.vtpm(C).flags & MOVED),
}


@pytest.mark.slow
def test_every_change_survives_a_loss_of_power_at_every_write(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng = random.Random(seed)
    base = tmp_path / "disk"
    base.mkdir()
    with closing(OwnChip(base / "chip")) as chip, closing(manager(base / "manager.db", chip)) as opened:
        put_first(opened)
    recording = Recording(base)
    with recorded(recording, monkeypatch), closing(OwnChip(base / "chip")) as chip, \
            closing(manager(base / "manager.db", chip)) as opened:
        for name, step in STEPS.items():
            step(opened)
            recording.ack(name)
    kinds = Counter(event.kind for event in recording.events)
    assert kinds["write"] > 50
    assert kinds["sync"] >= 2 * len(STEPS)  # of the store and of the chip for each
    cuts = [Cut(n, how) for n in range(len(recording.events) + 1) for how in ("none", "all", "some", "last")]
    completed = 0
    for number, cut in enumerate(cuts):
        disk = tmp_path / f"cut {number}"
        acknowledged = image(recording, cut, disk, rng)
        with closing(OwnChip(disk / "chip")) as chip, closing(manager(disk / "manager.db", chip)) as opened:
            seen = {name for name, look in SEEN.items() if name in acknowledged or look(opened)}
            for name in acknowledged:
                assert SEEN[name](opened), f"{cut}: {name} was acknowledged and is gone"
            for name, look in UNSEEN.items():
                assert name in seen or look(opened), f"{cut}: {name} is there by half"
            # They were made one after the other, so none is there without those before it.
            assert seen == set(list(STEPS)[: len(seen)]) or "seal again" in seen
            opened.save_hash_key(A, b"z" * 64)
            completed += len(seen - {"seal again"}) - len(acknowledged - {"seal again"})
        shutil.rmtree(disk)
    print(f"{len(recording.events)} events, {len(cuts)} cuts, {completed} changes that nobody was told of")
    assert completed > 0
