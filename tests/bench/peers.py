"""The two TPMs of a benchmark, and the one client that measures both.

A peer is a process behind a unix socket.  `Peer` sends it typed requests and knows how long the exchanges
took that a case asked it to time: from the first octet sent to the last one received, nothing of the client's
own encoding, authorization and checking.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TypeVar

from hwtpm.client import Authorization, Client, Session
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.types.constants import TPM_RC_RETRY
from hwtpm.wire import Wire

R = TypeVar("R", bound=Wire)
Exchange = Callable[[bytes], bytes]

_START_SECONDS = 30
_MAX_RESPONSE = 4096
_RETRY = TPM_RC_RETRY.to_bytes(4, "big")


class Unavailable(Exception):
    """A peer cannot be started; says why, in one line."""


class Peer:
    """A TPM that is being measured, reached through *exchange*."""

    def __init__(self, name: str, exchange: Exchange, entropy: Callable[[int], bytes]) -> None:
        self.name = name
        self.retries = 0  # TPM_RC_RETRY answers; the command is sent again, and its last turn counts
        self.sample = 0  # ns that the timed exchanges have taken since the runner set it to zero
        self._last = 0
        self._exchange = exchange
        self._client = Client(self._execute, entropy)
        self.names = self._client.names
        self.run = self._client.run
        self.start_session = self._client.start_session

    def timed(self, request: Command[R], *authorizations: Authorization) -> R:
        """Return the response to *request*; the exchange counts."""
        response = self._client.run(request, *authorizations)
        self.sample += self._last
        return response

    def timed_session(self, *arguments: Any) -> Session:
        """Return a new session, see `Client.start_session`; the exchange counts."""
        session = self._client.start_session(*arguments)
        self.sample += self._last
        return session

    def flush(self, *handles: int) -> None:
        """The objects or sessions are gone."""
        for handle in handles:
            self.run(FlushContext(handle))

    def _execute(self, command: bytes) -> bytes:
        while True:
            begin = perf_counter_ns()
            response = self._exchange(command)
            self._last = perf_counter_ns() - begin
            if response[6:10] != _RETRY:
                return response
            self.retries += 1


def cusetpm(directory: Path, stack: ExitStack) -> Exchange:
    """Return the way to a new vTPM of `cusetpm run`, through all of the boxes; *stack* ends it.

    Its state is in *directory*.
    """
    # COMMAND tells where the socket is, and lives until its standard input ends.
    command = ["sh", "-c", 'echo "$CUSETPM_SOCKET"; exec cat']
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "cusetpm", "run", "--front-end", "socket",
         "--state-dir", directory / "state", "--", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(_stop, process)
    stack.callback(process.stdout.close)
    stack.callback(process.stdin.close)
    path = process.stdout.readline().strip()
    if not path:
        raise Unavailable("cusetpm run did not start")
    return _connect("cusetpm", path, process, stack)


def swtpm(directory: Path, stack: ExitStack) -> Exchange:
    """Return the way to a new TPM 2.0 of swtpm, its state in *directory*; *stack* ends it."""
    program = shutil.which("swtpm")
    if program is None:
        raise Unavailable("swtpm is not installed")
    data, control = directory / "data", directory / "ctrl"
    process = subprocess.Popen(
        [program, "socket", "--tpm2", "--server", f"type=unixio,path={data}", "--ctrl",
         f"type=unixio,path={control}", "--tpmstate", f"dir={directory}", "--flags",
         "not-need-init,startup-clear"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # It does not always heed SIGTERM, and nobody needs its state.
    stack.callback(process.wait)
    stack.callback(process.kill)
    return _connect("swtpm", str(data), process, stack)


def _stop(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _connect(name: str, path: str, process: subprocess.Popen[Any], stack: ExitStack) -> Exchange:
    end = time.monotonic() + _START_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            break
        except OSError as error:
            connection.close()
            if process.poll() is not None:
                raise Unavailable(f"{name} ended with {process.returncode}") from error
            if time.monotonic() > end:
                raise Unavailable(f"{path}: {error.strerror}") from error
            time.sleep(0.01)
    stack.enter_context(connection)
    send, receive = connection.sendall, connection.recv

    def exchange(command: bytes) -> bytes:
        send(command)
        response = receive(_MAX_RESPONSE)
        while len(response) < 6 or len(response) < int.from_bytes(response[2:6], "big"):
            piece = receive(_MAX_RESPONSE)
            if not piece:
                raise ConnectionError(f"{path}: the TPM has gone")
            response += piece
        return response

    return exchange
