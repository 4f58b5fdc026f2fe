"""Certified migration keys (Part 3, 11.5 to 11.10)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest

from hwtpm.crypto import ids
from hwtpm.crypto.errors import BadKey, CryptoError
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_key, authorize_owner, decrypt_auth, require_usage, use_key
from hwtpm.tpm12.cmk import CMK_PAYLOADS, approval, migration_proof, pubkey_digest, ticket
from hwtpm.tpm12.commands.migration import check_allowed, packed, unpacked
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.migrating import unpack
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.migration import (
    CMKApproveMA,
    CMKApproveMAResponse,
    CMKConvertMigration,
    CMKCreateBlob,
    CMKCreateKey,
    CMKCreateTicket,
    CMKCreateTicketResponse,
    CMKSetRestrictions,
    ConvertedResponse,
    MigrationBlobResponse,
)
from hwtpm.tpm12.requests.storage import CreateWrapKeyResponse
from hwtpm.tpm12.state.keys import Key, exponent_of
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE, ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_SIGNATURE,
    TPM_INAPPROPRIATE_ENC,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_STRUCTURE,
    TPM_MA_AUTHORITY,
    TPM_MA_DESTINATION,
    TPM_MA_SOURCE,
    TPM_MA_TICKET_SIGNATURE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ES_NONE,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_IDENTITY,
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_MS_RESTRICT_APPROVE,
    TPM_MS_RESTRICT_MIGRATE,
    TPM_PID_OSAP,
    TPM_PT_CMK_MIGRATE,
    TPM_PT_MIGRATE_EXTERNAL,
    TPM_PT_MIGRATE_RESTRICTED,
    TPM_SS_NONE,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.migration import TPM_CMK_AUTH, TPM_MSA_COMPOSITE
from hwtpm.tpm12.wrapping import (
    check_properties,
    decrypt,
    encrypt,
    generate,
    is_key12,
    private_part,
    rsa_parms,
    wrap,
)
from hwtpm.wire import decode, encode


@handles
def cmk_set_restrictions(tpm: Tpm, call: Call, cmd: CMKSetRestrictions) -> Empty:
    """Only certified migration keys of these usages can be delegated.  Part 3, 11.5."""
    # Input Validation
    authorize_owner(tpm, call)
    # Internal Data Update
    if tpm.permanent.restrict_delegate != cmd.restriction:
        tpm.permanent.set(restrict_delegate=cmd.restriction)
    # Command Output
    return Empty()


@handles
def cmk_approve_ma(tpm: Tpm, call: Call, cmd: CMKApproveMA) -> CMKApproveMAResponse:
    """The owner's approval of a list of migration authorities is returned.  Part 3, 11.6."""
    # Input Validation
    authorize_owner(tpm, call)
    # Command Output
    return CMKApproveMAResponse(approval(tpm, cmd.migration_authority_digest))


@handles
def cmk_create_key(tpm: Tpm, call: Call, cmd: CMKCreateKey) -> CreateWrapKeyResponse:
    """A new key, which its migration authorities control, is returned under its parent.  Part 3, 11.7."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    given = call.authorizations[0]
    authorize_key(tpm, call, 0, parent, TPM_PID_OSAP)
    info, authorities = cmd.key_info, cmd.migration_authority_digest
    check_properties(info, fips=bool(tpm.flags.permanent.fips))
    require_usage(parent, TPM_KEY_STORAGE)
    if parent.public.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if not (info.key_flags & TPM_MIGRATABLE and info.key_flags & TPM_MIGRATEAUTHORITY):
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if not compare_digest(approval(tpm, authorities), cmd.migration_authority_approval):
        raise TpmError(TPM_MA_AUTHORITY)
    if info.key_usage in (TPM_KEY_IDENTITY, TPM_KEY_AUTHCHANGE):
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if not is_key12(info):
        raise TpmError(TPM_INVALID_STRUCTURE)
    # Command Output
    usage_auth = decrypt_auth(given, cmd.data_usage_auth)
    given.continues = 0
    key = generate(tpm, info, TPM_PT_MIGRATE_RESTRICTED, usage_auth, ZERO_DIGEST)
    key.migration_auth = migration_proof(tpm, authorities, pubkey_digest(key.pubkey))
    return CreateWrapKeyResponse(wrap(key, parent))


@handles
def cmk_create_ticket(tpm: Tpm, call: Call, cmd: CMKCreateTicket) -> CMKCreateTicketResponse:
    """A ticket for the signature, which is right, is returned.  Part 3, 11.8."""
    # Input Validation
    authorize_owner(tpm, call)
    parms = cmd.verification_key.algorithm_parms
    rsa = rsa_parms(parms)
    if parms.enc_scheme != TPM_ES_NONE:
        raise TpmError(TPM_INAPPROPRIATE_ENC)
    if parms.sig_scheme not in (TPM_SS_RSASSAPKCS1v15_SHA1, TPM_SS_RSASSAPKCS1v15_INFO):
        raise TpmError(TPM_INVALID_KEYUSAGE)
    try:  # What is no key has signed nothing.
        key = RsaPublic(cmd.verification_key.pub_key, exponent_of(rsa))
        key.verify_pkcs1(ids.SHA1, cmd.signed_data, cmd.signature_value)
    except CryptoError:
        raise TpmError(TPM_BAD_SIGNATURE) from None
    # Command Output
    return CMKCreateTicketResponse(ticket(tpm, pubkey_digest(cmd.verification_key), cmd.signed_data))


@handles
def cmk_create_blob(tpm: Tpm, call: Call, cmd: CMKCreateBlob) -> MigrationBlobResponse:
    """The private part of the key is returned under a key that its authorities allow.  Part 3, 11.9."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    authorize_key(tpm, call, 0, parent)
    if parent.public.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    require_usage(parent, TPM_KEY_STORAGE)
    stored = private_part(decrypt(parent, cmd.enc_data))
    check_allowed(tpm, cmd.migration_key_auth)
    if stored.payload not in CMK_PAYLOADS:
        raise TpmError(TPM_INVALID_STRUCTURE)
    msa_digest = sha1(encode(cmd.msa_list)).digest()
    if not compare_digest(migration_proof(tpm, msa_digest, cmd.pub_source_key_digest), stored.migration_auth):
        raise TpmError(TPM_MA_AUTHORITY)
    destination = cmd.migration_key_auth.migration_key
    if cmd.migration_key_auth.migration_scheme == TPM_MS_RESTRICT_MIGRATE:
        _check_authority(cmd, destination)
    elif cmd.migration_key_auth.migration_scheme == TPM_MS_RESTRICT_APPROVE:
        _check_approval(tpm, cmd, destination)
    else:
        raise TpmError(TPM_BAD_PARAMETER)
    # Command Output
    p_hash = sha1(msa_digest + cmd.pub_source_key_digest).digest()
    return packed(tpm, stored, TPM_PT_CMK_MIGRATE, p_hash, destination)


