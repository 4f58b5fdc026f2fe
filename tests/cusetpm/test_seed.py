"""`cusetpm run --seed`: keys that can be repeated, and a TPM that was made from something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
SEED, OTHER = "00112233", "00112234"
PRIMARY = ["sh", "-c", "tpm2_createprimary -Q -C o -c p.ctx && "
                       "tpm2_readpublic -Q -c p.ctx -n /dev/stdout | od -An -tx1"]


def run(state: Path, *words: str, seed: str | None = SEED,
        tpm: str = "2.0") -> subprocess.CompletedProcess[str]:
    options = [] if seed is None else ["--seed", seed]
    return subprocess.run([*CUSETPM, "run", "--front-end", "socket", "--tpm", tpm, "--state-dir", str(state),
                           *options, "--", *words], capture_output=True, text=True, check=False, timeout=120,
                          cwd=state.parent)


def name(state: Path, seed: str | None = SEED) -> str:
    done = run(state, *PRIMARY, seed=seed)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(state: Path, seed: str, tpm: str = "2.0") -> None:
    done = run(state, "true", seed=seed, tpm=tpm)
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cusetpm: {state}/guests/tpm0/state: this TPM was not made from this seed, ")


def test_the_same_seed_makes_the_same_keys_and_another_one_others(tmp_path: Path) -> None:
    first = name(tmp_path / "first")
    assert name(tmp_path / "second") == first
    assert name(tmp_path / "third", OTHER) != first


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_a_tpm_that_is_there_takes_the_seed_that_made_it_and_no_other(tmp_path: Path, tpm: str) -> None:
    state = tmp_path / "state"
    for seed in (SEED, SEED, None, SEED):
        assert run(state, "true", seed=seed, tpm=tpm).returncode == 0
    refused(state, OTHER, tpm)
    assert run(state, "true", tpm=tpm).returncode == 0


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_a_tpm_made_without_a_seed_takes_none(tmp_path: Path, tpm: str) -> None:
    state = tmp_path / "state"
    assert run(state, "true", seed=None, tpm=tpm).returncode == 0
    refused(state, SEED, tpm)


def test_a_seed_is_recognised_until_the_last_secret_that_it_made_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for command in ("tpm2_clear -c p", "tpm2_changepps", "tpm2_changeeps"):
        assert run(state, *command.split()).returncode == 0, command
    refused(state, SEED)
    assert run(state, "true", seed=None).returncode == 0
