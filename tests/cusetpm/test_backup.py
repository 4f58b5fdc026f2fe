"""Check, backup and restoration of a state directory, while it is used and when it is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cusetpm import backup as backups
from cusetpm import questions
from cusetpm.backup import backup, check, damages, restore
from cusetpm.daemon import Device, System
from hwtpm.errors import StateError, TpmError
from manager.store import Store
from tests.support.directories import change
from tests.support.directories import start as guest


@pytest.fixture(params=["2.0", "1.2"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def system(tmp_path: Path, family: str) -> Iterator[System]:
    with closing(System(tmp_path / "state", chip=family)) as made:
        yield made


def has(device: Device, auth: str) -> bool:
    """Tell whether *auth* is the owner's authorization value."""
    try:
        change(device, auth, auth)
    except TpmError:
        return False
    return True


def owners(path: Path, **auths: str) -> None:
    """The vTPMs of these names have these authorization values of the owner, after a start like any other."""
    with closing(System(path)) as system:
        for name, auth in auths.items():
            assert has(guest(system, name), auth), f"{name}: not {auth!r}"


def put_settings(path: Path, family: str) -> None:
    (path / "manager.toml").write_text(f'chip = "{family}"\n')


def test_a_good_directory_has_nothing_to_tell(system: System) -> None:
    for name in "a", "b":
        change(guest(system, name), "", name)
    assert check(system) == []


def test_a_backup_is_what_was_there_when_it_was_made(tmp_path: Path, system: System, family: str) -> None:
    one, other = guest(system, "one"), guest(system, "other")
    change(one, "", "1")
    change(other, "", "o")
    assert backup(system, tmp_path / "backup") == 2
    for old in "123456":
        change(one, old, chr(ord(old) + 1))
    assert has(one, "7")
    system.close()
    put_settings(tmp_path / "state", family)
    owners(tmp_path / "state", one="7", other="o")
    (line,) = restore(tmp_path / "state", tmp_path / "backup")
    assert line.startswith("an old copy of the store was put back: ")
    owners(tmp_path / "state", one="1", other="o")
    assert (tmp_path / "state" / "replaced.1" / "manager.db").exists()
    assert restore(tmp_path / "state", tmp_path / "backup")
    owners(tmp_path / "state", one="1")


def test_a_backup_while_vtpms_save_is_of_one_moment(tmp_path: Path) -> None:
    """Guests change their states all the time; what the backup has of each is what its store knows."""
    with closing(System(tmp_path / "state")) as system:
        devices = [guest(system, f"g{n}") for n in range(4)]
        for device in devices:
            change(device, "", "0")
        stopped = threading.Event()
        rounds = [0] * len(devices)

        def work(n: int) -> None:
            while not stopped.is_set():
                change(devices[n], str(rounds[n]), str(rounds[n] + 1))
                rounds[n] += 1

        threads = [threading.Thread(target=work, args=(n,)) for n in range(len(devices))]
        for thread in threads:
            thread.start()
        try:
            made = []
            for number in range(3):
                before = list(rounds)
                assert backup(system, tmp_path / f"backup {number}") == 4
                made.append((before, list(rounds)))
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
    for number, (before, after) in reversed(list(enumerate(made))):
        restore(tmp_path / "state", tmp_path / f"backup {number}")
        with closing(System(tmp_path / "state")) as system:
            devices = [guest(system, f"g{n}") for n in range(4)]
            devices[0].accept()
            assert check(system) == []
            for n, device in enumerate(devices):
                assert any(has(device, str(value)) for value in range(before[n], after[n] + 2))


