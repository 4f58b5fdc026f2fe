"""Valid commands of TPM 1.2 that use keys: storage, migration, identities, signing, transport sessions."""

from __future__ import annotations

from hashlib import sha1
from hmac import digest as hmac

from hwtpm.client12 import Session
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPrivate, RsaPublic
from hwtpm.tpm12.requests.audit import GetAuditDigestSigned
from hwtpm.tpm12.requests.capability import GetCapabilitySigned
from hwtpm.tpm12.requests.change_auth import ChangeAuth, ChangeAuthAsymFinish, ChangeAuthAsymStart
from hwtpm.tpm12.requests.context import (
    FlushSpecific,
    LoadContext,
    LoadKeyContext,
    SaveContext,
    SaveKeyContext,
)
from hwtpm.tpm12.requests.daa import DAAJoin, DAASign
from hwtpm.tpm12.requests.delegation import DelegateCreateKeyDelegation
from hwtpm.tpm12.requests.identity import ActivateIdentity, MakeIdentity
from hwtpm.tpm12.requests.integrity import PcrRead, Quote, Quote2
from hwtpm.tpm12.requests.maintenance import (
    CreateMaintenanceArchive,
    LoadMaintenanceArchive,
    LoadManuMaintPub,
)
from hwtpm.tpm12.requests.migration import (
    AuthorizeMigrationKey,
    CMKApproveMA,
    CMKConvertMigration,
    CMKCreateBlob,
    CMKCreateKey,
    CMKCreateTicket,
    CMKSetRestrictions,
    ConvertMigrationBlob,
    CreateMigrationBlob,
    MigrateKey,
)
from hwtpm.tpm12.requests.signing import CertifyKey, CertifyKey2, Sign
from hwtpm.tpm12.requests.storage import (
    CreateWrapKey,
    EvictKey,
    GetPubKey,
    KeyControlOwner,
    LoadKey,
    LoadKey2,
    Seal,
    Sealx,
    UnBind,
    Unseal,
)
from hwtpm.tpm12.requests.testing import CertifySelfTest
from hwtpm.tpm12.requests.ticks import TickStampBlob
from hwtpm.tpm12.requests.transport import EstablishTransport, ExecuteTransport, ReleaseTransportSigned
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.authorization import TPM_CHANGEAUTH_VALIDATE
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC, TPM_DELEGATIONS
from hwtpm.tpm12.types.identity import TPM_ASYM_CA_CONTENTS
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY
from hwtpm.tpm12.types.migration import TPM_CMK_AUTH, TPM_MIGRATIONKEYAUTH, TPM_MSA_COMPOSITE
from hwtpm.tpm12.types.ordinals import TPM_KEY_DELEGATE_Sign
from hwtpm.tpm12.types.storage import TPM_SYMMETRIC_KEY
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from hwtpm.tpm12.wrapping import OAEP_LABEL, with_enc_data
from hwtpm.wire import decode, encode
from tests.oracle.tpm12.scenario import Case, owners, scenario, transport_digest
from tests.oracle.tpm12.scenarios_state import ANYWHERE, family
from tests.oracle.tpm12.sides import Side
from tests.support.daa import Join, Protocol, issuer
from tests.support.daa import Sign as DaaSignature
from tests.support.tpm12 import (
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    encrypt_to,
    key_template,
    load_key,
    new_key,
    once,
    selection,
)
from tests.support.tpm12_both import modulus, primes

NONCE, DIGEST, DATA_AUTH, ZERO = b"n" * 20, b"d" * 20, b"s" * 20, bytes(20)
PUBLIC, SIGNER = TPM_PUBKEY(STORAGE_PARMS, modulus()), TPM_PUBKEY(SIGNING_PARMS, modulus())


def srk(side: Side) -> Session:
    return side.client.osap(c.TPM_ET_KEYHANDLE, c.TPM_KH_SRK, SRK_AUTH)


def owner(side: Side) -> Session:
    return side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)


def signing(side: Side) -> int:
    return side.load(c.TPM_KEY_SIGNING, SIGNING_PARMS)


def storage(side: Side) -> int:
    return side.load(c.TPM_KEY_STORAGE, STORAGE_PARMS)


def key(side: Side) -> Session:
    return side.client.oiap(KEY_AUTH)


# Sealing and keys


@scenario(Seal, varies="enc_data")
def seal(side: Side) -> Case:
    session = srk(side)
    return Case(Seal(c.TPM_KH_SRK, session.encrypt(DATA_AUTH), b"", b"secret"), session)


