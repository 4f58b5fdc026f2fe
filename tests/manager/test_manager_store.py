"""The manager's store: one file, one user, one version, and values as they went in."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from hwtpm.errors import StateError
from manager.model import (
    AnyRow,
    GroupRow,
    Identity,
    Mark,
    Rows,
    SealedKey,
    VtpmRow,
    group_place,
    seal_place,
    vtpm_place,
)
from manager.store import APPLICATION_ID, VERSION, Store

IDENTITY = Identity(b"i" * 16, 0x01800001, 0x01800002)
KEY = SealedKey(b"parent", b"\xff\0\0", b"digest", b"public", b"private")
A, B = UUID(bytes=b"a" * 16), UUID(bytes=b"b" * 16)


def first_rows() -> Rows:
    rows = Rows()
    rows.apply({seal_place(0, 0): KEY, group_place(0): GroupRow(7, b"group 0")})
    return rows


def complete(path: Path) -> Store:
    store = Store(path)
    store.begin(IDENTITY)
    store.complete(Mark(7, b"mark 7"), first_rows())
    return store


def contents(store: Store) -> tuple[Mark, list[tuple[int, AnyRow]]]:
    mark, rows = store.read()
    return mark, list(rows.items())


def test_values_come_back_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    older, newer = VtpmRow(1, 1, 10, b"second"), VtpmRow(0, 2, 9, b"other")
    key, group = KEY._replace(digest=b"another"), GroupRow(8, b"group 1")
    with closing(complete(path)) as store:
        store.commit(Mark(8, b"mark 8", b"next"), {
            vtpm_place(B): VtpmRow(0, 1, 8, b"first"), group_place(1): group, seal_place(1, 0): KEY,
            seal_place(1, 1): KEY})
        store.commit(Mark(9, b"mark 9"), {vtpm_place(A): newer, seal_place(1, 1): key})
        store.commit(Mark(10, b"mark 10"), {vtpm_place(B): older, seal_place(1, 0): None})
        store.commit(Mark(11, b"mark 11"), {})
    with closing(Store(path)) as store:
        assert (store.identity(), store.keys(0), store.keys(1)) == (IDENTITY, [KEY], [key])
        assert contents(store) == (Mark(11, b"mark 11"), [
            (seal_place(0, 0), KEY), (seal_place(1, 1), key), (group_place(0), GroupRow(7, b"group 0")),
            (group_place(1), group), (vtpm_place(B), older), (vtpm_place(A), newer)])
        store.commit(Mark(12, b"mark 12"), {group_place(1): None, vtpm_place(A): None, vtpm_place(B): None})
        assert len(contents(store)[1]) == 3


def test_a_new_store_is_private_and_has_nothing(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    with closing(Store(path)) as store:
        assert store.identity() is None
        assert store.keys(0) == []
        for found in tmp_path.iterdir():
            assert stat.S_IMODE(found.stat().st_mode) == 0o600, found
        with pytest.raises(StateError, match="no mark"):
            store.read()


def test_a_closed_store_is_one_file(tmp_path: Path) -> None:
    store = complete(tmp_path / "manager.db")
    store.close()
    store.close()
    assert os.listdir(tmp_path) == ["manager.db"]
    with pytest.raises(StateError):
        store.read()


def test_a_file_that_was_cut_off_before_its_schema_is_new(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    path.touch(0o600)
    complete(path).close()
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    assert path.stat().st_size
    complete(path).close()


def test_only_one_can_open_it(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    with closing(complete(path)), pytest.raises(StateError, match="locked"):
        Store(path)
    Store(path).close()


@pytest.mark.parametrize("garbage", [b"x", b"garbage " * 1000, b"SQLite", b"SQLite format 3\0" + bytes(84),
                                     b"SQLite format 3\0" + bytes(4080)])
def test_garbage_is_refused_and_left_alone(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "manager.db"
    path.write_bytes(garbage)
    with pytest.raises(StateError):
        Store(path)
    assert path.read_bytes() == garbage


@pytest.mark.parametrize(("change", "says"), [
    ("PRAGMA application_id = 1", "not a manager's store"),
    ("PRAGMA application_id = 0", "not a manager's store"),
    ("PRAGMA user_version = 3", r"another version .*\(format 3, this one reads 2\)"),
    ("PRAGMA user_version = 0", "another version"),
])
def test_another_kind_or_version_is_refused_and_left_alone(tmp_path: Path, change: str, says: str) -> None:
    path = tmp_path / "manager.db"
    complete(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(change)
    before = path.read_bytes()
    with pytest.raises(StateError, match=says):
        Store(path)
    assert path.read_bytes() == before


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    complete(path).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_failed_change_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    with closing(complete(path)) as store:
        before = contents(store)
        no_row = VtpmRow(0, 1, 8, "no octets")  # type: ignore[arg-type]
        with pytest.raises(StateError):
            store.commit(Mark(8, b"mark 8"), {group_place(0): None, vtpm_place(A): no_row})
        with pytest.raises(StateError):
            store.complete(Mark(8, b"mark 8"), first_rows())
        assert contents(store) == before
        store.commit(Mark(8, b"mark 8"), {vtpm_place(A): VtpmRow(0, 1, 8, b"row")})


def test_a_directory_that_is_not_there_is_the_file_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "none" / "manager.db")


@pytest.mark.parametrize("table", ["mark", "seal", "grp", "vtpm", "identity"])
def test_a_table_without_its_types_is_damage(tmp_path: Path, table: str) -> None:
    path = tmp_path / "manager.db"
    complete(path).close()
    columns = {"mark": "1, 'text', 5, 6", "seal": "0, 1, 2, 3, 4, 5, 6", "grp": "1, -1, x''",
               "vtpm": "x'00', 0, 1, 1, x''", "identity": "1, 'text', 'text', 0"}
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        db.execute(f"DROP TABLE {table}")
        db.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        db.execute(f"INSERT INTO {table} VALUES ({columns[table]})")  # noqa: S608 - names from above
    with closing(Store(path)) as store, pytest.raises(StateError, match="damaged"):
        (store.identity if table == "identity" else store.read)()
