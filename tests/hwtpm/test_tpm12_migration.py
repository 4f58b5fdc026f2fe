"""Migration of keys of TPM 1.2 (Part 3, 11.1 to 11.4)."""

from __future__ import annotations

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.primes import generate_rsa
from hwtpm.crypto.rsa import RsaPrivate, RsaPublic
from hwtpm.tpm12.migrating import pack, unpack
from hwtpm.tpm12.requests.migration import (
    AuthorizeMigrationKey,
    ConvertMigrationBlob,
    CreateMigrationBlob,
    MigrateKey,
)
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MIGRATION,
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_DECRYPT_ERROR,
    TPM_INAPPROPRIATE_ENC,
    TPM_INVALID_KEYUSAGE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_AUTH_NEVER,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_KEYHANDLE,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
    TPM_MS_MAINT,
    TPM_MS_MIGRATE,
    TPM_MS_REWRAP,
    TPM_PT_ASYM,
    TPM_PT_CMK_MIGRATE,
    TPM_PT_MIGRATE,
    TPM_SS_NONE,
    TPM_ES_RSAESPKCSv15,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS, TPM_STORE_ASYMKEY
from hwtpm.tpm12.types.migration import TPM_MIGRATIONKEYAUTH
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    MIGRATION_AUTH,
    RSA_2048,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    create_key,
    key_template,
    new_key,
    once,
    owned,
)
from tests.support.tpm12_keys import allow, another_tpm, migratable, pubkey, signs


@pytest.fixture
def machine() -> Machine:
    return owned()


@pytest.fixture
def other() -> Machine:
    """The TPM that keys migrate to."""
    return another_tpm()


def migrate(client: Client, key: TPM_KEY, allowed: TPM_MIGRATIONKEYAUTH, kind: int = TPM_MS_MIGRATE,
            auth: bytes = MIGRATION_AUTH) -> tuple[bytes, bytes]:
    """The random octets and the blob."""
    answer = client.run(CreateMigrationBlob(TPM_KH_SRK, kind, allowed, key.enc_data),
                        once(client.oiap(SRK_AUTH)), once(client.oiap(auth)))
    return answer.random, answer.out_data


def convert(client: Client, parent: int, random: bytes, blob: bytes) -> bytes:
    return client.run(ConvertMigrationBlob(parent, blob, random), once(client.oiap(KEY_AUTH))).out_data


