"""Cases of TPM 1.2.

Commands without authorizations are encoded ahead, like those of TPM 2.0.  An HMAC covers the last response's
nonce, so for all others the client computes between the exchanges, and checks the responses' HMACs there.
"""

from __future__ import annotations

from hashlib import sha1
from random import Random
from typing import Any, Final

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.errors import CryptoError
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.context import FlushSpecific
from hwtpm.tpm12.requests.endorsement import CreateRevocableEK, ReadPubek, RevokeTrust
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, Quote
from hwtpm.tpm12.requests.nv import NVDefineSpace, NVReadValue, NVReadValueAuth, NVWriteValueAuth
from hwtpm.tpm12.requests.opt_in import PhysicalEnable
from hwtpm.tpm12.requests.ownership import OwnerClear, TakeOwnership
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.sessions import OIAP
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.storage import CreateWrapKey, Seal, UnBind, Unseal
from hwtpm.tpm12.types.constants import (
    TPM_CAP_PROP_DIR,
    TPM_CAP_PROP_OWNER,
    TPM_CAP_PROP_PCR,
    TPM_CAP_PROPERTY,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_KEY_BIND,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_NV_INDEX_LOCK,
    TPM_NV_PER_AUTHREAD,
    TPM_NV_PER_AUTHWRITE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_PID_OWNER,
    TPM_PT_BIND,
    TPM_RT_AUTH,
    TPM_RT_KEY,
)
from hwtpm.tpm12.types.key import STRUCT_VER_1_1, TPM_PUBKEY
from hwtpm.tpm12.types.nv import TPM_NV_ATTRIBUTES, TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.signed import TPM_QUOTE_INFO
from hwtpm.wire import encode
from tests.bench.case import RSA, Bounds, Case, RandomOctetsCase, Step, Wrong, expect
from tests.bench.peers import Peer
from tests.support.tpm12 import (
    BINDING_PARMS,
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
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
from tests.support.tpm12_keys import pubkey

SMALL: Final = Bounds(None, 1.3)
_PCR: Final = 16  # the debug PCR, at zero after Startup
_SIZE: Final = 32  # octets of an NV area and of what is sealed
_RESET: Final = b"revokes the benchEK."
_ANYWHERE: Final = 0x1F  # every locality
_ZERO: Final = bytes(20)


def _endorsed(tpm: Peer) -> TPM_PUBKEY:
    """Return the public endorsement key, which the TPM has now; it can be revoked."""
    try:
        found: TPM_PUBKEY = tpm.run(ReadPubek(_ZERO)).pub_endorsement_key
    except TpmError:
        found = tpm.run(CreateRevocableEK(_ZERO, STORAGE_PARMS, 0, _RESET)).pub_endorsement_key
    return found


def _present(tpm: Peer) -> None:
    """Somebody is at the platform, and the TPM is enabled."""
    tpm.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
    tpm.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT))
    tpm.run(PhysicalEnable())


def _has_owner(tpm: Peer) -> bool:
    prop = TPM_CAP_PROP_OWNER.to_bytes(4, "big")
    return bool(any(tpm.run(GetCapability(TPM_CAP_PROPERTY, prop)).resp))


def _ownership(pubek: TPM_PUBKEY) -> TakeOwnership:
    return TakeOwnership(TPM_PID_OWNER, encrypt_to(pubek, OWNER_AUTH), encrypt_to(pubek, SRK_AUTH),
                         key_template(TPM_KEY_STORAGE, STORAGE_PARMS))


def _own(tpm: Peer) -> None:
    """The TPM has an owner."""
    if not _has_owner(tpm):
        tpm.run(_ownership(_endorsed(tpm)), once(tpm.client.oiap(OWNER_AUTH)))


def _disown(tpm: Peer) -> None:
    """The TPM has no owner, and works on: it is not deactivated before the next start."""
    if _has_owner(tpm):
        tpm.run(OwnerClear(), once(tpm.client.oiap(OWNER_AUTH)))
    _present(tpm)


