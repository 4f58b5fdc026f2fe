"""Changes of secrets of TPM 1.2 (Part 3, 17 and 27.4)."""

from __future__ import annotations

from hashlib import sha1
from hmac import digest as hmac
from typing import Any

import pytest

from hwtpm.client12 import Client, Session
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.profile import KEY_HANDLES
from hwtpm.tpm12.requests.change_auth import (
    ChangeAuth,
    ChangeAuthAsymFinish,
    ChangeAuthAsymStart,
    ChangeAuthAsymStartResponse,
    ChangeAuthOwner,
)
from hwtpm.tpm12.requests.identity import MakeIdentity
from hwtpm.tpm12.requests.migration import CMKSetRestrictions
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.requests.storage import Seal, Unseal
from hwtpm.tpm12.types.authorization import TPM_CHANGEAUTH_VALIDATE
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_DECRYPT_ERROR,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_STRUCTURE,
    TPM_NOSPACE,
    TPM_WRONG_ENTITYTYPE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_AES128_CTR,
    TPM_ET_DATA,
    TPM_ET_KEY,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_ET_SRK,
    TPM_ET_XOR,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_IDENTITY,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_PID_ADCP,
    TPM_PID_OWNER,
    TPM_SS_NONE,
    TPM_ST_CLEAR,
)
from hwtpm.tpm12.types.key import TPM_KEY_PARMS, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.signed import TPM_CERTIFY_INFO
from hwtpm.tpm12.types.storage import TPM_STORED_DATA
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm2 import refused
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
    signing_key,
)

NEW_AUTH, DATA_AUTH, NONCE, DIGEST = (text.ljust(20, b".") for text in (b"new", b"data", b"nonce", b"digest"))


@pytest.fixture
def machine() -> Machine:
    return owned()


def seal(client: Client) -> TPM_STORED_DATA:
    session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
    return client.run(Seal(TPM_KH_SRK, session.encrypt(DATA_AUTH), b"", b"secret"), session).sealed_data


def change(client: Client, kind: int, enc_data: bytes, old: bytes, *, parent: int = TPM_KH_SRK,
           parent_auth: bytes = SRK_AUTH, adip: int = TPM_ET_XOR, protocol: int = TPM_PID_ADCP,
           entity: Session | None = None) -> bytes:
    session = client.osap(TPM_ET_KEYHANDLE, parent, parent_auth, adip)
    request = ChangeAuth(parent, protocol, session.encrypt(NEW_AUTH), kind, enc_data)
    return client.run(request, session, entity or client.oiap(old)).out_data


@pytest.mark.parametrize("adip", [TPM_ET_XOR, TPM_ET_AES128_CTR])
def test_a_key_has_a_new_secret(machine: Machine, adip: int) -> None:
    client = machine.client
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    changed = with_enc_data(key, change(client, TPM_ET_KEY, key.enc_data, KEY_AUTH, adip=adip))
    assert not machine.tpm.sessions.open  # it ends both
    handle = load_key(client, changed)
    assert client.run(Sign(handle, DIGEST), once(client.oiap(NEW_AUTH))).sig
    with refused(TPM_AUTHFAIL):
        client.run(Sign(handle, DIGEST), client.oiap(KEY_AUTH))


def test_sealed_data_has_a_new_secret(machine: Machine) -> None:
    client, stored = machine.client, seal(machine.client)
    stored.enc_data = change(client, TPM_ET_DATA, stored.enc_data, DATA_AUTH)
    answer = client.run(Unseal(TPM_KH_SRK, stored), client.oiap(SRK_AUTH), client.oiap(NEW_AUTH))
    assert answer.secret == b"secret"
    with refused(TPM_AUTH2FAIL):
        client.run(Unseal(TPM_KH_SRK, stored), client.oiap(SRK_AUTH), client.oiap(DATA_AUTH))


