"""What a case of the benchmark is, and the objects that cases make in a TPM."""

from __future__ import annotations

import gc
import hashlib
from random import Random
from typing import Any, ClassVar, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from hwtpm.client import Password
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, CreatePrimaryResponse
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMS_SIGNATURE_ECC,
    TPMS_SIGNATURE_RSA,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_RSA_SCHEME,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_ECC,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_SHA256,
    TPM_ECC_NIST_P256,
    TPM_ST_HASHCHECK,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER, TRANSIENT_FIRST
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_RSA_PARMS, TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_TK_HASHCHECK
from hwtpm.wire import Wire, encode
from tests.bench.peers import Peer


class Wrong(Exception):
    """A TPM's result is not what the specification says; says what, in one line."""


def expect(condition: object, what: str) -> None:
    """Raise Wrong unless *condition* holds."""
    if not condition:
        raise Wrong(what)


class Bounds(NamedTuple):
    """The largest ratio of medians, ours to swtpm's: *budget* is kept today, *goal* is where it should go."""

    budget: float | None = None
    goal: float | None = None


SMALL: Final = Bounds(3.0, 1.3)
ECC: Final = Bounds(None, 0.35)
RSA: Final = Bounds(None, 0.5)


class Step(NamedTuple):
    """A command of a sample; whether its exchange is what is measured."""

    request: Wire
    authorizations: tuple[Password, ...] = ()
    timed: bool = True


class Case:
    """One operation on one peer.

    The constructor prepares the TPM.  A sample is what `steps` returns, made from inputs of *rng*; its later
    commands work on the object or session that the first one made, whatever handle they name.  `answered`
    looks at the responses to a sample, `check` at what a turn left in the TPM; `close` takes all away.
    """

    name: ClassVar[str]
    bounds: ClassVar[Bounds] = Bounds()
    turns: ClassVar[int] = 60
    per_turn: ClassVar[int] = 20  # samples of one peer before it is the other's turn

    def __init__(self, tpm: Peer) -> None:
        self.tpm = tpm

    def steps(self, rng: Random) -> list[Step]:
        raise NotImplementedError

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        """Raise Wrong if a sample shows that the TPM did not do the work."""

    def check(self) -> None:
        """Raise Wrong if the TPM does not hold what a turn should have left there."""

    def close(self) -> None:
        """The TPM holds nothing of this case any more."""

    def turn(self, rng: Random, count: int) -> list[int]:
        """Return the ns that the timed exchanges of each of *count* samples took; all has been checked."""
        tpm = self.tpm
        asked = [self.steps(rng) for _ in range(count)]
        encoded = [[tpm.encode(step.request, *step.authorizations) for step in steps] for steps in asked]
        samples, answers = [], []
        # A collection in the client would leave the server cold caches.
        gc.disable()
        try:
            for steps, commands in zip(asked, encoded, strict=True):
                taken = 0
                got: list[bytes] = []
                for step, command in zip(steps, commands, strict=True):
                    if got:  # Both handles, in a response and in a command, are right behind the header.
                        command = command[:10] + got[0][10:14] + command[14:]
                    response, ns = tpm.timed(command) if step.timed else (tpm.exchange(command), 0)
                    taken += ns
                    got.append(response)
                samples.append(taken)
                answers.append(got)
        finally:
            gc.enable()
        for steps, got in zip(asked, answers, strict=True):
            decoded = [tpm.decode(response, step.request, *step.authorizations)
                       for step, response in zip(steps, got, strict=True)]
            self.answered([step.request for step in steps], decoded)
        self.check()
        return samples


FLUSH: Final = Step(FlushContext(TRANSIENT_FIRST), timed=False)
NO_AUTH: Final = (Password(),)  # for a hierarchy or a key without an authValue
NO_SENSITIVE: Final = TPMS_SENSITIVE_CREATE(b"", b"")
NO_TICKET: Final = TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
KEY_SCHEME: Final = TPMT_SIG_SCHEME(TPM_ALG_NULL)  # the one of the key
_SCHEME: Final = TPMS_SCHEME_HASH(TPM_ALG_SHA256)
_FIXED: Final = (TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN
                 | TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA)
SIGNING: Final = _FIXED | TPMA_OBJECT_SIGN
DECRYPTION: Final = _FIXED | TPMA_OBJECT_DECRYPT
STORAGE: Final = DECRYPTION | TPMA_OBJECT_RESTRICTED
_NO_CIPHER: Final = TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL)
_AES: Final = TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB)


