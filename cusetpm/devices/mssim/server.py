"""The simulator's two TCP ports: a blocking thread for each connection."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from cusetpm.devices.mssim.protocol import (
    CommandPort,
    End,
    Execute,
    Hangup,
    PlatformPort,
    Simulator,
    executed,
)
from cusetpm.devices.streams import Connections, TcpEndpoint
from cusetpm.devices.swtpm.control import Control

_RECEIVE: Final = 65536


class SimulatorServer:
    """Both ports of a simulator that is the TPM 2.0 behind *control*, at *host* and *port* and the next one.

    *on_end* is called when a client stops the simulator, and with *end_with_client* when one goes.
    """

    def __init__(self, control: Control, host: str, port: int, on_end: Callable[[], None], *,
                 end_with_client: bool = False) -> None:
        self._simulator = Simulator(control)
        self._places = TcpEndpoint(host, port), TcpEndpoint(host, port + 1)
        self._on_end = on_end
        self._end_with_client = end_with_client
        self._commands = Connections("simulator", self._serve_commands)
        self._platform = Connections("simulator's platform", self._serve_platform)

    def start(self) -> None:
        """Clients are served from now on; raises as `TcpEndpoint.listen`."""
        # A client connects to the command port first, and expects to find the other one then.
        self._platform.listen(self._places[1])
        self._commands.listen(self._places[0])

    def stop(self) -> None:
        """Every connection is closed and every thread joined; a command in progress is asked to end."""
        self._commands.stop(self._simulator.control.cancel)
        self._platform.stop()

    def _serve_commands(self, connection: socket.socket) -> None:
        try:
            self._converse(connection, CommandPort(self._simulator))
        finally:
            if self._end_with_client:
                self._on_end()

    def _serve_platform(self, connection: socket.socket) -> None:
        self._converse(connection, PlatformPort(self._simulator))

    def _converse(self, connection: socket.socket, port: CommandPort | PlatformPort) -> None:
        while data := connection.recv(_RECEIVE):
            for action in port.receive(data):
                if isinstance(action, bytes):
                    connection.sendall(action)
                elif isinstance(action, Execute):
                    connection.sendall(executed(self._execute(action)))
                else:
                    if isinstance(action, End):
                        self._on_end()
                    assert isinstance(action, End | Hangup)
                    return

    def _execute(self, action: Execute) -> bytes:
        simulator = self._simulator
        if not simulator.control.machine.running:
            return b""
        return simulator.control.execute(action.command, self._cancelled, locality=action.locality)

    def _cancelled(self) -> bool:
        return self._simulator.cancelled or self._commands.stopping.is_set()
