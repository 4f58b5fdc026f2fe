"""Unix sockets that carry raw commands: a whole command in, its whole response out.

This is the convention of go-tpm, which opens a new connection for each command; clients that keep
theirs, or send several commands ahead, are served as well.  What a client left in the TPM stays when
it goes, as with /dev/tpm0; with a `ManagedSocket` a connection is what an open /dev/tpmrm0 is.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from cusetpm.devices.session import TPM_BUFSIZE
from cusetpm.devices.streams import Connections, UnixEndpoint
from cusetpm.transport import Cancelled, Manager, NotExecuted, Space, Transport
from hwtpm.tpm2.dispatch import error_response

_SIZE_END = 6  # The size is octets 2 to 5 of a command.
_size_of = Struct(">I").unpack_from
_HEADER = 10


def tcti(path: str | os.PathLike[str]) -> str:
    """Return the TCTI configuration with which tpm2-tools reach the socket at *path*.

    tpm2-tss has no TCTI for a unix socket with nothing but commands, so its `cmd` TCTI runs a relay
    (see cusetpm.devices.relay) for as long as the tool runs.
    """
    relay = Path(__file__).with_name("relay.py")
    return "cmd:exec " + shlex.join([sys.executable, "-I", "-S", os.fspath(relay), os.path.abspath(path)])


class RawSocket:
    """A listening socket at a path, in front of a transport; one thread for each connection."""

    def __init__(self, path: str | os.PathLike[str], transport: Transport) -> None:
        self._endpoint = UnixEndpoint(path)
        self.path = self._endpoint.path
        self._transport = transport
        self._connections = Connections(self.path, self._serve)
        self._executing: dict[socket.socket, Transport] = {}
        self.heeds: ManagedSocket | None = None
        """Clients of it that have gone by then have gone before a command from here begins."""

    def start(self) -> None:
        """Connections are accepted from now on, at a socket of mode 0600; raises as `UnixEndpoint.listen`."""
        self._connections.listen(self._endpoint)

    def stop(self) -> None:
        """The socket is gone, every connection closed, every thread joined; safe to call twice.

        A command in progress is asked to end.
        """
        self._connections.stop(self._cancel)

    def _cancel(self) -> None:
        for transport in list(self._executing.values()):
            transport.cancel()

    def _serve(self, connection: socket.socket) -> None:
        with self._way(connection) as transport:
            self._exchange(connection, transport)

    @contextlib.contextmanager
    def _way(self, connection: socket.socket) -> Iterator[Transport]:
        """Give the way to the TPM that *connection* has while it lasts."""
        yield self._transport

    def _gone(self, connection: socket.socket) -> Cancelled | None:
        """Return what tells that a long command should end, as *connection* has; None if it need not."""
        return None

    def _exchange(self, connection: socket.socket, transport: Transport) -> None:
        """Serve one connection until its end, or until a header that cannot be right."""
        receive, send, execute = connection.recv, connection.sendall, transport.execute
        executing, takes_long = self._executing, transport.takes_long
        stopping, gone = self._connections.stopping.is_set, self._gone(connection)
        data = b""
        while True:
            piece = receive(TPM_BUFSIZE)
            if not piece:
                return
            data = data + piece if data else piece
            while len(data) >= _SIZE_END:
                (size,) = _size_of(data, 2)
                if not _HEADER <= size <= TPM_BUFSIZE:
                    # Where the next command starts is unknown.  The TPM itself says what is wrong: the
                    # octets passed on are not as many as their header claims.
                    send(self._transport.execute(data[:_HEADER]))
                    return
                if len(data) < size:
                    break
                command, data = (data, b"") if len(data) == size else (data[:size], data[size:])
                if self.heeds is not None:
                    self.heeds.heed()
                executing[connection] = transport
                try:
                    response = execute(command, 0, gone if gone and takes_long(command) else stopping)
                except NotExecuted as refusal:
                    response = error_response(refusal.response_code)
                finally:
                    del executing[connection]
                send(response)


class ManagedSocket(RawSocket):
    """A socket of which each connection has a space of its own, from *manager*."""

    def __init__(self, path: str | os.PathLike[str], manager: Manager) -> None:
        super().__init__(path, manager)
        self._spaces = manager
        self._open: dict[int, tuple[socket.socket, Space]] = {}  # by file descriptor
        self._gone_ones = select.poll()
        self._lock = threading.Lock()  # Over both.

    def heed(self) -> None:
        """The spaces of clients that have gone are closed, unless a client has left a command behind."""
        if not self._open:
            return
        with self._lock:
            for fd, _ in self._gone_ones.poll(0):
                connection, space = self._open[fd]
                try:
                    left = connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except OSError:
                    left = b""
                if not left:
                    space.close()

    @contextlib.contextmanager
    def _way(self, connection: socket.socket) -> Iterator[Transport]:
        space = self._spaces.open()
        fd = connection.fileno()
        with self._lock:
            self._open[fd] = connection, space
            self._gone_ones.register(fd, 0)  # A peer that only sends no more gives no POLLHUP.
        try:
            yield space
        finally:
            with self._lock:
                self._gone_ones.unregister(fd)
                del self._open[fd]
            space.close()

    def _gone(self, connection: socket.socket) -> Cancelled:
        """The command ends when the client has gone, too: what it would leave is nobody's."""
        poller = select.poll()
        poller.register(connection, 0)  # A peer that only sends no more gives no POLLHUP.
        return lambda: self._connections.stopping.is_set() or bool(poller.poll(0))
