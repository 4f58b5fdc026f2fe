"""The front end of a ring: what xen-tpmfront is to a Linux guest, as a `Transport`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cusetpm.ring.memory import EventChannels, Grants, Port
from cusetpm.ring.tpmif import (
    MAX_LOCALITY,
    MAX_PACKET,
    OFF_STATE,
    TPM_RC_CANCELED,
    TPM_RC_COMMAND_SIZE,
    TPM_RC_FAILURE,
    TPM_RC_LOCALITY,
    TPMIF_STATE_CANCEL,
    TPMIF_STATE_FINISH,
    TPMIF_STATE_IDLE,
    TPMIF_STATE_SUBMIT,
    Page,
    error_response,
    is_response,
)
from cusetpm.ring.xenbus import (
    FRONT,
    FRONT_FAILED,
    FrontAction,
    FrontStep,
    XenbusState,
    read_number,
    read_state,
    require_feature,
    write_state,
)
from cusetpm.ring.xenstore import StoreClient, StoreError
from cusetpm.transport import Cancelled
from hwtpm.errors import ProtocolError

_CONNECTED = XenbusState.CONNECTED  # looked up once: members of an Enum are dear in Python 3.11
_BUSY = (TPMIF_STATE_SUBMIT, TPMIF_STATE_CANCEL)  # states in which the page is the back end's


class RingClosed(ProtocolError):
    """There is no back end: never was, has gone, or does not answer.  A device file says EPIPE."""


def _always(_command: bytes) -> bool:
    return True


class _Ring:
    """One published page and port; what the thread that waits for a response holds on to."""

    __slots__ = ("gone", "page", "port", "ref", "waiting", "wake")

    def __init__(self) -> None:
        self.gone = False
        self.waiting = False
        self.wake = threading.Event()
        self.ref = 0
        self.page: Page
        self.port: Port

    def event(self) -> None:
        # A response that came inline finds nobody waiting; setting an Event would double its cost.
        if self.waiting:
            self.wake.set()


class TpmFront:
    """A way to a TPM through a shared page.

    *store* is the store as the front end's domain sees it; its directory device/vtpm/*handle* was
    made by the toolstack.  *timeout* is the number of seconds after which a command is cancelled,
    and again the number of seconds until a back end that ignores this counts as gone; None waits
    for as long as there is a back end.  *takes_long* answers `Transport.takes_long`, which cannot
    be asked through a ring; without it every command may take long.
    """

    def __init__(
        self,
        store: StoreClient,
        grants: Grants,
        events: EventChannels,
        handle: int = 0,
        *,
        timeout: float | None = None,
        takes_long: Callable[[bytes], bool] = _always,
    ) -> None:
        self.takes_long = takes_long
        self.submitted = 0
        self.finished = 0
        self._store = store
        self._grants = grants
        self._events = events
        self._timeout = timeout
        self._directory = f"device/vtpm/{handle}"
        self._serial = threading.Lock()  # One command at a time.
        self._guard = threading.Lock()  # Who may write the page's state: execute or cancel.
        self._control = threading.Condition(threading.RLock())  # The handshake.
        self._state = XenbusState.UNKNOWN
        self._wanted = False
        self._failure = ""
        self._ring: _Ring | None = None
        self._busy: _Ring | None = None
        self._cancelled: Cancelled | None = None  # Of the command in progress.
        self._past_notifications = 0
        self._backend = ""
        self._backend_id = 0
        self._unwatch: Callable[[], None] | None = None

    # Transport.

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the one response to *command*, in the caller's own memory.

        Waits until the page is free, then for the response.  More than 4088 octets, or a locality
        above 4, is answered with an error response and never reaches the ring.  A command that was
        cancelled before it ran is answered with TPM_RC_CANCELED.  Raises RingClosed without a
        connected back end, and when it goes away before it has answered.
        """
        if len(command) > MAX_PACKET:
            return error_response(TPM_RC_COMMAND_SIZE)
        if not 0 <= locality <= MAX_LOCALITY:
            return error_response(TPM_RC_LOCALITY)
        # Locks by name, because a with statement takes twice as long in Python 3.11.
        serial, guard = self._serial, self._guard
        serial.acquire()
        try:
            ring = self._ring
            if ring is None or self._state is not _CONNECTED:
                raise RingClosed(f"{self._directory}: not connected")
            page = ring.page
            view = page.view
            if view[OFF_STATE] in _BUSY:
                self._wait(ring)
            guard.acquire()
            try:
                # A cancel comes either before this, and is seen here, or after it, and finds the command.
                if cancelled is not None and cancelled():
                    return error_response(TPM_RC_CANCELED)
                self._busy, self._cancelled = ring, cancelled
                page.submit(command, locality)
            finally:
                guard.release()
            self.submitted += 1
            ring.port.notify()
            # Read once: from here on a cancel that crosses with the end of the command does not count.
            while (state := view[OFF_STATE]) in _BUSY:
                self._wait(ring)
            # A back end that answers nonsense is not believed.
            if state == TPMIF_STATE_FINISH and is_response(response := page.take()[3]):
                self.finished += 1
                return response
            return error_response(TPM_RC_CANCELED if state == TPMIF_STATE_IDLE else TPM_RC_FAILURE)
        finally:
            self._busy = None
            serial.release()

    def _wait(self, ring: _Ring) -> None:
        """The page is not busy any more.  RingClosed if the back end has gone or does not answer."""
        page, wake = ring.page, ring.wake
        ring.waiting = True
        asked = False
        try:
            while True:
                wake.clear()
                if page.state not in _BUSY:
                    return
                if ring.gone:
                    raise RingClosed(f"{self._directory}: the back end has gone")
                if wake.wait(self._timeout):
                    continue
                if asked:
                    raise RingClosed(f"{self._directory}: the back end does not answer")
                asked = True
                self._interrupt()
        finally:
            ring.waiting = False

    def cancel(self) -> None:
        """The command in progress, if any, has been asked to end; its response still comes.  Any thread.

        Not if it came with a *cancelled* that says no: somebody else's command was meant.
        """
        self._interrupt(forced=False)

    def abort(self) -> None:
        """As `cancel`, and whoever sent the command, even if its *cancelled* says no."""
        self._interrupt()

    def _interrupt(self, *, forced: bool = True) -> None:
        with self._guard:
            ring, cancelled = self._busy, self._cancelled
            if ring is None or ring.page.state != TPMIF_STATE_SUBMIT:
                return
            if not forced and cancelled is not None and not cancelled():
                return
            ring.page.state = TPMIF_STATE_CANCEL
        ring.port.notify()

    # Counters.

    @property
    def notifications(self) -> int:
        """How many events came from the back end."""
        ring = self._ring
        return self._past_notifications + (ring.port.notifications if ring is not None else 0)

    @property
    def state(self) -> XenbusState:
        """Where the handshake stands."""
        return self._state

    # Handshake.

    def connect(self, timeout: float = 10.0) -> None:
        """The ring is connected, for the first time or again after it was closed.

        Waits at most *timeout* seconds; RingClosed says why it did not come to that.  Must not be
        called from a watch callback.
        """
        with self._control:
            self._wanted = True
            self._failure = ""
            if self._unwatch is None:
                self._begin()
        self._evaluate()
        with self._control:
            done = self._control.wait_for(
                lambda: self._state is XenbusState.CONNECTED or not self._wanted, timeout
            )
            if self._state is XenbusState.CONNECTED:
                return
            self._wanted = False
            if not done or not self._failure:
                self._failure = f"the back end {self._backend} does not connect"
            raise RingClosed(f"{self._directory}: {self._failure}")

    def _begin(self) -> None:
        store, directory = self._store, self._directory
        try:
            self._backend = store.read(f"{directory}/backend")
            self._backend_id = read_number(store, f"{directory}/backend-id")
            if not self._enter(XenbusState.INITIALISING):
                raise RingClosed(f"{directory}: no such device")
            watch = store.watch(f"{self._backend}/state", lambda _path: self._evaluate())
        except (StoreError, ProtocolError) as exc:
            self._wanted = False
            raise RingClosed(f"{directory}: no such device") from exc
        self._unwatch = lambda: store.unwatch(watch)

    def resume(self, timeout: float = 10.0) -> None:
        """The ring is connected over a new page and port, as after a migration of the domain."""
        with self._serial, self._control:
            self._lose()
            if self._unwatch is not None:
                self._enter(XenbusState.INITIALISING)
        self.connect(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """The back end has been told and has unmapped the page, and the device is ready for `connect`.

        A command in progress is cancelled.  Waits at most *timeout* seconds for it and for the back
        end, then closes without them.
        """
        self._interrupt()
        quiet = self._serial.acquire(timeout=timeout)
        try:
            with self._control:
                self._wanted = False
                connected = self._state in (XenbusState.INITIALISED, XenbusState.CONNECTED)
                if connected:
                    self._enter(XenbusState.CLOSING)
            if connected:
                self._evaluate()
                with self._control:
                    self._control.wait_for(self._closed, timeout)
                    if self._state is XenbusState.CLOSING:
                        self._lose()
                        self._enter(XenbusState.CLOSED)
            with self._control:
                if self._unwatch is not None:
                    self._unwatch()
                    self._unwatch = None
        finally:
            if quiet:
                self._serial.release()

    def _closed(self) -> bool:
        if self._state is XenbusState.CLOSED:
            return read_state(self._store, self._backend) in (XenbusState.CLOSED, None)
        return self._state is XenbusState.INITIALISING

    def _evaluate(self) -> None:
        """Every step that the table allows has been taken."""
        with self._control:
            while True:
                peer = read_state(self._store, self._backend)
                step = FRONT.get((self._state, peer))
                if step is None or (step.action is FrontAction.PUBLISH and not self._wanted):
                    break
                self._take_step(step)
            self._control.notify_all()

    def _take_step(self, step: FrontStep) -> None:
        action = step.action
        if action is FrontAction.CONNECT:
            try:
                require_feature(self._store, self._backend)
            except ProtocolError as exc:
                self._failure = str(exc)
                step = FRONT_FAILED
                action = step.action
        if action is FrontAction.PUBLISH:
            self._publish(step.state)
        elif action is FrontAction.LOSE:
            self._lose()
            self._wanted = False
            self._enter(step.state, ring_ref=None, event_channel=None, feature_protocol_v2=None)
        else:
            self._enter(step.state)

    def _enter(self, state: XenbusState, **keys: str | None) -> bool:
        self._state = state
        written = write_state(self._store, self._directory, state, **keys)
        self._control.notify_all()
        return written

    def _publish(self, state: XenbusState) -> None:
        ring = _Ring()
        domid, peer = self._store.domid, self._backend_id
        ring.ref, view = self._grants.grant(domid, peer)
        ring.page = Page(view)
        ring.port = self._events.alloc_unbound(domid, peer, ring.event)
        self._ring = ring
        keys = {"ring_ref": str(ring.ref), "event_channel": str(ring.port.number), "feature_protocol_v2": "1"}
        if not self._enter(state, **keys):
            self._failure = "the device has been removed"
            self._lose()
            self._wanted = False
            self._state = XenbusState.CLOSED

    def _lose(self) -> None:
        """Page and port are given up; a thread that waits for a response gets RingClosed."""
        ring, self._ring = self._ring, None
        if ring is None:
            return
        self._past_notifications += ring.port.notifications
        ring.port.close()
        self._grants.revoke(self._store.domid, ring.ref)
        ring.gone = True
        ring.wake.set()
