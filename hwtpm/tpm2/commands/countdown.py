"""Authenticated countdown timers (Part 3, 33)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.countdown import ACTSetTimeout
from hwtpm.tpm2.state.act import STOP
from hwtpm.tpm2.types.constants import TPM_RC_VALUE


@handles
def act_set_timeout(tpm: Tpm, cmd: ACTSetTimeout) -> Empty:
    """The timer counts down from *start_timeout*, in seconds.  Part 3, 33.2.

    TPM_RC_VALUE (parameter 1): 0xFFFFFFFF, which silences, for a timer that has not signaled.
    """
    # Input Validation
    if cmd.start_timeout == STOP and not tpm.timers.signaled(cmd.act_handle):
        raise TpmError(TPM_RC_VALUE).parameter(1)
    # Internal Data Update
    tpm.timers.set_timeout(cmd.act_handle, cmd.start_timeout)
    # Command Output
    return Empty()
