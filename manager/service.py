"""What endpoints need of a manager: vTPMs at once, everything else when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from manager.manager import Manager
from manager.sealing import SealingChip
from manager.vtpms import Connection, Vtpms

if TYPE_CHECKING:
    from manager.answers import Answers
    from manager.attesting import AttestingChip
    from manager.quote import Meaning


class Service:
    """The service of *manager*, whose chip is *chip*; *attesting* gives it with all that it can do.

    Quotes have the meaning that *meaning* gives, or the documented one.  Only if *guests_administrate*, an
    administrative vTPM may manage.  *now* gives milliseconds that never go back.  Safe to use from any
    thread.
    """

    def __init__(self, manager: Manager, chip: SealingChip, attesting: Callable[[], AttestingChip],
                 entropy: Callable[[int], bytes], *, meaning: Callable[[], Meaning] | None = None,
                 guests_administrate: bool = True, now: Callable[[], int] = lambda: 0) -> None:
        self.manager, self.family, self.now = manager, chip.family, now
        self.vtpms = Vtpms(manager, entropy, guests_administrate=guests_administrate)
        self._chip, self._attesting, self._entropy, self._meaning = chip, attesting, entropy, meaning
        self._lock = Lock()
        self._answers: Answers | None = None

    @property
    def answers(self) -> Answers:
        """The answers to what is not about a vTPM's own secrets."""
        with self._lock:
            if self._answers is None:
                # A start that needs none of this does not wait for it.
                from manager.answers import Answers
                from manager.quote import Meaning

                meaning = self._meaning() if self._meaning else Meaning()
                self._answers = Answers(
                    self.manager, self._attesting(), self.vtpms, self._entropy, meaning)
            return self._answers

    def pass_through(self, command: bytes, connection: Connection) -> bytes:
        """Return the chip's response to *command*, as `manager.passthrough` says."""
        from manager.passthrough import pass_through

        administrative = self.vtpms.administrates(connection)
        with self.manager.exclusive():
            return pass_through(self.family, self._chip.transmit, command, administrative=administrative)
