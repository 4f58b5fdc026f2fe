"""The tick session (Part 1, 20; Part 2, 15)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from hwtpm.tpm12.profile import TICK_US
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_NONCE, UINT8, UINT64
from hwtpm.tpm12.types.ticks import TPM_CURRENT_TICKS
from hwtpm.wire import Wire, decode, encode

_FORMAT: Final = 1


class _Volatile(Wire):
    version: UINT8
    elapsed_ms: UINT64
    nonce: TPM_NONCE


class Ticks(Owner):
    """Ticks count from each start of the TPM on: nothing tells how long it had no power."""

    TAG: ClassVar[bytes] = b"tick"

    def __init__(self, random: Callable[[int], bytes], now: Callable[[], int]) -> None:
        super().__init__()
        self._random, self._now = random, now  # milliseconds
        self._began = 0
        self._nonce = bytes(20)

    def current(self) -> TPM_CURRENT_TICKS:
        """Return what the ticks are at this moment."""
        return TPM_CURRENT_TICKS((self._now() - self._began) * 1000 // TICK_US, TICK_US, self._nonce)

    def _begin(self) -> None:
        self._began, self._nonce = self._now(), self._random(20)

    def startup(self, start: Start) -> None:
        """A new session has begun."""
        self._begin()

    def owner_clear(self, *, revoke: bool = False) -> None:
        """A new session has begun."""
        self._begin()

    def save_volatile(self) -> bytes:
        """Return version, the milliseconds since the session began, and its nonce."""
        return encode(_Volatile(_FORMAT, self._now() - self._began, self._nonce))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave; the session goes on."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"ticks of version {found.version}")
        self._began, self._nonce = self._now() - found.elapsed_ms, found.nonce
