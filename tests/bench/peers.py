"""The two TPMs of a benchmark, and the one client that measures both.

A peer is a process behind a unix socket.  Commands are encoded before a turn and responses decoded after it,
so that nothing but exchanges happens in between: what the client computes would otherwise leave the TPM cold
caches, and the larger TPM the colder ones.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any, ClassVar

from hwtpm import client12
from hwtpm.client import Client
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.types.constants import TPM_RC_RETRY

Exchange = Callable[[bytes], bytes]

_START_SECONDS = 30
_MAX_RESPONSE = 4096
_RETRY = TPM_RC_RETRY.to_bytes(4, "big")
_FAILURE = bytes.fromhex("80010000000a00000101")


class Unavailable(Exception):
    """A peer cannot be started; says why, in one line."""


class Peer:
    """A TPM that is being measured, reached through *exchange*; *entropy* gives the client's nonces.

    Requests and authorizations are those of the client of its family.
    """

    FAMILY: ClassVar[str] = "2.0"
    CLIENT: ClassVar[type[Any]] = Client

    def __init__(self, name: str, exchange: Exchange, entropy: Callable[[int], bytes]) -> None:
        self.name, self.entropy = name, entropy
        self._exchange = exchange
        self.client = self.CLIENT(self.exchange, entropy)
        self.run: Callable[..., Any] = self.client.run

    def encode(self, request: Any, *authorizations: Any) -> bytes:
        """Return the octets of a command."""
        seen: list[bytes] = []

        def see(command: bytes) -> bytes:
            seen.append(command)
            return _FAILURE

        with contextlib.suppress(TpmError):
            self.CLIENT(see, bytes).run(request, *authorizations)
        return seen[0]

    def decode(self, response: bytes, request: Any, *authorizations: Any) -> Any:
        """Return what the response to a command of `encode` says; raises what `Client.run` does."""
        return self.CLIENT(lambda command: response, bytes).run(request, *authorizations)

    def exchange(self, command: bytes) -> bytes:
        """Return the response to *command*."""
        return self.timed(command)[0]

    def timed(self, command: bytes) -> tuple[bytes, int]:
        """Return the response, and the ns from the first octet sent to the last one received.

        A command that is answered with TPM_RC_RETRY is sent again, and its last turn counts.
        """
        while True:
            begin = perf_counter_ns()
            response = self._exchange(command)
            took = perf_counter_ns() - begin
            if response[6:10] != _RETRY:
                return response, took

    def flush(self, *handles: int) -> None:
        """The objects or sessions are gone."""
        for handle in handles:
            self.run(FlushContext(handle))


class Peer12(Peer):
    """A TPM 1.2."""

    FAMILY: ClassVar[str] = "1.2"
    CLIENT: ClassVar[type[Any]] = client12.Client


def cusetpm(family: str, directory: Path, stack: ExitStack) -> Exchange:
    """Return the way to a new vTPM of `cusetpm run`, through all of the boxes; *stack* ends it.

    Its state is in *directory*.  A TPM 1.2 has no endorsement key, as swtpm's has none.
    """
    options = ["--tpm", "1.2", "--no-endorsement-key"] if family == "1.2" else []
    # COMMAND tells where the socket is, and lives until its standard input ends.
    command = ["sh", "-c", 'echo "$CUSETPM_SOCKET"; exec cat']
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "cusetpm", "run", "--front-end", "socket", *options,
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


def swtpm(family: str, directory: Path, stack: ExitStack) -> Exchange:
    """Return the way to a new TPM of swtpm, its state in *directory*; *stack* ends it."""
    program = shutil.which("swtpm")
    if program is None:
        raise Unavailable("swtpm is not installed")
    data, control = directory / "data", directory / "ctrl"
    process = subprocess.Popen(
        [program, "socket", *(["--tpm2"] if family == "2.0" else []),
         "--server", f"type=unixio,path={data}", "--ctrl", f"type=unixio,path={control}",
         "--tpmstate", f"dir={directory}", "--flags", "not-need-init,startup-clear"],
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