def _check_authority(cmd: CMKCreateBlob, destination: TPM_PUBKEY) -> None:
    """The destination is a migration authority of the key, and no tickets are given."""
    if pubkey_digest(destination) not in cmd.msa_list.mig_auth_digest:
        raise TpmError(TPM_MA_TICKET_SIGNATURE)
    parms = destination.algorithm_parms
    rsa_parms(parms)
    if parms.enc_scheme != TPM_ES_RSAESOAEP_SHA1_MGF1:
        raise TpmError(TPM_INAPPROPRIATE_ENC)
    if parms.sig_scheme != TPM_SS_NONE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if cmd.restrict_ticket or cmd.sig_ticket:
        raise TpmError(TPM_BAD_PARAMETER)


def _check_approval(tpm: Tpm, cmd: CMKCreateBlob, destination: TPM_PUBKEY) -> None:
    """A migration authority has signed that the key may go to the destination."""
    if len(cmd.sig_ticket) != TPM_DIGEST_SIZE:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    _check_ticket(tpm, cmd.sig_ticket, cmd.msa_list, cmd.restrict_ticket)
    restriction = decode(TPM_CMK_AUTH, cmd.restrict_ticket)
    if restriction.destination_key_digest != pubkey_digest(destination):
        raise TpmError(TPM_MA_DESTINATION)
    if restriction.source_key_digest != cmd.pub_source_key_digest:
        raise TpmError(TPM_MA_SOURCE)


def _check_ticket(tpm: Tpm, given: bytes, authorities: TPM_MSA_COMPOSITE, restriction: bytes) -> None:
    """One of the authorities has signed *restriction*; else TPM_MA_TICKET_SIGNATURE."""
    signed = sha1(restriction).digest()
    if not any(compare_digest(ticket(tpm, key, signed), given) for key in authorities.mig_auth_digest):
        raise TpmError(TPM_MA_TICKET_SIGNATURE)


@handles
def cmk_convert_migration(tpm: Tpm, call: Call, cmd: CMKConvertMigration) -> ConvertedResponse:
    """The private part that has arrived with a ticket is returned under its new parent.  Part 3, 11.10."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    authorize_key(tpm, call, 0, parent)
    require_usage(parent, TPM_KEY_STORAGE)
    public = cmd.migrated_key
    is_key12(public)  # else it is no key, and nothing that could be loaded would come of it
    octets = unpacked(parent, public.enc_data, cmd.random)
    arrived = unpack(octets, TPM_PT_CMK_MIGRATE)
    key_digest = pubkey_digest(TPM_PUBKEY(public.algorithm_parms, public.pub_key))
    msa_digest = sha1(encode(cmd.msa_list)).digest()
    if not compare_digest(sha1(msa_digest + key_digest).digest(), arrived.p_hash):
        raise TpmError(TPM_AUTHFAIL)
    # A key that cannot migrate has been loaded because its migrationAuth is the proof of this TPM.
    if parent.public.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    _check_ticket(tpm, cmd.sig_ticket, cmd.msa_list, encode(cmd.restrict_ticket))
    if cmd.restrict_ticket.destination_key_digest != pubkey_digest(parent.pubkey):
        raise TpmError(TPM_MA_DESTINATION)
    stored = arrived.stored(TPM_PT_MIGRATE_EXTERNAL, migration_proof(tpm, msa_digest, key_digest))
    try:
        Key(public, stored.payload, stored.usage_auth, stored.migration_auth, stored.priv_key)
    except BadKey:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None
    if not (public.key_flags & TPM_MIGRATABLE and public.key_flags & TPM_MIGRATEAUTHORITY):
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if cmd.restrict_ticket.source_key_digest != key_digest:
        raise TpmError(TPM_MA_SOURCE)
    # Command Output
    return ConvertedResponse(encrypt(parent.rsa, encode(stored)))
