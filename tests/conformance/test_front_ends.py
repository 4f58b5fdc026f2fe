"""Every front end behaves as Linux' TPM devices do.  CUSE, and they themselves, are checked in a VM."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cusetpm.devices.fusefile import FuseFile
from cusetpm.devices.fusemount import Mounter
from cusetpm.devices.rawsocket import ManagedSocket, RawSocket
from cusetpm.devices.session import AnyDevice, Device, SharedDevice
from cusetpm.rm.manager import ResourceManager
from tests.conformance.fake_tpm import FakeTpm
from tests.conftest import RunInVm
from tests.support.managed import Managed
from tests.support.tpm2 import started


def check_front_end(kind: str, *paths: Path) -> None:
    """The checks run in another process, as a client's do."""
    script = Path(__file__).with_name("front_end.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), kind, *map(str, paths)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") >= 8


def manager() -> ResourceManager:
    return Managed(started().execute).manager


needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse for this user"
)


@contextmanager
def served(directory: Path, devices: dict[str, AnyDevice]) -> Iterator[None]:
    with ExitStack() as stack:
        files = {name: FuseFile(directory / name, device, Mounter()) for name, device in devices.items()}
        files["tpm0"].heeds = files.get("tpmrm0")
        for name, file in files.items():
            (directory / name).touch()
            file.start()
            stack.callback(file.stop)
        yield


@needs_fuse
def test_a_mounted_file_is_a_tpm_device(tmp_path: Path) -> None:
    with served(tmp_path, {"tpm0": Device(FakeTpm()), "tpm1": Device(FakeTpm())}):
        check_front_end("device", tmp_path / "tpm1")


@needs_fuse
def test_a_mounted_file_is_a_resource_manager_s_device(tmp_path: Path) -> None:
    shared = manager()
    with served(tmp_path, {"tpm0": Device(shared), "tpmrm0": SharedDevice(shared)}):
        check_front_end("managed", tmp_path / "tpmrm0", tmp_path / "tpm0")
        check_front_end("device", tmp_path / "tpm0")


def test_the_raw_socket_is_one(tmp_path: Path) -> None:
    server = RawSocket(tmp_path / "tpm.sock", FakeTpm())
    server.start()
    try:
        check_front_end("socket", tmp_path / "tpm.sock")
    finally:
        server.stop()


def test_the_managed_socket_is_one_of_spaces(tmp_path: Path) -> None:
    shared = manager()
    servers = RawSocket(tmp_path / "tpm.sock", shared), ManagedSocket(tmp_path / "tpmrm.sock", shared)
    servers[0].heeds = servers[1]
    for server in servers:
        server.start()
    try:
        check_front_end("managed-socket", tmp_path / "tpmrm.sock", tmp_path / "tpm.sock")
        check_front_end("socket", tmp_path / "tpm.sock")
    finally:
        for server in servers:
            server.stop()


@pytest.mark.vm
@pytest.mark.slow
def test_the_cuse_device_is_a_tpm_device(run_in_vm: RunInVm) -> None:
    """In a virtual machine with a stock kernel, because /dev/cuse is rare."""
    done = run_in_vm("python", "-W", "error", "tests/conformance/cuse_device.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held: ") == 10


@pytest.mark.vm
@pytest.mark.slow
def test_the_kernels_own_devices_are_what_the_others_are_held_to(run_in_vm: RunInVm) -> None:
    """Those that it makes of a TPM of ours; and that TPM comes and goes as it should."""
    done = run_in_vm("python", "-W", "error", "tests/conformance/vtpmx_device.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held: ") == 8
