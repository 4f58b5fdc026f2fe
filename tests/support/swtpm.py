"""A running swtpm: an independent TPM to compare responses with."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest

_START_SECONDS = 10
_CMD_INIT = 2
_CMD_SET_LOCALITY = 5
_CMD_HASH_START, _CMD_HASH_DATA, _CMD_HASH_END = 6, 7, 8


class Swtpm:
    """Started, with Startup(CLEAR) done unless *startup* says otherwise; a context manager that ends it.

    *family* is "2.0" or "1.2".
    """

    def __init__(self, startup: str = "startup-clear", family: str = "2.0") -> None:
        program = shutil.which("swtpm")
        if program is None:
            pytest.skip("swtpm is not installed")
        self._directory = tempfile.TemporaryDirectory(prefix="cusetpm-swtpm-")
        base = Path(self._directory.name)
        flags = "not-need-init" + (f",{startup}" if startup else "")
        self._process = subprocess.Popen(
            [program, "socket", *(["--tpm2"] if family == "2.0" else []),
             "--server", f"type=unixio,path={base / 'data'}", "--ctrl",
             f"type=unixio,path={base / 'ctrl'}", "--tpmstate", f"dir={base}", "--flags", flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._data = _connect(base / "data")
        self._ctrl = _connect(base / "ctrl")

    def __enter__(self) -> Swtpm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its state."""
        self._data.close()
        self._ctrl.close()
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()

    def execute(self, command: bytes) -> bytes:
        """Return the response to *command*."""
        self._data.sendall(command)
        response = b""
        while len(response) < 10 or len(response) < int.from_bytes(response[2:6], "big"):
            piece = self._data.recv(4096)
            if not piece:
                raise ConnectionError("swtpm has gone")
            response += piece
        return response

    def power_cycle(self) -> None:
        """Lose power and get it back; no Startup is done."""
        self._ctrl.sendall(_CMD_INIT.to_bytes(4, "big") + bytes(4))
        assert self._ctrl.recv(4) == bytes(4)

    def set_locality(self, locality: int) -> None:
        """Commands come from *locality* from now on."""
        self._ctrl.sendall(_CMD_SET_LOCALITY.to_bytes(4, "big") + bytes([locality]))
        assert self._ctrl.recv(4) == bytes(4)

    def hash_sequence(self, *parts: bytes) -> None:
        """Measure *parts* as a launch (_TPM_Hash_Start, _TPM_Hash_Data, _TPM_Hash_End)."""
        data = [_CMD_HASH_DATA.to_bytes(4, "big") + len(part).to_bytes(4, "big") + part for part in parts]
        for command in (_CMD_HASH_START.to_bytes(4, "big"), *data, _CMD_HASH_END.to_bytes(4, "big")):
            self._ctrl.sendall(command)
            assert self._ctrl.recv(4) == bytes(4)


def _connect(path: Path) -> socket.socket:
    end = time.monotonic() + _START_SECONDS
    while True:
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(str(path))
        except OSError:
            found.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            found.settimeout(60)
            return found