def test_what_change_auth_refuses(machine: Machine) -> None:
    client = machine.client
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS)).enc_data
    data = seal(client).enc_data
    signer = signing_key(client)
    cases: tuple[tuple[int, bytes, dict[str, Any], int], ...] = (
        (TPM_ET_OWNER, key, {}, TPM_WRONG_ENTITYTYPE),
        (TPM_ET_KEY, key, {"protocol": TPM_PID_OWNER}, TPM_BAD_PARAMETER),
        (TPM_ET_KEY, key, {"old": DATA_AUTH}, TPM_AUTH2FAIL),
        (TPM_ET_KEY, key, {"parent_auth": KEY_AUTH}, TPM_AUTHFAIL),
        (TPM_ET_KEY, key, {"entity": client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)}, TPM_BAD_MODE),
        (TPM_ET_KEY, key, {"parent": signer, "parent_auth": KEY_AUTH}, TPM_INVALID_KEYUSAGE),
        (TPM_ET_KEY, data, {}, TPM_INVALID_STRUCTURE),
        (TPM_ET_DATA, key, {}, TPM_INVALID_STRUCTURE),
        # That TPM has an SRK of the same primes, but another proof.
        (TPM_ET_DATA, seal(owned(b"another").client).enc_data, {"old": DATA_AUTH}, TPM_AUTHFAIL),
        (TPM_ET_KEY, bytes(256), {}, TPM_DECRYPT_ERROR),
        (TPM_ET_KEY, bytes(257), {}, TPM_BAD_DATASIZE),
    )
    for kind, enc_data, given, rc in cases:
        machine.tpm.lockout.reset()
        with refused(rc):
            change(client, kind, enc_data, **({"old": KEY_AUTH} | given))
    with refused(TPM_BAD_MODE):
        client.run(ChangeAuth(TPM_KH_SRK, TPM_PID_ADCP, DIGEST, TPM_ET_KEY, key), client.oiap(SRK_AUTH),
                   client.oiap(KEY_AUTH))


def change_owner(client: Client, kind: int, *, auth: bytes = OWNER_AUTH,
                 protocol: int = TPM_PID_ADCP) -> None:
    session = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, auth)
    client.run(ChangeAuthOwner(protocol, session.encrypt(NEW_AUTH), kind), session)


def as_owner(client: Client, auth: bytes) -> None:
    client.run(CMKSetRestrictions(0), once(client.oiap(auth)))


def test_the_owner_has_a_new_secret(machine: Machine) -> None:
    client = machine.client
    bound = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    change_owner(client, TPM_ET_OWNER)
    with refused(TPM_INVALID_AUTHHANDLE):  # all sessions that are bound to the owner have ended
        client.run(CMKSetRestrictions(0), bound)
    assert not machine.tpm.sessions.open
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    as_owner(client, NEW_AUTH)
    with refused(TPM_AUTHFAIL):
        as_owner(client, OWNER_AUTH)


def test_the_srk_has_a_new_secret(machine: Machine) -> None:
    client = machine.client
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    change_owner(client, TPM_ET_SRK)
    as_owner(client, OWNER_AUTH)
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    assert load_key(client, key, parent_auth=NEW_AUTH)
    with refused(TPM_AUTHFAIL):
        load_key(client, key)


def test_what_change_auth_owner_refuses(machine: Machine) -> None:
    client = machine.client
    for kind, given, rc in ((TPM_ET_KEY, {}, TPM_WRONG_ENTITYTYPE),
                            (TPM_ET_OWNER, {"protocol": TPM_PID_OWNER}, TPM_BAD_PARAMETER),
                            (TPM_ET_OWNER, {"auth": SRK_AUTH}, TPM_AUTHFAIL)):
        with refused(rc):
            change_owner(client, kind, **given)  # type: ignore[arg-type]
        assert not machine.tpm.sessions.open
    with refused(TPM_BAD_MODE):
        client.run(ChangeAuthOwner(TPM_PID_ADCP, DIGEST, TPM_ET_OWNER), client.oiap(OWNER_AUTH))
    as_owner(client, OWNER_AUTH)


# The asymmetric protocol

EPHEMERAL = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE,
                          encode(TPM_RSA_KEY_PARMS(1024, 2, b"")))


def identity(client: Client) -> int:
    owner = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    request = MakeIdentity(owner.encrypt(KEY_AUTH), DIGEST, key_template(TPM_KEY_IDENTITY, SIGNING_PARMS))
    return load_key(client, client.run(request, client.oiap(SRK_AUTH), owner).id_key)


def start(client: Client, signer: int, parms: TPM_KEY_PARMS = EPHEMERAL) -> ChangeAuthAsymStartResponse:
    return client.run(ChangeAuthAsymStart(signer, NONCE, parms), once(client.oiap(KEY_AUTH)))


def finish(client: Client, started: ChangeAuthAsymStartResponse, kind: int, enc_data: bytes, old: bytes, *,
           parent: int = TPM_KH_SRK, auth: bytes = OWNER_AUTH, handle: int | None = None) -> bytes:
    sent = encode(TPM_CHANGEAUTH_VALIDATE(NEW_AUTH, NONCE))
    cipher = RsaPublic(started.temp_key.pub_key).encrypt_oaep(ids.SHA1, b"TCPA", sent)
    request = ChangeAuthAsymFinish(parent, handle or started.eph_handle, kind, hmac(old, NEW_AUTH, "sha1"),
                                   cipher, enc_data)
    answer = client.run(request, once(client.oiap(auth)))
    assert answer.change_proof == hmac(NEW_AUTH, answer.salt_nonce + NONCE, "sha1")
    return answer.out_data


