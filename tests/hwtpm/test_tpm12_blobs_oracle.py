"""What our TPM 1.2 and swtpm make and take: sealed data, keys that move, identities, new secrets."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha1
from typing import Any

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPrivate, RsaPublic
from hwtpm.tpm12.requests.change_auth import ChangeAuth, ChangeAuthOwner
from hwtpm.tpm12.requests.identity import ActivateIdentity, MakeIdentity
from hwtpm.tpm12.requests.migration import (
    AuthorizeMigrationKey,
    CMKApproveMA,
    CMKConvertMigration,
    CMKCreateBlob,
    CMKCreateKey,
    CMKCreateTicket,
    ConvertMigrationBlob,
    CreateMigrationBlob,
    MigrateKey,
)
from hwtpm.tpm12.requests.storage import CreateWrapKey, Seal, Sealx, Unseal
from hwtpm.tpm12.types.constants import (
    TPM_ALG_AES128,
    TPM_ALG_RSA,
    TPM_ALG_SHA,
    TPM_ES_NONE,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ES_SYM_CTR,
    TPM_ET_AES128_CTR,
    TPM_ET_DATA,
    TPM_ET_KEY,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_ET_SRK,
    TPM_ET_XOR,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_EK,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_MS_MIGRATE,
    TPM_MS_RESTRICT_APPROVE,
    TPM_MS_REWRAP,
    TPM_PID_ADCP,
    TPM_PID_OWNER,
    TPM_SS_NONE,
    TPM_TAG_KEY12,
    TPM_ES_RSAESPKCSv15,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.identity import TPM_ASYM_CA_CONTENTS, TPM_EK_BLOB, TPM_EK_BLOB_ACTIVATE
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.migration import TPM_CMK_AUTH, TPM_MSA_COMPOSITE
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG, TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.storage import TPM_STORED_DATA, TPM_SYMMETRIC_KEY
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm12 import (
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
    RSA_2048,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    composite,
    create_key,
    encrypt_to,
    key_template,
    load_key,
    once,
    selection,
)
from tests.support.tpm12_both import OWNER, SRK, Both, Osap, Owned, modulus, owned_pair, primes, rsa_parms
from tests.support.tpm12_keys import allow, migratable, pubkey, signs

ZERO, DIGEST, BAD = bytes(20), b"d" * 20, b"x" * 20
OAEP, PKCS, NO_ES = TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_ES_RSAESPKCSv15, TPM_ES_NONE
SHA1 = TPM_SS_RSASSAPKCS1v15_SHA1
STORAGE = TPM_KEY_STORAGE, STORAGE_PARMS
PCR_3 = selection(3)
BOUND_TO = {
    "nothing": b"",
    "PCR 3": encode(TPM_PCR_INFO(PCR_3, composite(PCR_3, ZERO), ZERO)),
    "PCR 3 (1.2)": encode(TPM_PCR_INFO_LONG(1, 0x1F, selection(1, 2), PCR_3, ZERO, composite(PCR_3, ZERO))),
    "locality 0": encode(TPM_PCR_INFO_LONG(1, 1, selection(), selection(), ZERO, ZERO)),
    "what PCR 3 is not": encode(TPM_PCR_INFO(PCR_3, DIGEST, ZERO)),
    "what PCR 3 is not (1.2)": encode(TPM_PCR_INFO_LONG(1, 0x1F, PCR_3, PCR_3, ZERO, DIGEST)),
}


@pytest.fixture(scope="module")
def module() -> Iterator[Owned]:
    with owned_pair() as both:
        yield both


@pytest.fixture
def both(module: Owned) -> Iterator[Owned]:
    yield module
    module.forgive()


# Making


def key12(usage: int, parms: TPM_KEY_PARMS, flags: int = 0) -> TPM_KEY:
    return key_template(usage, parms, tag=TPM_TAG_KEY12, flags=flags)


@pytest.mark.parametrize("template", [
    key_template(TPM_KEY_SIGNING, STORAGE_PARMS),
    key_template(TPM_KEY_STORAGE, SIGNING_PARMS),
    key_template(TPM_KEY_AUTHCHANGE, STORAGE_PARMS),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATEAUTHORITY),
    key_template(0, SIGNING_PARMS),
    key_template(0x17, SIGNING_PARMS),
    key_template(TPM_KEY_LEGACY, STORAGE_PARMS),
    key_template(TPM_KEY_MIGRATE, SIGNING_PARMS),
    key_template(TPM_KEY_STORAGE, rsa_parms(OAEP, TPM_SS_NONE, 1024)),
    key_template(TPM_KEY_STORAGE, rsa_parms(OAEP, TPM_SS_NONE, exponent=b"\3")),
    key_template(TPM_KEY_SIGNING, rsa_parms(NO_ES, SHA1, 4096)),
    key_template(TPM_KEY_SIGNING, rsa_parms(NO_ES, SHA1, exponent=b"\4")),
    key_template(TPM_KEY_SIGNING, TPM_KEY_PARMS(TPM_ALG_RSA, NO_ES, SHA1,
                                                encode(TPM_RSA_KEY_PARMS(2048, 3, b"")))),
    key_template(TPM_KEY_SIGNING, TPM_KEY_PARMS(TPM_ALG_SHA, NO_ES, SHA1, RSA_2048)),
    key_template(TPM_KEY_SIGNING, TPM_KEY_PARMS(TPM_ALG_RSA, NO_ES, SHA1, b"")),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, pcr_info=b"x"),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, pcr_info=b"\0\4" + bytes(44)),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=TPM_TAG_KEY12, pcr_info=b"\0\6\1\1" + bytes(43)),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=TPM_TAG_KEY12, pcr_info=b"\0\7\1\1" + bytes(44)),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=TPM_TAG_KEY12, pcr_info=b"\0\6\1\0" + bytes(44)),
    key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=0x0102),
])
def test_keys_that_cannot_be_made(both: Owned, template: TPM_KEY) -> None:
    both.agree(CreateWrapKey(TPM_KH_SRK, ZERO, ZERO, template), SRK)
    both.agree(MakeIdentity(ZERO, ZERO, template), SRK_AUTH, OWNER)
    both.agree(CMKCreateKey(TPM_KH_SRK, ZERO, template, ZERO, ZERO), SRK)


def test_who_can_make_keys(both: Owned) -> None:
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
    wrong_srk = SRK._replace(secret=BAD)
    both.agree(CreateWrapKey(TPM_KH_SRK, ZERO, ZERO, template), SRK_AUTH)
    both.agree(CreateWrapKey(TPM_KH_SRK, ZERO, ZERO, template), wrong_srk)
    both.agree(CreateWrapKey(TPM_KH_EK, ZERO, ZERO, template), SRK_AUTH)
    movable = both.load(*STORAGE)
    both.agree(CreateWrapKey(movable, ZERO, ZERO, template), Osap(TPM_ET_KEYHANDLE, movable, KEY_AUTH))
    both.agree(MakeIdentity(ZERO, ZERO, template), OWNER)
    identity, wrong_owner = key_template(TPM_KEY_IDENTITY, SIGNING_PARMS), OWNER._replace(secret=BAD)
    for auths in ((SRK_AUTH, OWNER_AUTH), (BAD, OWNER), (SRK_AUTH, wrong_owner), (OWNER,)):
        both.agree(MakeIdentity(ZERO, ZERO, identity), *auths)
    # TPM_AUTH2FAIL is for the second authorization (Part 2, 16), and here is one only.
    assert both.answers(MakeIdentity(ZERO, ZERO, identity), wrong_owner) == ("0x01", "0x1d")
    certified = key12(TPM_KEY_SIGNING, SIGNING_PARMS, TPM_MIGRATABLE | TPM_MIGRATEAUTHORITY)
    both.agree(CMKCreateKey(TPM_KH_SRK, ZERO, certified, ZERO, ZERO), SRK)
    for flags in (TPM_MIGRATABLE, TPM_MIGRATEAUTHORITY):
        uncertified = key12(TPM_KEY_SIGNING, SIGNING_PARMS, flags)
        both.agree(CMKCreateKey(TPM_KH_SRK, ZERO, uncertified, ZERO, ZERO), SRK)


# Sealing


def test_what_cannot_be_sealed(both: Owned) -> None:
    for info in (b"\0", b"\0\6", BOUND_TO["PCR 3"][:-1], BOUND_TO["PCR 3 (1.2)"][:-1], b"\0\4" + bytes(44),
                 b"\0\6\1\0" + bytes(50)):
        both.agree(Seal(TPM_KH_SRK, ZERO, info, b"x"), SRK)
        both.agree(Sealx(TPM_KH_SRK, ZERO, info, b"x"), SRK)
    both.agree(Seal(TPM_KH_SRK, ZERO, b"", b""), SRK)
    both.agree(Sealx(TPM_KH_SRK, ZERO, BOUND_TO["PCR 3"], b"x"), SRK)
    both.agree(Seal(TPM_KH_SRK, ZERO, b"", b"x"), SRK_AUTH)
    for key in (both.load(*STORAGE), both.load(TPM_KEY_SIGNING, SIGNING_PARMS)):
        both.agree(Seal(key, ZERO, b"", b"x"), Osap(TPM_ET_KEYHANDLE, key, KEY_AUTH))
    # The specification has a code for data that is too long (Part 3, 10.1, action 15).
    assert both.answers(Seal(TPM_KH_SRK, ZERO, b"", bytes(150)), SRK) == ("0x2b", "0x20")


def seal(client: Client, pcr_info: bytes, adip: int | None) -> TPM_STORED_DATA:
    """Data sealed with DIGEST as its secret; with an *adip* by TPM_Sealx."""
    session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH, adip or TPM_ET_XOR)
    if adip is None:
        return client.run(Seal(TPM_KH_SRK, session.encrypt(DIGEST), pcr_info, b"secret"), session).sealed_data
    return client.run(Sealx(TPM_KH_SRK, session.encrypt(DIGEST), pcr_info, session.encrypt_data(b"secret")),
                      session).sealed_data


@pytest.mark.parametrize(("bound_to", "adip"), [
    *((name, None) for name in BOUND_TO),
    *((name, adip) for name in ("nothing", "PCR 3 (1.2)", "locality 0", "what PCR 3 is not (1.2)")
      for adip in (TPM_ET_XOR, TPM_ET_AES128_CTR)),
])
def test_sealed_data(both: Owned, bound_to: str, adip: int | None) -> None:
    """The blobs are different, but not their public parts, nor what unsealing answers."""
    stored = Both(*(seal(client, BOUND_TO[bound_to], adip) for client in both.clients))
    publics = [(blob.tag, blob.et, blob.seal_info) for blob in stored]
    assert publics[0] == publics[1]
    for locality in (0, 1):
        both.pair.set_locality(locality)
        for auths in ((SRK_AUTH, DIGEST), (BAD, DIGEST), (SRK_AUTH, BAD)):
            both.agree(Unseal(TPM_KH_SRK, stored), *auths)
        both.agree(Unseal(TPM_KH_SRK, stored), DIGEST)
    both.pair.set_locality(0)
    for change in ({"et": 1}, {"tag": 0x0102}, {"tag": 0x0027}, {"enc_data": bytes(256)}, {"enc_data": b""}):
        both.agree(Unseal(TPM_KH_SRK, Both(*(changed(blob, **change) for blob in stored))), SRK_AUTH, DIGEST)
    for client, blob in zip(both.clients, stored, strict=True):
        if "not" not in bound_to:
            session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH, adip or TPM_ET_XOR)
            secret = client.run(Unseal(TPM_KH_SRK, blob), session, once(client.oiap(DIGEST))).secret
            assert (secret if adip is None else session.decrypt_data(secret)) == b"secret"


def changed(blob: TPM_STORED_DATA, **change: Any) -> TPM_STORED_DATA:
    parts = {"tag": blob.tag, "et": blob.et, "seal_info": blob.seal_info, "enc_data": blob.enc_data}
    return TPM_STORED_DATA(**(parts | change))


# Migration


def parent_of(both: Owned, client: Client) -> int:
    return both.keep(client, load_key(client, create_key(client, key_template(*STORAGE))))


@pytest.mark.parametrize("here", [0, 1], ids=["from ours", "from swtpm"])
def test_a_key_migrates_and_comes_back(both: Owned, here: int) -> None:
    home, away = both.clients[here], both.clients[1 - here]
    parent = parent_of(both, away)
    key = migratable(home)
    allowed = allow(home, pubkey(away, parent))
    answer = home.run(CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, allowed, key.enc_data),
                      once(home.oiap(SRK_AUTH)), once(home.oiap(MIGRATION_AUTH)))
    arrived = with_enc_data(key, away.run(ConvertMigrationBlob(parent, answer.out_data, answer.random),
                                          once(away.oiap(KEY_AUTH))).out_data)
    both.keep(away, signs(away, arrived, parent, KEY_AUTH))
    back = parent_of(both, home)
    allowed = allow(away, pubkey(home, back), TPM_MS_REWRAP)
    answer = away.run(CreateMigrationBlob(parent, TPM_MS_REWRAP, allowed, arrived.enc_data),
                      once(away.oiap(KEY_AUTH)), once(away.oiap(MIGRATION_AUTH)))
    both.keep(home, signs(home, with_enc_data(key, answer.out_data), back, KEY_AUTH))


@pytest.mark.parametrize("here", [0, 1], ids=["from ours", "from swtpm"])
def test_a_certified_key_migrates(both: Owned, here: int) -> None:
    home, away = both.clients[here], both.clients[1 - here]
    signer = RsaPrivate(modulus(), primes(2048)[0])
    authority = TPM_PUBKEY(SIGNING_PARMS, signer.modulus)
    msa = TPM_MSA_COMPOSITE([sha1(encode(authority)).digest()])
    digest = sha1(encode(msa)).digest()
    approval = home.run(CMKApproveMA(digest), once(home.oiap(OWNER_AUTH))).out_data
    session = home.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
    template = key12(TPM_KEY_SIGNING, SIGNING_PARMS, TPM_MIGRATABLE | TPM_MIGRATEAUTHORITY)
    key = home.run(CMKCreateKey(TPM_KH_SRK, session.encrypt(KEY_AUTH), template, approval, digest),
                   session).wrapped_key
    parent = parent_of(both, away)
    destination = pubkey(away, parent)
    source = sha1(encode(TPM_PUBKEY(key.algorithm_parms, key.pub_key))).digest()
    restriction = TPM_CMK_AUTH(msa.mig_auth_digest[0], sha1(encode(destination)).digest(), source)
    data = sha1(encode(restriction)).digest()
    request = CMKCreateTicket(authority, data, signer.sign_pkcs1(ids.SHA1, data))
    tickets = [client.run(request, once(client.oiap(OWNER_AUTH))).sig_ticket for client in (home, away)]
    allowed = allow(home, destination, TPM_MS_RESTRICT_APPROVE)
    answer = home.run(CMKCreateBlob(TPM_KH_SRK, TPM_MS_RESTRICT_APPROVE, allowed, source, msa,
                                    encode(restriction), tickets[0], key.enc_data), once(home.oiap(SRK_AUTH)))
    moving = with_enc_data(key, answer.out_data)
    converted = away.run(CMKConvertMigration(parent, restriction, tickets[1], moving, msa, answer.random),
                         once(away.oiap(KEY_AUTH))).out_data
    both.keep(away, signs(away, with_enc_data(key, converted), parent, KEY_AUTH))


def test_what_does_not_migrate(both: Owned) -> None:
    public = TPM_PUBKEY(STORAGE_PARMS, modulus())
    allowed = Both(*(allow(client, public) for client in both.clients))
    keys = Both(*(migratable(client).enc_data for client in both.clients))
    stays = Both(*(create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS)).enc_data
                   for client in both.clients))
    for kind in (0, TPM_MS_REWRAP + 1):
        both.agree(CreateMigrationBlob(TPM_KH_SRK, kind, allowed, keys), SRK_AUTH, MIGRATION_AUTH)
    foreign = Both(allowed.theirs, allowed.ours)
    both.agree(CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, foreign, keys), SRK_AUTH, MIGRATION_AUTH)
    for blob in (stays, b"", bytes(256), bytes(257)):
        both.agree(CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, allowed, blob), SRK_AUTH, MIGRATION_AUTH)
    for auths in ((SRK_AUTH, BAD), (BAD, MIGRATION_AUTH), (MIGRATION_AUTH,), (SRK_AUTH, SRK)):
        both.agree(CreateMigrationBlob(TPM_KH_SRK, TPM_MS_MIGRATE, allowed, keys), *auths)


def test_which_keys_are_destinations(both: Owned) -> None:
    for parms in (rsa_parms(OAEP, TPM_SS_NONE, 1024), rsa_parms(PKCS, TPM_SS_NONE),
                  rsa_parms(OAEP, TPM_SS_NONE, exponent=b"\3")):
        for auth in (OWNER_AUTH, BAD):
            both.agree(AuthorizeMigrationKey(TPM_MS_MIGRATE, TPM_PUBKEY(parms, modulus())), auth)


def test_what_arrives(both: Owned) -> None:
    parent, authority = both.load(*STORAGE), both.load(TPM_KEY_MIGRATE, STORAGE_PARMS)
    public = TPM_PUBKEY(STORAGE_PARMS, modulus())
    for plain, random in ((b"x" * 10, b"y" * 10), (b"x" * 198, bytes(198)), (b"x" * 10, b"y" * 9),
                          (bytes(198), bytes(198))):
        cipher = RsaPublic(modulus()).encrypt_oaep(ids.SHA1, b"TCPA", plain)
        for key in (parent, authority):
            both.agree(ConvertMigrationBlob(key, cipher, random), KEY_AUTH)
    for cipher in (b"", bytes(256), bytes(257)):
        both.agree(ConvertMigrationBlob(parent, cipher, b""), KEY_AUTH)
        both.agree(MigrateKey(authority, public, cipher), KEY_AUTH)
    both.agree(MigrateKey(parent, public, bytes(256)), KEY_AUTH)
    both.agree(MigrateKey(authority, public, bytes(256)))


def test_signatures_of_authorities(both: Owned) -> None:
    data = sha1(b"data").digest()
    signature = RsaPrivate(modulus(), primes(2048)[0]).sign_pkcs1(ids.SHA1, data)
    for parms in (STORAGE_PARMS, rsa_parms(NO_ES, 3), rsa_parms(NO_ES, TPM_SS_NONE),
                  TPM_KEY_PARMS(TPM_ALG_SHA, NO_ES, SHA1, RSA_2048)):
        both.agree(CMKCreateTicket(TPM_PUBKEY(parms, modulus()), data, signature), OWNER_AUTH)
    public = TPM_PUBKEY(SIGNING_PARMS, modulus())
    for signed in (b"", signature[:-1], signature + b"\0", bytes(256), b"\xff" * 256):
        both.agree(CMKCreateTicket(public, data, signed), OWNER_AUTH)
    both.agree(CMKCreateTicket(public, data, signature), BAD)


# Identities


def make_identity(both: Owned, client: Client) -> tuple[int, bytes]:
    """The handle of a new identity, and the digest of its public key."""
    owner = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    request = MakeIdentity(owner.encrypt(KEY_AUTH), DIGEST, key_template(TPM_KEY_IDENTITY, SIGNING_PARMS))
    made = client.run(request, client.oiap(SRK_AUTH), owner)
    public = encode(TPM_PUBKEY(made.id_key.algorithm_parms, made.id_key.pub_key))
    contents = b"\1\1\0\0" + b"\0\0\0\x79" + DIGEST + public
    RsaPublic(made.id_key.pub_key).verify_pkcs1(ids.SHA1, sha1(contents).digest(), made.identity_binding)
    return both.keep(client, load_key(client, made.id_key)), sha1(public).digest()


SESSION_KEY = TPM_SYMMETRIC_KEY(TPM_ALG_AES128, TPM_ES_SYM_CTR, bytes(16))
ANYWHERE = TPM_PCR_INFO_SHORT(selection(), 0x1F, ZERO)
LOCALITY_1 = TPM_PCR_INFO_SHORT(selection(), 2, ZERO)
WRONG_PCR = TPM_PCR_INFO_SHORT(selection(5), 0x1F, DIGEST)


def sent_by_a_ca(identity: bytes) -> list[bytes]:
    """Messages for the TPM that has that identity, right and wrong ones."""
    return [
        encode(TPM_ASYM_CA_CONTENTS(SESSION_KEY, identity)), encode(TPM_ASYM_CA_CONTENTS(SESSION_KEY, ZERO)),
        *(encode(TPM_EK_BLOB(kind, encode(TPM_EK_BLOB_ACTIVATE(SESSION_KEY, digest, info))))
          for kind, digest, info in (
              (1, identity, ANYWHERE), (1, identity, LOCALITY_1), (1, identity, WRONG_PCR),
              (1, ZERO, ANYWHERE), (2, identity, ANYWHERE), (3, identity, ANYWHERE))),
        encode(TPM_EK_BLOB(1, b"")), b"\0\x0c", b"\0\1\2",
    ]


def test_identities_that_are_activated(both: Owned) -> None:
    made = [make_identity(both, client) for client in both.clients]
    keys = Both(*(handle for handle, _ in made))
    messages = zip(*(sent_by_a_ca(digest) for _, digest in made), strict=True)
    for plains in messages:
        blob = Both(*(encrypt_to(ek, plain) for ek, plain in zip(both.pubeks, plains, strict=True)))
        both.agree(ActivateIdentity(keys, blob), KEY_AUTH, OWNER_AUTH)
    for blob in (b"", bytes(256), bytes(257)):
        both.agree(ActivateIdentity(keys, blob), KEY_AUTH, OWNER_AUTH)
    signer = both.load(TPM_KEY_SIGNING, SIGNING_PARMS)
    both.agree(ActivateIdentity(signer, bytes(256)), KEY_AUTH, OWNER_AUTH)
    both.agree(ActivateIdentity(keys, bytes(256)), OWNER_AUTH)
    # TPM_AUTH2FAIL is for the second authorization (Part 2, 16), which is the owner's.
    assert both.answers(ActivateIdentity(keys, bytes(256)), KEY_AUTH, BAD) == ("0x1d", "0x01")
    assert both.answers(ActivateIdentity(keys, bytes(256)), BAD, OWNER_AUTH) == ("0x01", "0x1d")


# Secrets


def test_secrets_that_do_not_change(both: Owned) -> None:
    keys = Both(*(create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS)).enc_data
                  for client in both.clients))
    sealed = Both(*(seal(client, b"", None).enc_data for client in both.clients))
    wrong = SRK._replace(secret=BAD)
    for protocol, kind, blob, auths in (
        (TPM_PID_ADCP, TPM_ET_OWNER, keys, (SRK, KEY_AUTH)),
        (TPM_PID_OWNER, TPM_ET_KEY, keys, (SRK, KEY_AUTH)),
        (TPM_PID_ADCP, TPM_ET_KEY, keys, (SRK, BAD)), (TPM_PID_ADCP, TPM_ET_DATA, sealed, (SRK, BAD)),
        (TPM_PID_ADCP, TPM_ET_KEY, keys, (wrong, KEY_AUTH)), (TPM_PID_ADCP, TPM_ET_KEY, keys, (SRK, SRK)),
        (TPM_PID_ADCP, TPM_ET_KEY, keys, (SRK_AUTH, KEY_AUTH)),
        (TPM_PID_ADCP, TPM_ET_KEY, bytes(256), (SRK, KEY_AUTH)),
        (TPM_PID_ADCP, TPM_ET_KEY, sealed, (SRK, KEY_AUTH)),
    ):
        both.agree(ChangeAuth(TPM_KH_SRK, protocol, ZERO, kind, blob), *auths)
    # The structures differ in their payload only, which swtpm does not look at (Part 3, 17.1, action 10).
    as_data = ChangeAuth(TPM_KH_SRK, TPM_PID_ADCP, ZERO, TPM_ET_DATA, keys)
    refused, taken = both.answers(as_data, SRK, KEY_AUTH)
    assert refused == "0x43"
    assert not isinstance(taken, str)
    for protocol, kind, auth in (
        (TPM_PID_OWNER, TPM_ET_OWNER, OWNER), (TPM_PID_ADCP, TPM_ET_KEYHANDLE, OWNER),
        (TPM_PID_ADCP, TPM_ET_OWNER, OWNER._replace(secret=BAD)), (TPM_PID_ADCP, TPM_ET_OWNER, OWNER_AUTH),
    ):
        both.agree(ChangeAuthOwner(protocol, ZERO, kind), auth)


def test_secrets_of_owner_and_srk_change(both: Owned) -> None:
    for client in both.clients:
        for owner, kind, new in ((OWNER_AUTH, TPM_ET_SRK, BAD), (OWNER_AUTH, TPM_ET_OWNER, BAD),
                                 (BAD, TPM_ET_SRK, SRK_AUTH), (BAD, TPM_ET_OWNER, OWNER_AUTH)):
            session = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, owner)
            client.run(ChangeAuthOwner(TPM_PID_ADCP, session.encrypt(new), kind), session)
