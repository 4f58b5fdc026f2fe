"""Enhanced authorization: what the TPM is, and which parameters it may get (Part 3, 23.23 and 23.24).

TPM2_PolicyTransportSPDM (Part 3, 23.25) is not implemented, so its answer is TPM_RC_COMMAND_CODE: there is no
secure channel that it could ask for.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import policy
from hwtpm.tpm2.commands import capability
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import DIGEST_SIZE
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.policy import PolicyCapability, PolicyParameters
from hwtpm.tpm2.types.constants import (
    TPM_CAP_PCRS,
    TPM_EO_NEQ,
    TPM_RC_CPHASH,
    TPM_RC_POLICY,
    TPM_RC_RANGE,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
    TPM_SE_TRIAL,
    TPM_CC_PolicyCapability,
    TPM_CC_PolicyParameters,
)

_ARGUMENTS: Final = Struct(">HHII").pack


@handles
def policy_capability(tpm: Tpm, cmd: PolicyCapability) -> Empty:
    """A part of a property of the TPM compares with the operand as the operation says.  Part 3, 23.23.

    TPM_RC_VALUE (parameter 4): PCR allocations are no properties.  TPM_RC_VALUE (parameter 2), TPM_RC_RANGE:
    the part is outside of the property.  TPM_RC_POLICY: it does not, or there is no such property and the
    operation is not TPM_EO_NEQ.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    start, operand = cmd.offset, cmd.operand_b
    if cmd.capability == TPM_CAP_PCRS:
        raise TpmError(TPM_RC_VALUE).parameter(4)
    if session.kind != TPM_SE_TRIAL:
        found = capability.find(tpm, cmd.capability, cmd.property)
        if found is None:
            if cmd.operation != TPM_EO_NEQ:
                raise TpmError(TPM_RC_POLICY)
        else:
            if start > len(found):
                raise TpmError(TPM_RC_VALUE).parameter(2)
            part = found[start : start + len(operand)]
            if len(part) != len(operand):
                raise TpmError(TPM_RC_RANGE)
            if not policy.holds(cmd.operation, part, operand):
                raise TpmError(TPM_RC_POLICY)
    # Internal Data Update
    asserted = hashes.digest(session.auth_hash, operand,
                             _ARGUMENTS(start, cmd.operation, cmd.capability, cmd.property))
    policy.extend(session, TPM_CC_PolicyCapability, asserted)
    # Command Output
    return Empty()


@handles
def policy_parameters(tpm: Tpm, cmd: PolicyParameters) -> Empty:
    """The command has to be this one with these parameters, for whatever objects.  Part 3, 23.24.

    TPM_RC_SIZE (parameter 1): not as long as a digest of the session's hash.  TPM_RC_CPHASH: the session has
    a qualifier.
    """
    # Input Validation
    session = tpm.sessions.get(cmd.policy_session)
    if len(cmd.p_hash) != DIGEST_SIZE[session.auth_hash]:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    if policy.qualified(session):
        raise TpmError(TPM_RC_CPHASH)
    # Internal Data Update
    session.parameters_hash = cmd.p_hash
    policy.extend(session, TPM_CC_PolicyParameters, cmd.p_hash)
    # Command Output
    return Empty()
