"""Whatever a guest puts into blobs for keys of TPM 1.2 gets an answer, and none that changes the TPM."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.migrating import pack
from hwtpm.tpm12.requests.change_auth import ChangeAuth
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.identity import ActivateIdentity, MakeIdentity
from hwtpm.tpm12.requests.migration import (
    AuthorizeMigrationKey,
    CMKCreateTicket,
    ConvertMigrationBlob,
    CreateMigrationBlob,
    MigrateKey,
)
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.storage import CreateWrapKey, EvictKey, LoadKey2, UnBind, Unseal
from hwtpm.tpm12.types.constants import (
    TPM_EK_TYPE_ACTIVATE,
    TPM_ET_DATA,
    TPM_ET_KEY,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_KEY_BIND,
    TPM_KEY_IDENTITY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_MS_MIGRATE,
    TPM_PID_ADCP,
    TPM_PT_ASYM,
    TPM_PT_MIGRATE,
    TPM_PT_SEAL,
)
from hwtpm.tpm12.types.identity import TPM_EK_BLOB, TPM_EK_BLOB_ACTIVATE
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_STORE_ASYMKEY
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.storage import TPM_SEALED_DATA, TPM_STORED_DATA, TPM_SYMMETRIC_KEY
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm2 import rc_of
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    create_key,
    key_template,
    load_key,
    new_key,
    once,
    owned,
    selection,
)
from tests.support.tpm12_keys import allow, pubkey

ZERO = bytes(20)


class Keys:
    """A TPM with a key of each kind, the same for all examples."""

    def __init__(self) -> None:
        self.machine: Machine = owned(b"property")
        client = self.machine.client
        self.wrapped = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATABLE))
        self.bind = new_key(client, TPM_KEY_BIND, STORAGE_PARMS)
        self.storage = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)
        self.authority = new_key(client, TPM_KEY_MIGRATE, STORAGE_PARMS)
        session = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
        request = MakeIdentity(session.encrypt(KEY_AUTH), ZERO, key_template(TPM_KEY_IDENTITY, SIGNING_PARMS))
        self.identity = load_key(client, client.run(request, client.oiap(SRK_AUTH), session).id_key)
        self.public = pubkey(client, self.storage)
        self.allowed = allow(client, self.public)
        self.loaded = set(self.machine.tpm.keys.loaded)

    def encrypted(self, handle: int, plain: bytes) -> bytes:
        """*plain* under the SRK, the EK or a loaded key, as far as it fits."""
        tpm = self.machine.tpm
        special = {TPM_KH_SRK: tpm.permanent.srk, 0: tpm.permanent.endorsement_key}
        key = special[handle] if handle in special else tpm.keys.get(handle).key
        return RsaPublic(key.public.pub_key).encrypt_oaep(ids.SHA1, b"TCPA", plain[:214])

    def run(self, request: Command[Any], *auths: bytes | tuple[int, bytes]) -> None:
        """The TPM answers, works on, and has the keys and the permanent state that it had."""
        machine = self.machine
        client, before = machine.client, machine.durable
        sessions = [once(client.oiap(auth)) if isinstance(auth, bytes)
                    else client.osap(TPM_ET_KEYHANDLE, *auth) for auth in auths]
        rc_of(lambda: client.run(request, *sessions))
        machine.tpm.lockout.reset()
        machine.tpm.sessions.open.clear()
        for handle in set(machine.tpm.keys.loaded) - self.loaded:
            machine.run(EvictKey(handle))
        assert machine.durable == before
        assert len(machine.run(GetRandom(4)).random_bytes) == 4


@cache
def keys() -> Keys:
    return Keys()


@st.composite
def changed(draw: Any, octets: bytes) -> bytes:
    """*octets* cut, with octets that are others, or more of them; or anything at all."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=214))
    found = bytearray(octets)
    for _ in range(draw(st.integers(0, 3))):
        if found:
            found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found[: draw(st.integers(0, len(found) + 10))] + draw(st.binary(max_size=4)))


STORED_KEY = encode(TPM_STORE_ASYMKEY(TPM_PT_ASYM, KEY_AUTH, ZERO, ZERO, bytes(range(128))))
SEALED = encode(TPM_SEALED_DATA(TPM_PT_SEAL, KEY_AUTH, ZERO, ZERO, b"secret"))
ACTIVATE = encode(TPM_EK_BLOB(TPM_EK_TYPE_ACTIVATE, encode(TPM_EK_BLOB_ACTIVATE(
    TPM_SYMMETRIC_KEY(6, 4, bytes(16)), ZERO, TPM_PCR_INFO_SHORT(selection(1), 1, ZERO)))))
MIGRATING = pack(TPM_STORE_ASYMKEY(TPM_PT_ASYM, ZERO, ZERO, ZERO, bytes(range(128))), TPM_PT_MIGRATE, ZERO)


