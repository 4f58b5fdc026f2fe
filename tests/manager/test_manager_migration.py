"""A state directory with a store of format 1 is used as before, and becomes one of today when it is."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from cusetpm.daemon import System
from hwtpm.client import Client, Password
from hwtpm.errors import StateError
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from manager.model import ADMIN
from manager.store import Store
from tests.manager.chips import BrokenChip, OwnChip
from tests.manager.stores import kept, manager

STORED = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "manager-1.json").read_text())
GUESTS = {"20": ["tpm0"], "12": ["tpm0", "tpm1"]}
FAMILY = {"20": "2.0", "12": "1.2"}


@pytest.fixture(params=STORED)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def state(which: str, tmp_path: Path) -> Path:
    """Give the directory: "20" was closed, "12" is of a process that was killed, so its store is all WAL."""
    for name, packed in STORED[which].items():
        path = tmp_path / "state" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zlib.decompress(base64.b85decode(packed)))
    return tmp_path / "state"


def use(state: Path, which: str, before: str = "") -> None:
    """Every guest finds the owner's authorization that it had set, its name and *before*; adds an "x"."""
    with closing(System(state, chip=FAMILY[which])) as system:
        for name in GUESTS[which]:
            device = system.add_guest(name)
            device.start_up("clear")
            auth = (name + before).encode()
            Client(device.execute, os.urandom).run(
                HierarchyChangeAuth(TPM_RH_OWNER, auth + b"x"), Password(auth))


def version(state: Path) -> int:
    with closing(sqlite3.connect(state / "manager.db")) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_the_vtpms_are_what_they_were_in_this_life_and_in_the_next(state: Path, which: str) -> None:
    use(state, which)
    assert version(state) == 2
    use(state, which, "x")


def test_a_start_that_is_given_up_leaves_it_as_it_was(state: Path, which: str) -> None:
    files = ["manager.db", "chip.0", "chip.1", *(f"guests/{name}/state.0" for name in GUESTS[which])]
    before = {name: (state / name).read_bytes() for name in files}
    with closing(System(state, chip=FAMILY[which])) as system:
        system.add_guest("tpm0").start_up("clear")
    assert {name: (state / name).read_bytes() for name in files} == before
    use(state, which)


def test_only_a_single_vtpm_is_known_to_be_the_first(state: Path, which: str) -> None:
    with closing(System(state, chip=FAMILY[which])) as system:
        system.add_guest("tpm0").accept()
        found = [system.manager.vtpm(uuid).flags for uuid in system.manager.vtpms(0)]
    assert found == {"20": [ADMIN], "12": [0, 0]}[which]


def test_the_old_store_is_an_old_copy_afterwards(state: Path, which: str) -> None:
    copy = Path(shutil.copytree(state, state.with_name("copy")))
    use(state, which)
    for path in (*state.glob("manager.db*"), *copy.glob("manager.db*")):
        path.unlink() if path.parent == state else shutil.copy(path, state)
    with pytest.raises(StateError, match="an old copy of the store was put back"):
        System(state, chip=FAMILY[which])


@pytest.mark.parametrize("change", [
    "UPDATE vtpm SET sealed = zeroblob(length(sealed))", "DELETE FROM vtpm",
    "UPDATE vtpm SET uuid = zeroblob(16)",
    "UPDATE mark SET epoch = epoch + 1", "DELETE FROM root", "DELETE FROM mark", "DELETE FROM identity",
    "UPDATE root SET private = x''"])
