"""Authorization sessions and the numbers of saved contexts (Part 1, 16 and 27.5).

A session is active from its creation until it is flushed.  It is either loaded or saved, never both: saving
takes it out of the TPM and gives it a number, and only the context with that number can be loaded again.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import (
    CONTEXT_GAP_MAX,
    DIGEST_SIZE,
    MAX_ACTIVE_SESSIONS,
    MAX_DIGEST_SIZE,
    MAX_LOADED_SESSIONS,
)
from hwtpm.tpm2.state.owner import Owner, Start
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.base import UINT8, UINT16, UINT32, UINT64
from hwtpm.tpm2.types.constants import (
    TPM_RC_CONTEXT_GAP,
    TPM_RC_SESSION_HANDLES,
    TPM_RC_SESSION_MEMORY,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
)
from hwtpm.tpm2.types.handles import HMAC_SESSION_FIRST, POLICY_SESSION_FIRST
from hwtpm.wire import PLUS, SECRET, Int, ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
_INDEX: Final = 0xFFFFFF  # the part of a handle that is the same for both kinds of session

_Flag = Annotated[bool, Int("B")]
_Digest = Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]


class Session(Wire):
    """A loaded session: what its use is checked against (Part 1, 16.6 and 16.7).

    `kind` is a TPM_SE.  `bound` is what `entity.bound` gave for the entity that an HMAC session is bound to,
    empty if there is none.  An assertion that has not been made is zero or empty; `nv_written` is 1 when the
    Index must not have been written and 2 when it must; `timeout` is a Time in ms that holds in `epoch` only.
    """

    handle: UINT32
    kind: UINT8
    auth_hash: UINT16
    symmetric: Annotated[TPMT_SYM_DEF, PLUS]
    nonce_tpm: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]
    session_key: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B"), SECRET] = b""
    bound: Annotated[bytes, Sized(255, prefix="B"), SECRET] = b""
    is_da_bound: _Flag = False
    is_lockout_bound: _Flag = False
    is_audit: _Flag = False
    audit_digest: _Digest = b""
    policy_digest: _Digest = b""
    start_time: UINT64 = 0
    epoch: UINT32 = 0
    timeout: UINT64 = 0
    command_code: UINT32 = 0
    command_locality: UINT8 = 0
    cp_hash: _Digest = b""
    name_hash: _Digest = b""
    template_hash: _Digest = b""
    parameters_hash: _Digest = b""
    check_pcr: _Flag = False
    pcr_counter: UINT32 = 0
    needs_auth_value: _Flag = False
    needs_password: _Flag = False
    needs_pp: _Flag = False
    nv_written: UINT8 = 0

    def reset_policy(self) -> None:
        """No assertion has been made; the digest is zeros (Part 3, 11.2)."""
        self.policy_digest = bytes(DIGEST_SIZE[self.auth_hash])
        self.timeout = self.command_code = self.command_locality = 0
        self.cp_hash = self.name_hash = self.template_hash = self.parameters_hash = b""
        self.check_pcr = False
        self.pcr_counter = 0
        self.needs_auth_value = self.needs_password = self.needs_pp = False
        self.nv_written = 0


class _Saved(Wire):
    handle: UINT32
    number: UINT64


class _Volatile(Wire):
    version: UINT8
    next_session: UINT64
    next_object: UINT64
    clear_count: UINT32
    saved: Annotated[list[_Saved], ListOf(MAX_ACTIVE_SESSIONS)]


class _Live(Wire):
    version: UINT8
    exclusive: UINT32
    loaded: Annotated[list[Session], ListOf(MAX_LOADED_SESSIONS, prefix="B"), SECRET]


class Sessions(Owner):
    """The active sessions.

    `loaded` has the sessions by the low three octets of their handle, `saved` the numbers of the saved ones
    by handle, oldest first.  `next_session` and `next_object` number the contexts to come (contextCounter and
    objectContextID), and `clear_count` is that of Part 1, 27.3.2: these and the numbers are what
    Shutdown(STATE) keeps.
    """

    TAG: ClassVar[bytes] = b"sess"

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[int, Session] = {}
        self.saved: dict[int, int] = {}
        self.exclusive = 0  # handle of the exclusive audit session
        self.next_session = 1
        self.next_object = 0
        self.clear_count = 0

    def get(self, handle: int) -> Session:
        """Return the loaded session; raises KeyError when there is none.

        The kind of handle is not looked at: an HMAC and a policy session never have the same index.
        """
        return self.loaded[handle & _INDEX]

    def create(self, kind: int, auth_hash: int, symmetric: TPMT_SYM_DEF, nonce_tpm: bytes, *,
               session_key: bytes = b"", bound: bytes = b"", is_da_bound: bool = False,
               is_lockout_bound: bool = False, start_time: int = 0, epoch: int = 0) -> Session:
        """Load a new session with the lowest free handle and return it.

        Raises TPM_RC_SESSION_MEMORY when no more can be loaded, TPM_RC_SESSION_HANDLES when no more can be
        active, and TPM_RC_CONTEXT_GAP when the last place is needed to load the oldest saved session.
        """
        self.check_room()
        used = {handle & _INDEX for handle in self.saved} if self.saved else ()
        index = 0
        while index in self.loaded or index in used:
            index += 1
        if index >= MAX_ACTIVE_SESSIONS:
            raise TpmError(TPM_RC_SESSION_HANDLES)
        first = HMAC_SESSION_FIRST if kind == TPM_SE_HMAC else POLICY_SESSION_FIRST
        session = Session(first + index, kind, auth_hash, symmetric, nonce_tpm, session_key, bound,
                          is_da_bound, is_lockout_bound)
        if kind != TPM_SE_HMAC:
            session.policy_digest = bytes(DIGEST_SIZE[auth_hash])
            session.start_time, session.epoch = start_time, epoch
        self.loaded[index] = session
        return session

    def check_room(self, oldest: int = 0) -> None:
        """Raise unless one more session can be loaded; *oldest* is the handle of a saved one, if it is such.

        TPM_RC_SESSION_MEMORY: no place.  TPM_RC_CONTEXT_GAP: the last place, which only the oldest saved
        session may take because it has to be saved anew (Part 1, 27.5).
        """
        free = MAX_LOADED_SESSIONS - len(self.loaded)
        if not free:
            raise TpmError(TPM_RC_SESSION_MEMORY)
        if free == 1 and self._gap_is_full() and next(iter(self.saved)) != oldest:
            raise TpmError(TPM_RC_CONTEXT_GAP)

    def flush(self, handle: int) -> None:
        """The session is not active any more, loaded or saved; raises KeyError when it was not.

        The kind of handle is not looked at (Part 3, 28.4).
        """
        index = handle & _INDEX
        session = self.loaded.pop(index, None)
        if session is not None:
            handle = session.handle
        else:
            hmac, policy = HMAC_SESSION_FIRST + index, POLICY_SESSION_FIRST + index
            handle = hmac if hmac in self.saved else policy
            del self.saved[handle]
        if self.exclusive == handle:
            self.exclusive = 0

    def discard(self, handle: int) -> None:
        """The session is not loaded any more, if it was."""
        self.loaded.pop(handle & _INDEX, None)
        if self.exclusive == handle:
            self.exclusive = 0

    def audit(self, handle: int, cp_hash: bytes, rp_hash: bytes, *, reset: bool) -> bool:
        """Extend the audit digest by a command, from zeros if this is the first one or on *reset*.

        A session that audits is not bound any more.  Returns whether it is now the exclusive audit session
        (Part 1, 17.1 and 17.2).
        """
        session = self.get(handle)
        if reset or not session.is_audit:
            session.is_audit, session.bound = True, b""
            session.audit_digest = bytes(DIGEST_SIZE[session.auth_hash])
            self.exclusive = handle
        elif self.exclusive != handle:
            self.exclusive = 0
        session.audit_digest = hashes.digest(session.auth_hash, session.audit_digest, cp_hash, rp_hash)
        return self.exclusive == handle

    def park(self, handle: int) -> int:
        """The session is saved; return the number that its context must have to be loaded again.

        Raises TPM_RC_CONTEXT_GAP when the oldest saved session has to be loaded first.
        """
        if self._gap_is_full():
            raise TpmError(TPM_RC_CONTEXT_GAP)
        session = self.loaded.pop(handle & _INDEX)
        number = self.saved[session.handle] = self.next_session
        self.next_session += 1
        return number

    def unpark(self, session: Session) -> None:
        """The saved *session*, whose number the caller has checked, is loaded.

        Raises what `check_room` does.
        """
        self.check_room(session.handle)
        del self.saved[session.handle]
        self.loaded[session.handle & _INDEX] = session

    def number_object_context(self) -> int:
        """Return the number of a new object context."""
        number = self.next_object
        self.next_object += 1
        return number

    def _gap_is_full(self) -> bool:
        return bool(self.saved) and self.next_session - next(iter(self.saved.values())) > CONTEXT_GAP_MAX

    def save(self) -> bytes:
        """Return the version: nothing of a session is permanent."""
        return bytes([_FORMAT])

    def restore(self, state: bytes) -> None:
        if state != bytes([_FORMAT]):
            raise ValueError("session state of another version")

    def save_volatile(self) -> bytes:
        """Return version, counters, and the handles and numbers of the saved sessions."""
        saved = [_Saved(handle, number) for handle, number in self.saved.items()]
        return encode(_Volatile(_FORMAT, self.next_session, self.next_object, self.clear_count, saved))

    def restore_volatile(self, state: bytes) -> None:
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"session state of version {found.version}")
        self.next_session, self.next_object = found.next_session, found.next_object
        self.clear_count = found.clear_count
        self.saved = {saved.handle: saved.number for saved in found.saved}

    def save_live(self) -> bytes:
        """Return version, the exclusive audit session and the loaded sessions."""
        return encode(_Live(_FORMAT, self.exclusive, list(self.loaded.values())))

    def restore_live(self, state: bytes) -> None:
        found = decode(_Live, state)
        if found.version != _FORMAT:
            raise ValueError(f"session state of version {found.version}")
        loaded = {session.handle & _INDEX: session for session in found.loaded}
        used = {handle & _INDEX for handle in self.saved}
        if len(loaded) != len(found.loaded) or loaded.keys() & used or not all(map(_is_sound, found.loaded)):
            raise ValueError("loaded sessions that cannot be")
        self.loaded, self.exclusive = loaded, found.exclusive

    def startup(self, start: Start) -> None:
        """Loaded sessions are gone; the saved ones too after a TPM Reset (Part 1, 27.5)."""
        self.loaded.clear()
        self.exclusive = 0
        if start is Start.RESET:
            self.saved.clear()
            self.next_session, self.next_object, self.clear_count = 1, 0, 0
        elif start is Start.RESTART:
            self.clear_count += 1


def _is_sound(session: Session) -> bool:
    """Tell whether handle and digests are those of a session that `create` could have made."""
    first = HMAC_SESSION_FIRST if session.kind == TPM_SE_HMAC else POLICY_SESSION_FIRST
    return (session.handle - first in range(MAX_ACTIVE_SESSIONS) and session.auth_hash in DIGEST_SIZE
            and session.kind in (TPM_SE_HMAC, TPM_SE_POLICY, TPM_SE_TRIAL))