def test_a_key_migrates_to_another_tpm_and_back(machine: Machine, other: Machine) -> None:
    key = migratable(machine.client)
    parent = new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    allowed = allow(machine.client, pubkey(other.client, parent))
    random, blob = migrate(machine.client, key, allowed)
    assert len(random) == 198
    arrived = with_enc_data(key, convert(other.client, parent, random, blob))
    signs(other.client, arrived, parent, KEY_AUTH)
    # Back, with the migration secret that has travelled with it.
    home = new_key(machine.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    allowed = allow(other.client, pubkey(machine.client, home))
    answer = other.run(CreateMigrationBlob(parent, TPM_MS_MIGRATE, allowed, arrived.enc_data),
                       other.client.oiap(KEY_AUTH), other.client.oiap(MIGRATION_AUTH))
    back = with_enc_data(key, convert(machine.client, home, answer.random, answer.out_data))
    signs(machine.client, back, home, KEY_AUTH)


def test_a_rewrapped_key_is_a_child_of_the_other_at_once(machine: Machine, other: Machine) -> None:
    key = migratable(machine.client)
    parent = new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    allowed = allow(machine.client, pubkey(other.client, parent), TPM_MS_REWRAP)
    random, blob = migrate(machine.client, key, allowed, TPM_MS_REWRAP)
    assert random == b""
    signs(other.client, with_enc_data(key, blob), parent, KEY_AUTH)


def test_a_migration_authority_passes_a_key_on(machine: Machine, other: Machine) -> None:
    """Its TPM re-encrypts what it cannot read: without the random octets it is of no use."""
    key = migratable(machine.client)
    authority = new_key(other.client, TPM_KEY_MIGRATE, STORAGE_PARMS)
    parent = new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    random, blob = migrate(machine.client, key, allow(machine.client, pubkey(other.client, authority)))
    passed = other.run(MigrateKey(authority, pubkey(other.client, parent), blob),
                       other.client.oiap(KEY_AUTH)).out_data
    signs(other.client, with_enc_data(key, convert(other.client, parent, random, passed)), parent, KEY_AUTH)


def test_software_that_has_the_key_of_the_destination_can_read_the_blob(machine: Machine) -> None:
    """As Part 3, 11.1, action 6 encodes it: K1 is the seed, the migration secret stands for pHash."""
    p, q = generate_rsa(2048, 65537, CtrDrbg(b"a facility").generate, bool)
    facility = RsaPrivate(p * q, p)
    key = migratable(machine.client)
    allowed = allow(machine.client, TPM_PUBKEY(STORAGE_PARMS, facility.modulus))
    random, blob = migrate(machine.client, key, allowed)
    masked = facility.decrypt_oaep(ids.SHA1, b"TCPA", blob)
    found = unpack(bytes(a ^ b for a, b in zip(masked, random, strict=True)), TPM_PT_MIGRATE)
    assert (found.usage_auth, found.p_hash) == (KEY_AUTH, MIGRATION_AUTH)
    RsaPrivate(key.pub_key, found.prime)


@pytest.mark.parametrize("bits", [512, 1024, 2048])
def test_the_encoding_is_as_long_as_what_it_holds(bits: int) -> None:
    stored = TPM_STORE_ASYMKEY(TPM_PT_ASYM, b"u" * 20, b"m" * 20, b"d" * 20, bytes(range(1, bits // 16 + 1)))
    octets = pack(stored, TPM_PT_MIGRATE, b"m" * 20)
    assert len(octets) == bits // 16 + 70
    assert unpack(octets, TPM_PT_MIGRATE).stored(TPM_PT_ASYM, b"m" * 20) == stored
    with refused(TPM_BAD_MIGRATION):
        unpack(octets, TPM_PT_CMK_MIGRATE)
    for broken in (b"", octets[:39], bytes(198), octets[:-1] + bytes([octets[-1] ^ 1])):
        with refused(TPM_DECRYPT_ERROR):
            unpack(broken, TPM_PT_MIGRATE)


def test_what_the_owner_allows(machine: Machine) -> None:
    modulus = b"\xff" * 256
    for parms, rc in (
        (TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE,
                       encode(TPM_RSA_KEY_PARMS(1024, 2, b""))), TPM_BAD_KEY_PROPERTY),
        (TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE,
                       encode(TPM_RSA_KEY_PARMS(2048, 2, b"\3"))), TPM_BAD_KEY_PROPERTY),
        (TPM_KEY_PARMS(6, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, RSA_2048), TPM_BAD_KEY_PROPERTY),
        (TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESPKCSv15, TPM_SS_NONE, RSA_2048), TPM_INAPPROPRIATE_ENC),
    ):
        with refused(rc):
            allow(machine.client, TPM_PUBKEY(parms, modulus))
    with refused(TPM_AUTHFAIL):
        machine.run(AuthorizeMigrationKey(TPM_MS_MIGRATE, TPM_PUBKEY(STORAGE_PARMS, modulus)),
                    machine.client.oiap(KEY_AUTH))


def test_only_what_the_owner_has_allowed_is_a_destination(machine: Machine, other: Machine) -> None:
    key = migratable(machine.client)
    public = pubkey(other.client, new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS))
    allowed = allow(machine.client, public)
    for wrong in (TPM_MIGRATIONKEYAUTH(public, TPM_MS_REWRAP, allowed.digest),
                  TPM_MIGRATIONKEYAUTH(public, TPM_MS_MIGRATE, bytes(20)),
                  TPM_MIGRATIONKEYAUTH(TPM_PUBKEY(STORAGE_PARMS, bytes(256)), TPM_MS_MIGRATE, allowed.digest),
                  allow(other.client, public)):
        with refused(TPM_AUTHFAIL):
            migrate(machine.client, key, wrong)
    assert not machine.tpm.lockout.failures


