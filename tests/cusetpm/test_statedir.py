"""State directories: made, locked, recognised, and refused with one line that says why."""

from __future__ import annotations

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
    state.guest("tpm0")
    (tmp_path / "guests" / "tpm0" / "uuid").write_text("nonsense")
    with pytest.raises(StateError, match="guests/tpm0/uuid: not a UUID"):
        state.guest("tpm0")
    state.close()
