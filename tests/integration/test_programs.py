"""Programs that know nothing of cusetpm, pointed at it by what `cusetpm run` puts into their environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CUSETPM = str(CHECKOUT / "scripts" / "cusetpm")
HERE = CHECKOUT / "tests" / "integration"
SYSTEM_PYTHON = "/usr/bin/python3"  # tpm2-pytss comes as a Debian package, for the system's interpreter

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None,
    reason="no /dev/fuse for this user, or no fusermount3",
)
IBM_FOUND = [
    "verified, 2 loaded", "flushed, 0 loaded", "Handle 80ffffff", "Handle 80ffffff", "managed, 0 loaded"]
SYSTEMD_FOUND = ["opened secret", "refused"]
FRONT_ENDS = [pytest.param("fuse", marks=needs_fuse), "socket"]


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run(front_end: str, directory: Path, *command: str) -> list[str]:
    """Run *command* with a TPM of its own in *directory*, and return the lines that it prints."""
    done = subprocess.run([CUSETPM, "run", "--front-end", front_end, "--", *command], cwd=directory,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_openssl_keeps_its_keys_in_the_tpm(front_end: str, tmp_path: Path) -> None:
    if not any(Path("/usr/lib").glob("*/ossl-modules/tpm2.so")):
        pytest.skip("tpm2-openssl is not installed")
    assert run(front_end, tmp_path, str(HERE / "openssl.sh")) == [
        "ecdsa verified", "pss verified", "decrypted a message", "request verified"]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_pytss_seals_signs_and_counts(front_end: str, tmp_path: Path) -> None:
    if not _works(SYSTEM_PYTHON, "-c", "import tpm2_pytss"):
        pytest.skip(f"tpm2-pytss is not installed for {SYSTEM_PYTHON}")
    assert run(front_end, tmp_path, SYSTEM_PYTHON, str(HERE / "pytss_program.py")) == [
        "family 2.0", "random 16", "unsealed secret", "refused", "verified True", "held 20", "counted 2"]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_pkcs11_keeps_its_keys_in_the_tpm(front_end: str, tmp_path: Path) -> None:
    missing = [name for name in ("tpm2_ptool", "pkcs11-tool") if shutil.which(name) is None]
    if missing or not any(Path("/usr/lib").glob("*/libtpm2_pkcs11.so.1")):
        pytest.skip("tpm2-pkcs11 or OpenSC's pkcs11-tool is not installed")
    assert run(front_end, tmp_path, str(HERE / "pkcs11.sh")) == ["ecdsa verified", "random 16"]


@needs_fuse
def test_ibm_s_utilities_find_what_the_one_before_loaded_and_share_the_tpm(tmp_path: Path) -> None:
    if shutil.which("tsscreateprimary") is None:
        pytest.skip("IBM's TSS (package tss2) is not installed")
    assert run("fuse", tmp_path, str(HERE / "ibm.sh")) == IBM_FOUND


@needs_fuse
def test_a_credential_of_systemd_opens_with_its_pcr_only(tmp_path: Path) -> None:
    if shutil.which("systemd-creds") is None or shutil.which("tpm2_pcrextend") is None:
        pytest.skip("systemd-creds (package systemd) or tpm2-tools is not installed")
    assert run("fuse", tmp_path, str(HERE / "systemd.sh")) == SYSTEMD_FOUND
