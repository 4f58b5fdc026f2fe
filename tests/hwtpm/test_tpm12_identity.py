"""Identities of TPM 1.2 (Part 3, 15)."""

from __future__ import annotations

from hashlib import sha1
from typing import Any

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.requests.identity import ActivateIdentity, MakeIdentity, MakeIdentityResponse
from hwtpm.tpm12.requests.integrity import Extend, Quote
from hwtpm.tpm12.requests.signing import CertifyKey, CertifyKey2, Sign
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_LOCALITY,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_TYPE,
    TPM_DECRYPT_ERROR,
    TPM_INVALID_KEYUSAGE,
    TPM_MIGRATEFAIL,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_AES128,
    TPM_AUTH_NEVER,
    TPM_EK_TYPE_ACTIVATE,
    TPM_EK_TYPE_AUTH,
    TPM_ES_SYM_CTR,
    TPM_ET_AES128_CTR,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_ET_XOR,
    TPM_KEY_IDENTITY,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_TAG_KEY12,
)
from hwtpm.tpm12.types.identity import TPM_ASYM_CA_CONTENTS, TPM_EK_BLOB, TPM_EK_BLOB_ACTIVATE
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.storage import TPM_SYMMETRIC_KEY
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    composite,
    encrypt_to,
    key_template,
    load_key,
    once,
    owned,
    selection,
    signing_key,
)

LABEL, DIGEST, ZERO = b"l" * 20, b"d" * 20, bytes(20)
SESSION_KEY = TPM_SYMMETRIC_KEY(TPM_ALG_AES128, TPM_ES_SYM_CTR, bytes(range(16)))
ANYWHERE = TPM_PCR_INFO_SHORT(selection(), 0x1F, ZERO)
TEMPLATE = key_template(TPM_KEY_IDENTITY, SIGNING_PARMS)


@pytest.fixture
def machine() -> Machine:
    return owned()


def make(client: Client, template: TPM_KEY = TEMPLATE, adip: int = TPM_ET_XOR,
         srk_auth: bytes | None = SRK_AUTH) -> MakeIdentityResponse:
    owner = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH, adip)
    srk = () if srk_auth is None else (client.oiap(srk_auth),)
    return client.run(MakeIdentity(owner.encrypt(KEY_AUTH), LABEL, template), *srk, owner)


def identity(client: Client, **template: Any) -> int:
    return load_key(client, make(client, key_template(TPM_KEY_IDENTITY, SIGNING_PARMS, **template)).id_key)


def public(key: TPM_KEY) -> TPM_PUBKEY:
    return TPM_PUBKEY(key.algorithm_parms, key.pub_key)


@pytest.mark.parametrize("adip", [TPM_ET_XOR, TPM_ET_AES128_CTR])
@pytest.mark.parametrize("tag", [0x0101, TPM_TAG_KEY12])
def test_a_new_identity_signs_its_contents(machine: Machine, adip: int, tag: int) -> None:
    made = make(machine.client, key_template(TPM_KEY_IDENTITY, SIGNING_PARMS, tag=tag), adip)
    assert not machine.tpm.sessions.open  # it ends both
    contents = b"\1\1\0\0" + b"\0\0\0\x79" + LABEL + encode(public(made.id_key))
    RsaPublic(made.id_key.pub_key).verify_pkcs1(ids.SHA1, sha1(contents).digest(), made.identity_binding)
    handle = load_key(machine.client, made.id_key)
    assert machine.run(Quote(handle, DIGEST, selection(0)), machine.client.oiap(KEY_AUTH)).sig


def test_an_identity_signs_nothing_that_it_is_given(machine: Machine) -> None:
    with refused(TPM_INVALID_KEYUSAGE):
        machine.run(Sign(identity(machine.client), DIGEST), machine.client.oiap(KEY_AUTH))


def test_an_identity_does_not_vouch_for_what_can_migrate(machine: Machine) -> None:
    client = machine.client
    certifier, stays = identity(client), signing_key(client)
    migrates = signing_key(client, flags=TPM_MIGRATABLE)
    for request in (CertifyKey(certifier, migrates, DIGEST), CertifyKey2(migrates, certifier, ZERO, DIGEST)):
        with refused(TPM_MIGRATEFAIL):
            machine.run(request, client.oiap(KEY_AUTH), client.oiap(KEY_AUTH))  # type: ignore[type-var]
    for request in (CertifyKey(certifier, stays, DIGEST), CertifyKey2(stays, certifier, ZERO, DIGEST)):
        assert machine.run(request, client.oiap(KEY_AUTH), client.oiap(KEY_AUTH))  # type: ignore[type-var]


def test_what_can_be_an_identity(machine: Machine) -> None:
    short = TPM_KEY_PARMS(1, 1, 2, encode(TPM_RSA_KEY_PARMS(1024, 2, b"")))
    for template, rc in (
        (key_template(TPM_KEY_IDENTITY, short), TPM_BAD_KEY_PROPERTY),
        (key_template(TPM_KEY_SIGNING, short), TPM_BAD_KEY_PROPERTY),
        (key_template(TPM_KEY_IDENTITY, STORAGE_PARMS), TPM_BAD_KEY_PROPERTY),
        (key_template(TPM_KEY_SIGNING, SIGNING_PARMS), TPM_INVALID_KEYUSAGE),
        (key_template(TPM_KEY_STORAGE, STORAGE_PARMS), TPM_INVALID_KEYUSAGE),
        (key_template(TPM_KEY_IDENTITY, SIGNING_PARMS, flags=TPM_MIGRATABLE), TPM_INVALID_KEYUSAGE),
    ):
        with refused(rc):
            make(machine.client, template)


