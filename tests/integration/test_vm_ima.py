"""A stock kernel that measures (ima_policy=tcb) into QEMU's TPM: its lists lead to the PCRs."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import CHECKOUT, VM_RUN, RunInVm
from tests.support.swtpm import control_channel

pytestmark = [pytest.mark.vm, pytest.mark.slow]

GUEST = CHECKOUT / "tests" / "integration" / "ima_guest.sh"
CUSETPM = CHECKOUT / "scripts" / "cusetpm"
BANKS = ("sha1", "sha256")


class Measured(NamedTuple):
    """What a guest showed of its TPM and its lists; the files are in *directory*."""

    directory: Path
    pcrs: dict[str, str]

    def options(self, *indices: int) -> list[str]:
        """Return the options that give the PCRs by value, as sysfs had them."""
        return [f"--pcr={bank}:{index}={self.pcrs[f'{bank}:{index}']}" for bank in BANKS for index in indices]

    def pcr_files(self) -> list[str]:
        """Return the options that give evmctl the PCRs, in files as a TPM 1.2 has them in sysfs."""
        for bank in BANKS:
            lines = [f"PCR-{index:02}: {bytes.fromhex(self.pcrs[f'{bank}:{index}']).hex(' ')}\n"
                     for index in range(11)]
            (self.directory / f"{bank}.pcrs").write_text("".join(lines))
        return [f"--pcrs={bank},{self.directory}/{bank}.pcrs" for bank in BANKS]


def read(directory: Path, output: str) -> Measured:
    """Return what ima_guest.sh printed."""
    pcrs: dict[str, str] = {}
    for line in output.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "pcr":
            name, _, value = rest.partition("=")
            pcrs[name] = value.lower()
        elif kind == "file":
            name, _, content = rest.partition(" ")
            (directory / name).write_bytes(base64.b64decode(content))
    return Measured(directory, pcrs)


def cusetpm(*arguments: str | Path) -> str:
    done = subprocess.run([CUSETPM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[("tpm-tis", "seabios"), ("tpm-crb", "ovmf")], ids="-".join)
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
             run_in_vm: RunInVm) -> Measured:
    """Boot a guest whose TPM is swtpm's."""
    model, firmware = request.param
    directory = tmp_path_factory.mktemp("guest")
    with control_channel() as socket:
        done = subprocess.run(
            [VM_RUN, "--tpm", f"{model}:{socket}", "--firmware", firmware, "--append", "ima_policy=tcb", "--",
             GUEST], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if "no UEFI firmware" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return read(directory, done.stdout)


@pytest.mark.parametrize("form", ["binary", "ascii"])
def test_the_kernels_list_leads_to_pcr_10_of_sysfs(measured: Measured, form: str) -> None:
    said = cusetpm("ima", "verify", *measured.options(*range(11)),
                   measured.directory / f"{form}_runtime_measurements")
    first, *rest = said.splitlines()
    assert re.search(r": (\d+) entries .*, of which \1 fit sha1:10 sha256:10 of --pcr$", first)
    assert rest == ["boot_aggregate fits sha256:0-9",
                    "changed: /merged/root/measured was measured with two contents"]


def test_evmctl_agrees(measured: Measured) -> None:
    if shutil.which("evmctl") is None:
        pytest.skip("ima-evm-utils is not installed")
    done = subprocess.run(["evmctl", "ima_measurement", *measured.pcr_files(), "-v",
                           measured.directory / "binary_runtime_measurements"],
                          capture_output=True, text=True, check=False)
    assert "Matched per TPM bank calculated digest(s)." in done.stderr


def test_the_firmwares_log_leads_to_pcrs_0_to_7(measured: Measured) -> None:
    said = cusetpm("eventlog", "verify", *measured.options(*range(8)),
                   measured.directory / "binary_bios_measurements")
    assert "they lead to sha1:0-7 sha256:0-7 of --pcr" in said
    assert all(int(measured.pcrs[f"{bank}:{index}"], 16) for bank in BANKS for index in range(8))
