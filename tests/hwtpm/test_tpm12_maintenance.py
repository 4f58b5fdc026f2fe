"""Maintenance: the SRK moves to another TPM (Part 3, 12)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.tpm12.migrating import xor
from hwtpm.tpm12.requests.capability import SetCapability
from hwtpm.tpm12.requests.maintenance import (
    CreateMaintenanceArchive,
    CreateMaintenanceArchiveResponse,
    KillMaintenanceFeature,
    LoadMaintenanceArchive,
    LoadManuMaintPub,
    ReadManuMaintPub,
)
from hwtpm.tpm12.requests.ownership import OwnerClear
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_SIGNATURE,
    TPM_DECRYPT_ERROR,
    TPM_DISABLED_CMD,
    TPM_INVALID_KEYUSAGE,
    TPM_KEYNOTFOUND,
    TPM_NOSRK,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_BIND,
    TPM_KEY_SIGNING,
    TPM_PF_ALLOWMAINTENANCE,
    TPM_SET_PERM_FLAGS,
    TPM_SS_NONE,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.wrapping import OAEP_LABEL, with_enc_data
from hwtpm.wire import decode, encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    OWNER_AUTH,
    SIGNING_PARMS,
    STORAGE_PARMS,
    Machine,
    create_key,
    key_template,
    load_key,
    owned,
    primes,
    started,
    take_ownership,
)

NONCE = b"n" * 20
RSA_1024 = encode(TPM_RSA_KEY_PARMS(1024, 2, b""))
SHORT_PARMS = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, RSA_1024)


class Manufacturer:
    """Who has the private maintenance key."""

    def __init__(self, number: int) -> None:
        p, q = primes(number)
        self.key = RsaPrivate(p * q, p)
        self.public = TPM_PUBKEY(STORAGE_PARMS, self.key.modulus)

    def convert(self, archive: bytes, target: Machine) -> bytes:
        """Return the archive for *target*, whose SRK is known; nothing of what it hides shows."""
        found = decode(TPM_KEY, archive)
        hidden = self.key.decrypt_oaep(ids.SHA1, OAEP_LABEL, found.enc_data)
        assert len(hidden) == 198
        srk = target.tpm.permanent.srk.rsa
        return encode(with_enc_data(found, srk.encrypt_oaep(ids.SHA1, OAEP_LABEL, hidden)))

    def sign(self, archive: bytes, random: bytes) -> bytes:
        return self.key.sign_pkcs1(ids.SHA1, sha1(archive + random).digest())

    def request(self, archive: bytes, random: bytes) -> LoadMaintenanceArchive:
        return LoadMaintenanceArchive(archive, random, self.sign(archive, random))


MANUFACTURER, OTHER = Manufacturer(0), Manufacturer(7)


def maintained(seed: bytes, first_key: int) -> Machine:
    """Return an owned TPM with keys of its own and the maintenance key of MANUFACTURER."""
    machine = started(seed)
    machine.primes.number = first_key
    take_ownership(machine.client)
    machine.run(LoadManuMaintPub(NONCE, MANUFACTURER.public))
    return machine


def archive_of(machine: Machine, generate_random: int) -> CreateMaintenanceArchiveResponse:
    request = CreateMaintenanceArchive(generate_random)
    return machine.run(request, machine.client.oiap(OWNER_AUTH))


@pytest.fixture
def source() -> Machine:
    return maintained(b"the old one", 1)


@pytest.fixture
def target() -> Machine:
    return maintained(b"the new one", 4)


@pytest.mark.parametrize("generate_random", [0, 1])
def test_the_new_tpm_uses_the_keys_of_the_old_one(source: Machine, target: Machine,
                                                  generate_random: int) -> None:
    key = create_key(source.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    made = archive_of(source, generate_random)
    assert len(made.random) == (198 if generate_random else 0)
    assert source.tpm.flags.permanent.maintenance_done
    assert target.tpm.permanent.srk.public != source.tpm.permanent.srk.public
    converted = MANUFACTURER.convert(made.archive, target)
    target.run(MANUFACTURER.request(converted, made.random), target.client.oiap(OWNER_AUTH))
    new, old = target.tpm.permanent, source.tpm.permanent
    assert (new.tpm_proof, new.owner_auth) == (old.tpm_proof, old.owner_auth)
    assert new.srk.public == old.srk.public
    assert new.endorsement_key.public.pub_key != old.endorsement_key.public.pub_key
    assert target.tpm.flags.permanent.maintenance_done
    assert target.tpm.flags.permanent.disable  # as after TPM_OwnerClear
    assert not target.tpm.sessions.open
    target.tpm.flags.set(disable=False)
    assert load_key(target.client, key, parent_auth=OWNER_AUTH)
    machine = Machine(snapshot=target.durable)
    assert machine.tpm.permanent.srk.usage_auth == OWNER_AUTH


def test_another_owner_needs_the_random_octets(source: Machine, target: Machine) -> None:
    made = archive_of(source, 0)
    target.tpm.permanent.set(owner_auth=b"another".ljust(20, b"."))
    converted = MANUFACTURER.convert(made.archive, target)
    before = target.engine.snapshot()
    with refused(TPM_DECRYPT_ERROR):
        target.run(MANUFACTURER.request(converted, b""), target.client.oiap(b"another".ljust(20, b".")))
    assert target.engine.snapshot() == before
    made = archive_of(source, 1)
    converted = MANUFACTURER.convert(made.archive, target)
    target.run(MANUFACTURER.request(converted, made.random), target.client.oiap(b"another".ljust(20, b".")))
    assert target.tpm.permanent.owner_auth == OWNER_AUTH


def test_an_archive_is_made_for_the_owner_with_a_maintenance_key_unless_that_is_killed() -> None:
    machine = owned()
    with refused(TPM_KEYNOTFOUND):
        archive_of(machine, 0)
    machine.run(LoadManuMaintPub(NONCE, MANUFACTURER.public))
    with refused(TPM_AUTHFAIL):
        machine.run(CreateMaintenanceArchive(0), machine.client.oiap(b"?" * 20))
    with refused(TPM_AUTHFAIL):
        machine.run(KillMaintenanceFeature(), machine.client.oiap(b"?" * 20))
    archive_of(machine, 0)
    machine.run(KillMaintenanceFeature(), machine.client.oiap(OWNER_AUTH))
    with refused(TPM_DISABLED_CMD):
        archive_of(machine, 0)
    with refused(TPM_BAD_PARAMETER):
        request = SetCapability(TPM_SET_PERM_FLAGS, TPM_PF_ALLOWMAINTENANCE.to_bytes(4, "big"), b"\1")
        machine.run(request, machine.client.oiap(OWNER_AUTH))
    machine.run(OwnerClear(), machine.client.oiap(OWNER_AUTH))
    assert machine.tpm.flags.permanent.allow_maintenance
    assert machine.tpm.permanent.manu_maint_pub == MANUFACTURER.public


def test_what_the_manufacturer_did_not_sign_is_not_loaded(source: Machine, target: Machine) -> None:
    made = archive_of(source, 1)
    converted = MANUFACTURER.convert(made.archive, target)
    good = MANUFACTURER.request(converted, made.random)
    before = target.durable
    for bad in (LoadMaintenanceArchive(good.archive, good.random, bytes(256)),
                LoadMaintenanceArchive(good.archive, good.random, b""),
                LoadMaintenanceArchive(good.archive, b"", good.sig),
                OTHER.request(converted, made.random)):
        with refused(TPM_BAD_SIGNATURE):
            target.run(bad, target.client.oiap(OWNER_AUTH))
    assert target.durable == before
    with refused(TPM_AUTHFAIL):
        target.run(good, target.client.oiap(b"?" * 20))
    other = owned()
    with refused(TPM_KEYNOTFOUND):
        other.run(good, other.client.oiap(OWNER_AUTH))


def test_what_is_signed_and_no_archive_for_this_tpm_changes_nothing(source: Machine, target: Machine) -> None:
    made = archive_of(source, 1)
    converted = MANUFACTURER.convert(made.archive, target)
    key = decode(TPM_KEY, converted)
    key.key_usage = TPM_KEY_BIND
    before = target.durable
    for archive, random, rc in (
        (made.archive, made.random, TPM_DECRYPT_ERROR),  # still under the maintenance key
        (converted, made.random[:-1], TPM_BAD_PARAMETER),
        (converted, xor(made.random, b"\1".ljust(198, b"\0")), TPM_DECRYPT_ERROR),
        (converted, b"", TPM_DECRYPT_ERROR),
        (converted[:-1], made.random, TPM_BAD_PARAM_SIZE),
        (encode(key), made.random, TPM_INVALID_KEYUSAGE),
        (b"", made.random, TPM_BAD_PARAM_SIZE),
    ):
        with refused(rc):
            target.run(MANUFACTURER.request(archive, random), target.client.oiap(OWNER_AUTH))
    assert target.durable == before
    with refused(TPM_NOSRK):
        empty = started()
        empty.run(MANUFACTURER.request(converted, made.random), empty.client.oiap(OWNER_AUTH))


def test_a_maintenance_key_is_loaded_once_and_checked_by_its_digest() -> None:
    machine = started()
    with refused(TPM_KEYNOTFOUND):
        machine.run(ReadManuMaintPub(NONCE))
    for bad in (TPM_PUBKEY(SIGNING_PARMS, MANUFACTURER.key.modulus), TPM_PUBKEY(SHORT_PARMS, bytes(128)),
                TPM_PUBKEY(STORAGE_PARMS, b"\xff" * 128), TPM_PUBKEY(STORAGE_PARMS, b"\xfe" * 256)):
        with refused(TPM_BAD_KEY_PROPERTY):
            machine.run(LoadManuMaintPub(NONCE, bad))
    loaded = machine.run(LoadManuMaintPub(NONCE, MANUFACTURER.public))
    assert loaded.checksum == sha1(encode(MANUFACTURER.public) + NONCE).digest()
    assert machine.run(ReadManuMaintPub(NONCE)) == loaded
    with refused(TPM_DISABLED_CMD):
        machine.run(LoadManuMaintPub(NONCE, OTHER.public))
