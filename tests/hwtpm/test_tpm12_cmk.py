"""Certified migration keys of TPM 1.2 (Part 3, 11.5 to 11.10, and 13.9)."""

from __future__ import annotations

from hashlib import sha1
from typing import Any

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.primes import generate_rsa
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.tpm12.requests.delegation import DelegateCreateKeyDelegation, DelegateManage
from hwtpm.tpm12.requests.migration import (
    CMKApproveMA,
    CMKConvertMigration,
    CMKCreateBlob,
    CMKCreateKey,
    CMKCreateTicket,
    CMKSetRestrictions,
    CreateMigrationBlob,
    MigrationBlobResponse,
)
from hwtpm.tpm12.requests.signing import CertifyKey, CertifyKey2, Sign
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MIGRATION,
    TPM_BAD_MODE,
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
    TPM_ALG_AES128,
    TPM_CMK_DELEGATE_SIGNING,
    TPM_CMK_DELEGATE_STORAGE,
    TPM_DEL_KEY_BITS,
    TPM_ET_DEL_KEY_BLOB,
    TPM_ET_KEYHANDLE,
    TPM_FAMILY_CREATE,
    TPM_FAMILY_ENABLE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_MS_MIGRATE,
    TPM_MS_RESTRICT_APPROVE,
    TPM_MS_RESTRICT_MIGRATE,
    TPM_PT_MIGRATE_EXTERNAL,
    TPM_PT_MIGRATE_RESTRICTED,
    TPM_ST_CLEAR,
    TPM_TAG_CERTIFY_INFO2,
    TPM_TAG_KEY12,
)
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC, TPM_DELEGATIONS
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY
from hwtpm.tpm12.types.migration import TPM_CMK_AUTH, TPM_MSA_COMPOSITE
from hwtpm.tpm12.types.ordinals import TPM_KEY_DELEGATE_Sign
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    DER_PARMS,
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    key_template,
    load_key,
    new_key,
    once,
    owned,
    selection,
    signing_key,
)
from tests.support.tpm12_keys import allow, another_tpm, migratable, pubkey, signs

FLAGS = TPM_MIGRATABLE | TPM_MIGRATEAUTHORITY
ZERO, NONCE = bytes(20), b"n" * 20


class Authority:
    """A migration authority: a key in software that signs what may go where."""

    def __init__(self, name: bytes) -> None:
        p, q = generate_rsa(2048, 65537, CtrDrbg(name).generate, bool)
        self.key = RsaPrivate(p * q, p)
        self.public = TPM_PUBKEY(SIGNING_PARMS, self.key.modulus)
        self.digest = digest(self.public)

    def sign(self, data: bytes) -> bytes:
        return self.key.sign_pkcs1(ids.SHA1, sha1(data).digest())


def digest(public: TPM_PUBKEY) -> bytes:
    return sha1(encode(public)).digest()


def public_of(key: TPM_KEY) -> TPM_PUBKEY:
    return TPM_PUBKEY(key.algorithm_parms, key.pub_key)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(b"an authority")


@pytest.fixture(scope="module")
def msa(authority: Authority) -> TPM_MSA_COMPOSITE:
    """Two authorities; the first cannot be used."""
    return TPM_MSA_COMPOSITE([b"a" * 20, authority.digest])


@pytest.fixture
def machine() -> Machine:
    return owned()


@pytest.fixture
def other() -> Machine:
    """The TPM that keys migrate to."""
    return another_tpm()


def owner(client: Client, request: Any) -> Any:
    return client.run(request, once(client.oiap(OWNER_AUTH)))


