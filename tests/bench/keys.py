"""Cases that make, load and use asymmetric keys."""

from __future__ import annotations

from random import Random
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from hwtpm.tpm2.requests.asymmetric import ECDHZGen, RSADecrypt
from hwtpm.tpm2.requests.attestation import Quote
from hwtpm.tpm2.requests.object import Create, CreateResponse, Load, LoadExternal
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMS_SIGNATURE_ECC,
    TPMS_SIGNATURE_RSA,
    TPMT_RSA_DECRYPT,
    TPMT_SIGNATURE,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_SIGN, TPMA_OBJECT_USERWITHAUTH
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_OAEP,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA256,
    TPM_ST_ATTEST_QUOTE,
    TPM_ST_VERIFIED,
)
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_ATTEST, TPMS_QUOTE_INFO
from hwtpm.wire import decode, encode
from tests.bench.case import (
    DECRYPTION,
    ECC,
    FLUSH,
    KEY_SCHEME,
    NO_AUTH,
    NO_SENSITIVE,
    NO_TICKET,
    RSA,
    SIGNING,
    STORAGE,
    Bounds,
    Case,
    Step,
    create_primary,
    ecc_template,
    expect,
    name_of,
    primary_request,
    public_key,
    rsa_template,
    select,
    sha256,
    verify,
)
from tests.bench.peers import Peer

_SLOW = 30  # turns of what takes tens of milliseconds and more


class PrimaryEccCase(Case):
    """CreatePrimary with a template that differs each time."""

    name, bounds, per_turn = "primary_ecc_vary", ECC, 5

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._names: dict[bytes, bytes] = {}  # of the keys, by template

    def unique(self, rng: Random) -> bytes:
        return rng.randbytes(32)

    def template(self, unique: bytes) -> TPMT_PUBLIC:
        return ecc_template(STORAGE, x=unique)

    def steps(self, rng: Random) -> list[Step]:
        return [Step(primary_request(self.template(self.unique(rng))), NO_AUTH), FLUSH]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        made = responses[0]
        public_key(made.out_public)
        expect(made.name == name_of(made.out_public), "a wrong name")
        template = encode(requests[0].in_public)
        expect(self._names.setdefault(template, made.name) == made.name, "one template made two keys")
        expect(len(set(self._names.values())) == len(self._names), "two templates made one key")


class PrimaryEccSameCase(PrimaryEccCase):
    """CreatePrimary with four templates over and over, all of them used before the first sample."""

    name, bounds = "primary_ecc_same", Bounds(0.1, 0.1)
    TEMPLATES = 4

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        for i in range(self.TEMPLATES):
            template = self.template(bytes([i] * 32))
            made = create_primary(tpm, template)
            tpm.flush(made.object_handle)
            self._names[encode(template)] = made.name

    def unique(self, rng: Random) -> bytes:
        return bytes([rng.randrange(self.TEMPLATES)] * 32)


class PrimaryRsaCase(PrimaryEccCase):
    """How long the search for primes takes depends on the template and the TPM's seed: only many tell."""

    name, bounds, turns, per_turn = "primary_rsa_vary", Bounds(None, 1.0), 60, 1

    def template(self, unique: bytes) -> TPMT_PUBLIC:
        return rsa_template(STORAGE, unique=unique * 8)


class PrimaryRsaSameCase(PrimaryEccSameCase):
    name, bounds, turns, per_turn = "primary_rsa_same", Bounds(0.1, 0.02), _SLOW, 1

    def template(self, unique: bytes) -> TPMT_PUBLIC:
        return rsa_template(STORAGE, unique=unique * 8)


class _ChildCase(Case):
    """Has a storage primary."""

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self.parent = create_primary(tpm, ecc_template(STORAGE)).object_handle

    def close(self) -> None:
        self.tpm.flush(self.parent)

    def template(self) -> TPMT_PUBLIC:
        return ecc_template(SIGNING, TPM_ALG_ECDSA)

    def request(self) -> Create:
        return Create(self.parent, NO_SENSITIVE, self.template(), b"", [])

    def load(self, made: CreateResponse) -> int:
        request = Load(self.parent, made.out_private, made.out_public)
        handle: int = self.tpm.run(request, *NO_AUTH).object_handle
        return handle


