"""Prime pairs found ahead, so that TPM2_Create of an RSA 2048 key need not search for them.

A process of its own searches, in the scheduling class for idle time, and only after somebody has asked once.
A thread of this process would not do: between the powers it holds the interpreter lock, for a millisecond
when it sieves, and every small command would wait for that.  It is given one octet for each pair that is
wanted, so it never has more than SIZE pairs ready, and it ends when its input does, however this process
ends.

The pairs come from the operating system's generator.  They are for ordinary keys only: primary keys are
derived from their seed, with or without ``--seed``, and ordinary keys are random in either case.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from subprocess import Popen

log = logging.getLogger(__name__)

BITS: Final = 2048
EXPONENT: Final = 65537
SIZE: Final = 4  # pairs
_PRIME: Final = BITS // 16  # octets


class PrimePool:
    """At most SIZE pairs of primes for RSA keys of BITS bits with EXPONENT; for any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._finder: Popen[bytes] | None = None
        self._rest = b""  # of a pair that has come in part
        self._closed = False

    def take(self, bits: int, exponent: int) -> tuple[int, int] | None:
        """Return a pair that nobody else has or will get, or None when there is none now; never waits."""
        if (bits, exponent) != (BITS, EXPONENT):
            return None
        with self._lock:
            if self._finder is None:
                if not self._closed:
                    self._start()
                return None
            assert self._finder.stdout is not None
            try:
                found = os.read(self._finder.stdout.fileno(), 2 * _PRIME - len(self._rest))
            except BlockingIOError:
                return None
            pair, self._rest = self._rest + found, b""
            if not found:
                log.warning("the search for primes ahead has ended with status %s", self._stop())
                self._closed = True
                return None
            if len(pair) < 2 * _PRIME:
                self._rest = pair
                return None
            self._want(1)
            return int.from_bytes(pair[:_PRIME], "big"), int.from_bytes(pair[_PRIME:], "big")

    def close(self) -> None:
        """No process searches any more; safe to call twice."""
        with self._lock:
            self._closed = True
            self._stop()

    def _start(self) -> None:
        from subprocess import DEVNULL, PIPE, Popen

        try:
            # Below this directory the process finds the same package as this one.
            self._finder = Popen([sys.executable, "-m", __name__], stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
                                 bufsize=0, cwd=Path(__file__).parents[1], start_new_session=True)
        except OSError as error:
            log.warning("no search for primes ahead: %s", error)
            self._closed = True
            return
        assert self._finder.stdout is not None
        os.set_blocking(self._finder.stdout.fileno(), False)
        self._want(SIZE)

    def _want(self, pairs: int) -> None:
        assert self._finder is not None
        assert self._finder.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # The next read says so.
            os.write(self._finder.stdin.fileno(), bytes(pairs))

    def _stop(self) -> int | None:
        """End the process if there is one, and return its status."""
        finder, self._finder = self._finder, None
        if finder is None:
            return None
        assert finder.stdin is not None
        assert finder.stdout is not None
        finder.stdin.close()
        finder.stdout.close()
        finder.kill()
        return finder.wait()


def find() -> None:
    """For each octet on standard input, one pair is written to standard output, p then q, big-endian."""
    # The parent may have blocked signals for itself.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    from hwtpm.crypto.primes import generate_rsa

    while os.read(0, 1):
        p, q = generate_rsa(BITS, EXPONENT, os.urandom, lambda: False)
        os.write(1, p.to_bytes(_PRIME, "big") + q.to_bytes(_PRIME, "big"))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        find()
