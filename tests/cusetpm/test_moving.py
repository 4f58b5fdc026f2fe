"""A vTPM moves from one state directory to another, and is never in both."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cusetpm import moving
from cusetpm.backup import backup, check, restore
from cusetpm.daemon import System
from hwtpm.errors import StateError
from manager.manager import Manager
from manager.model import ADMIN, MOVED
from manager.moving import address
from tests.support.directories import change
from tests.support.directories import start as guest


class Place:
    """A state directory that is used again and again."""

    def __init__(self, path: Path, family: str) -> None:
        self.path, self._family = path, family
        with self.open() as system:
            device = guest(system, "first")
            change(device, "", "f")
            self.address = address(system.manager)

    def open(self) -> closing[System]:
        return closing(System(self.path, chip=self._family))

    def export(self, target: Place, name: str = "one") -> bytes:
        with self.open() as system:
            release(system)
            return moving.export(system, name, target.address)

    def receive(self, bundle: bytes, name: str | None = None, sender: Place | None = None) -> str:
        with self.open() as system:
            release(system)
            return moving.receive(system, bundle, name, sender=sender.address if sender else None)[0]

    def auth(self, name: str, old: str, new: str) -> None:
        """The owner's authorization value of the vTPM *name* is *old*, and *new* afterwards."""
        with self.open() as system:
            change(guest(system, name), old, new)

    def good(self) -> None:
        with self.open() as system:
            release(system)
            assert check(system) == []


def release(system: System) -> None:
    system.manager.release()
    system.chip.release()


@pytest.fixture
def here(tmp_path: Path) -> Place:
    place = Place(tmp_path / "here", "2.0")
    place.auth("one", "", "1")
    return place


@pytest.fixture
def there(tmp_path: Path) -> Place:
    return Place(tmp_path / "there", "1.2")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Place:
    return Place(tmp_path / "elsewhere", "2.0")


def test_a_vtpm_goes_on_where_it_was_sent_and_not_where_it_came_from(here: Place, there: Place) -> None:
    bundle = here.export(there)
    assert there.receive(bundle, sender=here) == "one"
    there.auth("one", "1", "2")
    with here.open() as system, pytest.raises(
            StateError, match=r"vTPM .* has moved to another manager; start it there"):
        system.add_guest("one")
    here.auth("first", "f", "f")
    for place in here, there:
        place.good()


def test_no_copy_of_the_store_from_before_lets_it_live_here_again(here: Place, there: Place) -> None:
    """It would be in two places: a backup is refused, and so is an old copy that somebody wants accepted."""
    with here.open() as system:
        release(system)
        backup(system, here.path.with_name("backup"))
    old = shutil.copy(here.path / "manager.db", here.path.with_name("old.db"))
    there.receive(here.export(there), sender=here)
    with pytest.raises(StateError, match="the key that opens it has been destroyed since"):
        restore(here.path, here.path.with_name("backup"))
    with here.open() as system, pytest.raises(StateError, match="has moved to another manager"):
        system.add_guest("one")
    shutil.copy(old, here.path / "manager.db")
    with pytest.raises(StateError, match="the key that opens it has been destroyed since"):
        System(here.path, accept_rollback=True)


def test_it_can_be_sent_again_to_the_same_target_and_to_no_other(
        here: Place, there: Place, elsewhere: Place) -> None:
    first, again = here.export(there), here.export(there)
    assert first != again
    with pytest.raises(StateError, match=r"has moved to the manager .*, and can be sent again to that one"):
        here.export(elsewhere)
    there.receive(again)
    there.auth("one", "1", "2")
    for bundle in first, again:
        with pytest.raises(StateError, match="is here already"):
            there.receive(bundle)
    there.auth("one", "2", "3")


def test_it_can_come_back_and_no_old_bundle_is_taken(here: Place, there: Place) -> None:
    there_first = here.export(there)
    there.receive(there_first)
    there.auth("one", "1", "2")
    back = there.export(here)
    with pytest.raises(StateError, match="has been here since this bundle was made"):
        there.receive(there_first)
    assert here.receive(back) == "one"
    here.auth("one", "2", "3")
    with pytest.raises(StateError, match="is here already"):
        here.receive(back)
    there.receive(here.export(there))
    there.auth("one", "3", "4")
    with pytest.raises(StateError, match="has been here since"):
        here.receive(back)
    for place in here, there:
        place.good()


def test_it_comes_back_under_another_name_and_is_not_there_under_the_old_one(
        here: Place, there: Place) -> None:
    there.receive(here.export(there))
    there.auth("one", "1", "2")
    bundle = there.export(here)
    for name in "other", "another":  # A bundle whose vTPM was not used since can be received again.
        assert here.receive(bundle, name) == name
        here.good()
        assert sorted(home.name for home in (here.path / "guests").iterdir()) == sorted(["first", name])
    here.auth("another", "2", "3")


def test_what_was_removed_where_it_arrived_does_not_arrive_again(here: Place, there: Place) -> None:
    bundle = here.export(there)
    there.receive(bundle)
    with there.open() as system:
        release(system)
        uuid = system.state.guest("one")[0]
        with system.manager.change() as work:
            work.remove_vtpm(uuid)
            group = work.group(0)
            group.gone = []
            work.put_group(0, group)
    shutil.rmtree(there.path / "guests" / "one")
    with pytest.raises(StateError, match="has been here since this bundle was made"):
        there.receive(bundle)


def test_the_administrative_one_is_an_ordinary_one_elsewhere(here: Place, there: Place) -> None:
    with here.open() as system:
        uuid = system.state.guest("first")[0]
        assert system.manager.vtpm(uuid).flags == ADMIN
    there.receive(here.export(there, "first"), "second")
    with there.open() as system:
        assert system.manager.vtpm(uuid).flags == 0
    with here.open() as system:
        assert system.manager.vtpm(uuid).flags == ADMIN | MOVED


