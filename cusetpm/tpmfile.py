"""A TPM behind a file: a device such as /dev/tpm0, or a unix socket that carries raw commands."""

from __future__ import annotations

import os
import socket
import stat
from types import TracebackType

from hwtpm.errors import ProtocolError

_BUFFER = 4096  # what Linux' device and this project's TPM allow for a command or a response
_HEADER = 10


class TpmFile:
    """An open file or connection; a context manager that closes it.

    Raises OSError that names the path: EBUSY for a device that is open elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._fd = -1
        if stat.S_ISSOCK(os.stat(path).st_mode):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.connect(path)
            except OSError as error:
                self._socket.close()
                raise OSError(error.errno, error.strerror, path) from None
            self._fd = self._socket.fileno()
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> TpmFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)

    def execute(self, command: bytes) -> bytes:
        """Return the response to *command*; raises OSError, and ProtocolError if there is none."""
        try:
            view = memoryview(command)
            while view:
                view = view[os.write(self._fd, view) :]
            response = b""
            while len(response) < _HEADER or len(response) < int.from_bytes(response[2:6], "big"):
                piece = os.read(self._fd, _BUFFER)
                if not piece:
                    raise ProtocolError(f"{self.path}: no response from the TPM")
                response += piece
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        return response
