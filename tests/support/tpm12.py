"""A TPM 1.2 engine for tests: reproducible randomness, a clock that moves when told, and a typed client."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from typing import Any

from hwtpm.client12 import Client, Session
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.primes import generate_rsa
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.engine import Engine
from hwtpm.tpm12.requests.endorsement import CreateEndorsementKeyPair
from hwtpm.tpm12.requests.ownership import TakeOwnership
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.requests.storage import CreateWrapKey, LoadKey2
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_AUTH_ALWAYS,
    TPM_ES_NONE,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_KEYHANDLE,
    TPM_ET_XOR,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
    TPM_PID_OWNER,
    TPM_SS_NONE,
    TPM_ST_CLEAR,
    TPM_SS_RSASSAPKCS1v15_DER,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_PCR_COMPOSITE, TPM_PCR_SELECTION
from hwtpm.tpm12.wrapping import OAEP_LABEL
from hwtpm.wire import encode
from tests.support.machine import AnyMachine

OWNER_AUTH, SRK_AUTH, KEY_AUTH, MIGRATION_AUTH = b"owner".ljust(20, b"."), b"srk".ljust(20, b"."), \
    b"key".ljust(20, b"."), b"migration".ljust(20, b".")
RSA_2048 = encode(TPM_RSA_KEY_PARMS(2048, 2, b""))
STORAGE_PARMS = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, RSA_2048)
SIGNING_PARMS = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_NONE, TPM_SS_RSASSAPKCS1v15_SHA1, RSA_2048)
INFO_PARMS = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_NONE, TPM_SS_RSASSAPKCS1v15_INFO, RSA_2048)
DER_PARMS = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_NONE, TPM_SS_RSASSAPKCS1v15_DER, RSA_2048)
BINDING_PARMS = STORAGE_PARMS


def key_template(usage: int, parms: TPM_KEY_PARMS, *, tag: int = 0x0101, flags: int = 0,
                 auth_data_usage: int = TPM_AUTH_ALWAYS, pcr_info: bytes = b"") -> TPM_KEY:
    """Return what TPM_CreateWrapKey and others make a key from; *tag* 0x0028 makes it a TPM_KEY12."""
    return TPM_KEY(tag, 0, usage, flags, auth_data_usage, parms, pcr_info, b"", b"")


@cache
def primes(number: int) -> tuple[int, int]:
    """Return the primes of one of the few RSA 2048 keys that all tests share."""
    return generate_rsa(2048, 65537, CtrDrbg(b"primes of tests %d" % number).generate, bool)


class SharedPrimes:
    """A source of primes for RSA 2048 that gives a few in turn: finding new ones takes long.

    `number` is that of the pair it gives next.
    """

    def __init__(self) -> None:
        self.number = 1

    def __call__(self, bits: int, exponent: int) -> tuple[int, int] | None:
        if (bits, exponent) != (2048, 65537):
            return None
        self.number += 1
        return primes((self.number - 1) % 8)


class Machine(AnyMachine[Engine]):
    """A TPM 1.2 with a typed client.

    Its RSA 2048 keys are made of a few primes that all tests share: finding new ones takes long.
    """

    def __init__(self, seed: bytes = b"a test", snapshot: bytes | None = None,
                 running: bytes | None = None) -> None:
        self.primes = SharedPrimes()
        super().__init__(seed, snapshot, running)
        self.client = Client(self.execute, self.nonces)
        self.run = self.client.run

    def _power_on(self, snapshot: bytes | None, seed: bytes | None, running: bytes | None) -> Engine:
        return Engine(self.entropy, self.clock, snapshot, seed, self.primes, running)


def started(seed: bytes = b"a test") -> Machine:
    """Return a new TPM, enabled and activated, after TPM_Startup(ST_CLEAR)."""
    machine = Machine(seed)
    machine.tpm.flags.set(disable=False, deactivated=False, physical_presence_cmd_enable=True)
    machine.run(Startup(TPM_ST_CLEAR))
    return machine


def owned(seed: bytes = b"a test") -> Machine:
    """Return a TPM with an endorsement key and an owner: OWNER_AUTH and SRK_AUTH."""
    machine = started(seed)
    take_ownership(machine.client)
    return machine


def with_endorsement_key(seed: bytes = b"a test") -> Machine:
    """Return a started TPM with an endorsement key and without an owner."""
    machine = started(seed)
    machine.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS))
    return machine


def take_ownership(client: Client, pubek: TPM_PUBKEY | None = None) -> None:
    """The TPM has an owner; and, unless *pubek* is the one it has, a new endorsement key."""
    key = pubek or client.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS)).pub_endorsement_key
    client.run(TakeOwnership(TPM_PID_OWNER, encrypt_to(key, OWNER_AUTH), encrypt_to(key, SRK_AUTH),
                             key_template(TPM_KEY_STORAGE, STORAGE_PARMS)), once(client.oiap(OWNER_AUTH)))


def encrypt_to(pubkey: TPM_PUBKEY, secret: bytes) -> bytes:
    """Return *secret* under RSAES-OAEP for the owner of *pubkey*."""
    return RsaPublic(pubkey.pub_key).encrypt_oaep(ids.SHA1, OAEP_LABEL, secret)


def once(session: Session) -> Session:
    """Return *session*, which ends with its next use."""
    session.continues = False
    return session


def create_key(client: Client, template: TPM_KEY, parent: int = TPM_KH_SRK,
               parent_auth: bytes = SRK_AUTH, adip: int = TPM_ET_XOR) -> TPM_KEY:
    """Return a new key under *parent* with KEY_AUTH and MIGRATION_AUTH."""
    session = client.osap(TPM_ET_KEYHANDLE, parent, parent_auth, adip)
    return client.run(CreateWrapKey(parent, session.encrypt(KEY_AUTH),
                                    session.encrypt(MIGRATION_AUTH, odd=True), template), session).wrapped_key


def load_key(client: Client, key: TPM_KEY, parent: int = TPM_KH_SRK, parent_auth: bytes = SRK_AUTH) -> int:
    """Return the handle of *key*, loaded under *parent*."""
    return client.run(LoadKey2(parent, key), once(client.oiap(parent_auth))).inkey_handle


def signing_key(client: Client, parms: TPM_KEY_PARMS = SIGNING_PARMS, **template: Any) -> int:
    """Return the handle of a new signing key under the SRK."""
    return new_key(client, TPM_KEY_SIGNING, parms, **template)


def new_key(client: Client, usage: int, parms: TPM_KEY_PARMS, **template: Any) -> int:
    """Return the handle of a new key under the SRK; *template* is for `key_template`."""
    return load_key(client, create_key(client, key_template(usage, parms, **template)))


def selection(*pcrs: int, octets: int = 3) -> TPM_PCR_SELECTION:
    """Return the selection of these PCRs."""
    return TPM_PCR_SELECTION(sum(1 << pcr for pcr in pcrs).to_bytes(octets, "little"))


def composite(chosen: TPM_PCR_SELECTION, *values: bytes) -> bytes:
    """Return the digest of the PCRs of a selection that have these values (Part 2, 5.4.1)."""
    return sha1(encode(TPM_PCR_COMPOSITE(chosen, b"".join(values)))).digest()
