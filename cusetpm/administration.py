"""What the administrator of a state directory can ask of it, whether a process uses it or not.

Questions and answers are messages of the manager's protocol.  Xen's ordinals are answered as to a vTPM that
may manage; one more, CUSETPM_ORD_ADMINISTER, is for all that Xen has no ordinal for: its payload is a JSON
object, with the name of the question as "ask" and its arguments beside it, and so is the answer's.  When it
fails, the payload is the reason, one line for people.

A process that holds the directory answers at a socket in its run directory, for the same user only, and
DIR/manager.at says where; without one, the chip and the manager are started in the process that asks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from cusetpm.devices.rawsocket import RawSocket
from cusetpm.progress import Progress, untold
from cusetpm.settings import NAME, Settings
from cusetpm.settings import write as write_settings
from cusetpm.statedir import InUse, StateDirectory
from cusetpm.tpmfile import TpmFile
from cusetpm.transport import Cancelled, Transport
from cusetpm.trouble import line
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm12.types.codes import TPM_FAIL, TPM_SUCCESS
from manager.requests import HEADER, VTPM_TAG_REQ2, VTPM_TAG_RSP

if TYPE_CHECKING:
    from cusetpm.daemon import System

log = logging.getLogger(__name__)

SOCKET: Final = "manager.sock"
PLACE: Final = "manager.at"
CUSETPM_ORD_ADMINISTER: Final = 0x02000400
NOBODY: Final = UUID(int=0)
"""The UUID that the administrator's endpoint has: no vTPM has it."""

Question = Callable[..., Any]


class Administrator:
    """Answers the administrator of *system*; a `Transport`.

    *questions* are what can be asked besides Xen's ordinals: each is given the system and the arguments.
    """

    def __init__(self, system: System, endpoint: Transport, questions: dict[str, Question]) -> None:
        self._system, self._endpoint, self._questions = system, endpoint, questions
        self.cancel = endpoint.cancel

    def takes_long(self, command: bytes) -> bool:
        """Return True: anything here can go to the disk and the chip."""
        return True

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the answer to any octets."""
        if len(command) < HEADER.size or HEADER.unpack_from(command) != (
                VTPM_TAG_REQ2, len(command), CUSETPM_ORD_ADMINISTER):
            return self._endpoint.execute(command, locality, cancelled)
        try:
            return _message(VTPM_TAG_RSP, TPM_SUCCESS, json.dumps(self._answer(command[HEADER.size :])))
        except (OSError, StateError, ProtocolError, TpmError) as error:
            return _message(VTPM_TAG_RSP, TPM_FAIL, line(error))

    def _answer(self, payload: bytes) -> Any:
        try:
            arguments = json.loads(payload)
            question = self._questions[arguments.pop("ask")]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ProtocolError("the manager of another version of cusetpm does not know this") from None
        return question(self._system, **arguments)


class Administration:
    """A way to an `Administrator`, which is in this process unless *elsewhere*."""

    def __init__(self, transmit: Callable[[bytes], bytes], *, elsewhere: bool = False) -> None:
        self.execute, self.elsewhere = transmit, elsewhere

    def ask(self, question: str, **arguments: Any) -> Any:
        """Return the answer; StateError, one line for people, if there is none."""
        text = json.dumps({"ask": question, **arguments})
        response = self.execute(_message(VTPM_TAG_REQ2, CUSETPM_ORD_ADMINISTER, text))
        if len(response) < HEADER.size:
            raise ProtocolError("a response of the manager that is cut short")
        _, _, code = HEADER.unpack_from(response)
        payload = response[HEADER.size :].decode()
        if code != TPM_SUCCESS:
            raise StateError(payload or f"the manager answered with return code {code}")
        return json.loads(payload)


def administrator(system: System) -> Administrator:
    """Return the one who answers for *system*."""
    from cusetpm.questions import QUESTIONS
    from manager.protocol import Endpoint
    from manager.vtpms import Connection

    return Administrator(system, Endpoint(system.service, Connection(None, administrator=True)), QUESTIONS)


def initialise(path: Path, settings: Settings) -> None:
    """There is a state directory at *path* with a manager that is set so; StateError if there is one already.

    If that fails, nothing of it is left in the directory.
    """
    from cusetpm.daemon import System

    fresh = not (path / "format").exists()
    with closing(StateDirectory(path)) as state:
        if _is_manager(state.manager):
            raise StateError(f"{path}: there is a manager already")
        write_settings(path, settings)
        state.keep()
    try:
        with closing(System(path)) as system:
            system.release()
    except BaseException:
        for pattern in (NAME, "manager.db*", *(("chip.?", "format", "lock") if fresh else ())):
            for file in path.glob(pattern):
                file.unlink()
        with suppress(OSError):
            path.rmdir()
        raise


def _is_manager(store: Path) -> bool:
    """Tell whether there is a manager's store that was completed, or a file that is not known to be none."""
    from manager.model import ROOT
    from manager.store import copied

    try:
        with copied(store) as found:
            return found is not None and bool(found.keys(ROOT))
    except StateError:
        return True


@contextmanager
def administer(path: Path, progress: Progress = untold, **start: Any) -> Iterator[Administration]:
    """Give a way to the administrator of the state directory *path*, which exists.

    If nobody uses the directory, *start* is how a `System` of it is started, and its `progress` is given.
    Raises StateError and OSError as that does.
    """
    from cusetpm.daemon import System  # with the engines, which a process that is there has already

    try:
        system = System(path, **start)
    except InUse as busy:
        try:
            file = TpmFile((path / PLACE).read_text())
        except OSError:
            raise StateError(f"{busy}; it does not answer questions") from None
        with file:
            yield Administration(file.execute, elsewhere=True)
        return
    try:
        system.progress = progress
        system.release()
        yield Administration(administrator(system).execute)
    finally:
        system.close()


@contextmanager
def serving(system: System, directory: Path) -> Iterator[None]:
    """The administrator of *system* answers at a socket in *directory*, which is for this user only."""
    place = system.state.path / PLACE
    socket = RawSocket(directory / SOCKET, administrator(system))
    socket.start()
    try:
        try:
            place.write_text(socket.path)
        except OSError as error:
            # The vTPM is accepted by now, and of use without it.
            log.info("%s: %s; this process takes no questions", place, error.strerror)
        yield
    finally:
        place.unlink(missing_ok=True)
        socket.stop()


def _message(tag: int, code: int, text: str) -> bytes:
    payload = text.encode()
    return HEADER.pack(tag, HEADER.size + len(payload), code) + payload
