"""The sockets of swtpm's protocols: a blocking thread for each connection of either channel.

swtpm serves one client of each channel at a time and lets the next one wait.  Here all are served, one
command after the other, so that nobody waits for a client that keeps its connection, as QEMU does.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from cusetpm.devices.streams import Connections, Endpoint, open_socket
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.swtpm.data import DataChannel
from cusetpm.devices.swtpm.protocol import TIMEOUT_S, Attach, ControlChannel, End, Hangup
from cusetpm.transport import Cancelled, Transport

CTRL: Final = ".ctrl"
"""Where tpm2-tss looks for the control channel: at the path of the other one, with this after it."""

_RECEIVE: Final = 65536
_MAX_FDS: Final = 8  # that one message may bring; only the first can be of use


class ControlServer:
    """The control channel of *control*.

    *attach* is given the socket of a client that passes one for commands; *on_end* is called when the client
    ends the program, and with *end_with_client* also when one goes, from a thread of this server.
    """

    def __init__(self, control: Control, name: str, attach: Callable[[socket.socket], None],
                 on_end: Callable[[], None], *, end_with_client: bool = False) -> None:
        self._control = control
        self._attach = attach
        self._on_end = on_end
        self._end_with_client = end_with_client
        self._connections = Connections(name, self._serve)
        self.adopt = self._connections.adopt
        self.listen = self._connections.listen
        self.stop = self._connections.stop

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._converse(connection, ControlChannel(self._control))
        finally:
            if self._end_with_client:
                self._on_end()

    def _converse(self, connection: socket.socket, channel: ControlChannel) -> None:
        deadline = 0.0
        while True:
            waited = channel.waiting
            connection.settimeout(max(deadline - time.monotonic(), 0.001) if waited else None)
            try:
                data, fds, _, _ = socket.recv_fds(connection, _RECEIVE, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            except TimeoutError:
                return
            connection.settimeout(None)
            try:
                for action in channel.receive(data, fds) if data else channel.eof():
                    if isinstance(action, bytes):
                        connection.sendall(action)
                    elif isinstance(action, Attach):
                        self._attach(open_socket(action.fd))
                        fds.remove(action.fd)
                    elif isinstance(action, End):
                        self._on_end()
                    elif isinstance(action, Hangup):
                        return
            finally:
                for fd in fds:
                    os.close(fd)
            if not data:
                return
            if channel.waiting and not waited:
                deadline = time.monotonic() + TIMEOUT_S



class DataServer:
    """The channel for commands of the TPM behind *control*.

    A connection ends after one command if *once*; *on_gone* is called when one has ended, from its thread.
    """

    def __init__(self, control: Control, name: str, *, once: bool = False,
                 on_gone: Callable[[], None] | None = None) -> None:
        self._control = control
        self._once = once
        self._on_gone = on_gone
        self._passed: socket.socket | None = None
        self._connections = Connections(name, self._serve)
        self.adopt = self._connections.adopt
        self.listen = self._connections.listen

    def allow_passing(self) -> None:
        """A client of the control channel may pass a connection, one at a time."""
        self._control.data_taken = self._is_taken

    def _is_taken(self) -> bool:
        passed = self._passed
        if passed is None:
            return False
        # Its thread may not have seen yet that the client has gone, or be about to end.
        poller = select.poll()
        try:
            poller.register(passed, 0)
        except ValueError:
            return False
        return not poller.poll(0)

    def attach(self, connection: socket.socket) -> None:
        """*connection* was passed over the control channel."""
        self._passed = connection
        self.adopt(connection)

    def stop(self) -> None:
        """Every connection is closed and every thread joined; a command in progress is asked to end."""
        self._connections.stop(self._control.cancel)

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._converse(connection)
        finally:
            if connection is self._passed:
                self._passed = None
            if self._on_gone is not None:
                self._on_gone()

    def _converse(self, connection: socket.socket) -> None:
        channel = DataChannel(self._control)
        while data := connection.recv(_RECEIVE):
            for command in channel.receive(data):
                connection.sendall(channel.execute(command, self._connections.stopping.is_set))
                if self._once:
                    return


class Located:
    """A `Transport` whose commands come from the locality that was set through the control channel."""

    def __init__(self, control: Control, transport: Transport) -> None:
        self._control = control
        self.cancel = control.cancel
        self.takes_long = transport.takes_long

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*; *locality* does not count."""
        return self._control.execute(command, cancelled)


def serve_control(control: Control, endpoint: Endpoint) -> ControlServer:
    """Return the running server of a control channel that cannot end the program or pass a data channel."""
    server = ControlServer(control, str(endpoint), lambda connection: connection.close(), lambda: None)
    server.listen(endpoint)
    return server
