"""The other parties of direct anonymous attestation with a TPM 1.2: issuer, host and verifier.

The protocol is that of Brickell, Camenisch and Chen (2004), cut into the stages of Part 3, 26.  Names are
those of the paper: N_V is the pseudonym in a signature, zeta the base of a pseudonym.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from typing import Any, ClassVar, NamedTuple

import gmpy2

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.daa import DAAJoin, DAASign
from hwtpm.tpm12.types.daa import TPM_DAA_ISSUER
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.wire import encode
from tests.support.tpm12 import OWNER_AUTH, encrypt_to, once, primes

L_F, L_S = 104, 1024  # bits of f0 and of v0
L_E, L_E_SPREAD, L_V, L_RHO, L_GAMMA = 368, 120, 2536, 208, 1632
N, GAMMA = 256, L_GAMMA // 8  # octets


def number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def octets(value: int, size: int = N) -> bytes:
    return value.to_bytes(size, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def hashed(*parts: bytes | int) -> bytes:
    """Return SHA-1 of octets, and of numbers with their lengths."""
    made = b""
    for part in parts:
        size = 0 if isinstance(part, bytes) else (part.bit_length() + 7) // 8
        made += part if isinstance(part, bytes) else u32(size) + octets(part, size)
    return sha1(made).digest()


class Refused(Exception):
    """A proof does not hold."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


