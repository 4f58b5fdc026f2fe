"""What who waits at a terminal sees of a check, a backup and a restoration that take long."""

from __future__ import annotations

import os
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest

from cusetpm.cli import bar as module
from cusetpm.cli.bar import bar
from cusetpm.daemon import System
from tests.cusetpm.test_cli_manager import CUSETPM

IMPATIENT = [sys.executable, "-c", "from cusetpm.cli import bar; bar._PATIENCE_S = 0.0; "
             "from cusetpm.__main__ import main; main()"]


class Terminal:
    """A terminal; `open` is its end that programs have."""

    def __init__(self) -> None:
        self._ours, self.open = os.openpty()
        tty.setraw(self.open)

    def close(self) -> str:
        """Return what was written to it; it is gone."""
        os.write(self.open, b"\0")
        written = b""
        while not written.endswith(b"\0"):
            written += os.read(self._ours, 4096)
        os.close(self.open)
        os.close(self._ours)
        return written[:-1].decode()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory with three vTPMs, which have saved nothing yet."""
    made = tmp_path / "s"
    with closing(System(made)) as system:
        system.release()
        for number in range(3):
            system.state.make_guest(f"guest{number}", UUID(int=number))
    return made


def ticking(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """Each time that somebody looks at the clock it is *step* seconds later."""
    clock: Iterator[int] = count()
    monkeypatch.setattr(module, "monotonic", lambda: next(clock) * step)


@pytest.mark.parametrize(("step", "shown"), [(0.3, "100%"), (0.01, "")])
def test_a_bar_comes_after_a_second(monkeypatch: pytest.MonkeyPatch, step: float, shown: str) -> None:
    terminal = Terminal()
    ticking(monkeypatch, step)
    with monkeypatch.context() as patch, os.fdopen(os.dup(terminal.open), "w") as stream:
        patch.setattr(sys, "stderr", stream)
        assert list(bar("counting", range(10))) == list(range(10))
        assert list(bar("nothing", ())) == []
    written = terminal.close()
    assert shown in written
    assert ("counting" in written) == bool(shown)
    assert "nothing" not in written


def test_without_a_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch,
                                          capfd: pytest.CaptureFixture[str]) -> None:
    ticking(monkeypatch, 10)
    assert list(bar("counting", range(10))) == list(range(10))
    assert capfd.readouterr() == ("", "")


def manage(place: Path, *arguments: str | Path) -> str:
    """Return what somebody sees at his terminal whose patience is short; the output has nothing of it."""
    terminal = Terminal()
    done = subprocess.run([*IMPATIENT, "manager", "--state-dir", place, *arguments], stdout=subprocess.PIPE,
                          stderr=terminal.open, text=True, timeout=120, check=False)
    written = terminal.close()
    assert done.returncode == 0, written
    assert "%" not in done.stdout
    return written


def test_what_takes_long_has_a_bar(tmp_path: Path, place: Path) -> None:
    for verb, doings in (("check",), ("checking",)), (("backup", tmp_path / "kept"), ("copying",)), (
            ("restore", "--yes", tmp_path / "kept"), ("restoring", "checking")):
        written = manage(place, *verb)
        assert written.count("100%") == len(doings)
        for doing in doings:
            assert doing in written
    assert manage(place, "show") == ""


def test_of_another_process_it_is_said_what_it_does(place: Path) -> None:
    terminal = Terminal()
    command = " ".join(f"'{word}'" for word in (*CUSETPM, "manager", "--state-dir", str(place), "check"))
    done = subprocess.run([*CUSETPM, "run", "--state-dir", place, "--front-end", "socket", "--", "sh", "-c",
                           command], stdout=subprocess.PIPE, stderr=terminal.open, text=True, timeout=120,
                          check=False)
    written = terminal.close()
    assert (done.returncode, done.stdout) == (0, "everything is as it has to be\n"), written
    assert written == f"checking, in the process that uses {place} …\n"
