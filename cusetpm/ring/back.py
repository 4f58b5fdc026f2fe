"""The back end of rings: what Mini-OS' tpmback is to a vTPM, for any number of front ends.

A front end is not trusted.  Whatever it writes to its page or to its part of the store, it gets
error responses or is disconnected; no exception leaves this module and no other front end notices.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress

from cusetpm.ring.memory import EventChannels, Grants, Port
from cusetpm.ring.tpmif import (
    MAX_LOCALITY,
    MAX_PACKET,
    MIN_RESPONSE,
    TPM_RC_COMMAND_SIZE,
    TPM_RC_FAILURE,
    TPM_RC_LOCALITY,
    TPMIF_STATE_CANCEL,
    TPMIF_STATE_FINISH,
    TPMIF_STATE_IDLE,
    TPMIF_STATE_SUBMIT,
    Page,
    error_response,
)
from cusetpm.ring.xenbus import (
    BACK,
    BACK_FAILED,
    BACK_REMOVED,
    BackAction,
    BackStep,
    XenbusState,
    read_number,
    read_state,
    require_feature,
    write_state,
)
from cusetpm.ring.xenstore import StoreClient, StoreError
from cusetpm.transport import Transport
from hwtpm.errors import ProtocolError, TpmError

Lookup = Callable[[str], Transport]
"""uuid -> the TPM with this UUID; raises KeyError or ProtocolError if there is none."""

_FAILED = error_response(TPM_RC_FAILURE)

_log = logging.getLogger(__name__)


class BackRing:
    """One mapped page and bound port: commands go from here to one transport.

    `submitted` counts commands taken from the page, `finished` responses put there.
    """

    def __init__(self, transport: Transport, page: Page) -> None:
        self.page = page
        self.port: Port
        self.submitted = 0
        self.finished = 0
        self.busy = False
        self.closed = False
        self.cancelled = False  # The command in progress has been asked to end.
        self._transport = transport
        self._asked = lambda: self.cancelled
        self._answer: bytes | None = None
        self._lock = threading.Lock()  # Page, flags and counters; never held while a command runs.

    def event(self) -> None:
        """Whatever the page asks for now has been done, in this thread: a command, a cancel or nothing."""
        # The lock by name, because a with statement takes twice as long in Python 3.11.
        lock, page = self._lock, self.page
        lock.acquire()
        try:
            if self.closed:
                return
            state, locality, extra, command = page.take()
            if state == TPMIF_STATE_SUBMIT and not self.busy:
                self.busy, self.cancelled = True, False
                self.submitted += 1
            elif state == TPMIF_STATE_CANCEL:
                if self.busy:
                    self._cancel()
                    return
                page.state = TPMIF_STATE_FINISH if self._crossed(command) else TPMIF_STATE_IDLE
            else:
                # Ours, nonsense, or a front end that writes while the back end works: the response
                # of the command in progress will overwrite it.
                return
        finally:
            lock.release()
        if state == TPMIF_STATE_SUBMIT:
            response = _FAILED
            try:
                response = self._execute(command, locality)
            finally:
                lock.acquire()
                try:
                    self.busy = False
                    if not self.closed:
                        # A front end that believes in extra pages looks behind their references.
                        page.finish(response, 8 + 4 * extra)
                        self._answer = response
                        self.finished += 1
                finally:
                    lock.release()
        self.port.notify()

    def _execute(self, command: bytes, locality: int) -> bytes:
        if not command:
            return error_response(TPM_RC_COMMAND_SIZE)
        if locality > MAX_LOCALITY:
            return error_response(TPM_RC_LOCALITY)
        try:
            response = self._transport.execute(command, locality, self._asked)
        except TpmError as exc:
            return error_response(exc.rc)
        except Exception:
            _log.exception("a TPM behind a ring failed")
            return _FAILED
        if not MIN_RESPONSE <= len(response) <= MAX_PACKET:
            _log.error("a TPM behind a ring answered with %d octets", len(response))
            return _FAILED
        return response

    def _cancel(self) -> None:
        # Under the lock and while busy: the flag is that of the command in progress, wherever that is on its
        # way to the TPM or back.  The call only wakes a transport that waits rather than asks.
        self.cancelled = True
        try:
            self._transport.cancel()
        except Exception:
            _log.exception("a TPM behind a ring failed to cancel")

    def _crossed(self, packet: bytes) -> bool:
        """Tell whether a CANCEL has overwritten the FINISH of a response: *packet*, which is on the page.

        State changes are not atomic: a cancel can cross with the answer.  The command has run then,
        so IDLE (it was cancelled) would be a lie; the front end gets its response.
        """
        answer, self._answer = self._answer, None
        return packet == answer

    def close(self, grants: Grants) -> None:
        """The page is unmapped and the port closed; a command in progress is cancelled and not answered."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            if self.busy:
                self._cancel()
            self.port.close()
            grants.unmap(self.page.view)


