"""Migration of keys to other parents (Part 3, 11.1 to 11.4)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize, authorize_key, authorize_owner, one_or_two, require_usage, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.migrating import pack, unpack, xor
from hwtpm.tpm12.profile import DEFAULT_EXPONENT
from hwtpm.tpm12.requests.migration import (
    AuthorizeMigrationKey,
    AuthorizeMigrationKeyResponse,
    ConvertedResponse,
    ConvertMigrationBlob,
    CreateMigrationBlob,
    MigrateKey,
    MigrationBlobResponse,
)
from hwtpm.tpm12.state.keys import Key, exponent_of
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MIGRATION,
    TPM_BAD_PARAMETER,
    TPM_INAPPROPRIATE_ENC,
)
from hwtpm.tpm12.types.constants import (
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_KEY,
    TPM_KEY_MIGRATE,
    TPM_KEY_STORAGE,
    TPM_MS_MIGRATE,
    TPM_MS_REWRAP,
    TPM_PID_OIAP,
    TPM_PT_ASYM,
    TPM_PT_MIGRATE,
)
from hwtpm.tpm12.types.key import TPM_PUBKEY, TPM_STORE_ASYMKEY
from hwtpm.tpm12.types.migration import TPM_MIGRATIONKEYAUTH
from hwtpm.tpm12.wrapping import decrypt, encrypt, private_part, public_key, rsa_parms
from hwtpm.wire import encode

_LEAST_BITS: Final = 2048


@handles
def authorize_migration_key(tpm: Tpm, call: Call,
                            cmd: AuthorizeMigrationKey) -> AuthorizeMigrationKeyResponse:
    """The key is returned with a proof that the owner allows migration to it.  Part 3, 11.3."""
    # Input Validation
    parms = cmd.migration_key.algorithm_parms
    rsa = rsa_parms(parms)
    if rsa.key_length < _LEAST_BITS or exponent_of(rsa) != DEFAULT_EXPONENT:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    authorize_owner(tpm, call)
    if parms.enc_scheme != TPM_ES_RSAESOAEP_SHA1_MGF1:
        raise TpmError(TPM_INAPPROPRIATE_ENC)
    # Command Output
    key, scheme = cmd.migration_key, cmd.migration_scheme
    return AuthorizeMigrationKeyResponse(TPM_MIGRATIONKEYAUTH(key, scheme, _allowance(tpm, key, scheme)))


def _allowance(tpm: Tpm, key: TPM_PUBKEY, scheme: int) -> bytes:
    """Return the proof that the owner allows migration to *key* (Part 2, 5.12)."""
    return sha1(encode(key) + scheme.to_bytes(2, "big") + tpm.permanent.tpm_proof).digest()


def check_allowed(tpm: Tpm, allowed: TPM_MIGRATIONKEYAUTH) -> None:
    """The owner has allowed migration to that key; else TPM_AUTHFAIL."""
    expected = _allowance(tpm, allowed.migration_key, allowed.migration_scheme)
    if not compare_digest(expected, allowed.digest):
        raise TpmError(TPM_AUTHFAIL)


@handles
def create_migration_blob(tpm: Tpm, call: Call, cmd: CreateMigrationBlob) -> MigrationBlobResponse:
    """The private part of the key is returned under another key.  Part 3, 11.1."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    for_parent, for_key = one_or_two(call)
    authorize_key(tpm, call, for_parent, parent)
    require_usage(parent, TPM_KEY_STORAGE)
    plain = decrypt(parent, cmd.enc_data)
    stored = private_part(plain)
    if stored.payload != TPM_PT_ASYM:
        raise TpmError(TPM_BAD_MIGRATION)
    # No other kind of session can be opened for a migration secret.
    authorize(tpm, call, for_key, TPM_ET_KEY, stored.migration_auth, b"", TPM_PID_OIAP)
    check_allowed(tpm, cmd.migration_key_auth)
    # Command Output
    destination = cmd.migration_key_auth.migration_key
    if cmd.migration_type == TPM_MS_MIGRATE:
        return packed(tpm, stored, TPM_PT_MIGRATE, stored.migration_auth, destination)
    if cmd.migration_type == TPM_MS_REWRAP:
        return MigrationBlobResponse(b"", encrypt(public_key(destination), plain))
    raise TpmError(TPM_BAD_PARAMETER)


def packed(tpm: Tpm, stored: TPM_STORE_ASYMKEY, payload: int, p_hash: bytes,
           destination: TPM_PUBKEY) -> MigrationBlobResponse:
    """Return *stored* as it travels: under the key of the *destination*, and of no use without the random."""
    plain = pack(stored, payload, p_hash)
    random = tpm.random(len(plain))
    return MigrationBlobResponse(random, encrypt(public_key(destination), xor(plain, random)))


def unpacked(parent: Key, cipher: bytes, random: bytes) -> bytes:
    """Return what `packed` has encoded, decrypted with *parent*; TPM_BAD_PARAMETER if sizes do not match."""
    plain = decrypt(parent, cipher)
    if len(plain) != len(random):
        raise TpmError(TPM_BAD_PARAMETER)
    return xor(plain, random)


@handles
def convert_migration_blob(tpm: Tpm, call: Call, cmd: ConvertMigrationBlob) -> ConvertedResponse:
    """The private part that CreateMigrationBlob gave is returned under its new parent.  Part 3, 11.2."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    authorize_key(tpm, call, 0, parent)
    require_usage(parent, TPM_KEY_STORAGE)
    arrived = unpack(unpacked(parent, cmd.in_data, cmd.random), TPM_PT_MIGRATE)
    # Command Output
    return ConvertedResponse(encrypt(parent.rsa, encode(arrived.stored(TPM_PT_ASYM, arrived.p_hash))))


@handles
def migrate_key(tpm: Tpm, call: Call, cmd: MigrateKey) -> ConvertedResponse:
    """What was encrypted for the migration authority is returned under another key.  Part 3, 11.4."""
    # Input Validation
    key = use_key(tpm, cmd.ma_key_handle)
    authorize_key(tpm, call, 0, key)
    require_usage(key, TPM_KEY_MIGRATE)
    destination = public_key(cmd.pub_key)
    plain = decrypt(key, cmd.in_data)
    # Command Output
    return ConvertedResponse(encrypt(destination, plain, cmd.pub_key.algorithm_parms.enc_scheme))
