"""swtpm's control channel as ioctls of a character device; in a virtual machine, for /dev/cuse is rare."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.conftest import CHECKOUT, RunInVm

CUSETPM = str(CHECKOUT / "scripts" / "cusetpm")
IOCTLS = str(CHECKOUT / "tests" / "integration" / "ioctls.py")


@pytest.mark.vm
@pytest.mark.slow
def test_swtpm_ioctl_controls_the_character_device(run_in_vm: RunInVm) -> None:
    missing = [name for name in ("swtpm_ioctl", "tpm2_startup") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    run = [CUSETPM, "run", "--front-end", "cuse", "--startup", "none", "--"]
    done = run_in_vm(*run, sys.executable, IOCTLS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held: ") == 5
