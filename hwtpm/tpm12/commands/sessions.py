"""Authorization sessions (Part 3, 18)."""

from __future__ import annotations

from hmac import digest as hmac

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import check_adip, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.sessions import OIAP, OSAP, OIAPResponse, OSAPResponse
from hwtpm.tpm12.types.codes import TPM_BAD_HANDLE, TPM_BAD_PARAMETER
from hwtpm.tpm12.types.constants import (
    TPM_ET_COUNTER,
    TPM_ET_KEYHANDLE,
    TPM_ET_NV,
    TPM_ET_OWNER,
    TPM_ET_SRK,
    TPM_KH_OPERATOR,
    TPM_KH_SRK,
    TPM_PID_OIAP,
    TPM_PID_OSAP,
)


@handles
def oiap(tpm: Tpm, call: Call, cmd: OIAP) -> OIAPResponse:
    """A session is open; TPM_RESOURCES without space.  Part 3, 18.1."""
    # Internal Data Update
    session = tpm.sessions.add(TPM_PID_OIAP)
    # Command Output
    return OIAPResponse(session.handle, session.nonce_even)


@handles
def osap(tpm: Tpm, call: Call, cmd: OSAP) -> OSAPResponse:
    """A session is open whose secret comes from that of the entity and both nonces.  Part 3, 18.2."""
    # Input Validation
    tpm.sessions.require_space()
    kind, adip = cmd.entity_type & 0xFF, cmd.entity_type >> 8
    check_adip(tpm, adip)
    secret, digest = _entity(tpm, kind, cmd.entity_value)
    # Internal Data Update
    session = tpm.sessions.add(TPM_PID_OSAP)
    nonce = tpm.random(20)
    # An SRK is a key: what uses it asks for a key's session, however that was opened.
    session.entity_type, session.adip, session.entity_digest = kind, adip, digest
    session.shared_secret = hmac(secret, nonce + cmd.nonce_odd_osap, "sha1")
    # Command Output
    return OSAPResponse(session.handle, session.nonce_even, nonce)


def _entity(tpm: Tpm, kind: int, value: int) -> tuple[bytes, bytes]:
    """Return the secret of an entity and the digest that tells it from others (Part 3, 18.2)."""
    if kind == TPM_ET_KEYHANDLE:
        if value == TPM_KH_OPERATOR:
            raise TpmError(TPM_BAD_HANDLE)
        key = use_key(tpm, value, read_only=True, ignore_pcrs=True)
        return key.usage_auth, key.pub_data_digest
    if kind == TPM_ET_OWNER:
        if not tpm.permanent.owner_installed:
            raise TpmError(TPM_BAD_PARAMETER)
        return tpm.permanent.owner_auth, tpm.permanent.owner_auth
    if kind == TPM_ET_SRK:
        key = use_key(tpm, TPM_KH_SRK, ignore_pcrs=True)
        return key.usage_auth, key.pub_data_digest
    if kind == TPM_ET_COUNTER:
        counter = tpm.counters.get(value)
        return counter.auth_data, counter.digest
    if kind == TPM_ET_NV:
        area = tpm.nv.get(value)
        return area.auth_value, area.digest
    raise TpmError(TPM_BAD_PARAMETER)