@scenario(Sealx, varies="enc_data")
def sealx(side: Side) -> Case:
    session = srk(side)
    session.next_odd = b"odd nonce of oracle."
    request = Sealx(c.TPM_KH_SRK, session.encrypt(DATA_AUTH), b"", session.encrypt_data(b"secret"))
    return Case(request, session)


@scenario(Unseal)
def unseal(side: Side) -> Case:
    session = srk(side)
    request = Seal(c.TPM_KH_SRK, session.encrypt(DATA_AUTH), b"", b"secret")
    stored = side.run(request, once(session)).sealed_data
    return Case(Unseal(c.TPM_KH_SRK, stored), side.client.oiap(SRK_AUTH), side.client.oiap(DATA_AUTH))


@scenario(UnBind)
def unbind(side: Side) -> Case:
    handle = side.load(c.TPM_KEY_BIND, STORAGE_PARMS)
    data = RsaPublic(modulus()).encrypt_oaep(ids.SHA1, OAEP_LABEL, b"\1\1\0\0\2data")
    return Case(UnBind(handle, data), key(side))


@scenario(CreateWrapKey, varies="pub_key enc_data")
def create_wrap_key(side: Side) -> Case:
    session = srk(side)
    session.next_odd = b"odd nonce of oracle."
    secrets = session.encrypt(KEY_AUTH), session.encrypt(MIGRATION_AUTH, odd=True)
    template = key_template(c.TPM_KEY_SIGNING, SIGNING_PARMS)
    return Case(CreateWrapKey(c.TPM_KH_SRK, *secrets, template), session)


@scenario(LoadKey2)
def load_key_2(side: Side) -> Case:
    wrapped = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS)
    return Case(LoadKey2(c.TPM_KH_SRK, wrapped), side.client.oiap(SRK_AUTH))


@scenario(LoadKey, varies="inkey_handle")
def load_key_1(side: Side) -> Case:
    wrapped = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS)
    return Case(LoadKey(c.TPM_KH_SRK, wrapped), side.client.oiap(SRK_AUTH))


@scenario(GetPubKey)
def get_pub_key(side: Side) -> Case:
    return Case(GetPubKey(signing(side)), key(side))


@scenario(EvictKey)
def evict_key(side: Side) -> Case:
    return Case(EvictKey(signing(side)))


@scenario(KeyControlOwner)
def key_control_owner(side: Side) -> Case:
    return Case(KeyControlOwner(signing(side), SIGNER, 1, 1), side.client.oiap(OWNER_AUTH))


@scenario(SaveKeyContext, varies="context_blob")
def save_key_context(side: Side) -> Case:
    return Case(SaveKeyContext(signing(side)))


@scenario(LoadKeyContext)
def load_key_context(side: Side) -> Case:
    return Case(LoadKeyContext(side.run(SaveKeyContext(signing(side))).context_blob))


@scenario(SaveContext, varies="context_blob")
def save_key(side: Side) -> Case:
    return Case(SaveContext(signing(side), c.TPM_RT_KEY, b"l" * 16))


@scenario(LoadContext)
def load_saved_key(side: Side) -> Case:
    saved = side.run(SaveContext(signing(side), c.TPM_RT_KEY, b"l" * 16)).context_blob
    return Case(LoadContext(0, 0, saved))


@scenario(FlushSpecific)
def flush_key(side: Side) -> Case:
    return Case(FlushSpecific(signing(side), c.TPM_RT_KEY))


# Signing


@scenario(Sign)
def sign(side: Side) -> Case:
    return Case(Sign(signing(side), DIGEST), key(side))


@scenario(CertifyKey)
def certify_key(side: Side) -> Case:
    return Case(CertifyKey(signing(side), storage(side), NONCE), key(side), key(side))


@scenario(CertifyKey2)
def certify_key_2(side: Side) -> Case:
    return Case(CertifyKey2(storage(side), signing(side), ZERO, NONCE), key(side), key(side))


@scenario(Quote)
def quote(side: Side) -> Case:
    return Case(Quote(signing(side), NONCE, selection(0, 9)), key(side))


@scenario(Quote2)
def quote_2(side: Side) -> Case:
    return Case(Quote2(signing(side), NONCE, selection(0, 9), 0), key(side))


@scenario(TickStampBlob, varies="sig")
def tick_stamp_blob(side: Side) -> Case:
    return Case(TickStampBlob(signing(side), NONCE, DIGEST), key(side))


@scenario(GetAuditDigestSigned, varies="audit_digest ordinal_digest sig")
def get_audit_digest_signed(side: Side) -> Case:
    return Case(GetAuditDigestSigned(signing(side), 0, NONCE), key(side))


