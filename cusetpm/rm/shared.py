"""One TPM that spaces and the user of /dev/tpmN share: whose turn it is, and what all of them ask of it."""

from __future__ import annotations

import logging
from collections import deque
from threading import Lock
from typing import Final, Protocol

from cusetpm.rm import messages
from cusetpm.rm.messages import Attributes
from cusetpm.rm.places import Places
from cusetpm.transport import Cancelled, Transport
from hwtpm.errors import ProtocolError
from hwtpm.tpm2.types.constants import (
    TPM_CAP_COMMANDS,
    TPM_CAP_HANDLES,
    TPM_CAP_TPM_PROPERTIES,
    TPM_PT_ACTIVE_SESSIONS_MAX,
    TPM_PT_HR_ACTIVE_AVAIL,
    TPM_CC_Startup,
)
from hwtpm.tpm2.types.handles import ACTIVE_SESSION_FIRST

log = logging.getLogger(__name__)

_STARTUP: Final = TPM_CC_Startup.to_bytes(4, "big")


def _no() -> bool:
    return False


class Member(Protocol):
    """A space, as the TPM that it shares has to know it.  Its methods are called during somebody's turn."""

    def check(self) -> None:
        """What the TPM has flushed without being told to is not in the space either."""
        ...

    def flush(self) -> None:
        """What is in the space is flushed."""
        ...


class SharedTpm:
    """The TPM 2.0 behind *transport*.

    Everything but `enter`, `closed`, `takes_long` and `execute_raw`, which is a turn, takes a turn.
    """

    def __init__(self, transport: Transport) -> None:
        self.places = Places(lambda command: transport.execute(command, 0, _no))
        self.cancel = transport.cancel
        self.members: set[Member] = set()
        self._transport = transport
        self._lock = Lock()  # From the first context that a command needs to the last that it leaves.
        self._closing: deque[Member] = deque()
        self._attributes: dict[int, Attributes] = {}
        self._sweeping = {_STARTUP}  # codes of commands that may flush much
        self._swept = False  # the TPM has started anew, and it is not known yet what is left

    def enter(self) -> None:
        """It is the caller's turn; what was closed before has been flushed."""
        self._lock.acquire()
        if self._closing:
            self._flush_closed()

    def leave(self) -> None:
        """It is somebody else's turn."""
        self._lock.release()
        # A space that was closed during the turn could not be flushed then.
        while self._closing and self._lock.acquire(blocking=False):
            try:
                self._flush_closed()
            finally:
                self._lock.release()

    def closed(self, member: Member) -> None:
        """*member* is flushed now, or by whoever has the turn."""
        if member in self.members:
            self.members.discard(member)
            self._closing.append(member)
            if self._lock.acquire(blocking=False):
                self.leave()

    def _flush_closed(self) -> None:
        while self._closing:
            try:
                self._closing.popleft().flush()
            except ProtocolError as error:
                log.debug("a closed space cannot be flushed: %s", error)  # With the TPM, its places are gone.

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may run for more than about a millisecond, or wait for one that does."""
        return self._lock.locked() or self._transport.takes_long(command)

    def execute_raw(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*, which finds the TPM as if there were no spaces."""
        self.enter()
        try:
            self.places.give_way()
            return self.execute(command, locality, cancelled)
        finally:
            self.leave()

    def execute(self, command: bytes, locality: int, cancelled: Cancelled | None) -> bytes:
        """Return the TPM's response to *command*; spaces have forgotten whatever else it flushed."""
        response = self._transport.execute(command, locality, cancelled)
        code = command[6:10]
        if (self._swept or code in self._sweeping) and not messages.code_of(response):
            if code == _STARTUP:
                self.lose()
            if self._swept:
                self._swept = False
                self.places.check_sessions({messages.index(handle) for handle in self.saved_sessions()})
            for member in list(self.members):
                member.check()
        return response

    def lose(self) -> None:
        """The TPM has nothing loaded any more, and cannot be asked what it would still load."""
        self.places.lose()
        self._swept = True

    def attributes(self) -> dict[int, Attributes]:
        """Return the attributes of the TPM's commands, by code; none before its Startup."""
        if not self._attributes:
            found: dict[int, Attributes] = {}
            more = True
            while more:
                first = max(found, default=-1) + 1
                response = self.places.execute(messages.get_capability(TPM_CAP_COMMANDS, first))
                if messages.code_of(response):
                    return {}
                values = messages.values(response)
                found.update(map(messages.attributes, values))
                more = bool(values and messages.has_more(response))
            self._attributes = found
            self._sweeping.update(messages.U32.pack(code) for code, it in found.items() if it.extensive)
        return self._attributes

    def plenty(self) -> bool:
        """Tell whether at least half of the sessions that the TPM can have are free."""
        return 2 * self._property(TPM_PT_HR_ACTIVE_AVAIL) >= self._property(TPM_PT_ACTIVE_SESSIONS_MAX)

    def saved_sessions(self) -> list[int]:
        """Return the handles of all saved sessions."""
        return messages.values(
            self.places.execute(messages.get_capability(TPM_CAP_HANDLES, ACTIVE_SESSION_FIRST)))

    def _property(self, which: int) -> int:
        response = self.places.execute(messages.get_capability(TPM_CAP_TPM_PROPERTIES, which, 1))
        return int.from_bytes(response[-4:], "big")
