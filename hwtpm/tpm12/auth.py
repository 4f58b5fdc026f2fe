"""Authorization of commands (Part 1, 13, 18 and 23): OIAP, OSAP and DSAP sessions, ADIP, use of keys.

Everything here raises TpmError when a command must not go on, and returns nothing that a caller has to check.
"""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from struct import Struct
from typing import Final

from hwtpm.crypto import hashes, ids, symmetric
from hwtpm.crypto.kdf import mgf1
from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Authorization, Call, Tpm
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.state.sessions import AuthSession
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_LOCALITY,
    TPM_BAD_MODE,
    TPM_INAPPROPRIATE_ENC,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_RESOURCE,
    TPM_KEYNOTFOUND,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_AUTH_NEVER,
    TPM_CMK_DELEGATE_BIND,
    TPM_CMK_DELEGATE_LEGACY,
    TPM_CMK_DELEGATE_MIGRATE,
    TPM_CMK_DELEGATE_SIGNING,
    TPM_CMK_DELEGATE_STORAGE,
    TPM_DEL_KEY_BITS,
    TPM_DEL_OWNER_BITS,
    TPM_ET_AES128_CTR,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_ET_XOR,
    TPM_KEY_BIND,
    TPM_KEY_LEGACY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_ADMIN,
    TPM_KH_EK,
    TPM_KH_OPERATOR,
    TPM_KH_OWNER,
    TPM_KH_REVOKE,
    TPM_KH_SRK,
    TPM_KH_TRANSPORT,
    TPM_MIGRATEAUTHORITY,
    TPM_NO_READ_PUBKEY_AUTH,
    TPM_PCRIGNOREDONREAD,
    TPM_PID_DSAP,
    TPM_PID_OIAP,
    TPM_PID_OSAP,
)
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG, TPM_PCR_INFO_SHORT
from hwtpm.wire import decode

_CMK_DELEGATE: Final = {
    TPM_KEY_SIGNING: TPM_CMK_DELEGATE_SIGNING,
    TPM_KEY_STORAGE: TPM_CMK_DELEGATE_STORAGE,
    TPM_KEY_BIND: TPM_CMK_DELEGATE_BIND,
    TPM_KEY_LEGACY: TPM_CMK_DELEGATE_LEGACY,
    TPM_KEY_MIGRATE: TPM_CMK_DELEGATE_MIGRATE,
}
_RESERVED: Final = (TPM_KH_OWNER, TPM_KH_REVOKE, TPM_KH_TRANSPORT, TPM_KH_OPERATOR, TPM_KH_ADMIN)
_pack_u8 = Struct(">B").pack


def check(tpm: Tpm, call: Call, number: int, session: AuthSession, key: bytes) -> Authorization:
    """Authorization *number* (from 0) is right under *key*, and its response will be made with it.

    A wrong one counts for the lockout and is TPM_AUTHFAIL, or TPM_AUTH2FAIL for the second.
    """
    given = call.authorizations[number]
    expected = hashes.hmac(ids.SHA1, key, call.in_param_digest(), session.nonce_even, given.nonce_odd,
                           _pack_u8(given.continues))
    if not compare_digest(expected, given.auth):
        tpm.lockout.fail()
        raise TpmError(TPM_AUTH2FAIL if number else TPM_AUTHFAIL)
    given.session, given.key = session, key
    return given


def authorize(tpm: Tpm, call: Call, number: int, entity: int, secret: bytes, digest: bytes,
              protocol: int | None = None, key: Key | None = None) -> Authorization:
    """Authorization *number* (from 0) proves knowledge of the *secret* of an entity.

    *entity* is the type (TPM_ET) and *digest* tells it from others of its type in OSAP and DSAP sessions.
    With a *protocol*, TPM_PID_OIAP or TPM_PID_OSAP (which admits DSAP), other sessions are TPM_BAD_MODE.  A
    DSAP session's delegation has to cover the ordinal, and *key* if that is a certified migration key.  While
    the owner reference is a row of the delegate table, OIAP sessions for the owner use that delegation.
    """
    session = require_protocol(tpm, call, number, protocol)
    if entity == TPM_ET_OWNER and not tpm.permanent.owner_installed:
        raise TpmError(TPM_AUTHFAIL)
    if session.protocol != TPM_PID_OIAP:
        if not compare_digest(session.entity_digest, digest):
            raise TpmError(TPM_AUTHFAIL)
        secret = session.shared_secret
    elif entity == TPM_ET_OWNER and tpm.delegations.owner_reference != TPM_KH_OWNER:
        row = tpm.delegations.row(tpm.delegations.owner_reference)
        _check_permission(tpm, call, entity, row.pub)
        secret = row.auth_value
    if session.protocol == TPM_PID_DSAP:
        _check_permission(tpm, call, entity, decode(TPM_DELEGATE_PUBLIC, session.delegation))
        if key is not None:
            _check_restriction(tpm, key)
    return check(tpm, call, number, session, secret)


