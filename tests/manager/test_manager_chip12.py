"""The manager with a chip that is a TPM 1.2: our own behind its registers, and a real swtpm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import UUID

import pytest

from hwtpm.errors import ProtocolError, StateError
from hwtpm.tpm12.requests.counter import ReleaseCounterOwner
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.ownership import OwnerClear
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_OIAP,
    TPM_ORD_ExecuteTransport,
    TPM_ORD_IncrementCounter,
    TPM_ORD_TakeOwnership,
)
from tests.manager.chips import LOCALITY, BrokenChip, OwnChip12, SwtpmChip12, TestChip
from tests.manager.stores import A, B, kept, manager, refused
from tests.support.tpm12 import once

WELL_KNOWN = bytes(20)
AnyChip = OwnChip12 | SwtpmChip12


@pytest.fixture(params=["own", "swtpm"])
def chip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyChip]:
    made: AnyChip = OwnChip12(tmp_path / "chip") if request.param == "own" else SwtpmChip12()
    with closing(made):
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnChip12]:
    with closing(OwnChip12(tmp_path / "chip")) as made:
        yield made


def test_what_was_saved_is_there_after_reopening(path: Path, chip: AnyChip) -> None:
    with closing(manager(path, chip)) as first:
        first.save_hash_key(A, b"1" * 64)
        first.save_hash_key(A, b"2" * 64)
        first.save_hash_key(B, b"3" * 52)
    assert kept(path, chip, A, B, UUID(int=0xC)) == [b"2" * 64, b"3" * 52, None]
    assert chip.codes.count(TPM_ORD_TakeOwnership) == 1


def test_a_second_store_shares_owner_and_chip(path: Path, own: OwnChip12, tmp_path: Path) -> None:
    for name in "first.db", "second.db":
        with closing(manager(tmp_path / name, own)) as opened:
            opened.save_hash_key(A, name.encode() * 7)
        own.power_cycle()  # A chip counts one counter for each time it has power.
    assert kept(tmp_path / "first.db", own, A) == [b"first.db" * 7]
    assert kept(tmp_path / "second.db", own, A) == [b"second.db" * 7]


def test_it_is_there_after_a_power_cycle(path: Path, own: OwnChip12) -> None:
    with closing(manager(path, own)) as first:
        first.save_hash_key(A, b"1" * 64)
    own.power_cycle()
    assert kept(path, own, A) == [b"1" * 64]
    own.nothing_is_loaded()


def test_a_save_costs_two_chip_commands_and_a_load_none(path: Path, own: OwnChip12) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, bytes(64))
        own.codes.clear()
        opened.save_hash_key(A, bytes(64))
        assert own.codes == [TPM_ORD_OIAP, TPM_ORD_IncrementCounter]
        opened.load_hash_key(A)
        assert own.codes == [TPM_ORD_OIAP, TPM_ORD_IncrementCounter]


def test_the_root_key_never_crosses_in_the_clear(path: Path, chip: AnyChip) -> None:
    with closing(manager(path, chip)):
        pass
    with closing(manager(path, chip)) as opened:
        root = opened._ledger.root.sealed
    assert TPM_ORD_ExecuteTransport in chip.codes
    assert not any(root in octets for octets in chip.traffic)


def test_an_old_copy_of_the_store_is_refused(path: Path, chip: AnyChip, tmp_path: Path) -> None:
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    shutil.copy(path, tmp_path / "old")
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"2" * 64)
    shutil.copy(path, tmp_path / "new")
    shutil.copy(tmp_path / "old", path)
    refused(path, chip, "old copy of the store")
    shutil.copy(tmp_path / "new", path)
    assert kept(path, chip, A) == [b"2" * 64]


def test_another_chip_and_a_cleared_one_are_refused(path: Path, own: OwnChip12, tmp_path: Path) -> None:
    manager(path, own).close()
    with closing(OwnChip12(tmp_path / "other")) as other:
        refused(path, other, "another chip, or this chip was cleared")
        other.chip.engine.tpm.primes(2048, 65537)  # type: ignore[attr-defined]  # another pair than own's
        manager(tmp_path / "its.db", other).close()
        refused(path, other, "another chip, or this chip was cleared")
    own.client12.run(OwnerClear(), once(own.client12.oiap(WELL_KNOWN)))
    own.power_cycle()
    refused(path, own, "the chip is disabled or deactivated")


def test_changed_pcrs_are_refused_until_they_are_back(path: Path, own: OwnChip12) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    own.client12.run(Extend(7, bytes(20)))
    refused(path, own, r"its PCRs \(0, 1, 2, 3, 4, 5, 6, 7\) have changed")
    own.nothing_is_loaded()
    own.power_cycle()
    own.client12.run(Extend(8, bytes(20)))
    assert kept(path, own, A) == [b"1" * 64]


def test_another_locality_is_refused(path: Path, own: OwnChip12) -> None:
    manager(path, own).close()
    own.locality = 1
    refused(path, own, "to this locality")
    own.locality = LOCALITY
    manager(path, own).close()


def test_a_missing_counter_is_refused(path: Path, chip: AnyChip) -> None:
    manager(path, chip).close()
    chip.client12.run(ReleaseCounterOwner(0), once(chip.client12.oiap(WELL_KNOWN)))
    refused(path, chip, "no counter labelled")


def test_an_owner_password_on_the_chip_is_one_clear_line(path: Path, own: OwnChip12) -> None:
    manager(path, own).close()
    own.chip.engine.tpm.permanent.owner_auth = b"\1" * 20  # type: ignore[attr-defined]
    refused(path, own, "owner with a password")


def test_a_forged_count_is_noticed(path: Path, chip: AnyChip) -> None:
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)

    def after(code: int, response: bytes) -> bytes:
        return response[:-60] + bytes([response[-60] ^ 1]) + response[-59:] \
            if code == TPM_ORD_ExecuteTransport else response

    chip.after = after
    with pytest.raises(StateError, match="HMAC is wrong"):
        manager(path, chip)
    chip.mend()
    assert kept(path, chip, A) == [b"1" * 64]


@pytest.mark.parametrize("cut", [TestChip.cut_before, TestChip.cut_after])
def test_a_crash_between_store_and_counter_completes_the_save(
        path: Path, own: OwnChip12, cut: Callable[[TestChip, int], None]) -> None:
    opened = manager(path, own)
    opened.save_hash_key(A, b"1" * 64)
    cut(own, TPM_ORD_IncrementCounter)
    with pytest.raises(BrokenChip):
        opened.save_hash_key(A, b"2" * 64)
    opened._ledger.store._db.close()
    own.mend()
    own.power_cycle()
    assert kept(path, own, A) == [b"2" * 64]
    with closing(manager(path, own)) as again:
        again.save_hash_key(A, b"3" * 64)
    assert kept(path, own, A) == [b"3" * 64]


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_a_first_use_cut_short_at_any_command_is_done_again(tmp_path: Path, executed: bool) -> None:
    with closing(OwnChip12(tmp_path / "sample")) as sample:
        sample.codes.clear()
        manager(tmp_path / "sample.db", sample).close()
        commands = len(sample.codes)
    for n in range(commands):
        path = tmp_path / f"{n}.db"
        with closing(OwnChip12(tmp_path / f"chip {n}")) as chip:
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
            assert len(chip.chip.engine.tpm.counters.created) == 1  # type: ignore[attr-defined]


def test_a_broken_way_to_the_chip_is_passed_on(path: Path, own: OwnChip12) -> None:
    def broken(code: int) -> None:
        raise ProtocolError("TPM_STS: no stsValid within 750 ms")

    own.before = broken
    with pytest.raises(StateError, match="TPM_STS"):
        manager(path, own)
