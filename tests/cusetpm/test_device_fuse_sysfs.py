"""What a FUSE directory shows beside the devices, as COMMAND of `cusetpm run` sees it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cusetpm.measure import ima
from tests.support.other_user import CHECKOUT, cusetpm_as_nobody

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK),
                                reason="no /dev/fuse for this user")

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
SCRIPT = CHECKOUT / "tests" / "conformance" / "shown_files.py"
LOG = CHECKOUT / "tests" / "vectors" / "eventlog" / "ovmf.bin"
PCRS = 24
families = pytest.mark.parametrize("family", ["2.0", "1.2"])


def run(family: str, *command: str | Path, words: list[str] | None = None,
        options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    arguments = ["run", "--tpm", family, "--front-end", "fuse", *options, "--", *map(str, command)]
    return subprocess.run([*(words or CUSETPM), *arguments], capture_output=True, text=True, check=False,
                          timeout=240, cwd="/")


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, bytes]:
    """Return what shown_files.py printed, which found nothing wrong: contents by paths."""
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr
    found: dict[str, bytes] = {}
    for line in done.stdout.splitlines():
        path, content = ast.literal_eval(line.replace("' b", "', b", 1))
        found[path] = content
    return found


@families
def test_every_file_reads_whole_and_is_only_for_reading(family: str, tmp_path: Path) -> None:
    seed = str(time.monotonic_ns())
    print("seed", seed)
    (tmp_path / "measured").write_text("content")
    measure = (f'{" ".join(CUSETPM)} ima measure {tmp_path}/measured >&2 && cp {LOG} "$CUSETPM_EVENT_LOG" && '
               f'exec {sys.executable} -I {SCRIPT} {seed}')
    found = shown(run(family, "sh", "-c", measure))
    banks = ("sha1",) if family == "1.2" else ("sha1", "sha256", "sha384", "sha512")
    pcrs = [path for path in found if "/pcr-" in path]
    assert {path.split("/")[3] for path in pcrs} == {f"pcr-{bank}" for bank in banks}
    assert len(pcrs) == PCRS * len(banks)
    lists = {path.removeprefix("kernel/security/"): content for path, content in found.items()
             if path.startswith("kernel/")}
    assert lists.pop("tpm0/binary_bios_measurements") == LOG.read_bytes()
    assert len(lists) == 2 * (1 + len(banks))
    assert lists["ima/binary_runtime_measurements"] == lists["ima/binary_runtime_measurements_sha1"]
    for path, content in lists.items():
        measured = ima.parse(content)
        assert measured.entries[-1].name == f"{tmp_path}/measured".encode(), path


@families
def test_an_ordinary_user_has_it_through_fusermount3(family: str) -> None:
    if shutil.which("fusermount3") is None:
        pytest.skip("an ordinary user mounts with fusermount3, which is not there")
    words = cusetpm_as_nobody()
    python = words[words.index("-m") - 1]
    assert len(shown(run(family, python, "-I", SCRIPT, "1", words=words))) > PCRS


def test_root_of_a_user_namespace_has_it() -> None:
    namespaces = ["unshare", "-U", "-r", "-m"]
    if subprocess.run([*namespaces, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces for this user")
    done = run("2.0", sys.executable, "-I", SCRIPT, "1", words=[*namespaces, *CUSETPM])
    assert len(shown(done)) > PCRS


def test_a_pcr_is_read_anew_by_each_open_and_by_each_read_from_the_beginning() -> None:
    script = ('pcr=$CUSETPM_SYSFS/class/tpm/tpm0/pcr-sha256/16; exec 3<$pcr; cat <&3; '
              f'tpm2_pcrextend 16:sha256={"1":>064}; cat $pcr; '
              f'{sys.executable} -c "import os; print(os.pread(3, 99, 0).decode())"; '
              "tpm2_pcrread sha256:16 | tail -1 | cut -dx -f2")
    if shutil.which("tpm2_pcrextend") is None:
        pytest.skip("tpm2-tools are not installed")
    done = run("2.0", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    before, *after = done.stdout.split()
    assert int(before, 16) == 0
    assert len(after) == 3
    assert len(set(after)) == 1
    assert int(after[0], 16)


def test_who_has_the_device_open_hinders_nobody_and_is_not_hindered() -> None:
    """An unread response waits meanwhile, and is still there."""
    script = """
import os, sys
sys.path.append(os.environ["CUSETPM_SYSFS"])
fd = os.open(os.environ["CUSETPM_DEVICE"], os.O_RDWR)
os.write(fd, bytes.fromhex("80010000000c0000017b0008"))
for _ in range(3):
    print(open(os.environ["CUSETPM_SYSFS"] + "/class/tpm/tpm0/pcr-sha1/0").read(), end="")
print(len(os.read(fd, 4096)))
"""
    done = run("2.0", sys.executable, "-I", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["00" * 20] * 3 + ["20"]


def test_cancel_ends_the_command_in_progress() -> None:
    """TPM_CreateEndorsementKeyPair searches primes; whoever may write to the file ends it."""
    parms = "00000001" "0003" "0001" "0000000c" "00000800" "00000002" "00000000"
    create = "00c1" "00000036" "00000078" + "00" * 20 + parms
    script = f"""
import os, subprocess, sys
chip = os.environ["CUSETPM_SYSFS"] + "/class/tpm/tpm0/"
client = ("import os; fd = os.open(os.environ['CUSETPM_DEVICE'], os.O_RDWR);"
          "os.write(fd, bytes.fromhex('{create}')); print(os.read(fd, 4096)[6:10].hex())")
creating = subprocess.Popen([sys.executable, "-I", "-c", client], stdout=subprocess.PIPE)
while creating.poll() is None:
    with open(chip + "cancel", "w") as cancel:
        cancel.write("1")
print(creating.stdout.read().decode(), repr(open(chip + "pubek").read()))
"""
    done = run("1.2", sys.executable, "-I", "-c", script, options=("--no-endorsement-key",))
    assert done.returncode == 0, done.stderr
    code, pubek = done.stdout.split()
    assert int(code, 16) != 0
    assert pubek == "''"


def test_a_list_that_is_no_list_is_an_input_error_and_the_rest_is_as_before() -> None:
    script = ('echo garbage >$CUSETPM_IMA_LIST; '
              'cat $CUSETPM_SYSFS/kernel/security/ima/ascii_runtime_measurements; '
              'cat $CUSETPM_SYSFS/class/tpm/tpm0/tpm_version_major')
    done = run("2.0", "sh", "-c", script)
    assert done.stdout == "2\n"
    assert "Input/output error" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_measured_list_verifies_where_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "measured").write_text("content")
    cusetpm = " ".join(CUSETPM)
    script = (f'{cusetpm} ima measure {tmp_path}/measured >/dev/null; '
              f'for form in ascii binary; do for bank in "" _sha256; do {cusetpm} ima verify '
              '$CUSETPM_SYSFS/kernel/security/ima/${form}_runtime_measurements$bank || exit; done; done')
    done = run("2.0", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": 2 entries") == 4
