"""What a program that serves does as a process: standard files, background, and saying that it is ready."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable


def occupy_standard_files() -> None:
    """No file that is opened later takes the number of standard input, output or error.

    Where one of them was closed, something of the state directory would else be what error messages go to.
    A program that is started finds closed what was closed.
    """
    while (number := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(number)


def detach() -> Callable[[], None]:
    """Return in a child process, in a session of its own; call the result when it is ready.

    This process waits until then and exits with 0; or with the child's status if that ends first.  No thread
    may have been started.
    """
    hear, tell = os.pipe()
    if os.fork():
        os.close(tell)
        if os.read(hear, 1):
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]) & 0xFF or 1)
    os.close(hear)
    os.setsid()

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.close(null)
        os.write(tell, b"\0")
        os.close(tell)

    return ready


def notify_ready() -> None:
    """The service manager knows that this program is ready, if it asked to be told (sd_notify(3))."""
    where = os.environ.pop("NOTIFY_SOCKET", "")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
        # A name that begins with @ is one in the abstract namespace.
        notice.connect("\0" + where[1:] if where.startswith("@") else where)
        notice.send(b"READY=1")
