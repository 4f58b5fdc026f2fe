"""What a chip that is busy is given: time.

Some response codes say that the same command may succeed later: the chip is testing itself, was interrupted,
limits how often its NV is written, or has all its sessions in use (Part 2, 6.6.3, RC_WARN; TPM 1.2: Part 2,
16, the non-fatal codes).  The command is sent again for some seconds; after that, a StateError says what the
matter is.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from hwtpm.errors import StateError
from hwtpm.tpm2.types.constants import (
    TPM_RC_NV_RATE,
    TPM_RC_RETRY,
    TPM_RC_SESSION_MEMORY,
    TPM_RC_TESTING,
    TPM_RC_YIELDED,
)
from hwtpm.tpm12.types.codes import TPM_DOING_SELFTEST, TPM_RETRY

PATIENCE: Final = 6.0
"""Seconds: a TPM 1.2 may count once in five (Part 1, 20)."""

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5
_CODE: Final = Struct(">I")
_AGAIN: Final = "what was not saved is saved when it answers again"
_BUSY: Final = {
    TPM_RC_RETRY: f"is busy (TPM_RC_RETRY); {_AGAIN}",
    TPM_RC_YIELDED: f"is busy (TPM_RC_YIELDED); {_AGAIN}",
    TPM_RC_TESTING: f"is still testing itself (TPM_RC_TESTING); {_AGAIN}",
    TPM_RC_NV_RATE: f"limits how often its NV is written (TPM_RC_NV_RATE); {_AGAIN}",
    TPM_RC_SESSION_MEMORY: f"has all its sessions in use by others (TPM_RC_SESSION_MEMORY); {_AGAIN}",
    TPM_RETRY: f"is busy (TPM_RETRY); {_AGAIN}",
    TPM_DOING_SELFTEST: f"is still testing itself (TPM_DOING_SELFTEST); {_AGAIN}",
}


class Patient:
    """A way to a chip that sends a command again, as long as the chip is only busy.

    *clock* and *sleep* are in seconds.
    """

    def __init__(self, execute: Callable[[bytes], bytes], clock: Callable[[], float],
                 sleep: Callable[[float], None]) -> None:
        self._execute, self._clock, self._sleep = execute, clock, sleep

    def __call__(self, command: bytes) -> bytes:
        """Return the response; StateError, one line for people, if the chip is busy for too long."""
        pause, until = _FIRST_PAUSE, self._clock() + PATIENCE
        while True:
            response = self._execute(command)
            told = _BUSY.get(_CODE.unpack_from(response, 6)[0]) if len(response) == 10 else None
            if told is None:
                return response
            if self._clock() + pause > until:
                raise StateError(f"the chip {told}")
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
