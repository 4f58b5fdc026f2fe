"""What one open file of Linux' /dev/tpmN does, without I/O.

Two rules for this file.  Everything a client can see of a TPM device file is decided here, so that
all front ends behave alike.  And nothing here waits: `Session.write` says what to execute, the front
end executes it wherever it likes, and brings the outcome with `Session.response` or `Session.failed`.

The life of a session, which is the kernel's own (drivers/char/tpm/tpm-dev-common.c):

    idle --write--> executing --response--> answered --read, all of it--> idle
                                            answered --read, a part-----> partly read --write--> executing
                        answered, partly read --120 s--> idle

A write is refused with EBUSY while executing or answered, but not once any part was read.
Calls on one session are serialised by its front end.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cusetpm.transport import Spaces, Transport

Clock = Callable[[], float]

TPM_BUFSIZE: Final = 4096
"""The largest command and response, in octets."""

READ_TIMEOUT_S: Final = 120.0
"""How long the kernel keeps a response that nobody reads, in seconds."""

READABLE: Final = select.POLLIN | select.POLLRDNORM
WRITABLE: Final = select.POLLOUT | select.POLLWRNORM

_SIZE_END = 6  # A header is tag (2 octets), size (4), code (4); the kernel looks at the first two only.


class Submit(NamedTuple):
    """A command to execute: what `Transport.execute` takes."""

    command: bytes
    locality: int


def refused(code: int) -> OSError:
    """Return the error a system call on the device file ends with."""
    return OSError(code, os.strerror(code))


class Device:
    """A device number as /dev/tpmN has one: at most one session is open at a time."""

    __slots__ = ("_clock", "_locality", "_taken", "_transport")

    def __init__(self, transport: Transport, clock: Clock = time.monotonic, locality: int = 0) -> None:
        """Make a closed device that leads to *transport*; *clock* returns seconds that never go back."""
        self._transport = transport
        self._clock = clock
        self._locality = locality
        self._taken = False

    def open(self) -> Session:
        """Open the device.  Raises OSError EBUSY while another session is open."""
        if self._taken:
            raise refused(errno.EBUSY)
        self._taken = True
        return Session(self._transport, self._clock, self._locality, self._released)

    def _released(self) -> None:
        self._taken = False


class SharedDevice:
    """A device number as /dev/tpmrmN has one: any number of sessions, each with a space of its own."""

    __slots__ = ("_clock", "_spaces")

    def __init__(self, spaces: Spaces, clock: Clock = time.monotonic) -> None:
        """Make a device whose spaces are of *spaces*; *clock* returns seconds that never go back."""
        self._spaces = spaces
        self._clock = clock

    def open(self) -> Session:
        """Open the device."""
        space = self._spaces.open()
        return Session(space, self._clock, 0, space.close)


AnyDevice = Device | SharedDevice


class Session:
    """One open file of a device; what it submits is for `transport`."""

    __slots__ = (
        "_answered_at",
        "_clock",
        "_error",
        "_locality",
        "_partly_read",
        "_released",
        "_response",
        "executing",
        "transport",
    )

    def __init__(
        self, transport: Transport, clock: Clock, locality: int, released: Callable[[], None]
    ) -> None:
        self.transport = transport
        self._clock = clock
        self._locality = locality
        self._released: Callable[[], None] | None = released
        self._response = b""
        self._error = 0
        self._partly_read = False
        self._answered_at = 0.0
        self.executing = False

    def write(self, data: bytes) -> Submit:
        """Accept a command; it is executing from now on.

        The whole of *data* counts as written; octets after the header's size are dropped.  Raises
        OSError: E2BIG for more than 4096 octets; EBUSY while a command executes or a response waits
        unread; EINVAL for fewer than 6 octets, or fewer than the header says; ENODATA if the header
        says none.
        """
        length = len(data)
        if length > TPM_BUFSIZE:
            raise refused(errno.E2BIG)
        if self.executing or (self._pending() and not self._partly_read):
            raise refused(errno.EBUSY)
        size = int.from_bytes(data[2:_SIZE_END], "big")
        if length < _SIZE_END or length < size:
            raise refused(errno.EINVAL)
        self._forget()
        if not size:
            raise refused(errno.ENODATA)
        self.executing = True
        return Submit(data if size == length else data[:size], self._locality)

    def response(self, response: bytes) -> None:
        """Take the response to the command that executes; reads return it from now on."""
        if self.executing:
            self.executing = False
            self._response = response
            self._answered_at = self._clock()

    def failed(self, code: int, *, queued: bool) -> None:
        """End the command that executes without a response: the TPM is gone, or it was not executed.

        *code* is an errno value.  The next read reports it if the command was *queued*, because its
        write has long returned; otherwise the front end reports it as the outcome of the write.
        """
        if self.executing:
            self.executing = False
            if queued:
                self._error = code
                self._answered_at = self._clock()

    def read(self, size: int) -> bytes:
        """Return at most *size* octets of the response; none if there is no response.

        What was returned is gone.  Raises OSError with the code of a queued command that failed.
        """
        if not self._pending():
            return b""
        if self._error:
            code, self._error = self._error, 0
            raise refused(code)
        response = self._response
        if size >= len(response):
            self._forget()
            return response
        # As in the kernel, a read that asks for nothing drops the response.
        self._response = response[size:] if size > 0 else b""
        self._partly_read = size > 0
        return response[:size]

    def poll(self) -> int:
        """Return the poll events that hold: readable if a response waits, writable if not."""
        return READABLE if self._pending() else WRITABLE

    def release(self) -> None:
        """Close: drop everything, and let the device be opened again, or end the space."""
        self.executing = False
        self._forget()
        released, self._released = self._released, None
        if released is not None:
            released()

    def _pending(self) -> bool:
        if not self._response and not self._error:
            return False
        if self._clock() - self._answered_at < READ_TIMEOUT_S:
            return True
        self._forget()
        return False

    def _forget(self) -> None:
        self._response = b""
        self._error = 0
        self._partly_read = False
