"""The manager over a chip: what it keeps survives, and nothing else is believed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import UUID

import pytest

from hwtpm.client import Password
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2.requests.hierarchy import Clear, HierarchyChangeAuth
from hwtpm.tpm2.requests.nv import NVUndefineSpace
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_CC_Create,
    TPM_CC_FlushContext,
    TPM_CC_NV_DefineSpace,
    TPM_CC_NV_Increment,
    TPM_CC_NV_Read,
    TPM_CC_StartAuthSession,
    TPM_CC_Unseal,
)
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_OWNER
from hwtpm.tpm2.types.structures import TPMT_HA
from manager.manager import Manager
from manager.model import Changes, Mark
from manager.protocol import Endpoint, load_hash_key, open_response, save_hash_key
from manager.sealing20 import Chip20
from manager.store import Store
from manager.vtpms import Connection
from tests.manager.chips import BrokenChip, OwnChip, SwtpmChip, TestChip
from tests.manager.stores import A, B, kept, manager, refused, service

LINE = "[^\n]*"


@pytest.fixture(params=["own", "swtpm"])
def chip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    made: TestChip = OwnChip(tmp_path / "chip") if request.param == "own" else SwtpmChip()
    with closing(made):
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnChip]:
    with closing(OwnChip(tmp_path / "chip")) as made:
        yield made


def test_what_was_saved_is_there_after_reopening(path: Path, chip: TestChip) -> None:
    a, b = os.urandom(52), os.urandom(63) + b"\0"
    with closing(manager(path, chip)) as first:
        assert first.load_hash_key(A) is None
        first.save_hash_key(A, os.urandom(64))
        first.save_hash_key(A, a)
        first.save_hash_key(B, b)
        assert first.saves == 3
        assert (first.load_hash_key(A), first.load_hash_key(B)) == (a, b)
    assert kept(path, chip, A, B, UUID(int=0xC)) == [a, b, None]
    assert kept(path, chip, A, B) == [a, b]


def test_it_is_there_through_the_endpoint(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        endpoint = Endpoint(service(opened, own), Connection(A))
        for request in (load_hash_key(), save_hash_key(b"k" * 64)):
            assert open_response(endpoint.execute(request), request) == b""
        assert open_response(endpoint.execute(load_hash_key()), load_hash_key()) == b"k" * 64
        assert opened.saves == 1


def test_a_save_costs_two_chip_commands_and_a_load_none(path: Path, chip: TestChip) -> None:
    """The first starts the session whose HMAC proves that it is the chip that has counted."""
    with closing(manager(path, chip)) as opened:
        chip.codes.clear()
        opened.save_hash_key(A, bytes(64))
        assert chip.codes == [TPM_CC_StartAuthSession, TPM_CC_NV_Increment]
        opened.load_hash_key(A)
        assert chip.codes == [TPM_CC_StartAuthSession, TPM_CC_NV_Increment]


def test_nothing_stays_loaded_in_the_chip(path: Path, chip: TestChip) -> None:
    for _ in range(5):
        with closing(manager(path, chip)):
            chip.nothing_is_loaded()
    assert len(chip.counters()) == 1


def test_the_root_key_never_crosses_in_the_clear(path: Path, chip: TestChip) -> None:
    for _ in range(2):
        with closing(manager(path, chip)) as opened:
            root = opened._ledger.root.sealed
    assert TPM_CC_Create in chip.codes
    assert TPM_CC_Unseal in chip.codes
    assert not any(root in message for message in chip.traffic)
    assert root not in path.read_bytes()


def test_hash_and_key_are_not_in_the_file(path: Path, own: OwnChip) -> None:
    secret = os.urandom(64)
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, secret)
        wal = path.with_name("manager.db-wal").read_bytes()
    for data in (wal, path.read_bytes()):
        assert not any(secret[i : i + 8] in data for i in range(0, 57, 8))


def test_a_power_cycle_of_the_chip_changes_nothing(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"k" * 64)
    own.power_cycle()
    assert kept(path, own, A) == [b"k" * 64]


def test_threads_save_without_loss(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        def work(n: int) -> None:
            for i in range(10):
                opened.save_hash_key(UUID(int=n), bytes([n, i]) * 32)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert opened.saves == 40
    assert kept(path, own, *(UUID(int=n) for n in range(4))) == [bytes([n, 9]) * 32 for n in range(4)]


def test_a_closed_manager_refuses(path: Path, own: OwnChip) -> None:
    opened = manager(path, own)
    opened.close()
    opened.close()
    with pytest.raises(StateError):
        opened.save_hash_key(A, bytes(64))


# Copies put back


def test_an_old_copy_of_the_store_is_refused(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    old = path.read_bytes()
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"2" * 64)
    new = path.read_bytes()
    path.write_bytes(old)
    refused(path, chip, "an old copy of the store was put back")
    path.write_bytes(new)
    assert kept(path, chip, A) == [b"2" * 64]


def test_a_store_without_its_wal_is_an_old_copy(path: Path, own: OwnChip, tmp_path: Path) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"2" * 64)
        copies = [shutil.copy(f, tmp_path / f"copy{f.suffix}") for f in tmp_path.glob("manager.db*")]
        assert len(copies) == 2
    shutil.copy(tmp_path / "copy.db", path)
    refused(path, own, "an old copy of the store")
    shutil.copy(tmp_path / "copy.db", path)
    shutil.copy(tmp_path / "copy.db-wal", path.with_name("manager.db-wal"))
    assert kept(path, own, A) == [b"2" * 64]


def test_an_old_copy_of_the_chip_is_refused(path: Path, own: OwnChip, tmp_path: Path) -> None:
    with closing(manager(path, own)):
        own.chip.close()
        for slot in "01":
            shutil.copy(f"{own.path}.{slot}", tmp_path / f"copy.{slot}")
        own.power_cycle()
    with closing(manager(path, own)) as opened:
        for _ in range(3):
            opened.save_hash_key(A, bytes(64))
    own.chip.close()
    for slot in "01":
        shutil.copy(tmp_path / f"copy.{slot}", f"{own.path}.{slot}")
    own.power_cycle()
    refused(path, own, "an old copy of the chip's NV was put back")


def test_another_chip_is_refused(path: Path, own: OwnChip, tmp_path: Path) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    with closing(OwnChip(tmp_path / "other")) as other:
        refused(path, other, "another chip, or this chip was cleared")
    assert kept(path, own, A) == [b"1" * 64]


def test_a_cleared_chip_is_refused(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)):
        pass
    chip.client.run(Clear(TPM_RH_LOCKOUT), Password())
    refused(path, chip, "another chip, or this chip was cleared")


def test_changed_pcrs_are_refused_until_they_are_back(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    own.client.run(PCRExtend(7, [TPMT_HA(TPM_ALG_SHA256, bytes(32))]), Password())
    refused(path, own, r"its PCRs \(0, 1, 2, 3, 4, 5, 6, 7\) have changed")
    own.power_cycle()
    own.client.run(PCRExtend(8, [TPMT_HA(TPM_ALG_SHA256, bytes(32))]), Password())
    assert kept(path, own, A) == [b"1" * 64]


def test_changed_pcrs_are_refused_by_swtpm_too(path: Path) -> None:
    with closing(SwtpmChip()) as swtpm:
        manager(path, swtpm).close()
        swtpm.client.run(PCRExtend(0, [TPMT_HA(TPM_ALG_SHA256, bytes(32))]), Password())
        refused(path, swtpm, "its PCRs .* have changed")


def test_the_pcrs_can_be_chosen(path: Path, own: OwnChip) -> None:
    Manager(path, own.sealing, os.urandom, bytes((0, 1, 0))).close()
    own.client.run(PCRExtend(7, [TPMT_HA(TPM_ALG_SHA256, bytes(32))]), Password())
    manager(path, own).close()
    own.client.run(PCRExtend(8, [TPMT_HA(TPM_ALG_SHA256, bytes(32))]), Password())
    refused(path, own, r"\(8\)")


def test_a_missing_counter_is_refused(path: Path, chip: TestChip) -> None:
    manager(path, chip).close()
    chip.client.run(NVUndefineSpace(TPM_RH_OWNER, chip.counters()[0]), Password())
    refused(path, chip, "no counter at NV handle 0x01")


def test_an_owner_password_on_the_chip_is_one_clear_line(path: Path, own: OwnChip) -> None:
    manager(path, own).close()
    own.client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"owned"), Password())
    refused(path, own, "owner password")


def test_a_forged_count_is_noticed(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    old = path.read_bytes()
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"2" * 64)
    path.write_bytes(old)

    def forge(code: int, response: bytes) -> bytes:
        if code != TPM_CC_NV_Read:
            return response
        # Header, parameterSize and the buffer's size go before the eight octets of the count.
        count = int.from_bytes(response[16:24], "big") - 1
        return response[:16] + count.to_bytes(8, "big") + response[24:]

    chip.after = forge
    refused(path, chip, "HMAC is wrong")


# Damage


def test_damage_anywhere_in_the_file_is_refused_or_harmless(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
        opened.save_hash_key(B, b"2" * 64)
    whole = path.read_bytes()
    used = [i for i, octet in enumerate(whole) if octet]
    refusals: list[str] = []
    for n, at in enumerate(used[::5]):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << n % 8
        path.write_bytes(damaged)
        try:
            assert kept(path, own, A, B) == [b"1" * 64, b"2" * 64]
        except StateError as error:
            refusals.append(str(error))
        for beside in path.parent.glob("manager.db-*"):
            beside.unlink()
    assert len(refusals) > len(used) // 10
    assert not any("\n" in line for line in refusals)
    path.write_bytes(whole)
    assert kept(path, own, A, B) == [b"1" * 64, b"2" * 64]


TAMPERING = {
    "delete a row": "DELETE FROM vtpm WHERE uuid = :a",
    "delete all rows": "DELETE FROM vtpm",
    "swap two rows": "UPDATE vtpm SET created = o.created, epoch = o.epoch, sealed = o.sealed"
                     " FROM (SELECT * FROM vtpm) o WHERE o.uuid <> vtpm.uuid",
    "rename a row": "UPDATE vtpm SET uuid = :c WHERE uuid = :a",
    "copy a row": "INSERT INTO vtpm SELECT :c, grp, created, epoch, sealed FROM vtpm WHERE uuid = :a",
    "replay a row": "UPDATE vtpm SET epoch = :old_epoch, sealed = :old WHERE uuid = :a",
    "replay a row with the epoch of now": "UPDATE vtpm SET sealed = :old WHERE uuid = :a",
    "renumber a row": "UPDATE vtpm SET epoch = epoch + 1 WHERE uuid = :b",
    "empty a row": "UPDATE vtpm SET sealed = x'' WHERE uuid = :a",
    "renumber the mark": "UPDATE mark SET epoch = epoch + 1",
    "replay the mark": "UPDATE mark SET sealed = :old_mark",
    "empty the mark": "UPDATE mark SET sealed = x''",
    "remove the mark": "DELETE FROM mark",
    "remove the identity": "DELETE FROM identity",
    "change the store": "UPDATE identity SET store = randomblob(16)",
    "change the counter": "UPDATE identity SET counter = counter + 1",
    "change the mask": "UPDATE identity SET mask = mask + 1",
    "change the parent": "UPDATE seal SET parent = x''",
    "change the PCRs": "UPDATE seal SET pcrs = x'000000'",
    "shorten the PCRs": "UPDATE seal SET pcrs = x''",
    "change the digest of the PCRs": "UPDATE seal SET digest = randomblob(length(digest))",
    "change the private area": "UPDATE seal SET private = randomblob(length(private))",
    "empty the private area": "UPDATE seal SET private = x''",
    "change the public area": "UPDATE seal SET public = randomblob(length(public))",
    "empty the public area": "UPDATE seal SET public = x''",
    "copy the sealed key": "INSERT INTO seal SELECT 0, 1, parent, pcrs, digest, public, private FROM seal",
    "delete the sealed key": "DELETE FROM seal",
    "delete the group": "DELETE FROM grp",
    "renumber the group": "UPDATE grp SET number = 1",
    "empty the group": "UPDATE grp SET sealed = x''",
    "move a vTPM to another group": "UPDATE vtpm SET grp = 1 WHERE uuid = :a",
    "change the order of vTPMs": "UPDATE vtpm SET created = created + 7 WHERE uuid = :a",
}


@pytest.mark.parametrize("change", TAMPERING.values(), ids=TAMPERING.keys())
def test_tampering_is_noticed(path: Path, own: OwnChip, change: str) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    with closing(Store(path)) as store:
        mark, rows = store.read()
        old = rows.vtpms[A]
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"2" * 64)
        opened.save_hash_key(B, b"3" * 64)
    whole = path.read_bytes()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        values = {"a": A.bytes, "b": B.bytes, "c": bytes(16), "old": old.sealed, "old_epoch": old.epoch,
                  "old_mark": mark.sealed}
        used = {name: value for name, value in values.items() if f":{name}" in change}
        assert db.execute(change, used).rowcount
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    refused(path, own, LINE)
    path.write_bytes(whole)
    assert kept(path, own, A, B) == [b"2" * 64, b"3" * 64]


def test_a_store_made_anew_knows_no_vtpm(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    path.unlink()
    assert kept(path, own, A) == [None]


# Crashes


def crash(opened: Manager) -> None:
    """The manager's process is gone: what SQLite has not put into its files is lost."""
    opened._ledger.store._db.close()


