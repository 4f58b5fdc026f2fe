"""Authenticated countdown timers (Part 3, 33)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_CC_ACT_SetTimeout
from hwtpm.tpm2.types.interface import TPMI_RH_ACT
from hwtpm.wire import Role


class ACTSetTimeout(Command[Empty]):
    """The timer counts down from *start_timeout*, in seconds.  Part 3, 33.2."""

    CC: ClassVar[int] = TPM_CC_ACT_SetTimeout
    act_handle: Annotated[TPMI_RH_ACT, Role.USER]
    start_timeout: UINT32