def make(client: Client, msa: TPM_MSA_COMPOSITE, *, usage: int = TPM_KEY_SIGNING, flags: int = FLAGS,
         tag: int = TPM_TAG_KEY12, parent: int = TPM_KH_SRK, auth: bytes = SRK_AUTH,
         approval: bytes | None = None) -> TPM_KEY:
    """A new certified migration key."""
    authorities = sha1(encode(msa)).digest()
    if approval is None:
        approval = owner(client, CMKApproveMA(authorities)).out_data
    session = client.osap(TPM_ET_KEYHANDLE, parent, auth)
    parms = SIGNING_PARMS if usage == TPM_KEY_SIGNING or usage == 0x12 else STORAGE_PARMS
    return client.run(CMKCreateKey(parent, session.encrypt(KEY_AUTH),
                                   key_template(usage, parms, tag=tag, flags=flags), approval, authorities),
                      session).wrapped_key


def ticket(client: Client, authority: Authority, restriction: TPM_CMK_AUTH) -> bytes:
    data = encode(restriction)
    request = CMKCreateTicket(authority.public, sha1(data).digest(), authority.sign(data))
    return owner(client, request).sig_ticket


def blob(client: Client, key: TPM_KEY, msa: TPM_MSA_COMPOSITE, destination: TPM_PUBKEY,
         scheme: int = TPM_MS_RESTRICT_APPROVE, restriction: bytes = b"", given: bytes = b"",
         **change: Any) -> MigrationBlobResponse:
    allowed = allow(client, destination, scheme)
    request = CMKCreateBlob(TPM_KH_SRK, scheme, allowed, digest(public_of(key)), msa, restriction, given,
                            key.enc_data)
    for name, value in change.items():
        setattr(request, name, value)
    return client.run(request, once(client.oiap(SRK_AUTH)))


def test_a_certified_key_is_an_ordinary_key_here(machine: Machine, msa: TPM_MSA_COMPOSITE) -> None:
    key = make(machine.client, msa)
    signs(machine.client, key)
    handle = load_key(machine.client, key)
    assert machine.tpm.keys.get(handle).key.payload == TPM_PT_MIGRATE_RESTRICTED
    assert not machine.tpm.sessions.open
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    signs(machine.client, key)


def test_an_approved_key_migrates(machine: Machine, other: Machine, authority: Authority,
                                  msa: TPM_MSA_COMPOSITE) -> None:
    key = make(machine.client, msa)
    parent = new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    destination = pubkey(other.client, parent)
    restriction = TPM_CMK_AUTH(authority.digest, digest(destination), digest(public_of(key)))
    here = ticket(machine.client, authority, restriction)
    answer = blob(machine.client, key, msa, destination, restriction=encode(restriction), given=here)
    assert len(answer.random) == 198
    # The tickets of one TPM are nothing to another: the same signature makes another ticket there.
    there = ticket(other.client, authority, restriction)
    moving = with_enc_data(key, answer.out_data)

    def convert(**change: Any) -> bytes:
        request = CMKConvertMigration(parent, restriction, there, moving, msa, answer.random)
        for name, value in change.items():
            setattr(request, name, value)
        return other.run(request, once(other.client.oiap(KEY_AUTH))).out_data

    arrived = with_enc_data(key, convert())
    signs(other.client, arrived, parent, KEY_AUTH)
    handle = load_key(other.client, arrived, parent, KEY_AUTH)
    assert other.tpm.keys.get(handle).key.payload == TPM_PT_MIGRATE_EXTERNAL
    elsewhere = TPM_CMK_AUTH(authority.digest, ZERO, digest(public_of(key)))
    foreign = TPM_CMK_AUTH(authority.digest, digest(destination), ZERO)
    plain = with_enc_data(key, answer.out_data)
    plain.key_flags = TPM_MIGRATABLE
    no_key = with_enc_data(key, answer.out_data)
    no_key.fill = 1
    for change, rc in (
        ({"migrated_key": no_key}, TPM_BAD_KEY_PROPERTY),
        ({"sig_ticket": here}, TPM_MA_TICKET_SIGNATURE),
        ({"restrict_ticket": elsewhere}, TPM_MA_TICKET_SIGNATURE),
        ({"restrict_ticket": elsewhere, "sig_ticket": ticket(other.client, authority, elsewhere)},
         TPM_MA_DESTINATION),
        ({"restrict_ticket": foreign, "sig_ticket": ticket(other.client, authority, foreign)}, TPM_MA_SOURCE),
        ({"msa_list": TPM_MSA_COMPOSITE([authority.digest])}, TPM_AUTHFAIL),
        ({"random": answer.random[:-1]}, TPM_BAD_PARAMETER),
        ({"migrated_key": plain}, TPM_INVALID_KEYUSAGE),
        ({"parent_handle": signing_key(other.client)}, TPM_INVALID_KEYUSAGE),
    ):
        with refused(rc):
            convert(**change)  # type: ignore[arg-type]


