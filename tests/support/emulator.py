"""swtpm and cusetpm's own `swtpm socket`, started alike: what a client cannot tell apart can be compared."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
OURS, THEIRS = "cusetpm", "swtpm"

_GIVE_UP_S = 60
_COMMANDS = {OURS: [str(CHECKOUT / "scripts" / "cusetpm"), "swtpm", "socket"], THEIRS: ["swtpm", "socket"]}


class Emulator(NamedTuple):
    """A running TPM: its state directory and sockets, and a file descriptor of its process."""

    program: str
    directory: Path
    pidfd: int

    @property
    def ctrl(self) -> Path:
        """The control channel."""
        return self.directory / "data.ctrl"

    @property
    def data(self) -> Path:
        """The channel for commands."""
        return self.directory / "data"

    def has_ended(self, within_s: float = _GIVE_UP_S) -> bool:
        """Tell whether the process ends within that time."""
        return bool(select.select([self.pidfd], [], [], within_s)[0])

    def end(self) -> None:
        """End it as a service manager would."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
        assert self.has_ended()


def command(program: str) -> list[str]:
    """Return how *program* is started, without options; skips if it is not there."""
    if program == THEIRS and shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    return list(_COMMANDS[program])


@contextmanager
def running(program: str, directory: Path, *options: str, sockets: bool = True,
            family: str = "2.0") -> Iterator[Emulator]:
    """Start *program* with *options*, and *sockets* unless those bring their own; it is ready then."""
    directory.mkdir(exist_ok=True)
    kind = ["--tpm2"] if family == "2.0" else []
    words = [*command(program), *kind, "--tpmstate", f"dir={directory}", "--daemon",
             "--pid", f"file={directory / 'pid'}", "--log", f"file={directory / 'log'}"]
    if sockets:
        words += ["--ctrl", f"type=unixio,path={directory / 'data.ctrl'}",
                  "--server", f"type=unixio,path={directory / 'data'}"]
    done = subprocess.run([*words, *options], capture_output=True, text=True, check=False, close_fds=False)
    log = directory / "log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    found = Emulator(program, directory, os.pidfd_open(int((directory / "pid").read_text())))
    try:
        yield found
    finally:
        if not found.has_ended(0):
            signal.pidfd_send_signal(found.pidfd, signal.SIGKILL)
            found.has_ended()
        os.close(found.pidfd)
