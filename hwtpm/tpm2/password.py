"""Password authorizations (Part 1, "Password Authorizations"), and the commonest area: one of them alone."""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import TYPE_CHECKING

from hwtpm.errors import TpmError
from hwtpm.tpm2 import entity
from hwtpm.tpm2.types.attributes import TPMA_SESSION_CONTINUESESSION
from hwtpm.tpm2.types.constants import (
    TPM_RC_AUTH_FAIL,
    TPM_RC_AUTH_TYPE,
    TPM_RC_AUTH_UNAVAILABLE,
    TPM_RC_BAD_AUTH,
)
from hwtpm.tpm2.types.handles import (
    TPM_HT_NV_INDEX,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RS_PW,
)

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Tpm

_HIERARCHIES = (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_NULL)
MAX_SIZE = 64  # octets of an authValue: the largest digest
# authorizationSize, sessionHandle, size of the nonce, attributes, size of the password.
_AREA = Struct(">IIHBH")
ACKNOWLEDGEMENT = b"\0\0" + bytes([TPMA_SESSION_CONTINUESESSION]) + b"\0\0"
"""What answers a password: no nonce, continueSession SET, no HMAC."""


def alone(command: bytes, off: int) -> tuple[bytes, int] | None:
    """Return the password and where the parameters start, if the area at *off* is one password session.

    None for everything else, also if something is wrong with it: the general parser finds out what.
    """
    if len(command) < off + _AREA.size:
        return None
    size, handle, nonce, attributes, n = _AREA.unpack_from(command, off)
    start = off + _AREA.size
    if (handle != TPM_RS_PW or nonce or attributes & ~TPMA_SESSION_CONTINUESESSION or n > MAX_SIZE
            or size != 9 + n or len(command) < start + n):
        return None
    return command[start : start + n], start + n


def check(tpm: Tpm, handle: int, role: str, code: int, password: bytes) -> None:
    """Return if *password* authorizes *role* of the entity in command *code*.

    Raises TPM_RC_PP, TPM_RC_LOCKOUT, TPM_RC_AUTH_TYPE, TPM_RC_AUTH_UNAVAILABLE, TPM_RC_BAD_AUTH, or
    TPM_RC_AUTH_FAIL where the failure counts (Part 1, "Dictionary Attack Protection").
    """
    if handle in _HIERARCHIES and role == "USER":
        # None of the rules below is for them, and whoever makes keys comes this way.
        if not compare_digest(password.rstrip(b"\0"), tpm.hierarchies.auth(handle)):
            raise TpmError(TPM_RC_BAD_AUTH)
        return
    entity.check_presence(tpm, handle, code)
    protected = entity.da_protected(tpm, handle)
    if protected:
        tpm.lockout.check(handle == TPM_RH_LOCKOUT)
    if entity.needs_policy(tpm, handle, role):
        raise TpmError(TPM_RC_AUTH_TYPE)
    if not entity.auth_value_usable(tpm, handle, role, code):
        raise TpmError(TPM_RC_AUTH_UNAVAILABLE)
    right = compare_digest(password.rstrip(b"\0"), entity.auth_value(tpm, handle))
    if handle >> 24 == TPM_HT_NV_INDEX:
        count_pin(tpm, handle, success=right)
    if right:
        return
    if not protected:
        raise TpmError(TPM_RC_BAD_AUTH)
    tpm.lockout.failure(handle == TPM_RH_LOCKOUT)
    raise TpmError(TPM_RC_AUTH_FAIL)


def count_pin(tpm: Tpm, handle: int, *, success: bool) -> None:
    """Count a use of the authValue of an NV Index, if it is a PIN Index (Part 1, 34.2.6.6)."""
    index = tpm.nv.get(handle)
    if index.is_pin and index.written:
        tpm.nv.pin_used(index, success)
