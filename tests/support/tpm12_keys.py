"""Keys of TPM 1.2 that move between TPMs."""

from __future__ import annotations

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.requests.migration import AuthorizeMigrationKey
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.storage import GetPubKey
from hwtpm.tpm12.types.constants import TPM_KEY_SIGNING, TPM_KH_SRK, TPM_MIGRATABLE, TPM_MS_MIGRATE
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY
from hwtpm.tpm12.types.migration import TPM_MIGRATIONKEYAUTH
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    Machine,
    create_key,
    key_template,
    load_key,
    once,
    owned,
)

_DIGEST = b"d" * 20


def another_tpm() -> Machine:
    """Return a TPM with an owner, whose next keys are not those of the next that `owned` gives."""
    found = owned(b"another")
    found.primes.number += 3
    return found


def pubkey(client: Client, handle: int, auth: bytes = KEY_AUTH) -> TPM_PUBKEY:
    """Return the public part of a loaded key."""
    return client.run(GetPubKey(handle), once(client.oiap(auth))).pub_key


def public_key(client: Client, handle: int) -> RsaPublic:
    """Return the public part of a loaded key, to use."""
    return RsaPublic(pubkey(client, handle).pub_key)


def allow(client: Client, key: TPM_PUBKEY, scheme: int = TPM_MS_MIGRATE) -> TPM_MIGRATIONKEYAUTH:
    """Return the owner's permission to migrate keys to *key*."""
    return client.run(AuthorizeMigrationKey(scheme, key), once(client.oiap(OWNER_AUTH))).out_data


def migratable(client: Client, parent: int = TPM_KH_SRK, parent_auth: bytes = SRK_AUTH) -> TPM_KEY:
    """Return a new migratable signing key."""
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATABLE)
    return create_key(client, template, parent, parent_auth)


def signs(client: Client, key: TPM_KEY, parent: int = TPM_KH_SRK, parent_auth: bytes = SRK_AUTH) -> int:
    """Return the handle of *key*, which can be loaded and whose signature is that of its public part."""
    handle = load_key(client, key, parent, parent_auth)
    signature = client.run(Sign(handle, _DIGEST), once(client.oiap(KEY_AUTH))).sig
    RsaPublic(key.pub_key).verify_pkcs1(ids.SHA1, _DIGEST, signature)
    return handle
