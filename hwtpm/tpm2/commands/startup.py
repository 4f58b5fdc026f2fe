"""Start-up commands (Part 3, 9), and when a Shutdown ceases to count."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.owner import Start
from hwtpm.tpm2.types.constants import (
    TPM_RC_FAILURE,
    TPM_RC_LOCALITY,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)

_LOCALITIES = (0, 3)  # PC Client PTP 1.06, 4.5: the static root of trust, and an H-CRTM
_HCRTM = 4  # the locality of an H-CRTM that measured before the Startup


@handles
def startup(tpm: Tpm, cmd: Startup) -> Empty:
    """The TPM answers other commands; its state is new, or resumed as Shutdown kept it.  Part 3, 9.3.

    TPM_RC_LOCALITY: not from locality 0 or 3, or not the one before the Shutdown.  TPM_RC_VALUE
    (parameter 1): nothing to resume.  TPM_RC_FAILURE: what was kept is damaged, and failure mode begins.
    """
    power = tpm.power
    # Input Validation
    if tpm.locality not in _LOCALITIES:
        raise TpmError(TPM_RC_LOCALITY)
    # What measured before the Startup counts as the locality that it came from.
    locality = _HCRTM if tpm.pcrs.launched else tpm.locality
    if cmd.startup_type == TPM_SU_STATE:
        if power.orderly != TPM_SU_STATE or (power.locality == _HCRTM) != tpm.pcrs.launched:
            raise TpmError(TPM_RC_VALUE).parameter(1)
        if power.locality != locality:
            raise TpmError(TPM_RC_LOCALITY)
        start = Start.RESUME
    else:
        start = Start.RESTART if power.orderly == TPM_SU_STATE else Start.RESET
    # Internal Data Update
    orderly = power.orderly is not None
    if start is Start.RESET:
        tpm.hierarchies.new_null(tpm.random)
        if not orderly:
            tpm.nv.recover()
    else:
        try:
            for owner in tpm.owners:
                owner.restore_volatile(power.saved[owner.TAG])
        except (KeyError, ValueError, TpmError):
            power.failed = True
            raise TpmError(TPM_RC_FAILURE) from None
    tpm.pcrs.startup_locality = tpm.locality
    tpm.clock.start(start, orderly)
    for owner in tpm.owners:
        owner.startup(start)
    power.begin(start, locality)
    # Command Output
    return Empty()


@handles
def shutdown(tpm: Tpm, cmd: Shutdown) -> Empty:
    """What the next Startup needs is kept.  Part 3, 9.4.

    TPM_RC_TYPE (parameter 1): the state cannot be kept, because TPM2_PCR_Allocate has succeeded.
    """
    # Input Validation
    if cmd.shutdown_type == TPM_SU_STATE and tpm.pcrs.reallocated:
        raise TpmError(TPM_RC_TYPE).parameter(1)
    # Internal Data Update
    tpm.clock.shutdown()
    tpm.nv.shutdown()
    tpm.timers.shutdown()
    kind = cmd.shutdown_type if tpm.platform.resumable else TPM_SU_CLEAR
    tpm.power.shutdown(kind, _volatile(tpm), keep=kind == TPM_SU_STATE)
    # Command Output
    return Empty()


def recheck(tpm: Tpm) -> None:
    """Nullify the last Shutdown if a command has changed what it saved since (Part 3, 9.4.1)."""
    if tpm.power.kept != _volatile(tpm):
        tpm.power.nullify()


def _volatile(tpm: Tpm) -> dict[bytes, bytes]:
    return {owner.TAG: owner.save_volatile() for owner in tpm.owners}
