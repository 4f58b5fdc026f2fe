"""The look-alike of sysfs beside the kernel's own, of one TPM that firmware has measured into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunInVm
from tests.support.emulator import OURS
from tests.support.qemu import emulator

pytestmark = [pytest.mark.vm, pytest.mark.slow]

SCRIPT = CHECKOUT / "tests" / "integration" / "sysfs_guest.py"


@pytest.mark.parametrize(("family", "files"), [("2.0", 1 + 24 * 4), ("1.2", 10 + 24)])
def test_every_file_is_as_the_kernel_s(run_in_vm: RunInVm, tmp_path: Path, family: str, files: int) -> None:
    with emulator(OURS, tmp_path / "state", family=family) as tpm:
        done = run_in_vm("python", "-W", "error", str(SCRIPT), family,
                         options=["--tpm", f"tpm-tis:{tpm.ctrl}"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{files} files are equal\n"