def test_a_key_that_has_arrived_migrates_on(machine: Machine, authority: Authority,
                                            msa: TPM_MSA_COMPOSITE) -> None:
    """From the SRK to another parent of the same TPM, and from there once more."""
    client = machine.client
    key = make(client, msa)
    parent = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)
    for home, auth in ((TPM_KH_SRK, SRK_AUTH), (parent, KEY_AUTH)):
        destination = pubkey(client, parent)
        restriction = TPM_CMK_AUTH(authority.digest, digest(destination), digest(public_of(key)))
        given = ticket(client, authority, restriction)
        allowed = allow(client, destination, TPM_MS_RESTRICT_APPROVE)
        answer = client.run(CMKCreateBlob(home, 0, allowed, digest(public_of(key)), msa, encode(restriction),
                                          given, key.enc_data), once(client.oiap(auth)))
        key = with_enc_data(key, answer.out_data)
        converted = client.run(CMKConvertMigration(parent, restriction, given, key, msa, answer.random),
                               once(client.oiap(KEY_AUTH))).out_data
        key = with_enc_data(key, converted)
        signs(client, key, parent, KEY_AUTH)


def test_a_key_goes_to_an_authority_itself_without_tickets(machine: Machine, other: Machine) -> None:
    client = machine.client
    home = new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    destination = pubkey(other.client, home)
    msa = TPM_MSA_COMPOSITE([digest(destination)])
    key = make(client, msa)
    assert blob(client, key, msa, destination, TPM_MS_RESTRICT_MIGRATE).out_data
    for change in ({"restrict_ticket": b"x"}, {"sig_ticket": ZERO}):
        with refused(TPM_BAD_PARAMETER):
            blob(client, key, msa, destination, TPM_MS_RESTRICT_MIGRATE, **change)
    stranger = pubkey(other.client, new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS))
    with refused(TPM_MA_TICKET_SIGNATURE):
        blob(client, key, msa, stranger, TPM_MS_RESTRICT_MIGRATE)
    with refused(TPM_BAD_PARAMETER):
        blob(client, key, msa, destination, TPM_MS_MIGRATE)


def test_what_create_blob_refuses(machine: Machine, other: Machine, authority: Authority,
                                  msa: TPM_MSA_COMPOSITE) -> None:
    client = machine.client
    key = make(client, msa)
    destination = pubkey(other.client, new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS))
    good = TPM_CMK_AUTH(authority.digest, digest(destination), digest(public_of(key)))

    def run(restriction: TPM_CMK_AUTH = good, **change: Any) -> None:
        given = ticket(client, authority, restriction)
        blob(client, key, msa, destination, restriction=encode(restriction), given=given, **change)

    run()
    with refused(TPM_MA_DESTINATION):
        run(TPM_CMK_AUTH(authority.digest, ZERO, digest(public_of(key))))
    with refused(TPM_MA_SOURCE):
        run(TPM_CMK_AUTH(authority.digest, digest(destination), ZERO))
    allowed = allow(client, destination, TPM_MS_RESTRICT_APPROVE)
    allowed.digest = ZERO
    ordinary = migratable(client).enc_data
    movable = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, flags=TPM_MIGRATABLE)
    for change, rc in (
        ({"migration_key_auth": allowed}, TPM_AUTHFAIL),
        ({"migration_key_auth": allow(other.client, destination, TPM_MS_RESTRICT_APPROVE)}, TPM_AUTHFAIL),
        ({"enc_data": ordinary}, TPM_INVALID_STRUCTURE),
        ({"pub_source_key_digest": ZERO}, TPM_MA_AUTHORITY),
        ({"msa_list": TPM_MSA_COMPOSITE([authority.digest])}, TPM_MA_AUTHORITY),
        ({"sig_ticket": ZERO}, TPM_MA_TICKET_SIGNATURE),
        ({"sig_ticket": ZERO[1:]}, TPM_BAD_PARAM_SIZE),
    ):
        with refused(rc):
            run(**change)  # type: ignore[arg-type]
    for parent in (movable, signing_key(client)):
        request = CMKCreateBlob(parent, 0, allow(client, destination), ZERO, msa, b"", b"", key.enc_data)
        with refused(TPM_INVALID_KEYUSAGE):
            client.run(request, once(client.oiap(KEY_AUTH)))


