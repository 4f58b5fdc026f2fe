"""Lines in the log that a guest causes, as often as it likes, and that are not to fill the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import Final

BURST: Final = 10
"""Lines of a guest that are logged at once; after them it has one in each PERIOD."""

PERIOD: Final = 1000
"""Milliseconds."""


class Seldom:
    """Warnings for *log* that one guest, *name*, causes; *now* gives milliseconds that never go back.

    Not all are logged, and the next that is, or `close`, says how many were not.  Safe to use from any
    thread.
    """

    def __init__(self, log: logging.Logger, name: str, now: Callable[[], int]) -> None:
        self._log, self._name, self._now = log, name, now
        self._lock = Lock()
        self._paid = now()  # when the lines so far would have been due, one in each PERIOD
        self._left_out = 0

    def warning(self, line: str) -> None:
        """*line* is logged behind the guest's name, or counted."""
        with self._lock:
            now = self._now()
            self._paid = max(self._paid, now)
            if self._paid - now > (BURST - 1) * PERIOD:
                self._left_out += 1
                return
            self._paid += PERIOD
            left_out, self._left_out = self._left_out, 0
        self._say(left_out)
        self._log.warning("%s: %s", self._name, line)

    def close(self) -> None:
        """The log says how many lines it does not have."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        self._say(left_out)

    def _say(self, left_out: int) -> None:
        if left_out:
            self._log.warning("%s: %d more refusals, too many to log each", self._name, left_out)
