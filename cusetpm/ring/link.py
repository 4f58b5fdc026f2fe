"""The toolstack's part, and a whole connected ring in one call.

A `Host` is what Xen and libxl are to the two ends: store, grants, event channels, and the
directories that announce a device to both of them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cusetpm.ring.back import TpmBack
from cusetpm.ring.front import TpmFront
from cusetpm.ring.memory import GrantTable, LocalEventChannels
from cusetpm.ring.xenbus import XenbusState, read_state, write_state
from cusetpm.ring.xenstore import Perms, StoreClient, StoreError, Transaction, XenStore
from cusetpm.transport import Transport

NO_UUID = "00000000-0000-0000-0000-000000000000"


class Host:
    """One machine: what the domains on it share, and one back end for each domain that has devices."""

    def __init__(self) -> None:
        self.store = XenStore()
        self.grants = GrantTable()
        self.events = LocalEventChannels()
        self._lock = threading.Lock()
        self._transports: dict[tuple[int, str], Transport] = {}
        self._backs: dict[int, TpmBack] = {}

    def serve(self, domid: int, uuid: str, transport: Transport) -> TpmBack:
        """Return the started back end of *domid*, where devices with *uuid* lead to *transport*."""
        with self._lock:
            if (domid, uuid) in self._transports:
                raise ValueError(f"domain {domid} already serves a TPM with UUID {uuid}")
            self._transports[domid, uuid] = transport
            back = self._backs.get(domid)
            if back is None:
                back = self._backs[domid] = TpmBack(
                    self.store.client(domid),
                    self.grants,
                    self.events,
                    lambda uuid: self._transports[domid, uuid],
                )
        back.start()
        return back

    def unserve(self, domid: int, uuid: str) -> None:
        """No device of *domid* can connect to *uuid* any more; one that is connected stays so."""
        with self._lock:
            self._transports.pop((domid, uuid), None)

    def add_device(self, front_domid: int, back_domid: int, handle: int = 0, uuid: str = NO_UUID) -> None:
        """The device is announced to both domains, as `xl vtpm-attach` does; neither is connected yet.

        ValueError if it exists already.
        """
        root = self.store.client(0)
        front = f"/local/domain/{front_domid}/device/vtpm/{handle}"
        back = f"/local/domain/{back_domid}/backend/vtpm/{front_domid}/{handle}"

        def write(tx: Transaction) -> None:
            for domid in (front_domid, back_domid):
                home = f"/local/domain/{domid}"
                root.mkdir(home, tx)
                root.set_perms(home, ((0, "n"), (domid, "r")), tx)
            self._directory(
                root,
                tx,
                front,
                ((front_domid, "n"), (back_domid, "r")),
                {"backend": back, "backend-id": str(back_domid), "handle": str(handle), "state": "1"},
            )
            self._directory(
                root,
                tx,
                back,
                ((back_domid, "n"), (front_domid, "r")),
                {
                    "frontend": front,
                    "frontend-id": str(front_domid),
                    "handle": str(handle),
                    "uuid": uuid,
                    "resume": "False",
                    "online": "1",
                    "state": "1",
                },
            )

        root.transact(write)

    @staticmethod
    def _directory(root: StoreClient, tx: Transaction, path: str, perms: Perms, keys: dict[str, str]) -> None:
        if root.get(path, tx) is not None:
            raise ValueError(f"{path} exists already")
        root.mkdir(path, tx)
        root.set_perms(path, perms, tx)
        for key, value in keys.items():
            root.write(f"{path}/{key}", value, tx)

    def remove_device(
        self, front_domid: int, back_domid: int, handle: int = 0, timeout: float = 10.0
    ) -> bool:
        """The device is gone from both domains; True if the back end had said Closed before.

        Waits at most *timeout* seconds for that, as libxl does.
        """
        root = self.store.client(0)
        back = f"/local/domain/{back_domid}/backend/vtpm/{front_domid}/{handle}"
        clean = read_state(root, back) is XenbusState.CLOSED
        if not clean and write_state(root, back, XenbusState.CLOSING, online="0"):
            closed = threading.Event()

            def look(_path: str) -> None:
                if read_state(root, back) in (XenbusState.CLOSED, None):
                    closed.set()

            watch = root.watch(f"{back}/state", look)
            clean = closed.wait(timeout)
            root.unwatch(watch)
        for path in (f"/local/domain/{front_domid}/device/vtpm/{handle}", back):
            try:
                root.rm(path)
            except StoreError:
                clean = False
        return clean


@dataclass
class Link:
    """A connected pair: send commands to `front`; the counters of both ends show what crossed.

    `back` counts for all front ends of its domain.
    """

    host: Host
    front: TpmFront
    back: TpmBack
    front_domid: int
    back_domid: int
    uuid: str

    def close(self) -> None:
        """Both ends are closed and the device is removed.  May be called twice."""
        self.front.close()
        self.host.remove_device(self.front_domid, self.back_domid)
        self.host.unserve(self.back_domid, self.uuid)


def connect(
    transport: Transport,
    *,
    front_domid: int = 1,
    back_domid: int = 0,
    uuid: str = NO_UUID,
    timeout: float | None = None,
    host: Host | None = None,
) -> Link:
    """Return a connected ring whose back end calls *transport*, after the whole handshake.

    *timeout* is that of `TpmFront`, in seconds.  Without a *host* the pair has one of its own; on a
    shared one, each *front_domid* and each (*back_domid*, *uuid*) can be used once
    (ValueError).  Both ends are in this process, and commands run in the thread that executes
    them.  RingClosed if the handshake fails.
    """
    host = host if host is not None else Host()
    back = host.serve(back_domid, uuid, transport)
    try:
        host.add_device(front_domid, back_domid, uuid=uuid)
    except BaseException:
        host.unserve(back_domid, uuid)
        raise
    front = TpmFront(
        host.store.client(front_domid),
        host.grants,
        host.events,
        timeout=timeout,
        takes_long=transport.takes_long,
    )
    link = Link(host, front, back, front_domid, back_domid, uuid)
    try:
        front.connect()
    except BaseException:
        link.close()
        raise
    return link
