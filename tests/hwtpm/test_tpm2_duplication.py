"""Duplicate, Rewrap and Import: objects move between our TPM and swtpm, and errors are those of swtpm.

Not in these lists, because libtpms 0.9 answers otherwise: a symmetric Storage Key as new parent, where it
goes into failure mode (Part 1, 20.2: it conveys no secret); TPM_RC_VALUE for a secret that OAEP refuses and
for an RSA key too short for OAEP, where it answers TPM_RC_FAILURE, which is for a TPM that has failed; octets
after the point of an encrypted secret, which it ignores; an RSA prime that does not divide the modulus and an
ordinary unique in a symmetric parent (Part 3, 12.2; Part 1, 24.5.3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import wrapping
from hwtpm.tpm2.requests.duplication import Duplicate, Import, Rewrap
from hwtpm.tpm2.requests.object import Create, LoadExternal, ReadPublic, Unseal
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.requests.symmetric import HMAC
from hwtpm.tpm2.state.objects import public_name
from hwtpm.tpm2.templates import symmetric_unique
from hwtpm.tpm2.types.algorithms import (
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_ENCRYPTEDDUPLICATION,
    TPMA_OBJECT_FIRMWARELIMITED,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_SVNLIMITED,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_CAMELLIA,
    TPM_ALG_CFB,
    TPM_ALG_ECDSA,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_TDES,
    TPM_ECC_NIST_P384,
    TPM_RC_ATTRIBUTES,
    TPM_RC_BINDING,
    TPM_RC_SIZE,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_ST_HASHCHECK,
    TPM_CC_Sign,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE
from hwtpm.tpm2.types.structures import TPMT_TK_HASHCHECK
from tests.support import templates
from tests.support import tpm2_keys as keys
from tests.support.templates import AES128, AES256, NO_CIPHER
from tests.support.tpm2 import refused, started
from tests.support.tpm2_duplicates import (
    MOVABLE,
    Attempt,
    Comparison,
    attempt,
    bring,
    child,
    duplicate,
    flush,
    movable,
    permit,
    public_of,
    random,
    seed_for,
    software,
)
from tests.support.tpm2_pair import Pair

_SDO, _SIGN = TPMA_OBJECT_SENSITIVEDATAORIGIN, TPMA_OBJECT_SIGN
_STORAGE = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT
_ENCRYPTED = TPMA_OBJECT_ENCRYPTEDDUPLICATION
_FIXED_STORAGE = templates.STORAGE | TPMA_OBJECT_NODA
_NO_AREA = TPMT_SENSITIVE(TPM_ALG_RSA, b"", b"", b"")
_NO_TICKET = TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
_TDES = TPMT_SYM_DEF_OBJECT(TPM_ALG_TDES, 192, TPM_ALG_CFB)
PARENTS = {
    "rsa": templates.rsa(_FIXED_STORAGE, AES128),
    "ecc": templates.ecc(_FIXED_STORAGE, AES128),
    "p384": templates.ecc(_FIXED_STORAGE, AES256, curve=TPM_ECC_NIST_P384, name_alg=TPM_ALG_SHA384),
    "camellia": templates.ecc(_FIXED_STORAGE, TPMT_SYM_DEF_OBJECT(TPM_ALG_CAMELLIA, 256, TPM_ALG_CFB)),
    "tdes": templates.ecc(_FIXED_STORAGE, _TDES),
}
# Of an empty key and a cipher, the TPM makes the key.
WRAPPERS = [(outer, key, cipher) for outer in (False, True) for key, cipher in (
    (b"", NO_CIPHER), (bytes(range(16)), AES128), (b"", AES256), (bytes(range(24)), _TDES))]
WAYS = [("ours", "ours"), ("ours", "theirs"), ("theirs", "ours")]


def _signs(scheme: int) -> Callable[[Client, int, Client, int], None]:
    def check(source: Client, key: int, target: Client, moved: int) -> None:
        scheme_of = TPMT_SIG_SCHEME(scheme, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
        signature = target.run(Sign(moved, bytes(32), scheme_of, _NO_TICKET), Password(b"pw")).signature
        source.run(VerifySignature(key, bytes(32), signature))

    return check


def _macs(source: Client, key: int, target: Client, moved: int) -> None:
    request = [HMAC(handle, b"a message", TPM_ALG_NULL) for handle in (key, moved)]
    assert source.run(request[0], Password(b"pw")) == target.run(request[1], Password(b"pw"))


def _unseals(source: Client, key: int, target: Client, moved: int) -> None:
    assert target.run(Unseal(moved), Password(b"pw")).out_data == b"sealed data"


def _loads(source: Client, key: int, target: Client, moved: int) -> None:
    assert source.run(ReadPublic(key)).name == target.run(ReadPublic(moved)).name


OBJECTS: dict[str, tuple[TPMT_PUBLIC, bytes, Callable[[Client, int, Client, int], None]]] = {
    "ecc": (templates.ecc(MOVABLE | _SDO | _SIGN), b"", _signs(TPM_ALG_ECDSA)),
    "rsa": (templates.rsa(MOVABLE | _SDO | _SIGN), b"", _signs(TPM_ALG_RSASSA)),
    "hmac": (templates.keyed_hash(MOVABLE | _SDO | _SIGN, templates.HMAC), b"", _macs),
    "sealed": (templates.keyed_hash(MOVABLE), b"sealed data", _unseals),
    "aes": (templates.cipher_key(MOVABLE | _SDO | TPMA_OBJECT_DECRYPT), b"", _loads),
}


@pytest.mark.parametrize("kind", sorted(PARENTS))
@pytest.mark.parametrize(("source_name", "target_name"), WAYS)
def test_an_object_moves_and_works_at_its_new_parent(pair: Pair, source_name: str, target_name: str,
                                                     kind: str) -> None:
    source, target = getattr(pair, source_name), getattr(pair, target_name)
    old = keys.create_primary(source, templates.storage(_FIXED_STORAGE))
    new = old if source is target else keys.create_primary(target, PARENTS[kind])
    parent = public_of(target, new)
    for what, (template, data, check) in OBJECTS.items():
        if kind != "ecc" and what != "ecc":
            continue
        template = movable(template)
        made = source.run(Create(old, TPMS_SENSITIVE_CREATE(b"pw", data), template, b"", []), Password())
        key = bring(source, old, made.out_private, made.out_public)
        for outer, inner_key, cipher in WRAPPERS:
            to = TPM_RH_NULL
            if outer:
                to = keys.load(source, (parent, _NO_AREA), public_only=True, hierarchy=TPM_RH_OWNER)
            moved = source.run(Duplicate(key, to, inner_key, cipher), permitted := permit(source))
            flush(source, permitted.handle)
            if outer:
                flush(source, to)
            assert len(moved.encryption_key_out) == (0 if inner_key or cipher is NO_CIPHER else 32)
            assert bool(moved.out_sym_seed) == outer
            private = target.run(Import(new, inner_key or moved.encryption_key_out, made.out_public,
                                        moved.duplicate, moved.out_sym_seed, cipher), Password()).out_private
            handle = bring(target, new, private, made.out_public)
            check(source, key, target, handle)
            flush(target, handle)
        flush(source, key)
    flush(source, old)
    if source is not target:
        flush(target, new)


@pytest.mark.parametrize(("source_name", "target_name"), WAYS)
@pytest.mark.parametrize("what", ["ecc", "symmetric"])
def test_a_moved_parent_brings_its_children(pair: Pair, source_name: str, target_name: str,
                                            what: str) -> None:
    source, target = getattr(pair, source_name), getattr(pair, target_name)
    attributes = MOVABLE | _SDO | _STORAGE
    template = movable(templates.ecc(attributes, AES128) if what == "ecc"
                       else templates.cipher_key(attributes))
    old = keys.create_primary(source, templates.storage(_FIXED_STORAGE))
    group = child(source, old, template)
    public = public_of(source, group)
    sealed = source.run(Create(group, TPMS_SENSITIVE_CREATE(b"", b"below"), templates.keyed_hash(MOVABLE),
                               b"", []), Password())
    moved = source.run(Duplicate(group, TPM_RH_NULL, b"", NO_CIPHER), permitted := permit(source))
    flush(source, group, old, permitted.handle)
    new = keys.create_primary(target, templates.storage(_FIXED_STORAGE))
    private = target.run(Import(new, b"", public, moved.duplicate, b"", NO_CIPHER), Password()).out_private
    arrived = bring(target, new, private, public)
    handle = bring(target, arrived, sealed.out_private, sealed.out_public)
    assert target.run(Unseal(handle), Password()).out_data == b"below"
    flush(target, handle, arrived, new)


@pytest.mark.parametrize(("source_name", "target_name"), WAYS)
def test_a_duplicate_is_rewrapped_for_another_tpm(pair: Pair, source_name: str, target_name: str) -> None:
    source, target = getattr(pair, source_name), getattr(pair, target_name)
    between = keys.create_primary(source, PARENTS["rsa"])
    new = keys.create_primary(target, PARENTS["ecc"])
    public, sensitive = keys.elliptic(_SIGN)
    area = wrapping.sensitive_area(public.name_alg, sensitive)
    blob, conveyed = duplicate(public_of(source, between), public, area)
    at_source = keys.load(source, (public_of(target, new), sensitive), public_only=True,
                          hierarchy=TPM_RH_OWNER)
    object_name = public_name(public)
    rewrapped = source.run(Rewrap(between, at_source, blob, object_name, conveyed), Password())
    bare = source.run(Rewrap(between, TPM_RH_NULL, blob, object_name, conveyed), Password())
    assert bare == type(bare)(area, b"")
    again = source.run(Rewrap(TPM_RH_NULL, at_source, area, object_name, b""), Password())
    for answer in (rewrapped, again):
        private = target.run(Import(new, b"", public, answer.out_duplicate, answer.out_sym_seed, NO_CIPHER),
                             Password()).out_private
        flush(target, bring(target, new, private, public))
    flush(source, at_source, between)
    flush(target, new)


def test_refused_duplications_are_those_of_swtpm(pair: Pair) -> None:
    found = Comparison(pair)
    parent = {c: keys.create_primary(c, templates.storage(_FIXED_STORAGE)) for c in found.clients}
    plain = movable(templates.ecc(MOVABLE | _SDO | _SIGN))
    encrypted = movable(templates.ecc(MOVABLE | _SDO | _SIGN | _ENCRYPTED))
    fixed = movable(templates.ecc(MOVABLE | _SDO | _SIGN | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_FIXEDTPM))

    def case(name: str, new: int | None, key: bytes, cipher: object, code: int | None = None) -> None:
        def make(client: Client) -> Attempt:
            to = parent[client] if new is None else new
            session = permit(client) if code is None else permit(client, code) if code else Password()
            return Duplicate(handles[client], to, key, cipher), [session]  # type: ignore[arg-type]

        found.both(name, make)

    for what, template in (("plain", plain), ("encrypted", encrypted), ("fixed", fixed)):
        handles = {c: child(c, parent[c], template) for c in found.clients}
        for new in (None, TPM_RH_NULL):
            for key in (b"", bytes(15), bytes(16), bytes(32)):
                for cipher in (NO_CIPHER, AES128, AES256):
                    case(f"{what}, {new}, {len(key)}, {cipher}", new, key, cipher)
        case(f"{what}, itself", handles[found.clients[0]], b"", NO_CIPHER)
        case(f"{what}, policy of another command", None, b"", NO_CIPHER, TPM_CC_Sign)
        case(f"{what}, password", None, b"", NO_CIPHER, 0)
        for external in (keys.rsa(TPMA_OBJECT_DECRYPT), keys.keyed_hash(_SIGN), keys.cipher(_SIGN)):
            with pair.loaded(external) as other:
                case(f"{what}, no Storage Key", other, b"", NO_CIPHER)
        for client in found.clients:
            flush(client, handles[client])
    handles = {c: child(c, parent[c], plain) for c in found.clients}
    small = templates.rsa(_STORAGE | MOVABLE, AES128, bits=1024, unique=_modulus(1024))
    with pair.loaded((small, _NO_AREA), public_only=True, hierarchy=TPM_RH_OWNER) as other:
        case("a short RSA key", other, b"", NO_CIPHER)
    for client in found.clients:
        flush(client, handles[client], parent[client])
    assert not found.differences, "\n".join(found.differences)
    assert len(found.codes) >= 8


def test_refused_imports_are_those_of_swtpm(pair: Pair) -> None:
    found = Comparison(pair)
    for kind in ("ecc", "rsa"):
        handles = {c: keys.create_primary(c, PARENTS[kind]) for c in found.clients}
        publics = {c: public_of(c, handles[c]) for c in found.clients}
        for name, change in [*_import_changes(kind), *_area_changes()]:
            requests = {c: change(handles[c], publics[c]) for c in found.clients}
            found.compare(f"{kind}, {name}", requests)
        for client in found.clients:
            flush(client, handles[client])
    assert not found.differences, "\n".join(found.differences)
    assert len(found.codes) >= 15


_Change = Callable[[int, TPMT_PUBLIC], Import]


def _with(request: Import, **members: object) -> Import:
    for name, value in members.items():
        setattr(request, name, value)
    return request


def _import_changes(kind: str) -> Iterator[tuple[str, _Change]]:
    """What can be wrong around the sensitive area."""
    key16 = bytes(range(16))

    def good(handle: int, parent: TPMT_PUBLIC) -> Import:
        return software(handle, parent, *keys.elliptic(_SIGN))

    def inner(handle: int, parent: TPMT_PUBLIC, *, outer: bool = False) -> Import:
        return software(handle, parent, *keys.elliptic(_SIGN), outer=outer, key=key16, cipher=AES128)

    yield "good", good
    yield "inner only", inner
    yield "both", lambda h, p: inner(h, p, outer=True)
    yield "bare", lambda h, p: software(h, p, *keys.elliptic(_SIGN), outer=False)
    for bit in (TPMA_OBJECT_FIXEDTPM, TPMA_OBJECT_FIXEDPARENT, templates.FIXED):
        yield f"{bit:#x}", lambda h, p, bit=bit: software(h, p, *keys.elliptic(_SIGN | bit))  # type: ignore[misc]
    for size in (0, 1, 15, 17, 32):
        yield f"inner key of {size}", lambda h, p, n=size: _with(  # type: ignore[misc]
            inner(h, p), encryption_key=bytes(n))
    yield "inner key without cipher", lambda h, p: _with(good(h, p), encryption_key=key16)
    yield "another inner key", lambda h, p: _with(inner(h, p), encryption_key=bytes(16))
    yield "no inner wrapper", lambda h, p: _with(good(h, p), encryption_key=key16, symmetric_alg=AES128)
    encrypted = _SIGN | _ENCRYPTED
    yield "encrypted, none", lambda h, p: software(h, p, *keys.elliptic(encrypted), outer=False)
    yield "encrypted, outer", lambda h, p: software(h, p, *keys.elliptic(encrypted))
    yield "encrypted, inner", lambda h, p: software(h, p, *keys.elliptic(encrypted), outer=False, key=key16,
                                                    cipher=AES128)
    yield "encrypted, both", lambda h, p: software(h, p, *keys.elliptic(encrypted), key=key16, cipher=AES128)
    for seed in (b"\1", bytes(2), b"\0\x20" + bytes(32), b"\0\x20" + bytes(32) + b"\0\x20" + bytes(32),
                 b"\0\xff" + bytes(64), b"\0\x21" + b"\1" * 33 + b"\0\x20" + bytes(32), bytes(4)):
        yield f"seed {seed[:5].hex()}.. {len(seed)}", lambda h, p, seed=seed: _with(  # type: ignore[misc]
            good(h, p), in_sym_seed=seed)
    if kind == "ecc":
        yield "another label", lambda h, p: _with(good(h, p), in_sym_seed=seed_for(p, b"IDENTITY")[1])
    yield "another seed", lambda h, p: _with(good(h, p), in_sym_seed=seed_for(p)[1])
    yield "no seed", lambda h, p: _with(good(h, p), in_sym_seed=b"")
    yield "another object", lambda h, p: _with(good(h, p), object_public=keys.elliptic(_STORAGE)[0])
    for make, what in ((good, "outer"), (inner, "inner")):
        for size in (0, 1, 2, 3, 33, 34, 40, 100):
            yield f"{what} cut to {size}", lambda h, p, make=make, n=size: (  # type: ignore[misc]
                _with(r := make(h, p), duplicate=r.duplicate[:n]))
        for at in (0, 1, 2, 33, 34, 36, 60, -1):
            yield f"{what} changed at {at}", lambda h, p, make=make, at=at: (  # type: ignore[misc]
                _with(r := make(h, p), duplicate=_flip(r.duplicate, at)))
        yield f"{what} and one more", lambda h, p, make=make: (  # type: ignore[misc]
            _with(r := make(h, p), duplicate=r.duplicate + b"\0"))


def _modulus(bits: int) -> bytes:
    unique = keys.rsa(0, bits=bits)[0].unique
    assert isinstance(unique, bytes)
    return unique


def _flip(octets: bytes, at: int) -> bytes:
    changed = bytearray(octets)
    changed[at] ^= 0x40
    return bytes(changed)


def _area_changes() -> Iterator[tuple[str, _Change]]:
    """What can be wrong in the public and sensitive areas."""

    def of(public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE) -> _Change:
        return lambda h, p: software(h, p, public, sensitive)

    def raw(area: bytes) -> _Change:
        def make(handle: int, parent: TPMT_PUBLIC) -> Import:
            public = keys.elliptic(_SIGN)[0]
            return Import(handle, b"", public, *duplicate(parent, public, area), NO_CIPHER)

        return make

    good = wrapping.sensitive_area(TPM_ALG_SHA256, keys.elliptic(_SIGN)[1])
    for name, area in (("empty", b""), ("one octet", b"\0"), ("no area", b"\0\0"), ("short", good[:-1]),
                       ("long", good + b"\0"), ("type", good[:2] + b"\0\x99" + good[4:]),
                       ("cut inside", (len(good) - 3).to_bytes(2, "big") + good[2:-1]),
                       ("more inside", (len(good) - 1).to_bytes(2, "big") + good[2:] + b"\0"),
                       ("auth too long", good[:4] + b"\0\x41" + good[6:])):
        yield f"area {name}", raw(area)
    for make in (keys.elliptic, keys.rsa, keys.keyed_hash, keys.cipher):
        what = make.__name__
        public, sensitive = make(_SIGN)
        other = TPMT_SENSITIVE(sensitive.sensitive_type, b"", sensitive.seed_value, sensitive.sensitive)
        kind = TPM_ALG_RSA if sensitive.sensitive_type == TPM_ALG_KEYEDHASH else TPM_ALG_KEYEDHASH
        yield f"{what} good", of(public, sensitive)
        yield f"{what} type", of(public, TPMT_SENSITIVE(kind, b"", b"", sensitive.sensitive[:32]))
        for size in (0, 1, 16, 31, 33, 48):
            yield f"{what} seed of {size}", of(public, TPMT_SENSITIVE(
                other.sensitive_type, b"", bytes(size), other.sensitive))
        yield f"{what} another seed", of(public, TPMT_SENSITIVE(
            other.sensitive_type, b"", b"\1" * 32, other.sensitive))
        for size in (31, 32, 33, 48):
            yield f"{what} auth of {size}", of(public, TPMT_SENSITIVE(
                other.sensitive_type, b"\1" * size, other.seed_value, other.sensitive))
        if make is not keys.rsa:
            yield f"{what} another key", of(public, TPMT_SENSITIVE(
                other.sensitive_type, b"", other.seed_value, _flip(other.sensitive, -1)))
        yield f"{what} short key", of(public, TPMT_SENSITIVE(
            other.sensitive_type, b"", other.seed_value, other.sensitive[1:]))
        yield f"{what} no key", of(public, TPMT_SENSITIVE(other.sensitive_type, b"", other.seed_value, b""))
        for uses in (0, _SIGN | TPMA_OBJECT_DECRYPT, _SIGN | TPMA_OBJECT_RESTRICTED, _STORAGE,
                     _STORAGE | _SIGN, TPMA_OBJECT_DECRYPT):
            areas = make(uses)
            if make in (keys.keyed_hash, keys.cipher):
                areas[0].unique = symmetric_unique(*areas)
            yield f"{what} attributes {uses:#x}", of(*areas)
        for size in (1, 20, 32, 33):
            yield f"{what} policy of {size}", of(TPMT_PUBLIC(
                public.type, public.name_alg, public.object_attributes, bytes(size), public.parameters,
                public.unique), sensitive)
        unique = public.unique
        if isinstance(unique, bytes):
            yield f"{what} short unique", of(TPMT_PUBLIC(
                public.type, public.name_alg, public.object_attributes, b"", public.parameters,
                unique[:-1]), sensitive)


def test_refused_rewraps_are_those_of_swtpm(pair: Pair) -> None:
    found = Comparison(pair)
    public, sensitive = keys.elliptic(_SIGN)
    area = wrapping.sensitive_area(public.name_alg, sensitive)
    name = public_name(public)
    for kind in ("rsa", "ecc"):
        handles = {c: keys.create_primary(c, PARENTS[kind]) for c in found.clients}
        parents = {c: public_of(c, handles[c]) for c in found.clients}
        with pair.loaded(keys.rsa(TPMA_OBJECT_DECRYPT)) as other:
            for what, old, new, change in _rewraps(other):
                requests = {}
                for client, mine in handles.items():
                    blob, conveyed = change(*duplicate(parents[client], public, area))
                    requests[client] = Rewrap(mine if old is None else old, mine if new is None else new,
                                              blob, name, conveyed)
                found.compare(f"{kind}, {what}", requests)
        for client in found.clients:
            flush(client, handles[client])
    assert not found.differences, "\n".join(found.differences)
    assert len(found.codes) >= 6


_Blob = Callable[[bytes, bytes], tuple[bytes, bytes]]


def _rewraps(other: int) -> Iterator[tuple[str, int | None, int | None, _Blob]]:
    def same(blob: bytes, seed: bytes) -> tuple[bytes, bytes]:
        return blob, seed

    for old in (None, TPM_RH_NULL, other):
        for new in (None, TPM_RH_NULL, other):
            yield f"{old} to {new}", old, new, same
            yield f"{old} to {new}, no seed", old, new, lambda blob, seed: (blob, b"")
    for size in (0, 1, 2, 33, 34, 50):
        yield f"cut to {size}", None, TPM_RH_NULL, lambda blob, seed, n=size: (blob[:n], seed)  # type: ignore[misc]
    for at in (0, 2, 40, -1):
        yield f"changed at {at}", None, None, lambda blob, seed, at=at: (_flip(blob, at), seed)  # type: ignore[misc]
    for seed in (b"\1", bytes(256), b"\0\x20" + bytes(32) + b"\0\x20" + bytes(32)):
        yield f"seed of {len(seed)}", None, None, lambda blob, _, seed=seed: (blob, seed)  # type: ignore[misc]


def test_duplication_cannot_aim_at_what_conveys_no_secret() -> None:
    client = started().client
    old = keys.create_primary(client, templates.storage())
    symmetric = keys.create_primary(client, templates.cipher_key(templates.STORAGE))
    found = child(client, old, movable(templates.ecc(MOVABLE | _SDO | _SIGN)))
    with refused(TpmError(TPM_RC_TYPE).handle(2).rc):
        client.run(Duplicate(found, symmetric, b"", NO_CIPHER), permit(client))
    with refused(TpmError(TPM_RC_TYPE).handle(2).rc):
        client.run(Rewrap(TPM_RH_NULL, symmetric, b"", b"", b""), Password())
    parent = public_of(client, old)
    request = software(symmetric, parent, *keys.elliptic(_SIGN))
    with refused(TpmError(TPM_RC_TYPE).handle(1).rc):
        client.run(request, Password())


@pytest.mark.parametrize("bit", [TPMA_OBJECT_FIRMWARELIMITED, TPMA_OBJECT_SVNLIMITED])
def test_an_object_limited_to_a_firmware_is_not_imported(bit: int) -> None:
    client = started().client
    parent = keys.create_primary(client, templates.storage())
    request = software(parent, public_of(client, parent), *keys.elliptic(_SIGN | bit))
    with refused(TpmError(TPM_RC_ATTRIBUTES).parameter(2).rc):
        client.run(request, Password())


def test_a_secret_that_rsa_cannot_convey_is_refused() -> None:
    client = started().client
    parent = keys.create_primary(client, templates.rsa(_FIXED_STORAGE, AES128))
    area = public_of(client, parent)
    for secret in (random(256), b"\xff" * 256, seed_for(area, b"IDENTITY")[1]):
        request = software(parent, area, *keys.elliptic(_SIGN))
        request.in_sym_seed = secret
        with refused(TpmError(TPM_RC_VALUE).parameter(4).rc):
            client.run(request, Password())
    short = templates.rsa(_STORAGE | MOVABLE, AES128, bits=1024, name_alg=TPM_ALG_SHA384,
                          unique=_modulus(1024))
    new = keys.load(client, (short, _NO_AREA), public_only=True, hierarchy=TPM_RH_OWNER)
    found = child(client, parent, movable(templates.ecc(MOVABLE | _SDO | _SIGN)))
    with refused(TPM_RC_VALUE):
        client.run(Duplicate(found, new, b"", NO_CIPHER), permit(client))


def test_an_rsa_key_with_another_prime_is_not_imported() -> None:
    client = started().client
    parent = keys.create_primary(client, templates.storage())
    public, sensitive = keys.rsa(_SIGN)
    sensitive.sensitive = _flip(sensitive.sensitive, -1)
    with refused(TPM_RC_BINDING):
        client.run(software(parent, public_of(client, parent), public, sensitive), Password())


def test_octets_after_the_point_of_a_seed_are_refused() -> None:
    client = started().client
    parent = keys.create_primary(client, templates.storage())
    request = software(parent, public_of(client, parent), *keys.elliptic(_SIGN))
    request.in_sym_seed += b"\0"
    with refused(TpmError(TPM_RC_SIZE).parameter(4).rc):
        client.run(request, Password())


def test_a_symmetric_parent_of_either_form_is_imported_and_no_other() -> None:
    client = started().client
    parent = keys.create_primary(client, templates.storage())
    public, sensitive = keys.cipher(_STORAGE, AES128.mode or 0)
    area = public_of(client, parent)
    seed, key = sensitive.seed_value, sensitive.sensitive
    for unique in (hashes.digest(TPM_ALG_SHA256, seed, key), hashes.hmac(TPM_ALG_SHA256, seed, key)):
        public.unique = unique
        assert client.run(software(parent, area, public, sensitive), Password()).out_private
    public.unique = hashes.digest(TPM_ALG_SHA256, key, seed)
    with refused(TPM_RC_BINDING):
        client.run(software(parent, area, public, sensitive), Password())


def test_only_public_area_of_the_new_parent_need_be_loaded() -> None:
    client = started().client
    old = keys.create_primary(client, templates.storage())
    parent = public_of(client, old)
    handle = client.run(LoadExternal(None, parent, TPM_RH_OWNER)).object_handle
    found = child(client, old, movable(templates.ecc(MOVABLE | _SDO | _SIGN)))
    client.names[handle] = client.names[old]
    assert attempt(client, Duplicate(found, handle, b"", NO_CIPHER), [permit(client)]) == 0
