"""CreateLoaded: primaries, ordinary and derived objects; what swtpm derives, and its response codes.

Not in the lists: octets after the label and context, which libtpms ignores; firmwareLimited and svnLimited,
which it does not know.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hwtpm.client import Authorization, Client, Password
from hwtpm.crypto import ecc, hashes
from hwtpm.crypto.kdf import kdfa
from hwtpm.tpm2.creation import DerivedBits
from hwtpm.tpm2.profile import MAX_LOADED_OBJECTS
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import CreateLoaded, CreateLoadedResponse, Load, ReadPublic, Unseal
from hwtpm.tpm2.requests.symmetric import HMAC
from hwtpm.tpm2.templates import symmetric_unique
from hwtpm.tpm2.types.algorithms import (
    TPMS_DERIVE,
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMS_SCHEME_XOR,
    TPMS_SENSITIVE_CREATE,
    TPMT_KEYEDHASH_SCHEME,
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
    TPMA_OBJECT_STCLEAR,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_CAMELLIA,
    TPM_ALG_CFB,
    TPM_ALG_HMAC,
    TPM_ALG_KDF1_SP800_108,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_ALG_TDES,
    TPM_ALG_XOR,
    TPM_ECC_BN_P638,
    TPM_ECC_NIST_P256,
    TPM_ECC_NIST_P384,
    TPM_ECC_NIST_P521,
    TPM_RC_ATTRIBUTES,
    TPM_RC_NO_RESULT,
    TPM_RC_OBJECT_MEMORY,
    TPM_RC_SIZE,
)
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE, TPMT_TEMPLATE_DERIVE
from hwtpm.wire import encode
from tests.support import templates
from tests.support import tpm2_keys as keys
from tests.support.templates import AES128, AES256
from tests.support.tpm2 import refused, started
from tests.support.tpm2_duplicates import MOVABLE, Comparison, bring, child, flush, public_of, software
from tests.support.tpm2_pair import Pair

_SDO, _SIGN, _DECRYPT = TPMA_OBJECT_SENSITIVEDATAORIGIN, TPMA_OBJECT_SIGN, TPMA_OBJECT_DECRYPT
_STORAGE = TPMA_OBJECT_RESTRICTED | _DECRYPT
_BASE = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA
_FIXED_STORAGE = templates.STORAGE | TPMA_OBJECT_NODA
_DERIVED = _BASE | TPMA_OBJECT_FIXEDPARENT
_SECRET = bytes(range(32))


def _xor(alg: int) -> TPMT_KEYEDHASH_SCHEME:
    return TPMT_KEYEDHASH_SCHEME(TPM_ALG_XOR, TPMS_SCHEME_XOR(alg, TPM_ALG_KDF1_SP800_108))


def _hmac(alg: int) -> TPMT_KEYEDHASH_SCHEME:
    return TPMT_KEYEDHASH_SCHEME(TPM_ALG_HMAC, TPMS_SCHEME_HASH(alg))


def derivation_parent(client: Client, alg: int = TPM_ALG_SHA256, name_alg: int = TPM_ALG_SHA256) -> int:
    """Import a Derivation Parent, the same in every TPM, and load it."""
    storage = keys.create_primary(client, templates.storage(_FIXED_STORAGE))
    public = templates.keyed_hash(MOVABLE | _STORAGE, _xor(alg), name_alg=name_alg)
    sensitive = TPMT_SENSITIVE(TPM_ALG_KEYEDHASH, b"", bytes(hashes.size(name_alg)), _SECRET)
    public.unique = symmetric_unique(public, sensitive)
    request = software(storage, public_of(client, storage), public, sensitive)
    found = bring(client, storage, client.run(request, Password()).out_private, public)
    flush(client, storage)
    return found


def derive(client: Client, parent: int, template: TPMT_PUBLIC, label: bytes = b"", context: bytes = b"", *,
           data: bytes = b"", auth: bytes = b"") -> CreateLoadedResponse:
    area = TPMT_TEMPLATE_DERIVE(template.type, template.name_alg, template.object_attributes,
                                template.auth_policy, template.parameters, TPMS_DERIVE(label, context))
    made = client.run(CreateLoaded(parent, TPMS_SENSITIVE_CREATE(auth, data), encode(area)), Password())
    client.names[made.object_handle] = made.name
    return made


DERIVED: dict[str, TPMT_PUBLIC] = {
    "ecc": templates.ecc(_DERIVED | _SIGN),
    "p384": templates.ecc(_DERIVED | _SIGN, curve=TPM_ECC_NIST_P384, name_alg=TPM_ALG_SHA384),
    "p521": templates.ecc(_DERIVED | _SIGN, curve=TPM_ECC_NIST_P521, name_alg=TPM_ALG_SHA512),
    "bn638": templates.ecc(_DERIVED | _SIGN, curve=TPM_ECC_BN_P638),
    "camellia": templates.cipher_key(_DERIVED | _DECRYPT, TPMT_SYM_DEF_OBJECT(
        TPM_ALG_CAMELLIA, 256, TPM_ALG_CFB)),
    "tdes": templates.cipher_key(_DERIVED | _DECRYPT, TPMT_SYM_DEF_OBJECT(TPM_ALG_TDES, 192, TPM_ALG_CFB)),
    "decryption": templates.ecc(_DERIVED | _DECRYPT),
    "aes": templates.cipher_key(_DERIVED | _DECRYPT),
    "aes256": templates.cipher_key(_DERIVED | _DECRYPT, AES256),
    "hmac": templates.keyed_hash(_DERIVED | _SIGN, templates.HMAC),
    "hmac of another hash": templates.keyed_hash(_DERIVED | _SIGN, _hmac(TPM_ALG_SHA512)),
    "sealed": templates.keyed_hash(_DERIVED),
    "sealed sha1": templates.keyed_hash(_DERIVED, name_alg=TPM_ALG_SHA1),
    "parent": templates.keyed_hash(_DERIVED | _STORAGE, templates.XOR),
}
LABELS = [(b"", b""), (b"label", b""), (b"", b"context"), (b"label", b"context"), (b"label\0", b"\0"),
          (bytes(32), b"\xff" * 32)]


@pytest.mark.parametrize(("alg", "name_alg"), [
    (TPM_ALG_SHA256, TPM_ALG_SHA256), (TPM_ALG_SHA1, TPM_ALG_SHA256), (TPM_ALG_SHA512, TPM_ALG_SHA256),
    (TPM_ALG_SHA384, TPM_ALG_SHA384)])
def test_derived_objects_are_those_of_swtpm(pair: Pair, alg: int, name_alg: int) -> None:
    parents = [(client, derivation_parent(client, alg, name_alg)) for client in (pair.ours, pair.theirs)]
    for what, template in DERIVED.items():
        for label, context in LABELS:
            made = []
            for client, parent in parents:
                made.append(derive(client, parent, template, label, context))
                flush(client, made[-1].object_handle)
            assert made[0].out_public == made[1].out_public, (what, label, context)
            assert made[0].name == made[1].name
            assert made[0].out_private == made[1].out_private == b""
    for client, parent in parents:
        flush(client, parent)


def test_a_derived_object_is_made_of_the_bits_in_order() -> None:
    """The example of Part 1, 25.4.1: 16 octets for a key of AES 128, the next 32 for the seedValue."""
    client = started().client
    parent = derivation_parent(client)
    bits = kdfa(TPM_ALG_SHA256, _SECRET, b"label", b"context", b"", 8192)
    made = derive(client, parent, DERIVED["aes"], b"label", b"context")
    assert made.out_public.unique == hashes.digest(TPM_ALG_SHA256, bits[16:48], bits[:16])
    made = derive(client, parent, DERIVED["ecc"], b"label", b"context")
    key = ecc.EccPrivate(TPM_ECC_NIST_P256, ecc.scalar_from(TPM_ECC_NIST_P256, bits[:40]))
    assert made.out_public.unique == TPMS_ECC_POINT(*key.public)


def test_the_bits_of_a_derivation_end() -> None:
    machine = started()
    found = machine.tpm.objects.loaded(derivation_parent(machine.client))
    bits = DerivedBits(found, b"", b"")
    assert len(bits.random(1024)) == 1024
    with refused(TPM_RC_NO_RESULT):
        bits.random(1)


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_label_and_context_of_the_template_go_first_each_by_itself(pair: Pair, name: str) -> None:
    client: Client = getattr(pair, name)
    parent = derivation_parent(client)

    def unique(label: bytes, context: bytes, data: bytes = b"") -> object:
        made = derive(client, parent, DERIVED["ecc"], label, context, data=data)
        flush(client, made.object_handle)
        return made.out_public.unique

    other = encode(TPMS_DERIVE(b"other label", b"other context"))
    assert unique(b"", b"", other) == unique(b"other label", b"other context")
    assert unique(b"label", b"", other) == unique(b"label", b"other context")
    assert unique(b"", b"context", other) == unique(b"other label", b"context")
    assert unique(b"label", b"context", other) == unique(b"label", b"context")
    flush(client, parent)


def test_a_derived_key_is_used_with_its_auth_value_and_hierarchy() -> None:
    machine = started()
    client = machine.client
    parent = derivation_parent(client)
    made = derive(client, parent, DERIVED["hmac"], b"l", auth=b"pw\0\0")
    assert client.run(HMAC(made.object_handle, b"m", TPM_ALG_NULL), Password(b"pw")).out_hmac
    read = client.run(ReadPublic(made.object_handle))
    above = client.run(ReadPublic(parent)).qualified_name
    assert read.qualified_name == b"\0\x0b" + hashes.digest(TPM_ALG_SHA256, above, made.name)
    assert machine.tpm.objects.loaded(made.object_handle).hierarchy == TPM_RH_OWNER


@pytest.mark.parametrize("hierarchy", [TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM, TPM_RH_NULL])
@pytest.mark.parametrize("data", [b"", b"personal"])
def test_a_primary_is_the_one_of_create_primary(hierarchy: int, data: bytes) -> None:
    client = started().client
    for template in (templates.ecc(), templates.storage(), templates.rsa(unique=b"\1")):
        given = TPMS_SENSITIVE_CREATE(b"auth", data)
        made = client.run(CreateLoaded(hierarchy, given, encode(template)), Password())
        expected = client.run(CreatePrimary(hierarchy, given, template, b"", []), Password())
        assert made.out_public == expected.out_public
        assert made.name == expected.name
        assert made.out_private == b""
        assert client.run(ReadPublic(made.object_handle)) == client.run(ReadPublic(expected.object_handle))
        flush(client, made.object_handle, expected.object_handle)


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_an_ordinary_object_is_loaded_and_can_be_loaded_again(pair: Pair, name: str) -> None:
    client: Client = getattr(pair, name)
    parent = keys.create_primary(client, templates.storage(_FIXED_STORAGE))
    template = templates.keyed_hash(templates.SEALED | TPMA_OBJECT_NODA)
    given = TPMS_SENSITIVE_CREATE(b"pw", b"sealed")
    made = client.run(CreateLoaded(parent, given, encode(template)), Password())
    assert client.run(Unseal(made.object_handle), Password(b"pw")).out_data == b"sealed"
    again = client.run(Load(parent, made.out_private, made.out_public), Password())
    assert again.name == made.name
    assert client.run(Unseal(again.object_handle), Password(b"pw")).out_data == b"sealed"
    assert client.run(ReadPublic(made.object_handle)) == client.run(ReadPublic(again.object_handle))
    flush(client, made.object_handle, again.object_handle, parent)


def test_an_object_below_an_st_clear_parent_is_st_clear() -> None:
    machine = started()
    client = machine.client
    parent = keys.create_primary(client, templates.storage(_FIXED_STORAGE | TPMA_OBJECT_STCLEAR))
    made = client.run(CreateLoaded(parent, TPMS_SENSITIVE_CREATE(b"", b""), encode(templates.ecc())),
                      Password())
    assert machine.tpm.objects.loaded(made.object_handle).st_clear


def _cases() -> Iterator[tuple[str, TPMT_PUBLIC, bytes, bytes]]:
    """What it is, template, authValue, data; in the data of a derivation, a label and context."""
    fixed = templates.FIXED
    for ft, fp, ed, sdo in itertools.product((0, TPMA_OBJECT_FIXEDTPM), (0, TPMA_OBJECT_FIXEDPARENT),
                                             (0, TPMA_OBJECT_ENCRYPTEDDUPLICATION), (0, _SDO)):
        base = _BASE | ft | fp | ed | sdo
        for what, template in (
                ("ecc", templates.ecc(base | _SIGN)), ("storage", templates.storage(base | _STORAGE)),
                ("sealed", templates.keyed_hash(base)),
                ("hmac", templates.keyed_hash(base | _SIGN, templates.HMAC)),
                ("hmac without scheme", templates.keyed_hash(base | _SIGN)),
                ("cipher", templates.cipher_key(base | _DECRYPT)),
                ("symmetric storage", templates.cipher_key(base | _STORAGE)),
                ("parent", templates.keyed_hash(base | _STORAGE, templates.XOR))):
            for data in (b"", bytes(16), b"\0\1l\0\1c"):
                yield f"{what} {base:#x} {data.hex()}", template, b"", data
    for size in (32, 33, 64):
        yield f"auth of {size}", templates.ecc(_BASE | fixed | _SDO | _SIGN), b"\1" * size, b""
        yield f"derived, auth of {size}", templates.ecc(_DERIVED | _SIGN), b"\1" * size, b""
    for base in (_DERIVED, _BASE | fixed, _BASE | fixed | _SDO):
        yield f"rsa {base:#x}", templates.rsa(base | _SIGN, unique=b"\1"), b"", b""
        yield f"policy {base:#x}", templates.ecc(base | _SIGN, policy=bytes(31)), b"", b""
        yield f"nameAlg {base:#x}", templates.ecc(base | _SIGN, name_alg=TPM_ALG_NULL), b"", b""
        yield f"cipher {base:#x}", templates.ecc(base | _SIGN, AES128), b"", b""
        yield f"no key use {base:#x}", templates.ecc(base), b"", b""
    for data in (b"\0", b"\0\1l", b"\0\1l\0", b"\0\x21" + bytes(35), b"\0\0\0\x21" + bytes(33), bytes(64)):
        if data != bytes(64):
            yield f"data {data[:6].hex()}", templates.ecc(_DERIVED | _SIGN), b"", data
        yield f"sealed data {data[:6].hex()}", templates.keyed_hash(_BASE | fixed), b"", data


def _encoded(template: TPMT_PUBLIC, unique: TPMS_DERIVE | None) -> bytes:
    if unique is None:
        return encode(template)
    area = TPMT_TEMPLATE_DERIVE(template.type, template.name_alg, template.object_attributes,
                                template.auth_policy, template.parameters, unique)
    return encode(area)


def test_refused_creations_are_those_of_swtpm(fresh: Pair) -> None:
    found = Comparison(fresh)
    both = found.clients
    storage = {c: keys.create_primary(c, templates.storage(_FIXED_STORAGE)) for c in both}
    movable_parent = {c: child(c, storage[c], templates.storage(MOVABLE | _SDO | _STORAGE)) for c in both}

    def compare(what: str, parents: dict[Client, int], area: bytes, auth: bytes = b"", data: bytes = b"",
                authorization: Authorization | None = None) -> None:
        def make(client: Client) -> tuple[Any, list[Authorization]]:
            request = CreateLoaded(parents[client], TPMS_SENSITIVE_CREATE(auth, data), area)
            return request, [authorization or Password()]

        found.both(what, make)

    owner = dict.fromkeys(both, TPM_RH_OWNER)
    for what, template, auth, data in _cases():
        area = _encoded(template, None)
        for where, parents in (("primary", owner), ("fixed", storage), ("movable", movable_parent)):
            compare(f"{where}, {what}", parents, area, auth, data)
    area = encode(templates.ecc(_BASE | templates.FIXED | _SDO | _SIGN))
    for size in range(0, len(area), 3):
        compare(f"cut to {size}", owner, area[:size])
    compare("one more", owner, area + b"\0")
    for at in range(len(area)):
        compare(f"changed at {at}", owner, area[:at] + b"\xee" + area[at + 1 :])
    compare("another authorization", owner, area, authorization=Password(b"wrong"))
    compare("a hierarchy that is none", dict.fromkeys(both, TPM_RH_LOCKOUT), area)
    for client in both:
        flush(client, movable_parent[client])
    signing = {c: child(c, storage[c], templates.ecc(_BASE | templates.FIXED | _SDO | _SIGN)) for c in both}
    compare("no parent", signing, area)
    compare("no parent, no template", signing, b"")
    for client in both:
        flush(client, signing[client], storage[client])
    assert not found.differences, "\n".join(found.differences)
    assert len(found.codes) >= 10


@pytest.mark.parametrize("make", [
    lambda client: derivation_parent(client),
    lambda client: keys.create_primary(client, templates.keyed_hash(
        templates.FIXED | _BASE | _SDO | _STORAGE, templates.XOR)),
    lambda client: keys.create_primary(client, templates.keyed_hash(
        _BASE | _SDO | _STORAGE | TPMA_OBJECT_ENCRYPTEDDUPLICATION, templates.XOR)),
], ids=["movable", "fixed", "encrypted"])
def test_refused_derivations_are_those_of_swtpm(fresh: Pair, make: Callable[[Client], int]) -> None:
    found = Comparison(fresh)
    parents = {client: make(client) for client in found.clients}

    def compare(what: str, area: bytes, auth: bytes = b"", data: bytes = b"") -> None:
        found.compare(what, {c: CreateLoaded(parents[c], TPMS_SENSITIVE_CREATE(auth, data), area)
                             for c in found.clients})

    for what, template, auth, data in _cases():
        if data in (bytes(16), bytes(64)):
            continue  # libtpms ignores what comes after a label and context, both empty here.
        compare(what, _encoded(template, TPMS_DERIVE(b"label", b"")), auth, data)
    area = _encoded(templates.ecc(_DERIVED | _SIGN), TPMS_DERIVE(b"label", b"context"))
    for size in range(len(area)):
        compare(f"cut to {size}", area[:size])
    compare("one more", area + b"\0")
    compare("long label", area[:-16] + b"\0\x21" + bytes(33) + b"\0\0")
    for client in found.clients:
        flush(client, parents[client])
    assert not found.differences, "\n".join(found.differences)
    assert len(found.codes) >= 8


def test_a_derived_object_is_not_limited_to_a_firmware() -> None:
    client = started().client
    parent = derivation_parent(client)
    with refused(TPM_RC_ATTRIBUTES):
        derive(client, parent, templates.ecc(_DERIVED | _SIGN | TPMA_OBJECT_FIRMWARELIMITED))


def test_octets_after_label_and_context_are_refused() -> None:
    client = started().client
    parent = derivation_parent(client)
    with refused(TPM_RC_SIZE):
        derive(client, parent, DERIVED["ecc"], data=encode(TPMS_DERIVE(b"l", b"c")) + b"\0")


def test_no_object_is_made_without_a_free_handle() -> None:
    machine = started()
    client = machine.client
    area = encode(templates.ecc())
    request = CreateLoaded(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), area)
    handles = [client.run(request, Password()).object_handle for _ in range(MAX_LOADED_OBJECTS)]
    with refused(TPM_RC_OBJECT_MEMORY):
        client.run(request, Password())
    client.run(FlushContext(handles[3]))
    assert client.run(request, Password()).object_handle == handles[3]