class Issuer:
    """An issuer whose key was made from *seed*; it has a chain of *links* RSA keys that sign what it says."""

    def __init__(self, seed: bytes, links: int = 1) -> None:
        self.random = CtrDrbg(seed).generate
        p, q = primes(5)
        self.n, self.phi = p * q, (p - 1) * (q - 1)
        self.g_prime = pow(self.number(2000), 2, self.n)
        self.g, self.h = self._power(self.g_prime), self._power(self.g_prime)
        self.s, self.z = self._power(self.h), self._power(self.h)
        self.r0, self.r1 = self._power(self.s), self._power(self.s)
        self.s1 = pow(self.s, 1 << L_S, self.n)
        self.rho, self.gamma = _group(seed)
        self.keys = [RsaPrivate(p * q, p) for p, q in map(primes, range(links))]

    def number(self, bits: int) -> int:
        """Return a number of at most so many bits."""
        return number(self.random((bits + 7) // 8)) >> -bits % 8

    def _power(self, base: int) -> int:
        return pow(base, self.number(2000), self.n)

    @property
    def settings(self) -> TPM_DAA_ISSUER:
        """What of the key a TPM gets."""
        r0, r1, s, s1, n = (sha1(octets(each)).digest() for each in (
            self.r0, self.r1, self.s, self.s1, self.n))
        gamma = sha1(octets(self.gamma, GAMMA)).digest()
        return TPM_DAA_ISSUER(r0, r1, s, s1, n, gamma, octets(self.rho, L_RHO // 8))

    def links(self) -> list[tuple[bytes, bytes]]:
        """Return the moduli of the chain, each but the first with the signature of the one before."""
        first = (self.keys[0].modulus, b"")
        return [first] + [(after.modulus, before.sign_pkcs1(ids.SHA1, sha1(after.modulus).digest()))
                          for before, after in zip(self.keys, self.keys[1:], strict=False)]

    def signed_settings(self) -> tuple[bytes, bytes]:
        """Return the settings, and the signature of the last key of the chain."""
        return self.sign_settings(self.settings)

    def sign_settings(self, settings: TPM_DAA_ISSUER) -> tuple[bytes, bytes]:
        """Return *settings*, whatever they are, with that signature."""
        told = encode(settings)
        signed = sha1(self.keys[0].modulus).digest() + told
        return told, self.keys[-1].sign_pkcs1(ids.SHA1, sha1(signed).digest())

    def zeta(self, basename: bytes) -> int:
        """Return the base of the pseudonyms for *basename*, an element of order rho modulo gamma."""
        seed = number(b"".join(hashed(bytes([i]), basename) for i in range(10)))
        return pow(seed, (self.gamma - 1) // self.rho, self.gamma)

    def parameters(self) -> bytes:
        return hashed(self.n, self.g, self.g_prime, self.h, self.r0, self.r1, self.s, self.z, self.gamma,
                      self.rho)

    def certify(self, u: int) -> tuple[int, int, int]:
        """Return A, e and v'' for the commitment *u*: a credential for what it commits to."""
        e = int(gmpy2.next_prime((1 << L_E - 1) + self.number(L_E_SPREAD - 2)))
        v = self.number(L_V - 1) | 1 << L_V - 1
        root = pow(e, -1, self.phi)
        return pow(self.z * pow(u * pow(self.s, v, self.n), -1, self.n), root, self.n), e, v


@cache
def _group(seed: bytes) -> tuple[int, int]:
    random = CtrDrbg(b"group" + seed).generate
    rho = int(gmpy2.next_prime(number(random(L_RHO // 8)) | 1 << L_RHO - 1))
    while True:
        bits = L_GAMMA - L_RHO
        gamma = rho * 2 * (number(random(bits // 8)) >> 1 | 1 << bits - 2) + 1
        if gamma.bit_length() == L_GAMMA and gmpy2.is_prime(gamma):
            return rho, gamma


@cache
def issuer(links: int = 1) -> Issuer:
    """Return the issuer of most tests."""
    return Issuer(b"an issuer", links)


class Protocol:
    """A host that takes a TPM from stage to stage; `given` is what each stage has given."""

    REQUEST: ClassVar[type[DAAJoin | DAASign]]
    STAGES: ClassVar[int]

    def __init__(self, client: Client, issuer: Issuer) -> None:
        self.client, self.issuer = client, issuer
        self.handle = self.stage = 0
        self.given: dict[int, bytes] = {}

    def inputs(self) -> tuple[bytes, bytes]:
        """Return what the current stage takes."""
        raise NotImplementedError

    def request(self, data0: bytes | None = None, data1: bytes | None = None,
                stage: int | None = None) -> Command[Any]:
        """Return the command for the current stage, or one that differs."""
        right = self.inputs()
        return self.REQUEST(self.handle, self.stage if stage is None else stage,
                            right[0] if data0 is None else data0, right[1] if data1 is None else data1)

    def step(self, data0: bytes | None = None, data1: bytes | None = None) -> bytes:
        """Do the current stage; return what it gives."""
        request = self.request(data0, data1)
        output: bytes = self.client.run(request, once(self.client.oiap(OWNER_AUTH))).output_data
        self.given[self.stage] = output
        if self.stage == 0:
            self.handle = number(output)
        self.stage += 1
        return output

    def to(self, stage: int) -> None:
        """Do all stages before *stage*."""
        while self.stage < stage:
            self.step()

    def value(self, stage: int) -> int:
        """Return what a stage has given, as a number."""
        return number(self.given[stage])


class Credential(NamedTuple):
    """What a host has after a join."""

    a: int
    e: int
    v0: bytes
    v1: bytes
    tpm: bytes


class Join(Protocol):
    """A join of a TPM with the endorsement key *pubek*; *count* tells its secrets for one issuer apart."""

    REQUEST = DAAJoin
    STAGES = 25

    def __init__(self, client: Client, issuer: Issuer, pubek: TPM_PUBKEY, count: int = 0) -> None:
        super().__init__(client, issuer)
        self.count = count
        self.links = issuer.links()
        self._nonce = issuer.random(20)
        self._cipher = encrypt_to(pubek, self._nonce)
        self.zeta = issuer.zeta(b"the issuer's own")
        self._certified: tuple[int, int, int] | None = None

    def step(self, data0: bytes | None = None, data1: bytes | None = None) -> bytes:
        """Do the current stage; the first one after the handle as often as the chain has links."""
        output = super().step(data0, data1)
        if self.stage == 2 and len(self.links) > 1:
            self.stage = 1
            del self.links[0]
        return output

    def inputs(self) -> tuple[bytes, bytes]:
        by = self.issuer
        n = octets(by.n)
        gamma = octets(by.gamma, GAMMA)
        fixed = {
            0: (u32(len(by.keys)), b""), 1: self.links[0], 2: by.signed_settings(), 3: (u32(self.count), b""),
            4: (octets(by.r0), n), 5: (octets(by.r1), n), 6: (octets(by.s), n), 7: (octets(by.s1), n),
            8: (self._cipher, b""),
            9: (octets(by.r0), n), 10: (octets(by.r1), n), 11: (octets(by.s), n), 12: (octets(by.s1), n),
            13: (gamma, octets(self.zeta)), 14: (gamma, b""), 15: (gamma, b""),
        }
        if self.stage in fixed:
            return fixed[self.stage]
        if self.stage == 16:
            return self._host_challenge(), b""
        if self.stage in (22, 23):
            v = self.certified()[2]
            halves = v & (1 << L_S) - 1, v >> L_S
            return octets(halves[self.stage - 22], (128, 192)[self.stage - 22]), b""
        return b"", b""

    def _host_challenge(self) -> bytes:
        return hashed(self.issuer.parameters(), self.value(7), self.value(14), self.value(12), self.value(15))

    def certified(self) -> tuple[int, int, int]:
        """Return what the issuer gives after it has seen that the proof of the TPM holds; else Refused."""
        if self._certified is None:
            self._check()
            self._certified = self.issuer.certify(self.value(7))
        return self._certified

    def _check(self) -> None:
        by, u, pseudonym = self.issuer, self.value(7), self.value(14)
        digest = sha1(octets(u) + u32(self.count) + sha1(by.keys[0].modulus).digest()).digest()
        require(self.given[8] == sha1(digest + self._nonce).digest(), "the endorsement")
        require(self.given[20] == sha1(self._host_challenge() + self.given[16]).digest(), "the challenge")
        c, s0, s1, s2, s3 = (self.value(stage) for stage in (20, 17, 18, 19, 21))
        product = pow(u, -c, by.n)
        for base, exponent in (by.r0, s0), (by.r1, s1), (by.s, s2), (by.s1, s3):
            product = product * pow(base, exponent, by.n) % by.n
        require(product == self.value(12), "the commitment")
        blinded = pow(pseudonym, -c, by.gamma) * pow(self.zeta, s0 + (s1 << L_F), by.gamma) % by.gamma
        require(blinded == self.value(15), "the pseudonym")
        require(pow(pseudonym, by.rho, by.gamma) == 1 != pseudonym, "the group of the pseudonym")

    def finish(self) -> Credential:
        """Do the stages that are left; return the credential."""
        self.to(self.STAGES)
        a, e, _ = self.certified()
        return Credential(a, e, self.given[22], self.given[23], self.given[24])


class Signature(NamedTuple):
    """What the verifier gets."""

    basename: bytes
    selector: bytes
    message: bytes
    c: bytes
    nonce: bytes
    t1: int
    t2: int
    n_v: int
    s0: int
    s1: int
    s_v: int
    s_e: int
    s_ee: int
    s_w: int
    s_ew: int
    s_r: int
    s_er: int


class Sign(Protocol):
    """A signature over *message*: a digest, or with *aik* the modulus of the identity key of that handle."""

    REQUEST = DAASign
    STAGES = 16
    VERIFIER_NONCE = b"nonce of a verifier."

    def __init__(self, client: Client, issuer: Issuer, credential: Credential, message: bytes,
                 aik: int | None = None, basename: bytes = b"a verifier") -> None:
        super().__init__(client, issuer)
        self.credential, self.message, self.aik, self.basename = credential, message, aik, basename
        self.zeta = issuer.zeta(basename)
        n, draw = issuer.n, issuer.number
        self._w, self._r = draw(2128), draw(2128)
        self._blind = {"e": draw(200), "ee": draw(568), "w": draw(2288), "ew": draw(2656), "r": draw(2288),
                       "er": draw(2656)}
        self.t1 = credential.a * pow(issuer.h, self._w, n) % n
        self.t2 = (pow(issuer.g, self._w, n) * pow(issuer.h, credential.e, n)
                   * pow(issuer.g_prime, self._r, n) % n)

    def inputs(self) -> tuple[bytes, bytes]:
        by, credential = self.issuer, self.credential
        n, gamma = octets(by.n), octets(by.gamma, GAMMA)
        fixed = {
            0: (encode(by.settings), b""), 1: (credential.tpm, b""),
            2: (octets(by.r0), n), 3: (octets(by.r1), n), 4: (octets(by.s), n), 5: (octets(by.s1), n),
            6: (gamma, octets(self.zeta)), 7: (gamma, b""), 8: (gamma, b""),
            10: (b"\1", self.message) if self.aik is None else (b"\0", u32(self.aik)),
            13: (credential.v0, b""), 14: (credential.v0, b""), 15: (credential.v1, b""),
        }
        if self.stage == 9:
            return self._host_challenge(), b""
        return fixed.get(self.stage, (b"", b""))

    def _host_challenge(self) -> bytes:
        by, n, blind = self.issuer, self.issuer.n, self._blind
        t1 = self.value(5) * pow(self.t1, blind["e"], n) * pow(by.h, -blind["ew"], n) % n
        t2 = pow(by.g, blind["w"], n) * pow(by.h, blind["e"], n) * pow(by.g_prime, blind["r"], n) % n
        t2_e = (pow(self.t2, -blind["e"], n) * pow(by.g, blind["ew"], n) * pow(by.h, blind["ee"], n)
                * pow(by.g_prime, blind["er"], n) % n)
        return _challenge(by, self.zeta, self.t1, self.t2, self.value(7), (t1, t2, t2_e), self.value(8),
                          self.VERIFIER_NONCE)

    def finish(self) -> Signature:
        """Do the stages that are left; return the signature."""
        self.to(self.STAGES)
        c, w, r, blind = self.value(10), self._w, self._r, self._blind
        e, offset = self.credential.e, self.credential.e - (1 << L_E - 1)
        return Signature(
            self.basename, b"\1" if self.aik is None else b"\0", self.message, self.given[10], self.given[9],
            self.t1, self.t2, self.value(7), self.value(11), self.value(12),
            self.value(13) + (self.value(15) << L_S), blind["e"] + c * offset, blind["ee"] + c * e * e,
            blind["w"] + c * w, blind["ew"] + c * w * e, blind["r"] + c * r, blind["er"] + c * e * r)


def _challenge(by: Issuer, zeta: int, t1: int, t2: int, n_v: int, blinded: tuple[int, int, int],
               n_blinded: int, nonce: bytes) -> bytes:
    return hashed(by.parameters(), zeta, t1, t2, n_v, *blinded, n_blinded, nonce)


def verify(by: Issuer, signature: Signature) -> None:
    """*signature* was made by a member of the issuer's group; else Refused."""
    n, s, zeta = by.n, signature, by.zeta(signature.basename)
    c = number(s.c)
    e = s.s_e + (c << L_E - 1)
    t1 = pow(by.z, -c, n) * pow(s.t1, e, n) * pow(by.h, -s.s_ew, n) % n
    for base, exponent in (by.r0, s.s0), (by.r1, s.s1), (by.s, s.s_v):
        t1 = t1 * pow(base, exponent, n) % n
    t2 = pow(s.t2, -c, n) * pow(by.g, s.s_w, n) * pow(by.h, e, n) * pow(by.g_prime, s.s_r, n) % n
    t2_e = pow(s.t2, -e, n) * pow(by.g, s.s_ew, n) * pow(by.h, s.s_ee, n) * pow(by.g_prime, s.s_er, n) % n
    n_blinded = pow(s.n_v, -c, by.gamma) * pow(zeta, s.s0 + (s.s1 << L_F), by.gamma) % by.gamma
    host = _challenge(by, zeta, s.t1, s.t2, s.n_v, (t1, t2, t2_e), n_blinded, Sign.VERIFIER_NONCE)
    require(s.c == sha1(sha1(host + s.nonce).digest() + s.selector + s.message).digest(), "the challenge")
    require(pow(s.n_v, by.rho, by.gamma) == 1, "the group of the pseudonym")
    require(s.s0.bit_length() <= 345 and s.s1.bit_length() <= 345, "the size of s0 and s1")
    require(s.s_e.bit_length() <= 361, "the size of s_e")
