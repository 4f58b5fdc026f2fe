"""Clients that know simulators by their sockets: tpm2-tools' `swtpm:` and `mssim:` TCTIs, and IBM's TSS."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.emulator import CHECKOUT, OURS, THEIRS, running
from tests.support.ports import free_pair

SCRIPT = CHECKOUT / "tests" / "integration" / "tcti.sh"
PCR_16 = hashlib.sha256(bytes(32) + (1).to_bytes(32)).hexdigest().upper()
FOUND = [f"pcr {PCR_16}", "unsealed secret"]

needs_tools = pytest.mark.skipif(shutil.which("tpm2_getrandom") is None, reason="tpm2-tools is not installed")
needs_ibm = pytest.mark.skipif(shutil.which("tssgetrandom") is None, reason="tss2 is not installed")


def use(tcti: str) -> list[str]:
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False,
                          env=os.environ | {"TPM2TOOLS_TCTI": tcti})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@needs_tools
@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_swtpm_by_path(tmp_path: Path, program: str) -> None:
    with running(program, tmp_path / "state", "--flags", "startup-clear") as emulator:
        assert use(f"swtpm:path={emulator.data}") == FOUND


@needs_tools
@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_swtpm_by_port(tmp_path: Path, program: str) -> None:
    port = free_pair()
    words = ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}", "--flags",
             "startup-clear"]
    with running(program, tmp_path / "state", *words, sockets=False):
        assert use(f"swtpm:host=127.0.0.1,port={port}") == FOUND


@needs_tools
def test_swtpm_beside_the_socket_of_run(tmp_path: Path) -> None:
    words = ["sh", "-c", f'TPM2TOOLS_TCTI=swtpm:path="$CUSETPM_SOCKET" exec {SCRIPT}']
    done = subprocess.run([CHECKOUT / "scripts" / "cusetpm", "run", "--front-end", "socket", "--", *words],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == FOUND


@needs_tools
def test_mssim(tmp_path: Path) -> None:
    """The TCTI switches the power on by itself; the Startup is for the user to send."""
    port = free_pair()
    tcti = f"mssim:host=127.0.0.1,port={port}"
    with running(OURS, tmp_path / "state", "--server", f"type=mssim,port={port}", sockets=False):
        subprocess.run(["tpm2_startup", "-T", tcti, "-c"], check=True)
        assert use(tcti) == FOUND


@needs_ibm
def test_ibm_s_tss_takes_it_for_the_simulator_that_it_expects(tmp_path: Path) -> None:
    port = free_pair()
    env = os.environ | {"TPM_INTERFACE_TYPE": "socsim", "TPM_SERVER_TYPE": "mssim",
                        "TPM_SERVER_NAME": "127.0.0.1", "TPM_COMMAND_PORT": str(port),
                        "TPM_PLATFORM_PORT": str(port + 1), "TPM_DATA_DIR": str(tmp_path)}
    with running(OURS, tmp_path / "state", "--server", f"type=mssim,port={port}", sockets=False):
        for words in (["tsspowerup"], ["tssstartup"], ["tssgetrandom", "-by", "8"],
                      ["tsspcrextend", "-ha", "16", "-halg", "sha256", "-ic", "measured"],
                      ["tsspcrread", "-ha", "16", "-halg", "sha256"]):
            done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
