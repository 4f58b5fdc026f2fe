"""TCP ports for servers that take theirs by number."""

from __future__ import annotations

import socket


def free_pair() -> int:
    """Return a port that is free now, as the next one is."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
