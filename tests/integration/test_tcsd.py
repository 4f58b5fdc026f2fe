"""Trousers' tcsd, without any option, opens the /dev/tpm0 that CUSE makes, or the kernel itself."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.conftest import CHECKOUT, RunInVm

TCSD = str(CHECKOUT / "tests" / "integration" / "tcsd.sh")
CUSETPM = str(CHECKOUT / "scripts" / "cusetpm")
NEEDED = {"/etc/init.d/trousers": "trousers", "tpm_version": "tpm-tools", "setpriv": "util-linux"}

FOUND = ["/dev/tpm0 is a character special file of tss:root, mode 660", "tss opens it",
         "/usr/sbin/tcsd runs as tss", "nobody else opens it", "version 1.2", "vendor CTPM", "tested itself"]


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.parametrize("front_end", ["cuse", "vtpmx"])
def test_tcsd_as_debian_starts_it_uses_the_character_device(run_in_vm: RunInVm, front_end: str) -> None:
    """With the node that the kernel made, with one from a private /dev, and as `--tcsd` starts it."""
    missing = [package for name, package in NEEDED.items() if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    if not os.access("/etc/tcsd.conf", os.R_OK):
        pytest.skip("the virtual machine reads files as this user, who may not read /etc/tcsd.conf")
    script = """
        tcsd=$1; shift
        "$@" -- sh -euc '
            tcsd=$1; shift
            "$tcsd" own
            "$@" --chip 1.2 -- sh -euc "echo \\$CUSETPM_DEVICE; exec $tcsd"
        ' sh "$tcsd" "$@"
        test ! -e /dev/tpm0
        "$@" --tcsd -- tpm_version 2>/dev/null | grep -c CTPM
    """
    run = [CUSETPM, "run", "--tpm", "1.2", "--front-end", front_end]
    done = run_in_vm("env", "-C", "/root", "sh", "-euc", script, "sh", TCSD, *run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [*FOUND, "endorsement key of 2048 bits", "free again",
                                        "/dev/tpm1", *FOUND, "free again", "1"]