def _verify(key: TPM_PUBKEY, digest: bytes, signature: bytes) -> None:
    """Raise Wrong unless *signature* is that of *key* over the SHA-1 *digest*."""
    try:
        RsaPublic(key.pub_key).verify_pkcs1(ids.SHA1, digest, signature)
    except CryptoError as error:
        raise Wrong("a signature that does not verify") from error


class GetRandomCase(RandomOctetsCase):
    bounds = SMALL

    def steps(self, rng: Random) -> list[Step]:
        return [Step(GetRandom(rng.randrange(16, 33)))]


class PcrReadCase(Case):
    """Reads one of the PCRs from 0 to 15, which are zero after Startup."""

    name, bounds = "pcr_read", SMALL

    def steps(self, rng: Random) -> list[Step]:
        return [Step(PcrRead(rng.randrange(16)))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        expect(responses[0].out_digest == _ZERO, "a PCR that is not zero")


class ExtendCase(Case):
    name, bounds = "extend", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._replayed = tpm.run(PcrRead(_PCR)).out_digest

    def steps(self, rng: Random) -> list[Step]:
        return [Step(Extend(_PCR, rng.randbytes(20)))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        self._replayed = sha1(self._replayed + requests[0].in_digest).digest()
        expect(responses[0].out_digest == self._replayed, "the PCR is not what the extends make of it")


class OiapCase(Case):
    """Opens a session; that it is closed again does not count."""

    name, bounds = "oiap", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._seen: set[bytes] = set()

    def steps(self, rng: Random) -> list[Step]:
        return [Step(OIAP()), Step(FlushSpecific(0, TPM_RT_AUTH), timed=False)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        expect(responses[0].nonce_even not in self._seen, "a nonce that was there before")
        self._seen.add(responses[0].nonce_even)


class GetCapabilityCase(Case):
    """Asks for one of two properties whose values are those of the PC Client specification."""

    name, bounds = "get_capability", SMALL
    _expected: Final = {TPM_CAP_PROP_PCR: 24, TPM_CAP_PROP_DIR: 1}

    def steps(self, rng: Random) -> list[Step]:
        prop = rng.choice(tuple(self._expected))
        return [Step(GetCapability(TPM_CAP_PROPERTY, prop.to_bytes(4, "big")))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        found = int.from_bytes(responses[0].resp, "big")
        expected = self._expected[int.from_bytes(requests[0].sub_cap, "big")]
        expect(found == expected, f"a property of {found}, not {expected}")


class _NvCase(Case):
    """Has an NV area of 32 octets."""

    index = 0x00011101
    auth = b"area".ljust(20, b".")
    attributes = TPM_NV_PER_AUTHWRITE

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        _own(tpm)
        tpm.run(NVDefineSpace(self._public(TPM_NV_INDEX_LOCK, 0, 0), _ZERO))  # else nothing is checked
        self._define(_SIZE)
        self._data = bytes(range(_SIZE))
        tpm.run(NVWriteValueAuth(self.index, 0, self._data), once(tpm.client.oiap(self.auth)))

    @staticmethod
    def _public(index: int, attributes: int, size: int) -> TPM_NV_DATA_PUBLIC:
        anywhere = TPM_PCR_INFO_SHORT(selection(), _ANYWHERE, _ZERO)
        return TPM_NV_DATA_PUBLIC(index, anywhere, anywhere, TPM_NV_ATTRIBUTES(attributes), 0, 0, 0, size)

    def _define(self, size: int) -> None:
        session = self.tpm.client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
        public = self._public(self.index, self.attributes, size)
        self.tpm.run(NVDefineSpace(public, session.encrypt(self.auth)), once(session))

    def close(self) -> None:
        self._define(0)


class NvReadCase(_NvCase):
    """Reads half of the area, from a different octet on, without an authorization."""

    name, bounds = "nv_read_32B", SMALL

    def steps(self, rng: Random) -> list[Step]:
        return [Step(NVReadValue(self.index, rng.randrange(16), 16))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        offset = requests[0].offset
        expect(responses[0].data == self._data[offset : offset + 16], "other data than were written")


class _Interactive(Case):
    """`sample` runs one command with `timed`, and any others with the peer's own client."""

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._timing = Client(self._exchange, tpm.entropy)
        self._taken = 0

    def timed(self, request: Command[Any], *sessions: Any) -> Any:
        """Return the response; ProtocolError for one whose HMAC is wrong."""
        return self._timing.run(request, *sessions)

    def _exchange(self, command: bytes) -> bytes:
        response, self._taken = self.tpm.timed(command)
        return response

    def sample(self, rng: Random) -> None:
        raise NotImplementedError

    def turn(self, rng: Random, count: int) -> list[int]:
        samples = []
        for _ in range(count):
            self.sample(rng)
            samples.append(self._taken)
        self.check()
        return samples


class NvReadAuthCase(_Interactive, _NvCase):
    """The same with the area's own authorization, in one session for all."""

    name, bounds = "nv_read_hmac", SMALL
    index = 0x00011102
    attributes = TPM_NV_PER_AUTHWRITE | TPM_NV_PER_AUTHREAD

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._session = tpm.client.oiap(self.auth)

    def sample(self, rng: Random) -> None:
        offset = rng.randrange(16)
        found = self.timed(NVReadValueAuth(self.index, offset, 16), self._session).data
        expect(found == self._data[offset : offset + 16], "other data than were written")

    def close(self) -> None:
        self.tpm.run(FlushSpecific(self._session.handle, TPM_RT_AUTH))
        super().close()


class _KeyCase(_Interactive):
    """Has a loaded key, and one session for all of its uses."""

    bounds, per_turn = RSA, 5
    usage, parms = TPM_KEY_SIGNING, SIGNING_PARMS

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        _own(tpm)
        self.key = load_key(tpm.client, create_key(tpm.client, key_template(self.usage, self.parms)))
        self.public = pubkey(tpm.client, self.key)
        self.session = tpm.client.oiap(KEY_AUTH)

    def close(self) -> None:
        self.tpm.run(FlushSpecific(self.session.handle, TPM_RT_AUTH))
        self.tpm.run(FlushSpecific(self.key, TPM_RT_KEY))


class SignCase(_KeyCase):
    name = "sign"

    def sample(self, rng: Random) -> None:
        digest = rng.randbytes(20)
        _verify(self.public, digest, self.timed(Sign(self.key, digest), self.session).sig)


class QuoteCase(_KeyCase):
    """Quotes one of the PCRs from 0 to 15, which are zero."""

    name = "quote"

    def sample(self, rng: Random) -> None:
        nonce, chosen = rng.randbytes(20), selection(rng.randrange(16))
        found = self.timed(Quote(self.key, nonce, chosen), self.session)
        info = TPM_QUOTE_INFO(STRUCT_VER_1_1.to_bytes(2, "big") + b"\0\0", b"QUOT", composite(chosen, _ZERO),
                              nonce)
        _verify(self.public, sha1(encode(info)).digest(), found.sig)


class UnBindCase(_KeyCase):
    name = "unbind"
    usage, parms = TPM_KEY_BIND, BINDING_PARMS

    def sample(self, rng: Random) -> None:
        secret = rng.randbytes(_SIZE)
        bound = STRUCT_VER_1_1.to_bytes(2, "big") + b"\0\0" + bytes([TPM_PT_BIND]) + secret
        found = self.timed(UnBind(self.key, encrypt_to(self.public, bound)), self.session).out_data
        expect(found == secret, "another message than was encrypted")


class UnsealCase(_Interactive):
    """Unseals what the same TPM has just sealed; two authorizations, in sessions for all."""

    name, bounds, per_turn = "unseal", RSA, 5
    auth = b"sealed".ljust(20, b".")

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        _own(tpm)
        self._sessions = tpm.client.oiap(SRK_AUTH), tpm.client.oiap(self.auth)

    def sample(self, rng: Random) -> None:
        client, secret = self.tpm.client, rng.randbytes(_SIZE)
        session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
        sealed = client.run(Seal(TPM_KH_SRK, session.encrypt(self.auth), b"", secret),
                            once(session)).sealed_data
        found = self.timed(Unseal(TPM_KH_SRK, sealed), *self._sessions).secret
        expect(found == secret, "another secret than was sealed")

    def close(self) -> None:
        for session in self._sessions:
            self.tpm.run(FlushSpecific(session.handle, TPM_RT_AUTH))


class CreateWrapKeyCase(_Interactive):
    """Makes a signing key; ours takes primes that were found while nothing else was to do."""

    name, bounds, turns, per_turn = "create_wrap_key", Bounds(None, 0.1), 30, 1

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        _own(tpm)
        self._seen: set[bytes] = set()

    def sample(self, rng: Random) -> None:
        """Every key has to work."""
        client, template = self.tpm.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
        session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
        auths = session.encrypt(KEY_AUTH), session.encrypt(MIGRATION_AUTH, odd=True)
        made = self.timed(CreateWrapKey(TPM_KH_SRK, *auths, template), once(session)).wrapped_key
        expect(made.pub_key not in self._seen, "a key that was there before")
        self._seen.add(made.pub_key)
        handle, digest = load_key(client, made), rng.randbytes(20)
        signed = client.run(Sign(handle, digest), once(client.oiap(KEY_AUTH))).sig
        _verify(pubkey(client, handle), digest, signed)
        client.run(FlushSpecific(handle, TPM_RT_KEY))


class TakeOwnershipCase(_Interactive):
    """Makes an SRK each time; the owner is cleared again, which does not count."""

    name, bounds, turns, per_turn = "take_ownership", RSA, 30, 1

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        _disown(tpm)
        self._pubek = _endorsed(tpm)
        self._seen: set[bytes] = set()

    def sample(self, rng: Random) -> None:
        made = self.timed(_ownership(self._pubek), once(self.tpm.client.oiap(OWNER_AUTH))).srk_pub
        expect(made.pub_key not in self._seen, "an SRK that was there before")
        self._seen.add(made.pub_key)
        expect(_has_owner(self.tpm), "no owner")
        _disown(self.tpm)


class CreateEkCase(_Interactive):
    """CreateRevocableEK, which is CreateEndorsementKeyPair but for its key: that can be revoked again."""

    name, bounds, turns, per_turn = "create_ek", RSA, 30, 1

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        _disown(tpm)
        _endorsed(tpm)
        self._revoke()
        self._seen: set[bytes] = set()

    def _revoke(self) -> None:
        self.tpm.run(RevokeTrust(_RESET))
        _present(self.tpm)

    def sample(self, rng: Random) -> None:
        nonce = rng.randbytes(20)
        made = self.timed(CreateRevocableEK(nonce, STORAGE_PARMS, 0, _RESET))
        key = made.pub_endorsement_key
        expect(made.checksum == sha1(encode(key) + nonce).digest(), "a wrong checksum")
        expect(key.pub_key not in self._seen, "an endorsement key that was there before")
        self._seen.add(key.pub_key)
        self._revoke()


CASES: tuple[type[Case], ...] = (
    GetRandomCase, PcrReadCase, ExtendCase, OiapCase, GetCapabilityCase, NvReadCase, NvReadAuthCase, SignCase,
    QuoteCase, UnBindCase, UnsealCase, CreateWrapKeyCase, TakeOwnershipCase, CreateEkCase,
)
