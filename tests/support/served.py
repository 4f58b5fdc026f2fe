"""An engine of a test behind a raw socket, for programs in processes of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cusetpm.devices.rawsocket import RawSocket
from cusetpm.transport import Cancelled


class _Shared:
    """A `Transport` that gives commands to *execute* one at a time."""

    def __init__(self, execute: Callable[[bytes], bytes]) -> None:
        self._execute, self._lock = execute, threading.Lock()

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        with self._lock:
            return self._execute(command)

    def cancel(self) -> None:
        """Commands end by themselves."""

    def takes_long(self, command: bytes) -> bool:
        return False


@contextmanager
def served(execute: Callable[[bytes], bytes], directory: Path) -> Iterator[str]:
    """Give the path of a socket in *directory* whose commands *execute* answers."""
    socket = RawSocket(directory / "tpm.sock", _Shared(execute))
    socket.start()
    try:
        yield socket.path
    finally:
        socket.stop()
