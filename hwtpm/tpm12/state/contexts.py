"""Which saved contexts can be loaded (Part 1, 20; Part 2, 7.5)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import SESSION_LIST
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_NONCE, UINT8, UINT32
from hwtpm.tpm12.types.codes import TPM_BADCONTEXT, TPM_NOCONTEXTSPACE, TPM_TOOMANYCONTEXTS
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1
_NONE: Final = bytes(20)
_LAST: Final = 0xFFFFFFFE


class _Volatile(Wire):
    version: UINT8
    nonce_key: TPM_NONCE
    nonce_session: TPM_NONCE
    count: UINT32
    saved: Annotated[list[UINT32], ListOf(SESSION_LIST)]


class Contexts(Owner):
    """`saved` are the counts of the saved sessions that have not been loaded again."""

    TAG: ClassVar[bytes] = b"ctxt"

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._nonce_key = self._nonce_session = _NONE
        self._count = 0
        self.saved: list[int] = []

    def nonce_for_key(self) -> bytes:
        """Return contextNonceKey, made at its first use since TPM_Startup(ST_CLEAR)."""
        if self._nonce_key == _NONE:
            self._nonce_key = self._random(20)
        return self._nonce_key

    def nonce_for_session(self) -> bytes:
        """Return contextNonceSession, made at its first use since TPM_Startup(ST_CLEAR)."""
        if self._nonce_session == _NONE:
            self._nonce_session = self._random(20)
        return self._nonce_session

    def register(self) -> int:
        """Return the count of a session that is saved; TPM_TOOMANYCONTEXTS, TPM_NOCONTEXTSPACE."""
        if self._count >= _LAST:
            raise TpmError(TPM_TOOMANYCONTEXTS)
        if len(self.saved) >= SESSION_LIST:
            raise TpmError(TPM_NOCONTEXTSPACE)
        self._count += 1
        self.saved.append(self._count)
        return self._count

    def require(self, count: int) -> None:
        """Raise TPM_BADCONTEXT unless the session of that count is saved."""
        if count not in self.saved:
            raise TpmError(TPM_BADCONTEXT)

    def forget(self, count: int) -> None:
        """The session of that count cannot be loaded any more."""
        self.saved.remove(count)

    def startup(self, start: Start) -> None:
        """No saved session can be loaded, unless a saved state was resumed."""
        if start is not Start.STATE:
            self.owner_clear()

    def owner_clear(self, *, revoke: bool = False) -> None:
        """No saved session can be loaded."""
        self._nonce_key = self._nonce_session = _NONE
        self._count = 0
        self.saved = []

    def save_volatile(self) -> bytes:
        """Return version, nonces, count and saved sessions."""
        return encode(_Volatile(_FORMAT, self._nonce_key, self._nonce_session, self._count, self.saved))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"contexts of version {found.version}")
        self._nonce_key, self._nonce_session = found.nonce_key, found.nonce_session
        self._count, self.saved = found.count, found.saved
