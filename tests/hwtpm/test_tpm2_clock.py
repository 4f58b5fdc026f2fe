"""Time and Clock: what goes on, what is stored, and when Clock is safe."""

from __future__ import annotations

import pytest

from hwtpm.client import Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import CLOCK_UPDATE_MS
from hwtpm.tpm2.requests.clock import ClockRateAdjust, ClockSet, ReadClock
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.clock import Clock
from hwtpm.tpm2.types.base import NO, YES
from hwtpm.tpm2.types.constants import (
    TPM_CLOCK_COARSE_FASTER,
    TPM_CLOCK_COARSE_SLOWER,
    TPM_CLOCK_FINE_FASTER,
    TPM_CLOCK_NO_CHANGE,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMS_TIME_INFO
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_pair import Pair

NONE = Password()
P1 = 0x140
LAST = 0xFFFF0000_00000000


@pytest.fixture
def tpm() -> Machine:
    return started()


def read(tpm: Machine) -> TPMS_TIME_INFO:
    return tpm.run(ReadClock()).current_time


def clock(tpm: Machine) -> tuple[int, int]:
    """Return Clock and safe."""
    info = read(tpm).clock_info
    return info.clock, info.safe


def restart(tpm: Machine, shutdown: int | None = TPM_SU_CLEAR, startup: int = TPM_SU_CLEAR) -> None:
    if shutdown is not None:
        tpm.run(Shutdown(shutdown))
    tpm.power_cycle()
    tpm.run(Startup(startup))


def test_time_begins_at_power_on_and_clock_goes_on(tpm: Machine) -> None:
    tpm.clock.advance(1234)
    assert read(tpm).time == 1234
    assert clock(tpm) == (1234, YES)
    restart(tpm)
    tpm.clock.advance(100)
    assert read(tpm).time == 100
    assert clock(tpm) == (1334, YES)


def test_resets_and_restarts_are_counted(tpm: Machine) -> None:
    def counts() -> tuple[int, int]:
        info = read(tpm).clock_info
        return info.reset_count, info.restart_count

    assert counts() == (1, 0)
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    assert counts() == (1, 1)
    restart(tpm, TPM_SU_STATE, TPM_SU_CLEAR)
    assert counts() == (1, 2)
    restart(tpm, TPM_SU_CLEAR)
    assert counts() == (2, 0)
    restart(tpm, None)
    assert counts() == (3, 0)


def test_after_a_loss_of_power_clock_is_unsafe_until_its_next_update(tpm: Machine) -> None:
    tpm.clock.advance(CLOCK_UPDATE_MS + 500)
    assert clock(tpm) == (CLOCK_UPDATE_MS + 500, YES)
    tpm.clock.advance(300)
    assert clock(tpm) == (CLOCK_UPDATE_MS + 800, YES)
    restart(tpm, None)
    assert clock(tpm) == (CLOCK_UPDATE_MS + 500, NO), "300 ms repeat, which is said"
    tpm.clock.advance(CLOCK_UPDATE_MS - 501)
    assert clock(tpm) == (2 * CLOCK_UPDATE_MS - 1, NO)
    tpm.clock.advance(1)
    assert clock(tpm) == (2 * CLOCK_UPDATE_MS, YES)
    assert tpm.dirty


def test_a_clock_that_is_safe_is_never_reported_twice(tpm: Machine) -> None:
    highest = -1
    for step in range(60):
        tpm.clock.advance(step * 137 % 5000 + 1)
        now, safe = clock(tpm)
        if safe:
            assert now > highest
        highest = max(highest, now)
        if step % 7 == 0:
            restart(tpm, None if step % 3 else TPM_SU_CLEAR)


def test_an_unsafe_clock_stays_so_over_an_orderly_restart(tpm: Machine) -> None:
    restart(tpm, None)
    assert clock(tpm) == (0, NO)
    tpm.clock.advance(50)
    restart(tpm)
    assert clock(tpm) == (0, NO)


def test_reading_clock_makes_a_shutdown_void(tpm: Machine) -> None:
    tpm.run(Shutdown(TPM_SU_STATE))
    tpm.clock.advance(10)
    read(tpm)
    tpm.power_cycle()
    with refused(TPM_RC_VALUE | P1):
        tpm.run(Startup(TPM_SU_STATE))
    tpm.run(Startup(TPM_SU_CLEAR))
    assert clock(tpm) == (0, NO)


def test_clock_is_set_forward_only(tpm: Machine) -> None:
    tpm.clock.advance(1000)
    with refused(TPM_RC_VALUE | P1):
        tpm.run(ClockSet(TPM_RH_OWNER, 999), NONE)
    tpm.run(ClockSet(TPM_RH_OWNER, 1000), NONE)
    tpm.run(ClockSet(TPM_RH_PLATFORM, 10**12), NONE)
    assert clock(tpm) == (10**12, YES)
    assert read(tpm).time == 1000
    restart(tpm, None)
    assert clock(tpm) == (10**12, NO)
    tpm.run(ClockSet(TPM_RH_OWNER, LAST), NONE)
    assert clock(tpm) == (LAST, YES)
    with refused(TPM_RC_VALUE | P1):
        tpm.run(ClockSet(TPM_RH_OWNER, LAST + 1), NONE)


def test_setting_an_unsafe_clock_within_the_interval_does_not_make_it_safe(tpm: Machine) -> None:
    restart(tpm, None)
    tpm.run(ClockSet(TPM_RH_OWNER, CLOCK_UPDATE_MS - 1), NONE)
    assert clock(tpm) == (CLOCK_UPDATE_MS - 1, NO)
    tpm.run(ClockSet(TPM_RH_OWNER, CLOCK_UPDATE_MS), NONE)
    assert clock(tpm) == (CLOCK_UPDATE_MS, YES)


def test_the_rate_is_adjusted_relative_to_itself_and_within_bounds(tpm: Machine) -> None:
    for _ in range(2):
        tpm.run(ClockRateAdjust(TPM_RH_OWNER, TPM_CLOCK_COARSE_FASTER), NONE)
    tpm.run(ClockRateAdjust(TPM_RH_OWNER, TPM_CLOCK_NO_CHANGE), NONE)
    tpm.clock.advance(100_000)
    assert read(tpm).time == 102_000
    assert clock(tpm)[0] == 102_000
    for _ in range(13):
        tpm.run(ClockRateAdjust(TPM_RH_PLATFORM, TPM_CLOCK_COARSE_FASTER), NONE)
    with refused(TPM_RC_VALUE | P1):
        tpm.run(ClockRateAdjust(TPM_RH_OWNER, TPM_CLOCK_FINE_FASTER), NONE)
    tpm.run(ClockRateAdjust(TPM_RH_OWNER, TPM_CLOCK_COARSE_SLOWER), NONE)
    restart(tpm)
    tpm.clock.advance(1000)
    assert read(tpm).time == 1000, "the rate does not outlive power"


def test_a_rollback_does_not_turn_clock_back(tpm: Machine) -> None:
    snapshot = tpm.engine.snapshot()
    tpm.clock.advance(3000)
    assert clock(tpm) == (3000, YES)
    tpm.engine.rollback(snapshot)
    assert clock(tpm) == (3000, YES)


def test_restore_takes_exactly_what_save_gives(tpm: Machine) -> None:
    tpm.clock.advance(10_000)
    read(tpm)
    saved = tpm.tpm.clock.save()
    again = Clock(lambda: 77)
    again.restore(saved)
    assert again.save() == saved
    assert again.clock_ms() == 10_000
    with pytest.raises(TpmError):
        again.restore(saved[:-1])


def test_clock_commands_are_answered_as_by_swtpm(fresh: Pair) -> None:
    fresh.machine.clock.advance(10)
    for i, handle in enumerate((TPM_RH_OWNER, TPM_RH_PLATFORM, TPM_RH_LOCKOUT, 0), 1):
        for request in (ClockSet(handle, i * 10**9), ClockSet(handle, 0), ClockSet(handle, LAST + 1),
                        ClockSet(handle, i * 10**9 + 10**8), ClockRateAdjust(handle, 1),
                        ClockRateAdjust(handle, -3), ClockRateAdjust(handle, 4)):
            ours, theirs = fresh.codes(request, NONE)
            assert ours == theirs, request
    for answer in fresh.answers(ReadClock()):
        assert answer.current_time.clock_info.reset_count == 1
