"""Attached components (Part 3, 32): this TPM has none, and says so."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.policy import extend, qualified
from hwtpm.tpm2.requests.attached import (
    ACGetCapability,
    ACGetCapabilityResponse,
    ACSend,
    ACSendResponse,
    PolicyACSendSelect,
)
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.types.base import NO
from hwtpm.tpm2.types.constants import (
    TPM_RC_COMMAND_CODE,
    TPM_RC_CPHASH,
    TPM_RC_VALUE,
    TPM_CC_AC_Send,
    TPM_CC_Policy_AC_SendSelect,
)


@handles
def ac_get_capability(tpm: Tpm, cmd: ACGetCapability) -> ACGetCapabilityResponse:
    """No component is there, so none has a property.  Part 3, 32.2."""
    # Command Output
    return ACGetCapabilityResponse(NO, [])


@handles
def ac_send(tpm: Tpm, cmd: ACSend) -> ACSendResponse:
    """Nothing can be sent.  Part 3, 32.3.

    TPM_RC_VALUE (handle 3): no component is there.
    """
    # Input Validation
    raise TpmError(TPM_RC_VALUE).handle(3)


@handles
def policy_ac_send_select(tpm: Tpm, cmd: PolicyACSendSelect) -> Empty:
    """The command has to be the sending of this object to this component.  Part 3, 32.4.

    TPM_RC_CPHASH: the session has a qualifier.  TPM_RC_COMMAND_CODE: it is limited to a command.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    if qualified(session):
        raise TpmError(TPM_RC_CPHASH)
    if session.command_code:
        raise TpmError(TPM_RC_COMMAND_CODE)
    # Internal Data Update
    names = (cmd.auth_handle_name, cmd.ac_name)
    session.name_hash = hashes.digest(session.auth_hash, cmd.object_name, *names)
    session.command_code = TPM_CC_AC_Send
    included = cmd.object_name if cmd.include_object else b""
    extend(session, TPM_CC_Policy_AC_SendSelect, included, *names, bytes([cmd.include_object]))
    # Command Output
    return Empty()
