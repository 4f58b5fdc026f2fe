"""Time, Clock and the counts of resets and restarts (Part 1, "Timing Components")."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from hwtpm.tpm2.profile import CLOCK_UPDATE_MS
from hwtpm.tpm2.state.owner import Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT32, UINT64
from hwtpm.tpm2.types.structures import TPMS_CLOCK_INFO, TPMS_TIME_INFO
from hwtpm.wire import Wire, decode, encode


class _Permanent(Wire):
    version: UINT8
    clock: UINT64
    reset_count: UINT32
    restart_count: UINT32
    epoch: UINT32
    safe: UINT8


class _Volatile(Wire):
    version: UINT8
    reported: UINT64


class _Live(Wire):
    version: UINT8
    rate: UINT32
    counted: UINT64
    elapsed: UINT64
    clock: UINT64


# Changes of the rate by TPM_CLOCK_ADJUST without its sign, in millionths of the nominal rate.
_STEPS: Final = (0, 100, 1_000, 10_000)
_NOMINAL: Final = 1_000_000
_TOLERANCE: Final = 150_000
_LIMIT: Final = 1 << 62  # ms, more than any Time
_CLOCK_LIMIT: Final = (1 << 64) - (1 << 47)  # ms, more than Clock from the highest that can be set


class Clock(Owner):
    """Milliseconds and counts.  *now* gives milliseconds that never go back; its zero means nothing.

    *Time* is what has passed since power on.  *Clock* goes on over power cycles: it is stored whenever it
    crosses a multiple of CLOCK_UPDATE_MS and at a Shutdown, so after a loss of power it may repeat at most
    that much, and `safe` says so until the next time it is stored.
    """

    TAG: ClassVar[bytes] = b"clck"

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now
        self._rate = _NOMINAL
        self._counted_from = now()
        self._counted = 0  # Time when _rate was set, at _counted_from
        self._ahead = 0  # Clock less Time
        self._stored = 0  # Clock as permanent state has it
        self._reported = 0  # Clock when it was last asked for
        self.reset_count = 0
        self.restart_count = 0
        self.epoch = 0  # changes with each Startup, so that a policy's timeout cannot outlive a power cycle
        self.safe = True

    def time_ms(self) -> int:
        """Return Time: milliseconds since power on."""
        return self._counted + (self._now() - self._counted_from) * self._rate // _NOMINAL

    def can_adjust(self, adjustment: int) -> bool:
        """Tell whether the rate may be changed by *adjustment*, a TPM_CLOCK_ADJUST (Part 3, 29.3)."""
        return abs(self._adjusted(adjustment) - _NOMINAL) <= _TOLERANCE

    def adjust(self, adjustment: int) -> None:
        """Time and Clock go on at a rate changed by *adjustment*, a TPM_CLOCK_ADJUST, until power goes."""
        self._counted, self._counted_from = self.time_ms(), self._now()
        self._rate = self._adjusted(adjustment)

    def _adjusted(self, adjustment: int) -> int:
        step = _STEPS[abs(adjustment)]
        return self._rate + (step if adjustment > 0 else -step)

    def clock_ms(self) -> int:
        """Return Clock in milliseconds; has it stored, and so safe, when that is due."""
        clock = self._reported = self.time_ms() + self._ahead
        if clock // CLOCK_UPDATE_MS != self._stored // CLOCK_UPDATE_MS:
            self.safe = True
            self._store(clock)
        return clock

    def _store(self, clock: int) -> None:
        self._stored = clock
        self.touch()

    def advance(self, clock: int) -> None:
        """Clock goes on from *clock*, in milliseconds, which is not before it (TPM2_ClockSet)."""
        self._ahead = clock - self.time_ms()
        self.clock_ms()
        if self.safe:
            self._store(clock)

    def clear(self) -> None:
        """What TPM2_Clear does: Clock and the counts are zero, and safe."""
        self.reset_count = self.restart_count = 0
        self._ahead = -self.time_ms()
        self.safe = True
        self._store(0)

    def clock_info(self) -> TPMS_CLOCK_INFO:
        """Return Clock, the counts and whether Clock is safe (Part 2, 10.10.1)."""
        clock = self.clock_ms()
        return TPMS_CLOCK_INFO(clock, self.reset_count, self.restart_count, int(self.safe))

    def time_info(self) -> TPMS_TIME_INFO:
        """Return Time and Clock (Part 2, 10.10.6)."""
        return TPMS_TIME_INFO(self.time_ms(), self.clock_info())

    def shutdown(self) -> None:
        """Clock is stored as it is now, so that it is safe after the next Startup; but not if it is not safe.

        What is not known to be ahead of all that was reported must not become so (Part 1, 33.3.3).
        """
        clock = self.clock_ms()
        if self.safe:
            self._store(clock)

    def start(self, start: Start, orderly: bool) -> None:
        """Count the Startup; after a loss of power that was not *orderly*, Clock is not safe."""
        if start is Start.RESET:
            self.reset_count = (self.reset_count + 1) & 0xFFFFFFFF
            self.restart_count = 0
        else:
            self.restart_count = (self.restart_count + 1) & 0xFFFFFFFF
        self.epoch = (self.epoch + 1) & 0xFFFFFFFF
        if not orderly:
            self.safe = False
        self.touch()

    def count_launch(self) -> None:
        """A dynamic launch counts as a restart (Part 3, 22.11)."""
        self.restart_count = (self.restart_count + 1) & 0xFFFFFFFF
        self.touch()

    def save(self) -> bytes:
        """Return version, Clock as it was last stored, the counts, epoch and safe."""
        return encode(_Permanent(1, self._stored, self.reset_count, self.restart_count, self.epoch,
                                 int(self.safe)))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave; Clock goes on from there, unless it is already ahead of it."""
        found = decode(_Permanent, state)
        if found.version != 1:
            raise ValueError(f"clock state of version {found.version}")
        self._stored = found.clock
        self._ahead = max(self._ahead, found.clock - self.time_ms())
        self.reset_count, self.restart_count = found.reset_count, found.restart_count
        self.epoch = found.epoch
        self.safe = bool(found.safe)

    def save_volatile(self) -> bytes:
        """Return the last Clock that was reported: a later one nullifies a Shutdown (Part 1, 33.3.3)."""
        return encode(_Volatile(1, self._reported))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != 1:
            raise ValueError(f"clock state of version {found.version}")
        self._reported = found.reported

    def save_live(self) -> bytes:
        """Return version, the rate, Time when it was set, the ms that passed since, and Clock."""
        elapsed, clock = self._now() - self._counted_from, self.time_ms() + self._ahead
        return encode(_Live(1, self._rate, self._counted, elapsed, clock))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave; Time and Clock go on from there, whatever the time is now."""
        found = decode(_Live, state)
        if found.version != 1:
            raise ValueError(f"clock state of version {found.version}")
        if (abs(found.rate - _NOMINAL) > _TOLERANCE or max(found.counted, found.elapsed) >= _LIMIT
                or found.clock >= _CLOCK_LIMIT):
            raise ValueError("a time that no TPM reaches")
        self._rate, self._counted = found.rate, found.counted
        self._counted_from = self._now() - found.elapsed
        self._ahead = found.clock - self.time_ms()