class CreateEccCase(_ChildCase):
    name, bounds, per_turn = "create_ecc", ECC, 5

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._made: CreateResponse | None = None

    def steps(self, rng: Random) -> list[Step]:
        return [Step(self.request(), NO_AUTH)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        self._made = responses[0]
        public_key(self._made.out_public)

    def check(self) -> None:
        """The last key of each turn has to work."""
        made = self._made
        assert made is not None
        handle = self.load(made)
        digest = sha256(made.out_private)
        signature = self.tpm.run(Sign(handle, digest, KEY_SCHEME, NO_TICKET), *NO_AUTH).signature
        self.tpm.flush(handle)
        verify(public_key(made.out_public), signature, digest)


class CreateRsaCase(CreateEccCase):
    name, bounds, turns, per_turn = "create_rsa", Bounds(None, 0.1), _SLOW, 1

    def template(self) -> TPMT_PUBLIC:
        return rsa_template(SIGNING, TPM_ALG_RSASSA)


class LoadEccCase(_ChildCase):
    """Loads four keys in turn."""

    name, per_turn = "load_ecc", 10
    keys = 4

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._made = [tpm.run(self.request(), *NO_AUTH) for _ in range(self.keys)]

    def steps(self, rng: Random) -> list[Step]:
        made = rng.choice(self._made)
        return [Step(Load(self.parent, made.out_private, made.out_public), NO_AUTH), FLUSH]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        expect(responses[0].name == name_of(requests[0].in_public), "a wrong name")


class LoadRsaCase(LoadEccCase):
    name = "load_rsa"
    keys = 3

    def template(self) -> TPMT_PUBLIC:
        return rsa_template(SIGNING, TPM_ALG_RSASSA)


class SignEccCase(Case):
    name, bounds, per_turn = "sign_ecdsa", Bounds(1 / 3, 0.35), 10

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        made = create_primary(tpm, self.template())
        self.key, self.public = made.object_handle, public_key(made.out_public)

    def template(self) -> TPMT_PUBLIC:
        return ecc_template(SIGNING, TPM_ALG_ECDSA)

    def steps(self, rng: Random) -> list[Step]:
        return [Step(Sign(self.key, rng.randbytes(32), KEY_SCHEME, NO_TICKET), NO_AUTH)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        verify(self.public, responses[0].signature, requests[0].digest)

    def close(self) -> None:
        self.tpm.flush(self.key)


class SignRsaCase(SignEccCase):
    name, bounds = "sign_rsa", RSA

    def template(self) -> TPMT_PUBLIC:
        return rsa_template(SIGNING, TPM_ALG_RSASSA)


class QuoteEccCase(SignEccCase):
    """Quotes PCRs 0 to 15, which are zero."""

    name, bounds = "quote_ecdsa", ECC

    def steps(self, rng: Random) -> list[Step]:
        return [Step(Quote(self.key, rng.randbytes(32), KEY_SCHEME, select(*range(16))), NO_AUTH)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        quoted = responses[0].quoted
        attest = decode(TPMS_ATTEST, quoted)
        expect(attest.type == TPM_ST_ATTEST_QUOTE, "no quote")
        expect(attest.extra_data == requests[0].qualifying_data, "another nonce than was asked for")
        expected = TPMS_QUOTE_INFO(requests[0].pcr_select, sha256(bytes(32 * 16)))
        expect(attest.attested == expected, "a quote of other PCRs")
        verify(self.public, responses[0].signature, sha256(quoted))


class QuoteRsaCase(QuoteEccCase):
    name, bounds = "quote_rsa", RSA

    def template(self) -> TPMT_PUBLIC:
        return rsa_template(SIGNING, TPM_ALG_RSASSA)


class VerifyEccCase(Case):
    """VerifySignature with a public key from outside."""

    name, bounds, per_turn = "verify_ecdsa", ECC, 10
    _USER = TPMA_OBJECT_SIGN | TPMA_OBJECT_USERWITHAUTH

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self.handle = tpm.run(LoadExternal(None, self.outside(), TPM_RH_OWNER)).object_handle

    def outside(self) -> TPMT_PUBLIC:
        """Make the key and return its public area."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        point = self._key.public_key().public_numbers()
        x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
        return ecc_template(self._USER, TPM_ALG_ECDSA, x, y)

    def sign(self, digest: bytes) -> TPMT_SIGNATURE:
        der = self._key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        r, s = (number.to_bytes(32, "big") for number in utils.decode_dss_signature(der))
        return TPMT_SIGNATURE(TPM_ALG_ECDSA, TPMS_SIGNATURE_ECC(TPM_ALG_SHA256, r, s))

    def steps(self, rng: Random) -> list[Step]:
        digest = rng.randbytes(32)
        return [Step(VerifySignature(self.handle, digest, self.sign(digest)))]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        ticket = responses[0].validation
        expect((ticket.tag, ticket.hierarchy) == (TPM_ST_VERIFIED, TPM_RH_OWNER), "not a ticket of the owner")

    def close(self) -> None:
        self.tpm.flush(self.handle)


class VerifyRsaCase(VerifyEccCase):
    name, bounds = "verify_rsa", Bounds()

    def outside(self) -> TPMT_PUBLIC:
        self._rsa = rsa.generate_private_key(65537, 2048)
        modulus = self._rsa.public_key().public_numbers().n.to_bytes(256, "big")
        return rsa_template(self._USER, TPM_ALG_RSASSA, modulus)

    def sign(self, digest: bytes) -> TPMT_SIGNATURE:
        found = self._rsa.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        return TPMT_SIGNATURE(TPM_ALG_RSASSA, TPMS_SIGNATURE_RSA(TPM_ALG_SHA256, found))


class _DecryptionCase(Case):
    """Has a decryption key."""

    per_turn = 10

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        made = create_primary(tpm, self.template())
        self.key = made.object_handle
        self.public: Any = public_key(made.out_public)
        self.expected: dict[bytes, bytes] = {}  # the results, by what distinguishes the requests

    def template(self) -> TPMT_PUBLIC:
        raise NotImplementedError

    def close(self) -> None:
        self.tpm.flush(self.key)


class RsaDecryptCase(_DecryptionCase):
    name, bounds = "rsa_decrypt_oaep", RSA

    def template(self) -> TPMT_PUBLIC:
        return rsa_template(DECRYPTION)

    def steps(self, rng: Random) -> list[Step]:
        message = rng.randbytes(32)
        sha = hashes.SHA256()
        secret = self.public.encrypt(message, padding.OAEP(padding.MGF1(sha), sha, None))
        scheme = TPMT_RSA_DECRYPT(TPM_ALG_OAEP, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
        self.expected[secret] = message
        return [Step(RSADecrypt(self.key, secret, scheme, b""), NO_AUTH)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        message = self.expected.pop(requests[0].cipher_text)
        expect(responses[0].message == message, "another message than was encrypted")


class EcdhCase(_DecryptionCase):
    name, bounds = "ecdh_zgen", ECC

    def template(self) -> TPMT_PUBLIC:
        return ecc_template(DECRYPTION, TPM_ALG_ECDH)

    def steps(self, rng: Random) -> list[Step]:
        other = ec.generate_private_key(ec.SECP256R1())
        numbers = other.public_key().public_numbers()
        point = TPMS_ECC_POINT(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
        self.expected[point.x] = other.exchange(ec.ECDH(), self.public)
        return [Step(ECDHZGen(self.key, point), NO_AUTH)]

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        shared = self.expected.pop(requests[0].in_point.x)
        expect(responses[0].out_point.x == shared, "another point than both share")


CASES: tuple[type[Case], ...] = (
    PrimaryEccCase, PrimaryEccSameCase, PrimaryRsaCase, PrimaryRsaSameCase, CreateEccCase, CreateRsaCase,
    LoadEccCase, LoadRsaCase, SignEccCase, SignRsaCase, QuoteEccCase, QuoteRsaCase, VerifyEccCase,
    VerifyRsaCase, RsaDecryptCase, EcdhCase,
)