@scenario(GetCapabilitySigned)
def get_capability_signed(side: Side) -> Case:
    return Case(GetCapabilitySigned(signing(side), NONCE, c.TPM_CAP_PROPERTY, b"\0\0\1\1"), key(side))


@scenario(CertifySelfTest)
def certify_self_test(side: Side) -> Case:
    return Case(CertifySelfTest(signing(side), NONCE), key(side))


# Identities


def identity(side: Side) -> TPM_KEY:
    session = owner(side)
    request = MakeIdentity(session.encrypt(KEY_AUTH), DIGEST, key_template(c.TPM_KEY_IDENTITY, SIGNING_PARMS))
    return side.run(request, once(side.client.oiap(SRK_AUTH)), once(session)).id_key


@scenario(MakeIdentity, varies="pub_key enc_data identity_binding")
def make_identity(side: Side) -> Case:
    session = owner(side)
    request = MakeIdentity(session.encrypt(KEY_AUTH), DIGEST, key_template(c.TPM_KEY_IDENTITY, SIGNING_PARMS))
    return Case(request, side.client.oiap(SRK_AUTH), session)


@scenario(ActivateIdentity)
def activate_identity(side: Side) -> Case:
    made = identity(side)
    digest = sha1(encode(TPM_PUBKEY(made.algorithm_parms, made.pub_key))).digest()
    secret = TPM_SYMMETRIC_KEY(c.TPM_ALG_AES128, c.TPM_ES_SYM_CTR, bytes(range(16)))
    blob = encrypt_to(side.pubek, encode(TPM_ASYM_CA_CONTENTS(secret, digest)))
    return Case(ActivateIdentity(load_key(side.client, made), blob), key(side), side.client.oiap(OWNER_AUTH))


# New secrets


@scenario(ChangeAuth, varies="out_data")
def change_auth(side: Side) -> Case:
    blob, session = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS).enc_data, srk(side)
    request = ChangeAuth(c.TPM_KH_SRK, c.TPM_PID_ADCP, session.encrypt(DATA_AUTH), c.TPM_ET_KEY, blob)
    return Case(request, session, key(side))


@scenario(ChangeAuthAsymStart, varies="pubkey_digest pub_key sig eph_handle enc_data")
def change_auth_asym_start(side: Side) -> Case:
    return Case(ChangeAuthAsymStart(load_key(side.client, identity(side)), NONCE, STORAGE_PARMS), key(side))


@scenario(ChangeAuthAsymFinish, varies="out_data salt_nonce change_proof")
def change_auth_asym_finish(side: Side) -> Case:
    signer = load_key(side.client, identity(side))
    opened = side.run(ChangeAuthAsymStart(signer, NONCE, STORAGE_PARMS), once(key(side)))
    return asym_finish(side, opened.eph_handle, opened.temp_key.pub_key)


def asym_finish(side: Side, handle: int, public: bytes) -> Case:
    validate = encode(TPM_CHANGEAUTH_VALIDATE(DATA_AUTH, NONCE))
    blob = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS).enc_data
    cipher = RsaPublic(public).encrypt_oaep(ids.SHA1, OAEP_LABEL, validate)
    link = hmac(KEY_AUTH, DATA_AUTH, "sha1")
    request = ChangeAuthAsymFinish(c.TPM_KH_SRK, handle, c.TPM_ET_KEY, link, cipher, blob)
    return Case(request, side.client.oiap(OWNER_AUTH))


# Migration


def allowed(side: Side, scheme: int = c.TPM_MS_MIGRATE, there: TPM_PUBKEY = PUBLIC) -> TPM_MIGRATIONKEYAUTH:
    return side.owner(AuthorizeMigrationKey(scheme, there)).out_data


owners(CMKSetRestrictions(0))


@scenario(AuthorizeMigrationKey, varies="digest")
def authorize_migration_key(side: Side) -> Case:
    return Case(AuthorizeMigrationKey(c.TPM_MS_MIGRATE, PUBLIC), side.client.oiap(OWNER_AUTH))


@scenario(CreateMigrationBlob, varies="random out_data")
def create_migration_blob(side: Side) -> Case:
    blob = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS).enc_data
    request = CreateMigrationBlob(c.TPM_KH_SRK, c.TPM_MS_MIGRATE, allowed(side), blob)
    return Case(request, side.client.oiap(SRK_AUTH), side.client.oiap(MIGRATION_AUTH))


