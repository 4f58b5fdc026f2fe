"""The key mask: what is destroyed stays destroyed, whatever copies there are, and whenever power goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import UUID

import pytest

from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import StateError
from hwtpm.tpm2.types.constants import TPM_CC_NV_Increment, TPM_CC_NV_Write
from manager.book import Closed
from manager.manager import Manager
from manager.model import DEFAULT_PCRS, Group, Platform, Vtpm
from manager.store import Store
from tests.manager.chips import BrokenChip, OwnChip, OwnChip12, SwtpmChip, SwtpmChip12, TestChip
from tests.manager.stores import A, B, kept, manager, refused

C = UUID(int=0xC)


@pytest.fixture(params=["own 2.0", "swtpm 2.0", "own 1.2", "swtpm 1.2"])
def chip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    kinds: dict[str, Callable[[], TestChip]] = {
        "own 2.0": lambda: OwnChip(tmp_path / "chip"), "swtpm 2.0": SwtpmChip,
        "own 1.2": lambda: OwnChip12(tmp_path / "chip"), "swtpm 1.2": SwtpmChip12}
    with closing(kinds[request.param]()) as made:
        yield made


@pytest.fixture(params=["2.0", "1.2"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnChip]:
    made = OwnChip(tmp_path / "chip") if request.param == "2.0" else OwnChip12(tmp_path / "chip")
    with closing(made):
        yield made


def remove(opened: Manager, uuid: UUID) -> None:
    with opened.change() as change:
        change.remove_vtpm(uuid)


def three(opened: Manager) -> int:
    """There are A and B in the first group and C in another, whose number is returned, each with a key."""
    with opened.change() as change:
        one = change.new_group(Group(b"\1" * 16))
        change.put_vtpm(A, Vtpm(1, b"a" * 64))
        change.put_vtpm(B, Vtpm(0, b"b" * 64))
        change.put_vtpm(C, Vtpm(0, b"c" * 64), one)
    return one


def test_a_removed_vtpm_is_gone_and_the_others_are_as_they_were(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        one = three(opened)
        remove(opened, A)
        assert [opened.load_hash_key(uuid) for uuid in (A, B, C)] == [None, b"b" * 64, b"c" * 64]
        opened.save_hash_key(B, b"d" * 64)
    with closing(manager(path, chip)) as opened:
        assert (opened.groups(), opened.vtpms(0), opened.vtpms(one)) == ([0, one], [B], [C])
        remove(opened, C)
        with opened.change() as change:
            change.remove_group(one)
    assert kept(path, chip, A, B, C) == [None, b"d" * 64, None]
    assert (len(chip.areas()), len(chip.counters())) == (1, 1)
    chip.nothing_is_loaded()


def test_no_key_of_now_opens_what_was_destroyed(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        three(opened)
        before = opened._ledger.book.rows.copy()
        remove(opened, A)
        book = opened._ledger.book
        for uuid in A, B:
            with pytest.raises(AuthenticationFailed):
                book.group_keys(0).decrypt_vtpm(uuid, before.vtpms[uuid])
        for number, row in before.groups.items():
            with pytest.raises(AuthenticationFailed):
                book.keys.decrypt_group(number, row)


def test_a_copy_from_before_a_key_was_destroyed_is_refused_and_cannot_be_accepted(
        path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        three(opened)
    old = path.read_bytes()
    with closing(manager(path, chip)) as opened:
        remove(opened, A)
    new = path.read_bytes()
    path.write_bytes(old)
    says = r"an old copy of the store was put back, from save \d+ of \d+, and the key that opens it has been"
    refused(path, chip, says)
    with pytest.raises(StateError, match=says):
        Manager(path, chip.sealing, os.urandom, accept_rollback=True)
    path.write_bytes(new)
    assert kept(path, chip, A, B, C) == [None, b"b" * 64, b"c" * 64]


def test_the_mask_never_crosses_in_the_clear(path: Path, chip: TestChip) -> None:
    masks = []
    for uuid in A, B:
        with closing(manager(path, chip)) as opened:
            if uuid == A:
                three(opened)
            masks.append(opened._ledger.root.mask)
            remove(opened, uuid)
            masks.append(opened._ledger.root.mask)
    assert len(set(masks)) == 3
    assert masks[1] == masks[2]
    assert not any(mask in octets for octets in chip.traffic for mask in masks)


def commands_of(base: Path, chip: OwnChip, work: Callable[[Manager], object]) -> int:
    """Return how many commands *work* takes."""
    with closing(manager(base / "sample.db", chip)) as opened:
        three(opened)
        chip.codes.clear()
        work(opened)
        return len(chip.codes)


@pytest.mark.parametrize("kind", [OwnChip, OwnChip12])
@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("crash", [False, True], ids=["goes on", "crashes"])
def test_a_removal_cut_short_at_any_command_is_whole_or_not_there(
        tmp_path: Path, kind: type[OwnChip], executed: bool, crash: bool) -> None:
    """Once the store has it, it is completed; the chip's way is broken before or after each command."""
    with closing(kind(tmp_path / "sample")) as sample:
        commands = commands_of(tmp_path, sample, lambda opened: remove(opened, A))
    found = []
    for n in range(commands):
        path = tmp_path / f"{n}.db"
        with closing(kind(tmp_path / f"chip {n}")) as own:
            opened = manager(path, own)
            three(opened)
            left = [n + executed]

            def stop(code: int, left: list[int] = left) -> None:
                if not left[0]:
                    raise BrokenChip
                left[0] -= 1

            own.before = stop
            with suppress(BrokenChip):
                remove(opened, A)
            own.mend()
            if crash:
                opened._ledger.store._db.close()
                own.power_cycle()
                opened = manager(path, own)
            with closing(opened):
                found.append(opened.load_hash_key(A))
                assert [opened.load_hash_key(uuid) for uuid in (B, C)] == [b"b" * 64, b"c" * 64]
                opened.save_hash_key(B, b"d" * 64)
            assert kept(path, own, A, B, C) == [found[-1], b"d" * 64, b"c" * 64]
    assert None in found
    print(f"{commands} commands, {found.count(None)} removals completed")


