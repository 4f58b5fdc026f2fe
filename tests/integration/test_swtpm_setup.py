"""swtpm_setup makes a TPM of ours, as libvirt has it made: keys, certificates, PCR banks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.emulator import CHECKOUT, OURS, running

pytestmark = pytest.mark.skipif(shutil.which("swtpm_setup") is None, reason="swtpm-tools is not installed")

WRAPPER = f"""#!/bin/sh
exec {CHECKOUT / "scripts" / "cusetpm"} swtpm "$@"
"""
LOCALCA = """
statedir = {0}/ca
signingkey = {0}/ca/signkey.pem
issuercert = {0}/ca/issuercert.pem
certserial = {0}/ca/certserial
"""
SETUP = """
create_certs_tool = swtpm_localca
create_certs_tool_config = {0}/localca.conf
create_certs_tool_options = {0}/localca.options
active_pcr_banks = sha256
"""
PLATFORM = """--platform-manufacturer Debian
--platform-version 1
--platform-model a guest
"""


@pytest.fixture
def setup(tmp_path: Path) -> list[str]:
    """Return how swtpm_setup is called with a program `swtpm` in PATH that is ours, and a CA of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "ca").mkdir()
    (tmp_path / "bin" / "swtpm").write_text(WRAPPER)
    (tmp_path / "bin" / "swtpm").chmod(0o755)
    (tmp_path / "localca.conf").write_text(LOCALCA.format(tmp_path))
    (tmp_path / "localca.options").write_text(PLATFORM)
    (tmp_path / "setup.conf").write_text(SETUP.format(tmp_path))
    return ["env", f"PATH={tmp_path / 'bin'}:{os.environ['PATH']}", "swtpm_setup", "--config",
            str(tmp_path / "setup.conf"), "--tpm-state", str(tmp_path / "state"), "--not-overwrite"]


def made(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_libvirt_s_way_of_making_a_tpm_2(tmp_path: Path, setup: list[str]) -> None:
    """The options are those that libvirt passes for a new guest."""
    (tmp_path / "state").mkdir()
    certificates = ["--create-ek-cert", "--create-platform-cert"]
    said = made([*setup, "--tpm2", "--createek", *certificates, "--lock-nvram"])
    assert "Successfully created RSA 2048 EK with handle 0x81010001." in said
    assert "Successfully created NVRAM area 0x1c00002 for RSA 2048 EK certificate." in said
    assert "Successfully activated PCR banks sha256 among sha1,sha256,sha384,sha512." in said
    with running(OURS, tmp_path / "state", "--flags", "startup-clear") as emulator:
        tcti = f"swtpm:path={emulator.data}"

        def tool(*words: str) -> str:
            return made([words[0], "-T", tcti, *words[1:]])

        assert tool("tpm2_getcap", "handles-persistent").split()[1::2] == ["0x81010001", "0x81010016"]
        (tmp_path / "ek.der").write_bytes(subprocess.run(
            ["tpm2_nvread", "-T", tcti, "-C", "o", "0x1c00002"], capture_output=True, check=True).stdout)
        assert "sha256: [ 0, 1," in tool("tpm2_getcap", "pcrs")
        # The certificate is one of the endorsement key that the TPM has.
        tool("tpm2_readpublic", "-Q", "-c", "0x81010001", "-f", "pem", "-o", str(tmp_path / "ek.pem"))
    show = ["openssl", "x509", "-inform", "DER", "-in", str(tmp_path / "ek.der"), "-noout", "-pubkey"]
    assert made(show) == (tmp_path / "ek.pem").read_text()


def test_libvirt_s_way_of_making_a_tpm_1_2(tmp_path: Path, setup: list[str]) -> None:
    """It has no endorsement key before, and storage in which the maker of the platform defines indices."""
    (tmp_path / "state").mkdir()
    certificates = ["--create-ek-cert", "--create-platform-cert"]
    said = made([*setup, "--createek", "--take-ownership", *certificates, "--lock-nvram"])
    for step in ("created EK.", "took ownership of the TPM.", "created NVRAM area for EK certificate.",
                 "created NVRAM area for Platform certificate.", "locked NVRAM access."):
        assert f"Successfully {step}" in said


def test_a_tpm_that_is_there_is_left_alone(tmp_path: Path, setup: list[str]) -> None:
    with running(OURS, tmp_path / "state", "--flags", "startup-clear") as emulator:
        emulator.end()
    before = contents(tmp_path / "state")
    made([*setup, "--tpm2", "--createek"])
    assert contents(tmp_path / "state") == before


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