@scenario(CreateMigrationBlob, varies="random out_data")
def rewrap(side: Side) -> Case:
    blob = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS).enc_data
    request = CreateMigrationBlob(c.TPM_KH_SRK, c.TPM_MS_REWRAP, allowed(side, c.TPM_MS_REWRAP), blob)
    return Case(request, side.client.oiap(SRK_AUTH), side.client.oiap(MIGRATION_AUTH))


@scenario(ConvertMigrationBlob, varies="out_data")
def convert_migration_blob(side: Side) -> Case:
    parent = storage(side)
    blob = side.wrap(c.TPM_KEY_SIGNING, SIGNING_PARMS).enc_data
    request = CreateMigrationBlob(c.TPM_KH_SRK, c.TPM_MS_MIGRATE, allowed(side), blob)
    made = side.run(request, once(side.client.oiap(SRK_AUTH)), once(side.client.oiap(MIGRATION_AUTH)))
    return Case(ConvertMigrationBlob(parent, made.out_data, made.random), key(side))


@scenario(MigrateKey, varies="out_data")
def migrate_key(side: Side) -> Case:
    handle = side.load(c.TPM_KEY_MIGRATE, STORAGE_PARMS)
    data = RsaPublic(modulus()).encrypt_oaep(ids.SHA1, OAEP_LABEL, b"x" * 100)
    return Case(MigrateKey(handle, PUBLIC, data), key(side))


MSA = TPM_MSA_COMPOSITE([sha1(encode(SIGNER)).digest()])
MSA_DIGEST = sha1(encode(MSA)).digest()


def cmk(side: Side) -> TPM_KEY:
    approval = side.owner(CMKApproveMA(MSA_DIGEST)).out_data
    session = srk(side)
    return side.run(CMKCreateKey(c.TPM_KH_SRK, session.encrypt(KEY_AUTH), CMK_TEMPLATE, approval, MSA_DIGEST),
                    once(session)).wrapped_key


CMK_TEMPLATE = key_template(c.TPM_KEY_SIGNING, SIGNING_PARMS, tag=c.TPM_TAG_KEY12,
                            flags=c.TPM_MIGRATABLE | c.TPM_MIGRATEAUTHORITY)


@scenario(CMKApproveMA, varies="out_data")
def cmk_approve_ma(side: Side) -> Case:
    return Case(CMKApproveMA(MSA_DIGEST), side.client.oiap(OWNER_AUTH))


@scenario(CMKCreateKey, varies="pub_key enc_data")
def cmk_create_key(side: Side) -> Case:
    approval = side.owner(CMKApproveMA(MSA_DIGEST)).out_data
    session = srk(side)
    request = CMKCreateKey(c.TPM_KH_SRK, session.encrypt(KEY_AUTH), CMK_TEMPLATE, approval, MSA_DIGEST)
    return Case(request, session)


def signed(data: bytes) -> bytes:
    return RsaPrivate(modulus(), primes(2048)[0]).sign_pkcs1(ids.SHA1, data)


@scenario(CMKCreateTicket, varies="sig_ticket")
def cmk_create_ticket(side: Side) -> Case:
    return Case(CMKCreateTicket(SIGNER, DIGEST, signed(DIGEST)), side.client.oiap(OWNER_AUTH))


def moving(side: Side, there: TPM_PUBKEY = PUBLIC) -> tuple[TPM_KEY, TPM_CMK_AUTH, bytes, CMKCreateBlob]:
    """Return a certified key, where it may go, the ticket for that and the request that makes the blob."""
    made = cmk(side)
    source = sha1(encode(TPM_PUBKEY(made.algorithm_parms, made.pub_key))).digest()
    restriction = TPM_CMK_AUTH(MSA.mig_auth_digest[0], sha1(encode(there)).digest(), source)
    data = sha1(encode(restriction)).digest()
    ticket = side.owner(CMKCreateTicket(SIGNER, data, signed(data))).sig_ticket
    scheme = c.TPM_MS_RESTRICT_APPROVE
    return made, restriction, ticket, CMKCreateBlob(
        c.TPM_KH_SRK, scheme, allowed(side, scheme, there), source, MSA, encode(restriction), ticket,
        made.enc_data)


@scenario(CMKCreateBlob, varies="random out_data")
def cmk_create_blob(side: Side) -> Case:
    return Case(moving(side)[3], side.client.oiap(SRK_AUTH))


@scenario(CMKConvertMigration, varies="out_data")
def cmk_convert_migration(side: Side) -> Case:
    parent = new_key(side.client, c.TPM_KEY_STORAGE, STORAGE_PARMS)
    there = side.run(GetPubKey(parent), once(key(side))).pub_key
    made, restriction, ticket, request = moving(side, there)
    blob = side.run(request, once(side.client.oiap(SRK_AUTH)))
    moved = with_enc_data(made, blob.out_data)
    return Case(CMKConvertMigration(parent, restriction, ticket, moved, MSA, blob.random), key(side))


