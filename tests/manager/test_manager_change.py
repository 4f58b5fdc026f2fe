"""Units of work on groups and vTPMs: valid at once and counted, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from hwtpm.client import Password
from hwtpm.crypto import hashes, ids
from hwtpm.errors import StateError
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_CC_NV_Increment
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.types.pcr import TPM_PCR_COMPOSITE, TPM_PCR_SELECTION
from hwtpm.wire import encode
from manager.book import Closed, Moved, NoGroup, NoVtpm
from manager.manager import Manager
from manager.model import ADMIN, DEFAULT_PCRS, MOVED, Group, Platform, Vtpm
from manager.opening import unsealed
from manager.sealing import OtherConfiguration
from tests.manager.chips import BrokenChip, OwnChip, OwnChip12, SwtpmChip, SwtpmChip12, TestChip, TestChip12
from tests.manager.stores import A, B, kept, manager

C = UUID(int=0xC)
PCR = 7


@pytest.fixture(params=["own 2.0", "swtpm 2.0", "own 1.2", "swtpm 1.2"])
def chip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    kinds: dict[str, Callable[[], TestChip]] = {
        "own 2.0": lambda: OwnChip(tmp_path / "chip"), "swtpm 2.0": SwtpmChip,
        "own 1.2": lambda: OwnChip12(tmp_path / "chip"), "swtpm 1.2": SwtpmChip12}
    with closing(kinds[request.param]()) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnChip]:
    with closing(OwnChip(tmp_path / "chip")) as made:
        yield made


def group(n: int) -> Group:
    return Group(bytes([n]) * 16, os.urandom(256), b"aik", b"auth", 1, [], [bytes(20)], gone=[])


def extend(chip: TestChip, value: bytes) -> None:
    """Extend PCR 7 with a value that begins with *value*."""
    if isinstance(chip, TestChip12):
        chip.client12.run(Extend(PCR, value.ljust(20, b"\0")))
    else:
        chip.client.run(PCRExtend(PCR, [TPMT_HA(TPM_ALG_SHA256, value.ljust(32, b"\0"))]), Password())


def extended(chip: TestChip, value: bytes) -> Platform:
    """Return the configuration of the machine after `extend` from power-on, as its specifications say."""
    if isinstance(chip, TestChip12):
        pcr = hashes.digest(ids.SHA1, bytes(20) + value.ljust(20, b"\0"))
        composite = TPM_PCR_COMPOSITE(TPM_PCR_SELECTION(DEFAULT_PCRS), bytes(7 * 20) + pcr)
        return Platform(DEFAULT_PCRS, hashes.digest(ids.SHA1, encode(composite)))
    pcr = hashes.digest(ids.SHA256, bytes(32) + value.ljust(32, b"\0"))
    values = hashes.digest(ids.SHA256, bytes(7 * 32) + pcr)
    return Platform(DEFAULT_PCRS, hashes.digest(
        ids.SHA256, bytes(32), bytes.fromhex("0000017f 00000001 000b 03ff0000"), values))


def test_groups_and_vtpms_come_back_after_reopening(path: Path, chip: TestChip) -> None:
    first, second = group(1), group(2)
    with closing(manager(path, chip)) as opened:
        assert opened.groups() == [0]
        with opened.change() as change:
            one, two = change.new_group(first), change.new_group(second)
            change.put_vtpm(A, Vtpm(ADMIN, b"a" * 64))
            change.put_vtpm(B, Vtpm(0, b"", b"kernel"), one)
            change.put_vtpm(C, Vtpm(), one)
            assert change.groups() == [0, one, two]
            assert change.vtpms(one) == [B, C]
        assert opened.vtpms(one) == [B, C]
        assert opened.load_hash_key(B) is None
        opened.save_hash_key(C, b"c" * 52)
    with closing(manager(path, chip)) as opened:
        assert opened.groups() == [0, one, two]
        assert (opened.group(one), opened.group(two)) == (first, second)
        assert (opened.vtpms(0), opened.vtpms(one), opened.vtpms(two)) == ([A], [B, C], [])
        assert (opened.vtpms(one, 1), opened.vtpms(one, 0, 1), opened.vtpms(one, 2)) == ([C], [B], [])
        assert [opened.find(uuid) for uuid in (A, B, UUID(int=1))] == [0, one, None]
        assert opened.vtpm(B) == Vtpm(0, b"", b"kernel")
        assert opened.vtpm(C) == Vtpm(0, b"c" * 52)
        assert opened.load_hash_key(A) == b"a" * 64
        with opened.change() as change:
            change.remove_vtpm(B)
            change.put_vtpm(C, change.vtpm(C), 0)
            change.remove_group(one)
            assert change.groups() == [0, two]
            assert change.find(B) is None
            assert change.vtpms(0) == [A, C]
            with pytest.raises(NoGroup):
                change.group(one)
        assert opened.seals(one) == []
    with closing(manager(path, chip)) as opened:
        assert opened.groups() == [0, two]
        assert opened.vtpms(0) == [A, C]
        assert opened.load_hash_key(C) == b"c" * 52
    chip.nothing_is_loaded()


def test_a_change_is_counted_and_one_without_effect_is_not_seen(path: Path, own: OwnChip) -> None:
    with closing(Manager(path, own.sealing, os.urandom, interval=1000)) as opened:
        opened.save_hash_key(A, bytes(64))
        before = own.codes.count(TPM_CC_NV_Increment)
        with opened.change() as change:
            change.put_vtpm(B, Vtpm())
            change.put_vtpm(C, Vtpm())
        assert own.codes.count(TPM_CC_NV_Increment) == before + 1


def test_a_change_that_ends_with_an_exception_never_was(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, b"1" * 64)
        with pytest.raises(ZeroDivisionError), opened.change() as change:  # noqa: PT012 - all of it is undone
            change.put_vtpm(A, Vtpm(0, b"2" * 64))
            change.new_group(group(1))
            raise ZeroDivisionError
        assert opened.groups() == [0]
        assert opened.load_hash_key(A) == b"1" * 64
        opened.save_hash_key(B, b"3" * 64)
    assert kept(path, own, A, B) == [b"1" * 64, b"3" * 64]


@pytest.mark.parametrize("cut", [TestChip.cut_before, TestChip.cut_after])
def test_a_change_without_the_chips_answer_is_settled_later(
        path: Path, own: OwnChip, cut: Callable[[TestChip, int], None]) -> None:
    with closing(manager(path, own)) as opened:
        with pytest.raises(BrokenChip), opened.change() as change:  # noqa: PT012 - it fails when it ends
            one = change.new_group(group(1))
            change.put_vtpm(A, Vtpm(0, b"a" * 64), one)
            cut(own, TPM_CC_NV_Increment)
        own.mend()
        assert opened.load_hash_key(A) == b"a" * 64
        own.nothing_is_loaded()
    assert kept(path, own, A) == [b"a" * 64]


def test_what_is_not_there_is_said(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, bytes(64))
        for ask in (opened.group, opened.secret, opened.closed):
            with pytest.raises(NoGroup, match="there is no group 5"):
                ask(5)
        with pytest.raises(NoVtpm, match=str(B)):
            opened.vtpm(B)
        with opened.change() as change:
            for change_it in (change.remove_group, change.seal, lambda n: change.put_vtpm(B, Vtpm(), n)):
                with pytest.raises(NoGroup):
                    change_it(5)
            with pytest.raises(NoVtpm):
                change.remove_vtpm(B)
            with pytest.raises(StateError, match="the first group"):
                change.remove_group(0)
            one = change.new_group(group(1))
            change.put_vtpm(B, Vtpm(), one)
            change.remove_group(one)
            assert change.find(B) is None


def test_a_group_that_was_removed_has_no_key_and_its_number_can_have_another(
        path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        with opened.change() as change:
            one = change.new_group(group(1))
        secret = opened.secret(one)
        with opened.change() as change:
            change.remove_group(one)
        for ask in opened.secret, opened.closed:
            with pytest.raises(NoGroup):
                ask(one)
        with opened.change() as change:
            assert change.new_group(group(2)) == one
            change.put_vtpm(A, Vtpm(0, b"a" * 64), one)
        assert opened.secret(one) != secret
    assert kept(path, own, A) == [b"a" * 64]


def test_a_damaged_sealed_key_is_no_harm_if_another_opens(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened, own.sealing.conversation(None) as talk:
        here = talk.platform(DEFAULT_PCRS)
        secret = os.urandom(32)
        good = talk.seal(secret, here)
        bad, elsewhere = good._replace(private=b""), talk.seal(secret, Platform(DEFAULT_PCRS, bytes(32)))
        assert unsealed(talk, [bad, elsewhere, good]) == secret
        with pytest.raises(StateError, match="damaged"):
            unsealed(talk, [bad, elsewhere])
        with pytest.raises(OtherConfiguration):
            unsealed(talk, [elsewhere])
        assert opened.groups() == [0]


def test_a_moved_vtpm_is_not_used(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        opened.save_hash_key(A, bytes(64))
        with opened.change() as change:
            change.put_vtpm(A, Vtpm(MOVED, bytes(64)))
        for use in (lambda: opened.load_hash_key(A), lambda: opened.save_hash_key(A, bytes(64))):
            with pytest.raises(Moved, match="has moved to another manager; start it there"):
                use()


def test_a_new_vtpm_can_be_forbidden(path: Path, own: OwnChip) -> None:
    manager(path, own).close()
    with closing(Manager(path, own.sealing, os.urandom, auto_create=False)) as opened:
        with pytest.raises(NoVtpm):
            opened.save_hash_key(A, bytes(64))
        assert opened.load_hash_key(A) is None
        with opened.change() as change:
            change.put_vtpm(A, Vtpm())
        opened.save_hash_key(A, b"1" * 64)
        assert opened.load_hash_key(A) == b"1" * 64


# Configurations


def test_the_configuration_of_now_is_what_the_specification_says(path: Path, chip: TestChip) -> None:
    value = os.urandom(20)
    extend(chip, value)
    with chip.sealing.conversation(None) as talk:
        assert talk.platform(DEFAULT_PCRS) == extended(chip, value)
        everything = talk.platform(b"\xff\xff\xff")
        assert talk.platform(bytes(3)).digest != everything.digest != talk.platform(DEFAULT_PCRS).digest
    chip.nothing_is_loaded()


def test_a_group_opens_in_each_of_its_configurations_and_in_no_other(path: Path, chip: TestChip) -> None:
    """Its key is sealed to what the machine will be after an update; until then it stays open here."""
    after = os.urandom(20)
    with closing(manager(path, chip)) as opened, opened.change() as change:
        one = change.new_group(group(1), [extended(chip, os.urandom(20)), extended(chip, after)])
        change.put_vtpm(A, Vtpm(0, b"a" * 64), one)
        change.put_vtpm(B, Vtpm(0, b"b" * 64))
    with closing(manager(path, chip)) as opened:
        closed = opened.closed(one)
        assert closed is not None
        assert closed.pcrs == DEFAULT_PCRS
        assert "the PCRs 0, 1, 2, 3, 4, 5, 6, 7 are not as in any of its configurations" in str(closed)
        for use in (lambda: opened.load_hash_key(A), lambda: opened.save_hash_key(A, bytes(64)),
                    lambda: opened.vtpm(A), lambda: opened.secret(one)):
            with pytest.raises(Closed, match=f"group {one} is closed"):
                use()
        assert opened.group(one).uuid == b"\1" * 16
        assert opened.vtpms(one) == [A]
        assert opened.load_hash_key(B) == b"b" * 64
        opened.save_hash_key(B, b"d" * 64)
        # The first group's key, which is the root key, is to be unsealed in the other configuration as well.
        with opened.change() as change, chip.sealing.conversation(None) as talk:
            change.seal(0, [talk.platform(DEFAULT_PCRS), extended(chip, after)])
    chip.nothing_is_loaded()
    extend(chip, after)
    with closing(manager(path, chip)) as opened:
        assert opened.closed(one) is None
        assert opened.load_hash_key(A) == b"a" * 64
        assert opened.load_hash_key(B) == b"d" * 64
        opened.save_hash_key(A, b"c" * 64)
    assert kept(path, chip, A) == [b"c" * 64]
    chip.nothing_is_loaded()


def test_a_closed_group_is_opened_by_who_knows_its_secret_and_no_other(path: Path, own: OwnChip) -> None:
    with closing(manager(path, own)) as opened:
        with opened.change() as change:
            one = change.new_group(group(1), [extended(own, os.urandom(20))])
            change.put_vtpm(A, Vtpm(0, b"a" * 64), one)
        secret = opened.secret(one)
    with closing(manager(path, own)) as opened:
        assert opened.closed(one) is not None
        with opened.change() as change:
            with pytest.raises(StateError, match=f"this is not the key of group {one}"):
                change.opened(one, os.urandom(32))
            change.opened(one, secret)
            change.seal(one)
        assert opened.load_hash_key(A) == b"a" * 64
    assert kept(path, own, A) == [b"a" * 64]


def test_secrets_never_cross_in_the_clear(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        with opened.change() as change:
            one = change.new_group(group(1))
        secret = opened.secret(one)
    with closing(manager(path, chip)) as opened:
        assert opened.secret(one) == secret
    assert not any(secret in octets for octets in chip.traffic)
    assert secret not in path.read_bytes()
