"""Stream sockets of a front end: where they listen, and a thread for each connection.

`Endpoints` say where: a path, a TCP port, or a socket that somebody else made and handed over.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

MAX_PATH = 107
"""The longest path of a unix socket on Linux, in octets."""

_BACKLOG = 4096
"""How many connections may wait to be accepted: the next gets EAGAIN from a connect() that does not block."""

_RETRY_S = 0.1  # until the next try to accept where the system has run out of something


class Endpoint(Protocol):
    """A place where clients connect."""

    def listen(self) -> socket.socket:
        """Return a socket that listens.  Raises OSError that names the place and says what is wrong."""
        ...

    def remove(self) -> None:
        """Nothing is left of it, once the socket is closed."""
        ...


class UnixEndpoint:
    """A unix socket at *path* with the permissions *mode*, of user *uid* and group *gid* (-1: ours)."""

    def __init__(self, path: str | os.PathLike[str], mode: int = 0o600, uid: int = -1, gid: int = -1) -> None:
        self.path = os.path.abspath(path)
        self._mode, self._uid, self._gid = mode, uid, gid
        self._inode = (0, 0)

    def __str__(self) -> str:
        return self.path

    def listen(self) -> socket.socket:
        """Return a socket that listens; the file that a killed process left behind is replaced.

        Raises OSError: ENAMETOOLONG for a path of more than 107 octets, EADDRINUSE if somebody listens there,
        or what the system says.
        """
        if len(os.fsencode(self.path)) > MAX_PATH:
            why = f"the path of a unix socket has at most {MAX_PATH} octets"
            raise OSError(errno.ENAMETOOLONG, why, self.path)
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found = self._bind(listener)
        except OSError as error:
            listener.close()
            code = errno.EADDRINUSE if error.errno == errno.EEXIST else error.errno
            raise OSError(code, os.strerror(code or 0), self.path) from None
        self._inode = (found.st_dev, found.st_ino)
        return listener

    def _bind(self, listener: socket.socket) -> os.stat_result:
        """*listener* listens, and only then gets its name, so that who sees the file can connect at once."""
        directory, name = os.path.split(self.path)
        hidden = f".{os.urandom(8).hex()}"
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{place}/{hidden}")
            try:
                os.chmod(hidden, self._mode, dir_fd=place)
                if self._uid != -1 or self._gid != -1:
                    os.chown(hidden, self._uid, self._gid, dir_fd=place)
                listener.listen(_BACKLOG)
                os.link(hidden, name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
                return os.stat(hidden, dir_fd=place)
            finally:
                os.unlink(hidden, dir_fd=place)
        finally:
            os.close(place)

    def remove(self) -> None:
        """The file is gone, unless it is another's by now."""
        with contextlib.suppress(OSError):
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(self.path)

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


class TcpEndpoint:
    """TCP port *port* of the address *host*, numeric; *interface* names that of a link-local IPv6 address."""

    def __init__(self, host: str, port: int, interface: str = "") -> None:
        self.host, self.port = host, port
        self._interface = interface

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """Return a socket that listens; `port` is the one it has, if it was 0."""
        host = f"{self.host}%{self._interface}" if self._interface else self.host
        try:
            (family, kind, proto, _, address), *_ = socket.getaddrinfo(
                host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise OSError(errno.EADDRNOTAVAIL, f"not an address: {error.strerror}", str(self)) from None
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # of its connections, too
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise OSError(error.errno, error.strerror, str(self)) from None
        self.port = listener.getsockname()[1]
        return listener

    def remove(self) -> None:
        """A port leaves nothing."""


class InheritedEndpoint:
    """A listening socket that whoever started this process made: file descriptor *fd*."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __str__(self) -> str:
        return f"file descriptor {self.fd}"

    def listen(self) -> socket.socket:
        """Return it."""
        return open_socket(self.fd)

    def remove(self) -> None:
        """It is not ours to remove."""


def open_socket(fd: int) -> socket.socket:
    """Return the socket whose file descriptor is *fd*; it is not handed down to other programs any more.

    Raises OSError, EBADF or ENOTSOCK, with a name that says which.
    """
    try:
        found = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"file descriptor {fd}") from None
    return found


class Connections:
    """Serves connections, each in a thread of its own: *serve* is called with it, and its end closes it.

    *name* is that of the threads.  `stopping` is set once they are to end.
    """

    def __init__(self, name: str, serve: Callable[[socket.socket], None]) -> None:
        self.stopping = threading.Event()
        self._name = name
        self._serve_one = serve
        self._endpoint: Endpoint | None = None
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._threads: dict[socket.socket, threading.Thread] = {}

    def listen(self, endpoint: Endpoint) -> None:
        """Connections to *endpoint* are accepted from now on; raises what `Endpoint.listen` does."""
        listener = endpoint.listen()
        self.stopping.clear()
        self._endpoint, self._listener = endpoint, listener
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name=f"accept {self._name}", daemon=True
        )
        self._acceptor.start()

    def adopt(self, connection: socket.socket) -> None:
        """*connection* is served from now on."""
        thread = threading.Thread(
            target=self._serve, args=(connection,), name=f"serve {self._name}", daemon=True
        )
        with self._lock:
            self._threads[connection] = thread
        thread.start()

    def stop(self, hurry: Callable[[], None] = lambda: None) -> None:
        """Nobody can connect, every connection is closed, every thread joined; safe to call twice.

        *hurry* is called when no connection can send anything any more, and before the threads are joined.
        """
        self.stopping.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            assert self._endpoint is not None
            assert self._acceptor is not None
            self._endpoint.remove()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # This, not close(), ends a blocking accept().
            self._acceptor.join()
            listener.close()
        with self._lock:
            threads = dict(self._threads)
        for connection in threads:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        hurry()
        for thread in threads.values():
            if thread is not threading.current_thread():
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED):
                    log.warning("%s: no connection accepted: %s", self._name, error.strerror)
                    self.stopping.wait(_RETRY_S)
                    continue
                return
            self.adopt(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve_one(connection)
        except OSError as error:
            log.debug("%s: a client went away: %s", self._name, error)
        except Exception:
            # A transport that fails ends this connection, never the front end.
            log.exception("%s: a command failed", self._name)
        finally:
            with self._lock:
                self._threads.pop(connection, None)
