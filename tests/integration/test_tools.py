"""tpm2-tools, unmodified, find each front end a TPM: PCRs, sealed data and NV memory that survives."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunInVm

TOOLS = str(CHECKOUT / "tests" / "integration" / "tools.sh")
CUSETPM = str(CHECKOUT / "scripts" / "cusetpm")

needs_tools = pytest.mark.skipif(shutil.which("tpm2_getrandom") is None, reason="tpm2-tools is not installed")
needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None,
    reason="no /dev/fuse for this user, or no fusermount3",
)

PCR_16 = hashlib.sha256(bytes(32) + (1).to_bytes(32)).hexdigest().upper()
FOUND = ["pcr " + PCR_16, "unsealed secret", "refused", "kept secret"]


@needs_tools
@pytest.mark.parametrize("front_end", [pytest.param("fuse", marks=needs_fuse), "socket"])
def test_the_tools_work_through_it(front_end: str, tmp_path: Path) -> None:
    run = [CUSETPM, "run", "--front-end", front_end, "--state-dir", "state"]
    done = subprocess.run([TOOLS, *run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == FOUND


@pytest.mark.vm
@pytest.mark.slow
@needs_tools
def test_the_tools_work_through_a_character_device(run_in_vm: RunInVm) -> None:
    """In a virtual machine with a stock kernel, because /dev/cuse is rare."""
    script = """
        tools=$1; shift
        "$@" -- stat -c '%F %t:%T' /dev/tpm0
        test ! -e /dev/tpm0
        "$tools" "$@"
        test ! -e /dev/tpm0
    """
    run = [CUSETPM, "run", "--front-end", "cuse", "--state-dir", "/root/state"]
    done = run_in_vm("env", "-C", "/root", "sh", "-euc", script, "sh", TOOLS, *run)
    assert done.returncode == 0, done.stdout + done.stderr
    kind, *found = done.stdout.splitlines()
    assert kind.startswith("character special file ")
    assert found == FOUND
