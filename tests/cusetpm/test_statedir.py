"""State directories: made, locked, recognised, and refused with one line that says why."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cusetpm.statedir import StateDirectory
from hwtpm.errors import StateError

_HOLD = """
import sys, pathlib
from cusetpm.statedir import StateDirectory
held = StateDirectory(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_is_made_private_and_can_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    first = StateDirectory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    uuid, _ = first.guest("tpm0")
    first.make_guest("tpm0", uuid)
    first.keep()
    first.close()
    again = StateDirectory(path)
    assert again.guest("tpm0") == (uuid, path / "guests" / "tpm0" / "state")
    assert again.guest("tpm1")[0] != uuid
    again.close()


def test_a_directory_in_use_names_the_pid_of_its_holder(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / "s")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateError, match=f"in use by process {holder.pid}"):
            StateDirectory(tmp_path / "s")
        holder.communicate("")
    StateDirectory(tmp_path / "s").close()


@pytest.mark.parametrize("content", ["cusetpm state 99\n", "", "\0\1garbage"])
def test_another_format_is_refused_and_nothing_changes(tmp_path: Path, content: str) -> None:
    (tmp_path / "format").write_text(content)
    with pytest.raises(StateError, match="its format is"):
        StateDirectory(tmp_path)
    assert (tmp_path / "format").read_text() == content
    assert os.listdir(tmp_path) == ["format"]


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StateError, match="not empty"):
        StateDirectory(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_damaged_uuid_is_named(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.make_guest("tpm0", state.guest("tpm0")[0])
    for content in (b"nonsense", b"", b"\xff\xfe"):
        (tmp_path / "guests" / "tpm0" / "uuid").write_bytes(content)
        with pytest.raises(StateError, match="guests/tpm0/uuid: not a UUID"):
            state.guest("tpm0")
    state.close()


def test_a_state_without_its_uuid_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.make_guest("tpm0", state.guest("tpm0")[0])
    home = tmp_path / "guests" / "tpm0"
    (home / "uuid").unlink()
    (home / "state.0").write_bytes(b"content")
    with pytest.raises(StateError, match="uuid is gone"):
        state.guest("tpm0")
    assert os.listdir(home) == ["state.0"]
    state.close()


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(("lost", "why"), [(("chip.0", "chip.1"), "the chip's NV, are gone"),
                                           (("manager.db",), "the manager's store, is gone")])
def test_a_lost_part_is_named_and_no_new_one_made_in_its_place(
        tmp_path: Path, lost: tuple[str, ...], why: str, empty: bool) -> None:
    state = StateDirectory(tmp_path)
    state.make_guest("tpm0", state.guest("tpm0")[0])
    state.keep()
    state.close()
    for name in ("chip.0", "chip.1", "manager.db", "guests/tpm0/state.0"):
        (tmp_path / name).write_bytes(b"" if name in lost else b"content")
    if not empty:
        for name in lost:
            (tmp_path / name).unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StateError, match=why):
        StateDirectory(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_beginning_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".format.4711").touch()
    for name in ("chip.0", "chip.1", "manager.db"):
        state = StateDirectory(tmp_path)
        state.keep()
        state.close()
        (tmp_path / name).touch()
    StateDirectory(tmp_path).close()
    assert (tmp_path / "manager.db").exists()


def test_what_a_start_made_of_nothing_is_gone_unless_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    state = StateDirectory(path)
    for name in ("chip.0", "chip.1", "manager.db", "manager.db-wal"):
        (path / name).write_bytes(b"content")
    state.make_guest("tpm0", state.guest("tpm0")[0])
    state.close()
    assert os.listdir(tmp_path) == []


def test_a_directory_that_was_there_stays_and_what_is_not_ours_in_it(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "notes").touch()
    state.close()
    assert os.listdir(tmp_path) == ["notes"]


def test_a_lock_that_was_removed_is_not_mistaken_for_the_one_that_others_find(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the lock and locking it, whoever made it removes it, and somebody else makes one."""
    real, locked = fcntl.lockf, []

    def lockf(fd: int, how: int) -> None:
        real(fd, how)
        if not locked:
            (tmp_path / "lock").unlink()
            (tmp_path / "lock").touch()
        locked.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    state = StateDirectory(tmp_path)
    assert len(locked) == 2
    assert locked[1] == (tmp_path / "lock").stat().st_ino != locked[0]
    state.close()


def test_the_lock_says_nothing_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("4711\n")
    state = StateDirectory(tmp_path)
    state.keep()
    assert (tmp_path / "lock").read_text() == "4711\n"
    state.close()
    assert (tmp_path / "lock").read_text() == "4711\n"