def test_a_certified_key_does_not_migrate_as_others_do(machine: Machine, msa: TPM_MSA_COMPOSITE) -> None:
    client = machine.client
    key = make(client, msa)
    destination = allow(client, pubkey(client, new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)))
    with refused(TPM_BAD_MIGRATION):
        client.run(CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, destination, key.enc_data),
                   once(client.oiap(SRK_AUTH)), once(client.oiap(MIGRATION_AUTH)))


def test_what_can_be_a_certified_key(machine: Machine, msa: TPM_MSA_COMPOSITE) -> None:
    client = machine.client
    movable = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, flags=TPM_MIGRATABLE)
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({"flags": TPM_MIGRATABLE}, TPM_INVALID_KEYUSAGE),
        ({"flags": TPM_MIGRATEAUTHORITY}, TPM_INVALID_KEYUSAGE),
        ({"parent": movable, "auth": KEY_AUTH}, TPM_INVALID_KEYUSAGE),
        ({"parent": signing_key(client), "auth": KEY_AUTH}, TPM_INVALID_KEYUSAGE),
        ({"usage": 0x12}, TPM_INVALID_KEYUSAGE),
        ({"usage": 0x13}, TPM_INVALID_KEYUSAGE),
        ({"tag": 0x0101}, TPM_INVALID_STRUCTURE),
        ({"approval": ZERO}, TPM_MA_AUTHORITY),
        ({"auth": KEY_AUTH}, TPM_AUTHFAIL),
    )
    for change, rc in cases:
        with refused(rc):
            make(client, msa, **change)
    approval = owner(owned(b"another").client, CMKApproveMA(sha1(encode(msa)).digest())).out_data
    with refused(TPM_MA_AUTHORITY):
        make(client, msa, approval=approval)
    with refused(TPM_BAD_MODE):
        client.run(CMKCreateKey(TPM_KH_SRK, ZERO, key_template(TPM_KEY_SIGNING, SIGNING_PARMS), ZERO, ZERO),
                   client.oiap(SRK_AUTH))


def test_an_empty_list_of_authorities_is_none(machine: Machine) -> None:
    client = machine.client
    public = pubkey(client, new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS))
    request = CMKCreateBlob(TPM_KH_SRK, 0, allow(client, public), ZERO, TPM_MSA_COMPOSITE([]), b"", b"", b"")
    with refused(TPM_INVALID_STRUCTURE):
        client.run(request, client.oiap(SRK_AUTH))


def test_a_ticket_is_for_a_right_signature(machine: Machine, authority: Authority) -> None:
    client = machine.client
    data = sha1(b"data").digest()
    signature = authority.sign(b"data")
    storage = TPM_PUBKEY(STORAGE_PARMS, authority.key.modulus)
    for public, signed, rc in (
        (authority.public, signature[:-1], TPM_BAD_SIGNATURE), (authority.public, b"", TPM_BAD_SIGNATURE),
        (authority.public, authority.sign(b"other"), TPM_BAD_SIGNATURE),
        (storage, signature, TPM_INAPPROPRIATE_ENC),
        (TPM_PUBKEY(DER_PARMS, authority.key.modulus), signature, TPM_INVALID_KEYUSAGE),
        (TPM_PUBKEY(TPM_KEY_PARMS(TPM_ALG_AES128, 1, 2, b""), b""), signature, TPM_BAD_KEY_PROPERTY),
        (TPM_PUBKEY(SIGNING_PARMS, bytes(256)), signature, TPM_BAD_SIGNATURE),
        (TPM_PUBKEY(SIGNING_PARMS, b""), signature, TPM_BAD_SIGNATURE),
    ):
        with refused(rc):
            owner(client, CMKCreateTicket(public, data, signed))
    with refused(TPM_AUTHFAIL):
        client.run(CMKCreateTicket(authority.public, data, signature), client.oiap(SRK_AUTH))