@settings(max_examples=150, deadline=None)
@given(changed(STORED_KEY))
def test_any_private_part_of_a_key(plain: bytes) -> None:
    tpm = keys()
    blob = tpm.encrypted(TPM_KH_SRK, plain)
    tpm.run(LoadKey2(TPM_KH_SRK, with_enc_data(tpm.wrapped, blob)), SRK_AUTH)
    tpm.run(CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, tpm.allowed, blob), SRK_AUTH, ZERO)
    tpm.run(ChangeAuth(TPM_KH_SRK, TPM_PID_ADCP, ZERO, TPM_ET_KEY, blob), (TPM_KH_SRK, SRK_AUTH), KEY_AUTH)


@settings(max_examples=100, deadline=None)
@given(changed(SEALED), st.integers(0, 0xFFFF), st.sampled_from([0x0101, 0x0016, 0x0102]),
       st.binary(max_size=60))
def test_any_sealed_data(plain: bytes, et: int, tag: int, info: bytes) -> None:
    tpm = keys()
    blob = tpm.encrypted(TPM_KH_SRK, plain)
    tpm.run(Unseal(TPM_KH_SRK, TPM_STORED_DATA(tag, et, info, blob)), SRK_AUTH, KEY_AUTH)
    tpm.run(ChangeAuth(TPM_KH_SRK, TPM_PID_ADCP, ZERO, TPM_ET_DATA, blob), (TPM_KH_SRK, SRK_AUTH), KEY_AUTH)


@settings(max_examples=100, deadline=None)
@given(changed(MIGRATING))
def test_any_key_that_arrives(plain: bytes) -> None:
    tpm = keys()
    blob, random = tpm.encrypted(tpm.storage, plain), bytes(len(plain[:214]))
    tpm.run(ConvertMigrationBlob(tpm.storage, blob, random), KEY_AUTH)
    tpm.run(MigrateKey(tpm.authority, tpm.public, tpm.encrypted(tpm.authority, plain)), KEY_AUTH)


@settings(max_examples=100, deadline=None)
@given(changed(ACTIVATE))
def test_any_message_of_a_ca(plain: bytes) -> None:
    tpm = keys()
    tpm.run(ActivateIdentity(tpm.identity, tpm.encrypted(0, plain)), KEY_AUTH, OWNER_AUTH)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=214), st.binary(max_size=260))
def test_any_bound_data(plain: bytes, cipher: bytes) -> None:
    tpm = keys()
    tpm.run(UnBind(tpm.bind, tpm.encrypted(tpm.bind, plain)), KEY_AUTH)
    tpm.run(UnBind(tpm.bind, cipher), KEY_AUTH)


RSA = st.builds(lambda bits, primes, exponent: bits.to_bytes(4, "big") + primes.to_bytes(4, "big")
                + len(exponent).to_bytes(4, "big") + exponent,
                st.sampled_from([0, 512, 1024, 2048, 0xFFFFFFFF]), st.sampled_from([1, 2, 3]),
                st.binary(max_size=4))
PARMS = st.builds(TPM_KEY_PARMS, st.sampled_from([0, 1, 4, 6]), st.integers(0, 6), st.integers(0, 6),
                  RSA | st.binary(max_size=20))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([0x0101, 0x0028, 0x0102, 0]), st.integers(0x0F, 0x18), st.integers(0, 0x3F),
       st.integers(0, 255), PARMS, st.binary(max_size=60), st.binary(max_size=10))
def test_any_description_of_a_key(tag: int, usage: int, flags: int, auth_data_usage: int,
                                  parms: TPM_KEY_PARMS, info: bytes, octets: bytes) -> None:
    tpm = keys()
    template = TPM_KEY(tag, 0, usage, flags, auth_data_usage, parms, info, octets, octets)
    tpm.run(CreateWrapKey(TPM_KH_SRK, ZERO, ZERO, template), (TPM_KH_SRK, SRK_AUTH))
    tpm.run(LoadKey2(TPM_KH_SRK, template), SRK_AUTH)


@settings(max_examples=100, deadline=None)
@given(PARMS, st.binary(max_size=300) | st.binary(min_size=256, max_size=256), st.binary(max_size=260))
def test_any_public_key(parms: TPM_KEY_PARMS, modulus: bytes, signature: bytes) -> None:
    tpm = keys()
    public = TPM_PUBKEY(parms, modulus)
    tpm.run(AuthorizeMigrationKey(TPM_MS_MIGRATE, public), OWNER_AUTH)
    tpm.run(CMKCreateTicket(public, ZERO, signature), OWNER_AUTH)
    tpm.run(MigrateKey(tpm.authority, public, tpm.encrypted(tpm.authority, b"x")), KEY_AUTH)
