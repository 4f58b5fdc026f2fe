"""One space: what one open file of /dev/tpmrmN sees of the TPM.

A space names its objects itself, from 0x80FFFFFF downwards, and keeps the handles of its sessions, as Linux
does (drivers/char/tpm/tpm2-space.c).  What belongs to others is not there for it.
"""

from __future__ import annotations

import errno
from typing import Final

from cusetpm.rm import messages
from cusetpm.rm.messages import Named
from cusetpm.rm.places import GoneError, NoRoomError, Object, Session
from cusetpm.rm.shared import SharedTpm
from cusetpm.transport import Cancelled, NotExecuted
from hwtpm.tpm2.dispatch import error_response
from hwtpm.tpm2.types.constants import (
    TPM_CAP_HANDLES,
    TPM_RC_AUTH_CONTEXT,
    TPM_RC_CANCELED,
    TPM_RC_COMMAND_CODE,
    TPM_RC_COMMAND_SIZE,
    TPM_RC_HANDLE,
    TPM_RC_OBJECT_MEMORY,
    TPM_RC_REFERENCE_H0,
    TPM_RC_SESSION_HANDLES,
    TPM_CC_ContextLoad,
    TPM_CC_ContextSave,
    TPM_CC_FlushContext,
    TPM_CC_GetCapability,
    TPM_CC_HashSequenceStart,
    TPM_CC_HMAC_Start,
    TPM_CC_SignSequenceStart,
    TPM_CC_StartAuthSession,
    TPM_CC_VerifySequenceStart,
)
from hwtpm.tpm2.types.handles import (
    HR_SHIFT,
    TPM_HT_LOADED_SESSION,
    TPM_HT_SAVED_SESSION,
    TPM_HT_TRANSIENT,
)

RESMGR: Final = 11 << 16
"""TSS2_RESMGR_TPM_RC_LAYER: marks a TPM's response code that the resource manager gives."""

OBJECTS: Final = 64
"""How many objects and sequences a space may have; Linux allows 3."""
SESSIONS: Final = 3
"""How many sessions each space may have, as in Linux.  It gets more while half of the TPM's are free."""

_LAST_NAME: Final = 0x80FFFFFF
_LISTED: Final = (TPM_HT_TRANSIENT, TPM_HT_LOADED_SESSION, TPM_HT_SAVED_SESSION)
_STARTS: Final = (TPM_CC_HashSequenceStart, TPM_CC_HMAC_Start, TPM_CC_SignSequenceStart,
                  TPM_CC_VerifySequenceStart)
_FLUSH: Final = messages.HEADER.size + 4
_NO_SUCH_CONTEXT: Final = TPM_RC_HANDLE + 0x140  # parameter 1: what FlushContext answers for it


