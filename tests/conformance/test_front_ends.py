"""Every front end behaves as Linux' TPM devices do.  CUSE is checked by the same script in a VM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cusetpm.devices.fusedir import FuseDirectory
from cusetpm.devices.rawsocket import RawSocket
from tests.conformance.fake_tpm import FakeTpm
from tests.conftest import RunInVm


def check_front_end(kind: str, path: Path) -> None:
    """The checks run in another process, as a client's do."""
    script = Path(__file__).with_name("front_end.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), kind, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") >= 8


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse for this user")
def test_a_file_of_the_fuse_directory_is_a_tpm_device(tmp_path: Path) -> None:
    directory = FuseDirectory(tmp_path, {"tpm0": FakeTpm(), "tpm1": FakeTpm()})
    directory.start()
    try:
        check_front_end("device", tmp_path / "tpm1")
    finally:
        directory.stop()


def test_the_raw_socket_is_one(tmp_path: Path) -> None:
    server = RawSocket(tmp_path / "tpm.sock", FakeTpm())
    server.start()
    try:
        check_front_end("socket", tmp_path / "tpm.sock")
    finally:
        server.stop()


@pytest.mark.vm
@pytest.mark.slow
def test_the_cuse_device_is_a_tpm_device(run_in_vm: RunInVm) -> None:
    """In a virtual machine with a stock kernel, because /dev/cuse is rare."""
    done = run_in_vm("python", "-W", "error", "tests/conformance/cuse_device.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held: ") == 4
