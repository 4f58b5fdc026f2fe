"""Defence against dictionary attacks (Part 1, 5.5, "Dictionary Attack Considerations").

After `LOCKOUT_THRESHOLD` wrong authorizations each further one closes the TPM for authorized commands, for a
second at first and twice as long each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from hwtpm.tpm12.profile import LOCKOUT_THRESHOLD
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_BOOL, UINT8, UINT32, UINT64
from hwtpm.wire import Wire, decode, encode

_FORMAT: Final = 2
_LONGEST: Final = 1 << 31  # seconds


class _Version1(Wire):
    version: UINT8
    failures: UINT32
    left_ms: UINT32  # less than the longest time-out has
    disable_reset: TPM_BOOL


class _Volatile(Wire):
    version: UINT8
    failures: UINT32
    left_ms: UINT64
    disable_reset: TPM_BOOL


class Lockout(Owner):
    """`failures` counts wrong authorizations since the owner's last TPM_ResetLockValue."""

    TAG: ClassVar[bytes] = b"lock"

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now  # milliseconds
        self._until = 0
        self.failures = 0
        self._disable_reset = False  # TPM_STCLEAR_DATA.disableResetLock

    @property
    def seconds_left(self) -> int:
        """For how long authorized commands are refused; 0 when they are not."""
        return -(-max(self._until - self._now(), 0) // 1000)

    @property
    def reset_disabled(self) -> bool:
        """Tell whether not even the owner can end the lock that is running (Part 3, 9.3: action 1)."""
        return self._disable_reset and bool(self.seconds_left)

    def disable_reset(self) -> None:
        """Not even the owner can end the lock that is running."""
        self._disable_reset = True

    def fail(self) -> None:
        """An authorization was wrong."""
        if not self.seconds_left:  # The lock that could not be reset has run out.
            self._disable_reset = False
        self.failures += 1
        excess = self.failures - LOCKOUT_THRESHOLD
        if excess > 0:
            self._until = self._now() + 1000 * min(1 << min(excess - 1, 31), _LONGEST)

    def reset(self) -> None:
        """The owner has forgiven all failures."""
        self.failures = self._until = 0

    def owner_clear(self, *, revoke: bool = False) -> None:
        """Failures are forgotten."""
        self.reset()
        self._disable_reset = False

    def startup(self, start: Start) -> None:
        """Failures are forgotten, unless a saved state was resumed."""
        if start is not Start.STATE:
            self.reset()
            self._disable_reset = False

    def save_volatile(self) -> bytes:
        """Return version, failures, what is left of the time-out in ms, disableResetLock."""
        left = max(self._until - self._now(), 0)
        return encode(_Volatile(_FORMAT, self.failures, left, self._disable_reset))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave, or gave when its format was version 1."""
        found: _Version1 | _Volatile
        found = decode(_Version1, state) if state[:1] == b"\1" else decode(_Volatile, state)
        if found.version not in (1, _FORMAT):
            raise ValueError(f"lockout of version {found.version}")
        if found.left_ms > 1000 * _LONGEST:
            raise ValueError(f"a lockout of {found.left_ms} ms")
        self.failures, self._disable_reset = found.failures, bool(found.disable_reset)
        self._until = self._now() + found.left_ms if found.left_ms else 0
