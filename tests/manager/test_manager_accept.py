"""Old copies put back: refused in one line that says what, and taken only when the administrator says so."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hwtpm.errors import StateError
from manager.manager import Manager
from manager.model import Group, Vtpm
from tests.manager.chips import OwnChip, OwnChip12
from tests.manager.stores import A, B, kept, manager, refused

AGAIN = "; put the newest copy of the store back"


@pytest.fixture(params=["2.0", "1.2"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnChip]:
    made = OwnChip(tmp_path / "chip") if request.param == "2.0" else OwnChip12(tmp_path / "chip")
    with closing(made):
        yield made


def accepting(path: Path, chip: OwnChip) -> Manager:
    return Manager(path, chip.sealing, os.urandom, accept_rollback=True)


def exchange(path: Path, *changes: tuple[str, bytes | int]) -> None:
    """Execute each statement, whose parameters are what follows it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement, *parameters in changes:
            assert db.execute(statement, parameters).rowcount == 1
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def rows(path: Path, query: str) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def two_ages(path: Path, chip: OwnChip) -> bytes:
    """A was "1" and is "2", B is "3", group 1 was b"old" and is b"new"; return the store of before."""
    with closing(manager(path, chip)) as opened, opened.change() as change:
        change.put_vtpm(A, Vtpm(0, b"1" * 64))
        change.new_group(Group(b"\1" * 16, b"old"))
    old = path.read_bytes()
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"2" * 64)
        opened.save_hash_key(B, b"3" * 64)
        with opened.change() as change:
            change.put_group(1, Group(b"\1" * 16, b"new"))
    return old