class _Device:
    """One front end as the toolstack announced it."""

    def __init__(self, directory: str, frontend: str, domid: int) -> None:
        self.directory = directory
        self.frontend = frontend
        self.domid = domid
        self.state = XenbusState.INITIALISING
        self.ring: BackRing | None = None
        self.source: tuple[int, int] = (0, 0)
        self.unwatch: Callable[[], None] = lambda: None


class TpmBack:
    """Serves every front end that the toolstack announces below backend/vtpm of *store*'s domain.

    *lookup* finds the transport of a device by its uuid when the front end connects; it runs in a
    watch callback and must not wait for another delivery of the same store.  Commands of one front
    end are serial and run in the thread that notifies, so that front ends do not wait for each
    other unless their transport is the same.
    """

    def __init__(self, store: StoreClient, grants: Grants, events: EventChannels, lookup: Lookup) -> None:
        self._store = store
        self._grants = grants
        self._events = events
        self._lookup = lookup
        self._root = f"{store.home}/backend/vtpm"
        self._devices: dict[str, _Device] = {}
        self._control = threading.RLock()
        self._unwatch: Callable[[], None] = lambda: None
        self._serving = False
        self._past = [0, 0, 0]

    def start(self) -> None:
        """Devices that exist are offered, and those that come will be."""
        with self._control:
            if not self._serving:
                self._serving = True
                watch = self._store.watch(self._root, self._changed)
                self._unwatch = lambda: self._store.unwatch(watch)

    def close(self) -> None:
        """Every front end has been told (Closed) and disconnected; commands in progress are cancelled."""
        with self._control:
            self._serving = False
            self._unwatch()
            for device in list(self._devices.values()):
                self._take_step(device, BACK_REMOVED)

    def ring(self, domid: int, handle: int) -> BackRing | None:
        """Return the ring to front end (*domid*, *handle*) while it is connected."""
        with self._control:
            device = self._devices.get(f"{self._root}/{domid}/{handle}")
            return device.ring if device is not None else None

    @property
    def submitted(self) -> int:
        """How many commands all front ends submitted."""
        return self._total(0)

    @property
    def finished(self) -> int:
        """How many responses all front ends got."""
        return self._total(1)

    @property
    def notifications(self) -> int:
        """How many events came from all front ends."""
        return self._total(2)

    def _total(self, which: int) -> int:
        with self._control:
            rings = [device.ring for device in self._devices.values() if device.ring is not None]
            return self._past[which] + sum(self._counts(ring)[which] for ring in rings)

    @staticmethod
    def _counts(ring: BackRing) -> tuple[int, int, int]:
        return ring.submitted, ring.finished, ring.port.notifications

    # Handshake.

    def _changed(self, path: str) -> None:
        """Something below our directory changed: find the devices that this concerns."""
        with self._control:
            match = re.match("/([0-9]+)/([0-9]+)", path[len(self._root) :])
            if match is not None:
                self._probe(self._root + match[0])
                return
            for directory in set(self._devices) | set(self._announced()):
                self._probe(directory)

    def _announced(self) -> list[str]:
        found = []
        with suppress(StoreError):
            for domid in self._store.directory(self._root):
                with suppress(StoreError):
                    for handle in self._store.directory(f"{self._root}/{domid}"):
                        found.append(f"{self._root}/{domid}/{handle}")
        return found

    def _probe(self, directory: str) -> None:
        device = self._devices.get(directory)
        if device is None:
            device = self._announce(directory)
            if device is None:
                return
            self._devices[directory] = device
            watch = self._store.watch(f"{device.frontend}/state", lambda _path: self._evaluate(device))
            device.unwatch = lambda: self._store.unwatch(watch)
        self._evaluate(device)

    def _announce(self, directory: str) -> _Device | None:
        """Return the new device at *directory*, if it is complete, wanted and has a front end."""
        store = self._store
        if not self._serving:
            return None
        if store.get(f"{directory}/online") == "0":
            if read_state(store, directory) is XenbusState.CLOSING:
                write_state(store, directory, XenbusState.CLOSED)
            return None
        frontend = store.get(f"{directory}/frontend")
        if frontend is None or read_state(store, directory) is None or read_state(store, frontend) is None:
            return None
        try:
            return _Device(directory, frontend, read_number(store, f"{directory}/frontend-id"))
        except ProtocolError as exc:
            _log.warning("%s", exc)
            return None

    def _evaluate(self, device: _Device) -> None:
        """Every step that the table allows has been taken."""
        with self._control:
            while self._devices.get(device.directory) is device:
                own = read_state(self._store, device.directory)
                if own is None:
                    step: BackStep | None = BACK_REMOVED
                elif own is XenbusState.CLOSING and self._store.get(f"{device.directory}/online") == "0":
                    step = BACK_REMOVED
                elif own is XenbusState.INITIALISING and device.state is not own:
                    # The toolstack removed the device and made it anew before we saw the first.
                    self._forget(device)
                    self._probe(device.directory)
                    return
                else:
                    step = BACK.get((device.state, read_state(self._store, device.frontend)))
                if step is None or (step.action is BackAction.VERIFY and self._unchanged(device)):
                    return
                self._take_step(device, step)

    def _take_step(self, device: _Device, step: BackStep) -> None:
        action = step.action
        keys: dict[str, str | None] = {}
        if action in (BackAction.CONNECT, BackAction.VERIFY):
            self._disconnect(device)
            try:
                self._connect(device)
                keys = {"ready": "1", "error": None}
            except (ProtocolError, StoreError, KeyError) as exc:
                _log.warning("%s: front end refused: %s", device.directory, exc)
                keys = {"ready": None, "error": str(exc)}
                step = BACK_FAILED
            except Exception:
                # A transport that cannot be built is this front end's loss only.
                _log.exception("%s: no TPM for this front end", device.directory)
                keys = {"ready": None, "error": "no TPM"}
                step = BACK_FAILED
        elif action is BackAction.OFFER:
            keys = {"feature_protocol_v2": "1"}
        elif action is BackAction.DISCONNECT:
            self._disconnect(device)
            # Offered again, because the directory may be a new one.
            keys = {"feature_protocol_v2": "1", "ready": None}
        elif action is BackAction.FREE:
            self._forget(device)
            keys = {"ready": None}
        device.state = step.state
        write_state(self._store, device.directory, step.state, **keys)
        if device.ring is not None and action in (BackAction.CONNECT, BackAction.VERIFY):
            self._look_once(device.ring)

    def _source(self, device: _Device) -> tuple[int, int]:
        ref = read_number(self._store, f"{device.frontend}/ring-ref")
        return ref, read_number(self._store, f"{device.frontend}/event-channel")

    def _unchanged(self, device: _Device) -> bool:
        try:
            return self._source(device) == device.source
        except ProtocolError:
            return False

    def _connect(self, device: _Device) -> None:
        store = self._store
        require_feature(store, device.frontend)
        ref, remote_port = self._source(device)
        transport = self._lookup(store.read(f"{device.directory}/uuid"))
        view = self._grants.map(store.domid, device.domid, ref)
        ring = BackRing(transport, Page(view))
        try:
            ring.port = self._events.bind_interdomain(store.domid, device.domid, remote_port, ring.event)
        except BaseException:
            self._grants.unmap(view)
            raise
        device.ring, device.source = ring, (ref, remote_port)

    def _look_once(self, ring: BackRing) -> None:
        """A command that was submitted before the port was bound is not forgotten.

        Linux sends its first one while it is still Initialised.  It runs in a thread of its own,
        because this is a watch callback, which other front ends wait for.
        """
        if ring.page.state in (TPMIF_STATE_SUBMIT, TPMIF_STATE_CANCEL):
            threading.Thread(target=ring.event, name="tpmback-first", daemon=True).start()

    def _forget(self, device: _Device) -> None:
        self._disconnect(device)
        device.unwatch()
        del self._devices[device.directory]

    def _disconnect(self, device: _Device) -> None:
        ring, device.ring = device.ring, None
        if ring is None:
            return
        for which, count in enumerate(self._counts(ring)):
            self._past[which] += count
        ring.close(self._grants)
