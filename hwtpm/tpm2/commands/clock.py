"""Clocks and timers (Part 3, 29)."""

from __future__ import annotations

from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.clock import ClockRateAdjust, ClockSet, ReadClock, ReadClockResponse
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.types.constants import TPM_RC_VALUE

_LAST: Final = 0xFFFF0000_00000000  # Clock cannot be set beyond


@handles
def read_clock(tpm: Tpm, cmd: ReadClock) -> ReadClockResponse:
    """Time, Clock and the counts are returned.  Part 3, 29.1."""
    # Command Output
    return ReadClockResponse(tpm.clock.time_info())


@handles
def clock_set(tpm: Tpm, cmd: ClockSet) -> Empty:
    """Clock goes on from *new_time*, in milliseconds.  Part 3, 29.2.

    TPM_RC_VALUE (parameter 1): it is less than Clock, or too high.
    """
    # Input Validation
    if cmd.new_time > _LAST or cmd.new_time < tpm.clock.clock_ms():
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    tpm.clock.advance(cmd.new_time)
    # Command Output
    return Empty()


@handles
def clock_rate_adjust(tpm: Tpm, cmd: ClockRateAdjust) -> Empty:
    """Time and Clock advance faster or slower than before.  Part 3, 29.3.

    TPM_RC_VALUE (parameter 1): they would be more than 15 percent from the nominal rate.
    """
    # Input Validation
    if not tpm.clock.can_adjust(cmd.rate_adjust):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    tpm.clock.adjust(cmd.rate_adjust)
    # Command Output
    return Empty()