def test_an_identity_vouches_for_the_ephemeral_key(machine: Machine) -> None:
    client = machine.client
    signer = identity(client)
    answer = start(client, signer)
    modulus = answer.temp_key.pub_key
    assert answer.certify_info == TPM_CERTIFY_INFO(0x0101, 0, 0, TPM_KEY_AUTHCHANGE, 4, 0, EPHEMERAL,
                                                   sha1(modulus).digest(), NONCE, 0, b"", None)
    assert (answer.temp_key.key_usage, answer.temp_key.enc_data) == (TPM_KEY_AUTHCHANGE, b"")
    RsaPublic(machine.tpm.keys.get(signer).key.public.pub_key).verify_pkcs1(
        ids.SHA1, sha1(encode(answer.certify_info)).digest(), answer.sig)


@pytest.mark.parametrize("kind", [TPM_ET_KEY, TPM_ET_DATA])
def test_a_secret_changes_that_the_parents_user_never_learns(machine: Machine, kind: int) -> None:
    client = machine.client
    started = start(client, identity(client))
    if kind == TPM_ET_KEY:
        key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
        key = with_enc_data(key, finish(client, started, kind, key.enc_data, KEY_AUTH))
        handle = load_key(client, key)
        assert client.run(Sign(handle, DIGEST), client.oiap(NEW_AUTH)).sig
    else:
        stored = seal(client)
        stored.enc_data = finish(client, started, kind, stored.enc_data, DATA_AUTH)
        answer = client.run(Unseal(TPM_KH_SRK, stored), client.oiap(SRK_AUTH), client.oiap(NEW_AUTH))
        assert answer.secret == b"secret"
    with refused(TPM_INVALID_KEYHANDLE):  # the ephemeral key is for one change
        finish(client, started, TPM_ET_KEY, create_key(
            client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS)).enc_data, KEY_AUTH)


def test_under_another_parent_its_own_secret_authorizes(machine: Machine) -> None:
    """Only for the SRK it is the owner's (Part 3, 27.4.2)."""
    client = machine.client
    started = start(client, identity(client))
    parent = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS), parent, KEY_AUTH)
    with refused(TPM_AUTHFAIL):
        finish(client, started, TPM_ET_KEY, key.enc_data, KEY_AUTH, parent=parent)
    assert finish(client, started, TPM_ET_KEY, key.enc_data, KEY_AUTH, parent=parent, auth=KEY_AUTH)


def test_a_wrong_link_is_a_wrong_secret(machine: Machine) -> None:
    client = machine.client
    started = start(client, identity(client))
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS)).enc_data
    with refused(TPM_AUTHFAIL):
        finish(client, started, TPM_ET_KEY, key, DATA_AUTH)
    assert machine.tpm.lockout.failures == 1
    assert finish(client, started, TPM_ET_KEY, key, KEY_AUTH)  # the ephemeral key is still there


def test_what_the_asymmetric_change_refuses(machine: Machine) -> None:
    client = machine.client
    signer, other = identity(client), signing_key(client)
    with refused(TPM_INVALID_KEYUSAGE):
        start(client, other)
    with refused(TPM_AUTHFAIL):
        client.run(ChangeAuthAsymStart(signer, NONCE, EPHEMERAL))
    for parms in (SIGNING_PARMS, TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, encode(
            TPM_RSA_KEY_PARMS(256, 2, b"")))):
        with refused(TPM_BAD_KEY_PROPERTY):
            start(client, signer, parms)
    started = start(client, signer)
    wrapped = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    key, data = wrapped.enc_data, seal(client).enc_data
    cases: tuple[tuple[int, bytes, dict[str, Any], int], ...] = (
        (TPM_ET_OWNER, key, {}, TPM_WRONG_ENTITYTYPE), (TPM_ET_KEY, data, {}, TPM_INVALID_STRUCTURE),
        (TPM_ET_KEY, key, {"auth": SRK_AUTH}, TPM_AUTHFAIL),
        (TPM_ET_KEY, key, {"handle": other}, TPM_BAD_PARAMETER),
        (TPM_ET_KEY, key, {"parent": other, "auth": KEY_AUTH}, TPM_INVALID_KEYUSAGE),
    )
    for kind, enc_data, given, rc in cases:
        with refused(rc):
            finish(client, started, kind, enc_data, KEY_AUTH, **given)
    assert client.run(ChangeAuthAsymStart(signer, NONCE, EPHEMERAL), client.oiap(KEY_AUTH))
    while len(machine.tpm.keys.loaded) < KEY_HANDLES:
        load_key(client, wrapped)
    with refused(TPM_NOSPACE):
        start(client, signer)