def test_a_key_migrates_with_its_migration_secret_only(machine: Machine, other: Machine) -> None:
    client = machine.client
    key = migratable(client)
    allowed = allow(client, pubkey(other.client, new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)))
    with refused(TPM_AUTH2FAIL):
        migrate(client, key, allowed, auth=KEY_AUTH)
    stays = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    with refused(TPM_AUTH2FAIL):
        migrate(client, stays, allowed)
    request = CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, allowed, key.enc_data)
    with refused(TPM_AUTHFAIL):
        machine.run(request, client.oiap(KEY_AUTH), client.oiap(MIGRATION_AUTH))
    with refused(TPM_AUTHFAIL):  # the SRK needs its own authorization
        machine.run(request, client.oiap(MIGRATION_AUTH))
    with refused(TPM_BAD_MODE):
        machine.run(request, client.oiap(SRK_AUTH), client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH))
    with refused(TPM_BAD_PARAMETER):
        migrate(client, key, allowed, TPM_MS_MAINT)
    free = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, auth_data_usage=TPM_AUTH_NEVER)
    child = migratable(client, free, KEY_AUTH)
    request = CreateMigrationBlob(free, TPM_MS_MIGRATE, allowed, child.enc_data)
    assert machine.run(request, client.oiap(MIGRATION_AUTH)).out_data
    with refused(TPM_AUTHFAIL):
        machine.run(request, client.oiap(KEY_AUTH))


def test_what_arrives_has_to_be_whole(machine: Machine, other: Machine) -> None:
    key = migratable(machine.client)
    parent = new_key(other.client, TPM_KEY_STORAGE, STORAGE_PARMS)
    public = pubkey(other.client, parent)
    random, blob = migrate(machine.client, key, allow(machine.client, public))
    changed = bytes([random[0] ^ 1]) + random[1:]
    for given, rc in (((random[:-1], blob), TPM_BAD_PARAMETER), ((changed, blob), TPM_DECRYPT_ERROR),
                      ((random, bytes(256)), TPM_DECRYPT_ERROR), ((random, bytes(257)), TPM_BAD_DATASIZE)):
        with refused(rc):
            convert(other.client, parent, *given)
    tiny = RsaPublic(public.pub_key).encrypt_oaep(ids.SHA1, b"TCPA", b"x")
    with refused(TPM_DECRYPT_ERROR):
        convert(other.client, parent, b"y", tiny)
    with refused(TPM_INVALID_KEYUSAGE):
        convert(other.client, new_key(other.client, TPM_KEY_MIGRATE, STORAGE_PARMS), random, blob)
    with refused(TPM_AUTHFAIL):
        other.run(ConvertMigrationBlob(parent, blob, random))


def test_what_a_migration_authority_cannot_do(other: Machine) -> None:
    client = other.client
    authority = new_key(client, TPM_KEY_MIGRATE, STORAGE_PARMS)
    parent = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)
    public = pubkey(client, parent)
    blob = RsaPublic(pubkey(client, authority).pub_key).encrypt_oaep(ids.SHA1, b"TCPA", bytes(100))
    short = TPM_PUBKEY(TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE,
                                     encode(TPM_RSA_KEY_PARMS(1024, 2, b""))), b"\xff" * 128)
    for key, destination, rc in (
        (parent, public, TPM_INVALID_KEYUSAGE), (authority, short, TPM_BAD_DATASIZE),
        (authority, TPM_PUBKEY(SIGNING_PARMS, public.pub_key), TPM_INAPPROPRIATE_ENC),
        (authority, TPM_PUBKEY(STORAGE_PARMS, public.pub_key[:-1]), TPM_BAD_KEY_PROPERTY),
        (authority, TPM_PUBKEY(STORAGE_PARMS, bytes(256)), TPM_BAD_KEY_PROPERTY),
    ):
        with refused(rc):
            other.run(MigrateKey(key, destination, blob), once(client.oiap(KEY_AUTH)))
    with refused(TPM_DECRYPT_ERROR):
        other.run(MigrateKey(authority, public, bytes(256)), client.oiap(KEY_AUTH))
    with refused(TPM_AUTHFAIL):
        other.run(MigrateKey(authority, public, blob))