@pytest.mark.parametrize("cut", [TestChip.cut_before, TestChip.cut_after])
def test_a_crash_between_store_and_counter_completes_the_save(
        path: Path, own: OwnChip, cut: Callable[[TestChip, int], None]) -> None:
    opened = manager(path, own)
    opened.save_hash_key(A, b"1" * 64)
    cut(own, TPM_CC_NV_Increment)
    with pytest.raises(BrokenChip):
        opened.save_hash_key(A, b"2" * 64)
    assert opened.saves == 1
    crash(opened)
    own.mend()
    own.power_cycle()
    assert kept(path, own, A) == [b"2" * 64]
    with closing(manager(path, own)) as again:
        again.save_hash_key(A, b"3" * 64)
    assert kept(path, own, A) == [b"3" * 64]


@pytest.mark.parametrize("cut", [TestChip.cut_before, TestChip.cut_after])
def test_a_save_without_the_chips_answer_is_settled_later(
        path: Path, chip: TestChip, cut: Callable[[TestChip, int], None]) -> None:
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
        cut(chip, TPM_CC_NV_Increment)
        for _ in range(3):
            with pytest.raises(BrokenChip):
                opened.save_hash_key(A, b"2" * 64)
        chip.mend()
        assert opened.load_hash_key(A) == b"2" * 64
        chip.nothing_is_loaded()
        opened.save_hash_key(B, b"3" * 64)
    assert kept(path, chip, A, B) == [b"2" * 64, b"3" * 64]


