"""A Linux guest that is saved in the middle of its work with its TPM, and goes on in another QEMU."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwtpm.client import Client, Password
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.pcr import PCREvent
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import HashSequenceStart, SequenceComplete, SequenceUpdate
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from tests.conftest import CHECKOUT, RunInVm
from tests.support.emulator import OURS
from tests.support.qemu import Qemu, emulator

pytestmark = [pytest.mark.vm, pytest.mark.slow]

SCRIPT = CHECKOUT / "tests" / "integration" / "saved_guest.sh"
SEQUENCE = 0x80000000  # the first transient handle


class _Encoded(Exception):
    pass


def encoded(request: Command[Any], *authorizations: Password) -> str:
    """Return the command in hexadecimal."""
    def execute(command: bytes) -> bytes:
        raise _Encoded(command.hex())

    try:
        Client(execute, os.urandom).run(request, *authorizations)
    except _Encoded as found:
        return str(found)
    raise AssertionError("no command was sent")


BEFORE = [
    encoded(PCREvent(16, b"an event"), Password()),
    encoded(HashSequenceStart(b"", TPM_ALG_SHA256)),
    encoded(SequenceUpdate(SEQUENCE, b"one half, "), Password()),
]
AFTER = [
    encoded(SequenceComplete(SEQUENCE, b"the other", TPM_RH_NULL), Password()),
    encoded(GetRandom(16)),
    encoded(PCREvent(16, b"another"), Password()),
]


@pytest.fixture
def boot(run_in_vm: RunInVm, tmp_path: Path) -> tuple[Path, Path]:
    """Return the stock kernel of scripts/vm, and an initial file system with the script and its commands."""
    spec = importlib.util.spec_from_file_location("image", CHECKOUT / "scripts" / "vm" / "image.py")
    assert spec is not None
    assert spec.loader is not None
    image = sys.modules["image"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(image)
    busybox = shutil.which("busybox")
    assert busybox is not None
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    shutil.copy(SCRIPT, root / "init")
    for name, commands in (("before", BEFORE), ("after", AFTER)):
        (root / name).write_text("".join(f"{command}\n" for command in commands))
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run([busybox, "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(),
                             capture_output=True, check=True).stdout
    (tmp_path / "initrd").write_bytes(gzip.compress(archive, 1))
    return image.prepare().kernel, tmp_path / "initrd"


def responses(lines: list[str]) -> list[bytes]:
    """Return the successful responses that the guest has shown."""
    found = [bytes.fromhex(line.removeprefix("response ")) for line in lines if line.startswith("response ")]
    assert all(response[6:10] == bytes(4) for response in found), [response.hex() for response in found]
    return found


@pytest.mark.parametrize("model", ["tpm-tis", "tpm-crb"])
def test_a_guest_goes_on_where_it_was_saved(tmp_path: Path, boot: tuple[Path, Path], model: str) -> None:
    file = tmp_path / "machine"
    with emulator(OURS, tmp_path / "source") as tpm, Qemu(tmp_path, tpm.ctrl, model, boot=boot) as machine:
        assert len(responses(machine.hear("ready"))) == len(BEFORE)
        machine.save(file)
    with emulator(OURS, tmp_path / "target") as tpm, Qemu(tmp_path, tpm.ctrl, model, file, boot) as machine:
        machine.wait_until_it_runs()
        machine.serial.sendall(b"go on\n")
        lines = machine.hear("done")
    digest, random, _ = responses(lines)
    assert hashlib.sha256(b"one half, the other").digest() in digest
    assert len(random) == 10 + 2 + 16
    value = bytes(32)
    for event in (b"an event", b"another"):
        value = hashlib.sha256(value + hashlib.sha256(event).digest()).digest()
    assert f"pcr {value.hex().upper()}" in lines
