"""Ten guests started at once: every device answers its first command the moment it exists."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunInVm

SCRIPT = CHECKOUT / "tests" / "integration" / "at_once.py"
CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
TEN = 10


def ten(kind: str, place: str) -> list[str]:
    return ["-W", "error", str(SCRIPT), kind, str(TEN), place, "--", *CUSETPM]


@pytest.mark.parametrize("kind", ["socket", "fuse"])
def test_ten_guests_answer_the_moment_they_exist(kind: str) -> None:
    if kind == "fuse" and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse for this user")
    # Its path is short, for sockets are in it.
    with tempfile.TemporaryDirectory(prefix="ten-") as place:
        words = [sys.executable, *ten(kind, place)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        end = ".sock" if kind == "socket" else ""
        assert done.stdout.split() == [f"tpm0{end}"] * TEN + [f"tpmrm0{end}"] * TEN
        assert list(Path(place).iterdir()) == []


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.timeout(700)  # Ten programs start on two emulated processors: a minute where nothing else runs.
def test_ten_character_devices_answer_the_moment_they_can_be_opened(run_in_vm: RunInVm) -> None:
    done = run_in_vm("python", *ten("cuse", "/run"), timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{name}{number}" for name in ("tpm", "tpmrm") for number in range(TEN)]
