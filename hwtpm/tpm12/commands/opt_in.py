"""Admin opt-in: enabling, activating and who may do it (Part 3, 5)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize, authorize_owner
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.opt_in import (
    OwnerSetDisable,
    PhysicalDisable,
    PhysicalEnable,
    PhysicalSetDeactivated,
    SetOperatorAuth,
    SetOwnerInstall,
    SetTempDeactivated,
)
from hwtpm.tpm12.types.codes import TPM_NOOPERATOR
from hwtpm.tpm12.types.constants import TPM_ET_OPERATOR, TPM_PID_OIAP


@handles
def set_owner_install(tpm: Tpm, call: Call, cmd: SetOwnerInstall) -> Empty:
    """An owner can be installed, or not; with an owner nothing happens.  Part 3, 5.1."""
    if not tpm.permanent.owner_installed:
        # Input Validation
        tpm.flags.require_presence()
        # Internal Data Update
        tpm.flags.set(ownership=cmd.state)
    # Command Output
    return Empty()


@handles
def owner_set_disable(tpm: Tpm, call: Call, cmd: OwnerSetDisable) -> Empty:
    """The owner has disabled or enabled the TPM.  Part 3, 5.2."""
    # Input Validation
    authorize_owner(tpm, call)
    # Internal Data Update
    tpm.flags.set(disable=cmd.disable_state)
    # Command Output
    return Empty()


@handles
def physical_enable(tpm: Tpm, call: Call, cmd: PhysicalEnable) -> Empty:
    """The TPM is enabled.  Part 3, 5.3."""
    # Input Validation
    tpm.flags.require_presence()
    # Internal Data Update
    tpm.flags.set(disable=False)
    # Command Output
    return Empty()


@handles
def physical_disable(tpm: Tpm, call: Call, cmd: PhysicalDisable) -> Empty:
    """The TPM is disabled.  Part 3, 5.4."""
    # Input Validation
    tpm.flags.require_presence()
    # Internal Data Update
    tpm.flags.set(disable=True)
    # Command Output
    return Empty()


@handles
def physical_set_deactivated(tpm: Tpm, call: Call, cmd: PhysicalSetDeactivated) -> Empty:
    """TPM_Startup(ST_CLEAR) will deactivate the TPM or leave it active.  Part 3, 5.5."""
    # Input Validation
    tpm.flags.require_presence()
    # Internal Data Update
    tpm.flags.set(deactivated=cmd.state)
    # Command Output
    return Empty()


@handles
def set_temp_deactivated(tpm: Tpm, call: Call, cmd: SetTempDeactivated) -> Empty:
    """The operator, or somebody who is there, has deactivated the TPM until it starts again.  Part 3, 5.6."""
    # Input Validation
    if call.authorizations:
        if not tpm.flags.permanent.operator:
            raise TpmError(TPM_NOOPERATOR)
        secret = tpm.permanent.operator_auth
        authorize(tpm, call, 0, TPM_ET_OPERATOR, secret, secret, TPM_PID_OIAP)
    else:
        tpm.flags.require_presence()
    # Internal Data Update
    tpm.flags.stclear.deactivated = 1
    # Command Output
    return Empty()


@handles
def set_operator_auth(tpm: Tpm, call: Call, cmd: SetOperatorAuth) -> Empty:
    """The TPM has an operator with that secret.  Part 3, 5.7."""
    # Input Validation
    tpm.flags.require_presence()
    # Internal Data Update
    tpm.permanent.set(operator_auth=cmd.operator_auth)
    tpm.flags.set(operator=True)
    # Command Output
    return Empty()
