"""Authorization sessions (Part 3, 18)."""

from __future__ import annotations

from hmac import digest as hmac

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import check_adip, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.delegating import Blob, pub_key_digest, secret_of, verify
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.sessions import (
    DSAP,
    OIAP,
    OSAP,
    DSAPResponse,
    OIAPResponse,
    OSAPResponse,
    SetOwnerPointer,
)
from hwtpm.tpm12.state.sessions import AuthSession
from hwtpm.tpm12.types.codes import (
    TPM_BAD_HANDLE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_KEYNOTFOUND,
    TPM_WRONG_ENTITYTYPE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_COUNTER,
    TPM_ET_DEL_KEY_BLOB,
    TPM_ET_DEL_OWNER_BLOB,
    TPM_ET_DEL_ROW,
    TPM_ET_KEYHANDLE,
    TPM_ET_NV,
    TPM_ET_OWNER,
    TPM_ET_SRK,
    TPM_KH_OPERATOR,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_PID_DSAP,
    TPM_PID_OIAP,
    TPM_PID_OSAP,
)
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_KEY_BLOB, TPM_DELEGATE_OWNER_BLOB, TPM_DELEGATE_PUBLIC
from hwtpm.wire import decode, encode


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
    protocol, pub = TPM_PID_OSAP, None
    secret, digest = _entity(tpm, kind, cmd.entity_value)
    if kind == TPM_ET_OWNER and tpm.delegations.owner_reference != TPM_KH_OWNER:
        # A session for one the owner has delegated to is the same as one that DSAP opens.
        protocol, (secret, pub) = TPM_PID_DSAP, _row(tpm, tpm.delegations.owner_reference)
    # Internal Data Update
    session = tpm.sessions.add(protocol)
    nonce = _share(tpm, session, secret, cmd.nonce_odd_osap)
    # An SRK is a key: what uses it asks for a key's session, however that was opened.
    session.entity_type, session.adip, session.entity_digest = kind, adip, digest
    session.delegation = encode(pub) if pub is not None else b""
    # Command Output
    return OSAPResponse(session.handle, session.nonce_even, nonce)


def _share(tpm: Tpm, session: AuthSession, secret: bytes, nonce_odd: bytes) -> bytes:
    """The session's secret comes from *secret*, *nonce_odd* and the nonce that is returned."""
    nonce = tpm.random(20)
    session.shared_secret = hmac(secret, nonce + nonce_odd, "sha1")
    return nonce


@handles
def dsap(tpm: Tpm, call: Call, cmd: DSAP) -> DSAPResponse:
    """A session is open in which the delegation's secret authorizes what it allows.  Part 3, 18.3."""
    # Input Validation
    kind, adip = cmd.entity_type & 0xFF, cmd.entity_type >> 8
    entity, digest = TPM_ET_OWNER, tpm.permanent.owner_auth
    if kind == TPM_ET_DEL_ROW:
        if len(cmd.entity_value) < 4:
            raise TpmError(TPM_BAD_PARAM_SIZE)
        secret, pub = _row(tpm, int.from_bytes(cmd.entity_value[:4], "big"))
    elif kind in (TPM_ET_DEL_OWNER_BLOB, TPM_ET_DEL_KEY_BLOB):
        blob = _blob(kind, cmd.entity_value)
        pub = blob.pub
        tpm.delegations.require_current(pub)
        verify(tpm, blob)
        if isinstance(blob, TPM_DELEGATE_KEY_BLOB):
            key = use_key(tpm, cmd.key_handle, read_only=True, ignore_pcrs=True)
            if pub_key_digest(key.public.pub_key) != blob.pub_key_digest:
                raise TpmError(TPM_KEYNOTFOUND)
            entity, digest = TPM_ET_KEYHANDLE, key.pub_data_digest
        secret = secret_of(tpm, blob)
    else:
        raise TpmError(TPM_BAD_PARAMETER)
    tpm.sessions.require_space()
    check_adip(tpm, adip)
    # Internal Data Update
    session = tpm.sessions.add(TPM_PID_DSAP)
    session.entity_type, session.adip, session.entity_digest = entity, adip, digest
    session.delegation = encode(pub)
    # Command Output
    return DSAPResponse(session.handle, session.nonce_even,
                        _share(tpm, session, secret, cmd.nonce_odd_dsap))


def _row(tpm: Tpm, index: int) -> tuple[bytes, TPM_DELEGATE_PUBLIC]:
    """Return the secret and the description of the delegation in a row that can be used."""
    row = tpm.delegations.row(index)
    tpm.delegations.require_current(row.pub)
    return row.auth_value, row.pub


def _blob(kind: int, octets: bytes) -> Blob:
    """Return the blob of the kind that the entity type says; TPM_WRONG_ENTITYTYPE for anything else."""
    try:
        if kind == TPM_ET_DEL_OWNER_BLOB:
            return decode(TPM_DELEGATE_OWNER_BLOB, octets)
        return decode(TPM_DELEGATE_KEY_BLOB, octets)
    except TpmError:
        raise TpmError(TPM_WRONG_ENTITYTYPE) from None


@handles
def set_owner_pointer(tpm: Tpm, call: Call, cmd: SetOwnerPointer) -> Empty:
    """OIAP and OSAP sessions for the owner use that row's delegation, or the owner again.  Part 3, 18.4."""
    # Input Validation
    if cmd.entity_type not in (TPM_ET_DEL_ROW, TPM_ET_OWNER):
        raise TpmError(TPM_BAD_PARAMETER)
    if cmd.entity_type == TPM_ET_DEL_ROW:
        _row(tpm, cmd.entity_value)
    # Internal Data Update
    delegated = cmd.entity_type == TPM_ET_DEL_ROW
    tpm.delegations.owner_reference = cmd.entity_value if delegated else TPM_KH_OWNER
    # Command Output
    return Empty()


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
