"""DAA sessions that are open: joins and signatures between two of their stages (Part 2, 22.7)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import DAA_SESSIONS
from hwtpm.tpm12.state.handles import new_handle
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import UINT8, UINT32, ZERO_DIGEST
from hwtpm.tpm12.types.codes import TPM_BAD_HANDLE, TPM_RESOURCES
from hwtpm.tpm12.types.daa import TPM_DAA_CONTEXT, TPM_DAA_ISSUER, TPM_DAA_JOINDATA, TPM_DAA_TPM
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1


class DaaSession(Wire):
    """One session: DAA_issuerSettings, DAA_tpmSpecific, DAA_session and DAA_joinSession, and its handle."""

    handle: UINT32
    issuer_settings: TPM_DAA_ISSUER
    tpm_specific: TPM_DAA_TPM
    context: TPM_DAA_CONTEXT
    join: TPM_DAA_JOINDATA


class _Volatile(Wire):
    version: UINT8
    sessions: Annotated[list[DaaSession], ListOf(DAA_SESSIONS)]


class DaaSessions(Owner):
    """The open sessions, by handle."""

    TAG: ClassVar[bytes] = b"daas"
    PERMANENT: ClassVar[bool] = False

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.open: dict[int, DaaSession] = {}

    def require_space(self) -> None:
        """Raise TPM_RESOURCES unless another session can be opened."""
        if len(self.open) >= DAA_SESSIONS:
            raise TpmError(TPM_RESOURCES)

    def new(self) -> DaaSession:
        """Return a session at stage 0 with a new handle, which `add` opens; TPM_RESOURCES without space."""
        self.require_space()
        handle, zero = new_handle(self._random, self.open), ZERO_DIGEST
        issuer = TPM_DAA_ISSUER(zero, zero, zero, zero, zero, zero, bytes(26))
        return DaaSession(handle, issuer, TPM_DAA_TPM(zero, zero, zero, zero, 0),
                          TPM_DAA_CONTEXT(zero, zero, zero, b"", 0),
                          TPM_DAA_JOINDATA(bytes(128), bytes(138), zero))

    def add(self, session: DaaSession) -> None:
        """*session* is open."""
        self.open[session.handle] = session

    def get(self, handle: int) -> DaaSession:
        """Return the session *handle*; TPM_BAD_HANDLE if there is none."""
        session = self.open.get(handle)
        if session is None:
            raise TpmError(TPM_BAD_HANDLE)
        return session

    def close(self, handle: int) -> None:
        """There is no session *handle*."""
        self.open.pop(handle, None)

    def startup(self, start: Start) -> None:
        """All sessions are closed, even if a saved state was resumed (Part 2, 4.6 and 22.5)."""
        self.open.clear()

    def owner_clear(self, *, revoke: bool = False) -> None:
        """All sessions are closed (Part 3, 6.2)."""
        self.open.clear()

    def save_volatile(self) -> bytes:
        """Return version and the sessions."""
        return encode(_Volatile(_FORMAT, list(self.open.values())))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"DAA sessions of version {found.version}")
        self.open = {session.handle: session for session in found.sessions}
