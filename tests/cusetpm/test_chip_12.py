"""`cusetpm run --chip 1.2`: the state of a vTPM behind a chip of the other family."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_STORE = "tpm2_nvdefine -Q 0x1500001 -s 4 && printf '%s' \"$1\" | tpm2_nvwrite 0x1500001 -i - && echo stored"
_READ = "tpm2_nvread 0x1500001"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "cusetpm", "run", *arguments], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(*arguments: str, expect: int = 0) -> tuple[str, str]:
    process = start(*arguments)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == expect, (output, errors)
    return output, errors


def test_what_was_stored_is_read_after_a_kill(tmp_path: Path) -> None:
    state = ("--chip", "1.2", "--front-end", "socket", "--state-dir", str(tmp_path / "s"))
    first = start(*state, "--", "sh", "-c", f"{_STORE}; exec sleep 600", "sh", "kept")
    assert first.stdout is not None
    assert first.stdout.readline() == "stored\n"
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    first.communicate()
    output, errors = run("-v", *state, "--", "sh", "-c", _READ)
    assert output == "kept"
    counts = dict(reversed(part.strip().split(" ", 1)) for part in errors.splitlines()[-1]
                  .removeprefix("cusetpm: ").split(","))
    assert int(counts["TIS register writes"]) > 0
    assert int(counts["manager ring commands"]) > 0


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_a_vtpm_of_either_family_starts(tpm: str) -> None:
    run("--chip", "1.2", "--tpm", tpm, "--front-end", "socket", "--", "true")


@pytest.mark.parametrize(("chip", "other"), [("1.2", "2.0"), ("2.0", "1.2")])
def test_the_chip_of_the_other_family_is_refused(tmp_path: Path, chip: str, other: str) -> None:
    state = ("--front-end", "socket", "--state-dir", str(tmp_path / "s"))
    run("--chip", chip, *state, "--", "true")
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    _, errors = run("--chip", other, *state, "--", "true", expect=125)
    assert errors == f"cusetpm: {tmp_path}/s/chip: this is not the state of a TPM {other}\n"
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()} == before


def test_an_old_copy_of_the_store_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "s"
    state = ("--chip", "1.2", "--front-end", "socket", "--state-dir", str(place))
    run(*state, "--", "sh", "-c", _STORE, "sh", "1111")
    old = (place / "manager.db").read_bytes()
    run(*state, "--", "sh", "-c", "printf 2222 | tpm2_nvwrite 0x1500001 -i -")
    (place / "manager.db").write_bytes(old)
    _, errors = run(*state, "--", "true", expect=125)
    assert "an old copy of the store was put back" in errors
