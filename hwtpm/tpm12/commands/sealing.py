"""Data that only this TPM, or one key, gives out: sealing and binding (Part 3, 10.1 to 10.3 and 10.7)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import (
    authorize,
    authorize_key,
    check_pcr_info,
    crypt_data,
    decrypt_auth,
    one_or_two,
    require_usage,
    use_key,
)
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.storage import (
    Seal,
    SealResponse,
    Sealx,
    UnBind,
    UnBindResponse,
    Unseal,
    UnsealResponse,
)
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_VERSION,
    TPM_BADINDEX,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_STRUCTURE,
    TPM_NOTSEALED_BLOB,
)
from hwtpm.tpm12.types.constants import (
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_DATA,
    TPM_ET_KEY,
    TPM_ET_XOR,
    TPM_KEY_BIND,
    TPM_KEY_LEGACY,
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_PID_OIAP,
    TPM_PID_OSAP,
    TPM_PT_BIND,
    TPM_PT_SEAL,
    TPM_TAG_PCR_INFO_LONG,
    TPM_TAG_STORED_DATA12,
)
from hwtpm.tpm12.types.key import STRUCT_VER_1_1
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG
from hwtpm.tpm12.types.storage import TPM_SEALED_DATA, TPM_STORED_DATA
from hwtpm.tpm12.wrapping import decrypt, encrypt, record_creation
from hwtpm.wire import decode, encode

_BOUND_HEAD: Final = 5  # octets of a TPM_BOUND_DATA before the data: version and payload type (Part 2, 9.5)


@handles
def seal(tpm: Tpm, call: Call, cmd: Seal) -> SealResponse:
    """The data is returned under the key, bound to this TPM and to PCRs.  Part 3, 10.1."""
    # Input Validation
    key = _sealing_key(tpm, call, cmd)
    long = int.from_bytes(cmd.pcr_info[:2], "big") == TPM_TAG_PCR_INFO_LONG
    info = _pcr_info(tpm, cmd.pcr_info, TPM_PCR_INFO_LONG if long else TPM_PCR_INFO)
    # Command Output
    given = call.authorizations[0]
    given.continues = 0
    stored = TPM_STORED_DATA(TPM_TAG_STORED_DATA12 if long else STRUCT_VER_1_1, 0, info, b"")
    return _sealed(tpm, key, stored, decrypt_auth(given, cmd.enc_auth), cmd.in_data)


@handles
def sealx(tpm: Tpm, call: Call, cmd: Sealx) -> SealResponse:
    """The data, which came encrypted, is sealed and will be returned encrypted.  Part 3, 10.7."""
    # Input Validation
    key = _sealing_key(tpm, call, cmd)
    info = _pcr_info(tpm, cmd.pcr_info, TPM_PCR_INFO_LONG)
    # Command Output
    given = call.authorizations[0]
    given.continues = 0
    assert given.session is not None, "the command has been authorized"
    adip = given.session.adip
    # For Unseal an et of zero says that nothing is encrypted, so XOR gets a low octet that is not zero.
    et = TPM_ET_KEY if adip == TPM_ET_XOR else adip << 8
    stored = TPM_STORED_DATA(TPM_TAG_STORED_DATA12, et, info, b"")
    return _sealed(tpm, key, stored, decrypt_auth(given, cmd.enc_auth), crypt_data(given, adip, cmd.in_data))


def _sealing_key(tpm: Tpm, call: Call, cmd: Seal | Sealx) -> Key:
    """Return the key to seal with, once its use is authorized."""
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key, TPM_PID_OSAP)
    if not cmd.in_data:
        raise TpmError(TPM_BAD_PARAMETER)
    _require_sealing(key)
    return key


def _require_sealing(key: Key) -> None:
    """*key* is a storage key that cannot leave this TPM; else TPM_INVALID_KEYUSAGE."""
    require_usage(key, TPM_KEY_STORAGE)
    if key.public.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)


def _pcr_info(tpm: Tpm, octets: bytes, kind: type[TPM_PCR_INFO | TPM_PCR_INFO_LONG]) -> bytes:
    """Return PCR information with what holds at this moment; TPM_BADINDEX for none of that *kind*."""
    if not octets:
        return b""
    try:
        info = decode(kind, octets)
    except TpmError:
        raise TpmError(TPM_BADINDEX) from None
    record_creation(tpm, info)
    return encode(info)


def _digest(stored: TPM_STORED_DATA) -> bytes:
    """Return SHA-1 of *stored* without encDataSize and encData (Part 2, 9.3)."""
    # An empty enc_data is only its size, four octets at the end.
    return sha1(encode(TPM_STORED_DATA(stored.tag, stored.et, stored.seal_info, b""))[:-4]).digest()


def _sealed(tpm: Tpm, key: Key, stored: TPM_STORED_DATA, auth: bytes, data: bytes) -> SealResponse:
    """Return *stored* with *data* and its secret *auth*; TPM_BAD_DATASIZE if that is too much."""
    inside = TPM_SEALED_DATA(TPM_PT_SEAL, auth, tpm.permanent.tpm_proof, _digest(stored), data)
    stored.enc_data = encrypt(key.rsa, encode(inside))
    return SealResponse(stored)


@handles
def unseal(tpm: Tpm, call: Call, cmd: Unseal) -> UnsealResponse:
    """The sealed data is returned, encrypted if it was sealed so.  Part 3, 10.2."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    for_parent, for_data = one_or_two(call)
    authorize_key(tpm, call, for_parent, parent)
    _require_sealing(parent)
    stored = cmd.in_data
    if stored.tag == TPM_TAG_STORED_DATA12:
        kind: type[TPM_PCR_INFO | TPM_PCR_INFO_LONG] = TPM_PCR_INFO_LONG
    elif stored.tag == STRUCT_VER_1_1:
        kind = TPM_PCR_INFO
    else:
        raise TpmError(TPM_BAD_VERSION)
    inside = _inside(tpm, parent, stored)
    check_pcr_info(tpm, decode(kind, stored.seal_info) if stored.seal_info else None)
    # No other kind of session can be opened for sealed data.
    authorize(tpm, call, for_data, TPM_ET_DATA, inside.auth_data, b"", TPM_PID_OIAP)
    # Command Output
    if stored.tag == STRUCT_VER_1_1 or not stored.et:
        return UnsealResponse(inside.data)
    if for_parent is None:
        raise TpmError(TPM_AUTHFAIL)
    given = call.authorizations[for_parent]
    if given.session is None or given.session.protocol == TPM_PID_OIAP:
        raise TpmError(TPM_BAD_MODE)
    given.continues = 0
    return UnsealResponse(crypt_data(given, stored.et >> 8, inside.data))


