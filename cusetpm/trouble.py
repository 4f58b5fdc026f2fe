"""Failures in one line for people, and each told once, however many commands it fails."""

from __future__ import annotations

import errno
import logging
from threading import Lock

log = logging.getLogger(__name__)


_lock = Lock()
_REMEDY = "; make room there"


def line(error: Exception) -> str:
    """Return *error* in one line: the file, what is wrong with it, and what to do where that is known."""
    if not isinstance(error, OSError):
        return str(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    remedy = _REMEDY if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{where}{error.strerror or error}{remedy}"


class Trouble:
    """Why *what* is not so, if it is not; safe to use from any thread.

    It is told when it begins, and again only after it was over.  What one of its *neighbours*, which it
    joins, has told already is not told again: the same cause, or another file of a device that is full.
    While it is *silent*, it is only kept: `cause` is what whoever gives up may say then.
    """

    def __init__(self, what: str, neighbours: list[Trouble], *, silent: bool = False) -> None:
        self.cause: Exception | None = None
        self.silent = silent
        self._what = what
        self._neighbours = neighbours
        neighbours.append(self)

    def met(self, cause: Exception) -> None:
        """Something failed for *cause*; if it comes of what failed before, the first cause stays."""
        with _lock:
            if self.cause is not None:
                return
            told = bool(self._alike(cause))
            self.cause = cause
        if not self.silent and not told:
            log.error("%s: %s", self._what, line(cause))

    def over(self) -> None:
        """It has succeeded; so what stopped the neighbours for the same cause has ended as well."""
        if self.cause is None:
            return
        with _lock:
            for trouble in (self, *self._alike(self.cause)):
                trouble.cause = None
        log.info("%s: not any more", self._what)

    def _alike(self, cause: Exception) -> list[Trouble]:
        return [other for other in self._neighbours
                if other.cause is not None and other is not self and _same(cause, other.cause)]


def _same(one: Exception, other: Exception) -> bool:
    return line(one) == line(other) or (line(one).endswith(_REMEDY) and line(other).endswith(_REMEDY))
