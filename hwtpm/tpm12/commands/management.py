"""Administrative functions: management (Part 3, 9).

TPM_FieldUpgrade and TPM_SetRedirection are optional.  This TPM is upgraded with the program that it is part
of, and has no other place for its output: both ordinals are answered with TPM_BAD_ORDINAL.
"""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_owner
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.management import ResetLockValue
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL


@handles
def reset_lock_value(tpm: Tpm, call: Call, cmd: ResetLockValue) -> Empty:
    """Wrong authorizations are forgiven.  Part 3, 9.3.

    Who is not the owner gets TPM_AUTHFAIL and ends this way out until the lock has run out.
    """
    # Input Validation
    if tpm.lockout.reset_disabled:
        raise TpmError(TPM_AUTHFAIL)
    try:
        authorize_owner(tpm, call)
    except TpmError:
        tpm.lockout.disable_reset()
        raise
    # Internal Data Update
    tpm.lockout.reset()
    # Command Output
    return Empty()
