"""Clocks and timers (Part 3, 29)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT64
from hwtpm.tpm2.types.constants import TPM_CC_ClockRateAdjust, TPM_CC_ClockSet, TPM_CC_ReadClock
from hwtpm.tpm2.types.interface import TPM_CLOCK_ADJUST, TPMI_RH_PROVISION
from hwtpm.tpm2.types.structures import TPMS_TIME_INFO
from hwtpm.wire import Role, Wire


class ReadClockResponse(Wire):
    current_time: TPMS_TIME_INFO


class ReadClock(Command[ReadClockResponse]):
    """Time, clock and the reset counters are returned.  Part 3, 29.1."""

    CC: ClassVar[int] = TPM_CC_ReadClock


class ClockSet(Command[Empty]):
    """Clock is advanced to *new_time*, in ms.  Part 3, 29.2."""

    CC: ClassVar[int] = TPM_CC_ClockSet
    NV: ClassVar[bool] = True
    auth: Annotated[TPMI_RH_PROVISION, Role.USER]
    new_time: UINT64


class ClockRateAdjust(Command[Empty]):
    """Clock and time advance faster or slower.  Part 3, 29.3."""

    CC: ClassVar[int] = TPM_CC_ClockRateAdjust
    auth: Annotated[TPMI_RH_PROVISION, Role.USER]
    rate_adjust: TPM_CLOCK_ADJUST
