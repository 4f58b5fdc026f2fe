"""Granted pages and event channels: the interfaces, and both inside one process.

A domain grants a page of its own to another domain and names it by a reference; the other maps it
by (domain, reference).  It opens an event channel port for another domain, which binds to it.
Nothing here is trusted to be right because a guest said so: a reference or a port that was not
made for the caller is refused with `ProtocolError`.

In-process event channels run the peer's handler in the thread that notifies: one command crosses
a ring without an event loop and without a hand-over to another thread.  Implementations between
processes (shared memory, eventfd) or on a real Xen (gntdev, evtchn) satisfy the same protocols.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from threading import get_ident
from typing import Protocol

from cusetpm.ring.tpmif import PAGE_SIZE
from hwtpm.errors import ProtocolError

Handler = Callable[[], None]


class Grants(Protocol):
    """Pages that one domain shares with another."""

    def grant(self, domid: int, to: int) -> tuple[int, memoryview]:
        """Return the reference and the 4096 octets of a new, zeroed page of *domid*, granted to *to*."""
        ...

    def revoke(self, domid: int, ref: int) -> None:
        """Nobody can map *ref* of *domid* any more; a mapping that exists stays until it is unmapped."""
        ...

    def map(self, domid: int, owner: int, ref: int) -> memoryview:
        """Return the page *ref* of *owner*, mapped into *domid*.  ProtocolError if not granted to it."""
        ...

    def unmap(self, view: memoryview) -> None:
        """*view*, from `map`, can no longer be read or written."""
        ...


class Port(Protocol):
    """One end of an event channel."""

    @property
    def number(self) -> int:
        """The port number within its domain."""
        ...

    @property
    def notifications(self) -> int:
        """How many events arrived at this end."""
        ...

    def notify(self) -> None:
        """The peer's handler has run, or will; without a peer nothing happens."""
        ...

    def close(self) -> None:
        """No event arrives at or leaves this end any more."""
        ...


class EventChannels(Protocol):
    """Event channels between domains.

    Handlers may be called from several threads at once, must not raise and should not block for
    longer than their own front end can wait.
    """

    def alloc_unbound(self, domid: int, remote: int, handler: Handler) -> Port:
        """Return a new port of *domid* to which *remote*, and no other domain, can bind."""
        ...

    def bind_interdomain(self, domid: int, remote: int, remote_port: int, handler: Handler) -> Port:
        """Return a new port of *domid* bound to *remote_port*.  ProtocolError if it may not be bound."""
        ...


class GrantTable:
    """`Grants` in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refs = count(8)  # The lowest references are reserved in Xen (public/grant_table.h).
        self._pages: dict[tuple[int, int], tuple[int, memoryview]] = {}

    def grant(self, domid: int, to: int) -> tuple[int, memoryview]:
        """See `Grants`.  References are never used again, so that a stale one is always noticed."""
        view = memoryview(bytearray(PAGE_SIZE))
        with self._lock:
            ref = next(self._refs)
            self._pages[domid, ref] = (to, view)
        return ref, view

    def revoke(self, domid: int, ref: int) -> None:
        """See `Grants`."""
        with self._lock:
            self._pages.pop((domid, ref), None)

    def map(self, domid: int, owner: int, ref: int) -> memoryview:
        """See `Grants`."""
        with self._lock:
            to, view = self._pages.get((owner, ref), (None, None))
            if view is None or to != domid:
                raise ProtocolError(f"domain {owner} granted no page {ref} to domain {domid}")
            return view[:]

    def unmap(self, view: memoryview) -> None:
        """See `Grants`."""
        view.release()


class LocalPort:
    """One end of an `LocalEventChannels` channel."""

    __slots__ = (
        "_handler",
        "_key",
        "_pending",
        "_ports",
        "notifications",
        "number",
        "peer",
        "remote",
    )

    def __init__(
        self, ports: dict[tuple[int, int], LocalPort], key: tuple[int, int], remote: int, handler: Handler
    ) -> None:
        self._ports = ports
        self._key = key
        self.number = key[1]
        self.remote = remote
        self.notifications = 0
        self.peer: LocalPort | None = None
        self._handler: Handler | None = handler
        # By the threads that are in the handler: whether an event came meanwhile in the same thread.
        self._pending: dict[int, bool] = {}

    def notify(self) -> None:
        """The peer's handler has run in this thread.

        If this thread is already inside that handler, the handler runs once more after it returns
        instead of recursing: like an event channel's pending bit.
        """
        peer = self.peer
        if peer is None or (handler := peer._handler) is None:
            return
        peer.notifications += 1
        thread, pending = get_ident(), peer._pending
        if thread in pending:
            pending[thread] = True
            return
        pending[thread] = False
        try:
            handler()
            while pending[thread] and peer._handler is not None:
                pending[thread] = False
                handler()
        finally:
            del pending[thread]

    def close(self) -> None:
        """See `Port`.  A handler that runs in another thread may still be running afterwards."""
        self._handler = None
        self._ports.pop(self._key, None)
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None


class LocalEventChannels:
    """`EventChannels` whose handlers run in the notifying thread of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._unbound: dict[tuple[int, int], LocalPort] = {}

    def alloc_unbound(self, domid: int, remote: int, handler: Handler) -> LocalPort:
        """See `EventChannels`.  Port numbers are never used again."""
        with self._lock:
            key = (domid, next(self._numbers))
            port = self._unbound[key] = LocalPort(self._unbound, key, remote, handler)
        return port

    def bind_interdomain(self, domid: int, remote: int, remote_port: int, handler: Handler) -> LocalPort:
        """See `EventChannels`.  A port whose peer has closed can be bound again, as in Xen."""
        with self._lock:
            far = self._unbound.get((remote, remote_port))
            if far is None or far.remote != domid or far.peer is not None:
                raise ProtocolError(f"domain {remote} has no port {remote_port} open for domain {domid}")
            near = LocalPort(self._unbound, (domid, next(self._numbers)), remote, handler)
            near.peer, far.peer = far, near
        return near
