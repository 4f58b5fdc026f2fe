"""What the CUSE device says where it cannot be made.  What it does is checked in a virtual machine."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from cusetpm.devices import node
from cusetpm.devices.cuse import device
from cusetpm.devices.cuse.device import CuseDevice
from cusetpm.devices.process import is_dying
from cusetpm.devices.session import Device
from tests.conformance.fake_tpm import FakeTpm


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories in place of those where the names of devices are."""
    made = [tmp_path / "dev"]
    made[0].mkdir()
    monkeypatch.setattr(node, "_IN_USE", tuple(map(str, made)))
    monkeypatch.setattr(device, "CUSE", str(tmp_path / "dev" / "cuse"))
    return made


def test_a_machine_without_cuse_is_told_clearly(places: list[Path]) -> None:
    made = CuseDevice("tpm0", Device(FakeTpm()))
    with pytest.raises(OSError, match="no CUSE on this machine") as caught:
        made.start()
    assert caught.value.errno == errno.ENODEV
    made.stop()


def test_a_name_in_use_is_refused(places: list[Path]) -> None:
    (places[0] / "tpm7").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        CuseDevice("tpm7", Device(FakeTpm())).start()


def test_this_process_is_not_dying_and_no_other_either() -> None:
    assert not is_dying(threading.get_native_id())
    assert not is_dying(0)
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    assert not is_dying(child)
