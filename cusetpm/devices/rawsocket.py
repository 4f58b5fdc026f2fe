"""Unix sockets that carry raw commands: a whole command in, its whole response out.

This is the convention of go-tpm, which opens a new connection for each command; clients that keep
theirs, or send several commands ahead, are served as well.  What a client left in the TPM stays when
it goes, as with /dev/tpm0; with a `ManagedSocket` a connection is what an open /dev/tpmrm0 is.
"""

from __future__ import annotations

import contextlib
import errno
import logging
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
from cusetpm.transport import Cancelled, Manager, NotExecuted, Transport
from hwtpm.tpm2.dispatch import error_response

log = logging.getLogger(__name__)

MAX_PATH = 107
"""The longest path of a unix socket on Linux, in octets."""

_BACKLOG = 4096
"""How many connections may wait to be accepted: the next gets EAGAIN from a connect() that does not block."""

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
        self.path = os.path.abspath(path)
        self._transport = transport
        self._listener: socket.socket | None = None
        self._inode = (0, 0)
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._executing: dict[socket.socket, Transport] = {}
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None

    def start(self) -> None:
        """Connections are accepted from now on, at a socket of mode 0600.

        A socket file that a killed process left behind is replaced.  Raises OSError: ENAMETOOLONG for
        a path of more than 107 octets, EADDRINUSE if somebody listens there, or what bind() says.
        """
        if len(os.fsencode(self.path)) > MAX_PATH:
            why = f"the path of a unix socket has at most {MAX_PATH} octets"
            raise OSError(errno.ENAMETOOLONG, why, self.path)
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self.path)
            # Nobody can connect before listen(), so the mode is never too open.
            os.chmod(self.path, 0o600)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise OSError(error.errno, error.strerror, self.path) from None
        found = os.stat(self.path)
        self._inode = (found.st_dev, found.st_ino)
        self._listener = listener
        self._stopping.clear()
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name=f"accept {self.path}", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """The socket is gone, every connection closed, every thread joined; safe to call twice.

        A command in progress is asked to end.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(self.path)
        self._stopping.set()
        listener.shutdown(socket.SHUT_RDWR)  # This, not close(), ends a blocking accept().
        assert self._acceptor is not None
        self._acceptor.join()
        listener.close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for transport in list(self._executing.values()):
            transport.cancel()
        for thread in connections.values():
            thread.join()

    def _remove_stale(self) -> None:
        """A socket file at the path that nobody listens to is removed."""
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            probe.connect(self.path)
        except ConnectionRefusedError:
            # Anything but a socket refuses as well, and then bind() says that the path is taken.
            if Path(self.path).is_socket():
                os.unlink(self.path)
        except OSError:
            pass
        finally:
            probe.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED):
                    log.warning("%s: no connection accepted: %s", self.path, error.strerror)
                    self._stopping.wait(0.1)
                    continue
                return
            thread = threading.Thread(
                target=self._serve, args=(connection,), name=f"serve {self.path}", daemon=True
            )
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, self._way() as transport:
                self._exchange(connection, transport)
        except OSError as error:
            log.debug("%s: a client went away: %s", self.path, error)
        except Exception:
            # A transport that fails ends this connection, never the front end.
            log.exception("%s: a command failed", self.path)
        finally:
            with self._lock:
                self._connections.pop(connection, None)

    @contextlib.contextmanager
    def _way(self) -> Iterator[Transport]:
        """Give the way to the TPM that a connection has while it lasts."""
        yield self._transport

    def _ends(self, connection: socket.socket) -> Cancelled:
        """Return what tells whether the command that *connection* has sent should end."""
        return self._stopping.is_set

    def _exchange(self, connection: socket.socket, transport: Transport) -> None:
        """Serve one connection until its end, or until a header that cannot be right."""
        receive, send, execute = connection.recv, connection.sendall, transport.execute
        executing, ends = self._executing, self._ends(connection)
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
                executing[connection] = transport
                try:
                    response = execute(command, 0, ends)
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

    @contextlib.contextmanager
    def _way(self) -> Iterator[Transport]:
        space = self._spaces.open()
        try:
            yield space
        finally:
            space.close()

    def _ends(self, connection: socket.socket) -> Cancelled:
        """The command ends when the client has gone, too: what it would leave is nobody's."""
        poller = select.poll()
        poller.register(connection, 0)  # A peer that only sends no more gives no POLLHUP.
        return lambda: self._stopping.is_set() or bool(poller.poll(0))
