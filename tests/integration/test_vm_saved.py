"""A Linux guest that is saved in the middle of its work with its TPM, and goes on in another QEMU."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hwtpm.client import Client, Password
from hwtpm.client12 import Client as Client12
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.pcr import PCREvent
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import HashSequenceStart, SequenceComplete, SequenceUpdate
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm12.requests.command import Command as Command12
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.random import GetRandom as GetRandom12
from tests.conftest import CHECKOUT, RunInVm
from tests.support.emulator import OURS
from tests.support.qemu import Qemu, emulator

pytestmark = [pytest.mark.vm, pytest.mark.slow]

SCRIPT = CHECKOUT / "tests" / "integration" / "saved_guest.sh"
SEQUENCE = 0x80000000  # the first transient handle


class _Encoded(Exception):
    pass


def _refuse(command: bytes) -> bytes:
    raise _Encoded(command.hex())


def encoded(request: Command[Any] | Command12[Any], *authorizations: Password) -> str:
    """Return the command in hexadecimal."""
    try:
        if isinstance(request, Command12):
            Client12(_refuse, os.urandom).run(request)
        else:
            Client(_refuse, os.urandom).run(request, *authorizations)
    except _Encoded as found:
        return str(found)
    raise AssertionError("no command was sent")


EVENTS = (b"an event", b"another")
HALVES = (b"one half, ", b"the other")


def pcr(hash: Callable[[bytes], Any], events: Sequence[bytes]) -> bytes:
    """Return what a PCR is after *events*."""
    value = bytes(hash(b"").digest_size)
    for event in events:
        value = hash(value + hash(event).digest()).digest()
    return value


class Work(NamedTuple):
    """What the guest sends to its TPM before it is saved and after that, and what then comes of it.

    *digest* is in the first response after that, *pcr_16* what the guest's kernel reads at the end.
    """

    before: list[str]
    after: list[str]
    digest: bytes
    pcr_16: bytes


WORK = {
    "2.0": Work([
        encoded(PCREvent(16, EVENTS[0]), Password()),
        encoded(HashSequenceStart(b"", TPM_ALG_SHA256)),
        encoded(SequenceUpdate(SEQUENCE, HALVES[0]), Password()),
    ], [
        encoded(SequenceComplete(SEQUENCE, HALVES[1], TPM_RH_NULL), Password()),
        encoded(GetRandom(16)),
        encoded(PCREvent(16, EVENTS[1]), Password()),
    ], hashlib.sha256(b"".join(HALVES)).digest(), pcr(hashlib.sha256, EVENTS)),
    "1.2": Work([
        encoded(Extend(16, hashlib.sha1(EVENTS[0]).digest())),
    ], [
        encoded(PcrRead(16)),  # no SHA-1 thread: the kernel's commands for its own random numbers end those
        encoded(GetRandom12(16)),
        encoded(Extend(16, hashlib.sha1(EVENTS[1]).digest())),
    ], pcr(hashlib.sha1, EVENTS[:1]), pcr(hashlib.sha1, EVENTS)),
}


@pytest.fixture
def boot(run_in_vm: RunInVm, tmp_path: Path, family: str) -> tuple[Path, Path]:
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
    for name, commands in (("before", WORK[family].before), ("after", WORK[family].after)):
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


@pytest.mark.parametrize(("model", "family"), [("tpm-tis", "2.0"), ("tpm-crb", "2.0"), ("tpm-tis", "1.2")])
def test_a_guest_goes_on_where_it_was_saved(
    tmp_path: Path, boot: tuple[Path, Path], model: str, family: str,
) -> None:
    file, work = tmp_path / "machine", WORK[family]
    with (emulator(OURS, tmp_path / "source", family=family) as tpm,
          Qemu(tmp_path, tpm.ctrl, model, boot=boot) as machine):
        assert len(responses(machine.hear("ready"))) == len(work.before)
        machine.save(file)
    with (emulator(OURS, tmp_path / "target", family=family) as tpm,
          Qemu(tmp_path, tpm.ctrl, model, file, boot) as machine):
        machine.wait_until_it_runs()
        machine.serial.sendall(b"go on\n")
        lines = machine.hear("done")
    digest, random, _ = responses(lines)
    assert work.digest in digest
    assert len(random) > 10 + 16
    assert f"pcr {work.pcr_16.hex().upper()}" in lines