def test_a_vtpm_that_runs_is_not_sent(here: Place, there: Place) -> None:
    with here.open() as system:
        device = guest(system, "one")
        device.accept()
        with pytest.raises(StateError, match="vTPM one is running; shut it down first"):
            moving.export(system, "one", there.address)
        change(device, "1", "2")


def test_what_cannot_be_sent_stays(here: Place, there: Place) -> None:
    with here.open() as system:
        release(system)
        with pytest.raises(StateError, match="there is no vTPM two"):
            moving.export(system, "two", there.address)
        with pytest.raises(StateError, match="is the address of this manager"):
            moving.export(system, "one", here.address)
        for target in bytes(32), bytes(31):
            with pytest.raises(StateError, match="is not the address of a manager"):
                moving.export(system, "one", target)
    states = here.path / "guests" / "one"
    states.rename(here.path / "away")
    states.mkdir()
    shutil.copy(here.path / "away" / "uuid", states)
    with pytest.raises(StateError, match="neither file is the state"):
        here.export(there)
    shutil.rmtree(states)
    (here.path / "away").rename(states)
    here.auth("one", "1", "2")


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda octets: b"", "not a vTPM that was exported"),
    (lambda octets: b"x" + octets[1:], "not a vTPM that was exported"),
    (lambda octets: octets[:13] + b"\x07" + octets[14:], "another version of cusetpm"),
    (lambda octets: octets[:14] + bytes(32) + octets[46:], "for another manager, whose address is 0000"),
    (lambda octets: octets[:46] + bytes(32) + octets[78:], "changed or damaged; export the vTPM again"),
    (lambda octets: octets[:78] + bytes(32) + octets[110:], "changed or damaged"),
    (lambda octets: octets[:-1], "changed or damaged"),
    (lambda octets: octets + b"x", "changed or damaged"),
    (lambda octets: octets[:200] + bytes([octets[200] ^ 1]) + octets[201:], "changed or damaged"),
])
def test_a_bundle_that_is_not_as_it_was_made_is_refused(
        here: Place, there: Place, spoil: Callable[[bytes], bytes], says: str) -> None:
    bundle = here.export(there)
    with pytest.raises(StateError, match=says):
        there.receive(spoil(bundle))
    assert not (there.path / "guests/one").exists()
    there.receive(bundle)
    there.auth("one", "1", "2")


def test_a_bundle_is_for_its_target_only_and_from_its_source(
        here: Place, there: Place, elsewhere: Place) -> None:
    bundle = here.export(there)
    with pytest.raises(StateError, match=f"for another manager, whose address is {there.address.hex()}"):
        elsewhere.receive(bundle)
    with pytest.raises(StateError, match=f"by another manager, whose address is {here.address.hex()}"):
        there.receive(bundle, sender=elsewhere)
    there.receive(bundle, sender=here)


def test_a_name_that_is_taken_or_is_none_is_refused(here: Place, there: Place) -> None:
    bundle = here.export(there)
    with pytest.raises(StateError, match="there is a vTPM first already; give another name"):
        there.receive(bundle, "first")
    for name in "../x", "a/b", ".hidden", "x" * 70, "ä":
        with pytest.raises(StateError, match="is no name for a vTPM"):
            there.receive(bundle, name)
    assert there.receive(bundle, "other") == "other"
    there.auth("other", "1", "2")


def test_an_address_stays_when_keys_are_destroyed(here: Place, there: Place) -> None:
    bundle = here.export(there)
    with there.open() as system:
        release(system)
        uuid = system.state.guest("first")[0]
        with system.manager.change() as work:
            work.remove_vtpm(uuid)
        assert address(system.manager) == there.address
    there.receive(bundle)
    there.auth("one", "1", "2")


class Killed(BaseException):
    pass


def dying(left: list[int], real: Callable[..., object]) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*arguments, **named)
    return call


@pytest.mark.parametrize("step", range(8))
def test_an_import_cut_short_is_completed_by_the_same_bundle(
        here: Place, there: Place, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = here.export(there)
    left = [step]
    done = False
    with there.open() as system:
        release(system)
        with monkeypatch.context() as patch:
            for name in "write_whole", "sync_directory":
                patch.setattr(moving, name, dying(left, getattr(moving, name)))
            for name in "rename", "mkdir":
                patch.setattr(Path, name, dying(left, getattr(Path, name)))
            patch.setattr(Manager, "change", dying(left, Manager.change))
            try:
                moving.receive(system, bundle)
                done = True
            except Killed:
                pass
    if not done:
        there.receive(bundle)
    there.auth("one", "1", "2")
    there.good()


def test_an_export_leaves_a_bundle_only_when_the_source_has_given_the_vtpm_up(
        here: Place, there: Place) -> None:
    """The store cannot be written: there is no bundle, and the vTPM is still here."""
    with here.open() as system:
        release(system)
        system.manager._ledger.store._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StateError, match="readonly"):
            moving.export(system, "one", there.address)
        system.manager._ledger.store._db.execute("PRAGMA query_only = OFF")
        system.manager.load_hash_key(system.state.guest("one")[0])
    here.auth("one", "1", "2")


def test_nothing_of_the_vtpm_can_be_read_in_a_bundle(here: Place, there: Place) -> None:
    bundle = here.export(there)
    with here.open() as system:
        uuid = system.state.guest("one")[0]
        vtpm = system.manager.vtpm(uuid)
    for secret in vtpm.hash_key[32:], uuid.bytes, b"one":
        assert secret not in bundle
    record = (here.path / "guests/one/state.0").read_bytes()[200:300]
    assert record not in bundle
