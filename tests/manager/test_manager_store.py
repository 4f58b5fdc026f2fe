"""The manager's store: one file, one user, one version, and values as they went in."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from hwtpm.errors import StateError
from manager.model import Identity, Mark, Row, SealedRoot
from manager.store import APPLICATION_ID, VERSION, Store

IDENTITY = Identity(b"i" * 16, 0x01800001)
ROOT = SealedRoot(b"parent", b"\xff\0\0", b"public", b"private")
A, B = b"a" * 16, b"b" * 16


def complete(path: Path) -> Store:
    store = Store(path)
    store.begin(IDENTITY)
    store.complete(ROOT, Mark(7, b"mark 7"))
    return store


def test_values_come_back_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    with closing(complete(path)) as store:
        store.commit(Mark(8, b"mark 8"), A, Row(8, b"first"))
        store.commit(Mark(9, b"mark 9"), B, Row(9, b"other"))
        store.commit(Mark(10, b"mark 10"), A, Row(10, b"second"))
        store.commit(Mark(11, b"mark 11"))
    with closing(Store(path)) as store:
        assert (store.identity(), store.root()) == (IDENTITY, ROOT)
        assert store.read() == (Mark(11, b"mark 11"), {A: Row(10, b"second"), B: Row(9, b"other")})


def test_a_new_store_is_private_and_has_nothing(tmp_path: Path) -> None:
    path = tmp_path / "manager.db"
    with closing(Store(path)) as store:
        assert store.identity() is None
        assert store.root() is None
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
    ("PRAGMA user_version = 2", r"another version .*\(format 2, this one reads 1\)"),
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
        before = store.read()
        with pytest.raises(StateError):
            store.commit(Mark(8, b"mark 8"), b"too short", Row(8, b"row"))
        with pytest.raises(StateError):
            store.complete(ROOT, Mark(8, b"mark 8"))
        assert store.read() == before
        store.commit(Mark(8, b"mark 8"), A, Row(8, b"row"))


def test_a_directory_that_is_not_there_is_the_file_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "none" / "manager.db")


@pytest.mark.parametrize("table", ["mark", "root", "identity"])
def test_a_table_without_its_types_is_damage(tmp_path: Path, table: str) -> None:
    path = tmp_path / "manager.db"
    complete(path).close()
    columns = {"mark": "1, 'text', 5", "root": "1, 2, 3, 4, 5", "identity": "1, 'text', 'text'"}
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        db.execute(f"DROP TABLE {table}")
        db.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        db.execute(f"INSERT INTO {table} VALUES ({columns[table]})")  # noqa: S608 - names from above
    with closing(Store(path)) as store, pytest.raises(StateError, match="damaged"):
        {"mark": store.read, "root": store.root, "identity": store.identity}[table]()