def require_protocol(tpm: Tpm, call: Call, number: int, protocol: int | None) -> AuthSession:
    """Return the session of authorization *number*; TPM_BAD_MODE unless it is of that *protocol*, if any."""
    session = tpm.sessions.get(call.authorizations[number].handle)
    if protocol == TPM_PID_OIAP and session.protocol != TPM_PID_OIAP:
        raise TpmError(TPM_BAD_MODE)
    if protocol == TPM_PID_OSAP and session.protocol not in (TPM_PID_OSAP, TPM_PID_DSAP):
        raise TpmError(TPM_BAD_MODE)
    return session


def _check_permission(tpm: Tpm, call: Call, entity: int, pub: TPM_DELEGATE_PUBLIC) -> None:
    """The delegation covers the ordinal, as the PCRs and the locality are; else TPM_AUTHFAIL and others."""
    if entity == TPM_ET_KEYHANDLE:
        kind, bit = TPM_DEL_KEY_BITS, call.request.KEY_DELEGATION
    elif entity == TPM_ET_OWNER:
        kind, bit = TPM_DEL_OWNER_BITS, call.request.OWNER_DELEGATION
    else:
        raise TpmError(TPM_AUTHFAIL)
    if pub.permissions.delegate_type != kind or bit is None or not pub.permissions.per1 >> bit & 1:
        raise TpmError(TPM_AUTHFAIL)
    check_pcr_info(tpm, pub.pcr_info)


def _check_restriction(tpm: Tpm, key: Key) -> None:
    """The owner lets certified migration keys of that usage be delegated (Part 2, 5.17)."""
    if key.public.key_flags & TPM_MIGRATEAUTHORITY:
        bit = _CMK_DELEGATE.get(key.public.key_usage, 0)
        if not tpm.permanent.restrict_delegate & bit:
            raise TpmError(TPM_INVALID_KEYUSAGE)


def delegation_of(tpm: Tpm, given: Authorization) -> TPM_DELEGATE_PUBLIC | None:
    """Return the delegation that the accepted authorization *given* used; None for the entity's own."""
    session = given.session
    if session is not None and session.protocol == TPM_PID_DSAP:
        return decode(TPM_DELEGATE_PUBLIC, session.delegation)
    if tpm.delegations.owner_reference != TPM_KH_OWNER:
        return tpm.delegations.row(tpm.delegations.owner_reference).pub
    return None


def authorize_owner(tpm: Tpm, call: Call, number: int = 0, protocol: int | None = None) -> Authorization:
    """Authorization *number* (from 0) is the owner's, or of one the owner has delegated the ordinal to."""
    secret = tpm.permanent.owner_auth
    return authorize(tpm, call, number, TPM_ET_OWNER, secret, secret, protocol)


def authorize_key(tpm: Tpm, call: Call, number: int | None, key: Key, protocol: int | None = None, *,
                  public: bool = False) -> None:
    """The use of *key* is authorized: by authorization *number* (from 0), or without one if it needs none.

    *number* is None where the command carries none for this key.  With *public*, only the public part is
    used, for which some keys need none (TPM_NO_READ_PUBKEY_AUTH).
    """
    if number is None or number >= len(call.authorizations):
        needs_none = (TPM_AUTH_NEVER, TPM_NO_READ_PUBKEY_AUTH) if public else (TPM_AUTH_NEVER,)
        if key.public.auth_data_usage not in needs_none:
            raise TpmError(TPM_AUTHFAIL)
        return
    authorize(tpm, call, number, TPM_ET_KEYHANDLE, key.usage_auth, key.pub_data_digest, protocol, key)


def one_or_two(call: Call) -> tuple[int | None, int]:
    """Return the numbers of both authorizations of a command whose first one can be missing."""
    return (0, 1) if len(call.authorizations) == 2 else (None, 0)


def use_key(tpm: Tpm, handle: int, *, read_only: bool = False, ignore_pcrs: bool = False,
            allow_ek: bool = False) -> Key:
    """Return the key *handle*, whose PCRs have the values that it is bound to (Part 1, 25.1).

    The EK is a key only where *allow_ek*.  PCRs do not count where *ignore_pcrs*, nor for *read_only* use of
    keys that say so.
    """
    if handle == TPM_KH_SRK:
        key = tpm.permanent.srk
    elif handle == TPM_KH_EK:
        key = tpm.permanent.endorsement_key if allow_ek else None
    elif handle in _RESERVED:
        raise TpmError(TPM_INVALID_RESOURCE)
    else:
        key = tpm.keys.get(handle).key
    if key is None:
        raise TpmError(TPM_KEYNOTFOUND)
    if not ignore_pcrs and not (read_only and key.public.key_flags & TPM_PCRIGNOREDONREAD):
        try:
            check_pcr_info(tpm, key.pcr_info)
        except TpmError:
            raise TpmError(TPM_WRONGPCRVAL) from None  # whatever of it was wrong (Part 1, 25.1)
    return key


