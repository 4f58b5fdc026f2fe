"""Authorization sessions (Part 1, 18 and 23; Part 2, 7.6: TPM_SESSION_DATA)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import AUTH_SESSIONS
from hwtpm.tpm12.state.handles import new_handle
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import SECRET_SIZED, TPM_DIGEST, TPM_NONCE, TPM_SECRET, UINT8, UINT16, UINT32
from hwtpm.tpm12.types.codes import TPM_INVALID_AUTHHANDLE, TPM_RESOURCES
from hwtpm.tpm12.types.constants import TPM_PID_OIAP
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1


class AuthSession(Wire):
    """One session; the members after *nonce_even* are those of OSAP and DSAP.

    *entity_digest* tells which entity the shared secret was made with.  *delegation* is the encoded
    TPM_DELEGATE_PUBLIC of a DSAP session, else empty.
    """

    handle: UINT32
    protocol: UINT16
    nonce_even: TPM_NONCE
    entity_type: UINT8 = 0
    adip: UINT8 = 0
    shared_secret: TPM_SECRET = bytes(20)
    entity_digest: TPM_DIGEST = bytes(20)
    delegation: SECRET_SIZED = b""


class _Volatile(Wire):
    version: UINT8
    sessions: Annotated[list[AuthSession], ListOf(AUTH_SESSIONS)]


class Sessions(Owner):
    """The open sessions, by handle."""

    TAG: ClassVar[bytes] = b"sess"

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.open: dict[int, AuthSession] = {}

    def require_space(self) -> None:
        """Raise TPM_RESOURCES unless another session can be opened."""
        if len(self.open) >= AUTH_SESSIONS:
            raise TpmError(TPM_RESOURCES)

    def add(self, protocol: int) -> AuthSession:
        """Return a new session, open from now on; TPM_RESOURCES without space."""
        self.require_space()
        session = AuthSession(new_handle(self._random, self.open), protocol, self._random(20))
        self.open[session.handle] = session
        return session

    def get(self, handle: int) -> AuthSession:
        """Return the session *handle*; TPM_INVALID_AUTHHANDLE if there is none."""
        session = self.open.get(handle)
        if session is None:
            raise TpmError(TPM_INVALID_AUTHHANDLE)
        return session

    def close(self, handle: int) -> None:
        """There is no session *handle*."""
        self.open.pop(handle, None)

    def close_bound(self, entity_type: int, entity_digest: bytes | None = None) -> None:
        """No OSAP or DSAP session is bound to that type of entity, or only to ones of other digests."""
        for session in list(self.open.values()):
            if session.entity_type == entity_type and entity_digest in (None, session.entity_digest):
                del self.open[session.handle]

    def close_shared(self) -> None:
        """No session with a shared secret, OSAP or DSAP, is open."""
        self.open = {h: session for h, session in self.open.items() if session.protocol == TPM_PID_OIAP}

    def owner_clear(self, *, revoke: bool = False) -> None:
        """All sessions are closed."""
        self.open.clear()

    def startup(self, start: Start) -> None:
        """All sessions are closed, unless a saved state was resumed (Part 2, 4.6)."""
        if start is not Start.STATE:
            self.open.clear()

    def save_volatile(self) -> bytes:
        """Return version and the sessions."""
        return encode(_Volatile(_FORMAT, list(self.open.values())))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"sessions of version {found.version}")
        self.open = {session.handle: session for session in found.sessions}