def test_make_identity_wants_the_owner_and_the_srk(machine: Machine) -> None:
    client = machine.client
    request = MakeIdentity(ZERO, LABEL, TEMPLATE)
    with refused(TPM_BAD_MODE):
        machine.run(request, client.oiap(SRK_AUTH), client.oiap(OWNER_AUTH))
    with refused(TPM_AUTH2FAIL):
        machine.run(request, client.oiap(SRK_AUTH), client.osap(TPM_ET_OWNER, TPM_KH_OWNER, SRK_AUTH))
    with refused(TPM_AUTHFAIL):
        make(client, srk_auth=KEY_AUTH)
    with refused(TPM_AUTHFAIL):
        make(client, srk_auth=None)
    machine.tpm.permanent.srk.public.auth_data_usage = TPM_AUTH_NEVER
    assert make(client, srk_auth=None).identity_binding
    with refused(TPM_AUTHFAIL):
        machine.run(request, client.osap(TPM_ET_OWNER, TPM_KH_OWNER, SRK_AUTH))


def activate(machine: Machine, key: int, plain: bytes) -> TPM_SYMMETRIC_KEY:
    blob = encrypt_to(machine.tpm.permanent.endorsement_key.pubkey, plain)
    return machine.run(ActivateIdentity(key, blob), once(machine.client.oiap(KEY_AUTH)),
                       once(machine.client.oiap(OWNER_AUTH))).symmetric_key


def blob(id_digest: bytes, info: TPM_PCR_INFO_SHORT = ANYWHERE, kind: int = TPM_EK_TYPE_ACTIVATE) -> bytes:
    return encode(TPM_EK_BLOB(kind, encode(TPM_EK_BLOB_ACTIVATE(SESSION_KEY, id_digest, info))))


def test_a_ca_sends_a_key_to_the_tpm_that_has_the_identity(machine: Machine) -> None:
    made = make(machine.client)
    key, digest = load_key(machine.client, made.id_key), sha1(encode(public(made.id_key))).digest()
    assert activate(machine, key, encode(TPM_ASYM_CA_CONTENTS(SESSION_KEY, digest))) == SESSION_KEY
    assert activate(machine, key, blob(digest)) == SESSION_KEY
    for plain, rc in (
        (encode(TPM_ASYM_CA_CONTENTS(SESSION_KEY, DIGEST)), TPM_BAD_PARAMETER),
        (blob(DIGEST), TPM_BAD_PARAMETER), (blob(digest, kind=TPM_EK_TYPE_AUTH), TPM_BAD_TYPE),
        (blob(digest)[:-1], TPM_BAD_PARAM_SIZE), (b"", TPM_BAD_PARAM_SIZE),
    ):
        with refused(rc):
            activate(machine, key, plain)


def test_a_ca_can_name_a_state_of_the_pcrs(machine: Machine) -> None:
    made = make(machine.client)
    key, digest = load_key(machine.client, made.id_key), sha1(encode(public(made.id_key))).digest()
    info = TPM_PCR_INFO_SHORT(selection(4), 0b00010, composite(selection(4), ZERO))
    with refused(TPM_BAD_LOCALITY):
        activate(machine, key, blob(digest, info))
    machine.locality = 1
    assert activate(machine, key, blob(digest, info)) == SESSION_KEY
    machine.run(Extend(4, DIGEST))
    with refused(TPM_WRONGPCRVAL):
        activate(machine, key, blob(digest, info))


def test_activate_identity_wants_the_owner_and_the_identity(machine: Machine) -> None:
    client = machine.client
    key = identity(client)
    request = ActivateIdentity(key, bytes(256))
    bad = b"x" * 20
    for auths, rc in (((KEY_AUTH, bad), TPM_AUTH2FAIL), ((bad, OWNER_AUTH), TPM_AUTHFAIL),
                      ((OWNER_AUTH,), TPM_AUTHFAIL), ((KEY_AUTH, OWNER_AUTH), TPM_DECRYPT_ERROR)):
        with refused(rc):
            machine.run(request, *(once(client.oiap(auth)) for auth in auths))
    with refused(TPM_BAD_DATASIZE):
        machine.run(ActivateIdentity(key, bytes(257)), client.oiap(KEY_AUTH), client.oiap(OWNER_AUTH))
    request = ActivateIdentity(signing_key(client), b"")
    with refused(TPM_BAD_PARAMETER):
        machine.run(request, client.oiap(KEY_AUTH), client.oiap(OWNER_AUTH))
    free = identity(client, auth_data_usage=TPM_AUTH_NEVER)
    with refused(TPM_DECRYPT_ERROR):  # the owner alone is enough for it
        machine.run(ActivateIdentity(free, bytes(256)),
                    client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH))
    with refused(TPM_AUTHFAIL):
        machine.run(request, client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH),
                    client.oiap(OWNER_AUTH))