class RandomOctetsCase(Case):
    """Asks for a number of random octets that is another each time."""

    name, bounds = "get_random", SMALL

    def __init__(self, tpm: Peer) -> None:
        super().__init__(tpm)
        self._seen: set[bytes] = set()

    def answered(self, requests: list[Any], responses: list[Any]) -> None:
        found = responses[0].random_bytes
        expect(len(found) == requests[0].bytes_requested, f"{len(found)} random octets")
        expect(found not in self._seen, "random octets that were there before")
        self._seen.add(found)


def ecc_template(attributes: int, scheme: int = TPM_ALG_NULL, x: bytes = b"", y: bytes = b"") -> TPMT_PUBLIC:
    """Return the public area of a P-256 key to create, or with coordinates that of an existing one."""
    details = TPMT_ECC_SCHEME(scheme, None if scheme == TPM_ALG_NULL else _SCHEME)
    cipher = _AES if attributes & TPMA_OBJECT_RESTRICTED else _NO_CIPHER
    parameters = TPMS_ECC_PARMS(cipher, details, TPM_ECC_NIST_P256, TPMT_KDF_SCHEME(TPM_ALG_NULL))
    return TPMT_PUBLIC(TPM_ALG_ECC, TPM_ALG_SHA256, attributes, b"", parameters, TPMS_ECC_POINT(x, y))


def rsa_template(attributes: int, scheme: int = TPM_ALG_NULL, unique: bytes = b"") -> TPMT_PUBLIC:
    """Return the public area of an RSA 2048 key to create, or with a modulus that of an existing one."""
    details = TPMT_RSA_SCHEME(scheme, None if scheme == TPM_ALG_NULL else _SCHEME)
    cipher = _AES if attributes & TPMA_OBJECT_RESTRICTED else _NO_CIPHER
    parameters = TPMS_RSA_PARMS(cipher, details, 2048, 0)
    return TPMT_PUBLIC(TPM_ALG_RSA, TPM_ALG_SHA256, attributes, b"", parameters, unique)


def primary_request(template: TPMT_PUBLIC) -> CreatePrimary:
    return CreatePrimary(TPM_RH_OWNER, NO_SENSITIVE, template, b"", [])


def create_primary(tpm: Peer, template: TPMT_PUBLIC) -> CreatePrimaryResponse:
    """Return the primary key of the owner that *template* makes, loaded."""
    made: CreatePrimaryResponse = tpm.run(primary_request(template), *NO_AUTH)
    return made


def select(*indices: int) -> list[TPMS_PCR_SELECTION]:
    """Return the selection of PCRs of the SHA-256 bank."""
    bits = sum(1 << index for index in indices)
    return [TPMS_PCR_SELECTION(TPM_ALG_SHA256, bits.to_bytes(3, "little"))]


def sha256(*pieces: bytes) -> bytes:
    return hashlib.sha256(b"".join(pieces)).digest()


def name_of(public: TPMT_PUBLIC) -> bytes:
    """Return the Name of an object with a SHA-256 nameAlg (Part 1, "Names")."""
    return TPM_ALG_SHA256.to_bytes(2, "big") + sha256(encode(public))


PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def public_key(public: TPMT_PUBLIC) -> PublicKey:
    """Return the key in *public* for OpenSSL; raises Wrong if it is none of the size that was asked for."""
    unique = public.unique
    try:
        if isinstance(unique, TPMS_ECC_POINT):
            x, y = int.from_bytes(unique.x, "big"), int.from_bytes(unique.y, "big")
            return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        expect(len(unique) == 256 and unique[0] >= 0x80, "the modulus has not 2048 bits")
        return rsa.RSAPublicNumbers(65537, int.from_bytes(unique, "big")).public_key()
    except ValueError as error:
        raise Wrong(f"no public key: {error}") from error


def verify(key: PublicKey, signature: TPMT_SIGNATURE, digest: bytes) -> None:
    """Raise Wrong unless *signature* is that of *key*, by ECDSA or RSASSA with SHA-256, over *digest*."""
    found = signature.signature
    prehashed = utils.Prehashed(hashes.SHA256())
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            assert isinstance(found, TPMS_SIGNATURE_ECC)
            r, s = int.from_bytes(found.signature_r, "big"), int.from_bytes(found.signature_s, "big")
            key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(prehashed))
        else:
            assert isinstance(found, TPMS_SIGNATURE_RSA)
            key.verify(found.sig, digest, padding.PKCS1v15(), prehashed)
    except InvalidSignature as error:
        raise Wrong("a signature that does not verify") from error