@scenario(DelegateCreateKeyDelegation, varies="blob")
def delegate_create_key_delegation(side: Side) -> Case:
    rights = TPM_DELEGATIONS(c.TPM_DEL_KEY_BITS, 1 << TPM_KEY_DELEGATE_Sign, 0)
    public = TPM_DELEGATE_PUBLIC(ord("R"), ANYWHERE, rights, family(side), 0)
    handle = signing(side)
    session = side.client.osap(c.TPM_ET_KEYHANDLE, handle, KEY_AUTH)
    return Case(DelegateCreateKeyDelegation(handle, public, session.encrypt(DATA_AUTH)), session)


# Maintenance, which is ours alone


@scenario(CreateMaintenanceArchive)
def create_maintenance_archive(side: Side) -> Case:
    if side.name == "ours":
        side.run(LoadManuMaintPub(NONCE, PUBLIC))
    return Case(CreateMaintenanceArchive(1), side.client.oiap(OWNER_AUTH))


@scenario(LoadMaintenanceArchive)
def load_maintenance_archive(side: Side) -> Case:
    archive = random = b""
    if side.name == "ours":
        side.run(LoadManuMaintPub(NONCE, PUBLIC))
        made = side.owner(CreateMaintenanceArchive(1))
        found, random = decode(TPM_KEY, made.archive), made.random
        hidden = RsaPrivate(modulus(), primes(2048)[0]).decrypt_oaep(ids.SHA1, OAEP_LABEL, found.enc_data)
        mine = RsaPublic(side.srk.pub_key).encrypt_oaep(ids.SHA1, OAEP_LABEL, hidden)
        archive = encode(with_enc_data(found, mine))
    request = LoadMaintenanceArchive(archive, random, signed(sha1(archive + random).digest()))
    return Case(request, side.client.oiap(OWNER_AUTH))


# Transport sessions

TRANSPORT_AUTH = b"t" * 20
OPEN = TPM_TRANSPORT_PUBLIC(0, 0, 0)
LOGGED = TPM_TRANSPORT_PUBLIC(c.TPM_TRANSPORT_LOG, 0, 0)


def transport(side: Side, public: TPM_TRANSPORT_PUBLIC = OPEN) -> Session:
    opened = side.run(EstablishTransport(c.TPM_KH_TRANSPORT, public, TRANSPORT_AUTH))
    return Session(opened.trans_handle, opened.trans_nonce_even, TRANSPORT_AUTH)


@scenario(EstablishTransport)
def establish_transport(side: Side) -> Case:
    return Case(EstablishTransport(c.TPM_KH_TRANSPORT, OPEN, TRANSPORT_AUTH))


@scenario(ExecuteTransport)
def execute_transport(side: Side) -> Case:
    session = transport(side)
    return Case(ExecuteTransport(Case(PcrRead(9)).body()), session, covers=transport_digest)


@scenario(ReleaseTransportSigned, varies="signature")
def release_transport_signed(side: Side) -> Case:
    handle = signing(side)
    session = transport(side, LOGGED)
    return Case(ReleaseTransportSigned(handle, NONCE), key(side), session)


# Direct anonymous attestation; stage 0 opens a session, the others go on with one


def at_stage(side: Side, host: Protocol, stage: int) -> Case:
    host.to(stage)
    return Case(host.request(), side.client.oiap(OWNER_AUTH))


def join(side: Side) -> Join:
    return Join(side.client, issuer(), side.pubek)


def signature(side: Side) -> DaaSignature:
    return DaaSignature(side.client, issuer(), join(side).finish(), DIGEST)


@scenario(DAAJoin, varies="output_data")
def daa_join_0(side: Side) -> Case:
    return at_stage(side, join(side), 0)


@scenario(DAAJoin)
def daa_join_2(side: Side) -> Case:
    return at_stage(side, join(side), 2)


@scenario(DAAJoin, varies="output_data")
def daa_join_16(side: Side) -> Case:
    return at_stage(side, join(side), 16)


@scenario(DAASign, varies="output_data")
def daa_sign_0(side: Side) -> Case:
    return at_stage(side, signature(side), 0)


@scenario(DAASign)
def daa_sign_2(side: Side) -> Case:
    return at_stage(side, signature(side), 2)


@scenario(DAASign, varies="output_data")
def daa_sign_10(side: Side) -> Case:
    return at_stage(side, signature(side), 10)
