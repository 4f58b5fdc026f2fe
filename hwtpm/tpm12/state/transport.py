"""Transport sessions that are open (Part 1, 19; Part 2, 7.6)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.tpm12 import dataw
from hwtpm.tpm12.profile import TRANSPORT_SESSIONS
from hwtpm.tpm12.state.handles import new_handle
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import UINT8, UINT32, ZERO_DIGEST
from hwtpm.tpm12.types.codes import TPM_INVALID_AUTHHANDLE, TPM_RESOURCES
from hwtpm.tpm12.types.constants import TPM_TRANSPORT_ENCRYPT, TPM_TRANSPORT_EXCLUSIVE
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_INTERNAL, TPM_TRANSPORT_PUBLIC
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1


class _Volatile(Wire):
    version: UINT8
    exclusive: UINT32
    sessions: Annotated[list[TPM_TRANSPORT_INTERNAL], ListOf(TRANSPORT_SESSIONS)]


class Transports(Owner):
    """The open sessions, by handle; `exclusive` is the one that any other command ends, 0 for none."""

    TAG: ClassVar[bytes] = b"tran"

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.open: dict[int, TPM_TRANSPORT_INTERNAL] = {}
        self.exclusive = 0

    def require_space(self) -> None:
        """Raise TPM_RESOURCES unless another session can be opened."""
        if len(self.open) >= TRANSPORT_SESSIONS:
            raise TpmError(TPM_RESOURCES)

    def add(self, public: TPM_TRANSPORT_PUBLIC, secret: bytes) -> TPM_TRANSPORT_INTERNAL:
        """Return a new session, open from now on; TPM_RESOURCES without space."""
        self.require_space()
        session = TPM_TRANSPORT_INTERNAL(secret, public, new_handle(self._random, self.open),
                                         self._random(20), ZERO_DIGEST)
        self.open[session.trans_handle] = session
        if public.trans_attributes & TPM_TRANSPORT_EXCLUSIVE:
            self.exclusive = session.trans_handle
        return session

    def get(self, handle: int) -> TPM_TRANSPORT_INTERNAL:
        """Return the session *handle*; TPM_INVALID_AUTHHANDLE if there is none."""
        session = self.open.get(handle)
        if session is None:
            raise TpmError(TPM_INVALID_AUTHHANDLE)
        return session

    def close(self, handle: int) -> None:
        """There is no session *handle*."""
        self.open.pop(handle, None)
        if handle == self.exclusive:
            self.exclusive = 0

    def interrupt(self, handle: int = 0) -> None:
        """A command comes in the session *handle*, or in none: another one that is exclusive has ended."""
        if self.exclusive not in (0, handle):
            self.close(self.exclusive)

    def startup(self, start: Start) -> None:
        """All sessions are closed, unless a saved state was resumed (Part 2, 4.6: ST_STATE_RT_TRANS)."""
        if start is not Start.STATE:
            self.open.clear()
            self.exclusive = 0

    def owner_clear(self, *, revoke: bool = False) -> None:
        """All sessions are closed; the command that does it is still answered in its own (Part 3, 6.2)."""
        self.open.clear()
        self.exclusive = 0

    def save_volatile(self) -> bytes:
        """Return version and the sessions."""
        return encode(_Volatile(_FORMAT, self.exclusive, list(self.open.values())))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"transport sessions of version {found.version}")
        for session in found.sessions:
            if session.trans_public.trans_attributes & TPM_TRANSPORT_ENCRYPT:
                dataw.check_algorithm(session.trans_public, fips=False)
        self.exclusive = found.exclusive
        self.open = {session.trans_handle: session for session in found.sessions}
