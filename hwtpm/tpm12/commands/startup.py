"""Admin startup and state (Part 3, 3 and 27.5).

TPM_Init is the power coming on, an Engine made anew; its ordinal is answered with TPM_BAD_ORDINAL.
"""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.startup import Reset, SaveState, Startup
from hwtpm.tpm12.state.owner import Start
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.types.codes import (
    TPM_BAD_PARAMETER,
    TPM_FAILEDSELFTEST,
    TPM_INVALID_POSTINIT,
    TPM_NO_WRAP_TRANSPORT,
)


@handles
def startup(tpm: Tpm, call: Call, cmd: Startup) -> Empty:
    """The TPM is started, with the state that TPM_SaveState kept if asked to.  Part 3, 3.2.

    TPM_FAILEDSELFTEST, and failure mode begins, for ST_STATE without a saved state: what runs later must not
    start anew and extend PCRs as if it were the first.
    """
    # Input Validation
    if tpm.power.started:
        raise TpmError(TPM_INVALID_POSTINIT)
    if tpm.power.tested is Tested.FAILED:
        tpm.power.started = True
        raise TpmError(TPM_FAILEDSELFTEST)
    try:
        start = Start(cmd.startup_type)
    except ValueError:
        raise TpmError(TPM_BAD_PARAMETER) from None
    if start is Start.STATE and not tpm.power.saved:
        tpm.power.fail("no state to resume")
        tpm.power.started = True
        raise TpmError(TPM_FAILEDSELFTEST)
    # Internal Data Update
    if start is Start.STATE:
        for owner in tpm.owners:
            if owner.TAG in tpm.power.saved:  # not so of what was saved before there was DAA
                owner.restore_volatile(tpm.power.saved[owner.TAG])
    for owner in tpm.owners:
        owner.startup(start)
    # Command Output
    return Empty()


@handles
def save_state(tpm: Tpm, call: Call, cmd: SaveState) -> Empty:
    """Everything that a later TPM_Startup(ST_STATE) needs is kept.  Part 3, 3.3.

    TPM_NO_WRAP_TRANSPORT inside a transport session, whose response would make the state void at once.
    """
    # Input Validation
    if call.transport:
        raise TpmError(TPM_NO_WRAP_TRANSPORT)
    # Internal Data Update
    if call.audited:  # before the state is kept, and without the response (Part 3, 8.1: corner cases)
        tpm.audit.record_in(call.in_param_digest())
        call.audited = False
    tpm.power.keep({owner.TAG: owner.save_volatile() for owner in tpm.owners})
    # Command Output
    return Empty()


@handles
def reset(tpm: Tpm, call: Call, cmd: Reset) -> Empty:
    """All authorization sessions are closed; saved contexts are not touched.  Part 3, 27.5."""
    # Internal Data Update
    tpm.sessions.open.clear()
    # Command Output
    return Empty()
