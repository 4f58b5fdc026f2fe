"""Objects: our response codes are swtpm's, for templates and areas good and bad.

What differs on purpose is not in these lists: x509sign without sign, or in a symmetric key, which Part 2,
8.3.3.15 refuses and libtpms accepts; the owner's eviction of a platform object, TPM_RC_RANGE by Part 3,
28.5.1 and TPM_RC_HIERARCHY in libtpms; public-only objects made persistent, which version 185 allows; and
the schemes and sizes that only one of the two implements.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.ecc import EccPrivate, curve
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import EvictControl, FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import Create, Load, LoadExternal, ObjectChangeAuth, ReadPublic, Unseal
from hwtpm.tpm2.templates import symmetric_unique
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE, TPMT_SYM_DEF_OBJECT
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_ENCRYPTEDDUPLICATION,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_STCLEAR,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CBC,
    TPM_ALG_ECC,
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_KDF1_SP800_56A,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA384,
    TPM_ALG_SYMCIPHER,
    TPM_ECC_NIST_P256,
    TPM_RC_RETRY,
    rc_name,
)
from hwtpm.tpm2.types.handles import (
    PERSISTENT_FIRST,
    PLATFORM_PERSISTENT,
    TPM_RH_ENDORSEMENT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE
from tests.support.swtpm import Swtpm
from tests.support.templates import (
    AES128,
    AES256,
    BASE,
    DECRYPTION,
    FIXED,
    HMAC,
    NO_CIPHER,
    NO_SCHEME,
    SEALED,
    SIGNING,
    STORAGE,
    XOR,
    XOR_WITHOUT_KDF,
    cipher_key,
    ecc,
    keyed_hash,
    rsa,
    storage,
)
from tests.support.tpm2 import started
from tests.support.tpm2_keys import rsa_primes

Case = tuple[str, TPMT_PUBLIC, bytes, bytes]  # what it is, template, authValue, data
External = tuple[str, TPMT_SENSITIVE | None, TPMT_PUBLIC, int]  # what it is, both areas, hierarchy
_SDO = TPMA_OBJECT_SENSITIVEDATAORIGIN
_SIGN, _DECRYPT, _RESTRICTED = TPMA_OBJECT_SIGN, TPMA_OBJECT_DECRYPT, TPMA_OBJECT_RESTRICTED
_RSA_SCHEMES = (TPM_ALG_RSASSA, TPM_ALG_RSAPSS, TPM_ALG_RSAES, TPM_ALG_OAEP)
_USES = (_SIGN, _DECRYPT, _SIGN | _DECRYPT, _SIGN | _RESTRICTED, _DECRYPT | _RESTRICTED)


class Pair:
    """Two TPMs that get the same requests: ours, and swtpm."""

    def __init__(self, clients: tuple[Client, Client]) -> None:
        self.clients = clients
        self.differences: list[str] = []
        self.codes: Counter[int] = Counter()

    def both(self, name: str, make: Callable[[int], Command[Any]], *auth: Password) -> list[Any] | None:
        """Run the request that *make* gives for side 0 and 1; note different response codes."""
        codes: list[int] = []
        responses: list[Any] = []
        for side, client in enumerate(self.clients):
            rc, response = _run(client, make(side), *auth)
            codes.append(rc)
            if response is not None:
                responses.append(response)
                if getattr(response, "object_handle", 0) >> 24 == 0x80:
                    client.run(FlushContext(response.object_handle))
        self.codes[codes[1]] += 1
        if codes[0] != codes[1]:
            self.differences.append(f"{name}: {rc_name(codes[0])} instead of {rc_name(codes[1])}")
        return responses if codes == [0, 0] else None

    def load(self, template: TPMT_PUBLIC, hierarchy: int = TPM_RH_OWNER) -> tuple[int, int]:
        """Return the handles of a primary in both."""
        request = CreatePrimary(hierarchy, TPMS_SENSITIVE_CREATE(b"", b""), template, b"", [])
        ours, theirs = (client.run(request, Password()).object_handle for client in self.clients)
        return ours, theirs

    def flush(self, handles: tuple[int, int]) -> None:
        for client, handle in zip(self.clients, handles, strict=True):
            client.run(FlushContext(handle))

    def agree(self, successes: int, *failures: int) -> None:
        """Both answered alike, at least *successes* times with success, and with each of *failures*."""
        assert self.differences == []
        assert self.codes[0] >= successes
        assert not set(failures) - set(self.codes)


def _run(client: Client, request: Command[Any], *auth: Password) -> tuple[int, Any]:
    for _ in range(50):
        try:
            return 0, client.run(request, *auth)
        except TpmError as error:
            if error.rc != TPM_RC_RETRY:  # swtpm asks for another try while it tests itself
                return error.rc, None
    raise AssertionError("TPM_RC_RETRY for ever")


def _seal(parent: int) -> Create:
    return Create(parent, TPMS_SENSITIVE_CREATE(b"", b"data"), keyed_hash(), b"", [])


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Swtpm() as other:
        yield Pair((started().client, Client(other.execute, CtrDrbg(b"nonces").generate)))


def _attributes() -> Iterator[Case]:
    bits = (TPMA_OBJECT_FIXEDTPM, TPMA_OBJECT_FIXEDPARENT, TPMA_OBJECT_ENCRYPTEDDUPLICATION, _RESTRICTED,
            _DECRYPT, _SIGN)
    for chosen in itertools.product((False, True), repeat=len(bits)):
        attributes = TPMA_OBJECT_USERWITHAUTH | sum(itertools.compress(bits, chosen))
        with_origin = attributes | _SDO
        yield f"ECC {with_origin:05x}", ecc(with_origin), b"", b""
        yield f"ECC with AES {with_origin:05x}", storage(with_origin), b"", b""
        yield f"sealed {attributes:05x}", keyed_hash(attributes), b"", b"data"
        yield f"sealed nothing {with_origin:05x}", keyed_hash(with_origin), b"", b""
        yield f"HMAC {with_origin:05x}", keyed_hash(with_origin, HMAC), b"", b""
        yield f"XOR {attributes:05x}", keyed_hash(attributes, XOR), b"", b"data"
        yield f"AES {with_origin:05x}", cipher_key(with_origin), b"", b""
        yield f"AES of the caller {attributes:05x}", cipher_key(attributes), b"", bytes(16)


def _schemes() -> Iterator[Case]:
    for scheme, uses, cipher in itertools.product((TPM_ALG_ECDSA, TPM_ALG_ECDH), _USES, (NO_CIPHER, AES128)):
        yield f"ECC {scheme:x} {uses:x} {cipher}", ecc(BASE | uses, cipher, scheme), b"", b""
    for scheme, uses in itertools.product(_RSA_SCHEMES, _USES):
        if (uses == _DECRYPT) != (scheme in (TPM_ALG_RSAES, TPM_ALG_OAEP)) and uses & _DECRYPT:
            yield f"RSA {scheme:x} {uses:x}", rsa(BASE | uses, NO_CIPHER, scheme), b"", b""
    for known, uses in itertools.product((HMAC, XOR, XOR_WITHOUT_KDF, NO_SCHEME), (0, _RESTRICTED, *_USES)):
        yield f"{known} {uses:x}", keyed_hash(BASE | uses, known), b"", b""
        yield f"{known} {uses:x} with data", keyed_hash(BASE & ~_SDO | uses, known), b"", b"data"
    yield "ECC with a KDF", ecc(DECRYPTION, kdf=TPM_ALG_KDF1_SP800_56A), b"", b""
    yield "RSA signing with AES", rsa(SIGNING, AES128), b"", b""


def _sizes() -> Iterator[Case]:
    for n in (0, 1, 63, 64, 65, 128):
        yield f"HMAC key of {n}", keyed_hash(SIGNING & ~_SDO, HMAC), b"", bytes(n)
        yield f"{n} sealed", keyed_hash(), b"", bytes(n)
    for n in (0, 15, 16, 17, 32):
        yield f"AES key of {n}", cipher_key(BASE & ~_SDO | _SIGN | _DECRYPT), b"", bytes(n)
    for mode, bits in itertools.product((TPM_ALG_CBC, TPM_ALG_NULL), (128, 256)):
        cipher = TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, bits, mode)
        yield f"AES {mode:x} {bits}", cipher_key(cipher=cipher), b"", b""
        yield f"parent with AES {mode:x} {bits}", storage(cipher=cipher), b"", b""
    yield "parent with AES-256", storage(cipher=AES256), b"", b""
    for n in (0, 20, 31, 32, 33, 48):
        yield f"policy of {n}", ecc(policy=bytes(n)), b"", b""
    for n in (31, 32, 33, 64):
        yield f"authValue of {n}", ecc(), b"a" * n, b""
        yield f"authValue of {n} with zeros", ecc(), b"a".ljust(n, b"\0"), b""
    for alg in (TPM_ALG_SHA1, TPM_ALG_SHA384):
        yield f"nameAlg {alg:x}", ecc(name_alg=alg), b"", b""
        yield f"parent with nameAlg {alg:x}", ecc(STORAGE, AES128, name_alg=alg), b"", b""
    for exponent in (3, 65535, 65540, 65541):
        yield f"exponent {exponent}", rsa(exponent=exponent), b"", b""
    yield "ECC key of the caller", ecc(SIGNING & ~_SDO), b"", b"key"
    yield "ECC key with data", ecc(), b"", b"data"
    yield "neither authValue nor attributes", ecc(SIGNING & ~TPMA_OBJECT_FIXEDPARENT), b"a" * 33, b""
    yield "long unique", keyed_hash(SIGNING, HMAC, unique=bytes(64)), b"", b""


def test_create_primary_agrees(pair: Pair) -> None:
    for name, template, auth, data in itertools.chain(_attributes(), _schemes(), _sizes()):
        sensitive = TPMS_SENSITIVE_CREATE(auth, data)
        request = CreatePrimary(TPM_RH_OWNER, sensitive, template, b"", [])
        pair.both(name, lambda side, request=request: request, Password())
    pair.agree(100, 0x1D5, 0x2C2, 0x2CC, 0x2D2, 0x2D5, 0x2D6, 0x087, 0x08D, 0x095)


@pytest.mark.parametrize("parent", [
    storage(),
    storage(STORAGE & ~FIXED),
    storage(STORAGE & ~FIXED | TPMA_OBJECT_ENCRYPTEDDUPLICATION),
    cipher_key(STORAGE),
], ids=["fixed", "loose", "encrypted", "symmetric"])
def test_create_and_load_agree(pair: Pair, parent: TPMT_PUBLIC) -> None:
    handles = pair.load(parent)
    for name, template, auth, data in itertools.chain(_attributes(), _schemes(), _sizes()):
        sensitive = TPMS_SENSITIVE_CREATE(auth, data)

        requests = [Create(handle, sensitive, template, b"", []) for handle in handles]
        made = pair.both(f"create {name}", requests.__getitem__, Password())
        if made:
            loads = [Load(h, m.out_private, m.out_public) for h, m in zip(handles, made, strict=True)]
            pair.both(f"load {name}", loads.__getitem__, Password())
    pair.agree(70, 0x2C2, 0x2D2, 0x2D5, 0x2D6)


def test_load_of_damaged_areas_agrees(pair: Pair) -> None:
    handles = pair.load(storage())
    other = pair.load(storage(cipher=AES256))
    made = pair.both("create", lambda side: _seal(handles[side]), Password())
    assert made is not None
    private = [r.out_private for r in made]
    public = [r.out_public for r in made]
    for name, change in (
        ("nothing", lambda p: b""), ("one octet", lambda p: p[:1]), ("a size", lambda p: p[:2]),
        ("half an HMAC", lambda p: p[:20]), ("an HMAC", lambda p: p[:34]), ("too short", lambda p: p[:-1]),
        ("too long", lambda p: p + b"\0"), ("another HMAC", lambda p: p[:5] + bytes([p[5] ^ 1]) + p[6:]),
        ("another IV", lambda p: p[:40] + bytes([p[40] ^ 1]) + p[41:]),
        ("another secret", lambda p: p[:-1] + bytes([p[-1] ^ 1])),
        ("a long digest", lambda p: b"\0\x41" + p[2:]), ("a short digest", lambda p: b"\0\x1f" + p[2:]),
    ):
        pair.both(name, lambda side, change=change: Load(handles[side], change(private[side]),
                                                         public[side]), Password())
    pair.both("another parent", lambda side: Load(other[side], private[side], public[side]), Password())
    for template in (keyed_hash(SEALED | TPMA_OBJECT_STCLEAR), keyed_hash(name_alg=TPM_ALG_SHA1), ecc()):
        pair.both(f"public area {template}", lambda side, t=template: Load(handles[side], private[side], t),
                  Password())
    pair.agree(1, 0x1D5, 0x1DA, 0x1DF)


@pytest.mark.parametrize("template", [ecc(), ecc(DECRYPTION), keyed_hash(STORAGE, XOR)])
def test_only_storage_parents_have_children(pair: Pair, template: TPMT_PUBLIC) -> None:
    handles = pair.load(template)
    pair.both("create", lambda side: Create(handles[side], TPMS_SENSITIVE_CREATE(b"", b""), ecc(), b"", []),
              Password())
    pair.both("load", lambda side: Load(handles[side], bytes(64), ecc()), Password())
    pair.both("unseal", lambda side: Unseal(handles[side]), Password())
    pair.both("change auth", lambda side: ObjectChangeAuth(handles[side], handles[side], b""), Password())
    pair.both("read", lambda side: ReadPublic(handles[side]))
    pair.agree(1, 0x18A, 0x28A)


_LOOSE = TPMA_OBJECT_USERWITHAUTH


def _external_ecc() -> Iterator[External]:
    key = EccPrivate(TPM_ECC_NIST_P256, 0x1234567890ABCDEF)
    x, y = key.public
    public = ecc(_LOOSE | _SIGN, x=x, y=y)
    order = curve(TPM_ECC_NIST_P256).n
    for hierarchy in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM, TPM_RH_NULL):
        yield f"public {hierarchy:x}", None, public, hierarchy
        yield f"both {hierarchy:x}", TPMT_SENSITIVE(TPM_ALG_ECC, b"", b"", key.d), public, hierarchy
    yield "off the curve", None, ecc(_LOOSE | _SIGN, x=x, y=x), TPM_RH_NULL
    yield "a short coordinate", None, ecc(_LOOSE | _SIGN, x=x[1:], y=y), TPM_RH_NULL
    yield "no coordinates", None, ecc(_LOOSE | _SIGN), TPM_RH_NULL
    yield "no name", None, ecc(_LOOSE | _SIGN, x=x, y=y, name_alg=TPM_ALG_NULL), TPM_RH_NULL
    yield "no name, off the curve", None, ecc(_LOOSE | _SIGN, x=x, y=x, name_alg=TPM_ALG_NULL), TPM_RH_NULL
    for d in (b"", b"\0", b"\1", b"\x55" * 32, order.to_bytes(32, "big"), (order - 1).to_bytes(32, "big"),
              key.d.lstrip(b"\0"), b"\xff" * 32):
        yield f"scalar {d.hex()}", TPMT_SENSITIVE(TPM_ALG_ECC, b"", b"", d), public, TPM_RH_NULL
    for attributes in (0, FIXED | _SIGN, _RESTRICTED | _SIGN, _SIGN | _DECRYPT, TPMA_OBJECT_FIXEDTPM | _SIGN,
                       TPMA_OBJECT_FIXEDPARENT | _SIGN, TPMA_OBJECT_ENCRYPTEDDUPLICATION | _SIGN):
        area = ecc(_LOOSE | attributes, x=x, y=y)
        yield f"public {attributes:x}", None, area, TPM_RH_NULL
        yield f"both {attributes:x}", TPMT_SENSITIVE(TPM_ALG_ECC, b"", b"", key.d), area, TPM_RH_NULL
    for auth, seed in ((b"a" * 32, b""), (b"a" * 33, b""), (b"a" + bytes(40), b""), (b"", bytes(32)),
                       (b"", bytes(33))):
        sensitive = TPMT_SENSITIVE(TPM_ALG_ECC, auth, seed, key.d)
        yield f"auth {len(auth)} seed {len(seed)}", sensitive, public, TPM_RH_NULL
    yield "another type", TPMT_SENSITIVE(TPM_ALG_KEYEDHASH, b"", b"", key.d), public, TPM_RH_NULL
    yield "a policy", None, ecc(_LOOSE | _SIGN, x=x, y=y, policy=bytes(5)), TPM_RH_NULL
    yield "parent", None, ecc(_LOOSE | _RESTRICTED | _DECRYPT, AES128, x=x, y=y), TPM_RH_OWNER
    yield "parent without cipher", None, ecc(_LOOSE | _RESTRICTED | _DECRYPT, x=x, y=y), TPM_RH_OWNER
    yield "scheme", None, ecc(_LOOSE | _DECRYPT, NO_CIPHER, TPM_ALG_ECDSA, x=x, y=y), TPM_RH_OWNER


def _external_rsa() -> Iterator[External]:
    p, q = rsa_primes(1024)
    n, prime = (p * q).to_bytes(128, "big"), p.to_bytes(64, "big")
    public = rsa(_LOOSE | _SIGN, bits=1024, unique=n)
    yield "public", None, public, TPM_RH_OWNER
    yield "both", TPMT_SENSITIVE(TPM_ALG_RSA, b"auth", b"", prime), public, TPM_RH_NULL
    yield "the other prime", TPMT_SENSITIVE(TPM_ALG_RSA, b"", b"", q.to_bytes(64, "big")), public, TPM_RH_NULL
    for changed in (prime[1:], prime + b"\0", b"", b"\x7f" + prime[1:], prime[:-1] + b"\x01", b"\xff" * 64):
        sensitive = TPMT_SENSITIVE(TPM_ALG_RSA, b"", b"", changed)
        yield f"prime {changed[:2].hex()} {len(changed)}", sensitive, public, TPM_RH_NULL
    for modulus in (n[1:], b"\0" + n, b"", b"\x7f" + n[1:], n[:-1] + b"\0"):
        area = rsa(_LOOSE | _SIGN, bits=1024, unique=modulus)
        yield f"modulus {modulus[:2].hex()} {len(modulus)}", None, area, TPM_RH_NULL
    for exponent in (1, 3, 5, 6, 7, 257, 65536, 65537):
        area = rsa(_LOOSE | _SIGN, bits=1024, exponent=exponent, unique=n)
        yield f"public with exponent {exponent}", None, area, TPM_RH_NULL
    no_name = rsa(_LOOSE | _SIGN, bits=1024, unique=n, name_alg=TPM_ALG_NULL)
    yield "no name", None, no_name, TPM_RH_NULL
    yield "no name, both", TPMT_SENSITIVE(TPM_ALG_RSA, b"", b"", prime), no_name, TPM_RH_NULL


def _external_symmetric() -> Iterator[External]:
    for template, kind, secret in (
        (keyed_hash(_LOOSE | _SIGN, HMAC), TPM_ALG_KEYEDHASH, b"a key"),
        (keyed_hash(_LOOSE), TPM_ALG_KEYEDHASH, b"data"),
        (keyed_hash(_LOOSE | _DECRYPT, XOR), TPM_ALG_KEYEDHASH, b"a key"),
        (cipher_key(_LOOSE | _DECRYPT), TPM_ALG_SYMCIPHER, bytes(16)),
    ):
        for seed in (bytes(32), bytes(31), bytes(33), b""):
            sensitive = TPMT_SENSITIVE(kind, b"", seed, secret)
            public = TPMT_PUBLIC(template.type, template.name_alg, template.object_attributes, b"",
                                 template.parameters, symmetric_unique(template, sensitive))
            yield f"{kind:x} seed {len(seed)}", sensitive, public, TPM_RH_NULL
            yield f"{kind:x} seed {len(seed)} public", None, public, TPM_RH_NULL
        yield f"{kind:x} not bound", TPMT_SENSITIVE(kind, b"", bytes(32), secret), template, TPM_RH_NULL
        yield f"{kind:x} no unique", None, template, TPM_RH_NULL
        for wrong in (b"", bytes(17), bytes(65), bytes(128)):
            if kind == TPM_ALG_KEYEDHASH or len(wrong) <= 32:
                sensitive = TPMT_SENSITIVE(kind, b"", bytes(32), wrong)
                public = TPMT_PUBLIC(template.type, template.name_alg, template.object_attributes, b"",
                                     template.parameters, symmetric_unique(template, sensitive))
                yield f"{kind:x} secret {len(wrong)}", sensitive, public, TPM_RH_NULL
        no_name = TPMT_PUBLIC(template.type, TPM_ALG_NULL, template.object_attributes, b"",
                              template.parameters, b"")
        yield f"{kind:x} no name", TPMT_SENSITIVE(kind, b"", b"", secret), no_name, TPM_RH_NULL
        yield f"{kind:x} no name, public", None, no_name, TPM_RH_NULL


@pytest.mark.parametrize("cases", [_external_ecc, _external_rsa, _external_symmetric])
def test_load_external_agrees(pair: Pair, cases: Callable[[], Iterator[External]]) -> None:
    for name, sensitive, public, hierarchy in cases():
        request = LoadExternal(sensitive, public, hierarchy)
        made = pair.both(name, lambda side, request=request: request)
        if made:
            assert made[0].name == made[1].name
    pair.agree(10, 0x1C7, 0x2DC, 0x0A5)


def test_evict_control_agrees(pair: Pair) -> None:
    own, endorsement = pair.load(ecc()), pair.load(ecc(), TPM_RH_ENDORSEMENT)

    def evict(auth: int, handles: tuple[int, int], persistent: int) -> None:
        pair.both(f"{auth:x} {handles[0]:x} {persistent:x}",
                  lambda side: EvictControl(auth, handles[side], persistent), Password())

    low, high, last = PERSISTENT_FIRST, PLATFORM_PERSISTENT, PLATFORM_PERSISTENT - 1
    for auth in (TPM_RH_OWNER, TPM_RH_PLATFORM):
        for handles in (own, endorsement):
            for persistent in (low, high, last):
                evict(auth, handles, persistent)
    evict(TPM_RH_OWNER, (low, low), low + 1)
    evict(TPM_RH_OWNER, (low, low), low)
    evict(TPM_RH_OWNER, (low, low), low)
    evict(TPM_RH_PLATFORM, (last, last), last)
    pair.flush(own)
    pair.flush(endorsement)
    for hierarchy, template in ((TPM_RH_PLATFORM, ecc()), (TPM_RH_NULL, ecc()),
                                (TPM_RH_OWNER, ecc(SIGNING | TPMA_OBJECT_STCLEAR))):
        loaded = pair.load(template, hierarchy)
        for auth, persistent in itertools.product((TPM_RH_OWNER, TPM_RH_PLATFORM), (low, high)):
            evict(auth, loaded, persistent)
        pair.flush(loaded)
    evict(TPM_RH_PLATFORM, (high, high), high)
    pair.agree(6, 0x14C, 0x1CD, 0x282, 0x285, 0x28B)


def test_object_change_auth_agrees(pair: Pair) -> None:
    parent, other = pair.load(storage()), pair.load(storage(cipher=AES256))
    for size, above in itertools.product((0, 32, 33), (parent, other)):
        pair.both(f"{size}", lambda side, size=size, above=above: ObjectChangeAuth(
            parent[side], above[side], b"a" * size), Password())
    made = pair.both("create", lambda side: _seal(parent[side]), Password())
    assert made is not None
    child: list[int] = []
    for client, handle, part in zip(pair.clients, parent, made, strict=True):
        child.append(client.run(Load(handle, part.out_private, part.out_public), Password()).object_handle)
    for above in (other, parent):
        requests = [ObjectChangeAuth(own, its, b"new") for own, its in zip(child, above, strict=True)]
        pair.both("child", requests.__getitem__, Password())
    pair.agree(2, 0x1D5, 0x28A)
