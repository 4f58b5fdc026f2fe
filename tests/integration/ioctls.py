"""Checks swtpm's ioctls on CUSETPM_DEVICE, with swtpm_ioctl: a script for `cusetpm run --front-end cuse`.

The TPM has had no Startup.  Prints a line for each check that held, and fails at the first that does not.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.test_swtpm_ioctl import CONVERSATION

DEVICE = os.environ["CUSETPM_DEVICE"]
LAUNCHED = "what is launched"


def ioctl(*words: str, data: str = "", buffersize: int = 0) -> tuple[int, str]:
    """Return the status of swtpm_ioctl and what it printed.

    With a *buffersize* it uses read() and write() for states.
    """
    environment = os.environ | ({"SWTPM_IOCTL_BUFFERSIZE": str(buffersize)} if buffersize else {})
    done = subprocess.run(["swtpm_ioctl", "--tpm-device", DEVICE, *words], input=data, capture_output=True,
                          text=True, check=False, env=environment)
    return done.returncode, (done.stdout + done.stderr).strip()


def tool(*words: str) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def every_option_has_the_result_that_it_has_on_a_socket(work: Path) -> None:
    assert ioctl("--stop") == (0, "")
    assert ioctl("-c") == (0, "ptm capability is 0x16fff")
    (work / "garbage").write_bytes(b"this is not the state of a TPM")
    for words, status, wanted in CONVERSATION:
        files = [str(work / word) if word in ("state", "nothing", "garbage") else word for word in words]
        found, said = ioctl(*files, data=LAUNCHED * 1000)
        pattern = re.escape(wanted).replace(r"\*", r"\d+")
        assert found == status, (words, said)
        assert re.fullmatch(pattern, said), (words, said)
    assert os.path.exists(DEVICE)


def a_state_that_is_large_comes_back_through_write_and_read(work: Path) -> None:
    assert ioctl("-l", "0") == ioctl("-i") == (0, "")
    tool("tpm2_startup", "-c")
    secret = os.urandom(2048)
    (work / "secret").write_bytes(secret)
    for index in ("0x1500020", "0x1500021"):
        tool("tpm2_nvdefine", index, "-C", "o", "-s", "2048")
        tool("tpm2_nvwrite", index, "-C", "o", "-i", str(work / "secret"))
    for way, buffersize in ("ioctl", 0), ("read", 700):
        assert ioctl("--save", "permanent", str(work / way), buffersize=buffersize) == (0, "")
        assert (work / way).stat().st_size > 3072
    tool("tpm2_nvundefine", "0x1500020", "-C", "o")
    for way, buffersize in ("read", 0), ("ioctl", 700):
        assert ioctl("--stop") == (0, "")
        assert ioctl("--load", "permanent", str(work / way), buffersize=buffersize) == (0, "")
        assert ioctl("-i") == (0, "")
        tool("tpm2_startup", "-c")
        tool("tpm2_nvread", "0x1500020", "-C", "o", "-o", str(work / "found"))
        assert (work / "found").read_bytes() == secret


def a_launch_is_in_the_pcr(work: Path) -> None:
    assert ioctl("-h", LAUNCHED) == (0, "")
    said = tool("tpm2_pcrread", "sha256:17")
    expected = hashlib.sha256(bytes(32) + hashlib.sha256(LAUNCHED.encode()).digest()).hexdigest()
    assert expected.upper() in said, said


def the_locality_counts_for_the_device(work: Path) -> None:
    reset = ["tpm2_pcrreset", "20"]
    assert subprocess.run(reset, check=False, capture_output=True).returncode != 0
    assert ioctl("-l", "2") == (0, "")
    tool(*reset)
    assert ioctl("-l", "0") == (0, "")


def the_resource_manager_s_device_has_none_of_it(work: Path) -> None:
    managed = os.open(os.environ["CUSETPM_RM_DEVICE"], os.O_RDWR)
    refusal = 0
    try:
        fcntl.ioctl(managed, 0x80085000, bytes(8))
    except OSError as error:
        refusal = error.errno or 0
    os.close(managed)
    assert refusal == errno.ENOTTY


if __name__ == "__main__":
    os.environ["TPM2TOOLS_TCTI"] = f"device:{DEVICE}"
    with tempfile.TemporaryDirectory() as directory:
        for check in (
            every_option_has_the_result_that_it_has_on_a_socket,
            a_state_that_is_large_comes_back_through_write_and_read,
            a_launch_is_in_the_pcr,
            the_locality_counts_for_the_device,
            the_resource_manager_s_device_has_none_of_it,
        ):
            check(Path(directory))
            print("held:", check.__name__.replace("_", " "), flush=True)
