"""The few places that a TPM has for objects and sessions, and what waits outside of it for one.

An object that was saved once is not saved again, because loading does not use its context up; that of a
sequence is, since the sequence has moved on.  A session is in the TPM or saved, never both (Part 1, 27.5).
What has not been used for longest makes way first, and everything of the spaces makes way for /dev/tpmN.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from cusetpm.rm import messages
from cusetpm.transport import Space
from hwtpm.tpm2.dispatch import error_response
from hwtpm.tpm2.types.constants import (
    TPM_CAP_HANDLES,
    TPM_RC_CONTEXT_GAP,
    TPM_RC_MEMORY,
    TPM_RC_OBJECT_HANDLES,
    TPM_RC_OBJECT_MEMORY,
    TPM_RC_REFERENCE_H0,
    TPM_RC_SESSION_HANDLES,
    TPM_RC_SESSION_MEMORY,
)
from hwtpm.tpm2.types.handles import LOADED_SESSION_FIRST, TRANSIENT_FIRST

log = logging.getLogger(__name__)

_FORMAT_ONE: Final = 0x80  # set in the codes that name a handle, session or parameter (Part 2, 6.6.2)


class Object:
    """A transient object or sequence of a space; `handle` is zero while it is not in the TPM."""

    __slots__ = ("context", "handle", "name", "sequence")

    def __init__(self, name: int, handle: int, *, sequence: bool) -> None:
        self.name, self.handle, self.sequence = name, handle, sequence
        self.context = b""


class Session:
    """An active session.  It is in the TPM while it has no `context`.

    *owner* is the space that it belongs to.  A client saves a session to load it again in another space; it
    has no owner in between, and `given` is the context that the client got.  `raw`: it belongs to the user of
    /dev/tpmN, and is only known while it has to make way.
    """

    __slots__ = ("context", "given", "handle", "owner", "raw")

    def __init__(self, handle: int, owner: Space | None, context: bytes = b"", *, raw: bool = False) -> None:
        self.handle, self.owner, self.context, self.raw = handle, owner, context, raw
        self.given = b""


Needed = Collection[Object | Session]
"""What a command needs in the TPM, so that it does not make way."""


class GoneError(Exception):
    """The TPM does not take the context: the object or session is not there any more."""


class NoRoomError(Exception):
    """The TPM takes nothing now; `response` says why."""

    def __init__(self, response: bytes) -> None:
        super().__init__()
        self.response = response


class Places:
    """What the resource manager has in the TPM that *execute* leads to, and what has been saved.

    `objects` are those in the TPM, by handle, and `loaded` the sessions in it, by number, the one used last
    at the end; `sessions` are all that are known, by number, the one that was saved by a client first at the
    front.  A user of /dev/tpmN may have loaded more, unless `raw_objects` and `raw_sessions` are false.
    """

    def __init__(self, execute: Callable[[bytes], bytes]) -> None:
        self.execute = execute
        self.objects: OrderedDict[int, Object] = OrderedDict()
        self.loaded: OrderedDict[int, Session] = OrderedDict()
        self.sessions: dict[int, Session] = {}
        self.raw_objects = self.raw_sessions = True
        self._raw_saved: dict[int, bytes] = {}
        self._told = False  # that sessions are left saved

    # Into the TPM.

    def load_object(self, found: Object, needed: Needed) -> None:
        """*found* is in the TPM; none of *needed* made way for it.  Raises GoneError and NoRoomError."""
        if found.handle:
            self.objects.move_to_end(found.handle)
            return
        response = self._load(found.context, needed)
        self.add_object(found, messages.U32.unpack_from(response, messages.HEADER.size)[0])

    def add_object(self, found: Object, handle: int) -> None:
        """*found* has been loaded at *handle*."""
        found.handle = handle
        self.objects[handle] = found
        if found.sequence:
            found.context = b""

    def load_session(self, found: Session, needed: Needed) -> None:
        """*found* is in the TPM; none of *needed* made way for it.  Raises GoneError and NoRoomError."""
        if not found.context:
            self.loaded.move_to_end(messages.index(found.handle))
            return
        try:
            self._load(found.context, needed)
        except GoneError:
            self.forget_session(found)
            raise
        self.add_session(found)

    def add_session(self, found: Session) -> None:
        """*found* has been loaded.  What was known by its number before is gone."""
        number = messages.index(found.handle)
        found.context = found.given = b""
        self.sessions.pop(number, None)
        self.sessions[number] = self.loaded[number] = found
        self.loaded.move_to_end(number)

    def _load(self, context: bytes, needed: Needed) -> bytes:
        while code := messages.code_of(response := self.execute(messages.context_load(context))):
            if self.make_room(code, needed):
                continue
            if _is_gone(code):
                raise GoneError
            raise NoRoomError(response)
        return response

    # Out of it.

    def make_room(self, code: int, needed: Needed) -> bool:
        """Return whether the command that the TPM answered with *code* should be tried again.

        Something has made way then, but nothing of *needed*.
        """
        if code in (TPM_RC_OBJECT_MEMORY, TPM_RC_OBJECT_HANDLES):
            return self._save_an_object(needed) or self._save_raw_objects()
        if code == TPM_RC_SESSION_MEMORY:
            return self._save_a_session(needed) or self.save_raw_sessions()
        if code == TPM_RC_MEMORY:
            return self._save_an_object(needed) or self._save_a_session(needed)
        if code == TPM_RC_SESSION_HANDLES:
            return self._flush_an_orphan()
        return code == TPM_RC_CONTEXT_GAP and self._renew_the_oldest()

    def save_object(self, found: Object) -> bool:
        """*found* is not in the TPM; False if the TPM cannot save it."""
        if not found.context:
            response = self.execute(messages.context_save(found.handle))
            code = messages.code_of(response)
            if code and not _is_gone(code):
                return False
            found.context = b"" if code else response[messages.HEADER.size :]
        self.flush_object(found)
        return True

    def save_objects(self, needed: Needed) -> None:
        """None of the objects of spaces but *needed* is in the TPM."""
        for found in list(self.objects.values()):
            if found not in needed:
                self.save_object(found)

    def flush_object(self, found: Object) -> None:
        """The TPM has no place taken by *found*."""
        if found.handle:
            self.execute(messages.flush_context(found.handle))
            self.forget_object(found)

    def forget_object(self, found: Object) -> None:
        """The TPM has flushed *found*."""
        self.objects.pop(found.handle, None)
        found.handle = 0

    def save_session(self, found: Session) -> bool:
        """*found* is not in the TPM; False if the TPM cannot save it."""
        if found.context:
            return True
        while code := messages.code_of(response := self.execute(messages.context_save(found.handle))):
            if code == TPM_RC_CONTEXT_GAP and self._renew_the_oldest():
                continue
            if not _is_gone(code):
                return False
            self.forget_session(found)
            return True
        found.context = response[messages.HEADER.size :]
        del self.loaded[messages.index(found.handle)]
        return True

    def flush_session(self, found: Session) -> None:
        """*found* is not active any more.

        A saved session is loaded first: the TPM then says whether its handle has become that of another.
        """
        with contextlib.suppress(GoneError, NoRoomError):
            self.load_session(found, ())
            self.execute(messages.flush_context(found.handle))
        self.forget_session(found)

    def forget_session(self, found: Session) -> None:
        """The TPM has flushed *found*."""
        number = messages.index(found.handle)
        if self.sessions.get(number) is found:
            del self.sessions[number]
            self.loaded.pop(number, None)

    def orphan(self, found: Session, context: bytes) -> None:
        """A client has saved *found* and got *context*."""
        number = messages.index(found.handle)
        found.owner, found.context, found.given = None, context, context
        self.loaded.pop(number, None)
        self.sessions.pop(number, None)
        self.sessions[number] = found

    def _save_an_object(self, needed: Needed) -> bool:
        """The object that was not used for longest, or else a sequence, has made way."""
        idle = [found for found in self.objects.values() if found not in needed]
        return any(self.save_object(found) for found in sorted(idle, key=lambda found: found.sequence))

    def _save_a_session(self, needed: Needed) -> bool:
        return any(self.save_session(found) for found in list(self.loaded.values()) if found not in needed)

    def _flush_an_orphan(self) -> bool:
        """The session that was saved by a client first, and not loaded since, is not active any more."""
        for found in self.sessions.values():
            if found.owner is None and not found.raw:
                # A program that goes on so is not to fill the log.
                log.log(logging.DEBUG if self._told else logging.WARNING,
                        "session 0x%08x makes way: a program saved it and never loaded it again",
                        found.handle)
                self._told = True
                self.flush_session(found)
                return True
        return False

    def _renew_the_oldest(self) -> bool:
        """The session that was saved first is saved anew, so that the TPM can number more contexts."""
        saved = [found for found in self.sessions.values() if found.context]
        if not saved:
            return False
        oldest = min(saved, key=lambda found: messages.sequence_number(found.context))
        code = messages.code_of(self.execute(messages.context_load(oldest.context)))
        if code:
            if _is_gone(code):
                self.forget_session(oldest)
            return _is_gone(code)
        response = self.execute(messages.context_save(oldest.handle))
        if messages.code_of(response):
            oldest.context = b""
            self.loaded[messages.index(oldest.handle)] = oldest
            return False
        oldest.context = response[messages.HEADER.size :]
        return True

    def lose(self) -> None:
        """The TPM has started anew: nothing is in it, and what was never saved is gone."""
        for found in list(self.objects.values()):
            self.forget_object(found)
        for session in [*self.loaded.values(), *self._sessions_of_raw()]:
            self.forget_session(session)
        self._raw_saved.clear()
        self.raw_objects = self.raw_sessions = True  # if it goes on from a running state

    def check_sessions(self, saved: Collection[int]) -> None:
        """No session is known that is not in the TPM, unless its number is one of *saved*."""
        for session in [session for number, session in self.sessions.items() if number not in saved]:
            if session.context:
                self.forget_session(session)

    def check_object(self, found: Object) -> None:
        """Raise GoneError if *found*, which is not in the TPM, cannot be loaded any more."""
        try:
            self.load_object(found, ())
        except NoRoomError:
            return
        self.save_object(found)

    # The user of /dev/tpmN.

    def hide(self, number: int) -> None:
        """No session with this *number* is in the TPM, which so refuses a command that names it.

        Raises NoRoomError if the TPM cannot save it.
        """
        if number not in self.sessions:
            self.save_raw_sessions()
        found = self.sessions.get(number)
        if found is not None and not self.save_session(found):
            raise NoRoomError(error_response(TPM_RC_CONTEXT_GAP))

    def is_raw(self, number: int) -> bool:
        """Tell whether the session *number* is one that the user of /dev/tpmN has loaded."""
        found = self.sessions.get(number)
        if found is not None:
            return found.raw
        return self.raw_sessions and number in map(messages.index, self._handles(LOADED_SESSION_FIRST))

    def _handles(self, first: int) -> list[int]:
        return messages.values(self.execute(messages.get_capability(TPM_CAP_HANDLES, first)))

    def _save_raw_objects(self) -> bool:
        """What the user of /dev/tpmN has loaded has made way; False if there was nothing."""
        if not self.raw_objects:
            return False
        self.raw_objects = False
        for handle in self._handles(TRANSIENT_FIRST):
            if handle in self.objects:
                continue
            response = self.execute(messages.context_save(handle))
            if not messages.code_of(response):
                self.execute(messages.flush_context(handle))
                self._raw_saved[handle] = response[messages.HEADER.size :]
        return bool(self._raw_saved)

    def save_raw_sessions(self) -> bool:
        """The sessions that the user of /dev/tpmN has loaded have made way; False if there were none."""
        if not self.raw_sessions:
            return False
        self.raw_sessions = False
        known = set(self.loaded)
        found = [Session(handle, None, raw=True) for handle in self._handles(LOADED_SESSION_FIRST)
                 if messages.index(handle) not in known]
        for session in found:
            self.add_session(session)
        # All of them are tried, even if the first is as much room as is needed now.
        return any([self.save_session(session) for session in found])

    def give_way(self) -> None:
        """The TPM holds what the user of /dev/tpmN loaded, each at its handle, and nothing of the spaces."""
        if self.objects or self.loaded:
            self.save_objects(())
            for session in list(self.loaded.values()):
                if not session.raw:
                    self.save_session(session)
        if not self.raw_sessions:
            for session in self._sessions_of_raw():
                with contextlib.suppress(GoneError, NoRoomError):
                    self.load_session(session, ())
                self.forget_session(session)
            self.raw_sessions = True
        if not self.raw_objects:
            self._restore_raw_objects()
            self.raw_objects = True

    def _sessions_of_raw(self) -> list[Session]:
        return [session for session in self.sessions.values() if session.raw]

    def _restore_raw_objects(self) -> None:
        """Each object is back at its handle, or gone if the TPM does not take it any more.

        A TPM loads at the lowest free handle, so a handle that was free is taken meanwhile.
        """
        fillers: list[int] = []
        for handle in sorted(self._raw_saved):
            context = self._raw_saved.pop(handle)
            while True:
                response = self.execute(messages.context_load(context))
                if messages.code_of(response):
                    break
                place = messages.U32.unpack_from(response, messages.HEADER.size)[0]
                if place >= handle:
                    break
                self.execute(messages.flush_context(place))
                self.execute(messages.hash_sequence_start())
                fillers.append(place)
        for place in fillers:
            self.execute(messages.flush_context(place))


def _is_gone(code: int) -> bool:
    """Tell whether *code* says that a context or handle is none: not that the TPM cannot do it now."""
    return bool(code & _FORMAT_ONE) or code == TPM_RC_REFERENCE_H0
