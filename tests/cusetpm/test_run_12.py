"""`cusetpm run --tpm 1.2`: a TPM 1.2 through every box, from another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_GET_RANDOM = "00c10000000e0000004600000008"
_READ_PUBEK = "00c10000001e0000007c" + "00" * 20
_CLIENT = """
import os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(os.environ["CUSETPM_SOCKET"])
for command in sys.argv[1:]:
    link.sendall(bytes.fromhex(command))
    print(link.recv(4096).hex())
"""


def run(*options: str, commands: tuple[str, ...] = (), expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "cusetpm", "run", *options, "--", sys.executable, "-c", _CLIENT, *commands],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stderr
    return done


@pytest.mark.parametrize("front_end", ["fuse", "socket"])
def test_it_answers_and_has_an_endorsement_key(front_end: str) -> None:
    commands = (_GET_RANDOM, _READ_PUBEK)
    done = run("--tpm", "1.2", "--front-end", front_end, commands=commands)
    random, pubek = (bytes.fromhex(line) for line in done.stdout.split())
    assert random[:14] == bytes.fromhex("00c400000016" + "00000000" + "00000008")
    assert (pubek[:2], pubek[6:10]) == (b"\0\xc4", bytes(4))


def test_a_seed_repeats_the_endorsement_key_and_a_directory_keeps_it(tmp_path: Path) -> None:
    seeded = run("--tpm", "1.2", "--seed", "abcd", commands=(_READ_PUBEK,)).stdout
    assert run("--tpm", "1.2", "--seed", "abcd", commands=(_READ_PUBEK,)).stdout == seeded
    state = ("--tpm", "1.2", "--state-dir", str(tmp_path / "s"))
    first = run(*state, commands=(_READ_PUBEK,)).stdout
    assert first != seeded
    assert run(*state, commands=(_READ_PUBEK,)).stdout == first


def test_the_state_of_the_other_family_is_refused(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "s"))
    run("--tpm", "1.2", *state, commands=(_GET_RANDOM,))
    refused = run(*state, commands=(_GET_RANDOM,), expect=125)
    where = tmp_path / "s/guests/tpm0/state"
    assert refused.stderr == f"cusetpm: {where}: this is not the state of a TPM 2.0\n"


def test_a_library_that_refuses_a_primitive_is_told_in_one_line_at_the_start(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL is told to take algorithms of a validated module only, and there is none."""
    config = tmp_path / "openssl.cnf"
    config.write_text("openssl_conf = top\n[top]\nalg_section = algorithms\n[algorithms]\n"
                      "default_properties = fips=yes\n")
    monkeypatch.setenv("OPENSSL_CONF", str(config))
    refused = run("--chip", "1.2", "--tpm", "1.2", "--front-end", "socket", expect=125).stderr
    assert refused.startswith("cusetpm: this machine's cryptographic library refuses SHA-1, ")
    assert refused.count("\n") == 1