def test_restrictions_are_the_owners_and_stay(machine: Machine) -> None:
    owner(machine.client, CMKSetRestrictions(TPM_CMK_DELEGATE_SIGNING))
    assert machine.dirty
    owner(machine.client, CMKSetRestrictions(TPM_CMK_DELEGATE_SIGNING))
    assert not machine.dirty
    machine.power_cycle()
    assert machine.tpm.permanent.restrict_delegate == TPM_CMK_DELEGATE_SIGNING
    machine.run(Startup(TPM_ST_CLEAR))
    with refused(TPM_AUTHFAIL):
        machine.run(CMKSetRestrictions(0), machine.client.oiap(SRK_AUTH))


def test_a_certificate_names_who_can_migrate_the_key(machine: Machine, msa: TPM_MSA_COMPOSITE) -> None:
    client = machine.client
    certifier, key = signing_key(client), load_key(client, make(client, msa))
    authorities = sha1(encode(msa)).digest()

    def certify(migration_pub_digest: bytes) -> Any:
        return client.run(CertifyKey2(key, certifier, migration_pub_digest, NONCE),
                          once(client.oiap(KEY_AUTH)), once(client.oiap(KEY_AUTH))).certify_info

    info = certify(authorities)
    assert (info.tag, info.payload_type) == (TPM_TAG_CERTIFY_INFO2, TPM_PT_MIGRATE_RESTRICTED)
    assert info.migration_authority == sha1(authorities + bytes([TPM_PT_MIGRATE_RESTRICTED])).digest()
    with refused(TPM_MA_SOURCE):
        certify(ZERO)
    with refused(TPM_INVALID_KEYUSAGE):
        client.run(CertifyKey(certifier, key, NONCE), client.oiap(KEY_AUTH), client.oiap(KEY_AUTH))


def test_certified_keys_are_delegated_as_the_owner_allows(machine: Machine, msa: TPM_MSA_COMPOSITE) -> None:
    """By their usage (Part 2, 5.17); other keys are, whatever he allows."""
    client = machine.client
    family = int.from_bytes(owner(client, DelegateManage(0, TPM_FAMILY_CREATE, b"F")).ret_data, "big")
    owner(client, DelegateManage(family, TPM_FAMILY_ENABLE, b"\1"))
    allowed = TPM_DELEGATE_PUBLIC(0, TPM_PCR_INFO_SHORT(selection(), 0x1F, ZERO),
                                  TPM_DELEGATIONS(TPM_DEL_KEY_BITS, 1 << TPM_KEY_DELEGATE_Sign, 0), family, 0)

    def sign_delegated(key: int) -> None:
        session = client.osap(TPM_ET_KEYHANDLE, key, KEY_AUTH)
        given = client.run(DelegateCreateKeyDelegation(key, allowed, session.encrypt(NONCE)), session).blob
        client.run(Sign(key, ZERO), client.dsap(TPM_ET_DEL_KEY_BLOB, given, NONCE, key))

    certified, ordinary = load_key(client, make(client, msa)), signing_key(client)
    sign_delegated(ordinary)
    for restriction in (0, TPM_CMK_DELEGATE_STORAGE):
        owner(client, CMKSetRestrictions(restriction))
        with refused(TPM_INVALID_KEYUSAGE):
            sign_delegated(certified)
    owner(client, CMKSetRestrictions(TPM_CMK_DELEGATE_SIGNING))
    sign_delegated(certified)