class ManagedSpace:
    """A `Space` of *tpm*.  All but `execute` and `close` run while it is this thread's turn."""

    def __init__(self, tpm: SharedTpm) -> None:
        self._tpm, self._places = tpm, tpm.places
        self._objects: dict[int, Object] = {}
        self._closed = False
        self.cancel, self.takes_long = tpm.cancel, tpm.takes_long
        tpm.members.add(self)

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*, with the handles that this space knows.

        Raises NotExecuted as Linux ends a write: EINVAL for a command without a header and for an object that
        is not of this space, ENOMEM for one object or session too many, EFAULT for a list of handles that
        would have to be authentic.
        """
        self._tpm.enter()
        try:
            if self._closed or (cancelled is not None and cancelled()):
                return error_response(TPM_RC_CANCELED)
            return self._execute(command, locality, cancelled)
        finally:
            self._tpm.leave()

    def close(self) -> None:
        """What is in the space is flushed before the next command of anybody."""
        self._closed = True
        self._tpm.closed(self)

    def flush(self) -> None:
        for found in self._objects.values():
            self._places.flush_object(found)
        self._objects.clear()
        for session in self._sessions():
            self._places.flush_session(session)

    def check(self) -> None:
        """What the TPM has flushed without being told to is not in the space either."""
        for found in [found for found in self._objects.values() if not found.handle]:
            try:
                self._places.check_object(found)
            except GoneError:
                self._forget(found)

    def _execute(self, command: bytes, locality: int, cancelled: Cancelled | None) -> bytes:
        if len(command) < messages.HEADER.size:
            raise NotExecuted(errno.EINVAL, RESMGR | TPM_RC_COMMAND_SIZE)
        table = self._tpm.attributes()
        if not table:
            # The TPM is not started, or in failure mode: it has nothing to share.
            return self._tpm.execute(command, locality, cancelled)
        code = int.from_bytes(command[6:10], "big")
        attributes = table.get(code)
        if attributes is None:
            return error_response(RESMGR | TPM_RC_COMMAND_CODE)
        if attributes.plain and not messages.has_sessions(command):
            return self._tpm.execute(command, locality, cancelled)
        named = messages.named(command, attributes.handles)
        objects = [self._object(handle, off) for off, handle in named.objects]
        if attributes.returns_handle:
            self._check_quota(code, command)
        if code == TPM_CC_GetCapability:
            self._check_authenticity(command)
        elif code == TPM_CC_FlushContext and len(command) == _FLUSH and not messages.has_sessions(command):
            return self._flush_context(command)
        elif code == TPM_CC_ContextLoad:
            command = self._renewed(command)
        try:
            sessions = self._load(named, objects)
        except NoRoomError as error:
            return error.response
        for (off, _), found in zip(named.objects, objects, strict=True):
            command = command[:off] + messages.U32.pack(found.handle) + command[off + 4 :]
        if attributes.extensive:
            self._places.save_objects(objects)
        while True:
            response = self._tpm.execute(command, locality, cancelled)
            failed = messages.code_of(response)
            if not failed:
                break
            if not self._places.make_room(failed, [*objects, *sessions]):
                return response
        for session in sessions:
            if messages.index(session.handle) in named.ended:
                self._places.forget_session(session)
        if attributes.flushes and objects:
            self._forget(objects[-1])  # Of the two handles of EventSequenceComplete, the other is a PCR.
        if attributes.returns_handle:
            return self._returned(code, command, response)
        if code == TPM_CC_ContextSave and sessions:
            self._places.orphan(sessions[0], response[messages.HEADER.size :])
        elif code == TPM_CC_GetCapability:
            return self._listed(command, response)
        return response

    # Before the command.

    def _sessions(self) -> list[Session]:
        return [found for found in self._places.sessions.values() if found.owner is self]

    def _object(self, name: int, off: int) -> Object:
        try:
            return self._objects[name]
        except KeyError:
            raise _no_object(off) from None

    def _check_quota(self, code: int, command: bytes) -> None:
        """Raise ENOMEM if this space may not have what the command would load."""
        saved = messages.saved_handle(command[messages.HEADER.size :]) if code == TPM_CC_ContextLoad else 0
        if code == TPM_CC_StartAuthSession or messages.is_session(saved):
            if len(self._sessions()) >= SESSIONS and not self._tpm.plenty():
                raise NotExecuted(errno.ENOMEM, RESMGR | TPM_RC_SESSION_HANDLES)
            return
        if len(self._objects) >= OBJECTS:
            raise NotExecuted(errno.ENOMEM, RESMGR | TPM_RC_OBJECT_MEMORY)

    @staticmethod
    def _check_authenticity(command: bytes) -> None:
        """Raise EFAULT for a list that would be changed here, while a session vouches for it."""
        capability, first, _ = messages.query(command)
        listed = capability == TPM_CAP_HANDLES and first >> HR_SHIFT in _LISTED
        if listed and messages.has_sessions(command):
            raise NotExecuted(errno.EFAULT, RESMGR | TPM_RC_AUTH_CONTEXT)

    def _renewed(self, command: bytes) -> bytes:
        """Return *command*, a ContextLoad, with the latest context of the session that it loads."""
        context = command[messages.HEADER.size :]
        found = self._places.sessions.get(messages.index(messages.saved_handle(context)))
        if found is not None and found.given == context and found.context:
            return messages.context_load(found.context)
        return command

    def _load(self, named: Named, objects: list[Object]) -> list[Session]:
        """Have in the TPM what the command names and is of this space; return the sessions.

        A session of somebody else is not in the TPM then, so that the TPM refuses the command.
        """
        places = self._places
        sessions = [session for number in named.sessions
                    if (session := places.sessions.get(number)) is not None and session.owner is self]
        needed: list[Object | Session] = [*objects, *sessions]
        for (off, _), found in zip(named.objects, objects, strict=True):
            try:
                places.load_object(found, needed)
            except GoneError:
                self._forget(found)
                raise _no_object(off) from None
        for session in list(sessions):
            try:
                places.load_session(session, needed)
            except GoneError:
                sessions.remove(session)
        if len(sessions) < len(named.sessions):
            for number in named.sessions.difference(messages.index(session.handle) for session in sessions):
                places.hide(number)
        return sessions

    # Instead of the command.

    def _flush_context(self, command: bytes) -> bytes:
        (handle,) = messages.U32.unpack_from(command, messages.HEADER.size)
        found = self._objects.get(handle)
        if found is not None:
            self._places.flush_object(found)
            self._forget(found)
            return messages.success()
        if not messages.is_session(handle):
            return self._tpm.execute(command, 0, None)
        number = messages.index(handle)
        session = self._places.sessions.get(number)
        if (session is not None and session.owner not in (None, self)) or self._places.is_raw(number):
            return error_response(_NO_SUCH_CONTEXT)
        response = self._tpm.execute(command, 0, None)
        if session is not None and not messages.code_of(response):
            self._places.forget_session(session)
        return response

    # After it.

    def _forget(self, found: Object) -> None:
        self._objects.pop(found.name, None)
        self._places.forget_object(found)

    def _returned(self, code: int, command: bytes, response: bytes) -> bytes:
        """Return *response* with this space's name for what the command loaded."""
        header = messages.HEADER.size
        handle = messages.U32.unpack_from(response, header)[0]
        if messages.is_session(handle):
            self._places.add_session(Session(handle, self))
            return response
        name = _LAST_NAME
        while name in self._objects:
            name -= 1
        loaded = code == TPM_CC_ContextLoad
        saved = messages.saved_handle(command[header:]) if loaded else 0
        found = Object(name, handle, sequence=code in _STARTS or saved == messages.SAVED_SEQUENCE)
        if loaded:
            found.context = command[header:]
        self._places.add_object(found, handle)
        self._objects[name] = found
        return response[:header] + messages.U32.pack(name) + response[header + 4 :]

    def _listed(self, command: bytes, response: bytes) -> bytes:
        """Return *response*, or the list that is asked for instead, if it has to be that of this space."""
        capability, first, count = messages.query(command)
        kind = first >> HR_SHIFT if capability == TPM_CAP_HANDLES else None
        if kind == TPM_HT_TRANSIENT:
            return messages.handle_list(sorted(name for name in self._objects if name >= first), count)
        if kind == TPM_HT_LOADED_SESSION:
            found = {messages.index(session.handle): session.handle for session in self._sessions()}
        elif kind == TPM_HT_SAVED_SESSION:
            # Those that are in nobody's hands now.
            taken = {number for number, session in self._places.sessions.items()
                     if session.owner is not None or session.raw}
            found = {messages.index(handle): handle for handle in self._tpm.saved_sessions()
                     if messages.index(handle) not in taken}
        else:
            return response
        return messages.handle_list([found[n] for n in sorted(found) if n >= messages.index(first)], count)


def _no_object(off: int) -> NotExecuted:
    """Return what there is to say of the name at octet *off* of a command, which names nothing."""
    return NotExecuted(errno.EINVAL, RESMGR | (TPM_RC_REFERENCE_H0 + (off - messages.HEADER.size) // 4))
