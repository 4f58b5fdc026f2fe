"""Our TPM 1.2 and swtpm, each with an owner, for requests that differ in handles and blobs only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from hwtpm.client12 import Client, Session
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.primes import generate_rsa
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.context import FlushSpecific
from hwtpm.tpm12.requests.endorsement import CreateEndorsementKeyPair
from hwtpm.tpm12.requests.management import ResetLockValue
from hwtpm.tpm12.requests.ownership import TakeOwnership
from hwtpm.tpm12.requests.storage import EvictKey
from hwtpm.tpm12.state.keys import pub_data_digest
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_ET_XOR,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_PID_OWNER,
    TPM_PT_ASYM,
    TPM_RT_AUTH,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_RSA_KEY_PARMS, TPM_STORE_ASYMKEY
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm2 import rc_of
from tests.support.tpm12 import (
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
    SRK_AUTH,
    STORAGE_PARMS,
    encrypt_to,
    key_template,
    load_key,
    once,
)
from tests.support.tpm12_pair import Pair, pair


class Both(NamedTuple):
    """A member of a request that is not the same for both TPMs."""

    ours: Any
    theirs: Any


class Osap(NamedTuple):
    """An OSAP session for an entity, as an authorization of a request."""

    kind: int
    value: int | Both
    secret: bytes
    adip: int = TPM_ET_XOR


SRK = Osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
OWNER = Osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)


def _pick(value: Any, number: int) -> Any:
    return value[number] if isinstance(value, Both) else value


@cache
def primes(bits: int) -> tuple[int, int]:
    """Return the primes of the key that is loaded in both."""
    return generate_rsa(bits, 65537, CtrDrbg(b"a key for both").generate, bool)


def modulus(bits: int = 2048) -> bytes:
    """Return the modulus of that key."""
    p, q = primes(bits)
    return (p * q).to_bytes(bits // 8, "big")


def rsa_parms(encryption: int, signature: int, bits: int = 2048, exponent: bytes = b"") -> TPM_KEY_PARMS:
    """Return the parameters of an RSA key."""
    return TPM_KEY_PARMS(TPM_ALG_RSA, encryption, signature, encode(TPM_RSA_KEY_PARMS(bits, 2, exponent)))


class Owned:
    """Both TPMs with an owner; `pubeks` are their endorsement keys."""

    def __init__(self, both: Pair) -> None:
        self.pair, self.clients = both, both.clients
        self._loaded: list[tuple[Client, int]] = []
        self.pubeks = Both(*(
            client.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS)).pub_endorsement_key
            for client in self.clients))
        self._srks = [
            client.run(TakeOwnership(TPM_PID_OWNER, encrypt_to(ek, OWNER_AUTH), encrypt_to(ek, SRK_AUTH),
                                     key_template(TPM_KEY_STORAGE, STORAGE_PARMS)),
                       once(client.oiap(OWNER_AUTH))).srk_pub
            for client, ek in zip(self.clients, self.pubeks, strict=True)]

    def wrap(self, template: TPM_KEY, bits: int = 2048, **inside: Any) -> Both:
        """Return one key under the SRK of each, as software wraps it; *inside* replaces private members."""
        template.pub_key = modulus(bits)
        stored = TPM_STORE_ASYMKEY(TPM_PT_ASYM, KEY_AUTH, MIGRATION_AUTH, pub_data_digest(template),
                                   primes(bits)[0].to_bytes(bits // 16, "big"))
        for name, value in inside.items():
            setattr(stored, name, value)
        return Both(*(
            with_enc_data(template, RsaPublic(srk.pub_key).encrypt_oaep(ids.SHA1, b"TCPA", encode(stored)))
            for srk in self._srks))

    def load(self, usage: int, parms: TPM_KEY_PARMS, bits: int = 2048, **template: Any) -> Both:
        """Return the handles of one key in both."""
        wrapped = self.wrap(key_template(usage, parms, **({"flags": TPM_MIGRATABLE} | template)), bits)
        return Both(*(self.keep(client, load_key(client, key))
                      for client, key in zip(self.clients, wrapped, strict=True)))

    def keep(self, client: Client, handle: int) -> int:
        """The key is evicted by `forgive`."""
        self._loaded.append((client, handle))
        return handle

    def answers(self, request: Command[Any], *auths: bytes | Osap) -> Both:
        """Return what both answer: a response, or the code of an error.

        An authorization is the secret for an OIAP session, or an Osap.
        """
        return Both(*(self._answer(number, request, auths) for number in (0, 1)))

    def _answer(self, number: int, request: Command[Any], auths: tuple[bytes | Osap, ...]) -> object:
        client = self.clients[number]
        sessions = [self._session(client, number, auth) for auth in auths]
        mine = type(request)(*(_pick(getattr(request, name), number) for name in type(request)._fields))
        try:
            return client.run(mine, *sessions)
        except TpmError as error:
            return f"0x{error.rc:02x}"
        finally:
            for session in sessions:  # A command that cannot be read does not end them.
                self._flush(client, session)

    @staticmethod
    def _session(client: Client, number: int, auth: bytes | Osap) -> Session:
        if isinstance(auth, bytes):
            return once(client.oiap(auth))
        return client.osap(auth.kind, _pick(auth.value, number), auth.secret, auth.adip)

    @staticmethod
    def _flush(client: Client, session: Session) -> None:
        rc_of(lambda: client.run(FlushSpecific(session.handle, TPM_RT_AUTH)))

    def agree(self, request: Command[Any], *auths: bytes | Osap) -> Any:
        """Both give the same answer, which is returned."""
        ours, theirs = self.answers(request, *auths)
        assert ours == theirs, f"{request}: ours {ours}, swtpm's {theirs}"
        return ours

    def forgive(self) -> None:
        """Wrong secrets are forgotten, and the keys of `load` evicted."""
        for client in self.clients:
            client.run(ResetLockValue(), once(client.oiap(OWNER_AUTH)))
        for client, handle in self._loaded:
            self._evict(client, handle)
        self._loaded.clear()

    @staticmethod
    def _evict(client: Client, handle: int) -> None:
        rc_of(lambda: client.run(EvictKey(handle)))


@contextmanager
def owned_pair() -> Iterator[Owned]:
    """Give both; skips the test where swtpm is not installed."""
    with pair() as both:
        yield Owned(both)
