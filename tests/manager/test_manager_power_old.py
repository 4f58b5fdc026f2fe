"""Power goes while an old store is taken over or accepted, or while a new one is made."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from hwtpm.errors import StateError
from manager.manager import Manager
from manager.model import Group, Vtpm
from manager.store import Store
from tests.manager.chips import OwnChip, chip_of
from tests.manager.stores import A, B, manager
from tests.support.powercut import HOWS, Cut, Recording, cuts, image, ram, recorded

FORMAT_1 = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "manager-1.json").read_text())
NEW = UUID(int=0xE)
MOST = 100


@pytest.fixture
def rng() -> random.Random:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    return random.Random(seed)


def own_chip(path: Path, family: str) -> OwnChip:
    made = chip_of(f"own-{family}", path)
    assert isinstance(made, OwnChip)
    return made


def after(recording: Recording, wanted: list[Cut],
          rng: random.Random) -> Iterator[tuple[Cut, set[str], Path]]:
    """Give each cut, what was acknowledged by then, and the store that is left; its chip is beside it."""
    with ram() as memory:
        for cut in wanted:
            told = image(recording, cut, memory / "disk", rng)
            yield cut, told, memory / "disk" / "manager.db"
            shutil.rmtree(memory / "disk")


def test_a_store_whose_making_was_cut_short_is_made(
        tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of SQLite's first page any part can be missing, until its journal is gone."""
    base = tmp_path / "disk"
    base.mkdir()
    recording = Recording(base)
    with recorded(recording, monkeypatch), closing(Store(base / "manager.db")):
        pass
    wanted = [Cut(n, how) for n in range(len(recording.events) + 1) for how in (*HOWS, *["some"] * 16)]
    torn = 0
    for _, _, path in after(recording, wanted, rng):
        torn += path.exists() and path.stat().st_size > 0 and not path.read_bytes()[:512].strip(b"\0")
        with closing(Store(path)) as store:
            assert store.identity() is None
            assert store.keys(0) == []
    print(f"{len(recording.events)} events, {len(wanted)} cuts, {torn} first pages without a beginning")
    assert torn > 0


@pytest.mark.parametrize("which", FORMAT_1)
def test_a_store_of_format_1_is_of_one_format_or_the_other(
        which: str, tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    base, family = tmp_path / "disk", {"20": "2.0", "12": "1.2"}[which]
    base.mkdir()
    for name, packed in FORMAT_1[which].items():
        if "/" not in name:
            (base / name).write_bytes(zlib.decompress(base64.b85decode(packed)))

    def vtpms(opened: Manager) -> dict[UUID, bytes | None]:
        return {uuid: opened.load_hash_key(uuid) for uuid in opened.vtpms(0)}

    recording = Recording(base)
    with closing(own_chip(base / "chip", family)) as chip, recorded(recording, monkeypatch), \
            closing(Manager(base / "manager.db", chip.sealing, os.urandom, held=True)) as opened:
        before = vtpms(opened)
        opened.release()
        recording.ack("taken over")
        opened.save_hash_key(NEW, b"n" * 64)
        recording.ack("used")
        with opened.change() as change:
            change.remove_vtpm(NEW)
        recording.ack("its chip has a mask")
    assert before
    wanted, old, more = cuts(recording, rng, MOST), 0, 0
    for _, told, path in after(recording, wanted, rng):
        with closing(own_chip(path.with_name("chip"), family)) as chip:
            with closing(Manager(path, chip.sealing, os.urandom, held=True)) as opened:
                is_old = opened._ledger._old
                assert not (is_old and told)
                old += is_old
                opened.release()
                found = vtpms(opened)
                new = found.pop(NEW, None)
                assert found == before
                assert new in (None, b"n" * 64)
                if "its chip has a mask" in told:
                    assert new is None
                elif "used" in told:
                    more += new is None
                else:
                    more += new is not None
                assert opened.check() == []
                with opened.change() as change:
                    change.remove_vtpm(next(iter(before)))
            with closing(manager(path, chip)) as opened:
                assert vtpms(opened).keys() <= {*list(before)[1:], NEW}
            assert (len(chip.counters()), len(chip.areas())) == (1, 1)
    print(f"{len(recording.events)} events, {len(wanted)} cuts, {old} stores of format 1, {more} changes "
          f"that nobody was told of")
    assert old > 0
    assert more > 0


def old_store(base: Path) -> None:
    shutil.copy(base.with_name("old.db"), base / "manager.db")


def old_chip(base: Path) -> None:
    for slot in "01":
        shutil.copy(base.with_name(f"old.{slot}"), base / f"chip.{slot}")


def why_refused(path: Path, chip: OwnChip) -> str:
    """Return why no manager opens the store, "" if one does."""
    try:
        manager(path, chip).close()
    except StateError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["2.0", "1.2"])
@pytest.mark.parametrize("put_back", [old_store, old_chip])
def test_what_was_put_back_is_accepted_as_a_whole_or_still_refused(
        put_back: Callable[[Path], None], family: str, tmp_path: Path, rng: random.Random,
        monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "disk"
    base.mkdir()
    with closing(own_chip(base / "chip", family)) as chip, \
            closing(manager(base / "manager.db", chip)) as opened, opened.change() as change:
        change.new_group(Group(b"g" * 16))
        change.put_vtpm(A, Vtpm(0, b"1" * 64), 1)
        change.put_vtpm(B, Vtpm(0, b"1" * 64))
    shutil.copy(base / "manager.db", base.with_name("old.db"))
    for slot in "01":
        shutil.copy(base / f"chip.{slot}", base.with_name(f"old.{slot}"))
    with closing(own_chip(base / "chip", family)) as chip, \
            closing(manager(base / "manager.db", chip)) as opened:
        for uuid in A, B:
            opened.save_hash_key(uuid, b"2" * 64)
    newest = base.with_name("newest.db")
    shutil.copy(base / "manager.db", newest)
    put_back(base)
    kept = b"1" * 64 if put_back is old_store else b"2" * 64
    recording = Recording(base)
    with closing(own_chip(base / "chip", family)) as chip, recorded(recording, monkeypatch), closing(
            Manager(base / "manager.db", chip.sealing, os.urandom, accept_rollback=True)) as opened:
        assert len(opened.accepted) == 1
        recording.ack("accepted")
        opened.save_hash_key(NEW, b"n" * 64)
        recording.ack("used")
    wanted, still, more = cuts(recording, rng, MOST), 0, 0
    for cut, told, path in after(recording, wanted, rng):
        with closing(own_chip(path.with_name("chip"), family)) as chip:
            refused = why_refused(path, chip)
            assert not refused or not told, f"{cut}: it was accepted, and is refused: {refused}"
            assert not refused or "an old copy of the" in refused
            still += bool(refused)
            more += not refused and not told
            with closing(Manager(path, chip.sealing, os.urandom, accept_rollback=True)) as opened:
                assert [opened.load_hash_key(uuid) for uuid in (A, B)] == [kept, kept]
                assert "used" not in told or opened.load_hash_key(NEW) == b"n" * 64
                assert opened.check() == []
                opened.save_hash_key(NEW, b"m" * 64)
            manager(path, chip).close()
            # What was the newest before is an old copy now, whatever the chip has counted by then.
            for each in path.parent.glob("manager.db*"):
                each.unlink()
            shutil.copy(newest, path)
            assert "old copy of the" in why_refused(path, chip)
            assert (len(chip.counters()), len(chip.areas())) == (1, 1)
    print(f"{len(recording.events)} events, {len(wanted)} cuts, {still} still refused, {more} accepted that "
          f"nobody was told of")
    assert still > 0
    assert more > 0