def test_a_damaged_one_is_refused_and_not_migrated(tmp_path: Path, change: str) -> None:
    for name, packed in STORED["20"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(zlib.decompress(base64.b85decode(packed)))
    with closing(sqlite3.connect(tmp_path / "manager.db", isolation_level=None)) as db:
        db.execute(change)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with pytest.raises(StateError, match=f"{tmp_path}/manager.db: "):
        System(tmp_path)
    assert version(tmp_path) == 1


def test_a_migration_that_cannot_be_written_is_done_later(
        state: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store._put

    def fail(self: Store, place: int, row: object) -> None:
        if place >> 128 == 3:
            raise sqlite3.OperationalError("database or disk is full")
        real(self, place, row)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_put", fail)
        with closing(System(state, chip=FAMILY[which])) as system, \
                pytest.raises(StateError, match="database or disk is full"):
            system.add_guest("tpm0").accept()
    assert version(state) == 1
    use(state, which)


def test_its_chip_gets_a_key_mask_when_the_first_key_is_destroyed(state: Path, which: str) -> None:
    with closing(System(state, chip=FAMILY[which])) as system:
        system.add_guest("tpm0").accept()
        (gone, *others) = system.manager.vtpms(0)
        assert system.manager._ledger.root.mask == b""
        with system.manager.change() as change:
            change.remove_vtpm(gone)
        assert len(system.manager._ledger.root.mask) == 32
    with closing(System(state, chip=FAMILY[which])) as system:
        assert system.manager.vtpms(0) == others
        assert len(system.manager._ledger.root.mask) == 32


def test_a_first_removal_that_the_store_cannot_take_is_done_later(state: Path, which: str) -> None:
    with closing(System(state, chip=FAMILY[which])) as system:
        system.add_guest("tpm0").accept()
        gone = system.manager.vtpms(0)[0]
        system.manager._ledger.store._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StateError, match="readonly"), system.manager.change() as change:
            change.remove_vtpm(gone)
        system.manager._ledger.store._db.execute("PRAGMA query_only = OFF")
        assert system.manager.find(gone) == 0
        with system.manager.change() as change:
            change.remove_vtpm(gone)
        assert system.manager.find(gone) is None


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_its_first_removal_cut_short_at_any_command_is_whole_or_not_there(
        tmp_path: Path, executed: bool) -> None:
    """That is the first time that the chip has a mask."""
    found = []
    for n in itertools.count():
        for name, packed in STORED["20"].items():
            (tmp_path / str(n) / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / str(n) / name).write_bytes(zlib.decompress(base64.b85decode(packed)))
        path = tmp_path / str(n) / "manager.db"
        with closing(OwnChip(tmp_path / str(n) / "chip")) as own:
            opened = manager(path, own)
            (gone,) = opened.vtpms(0)
            left = [n + executed]

            def stop(code: int, left: list[int] = left) -> None:
                if not left[0]:
                    raise BrokenChip
                left[0] -= 1

            own.before = stop
            try:
                with opened.change() as change:
                    change.remove_vtpm(gone)
            except BrokenChip:
                opened._ledger.store._db.close()
            else:
                opened.close()
            own.mend()
            own.power_cycle()
            with closing(manager(path, own)) as again:
                found.append(again.find(gone))
                again.save_hash_key(gone, b"n" * 64)
            assert kept(path, own, gone) == [b"n" * 64]
            assert len(own.areas()) <= 1
            if left[0]:
                break
    assert None in found
    print(f"{n} commands, {found.count(None)} removals completed")


def test_a_first_use_of_format_1_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "format").write_bytes(zlib.decompress(base64.b85decode(STORED["20"]["format"])))
    (tmp_path / "manager.db").write_bytes(zlib.decompress(base64.b85decode(STORED["20"]["manager.db"])))
    with closing(sqlite3.connect(tmp_path / "manager.db")) as db:
        db.executescript("DELETE FROM root; DELETE FROM mark; DELETE FROM vtpm")
        counter = db.execute("SELECT counter FROM identity").fetchone()[0]
    for name in "chip.0", "chip.1":
        (tmp_path / name).write_bytes(zlib.decompress(base64.b85decode(STORED["20"][name])))
    with closing(System(tmp_path)) as system:
        system.add_guest("tpm0").accept()
    with closing(Store(tmp_path / "manager.db")) as store:
        identity = store.identity()
        assert identity is not None
        assert identity.counter == counter
        assert list(store.read()[1].vtpms) == [UUID((tmp_path / "guests/tpm0/uuid").read_text().strip())]