def failing(opened: Manager, pragma: str) -> None:
    opened._ledger.store._db.execute(pragma)


def test_a_store_that_cannot_be_written_fails_and_the_manager_goes_on(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
        failing(opened, "PRAGMA query_only = ON")
        for _ in range(2):
            with pytest.raises(StateError, match="readonly"):
                opened.save_hash_key(A, b"2" * 64)
            assert opened.load_hash_key(A) == b"1" * 64
        failing(opened, "PRAGMA query_only = OFF")
        opened.save_hash_key(A, b"3" * 64)
        assert opened.saves == 2
    assert kept(path, own, A) == [b"3" * 64]


def test_a_full_disk_fails_and_the_manager_goes_on(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        pages = opened._ledger.store._db.execute("PRAGMA page_count").fetchone()[0]
        failing(opened, f"PRAGMA max_page_count = {pages}")

        def fill() -> int:
            for n in range(1000):
                try:
                    opened.save_hash_key(UUID(int=n), bytes(64))
                except StateError as error:
                    return n if "full" in str(error) else -1
            return -1

        saved = fill()
        assert saved > 10
        assert opened.load_hash_key(UUID(int=saved)) is None
        opened.save_hash_key(UUID(int=0), b"x" * 64)
        failing(opened, "PRAGMA max_page_count = 1000000")
        opened.save_hash_key(UUID(int=saved), b"y" * 64)
    assert kept(path, own, UUID(int=0), UUID(int=saved)) == [b"x" * 64, b"y" * 64]


def test_what_a_failed_commit_wrote_never_counts_as_the_next_epoch(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        real, written = opened._ledger.store.commit, []

        def commit(mark: Mark, changes: Changes, *rest: object) -> None:
            written.append((mark, changes))
            raise StateError("SQLite: disk I/O error")

        opened._ledger.store.commit = commit  # type: ignore[assignment, method-assign]
        with pytest.raises(StateError):
            opened.save_hash_key(A, b"lost" * 16)
        opened._ledger.store.commit = real  # type: ignore[method-assign]
        opened.save_hash_key(A, b"kept" * 16)
    whole = path.read_bytes()
    with closing(Store(path)) as store:
        store.commit(*written[0])
    refused(path, own, "an old copy of the store")
    path.write_bytes(whole)
    assert kept(path, own, A) == [b"kept" * 16]


def first_use_commands(path: Path, chip: TestChip) -> list[int]:
    chip.codes.clear()
    manager(path, chip).close()
    return list(chip.codes)


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_a_first_use_cut_short_at_any_command_is_done_again(tmp_path: Path, executed: bool) -> None:
    with closing(OwnChip(tmp_path / "sample")) as sample:
        commands = len(first_use_commands(tmp_path / "sample.db", sample))
    with closing(OwnChip(tmp_path / "chip")) as chip:
        for n in range(commands):
            path = tmp_path / f"{n}.db"
            left = [n + executed]

            def stop(code: int, left: list[int] = left) -> None:
                if not left[0]:
                    raise BrokenChip
                left[0] -= 1

            chip.before = stop
            with suppress(BrokenChip):
                manager(path, chip).close()
            chip.mend()
            chip.power_cycle()
            with closing(manager(path, chip)) as opened:
                opened.save_hash_key(A, b"1" * 64)
            assert kept(path, chip, A) == [b"1" * 64]
        assert len(chip.counters()) == commands  # One counter for each store, and none left over.


@pytest.mark.parametrize("step", ["begin", "complete"])
def test_a_first_use_cut_short_at_a_write_is_done_again(
        path: Path, own: OwnChip, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        def fail(self: Store, *values: object) -> None:
            raise StateError("SQLite: database or disk is full")

        patch.setattr(Store, step, fail)
        with pytest.raises(StateError, match="full"):
            manager(path, own)
    own.nothing_is_loaded()
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    assert kept(path, own, A) == [b"1" * 64]
    assert len(own.counters()) == 1


def test_a_handle_that_is_taken_is_left_alone(path: Path, own: OwnChip, tmp_path: Path) -> None:
    manager(tmp_path / "first.db", own).close()
    (taken,) = own.counters()
    (area,) = own.areas()
    offered = [number.to_bytes(4, "big") for number in (taken - 0x01800000, 7, area - 0x01800000, 7, 8)]

    def entropy(size: int) -> bytes:
        return offered.pop(0) if size == 4 else os.urandom(size)

    Manager(path, Chip20(own.client, entropy), os.urandom).close()
    assert own.counters() == sorted([taken, 0x01800007])
    assert own.areas() == sorted([area, 0x01800008])
    manager(tmp_path / "first.db", own).close()


def test_a_chip_without_room_for_a_counter_is_one_clear_line(path: Path, own: OwnChip) -> None:
    def full(code: int) -> None:
        if code == TPM_CC_NV_DefineSpace:
            raise TpmError(0x14B)

    own.before = full
    with pytest.raises(StateError, match=r"the chip .* 0x14b"):
        manager(path, own)
    own.mend()
    own.nothing_is_loaded()
    manager(path, own).close()


def test_a_flush_that_fails_does_not_hide_the_cause(path: Path, own: OwnChip) -> None:
    manager(path, own).close()

    def broken(code: int) -> None:
        if code in (TPM_CC_Unseal, TPM_CC_FlushContext):
            raise BrokenChip(f"0x{code:x}")

    own.before = broken
    with pytest.raises(BrokenChip, match="0x15e"):
        manager(path, own)
