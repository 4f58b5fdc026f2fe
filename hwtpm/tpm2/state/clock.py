"""Time, Clock and the counts of resets and restarts (Part 1, "Timing Components")."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

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
        self._power_on = now()
        self._base = 0  # Clock when _base_time was read
        self._base_time = self._power_on
        self.reset_count = 0
        self.restart_count = 0
        self.epoch = 0  # changes with each power cycle, so that a policy's timeout cannot outlive one
        self.safe = True

    def time_ms(self) -> int:
        """Return Time: milliseconds since power on."""
        return self._now() - self._power_on

    def clock_ms(self) -> int:
        """Return Clock in milliseconds; stores it when it is due."""
        clock = self._base + self._now() - self._base_time
        if clock // CLOCK_UPDATE_MS != self._stored // CLOCK_UPDATE_MS:
            self._stored = clock
            self.safe = True
            self.touch()
        return clock

    _stored = 0  # what the last stored state says

    def set_clock(self, clock: int) -> None:
        """Clock goes on from *clock*, in milliseconds, and this is stored."""
        self._base, self._base_time = clock, self._now()
        self._stored = clock
        self.safe = True
        self.touch()

    def clear(self) -> None:
        """What TPM2_Clear does: Clock and the counts are zero, and safe."""
        self.reset_count = self.restart_count = 0
        self.set_clock(0)

    def clock_info(self) -> TPMS_CLOCK_INFO:
        """Return Clock, the counts and whether Clock is safe (Part 2, 10.10.1)."""
        clock = self.clock_ms()
        return TPMS_CLOCK_INFO(clock, self.reset_count, self.restart_count, int(self.safe))

    def time_info(self) -> TPMS_TIME_INFO:
        """Return Time and Clock (Part 2, 10.10.6)."""
        return TPMS_TIME_INFO(self.time_ms(), self.clock_info())

    def shutdown(self) -> None:
        """Clock is stored as it is now, so it is safe after the next Startup."""
        self._stored = self._base + self._now() - self._base_time
        self.touch()

    def start(self, start: Start, orderly: bool) -> None:
        """Count the Startup; after a loss of power that was not *orderly*, Clock is not safe."""
        if start is Start.RESET:
            self.reset_count = (self.reset_count + 1) & 0xFFFFFFFF
            self.restart_count = 0
        else:
            self.restart_count = (self.restart_count + 1) & 0xFFFFFFFF
        if not orderly:
            self.safe = False
        self.touch()

    def save(self) -> bytes:
        """Return version, Clock, counts, epoch and safe."""
        self._stored = self._base + self._now() - self._base_time
        return encode(_Permanent(1, self._stored, self.reset_count, self.restart_count, self.epoch,
                                 int(self.safe)))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave; Clock goes on from there, in a new epoch."""
        found = decode(_Permanent, state)
        if found.version != 1:
            raise ValueError(f"clock state of version {found.version}")
        self._base, self._base_time, self._stored = found.clock, self._now(), found.clock
        self.reset_count, self.restart_count = found.reset_count, found.restart_count
        self.epoch = (found.epoch + 1) & 0xFFFFFFFF
        self.safe = bool(found.safe)
