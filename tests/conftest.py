"""What tests of several folders share."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
VM_RUN = CHECKOUT / "scripts" / "vm" / "run"

RunInVm = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure() -> None:
    """What tests start can be interrupted, even if the tests run in the background of a shell."""
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def run_in_vm() -> RunInVm:
    """Give a function that runs a command under a stock kernel; skips where none can be booted.

    Its *options* are for scripts/vm/run, its *timeout* is in seconds.
    """
    prepared = subprocess.run([VM_RUN, "--prepare"], capture_output=True, text=True, check=False)
    if prepared.returncode:
        pytest.skip(f"no virtual machine: {prepared.stderr.strip()}")

    def run(*command: str, timeout: float = 240,
            options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        words = [str(VM_RUN), "--timeout", str(timeout), *options, "--", *command]
        return subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    return run
