"""libvirt, with a `swtpm` in PATH that is ours: it makes TPMs, starts guests, saves and restores them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.emulator import CHECKOUT

SCRIPT = CHECKOUT / "tests" / "integration" / "libvirt.sh"
CUSETPM = CHECKOUT / "scripts" / "cusetpm"
PROGRAMS = ("libvirtd", "virsh", "swtpm_setup", "qemu-system-x86_64", "unshare")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="libvirt's system daemon needs root"),
    pytest.mark.skipif(not all(shutil.which(name) for name in PROGRAMS),
                       reason=f"one of {', '.join(PROGRAMS)} is not installed"),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what libvirt.sh has left behind."""
    made = tmp_path_factory.mktemp("libvirt")
    done = subprocess.run(["unshare", "-m", "--propagation", "private", SCRIPT, made, CUSETPM],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["plain running", "locked running", "old running"]
    return made


def persistent_handles(state: Path) -> list[str]:
    done = subprocess.run([CUSETPM, "run", "--state-dir", state, "--", "tpm2_getcap", "handles-persistent"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1::2]


def test_guests_had_the_tpms_that_libvirt_had_made(directory: Path) -> None:
    assert persistent_handles(directory / "plain") == ["0x81010001", "0x81010016"]


def test_a_secret_of_libvirt_encrypts_the_state(directory: Path) -> None:
    done = subprocess.run([CUSETPM, "run", "--state-dir", directory / "locked", "--", "true"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "encrypted with a key, which is needed" in done.stderr
    calls = (directory / "calls").read_text().splitlines()
    assert [call for call in calls if "--key pwdfd=" in call and "--migration-key pwdfd=" in call]


def test_a_tpm_1_2_is_one(directory: Path) -> None:
    done = subprocess.run([CUSETPM, "run", "--tpm", "1.2", "--state-dir", directory / "old", "--", "true"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
