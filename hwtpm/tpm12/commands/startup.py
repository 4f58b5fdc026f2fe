"""Admin startup and state (Part 3, 3)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.state.owner import Start
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER, TPM_FAIL, TPM_INVALID_POSTINIT


@handles
def startup(tpm: Tpm, call: Call, cmd: Startup) -> Empty:
    """The TPM is started, with the state that TPM_SaveState kept if asked to.  Part 3, 3.2.

    Without a saved state, ST_STATE is TPM_FAIL and the TPM fails its self-test.
    """
    # Input Validation
    if tpm.power.started:
        raise TpmError(TPM_INVALID_POSTINIT)
    try:
        start = Start(cmd.startup_type)
    except ValueError:
        raise TpmError(TPM_BAD_PARAMETER) from None
    if start is Start.STATE and not tpm.power.saved:
        tpm.power.tested = Tested.FAILED
        raise TpmError(TPM_FAIL)
    # Internal Data Update
    if start is Start.STATE:
        for owner in tpm.owners:
            owner.restore_volatile(tpm.power.saved[owner.TAG])
    for owner in tpm.owners:
        owner.startup(start)
    # Command Output
    return Empty()


@handles
def save_state(tpm: Tpm, call: Call, cmd: SaveState) -> Empty:
    """Everything that a later TPM_Startup(ST_STATE) needs is kept.  Part 3, 3.3."""
    # Internal Data Update
    tpm.power.keep({owner.TAG: owner.save_volatile() for owner in tpm.owners})
    # Command Output
    return Empty()
