"""tpm2-tools, unmodified, find each front end a TPM: PCRs, sealed data and NV memory that survives."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunInVm
from tests.integration.test_programs import IBM_FOUND, SYSTEMD_FOUND

IBM = str(CHECKOUT / "tests" / "integration" / "ibm.sh")
SYSTEMD = str(CHECKOUT / "tests" / "integration" / "systemd.sh")
MANAGED = str(CHECKOUT / "tests" / "integration" / "managed.sh")
TOOLS = str(CHECKOUT / "tests" / "integration" / "tools.sh")
CUSETPM = str(CHECKOUT / "scripts" / "cusetpm")

needs_tools = pytest.mark.skipif(shutil.which("tpm2_getrandom") is None, reason="tpm2-tools is not installed")
needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None,
    reason="no /dev/fuse for this user, or no fusermount3",
)

PCR_16 = hashlib.sha256(bytes(32) + (1).to_bytes(32)).hexdigest().upper()
MANAGED_FOUND = ["loaded contexts", "unsealed side by side", "nothing left"]
FOUND = ["pcr " + PCR_16, "unsealed secret", "refused", "kept secret"]


@needs_tools
@pytest.mark.parametrize("front_end", [pytest.param("fuse", marks=needs_fuse), "socket"])
def test_the_tools_work_through_it(front_end: str, tmp_path: Path) -> None:
    run = [CUSETPM, "run", "--front-end", front_end, "--state-dir", "state"]
    done = subprocess.run([TOOLS, *run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == FOUND


@needs_tools
@pytest.mark.parametrize("front_end", [pytest.param("fuse", marks=needs_fuse), "socket"])
def test_the_tools_share_the_tpm_without_a_daemon_for_it(front_end: str, tmp_path: Path) -> None:
    run = [CUSETPM, "run", "--front-end", front_end, "--", MANAGED, "20", "2"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["created 20 primaries", *MANAGED_FOUND]


@pytest.mark.vm
@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("front_end", ["cuse", "vtpmx"])
def test_the_tools_work_through_a_character_device(run_in_vm: RunInVm, front_end: str) -> None:
    """In a virtual machine with a stock kernel, because /dev/cuse and /dev/vtpmx are rare.

    The devices of the latter are the kernel's own, with its resource manager.
    """
    script = """
        tools=$1 managed=$2 ibm=$3 systemd=$4; shift 4
        "$tools" "$@"
        "$@" -- sh -euc '
            stat -c "%n is a %F" /dev/tpm0 /dev/tpmrm0
            "$1" 3 1
            if command -v tsscreateprimary >/dev/null; then "$2"; else echo no IBM TSS; fi
            if command -v systemd-creds >/dev/null; then "$3"; else echo no systemd-creds; fi
        ' sh "$managed" "$ibm" "$systemd"
        test ! -e /dev/tpm0 -a ! -e /dev/tpmrm0
    """
    run = [CUSETPM, "run", "--front-end", front_end, "--state-dir", "/root/state"]
    done = run_in_vm("env", "-C", "/root", "sh", "-euc", script, "sh", TOOLS, MANAGED, IBM, SYSTEMD, *run)
    assert done.returncode == 0, done.stdout + done.stderr
    devices = [f"/dev/{name} is a character special file" for name in ("tpm0", "tpmrm0")]
    ibm_found = IBM_FOUND if shutil.which("tsscreateprimary") else ["no IBM TSS"]
    systemd_found = SYSTEMD_FOUND if shutil.which("systemd-creds") else ["no systemd-creds"]
    found = [*FOUND, *devices, "created 3 primaries", *MANAGED_FOUND, *ibm_found, *systemd_found]
    assert done.stdout.splitlines() == found
