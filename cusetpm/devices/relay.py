"""Relays commands from standard input to a unix socket and responses back: `relay.py PATH`.

The `cmd` TCTI of tpm2-tools runs it once for each tool, with `python -I -S`: it stands alone, and
starts in 10 ms because it takes `_signal` and `_socket`, without the 7 ms that the modules over them cost.
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_DFL, SIG_UNBLOCK, SIGTERM, pthread_sigmask, signal  # type: ignore[import-not-found]
from _socket import AF_UNIX, SOCK_STREAM, socket

_HEADER = 10


def _size(message: bytes) -> int:
    return int.from_bytes(message[2:6], "big") if len(message) >= _HEADER else _HEADER


def relay(path: str) -> None:
    """Carry commands from standard input and their responses to standard output, until either ends."""
    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.connect(path)
    while True:
        command = b""
        while len(command) < _size(command):
            piece = os.read(0, _size(command) - len(command))
            if not piece:
                return
            command += piece
        connection.sendall(command)
        response = b""
        while len(response) < _size(response):
            piece = connection.recv(_size(response) - len(response))
            if not piece:
                return
            response += piece
        os.write(1, response)


if __name__ == "__main__":
    # The TCTI ends its command with SIGTERM and waits for that, which a tool that ignores it has handed down.
    signal(SIGTERM, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, [SIGTERM])
    try:
        relay(sys.argv[1])
    except OSError as error:
        sys.exit(f"cusetpm: {sys.argv[1]}: {error.strerror}")