@pytest.mark.parametrize("command", [TPM_CC_NV_Write, TPM_CC_NV_Increment])
def test_a_copy_from_the_middle_of_a_removal_opens_nothing_that_was_removed(
        path: Path, tmp_path: Path, command: int) -> None:
    with closing(OwnChip(tmp_path / "chip")) as own:
        opened = manager(path, own)
        three(opened)
        own.cut_before(command)
        with pytest.raises(BrokenChip):
            remove(opened, A)
        opened._ledger.store._db.close()
        middle = {each: each.read_bytes() for each in path.parent.glob("manager.db*")}
        own.mend()
        assert kept(path, own, A, B) == [None, b"b" * 64]
        for each, octets in middle.items():
            each.write_bytes(octets)
        assert kept(path, own, A, B) == [None, b"b" * 64]
        with closing(manager(path, own)) as opened:
            opened.save_hash_key(B, b"d" * 64)
        for each, octets in middle.items():
            each.write_bytes(octets)
        refused(path, own, "an old copy of the store")


def test_a_store_that_cannot_take_a_removal_has_the_vtpm_still(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        three(opened)
        opened._ledger.store._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StateError, match="readonly"):
            remove(opened, A)
        assert opened.load_hash_key(A) == b"a" * 64
        opened._ledger.store._db.execute("PRAGMA query_only = OFF")
        remove(opened, A)
    assert kept(path, own, A, B, C) == [None, b"b" * 64, b"c" * 64]


def test_a_mask_that_is_gone_is_one_clear_line(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        three(opened)
        number, auth = opened._ledger._identity.mask, opened._ledger.root.mask_auth
        mask = opened._ledger.root.mask
    with chip.sealing.conversation(None) as talk:
        talk.define_area(number, 0, auth)
    refused(path, chip, f"the chip has no key mask at NV index 0x{number:08x}; put the chip's NV back")
    with chip.sealing.conversation(None) as talk:
        talk.define_area(number, 32, auth)
        talk.write_area(number, 0, auth, mask)
    assert kept(path, chip, A) == [b"a" * 64]


def test_a_closed_group_outlives_a_removal_from_another(path: Path, own: OwnChip) -> None:
    elsewhere = Platform(DEFAULT_PCRS, os.urandom(20 if own.family == "1.2" else 32))
    with closing(manager(path, own)) as opened:
        with opened.change() as change:
            one = change.new_group(Group(b"\1" * 16), [elsewhere])
            change.put_vtpm(A, Vtpm(0, b"a" * 64))
            change.put_vtpm(B, Vtpm(0, b"b" * 64), one)
        secret = opened.secret(one)
    with closing(manager(path, own)) as opened:
        remove(opened, A)
        with pytest.raises(Closed):
            remove(opened, B)  # What is left of its group could not be given another key.
    with closing(manager(path, own)) as opened, opened.change() as change:
        change.opened(one, secret)
        change.seal(one)
    assert kept(path, own, A, B) == [None, b"b" * 64]


def test_a_configuration_that_is_taken_away_leaves_another_key(path: Path, own: OwnChip) -> None:
    elsewhere = Platform(DEFAULT_PCRS, os.urandom(20 if own.family == "1.2" else 32))
    with closing(manager(path, own)) as opened:
        with own.sealing.conversation(None) as talk:
            here = talk.platform(DEFAULT_PCRS)
        with opened.change() as change:
            one = change.new_group(Group(b"\1" * 16), [here, elsewhere])
            change.put_vtpm(A, Vtpm(0, b"a" * 64), one)
        first, mask = opened.secret(one), opened._ledger.root.mask
        with opened.change() as change:
            change.seal(one, [elsewhere, here, elsewhere])
        assert (opened.secret(one), opened._ledger.root.mask) == (first, mask)
        with opened.change() as change:
            change.seal(one, [here])
        assert opened.secret(one) != first
        assert opened._ledger.root.mask != mask
        assert [Platform(key.pcrs, key.digest) for key in opened.seals(one)] == [here]
    assert kept(path, own, A) == [b"a" * 64]


def test_a_removal_costs_no_more_than_the_group_is_large(path: Path, own: OwnChip) -> None:
    """Rows of other groups are not written."""
    with closing(manager(path, own)) as opened:
        one = three(opened)
        before = opened._ledger.book.rows.copy()
        remove(opened, A)
        after = opened._ledger.book.rows
    with closing(Store(path)) as store:
        assert list(store.read()[1].items()) == list(after.items())
    assert before.vtpms[C] == after.vtpms[C]
    assert before.vtpms[B] != after.vtpms[B]
    assert before.seals == after.seals
    assert before.groups[one] != after.groups[one]