def parent_pcr_status(tpm: Tpm, handle: int) -> bool:
    """Tell whether a child of the key *handle* depends on PCRs through its parents (Part 3, 10.5)."""
    if handle in (TPM_KH_SRK, TPM_KH_EK):
        return False
    return tpm.keys.get(handle).parent_pcr_status


def check_pcr_info(tpm: Tpm, info: TPM_PCR_INFO | TPM_PCR_INFO_LONG | TPM_PCR_INFO_SHORT | None) -> None:
    """The PCRs have the values of *info* (TPM_WRONGPCRVAL), and it has the locality (TPM_BAD_LOCALITY)."""
    if info is None:
        return
    if isinstance(info, TPM_PCR_INFO_LONG):
        selection = info.release_pcr_selection.pcr_select
    else:
        selection = info.pcr_selection.pcr_select
    if any(selection) and tpm.pcrs.digest(selection) != info.digest_at_release:
        raise TpmError(TPM_WRONGPCRVAL)
    if not isinstance(info, TPM_PCR_INFO) and not info.locality_at_release >> tpm.locality & 1:
        raise TpmError(TPM_BAD_LOCALITY)


def check_adip(tpm: Tpm, scheme: int) -> None:
    """*scheme*, the high octet of an entity type, is one that can be used; else TPM_INAPPROPRIATE_ENC."""
    if scheme != TPM_ET_AES128_CTR and (scheme != TPM_ET_XOR or tpm.flags.permanent.fips):
        raise TpmError(TPM_INAPPROPRIATE_ENC)


def decrypt_auth(given: Authorization, encrypted: bytes, *, odd: bool = False) -> bytes:
    """Return the secret that the ADIP of the session of *given* protects (Part 1, 18.7; Part 3, 18.2).

    The first secret of a command is encrypted with the session's nonceEven, the second (*odd*) with nonceOdd.
    Must be called before the response renews the nonce.  TPM_BAD_MODE for an OIAP session.
    """
    session = given.session
    if session is None or session.protocol == TPM_PID_OIAP:
        raise TpmError(TPM_BAD_MODE)
    nonce = given.nonce_odd if odd else session.nonce_even
    if session.adip == TPM_ET_XOR:
        pad = sha1(session.shared_secret + nonce).digest()
        return bytes(a ^ b for a, b in zip(encrypted, pad, strict=True))
    return symmetric.encrypt(ids.AES, ids.CTR, session.shared_secret[:16], nonce[:16], encrypted)[0]


def crypt_data(given: Authorization, scheme: int, data: bytes) -> bytes:
    """Return *data* en- or decrypted under the shared secret of the session of *given*, an OSAP or DSAP one.

    *scheme* is an ADIP scheme; TPM_INAPPROPRIATE_ENC for another (Part 3, 10.2 and 10.7).  Like
    `decrypt_auth` it must be called before the response renews the nonce.
    """
    session = given.session
    assert session is not None, "the command has been authorized"
    secret, nonces = session.shared_secret, session.nonce_even + given.nonce_odd
    if scheme == TPM_ET_XOR:
        mask = mgf1(ids.SHA1, nonces + b"XOR" + secret, len(data))
        return bytes(a ^ b for a, b in zip(data, mask, strict=True))
    if scheme != TPM_ET_AES128_CTR:
        raise TpmError(TPM_INAPPROPRIATE_ENC)
    return symmetric.encrypt(ids.AES, ids.CTR, secret[:16], sha1(nonces).digest()[:16], data)[0]


def close_bound(tpm: Tpm, call: Call, entity: int, digest: bytes | None = None) -> None:
    """No OSAP or DSAP session is bound to the entity, or to any of its type without *digest*.

    One that authorizes this command ends with it, and the response says so.
    """
    tpm.sessions.close_bound(entity, digest)
    _end_closed(tpm, call)


def close_shared(tpm: Tpm, call: Call) -> None:
    """No OSAP or DSAP session is open; one that authorizes this command ends with it."""
    tpm.sessions.close_shared()
    _end_closed(tpm, call)


def _end_closed(tpm: Tpm, call: Call) -> None:
    for given in call.authorizations:
        if given.handle not in tpm.sessions.open:
            given.continues = 0


def require_usage(key: Key, *usages: int) -> None:
    """The usage of *key* is one of *usages*; else TPM_INVALID_KEYUSAGE."""
    if key.public.key_usage not in usages:
        raise TpmError(TPM_INVALID_KEYUSAGE)
