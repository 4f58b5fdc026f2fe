"""scripts/bootstrap.sh: silent and cheap when nothing is missing, one clear message when it cannot help."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give the only directory on PATH, with what the scripts themselves start and nothing to install with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("readlink", "flock"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def add(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(script: str, checkout: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = ["/bin/bash", "-euo", "pipefail", "-c", f"root={checkout}; {script}"]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Give a checkout in which nothing is installed."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("scripts/bootstrap.sh", "scripts/cusetpm", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, checkout / name)
    return checkout


def test_with_nothing_missing_it_says_nothing_and_starts_no_program(programs: Path) -> None:
    for name in ("fusermount3", "tpm2_getrandom"):
        add(programs, name, "echo started; exit 1")
    for name in ("readlink", "flock"):
        (programs / name).unlink()
    done = run('. "$root/scripts/bootstrap.sh"; bootstrap runtime', CHECKOUT, programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_programs_and_files_that_are_missing_are_found_without_starting_any(programs: Path) -> None:
    add(programs, "here", "echo started; exit 1")
    (programs / "libhere.so").touch()
    wanted = f"here:one gone:two '{programs}/lib*.so:three' '{programs}/gone*.so:four'"
    script = f'. "$root/scripts/bootstrap.sh"; _find_missing {wanted}; echo "${{missing[@]}}"'
    done = run(script, CHECKOUT, programs)
    assert (done.stdout, done.stderr) == ("two four\n", "")


def test_without_a_python_it_names_the_packages(fresh: Path, programs: Path) -> None:
    done = run('. "$root/scripts/bootstrap.sh"; bootstrap runtime; echo on', fresh, programs)
    assert done.returncode == 1
    assert done.stdout == ""
    names = "python3 python3-venv python3-dev"
    assert done.stderr == f"cusetpm: missing packages, by their Debian names: {names}\n"


def test_an_old_python_is_one_clear_message(fresh: Path, programs: Path) -> None:
    add(programs, "python3", "echo 3.9")
    done = run('"$BASH" "$root/scripts/cusetpm" run -- true', fresh, programs)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("cusetpm: Python 3.11 or newer is needed")
    assert line.endswith(f"({programs}/python3 is 3.9)")


def test_missing_build_tools_are_all_named_at_once(fresh: Path, programs: Path) -> None:
    add(programs, "python3", "echo 3.12")
    done = run('"$BASH" "$root/scripts/cusetpm" run -- true', fresh, programs)
    assert done.returncode == 1
    assert done.stderr == "cusetpm: missing packages, by their Debian names: gcc pkg-config libfuse3-dev\n"
    assert not (fresh / ".venv").exists()