def test_what_was_removed_after_the_backup_cannot_be_had_back(
        tmp_path: Path, system: System, family: str) -> None:
    change(guest(system, "one"), "", "1")
    change(guest(system, "other"), "", "o")
    uuid = system.state.guest("other")[0]
    assert backup(system, tmp_path / "backup") == 2
    with system.manager.change() as work:
        work.remove_vtpm(uuid)
    system.close()
    put_settings(tmp_path / "state", family)
    with pytest.raises(StateError, match="the key that opens it has been destroyed since"):
        restore(tmp_path / "state", tmp_path / "backup")
    assert not list((tmp_path / "state").glob("re[ps]*"))
    owners(tmp_path / "state", one="1")


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda path: (path / "format").unlink(), "not a backup of cusetpm"),
    (lambda path: (path / "format").write_text("cusetpm backup 9\n"), "this version of cusetpm reads"),
    (lambda path: (path / "manager.db").write_bytes(b"x" * 9000), "not a manager's store"),
    (lambda path: os.truncate(path / "guests/one/state.0", 40), "vTPM one: .*neither file is the state"),
])
def test_what_is_no_backup_changes_nothing(
        tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    with closing(System(tmp_path / "state")) as system:
        change(guest(system, "one"), "", "1")
        backup(system, tmp_path / "backup")
    spoil(tmp_path / "backup")
    for slot in "01":
        state = tmp_path / "backup/guests/one" / f"state.{slot}"
        if "neither" in says and state.exists():
            os.truncate(state, 40)
    with pytest.raises(StateError, match=says):
        restore(tmp_path / "state", tmp_path / "backup")
    owners(tmp_path / "state", one="1")


def test_a_backup_is_not_written_over_anything(tmp_path: Path, system: System) -> None:
    guest(system, "one").accept()
    (tmp_path / "there").mkdir()
    with pytest.raises(StateError, match="is there already; take another name"):
        backup(system, tmp_path / "there")
    with pytest.raises(OSError, match="none"):
        backup(system, tmp_path / "none" / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "there"]


@pytest.mark.parametrize("step", range(18))
def test_a_restoration_cut_short_is_seen_and_done_again(
        tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(System(tmp_path / "state")) as system:
        device = guest(system, "one")
        change(device, "", "1")
        backup(system, tmp_path / "backup")
        change(device, "1", "2")
    left = [step]

    class Killed(BaseException):
        pass

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*arguments, **named)
        return call

    done = False
    with monkeypatch.context() as patch:
        for name in "write_whole", "sync_directory", "_sync":
            patch.setattr(backups, name, dying(getattr(backups, name)))
        for name in "rename", "unlink":
            patch.setattr(Path, name, dying(getattr(Path, name)))
        for name in "copyfile", "copytree":
            patch.setattr(shutil, name, dying(getattr(shutil, name)))
        try:
            restore(tmp_path / "state", tmp_path / "backup")
            done = True
        except Killed:
            pass
    if (tmp_path / "state" / "restoring").exists():
        with pytest.raises(StateError, match="a backup was being put back when that was cut short"):
            System(tmp_path / "state")
        # What was there is there again when no backup can be put back, until the backup may be accepted.
        accepting = "accepting" in (tmp_path / "state" / "restoring").read_text()
        bad = shutil.copytree(tmp_path / "backup", tmp_path / "bad")
        (bad / "manager.db").write_bytes(b"x" * 9000)
        with pytest.raises(StateError, match="not a manager's store"):
            restore(tmp_path / "state", bad)
        owners(tmp_path / "state", one="1" if accepting else "2")
        restore(tmp_path / "state", tmp_path / "backup")
        done = True
    owners(tmp_path / "state", one="1" if done else "2")


def test_a_restoration_that_the_chip_has_not_counted_is_to_be_done_once_more(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then what the chip takes for the newest store, so nothing is put back."""
    with closing(System(tmp_path / "state")) as system:
        device = guest(system, "one")
        change(device, "", "1")
        backup(system, tmp_path / "backup")
        change(device, "1", "2")
    with monkeypatch.context() as patch:
        def gone(self: System) -> None:
            raise StateError("the chip is gone")

        patch.setattr(System, "release", gone)
        with pytest.raises(StateError, match="the chip is gone"):
            restore(tmp_path / "state", tmp_path / "backup")
    with pytest.raises(StateError, match=r"a backup was being put back .*; restore it once more"):
        System(tmp_path / "state")
    restore(tmp_path / "state", tmp_path / "backup")
    owners(tmp_path / "state", one="1")


def test_what_a_backup_that_was_killed_has_left_is_in_nobodys_way(tmp_path: Path, system: System) -> None:
    change(guest(system, "one"), "", "1")
    left = tmp_path / f".backup.{os.getpid()}"  # After the next boot, a process can have that number again.
    (left / "guests" / "gone").mkdir(parents=True)
    assert backup(system, tmp_path / "backup") == 1
    assert not left.exists()
    assert [home.name for home in (tmp_path / "backup" / "guests").iterdir()] == ["one"]


# What check names


def damage(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path / "manager.db", isolation_level=None)) as db:
        assert db.execute(statement).rowcount == 1
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize(("statement", "says"), [
    ("UPDATE vtpm SET sealed = zeroblob(length(sealed)) WHERE created = 2",
     "the row of vTPM {other} is damaged"),
    ("DELETE FROM vtpm WHERE created = 2", "the row of vTPM {other} is gone"),
    ("UPDATE grp SET sealed = zeroblob(90)", "the row of group 0 is damaged"),
    ("UPDATE seal SET private = zeroblob(length(private))", "the sealed key 1 of group 0: damaged"),
    ("UPDATE mark SET sealed = zeroblob(length(sealed))", "the mark is damaged"),
])
def test_what_is_damaged_in_the_store_is_named(
        tmp_path: Path, system: System, family: str, statement: str, says: str) -> None:
    from manager.check import check as check_store

    for name in "one", "other":
        change(guest(system, name), "", name)
    other = system.state.guest("other")[0]
    sealing = system.manager._chip
    system.manager.close()
    damage(tmp_path / "state", statement)
    with closing(Store(tmp_path / "state" / "manager.db")) as store:
        found = check_store(store, sealing)
    assert any(line.startswith(says.format(other=other)) for line in found), found


def test_a_directory_that_cannot_be_started_is_looked_at_all_the_same(
        tmp_path: Path, system: System, family: str) -> None:
    """A start tells only the first of what is in its way; nothing is changed by the look."""
    for name in "one", "other":
        change(guest(system, name), "", name)
    one, other = (system.state.guest(name)[0] for name in ("one", "other"))
    path = tmp_path / "state"
    system.close()
    put_settings(path, family)
    assert damages(path) == []
    damage(path, "UPDATE vtpm SET sealed = zeroblob(length(sealed)) WHERE created = 1")
    damage(path, "UPDATE vtpm SET sealed = zeroblob(length(sealed)) WHERE created = 2")
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert damages(path) == [
        f"the row of vTPM {uuid} is damaged; put the newest copy of the store back" for uuid in (one, other)]
    looked = subprocess.run([sys.executable, "-m", "cusetpm", "manager", "--state-dir", str(path), "check"],
                            capture_output=True, text=True, check=False, timeout=120)
    assert (looked.returncode, looked.stderr) == (1, "")
    assert looked.stdout.splitlines() == damages(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files


def test_a_damaged_page_is_named(tmp_path: Path, system: System) -> None:
    from manager.check import check as check_store

    change(guest(system, "one"), "", "1")
    sealing = system.manager._chip
    system.manager.close()
    path = tmp_path / "state" / "manager.db"
    octets = bytearray(path.read_bytes())
    root = sqlite3.connect(path)
    with closing(root):
        page = root.execute("SELECT rootpage FROM sqlite_master WHERE name = 'vtpm'").fetchone()[0]
    octets[(page - 1) * 4096 : (page - 1) * 4096 + 8] = b"\xa5" * 8
    path.write_bytes(octets)
    with closing(Store(path)) as store:
        found = check_store(store, sealing)
    assert any("malformed" in line or f"page {page}" in line for line in found), found


def test_a_damaged_state_of_a_vtpm_is_named(tmp_path: Path, system: System) -> None:
    for name in "one", "other":
        change(guest(system, name), "", name)
    for slot in "01":
        path = tmp_path / "state/guests/other" / f"state.{slot}"
        octets = bytearray(path.read_bytes())
        octets[100] ^= 1
        path.write_bytes(octets)
    (line,) = check(system)
    assert line.startswith(f"vTPM other: {tmp_path}/state/guests/other/state: damaged, or an old copy")


def test_a_deletion_that_was_cut_short_is_named_and_completed(
        tmp_path: Path, system: System, family: str) -> None:
    """The manager has destroyed the key, and the directory of the vTPM is there still."""
    for name in "one", "other":
        change(guest(system, name), "", name)
    system.close()
    put_settings(tmp_path / "state", family)
    with closing(System(tmp_path / "state")) as again:
        again.release()
        uuid = again.state.guest("one")[0]
        with again.manager.change() as work:
            work.remove_vtpm(uuid)
        (line,) = check(again)
        assert "if its deletion was cut short, delete it once more (cusetpm manager vtpm delete)" in line
        with pytest.raises(StateError, match="delete it once more"):
            guest(again, "one")
        questions.delete(again, "one")
        assert check(again) == []
        with pytest.raises(StateError, match="there is no vTPM one"):
            questions.delete(again, "one")
    owners(tmp_path / "state", one="", other="other")


def test_a_group_that_is_closed_is_not_damage(tmp_path: Path, system: System, family: str) -> None:
    from manager.model import DEFAULT_PCRS, Group, Platform

    guest(system, "one").accept()
    with system.manager.change() as work:
        work.new_group(Group(bytes(16)), [Platform(DEFAULT_PCRS, bytes(20 if family == "1.2" else 32))])
    assert check(system) == []
