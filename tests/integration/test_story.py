"""The story in docs/manager.md, word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "manager.md"
_END = "-- end of a command --"


class Step(NamedTuple):
    """A command, and what it has to print; "…" stands for anything."""

    command: str
    expected: str

    def fits(self, printed: str) -> bool:
        """Tell whether that is what was to be printed."""
        pattern = ".*".join(re.escape(part) for part in self.expected.split("…"))
        return re.fullmatch(pattern, printed, re.DOTALL) is not None


def steps() -> list[Step]:
    """Return the commands of the document, in order."""
    found: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append(Step(line[2:], ""))
            else:
                found[-1] = found[-1]._replace(expected=found[-1].expected + line)
    return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell in an empty directory, in which `cusetpm` is this checkout's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    program = tmp_path / "bin" / "cusetpm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m cusetpm "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, cwd=tmp_path / "work", env=environment,
                          start_new_session=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        # The TPM of the story is a daemon, and ends with it.
        subprocess.run(["pkill", "-f", f"tpmstate dir={tmp_path}"], check=False)


def run(shell: subprocess.Popen[str], command: str) -> str:
    """Return what *command* prints in the shell."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{command.rstrip()}\nprintf '%s\\n' '{_END}'\n")
    shell.stdin.flush()
    printed = ""
    while not printed.endswith(f"{_END}\n"):
        line = shell.stdout.readline()
        assert line, f"the shell has ended: {printed}"
        printed += line
    return printed.removesuffix(f"{_END}\n")


@pytest.mark.slow
def test_every_command_of_the_story_prints_what_stands_there(shell: subprocess.Popen[str]) -> None:
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm, the machine's TPM in the story, is not installed")
    told = steps()
    assert len(told) > 30
    for step in told:
        printed = run(shell, step.command)
        # Output without a newline at its end is followed by the mark.
        assert step.fits(printed) or step.fits(f"{printed}\n"), f"{step.command}printed:\n{printed}"