def _inside(tpm: Tpm, parent: Key, stored: TPM_STORED_DATA) -> TPM_SEALED_DATA:
    """Return what is sealed in *stored*; TPM_NOTSEALED_BLOB unless this TPM has sealed it under *parent*."""
    try:
        inside = decode(TPM_SEALED_DATA, decrypt(parent, stored.enc_data))
    except TpmError:
        raise TpmError(TPM_NOTSEALED_BLOB) from None
    ours = compare_digest(inside.tpm_proof, tpm.permanent.tpm_proof)
    if not ours or inside.stored_digest != _digest(stored) or inside.payload != TPM_PT_SEAL:
        raise TpmError(TPM_NOTSEALED_BLOB)
    return inside


@handles
def unbind(tpm: Tpm, call: Call, cmd: UnBind) -> UnBindResponse:
    """What has been encrypted for the key is returned.  Part 3, 10.3."""
    # Input Validation
    if not cmd.in_data:
        raise TpmError(TPM_BAD_PARAMETER)
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    require_usage(key, TPM_KEY_BIND, TPM_KEY_LEGACY)
    message = decrypt(key, cmd.in_data)
    # Command Output
    public = key.public
    if public.algorithm_parms.enc_scheme != TPM_ES_RSAESOAEP_SHA1_MGF1 and public.key_usage == TPM_KEY_LEGACY:
        return UnBindResponse(message)
    if len(message) < _BOUND_HEAD:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    if int.from_bytes(message[:2], "big") != STRUCT_VER_1_1:
        raise TpmError(TPM_BAD_VERSION)
    if message[4] != TPM_PT_BIND:
        raise TpmError(TPM_INVALID_STRUCTURE)
    return UnBindResponse(message[_BOUND_HEAD:])
