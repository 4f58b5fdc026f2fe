"""A stock kernel that measures (ima_policy=tcb) into QEMU's TPM: its lists lead to the PCRs."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import CHECKOUT, RunInVm
from tests.support.emulator import OURS
from tests.support.qemu import emulator, left_behind
from tests.support.served import served

pytestmark = [pytest.mark.vm, pytest.mark.slow]

GUEST = CHECKOUT / "tests" / "integration" / "ima_guest.sh"
CUSETPM = CHECKOUT / "scripts" / "cusetpm"


class Guest(NamedTuple):
    """What a guest showed of its TPM, and the TPM after the guest has ended, which keeps its PCRs."""

    directory: Path  # of the lists, by their names in securityfs
    pcrs: dict[str, str]  # as sysfs had them, by names as sha256:10
    banks: tuple[str, ...]
    socket: str  # for raw commands to the TPM

    def options(self, where: str, indices: Iterable[int]) -> list[str]:
        """Return the options for PCRs as they were seen in "sysfs", or as the "tpm" has them."""
        if where == "tpm":
            return ["--socket", self.socket]
        return [f"--pcr={bank}:{index}={self.pcrs[f'{bank}:{index}']}" for bank in self.banks
                for index in indices]

    def pcr_files(self) -> list[str]:
        """Return the options that give evmctl the PCRs, in files as a TPM 1.2 has them in sysfs."""
        for bank in self.banks:
            lines = [f"PCR-{index:02}: {bytes.fromhex(self.pcrs[f'{bank}:{index}']).hex(' ')}\n"
                     for index in range(11)]
            (self.directory / f"{bank}.pcrs").write_text("".join(lines))
        return [f"--pcrs={bank},{self.directory}/{bank}.pcrs" for bank in self.banks]


@pytest.fixture(scope="module", params=[
    ("2.0", "tpm-tis", "seabios"), ("2.0", "tpm-crb", "seabios"), ("2.0", "tpm-crb", "ovmf"),
    ("1.2", "tpm-tis", "seabios")], ids="-".join)
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
          run_in_vm: RunInVm) -> Iterator[Guest]:
    """A guest that has measured into our TPM, as ima_guest.sh shows it."""
    family, model, firmware = request.param
    directory = tmp_path_factory.mktemp("guest")
    with emulator(OURS, directory / "state", family=family) as tpm:
        done = run_in_vm(str(GUEST), options=["--tpm", f"{model}:{tpm.ctrl}", "--firmware", firmware,
                                              "--append", "ima_policy=tcb"])
        if "no UEFI firmware" in done.stderr:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        pcrs: dict[str, str] = {}
        for line in done.stdout.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "pcr":
                name, _, value = rest.partition("=")
                pcrs[name] = value.lower()
            elif kind == "file":
                name, _, content = rest.partition(" ")
                (directory / name).write_bytes(base64.b64decode(content))
        with left_behind(tpm) as execute, served(execute, directory) as socket:
            yield Guest(directory, pcrs, ("sha1", "sha256") if family == "2.0" else ("sha1",), socket)


def cusetpm(*arguments: str | Path) -> list[str]:
    """Return the lines that cusetpm printed, which has succeeded."""
    done = subprocess.run([CUSETPM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("where", ["sysfs", "tpm"])
@pytest.mark.parametrize("form", ["binary", "ascii"])
def test_the_kernels_list_leads_to_pcr_10(guest: Guest, form: str, where: str) -> None:
    first, *rest = cusetpm("ima", "verify", *guest.options(where, range(11)),
                           guest.directory / f"{form}_runtime_measurements")
    found = re.search(r": (\d+) entries .*, of which (\d+) fit (.*) of (--pcr|the TPM)$", first)
    assert found is not None
    assert found[1] == found[2]
    assert set(found[3].split()) >= {f"{bank}:10" for bank in guest.banks}
    assert rest[-2:] == [f"boot_aggregate fits {'sha256:0-9' if 'sha256' in guest.banks else 'sha1:0-7'}",
                         "changed: /merged/root/measured was measured with two contents"]


def test_evmctl_agrees(guest: Guest) -> None:
    if shutil.which("evmctl") is None:
        pytest.skip("ima-evm-utils is not installed")
    done = subprocess.run(["evmctl", "ima_measurement", *guest.pcr_files(), "-v",
                           guest.directory / "binary_runtime_measurements"],
                          capture_output=True, text=True, check=False)
    assert "Matched per TPM bank calculated digest(s)." in done.stderr


@pytest.mark.parametrize("where", ["sysfs", "tpm"])
def test_the_firmwares_log_leads_to_pcrs_0_to_7(guest: Guest, where: str) -> None:
    (said,) = cusetpm("eventlog", "verify", "--only", "0-7", *guest.options(where, range(8)),
                      guest.directory / "binary_bios_measurements")
    assert all(f" {bank}:0-7 " in said for bank in guest.banks)
    assert all(int(guest.pcrs[f"{bank}:{index}"], 16) for bank in guest.banks for index in range(8))