def accepted(path: Path, chip: OwnChip, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """An administrator can accept what a start refuses with *says*; it is logged, and valid from then on."""
    refused(path, chip, says)
    caplog.clear()
    with closing(accepting(path, chip)) as opened:
        (line,) = opened.accepted
    assert line in says.replace("\\", "") or says.replace("\\", "") in line
    (record,) = (r for r in caplog.records if r.levelno == logging.WARNING)
    assert record.getMessage() == f"{path}: accepted by the administrator: {line}"
    with closing(accepting(path, chip)) as opened:
        assert opened.accepted == []


def test_an_old_store(path: Path, own: OwnChip, caplog: pytest.LogCaptureFixture) -> None:
    old = two_ages(path, own)
    new = path.read_bytes()
    path.write_bytes(old)
    accepted(path, own, "an old copy of the store was put back: it is at save ", caplog)
    assert kept(path, own, A, B) == [b"1" * 64, None]
    path.write_bytes(new)
    refused(path, own, "an old copy of the store was put back")


def test_an_old_row_of_a_vtpm(path: Path, own: OwnChip, caplog: pytest.LogCaptureFixture,
                              tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(two_ages(path, own))
    ((epoch, sealed),) = rows(tmp_path / "old", "SELECT epoch, sealed FROM vtpm")
    exchange(path, ("UPDATE vtpm SET epoch = ?, sealed = ? WHERE uuid = ?", epoch, sealed, A.bytes))
    accepted(path, own, f"the row of vTPM {A} is an old one that was put back{AGAIN}", caplog)
    assert kept(path, own, A, B) == [b"1" * 64, b"3" * 64]


def test_an_old_row_of_a_group(path: Path, own: OwnChip, caplog: pytest.LogCaptureFixture,
                               tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(two_ages(path, own))
    ((epoch, sealed),) = rows(tmp_path / "old", "SELECT epoch, sealed FROM grp WHERE number = 1")
    exchange(path, ("UPDATE grp SET epoch = ?, sealed = ? WHERE number = 1", epoch, sealed))
    accepted(path, own, f"the row of group 1 is an old one that was put back{AGAIN}", caplog)
    with closing(manager(path, own)) as opened:
        assert opened.group(1).saa == b"old"


def test_a_row_that_was_taken_away(path: Path, own: OwnChip, caplog: pytest.LogCaptureFixture) -> None:
    two_ages(path, own)
    exchange(path, ("DELETE FROM vtpm WHERE uuid = ?", A.bytes))
    accepted(path, own, f"the row of vTPM {A} is gone{AGAIN}", caplog)
    assert kept(path, own, A, B) == [None, b"3" * 64]


def test_old_rows_of_two(path: Path, own: OwnChip, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(two_ages(path, own))
    ((epoch, sealed),) = rows(tmp_path / "old", "SELECT epoch, sealed FROM vtpm")
    exchange(path, ("UPDATE vtpm SET epoch = ?, sealed = ? WHERE uuid = ?", epoch, sealed, A.bytes),
             ("DELETE FROM vtpm WHERE uuid = ?", B.bytes))
    accepted(path, own, f"old rows of several groups or vTPMs were put back{AGAIN}", caplog)
    assert kept(path, own, A, B) == [b"1" * 64, None]


def test_a_damaged_row_is_named_and_cannot_be_accepted(path: Path, own: OwnChip) -> None:
    two_ages(path, own)
    whole = path.read_bytes()
    for statement, what in {
            "UPDATE vtpm SET sealed = zeroblob(length(sealed)) WHERE uuid = ?": f"vTPM {A}",
            "UPDATE grp SET sealed = zeroblob(length(sealed)) WHERE number = length(?) / 16":
                "group 1"}.items():
        exchange(path, (statement, A.bytes))
        says = f"the row of {what} is damaged{AGAIN}"
        refused(path, own, says)
        with pytest.raises(StateError, match=says):
            accepting(path, own)
        path.write_bytes(whole)
    assert kept(path, own, A) == [b"2" * 64]


def old_chip(path: Path, own: OwnChip, tmp_path: Path, *, destroys: bool) -> None:
    """The chip's NV is as it was some saves, and if *destroys* one removal of a vTPM, ago."""
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
        opened.save_hash_key(B, b"2" * 64)
    own.chip.close()
    for slot in "01":
        shutil.copy(f"{own.path}.{slot}", tmp_path / f"copy.{slot}")
    own.power_cycle()
    with closing(manager(path, own)) as opened:
        for number in range(3):
            opened.save_hash_key(A, bytes([number]) * 64)
        if destroys:
            with opened.change() as change:
                change.remove_vtpm(B)
    own.chip.close()
    for slot in "01":
        shutil.copy(tmp_path / f"copy.{slot}", f"{own.path}.{slot}")
    own.power_cycle()


def test_an_old_nv_of_the_chip(path: Path, own: OwnChip, caplog: pytest.LogCaptureFixture,
                               tmp_path: Path) -> None:
    old_chip(path, own, tmp_path, destroys=False)
    copy = path.read_bytes()
    accepted(path, own, "an old copy of the chip's NV was put back: it has counted ", caplog)
    assert kept(path, own, A, B) == [b"\2" * 64, b"2" * 64]
    # The chip will count once more to where the copy is; it is of no use all the same.
    with closing(manager(path, own)) as opened:
        for _ in range(5):
            opened.save_hash_key(A, b"n" * 64)
    path.write_bytes(copy)
    with pytest.raises(StateError, match="the key that opens it has been destroyed"):
        accepting(path, own)


def test_an_old_nv_of_the_chip_with_an_old_mask_cannot_be_accepted(
        path: Path, own: OwnChip, tmp_path: Path) -> None:
    old_chip(path, own, tmp_path, destroys=True)
    says = "an old copy of the chip's NV was put back: its mark cannot be decrypted; put the newest copies "
    refused(path, own, says)
    with pytest.raises(StateError, match=says):
        accepting(path, own)


def test_nothing_is_accepted_before_release(path: Path, own: OwnChip) -> None:
    old = two_ages(path, own)
    path.write_bytes(old)
    held = Manager(path, own.sealing, os.urandom, held=True, accept_rollback=True)
    assert held.accepted
    assert held.load_hash_key(A) == b"1" * 64
    refused(path, own, "an old copy of the store was put back")
