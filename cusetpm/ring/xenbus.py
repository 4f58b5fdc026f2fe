"""The xenbus handshake of tpmif version 2 as two tables, and the keys that both ends read and write.

Two rules: what may happen next is decided by the tables here and nowhere else; and the tables know
only the two states, never pages, ports or threads.

Each end owns one directory of the store and writes its state there; the other end watches it.

front, /local/domain/F/device/vtpm/N:
    backend, backend-id, handle, state, ring-ref, event-channel, feature-protocol-v2
back, /local/domain/B/backend/vtpm/F/N:
    frontend, frontend-id, handle, uuid, online, state, feature-protocol-v2, ready, error

The toolstack (`cusetpm.ring.link`) makes both directories; the states are those of Xen's
public/io/xenbus.h.  The steps are Linux' xen-tpmfront on one side and Mini-OS' tpmback on the
other, with two differences: a front end that starts again without closing is connected again, and
an end that is told to go (online = 0) answers Closed, which the toolstack waits for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum

from cusetpm.ring.xenstore import StoreClient, StoreError, Transaction
from hwtpm.errors import ProtocolError

FEATURE = "feature-protocol-v2"


class XenbusState(IntEnum):
    """enum xenbus_state of public/io/xenbus.h."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8


class BackAction(Enum):
    """What the back end does before it enters the new state."""

    OFFER = "write feature-protocol-v2"
    CONNECT = "check the front's feature, map its page, bind its port, write ready"
    VERIFY = "connect again if the front's page or port is another one"
    DISCONNECT = "unmap the page and close the port"
    FREE = "disconnect and forget the device"
    NONE = "nothing"


class FrontAction(Enum):
    """What the front end does before it enters the new state."""

    PUBLISH = "grant a page, open a port, write both and feature-protocol-v2"
    CONNECT = "check the back's feature"
    LOSE = "give up page and port; who waits for a response is told"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class BackStep:
    """One row of the back end's table."""

    action: BackAction
    state: XenbusState


@dataclass(frozen=True, slots=True)
class FrontStep:
    """One row of the front end's table."""

    action: FrontAction
    state: XenbusState


_S = XenbusState
_B = BackAction
_F = FrontAction

BACK: dict[tuple[XenbusState, XenbusState | None], BackStep] = {
    # (own state, front's state or None when its node is gone)
    **{(_S.INITIALISING, peer): BackStep(_B.OFFER, _S.INIT_WAIT) for peer in _S},
    (_S.INIT_WAIT, _S.INITIALISED): BackStep(_B.CONNECT, _S.CONNECTED),
    (_S.INIT_WAIT, _S.CONNECTED): BackStep(_B.CONNECT, _S.CONNECTED),
    (_S.INIT_WAIT, None): BackStep(_B.FREE, _S.CLOSED),
    (_S.CONNECTED, _S.INITIALISING): BackStep(_B.DISCONNECT, _S.INIT_WAIT),
    (_S.CONNECTED, _S.INITIALISED): BackStep(_B.VERIFY, _S.CONNECTED),
    (_S.CONNECTED, _S.CONNECTED): BackStep(_B.VERIFY, _S.CONNECTED),
    (_S.CONNECTED, _S.CLOSING): BackStep(_B.NONE, _S.CLOSING),
    (_S.CONNECTED, _S.CLOSED): BackStep(_B.DISCONNECT, _S.INIT_WAIT),
    (_S.CONNECTED, None): BackStep(_B.FREE, _S.CLOSED),
    (_S.CLOSING, _S.INITIALISING): BackStep(_B.DISCONNECT, _S.INIT_WAIT),
    (_S.CLOSING, _S.CLOSED): BackStep(_B.DISCONNECT, _S.INIT_WAIT),
    (_S.CLOSING, None): BackStep(_B.FREE, _S.CLOSED),
}
"""What the back end does; a pair that is not here means: wait."""

BACK_FAILED = BackStep(_B.DISCONNECT, _S.CLOSING)
"""Instead of CONNECT or VERIFY when the front end is not acceptable; its Closed leads back to InitWait."""

BACK_REMOVED = BackStep(_B.FREE, _S.CLOSED)
"""At any time, when the toolstack wrote online = 0 and state = Closing."""

FRONT: dict[tuple[XenbusState, XenbusState | None], FrontStep] = {
    # (own state, back's state or None when its node is gone)
    (_S.INITIALISING, _S.INIT_WAIT): FrontStep(_F.PUBLISH, _S.INITIALISED),
    (_S.INITIALISED, _S.INITIALISED): FrontStep(_F.CONNECT, _S.CONNECTED),
    (_S.INITIALISED, _S.CONNECTED): FrontStep(_F.CONNECT, _S.CONNECTED),
    **{
        (own, peer): FrontStep(_F.LOSE, _S.CLOSED)
        for own in (_S.INITIALISED, _S.CONNECTED)
        for peer in (_S.CLOSING, _S.CLOSED, None)
    },
    # Ready to begin again, if somebody asks for it.
    (_S.CLOSED, _S.INIT_WAIT): FrontStep(_F.NONE, _S.INITIALISING),
    # Our own closing: the page is given up at once, the back end unmaps it when it sees Closed.
    **{
        (_S.CLOSING, peer): FrontStep(_F.LOSE, _S.CLOSED)
        for peer in (_S.INITIALISING, _S.INIT_WAIT, _S.CLOSING, _S.CLOSED, None)
    },
}
"""What the front end does; a pair that is not here means: wait."""

FRONT_FAILED = FrontStep(_F.LOSE, _S.CLOSED)
"""Instead of CONNECT when the back end does not speak protocol 2."""


def read_state(store: StoreClient, directory: str) -> XenbusState | None:
    """Return the state in *directory*: None if it is gone or unreadable, UNKNOWN if it is no state."""
    value = store.get(f"{directory}/state")
    if value is None:
        return None
    return XenbusState(int(value)) if re.fullmatch("[0-8]", value) else XenbusState.UNKNOWN


def write_state(store: StoreClient, directory: str, state: XenbusState, **keys: str | None) -> bool:
    """*directory* holds *state* and *keys*, written together; False if it is gone or not ours.

    Keys are spelt with _ for -; a key that is None is removed.

    A directory that the toolstack has removed is not made again.
    """

    def write(tx: Transaction) -> None:
        store.read(f"{directory}/state", tx)
        for key, value in keys.items():
            path = f"{directory}/{key.replace('_', '-')}"
            if value is not None:
                store.write(path, value, tx)
            elif store.get(path, tx) is not None:
                store.rm(path, tx)
        store.write(f"{directory}/state", str(int(state)), tx)

    try:
        store.transact(write)
    except StoreError:
        return False
    return True


def read_number(store: StoreClient, path: str) -> int:
    """Return the unsigned 32-bit decimal number at *path*.  ProtocolError if there is none."""
    value = store.get(path)
    if value is None or not re.fullmatch("[0-9]{1,10}", value) or int(value) > 0xFFFFFFFF:
        raise ProtocolError(f"{path} holds no number")
    return int(value)


def require_feature(store: StoreClient, directory: str) -> None:
    """The peer's *directory* says feature-protocol-v2 = 1.  ProtocolError otherwise."""
    if store.get(f"{directory}/{FEATURE}") != "1":
        raise ProtocolError(f"{directory}: vTPM protocol 2 required")
