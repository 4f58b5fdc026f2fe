"""Objects through the dispatcher: derivation, names, private areas, creation data, persistence."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.client import Password
from hwtpm.crypto import hashes, symmetric
from hwtpm.crypto.kdf import kdfa
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.errors import TpmError
from hwtpm.tpm2 import profile, wrapping
from hwtpm.tpm2.requests.context import EvictControl, FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, CreatePrimaryResponse
from hwtpm.tpm2.requests.object import (
    Create,
    CreateResponse,
    Load,
    LoadExternal,
    ObjectChangeAuth,
    ReadPublic,
    Unseal,
)
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.state.objects import Object, Objects
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIRMWARELIMITED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_STCLEAR,
    TPMA_OBJECT_SVNLIMITED,
    TPMA_OBJECT_USERWITHAUTH,
    TPMA_OBJECT_X509SIGN,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_ECC_NIST_P384,
    TPM_RC_CANCELED,
    TPM_RC_OBJECT_MEMORY,
    TPM_ST_CREATION,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import (
    PERSISTENT_FIRST,
    PLATFORM_PERSISTENT,
    TPM_RH_ENDORSEMENT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
    TRANSIENT_FIRST,
)
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.wire import encode
from tests.support.templates import (
    AES128,
    AES256,
    FIXED,
    HMAC,
    SIGNING,
    STORAGE,
    cipher_key,
    ecc,
    keyed_hash,
    rsa,
    storage,
)
from tests.support.tpm2 import Machine, refused, started

_LOOSE = TPMA_OBJECT_USERWITHAUTH


def primary(machine: Machine, template: TPMT_PUBLIC, hierarchy: int = TPM_RH_OWNER, *, auth: bytes = b"",
            data: bytes = b"", outside: bytes = b"", pcrs: list[TPMS_PCR_SELECTION] | None = None,
            ) -> CreatePrimaryResponse:
    sensitive = TPMS_SENSITIVE_CREATE(auth, data)
    return machine.run(CreatePrimary(hierarchy, sensitive, template, outside, pcrs or []), Password())


def child(machine: Machine, parent: int, template: TPMT_PUBLIC, *, auth: bytes = b"", data: bytes = b"",
          ) -> CreateResponse:
    return machine.run(Create(parent, TPMS_SENSITIVE_CREATE(auth, data), template, b"", []), Password())


def loaded(machine: Machine, parent: int, made: CreateResponse) -> int:
    return machine.run(Load(parent, made.out_private, made.out_public), Password()).object_handle


def found(machine: Machine, handle: int) -> Object:
    result = machine.tpm.objects.get(handle)
    assert isinstance(result, Object)
    return result


# Derivation of primaries.


_TEMPLATES = {
    "ecc": storage(), "p384": ecc(curve=TPM_ECC_NIST_P384), "rsa": rsa(STORAGE, AES128),
    "cipher": cipher_key(), "hmac": keyed_hash(SIGNING, HMAC),
}
# What the octets 0 to 63 derive as a primary seed.  These names never change: keys of users hang from them.
_NAMES = {
    "ecc": "000b42e5a3331a93a43f9c94d84e3c514519dbb0dec09c716401507e237b3fca33ce",
    "p384": "000b63ead74fc988a59c962a7fff8e248bd523271b030fbf122ab011954de9d7ea42",
    "rsa": "000b3469feb7ee95241683a490f454801d106397ce28176ef77d8840d4ab6aeaa391",
    "cipher": "000b084cc246abddbb3b3d9560530f0e3085c54fa33f48de6122cf4bcde553a22412",
    "hmac": "000b4672df7fecf4944b27526505548b7a9f868c86c822f8b1b3030fb4910391c468",
}


@pytest.mark.parametrize("kind", _TEMPLATES)
def test_seed_and_template_decide_the_primary(kind: str) -> None:
    machine = started()
    first = primary(machine, _TEMPLATES[kind])
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    again = primary(machine, _TEMPLATES[kind], auth=b"other", outside=b"other")
    assert (again.name, again.out_public) == (first.name, first.out_public)
    assert primary(started(b"another"), _TEMPLATES[kind]).name != first.name


@pytest.mark.parametrize("kind", _TEMPLATES)
def test_derivation_is_that_of_earlier_versions(kind: str) -> None:
    machine = started()
    machine.tpm.hierarchies.seed = lambda handle: bytes(range(64))
    assert primary(machine, _TEMPLATES[kind]).name.hex() == _NAMES[kind]


def test_each_part_of_a_template_counts() -> None:
    machine = started()
    names = [primary(machine, template, hierarchy, data=data).out_public.unique.x
             for template, hierarchy, data in (
                 (ecc(), TPM_RH_OWNER, b""), (ecc(), TPM_RH_ENDORSEMENT, b""), (ecc(), TPM_RH_PLATFORM, b""),
                 (ecc(), TPM_RH_NULL, b""), (ecc(), TPM_RH_OWNER, b"data"), (ecc(x=b"x"), TPM_RH_OWNER, b""),
                 (ecc(y=b"x"), TPM_RH_OWNER, b""), (ecc(policy=bytes(32)), TPM_RH_OWNER, b""),
                 (ecc(SIGNING | TPMA_OBJECT_STCLEAR), TPM_RH_OWNER, b""))]
    assert len(set(names)) == len(names)


def test_a_cached_primary_is_the_derived_one() -> None:
    machine = started()
    template = rsa(STORAGE, AES128, bits=1024)
    derived, cached = primary(machine, template), primary(machine, template, auth=b"auth")
    first, second = found(machine, derived.object_handle), found(machine, cached.object_handle)
    assert first.key is second.key
    assert first.sensitive is not None
    assert second.sensitive is not None
    assert first.sensitive.seed_value == second.sensitive.seed_value != b""
    assert (first.auth_value, second.auth_value) == (b"", b"auth")


def test_no_secret_of_a_caller_is_cached() -> None:
    machine = started()
    made = [primary(machine, keyed_hash(), data=b"secret"),
            primary(machine, ecc(), data=b"personal", auth=b"auth")]
    for response in made:
        machine.run(FlushContext(response.object_handle))
    ((key, cached),) = machine.tpm.objects._primaries._found.items()
    assert b"personal" not in key
    assert cached.auth_value == b""
    assert primary(machine, ecc(), data=b"personal").name == cached.name == made[1].name


def test_the_cache_is_bounded() -> None:
    machine = started()
    for i in range(100):
        machine.run(FlushContext(primary(machine, ecc(x=bytes([i]))).object_handle))
    assert len(machine.tpm.objects._primaries) == 32


def test_storage_proof_changes_the_seed_of_an_endorsement_primary_only() -> None:
    machine = started()
    before = found(machine, primary(machine, storage(), TPM_RH_ENDORSEMENT).object_handle)
    machine.tpm.hierarchies.new_proof(TPM_RH_OWNER, bytes)
    after = found(machine, primary(machine, storage(), TPM_RH_ENDORSEMENT).object_handle)
    assert before.name == after.name
    assert before.sensitive is not None
    assert after.sensitive is not None
    assert before.sensitive.sensitive == after.sensitive.sensitive
    assert before.sensitive.seed_value != after.sensitive.seed_value


def test_prime_search_can_be_cancelled() -> None:
    machine = started()
    parent = primary(machine, storage()).object_handle
    machine.cancelled = lambda: True
    with refused(TPM_RC_CANCELED):
        primary(machine, rsa())
    with refused(TPM_RC_CANCELED):
        child(machine, parent, rsa())
    assert list(machine.tpm.objects.transient) == [parent]


# Names and private areas.


def test_names_are_those_of_part_1() -> None:
    machine = started()
    top = primary(machine, storage())
    assert top.name == b"\0\x0b" + hashlib.sha256(encode(top.out_public)).digest()
    made = child(machine, top.object_handle, storage())
    handle = loaded(machine, top.object_handle, made)
    qualified = b"\0\x0b" + hashlib.sha256(TPM_RH_OWNER.to_bytes(4, "big") + top.name).digest()
    assert machine.run(ReadPublic(top.object_handle)).qualified_name == qualified
    read = machine.run(ReadPublic(handle))
    assert read.out_public == made.out_public
    assert read.qualified_name == b"\0\x0b" + hashlib.sha256(qualified + read.name).digest()


def test_private_area_has_the_format_of_part_1_clause_19() -> None:
    machine = started()
    top = primary(machine, storage(cipher=AES256))
    made = child(machine, top.object_handle, keyed_hash(), auth=b"auth\0", data=b"the data")
    parent = found(machine, top.object_handle)
    assert parent.sensitive is not None
    seed = parent.sensitive.seed_value
    assert len(seed) == 32
    private = made.out_private
    name = b"\0\x0b" + hashlib.sha256(encode(made.out_public)).digest()
    assert private[:2] == b"\0\x20"
    key = kdfa(TPM_ALG_SHA256, seed, b"INTEGRITY", b"", b"", 256)
    assert private[2:34] == hashes.hmac(TPM_ALG_SHA256, key, private[34:], name)
    assert private[34:36] == b"\0\x10"
    cipher = kdfa(TPM_ALG_SHA256, seed, b"STORAGE", name, b"", 256)
    area = symmetric.cfb_decrypt(AES256.algorithm, cipher, private[36:52], private[52:])
    obfuscation = area[40:72]
    auth = b"auth".ljust(32, b"\0")
    assert area == b"\0\x50\0\x08\0\x20" + auth + b"\0\x20" + obfuscation + b"\0\x08the data"
    assert made.out_public.unique == hashlib.sha256(obfuscation + b"the data").digest()


def test_rsa_private_area_holds_one_prime() -> None:
    machine = started()
    top = primary(machine, storage())
    made = child(machine, top.object_handle, rsa(bits=1024))
    handle = loaded(machine, top.object_handle, made)
    key = found(machine, handle)
    assert key.sensitive is not None
    assert len(key.sensitive.sensitive) == 64
    assert key.sensitive.seed_value == b""
    assert isinstance(key.key, RsaPrivate)
    assert key.key.n == key.key.p * key.key.q == int.from_bytes(made.out_public.unique, "big")


@given(data=st.binary(min_size=1, max_size=128), auth=st.binary(max_size=32))
@settings(max_examples=30, deadline=None)
def test_what_was_sealed_is_unsealed(data: bytes, auth: bytes) -> None:
    machine = started()
    top = primary(machine, storage()).object_handle
    handle = loaded(machine, top, child(machine, top, keyed_hash(), auth=auth, data=data))
    assert machine.run(Unseal(handle), Password(auth)).out_data == data


def test_every_octet_of_a_private_area_is_authenticated() -> None:
    machine = started()
    top = primary(machine, storage()).object_handle
    made = child(machine, top, keyed_hash(), data=b"data")
    for at in range(2, len(made.out_private)):
        changed = bytearray(made.out_private)
        changed[at] ^= 0x40
        with refused(0x1DF):  # TPM_RC_INTEGRITY, parameter 1
            machine.run(Load(top, bytes(changed), made.out_public), Password())


def test_an_authentic_private_area_without_a_sensitive_area_is_refused() -> None:
    machine = started()
    parent = found(machine, primary(machine, storage()).object_handle)
    assert parent.sensitive is not None
    public = keyed_hash(unique=bytes(32))
    name = b"\0\x0b" + hashlib.sha256(encode(public)).digest()
    for area in (b"", b"\0", b"\0\x05abc", b"\0\x03abc", b"\0\x02\0\x08"):
        blob = wrapping.outer_wrap(TPM_ALG_SHA256, parent.sensitive.seed_value, AES128, name, area, bytes(16))
        with refused(0x155):  # TPM_RC_SENSITIVE
            machine.run(Load(TRANSIENT_FIRST, blob, public), Password())


def test_object_change_auth_returns_a_new_area_and_keeps_the_loaded_object() -> None:
    machine = started()
    top = primary(machine, storage()).object_handle
    made = child(machine, top, keyed_hash(), auth=b"old", data=b"data")
    handle = loaded(machine, top, made)
    private = machine.run(ObjectChangeAuth(handle, top, b"new\0"), Password(b"old")).out_private
    assert machine.run(Unseal(handle), Password(b"old")).out_data == b"data"
    renewed = machine.run(Load(top, private, made.out_public), Password()).object_handle
    assert machine.run(Unseal(renewed), Password(b"new")).out_data == b"data"


# Creation data.


def test_creation_data_of_a_primary() -> None:
    machine = started()
    machine.locality = 3
    selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\x01\0\0")]
    made = primary(machine, ecc(), outside=b"outside", pcrs=selection)
    data, owner = made.creation_data, TPM_RH_OWNER.to_bytes(4, "big")
    assert (data.pcr_select, data.locality, data.outside_info) == (selection, 8, b"outside")
    assert data.pcr_digest == hashlib.sha256(machine.tpm.pcrs.read(TPM_ALG_SHA256, 0)).digest()
    assert data.parent_name_alg == TPM_ALG_NULL
    assert data.parent_name == data.parent_qualified_name == owner
    assert made.creation_hash == hashlib.sha256(encode(data)).digest()
    ticket = made.creation_ticket
    assert (ticket.tag, ticket.hierarchy) == (TPM_ST_CREATION, TPM_RH_OWNER)
    proof = machine.tpm.hierarchies.proof(TPM_RH_OWNER)
    parts = TPM_ST_CREATION.to_bytes(2, "big"), made.name, made.creation_hash
    assert ticket.digest == hashes.hmac(profile.CONTEXT_INTEGRITY_HASH_ALG, proof, *parts)


def test_creation_data_of_an_ordinary_object_names_the_parent() -> None:
    machine = started()
    top = primary(machine, storage(), TPM_RH_ENDORSEMENT)
    made = child(machine, top.object_handle, ecc())
    data = made.creation_data
    assert data.parent_name_alg == TPM_ALG_SHA256
    assert data.parent_name == top.name
    assert data.parent_qualified_name == machine.run(ReadPublic(top.object_handle)).qualified_name
    assert (data.pcr_select, data.pcr_digest) == ([], b"")  # Part 2, 15.1
    assert made.creation_ticket.hierarchy == TPM_RH_ENDORSEMENT


# Rules that swtpm does not have.


@pytest.mark.parametrize("template", [
    ecc(SIGNING & ~TPMA_OBJECT_SIGN | TPMA_OBJECT_DECRYPT | TPMA_OBJECT_X509SIGN),
    keyed_hash(SIGNING | TPMA_OBJECT_X509SIGN, HMAC),
    ecc(SIGNING | TPMA_OBJECT_FIRMWARELIMITED),
    ecc(SIGNING | TPMA_OBJECT_SVNLIMITED),
])
def test_attributes_that_cannot_be_kept_are_refused(template: TPMT_PUBLIC) -> None:
    with refused(0x2C2):  # TPM_RC_ATTRIBUTES, parameter 2
        primary(started(), template)


def test_owner_cannot_evict_from_the_range_of_the_platform() -> None:
    machine = started()
    handle = primary(machine, ecc(), TPM_RH_PLATFORM).object_handle
    machine.run(EvictControl(TPM_RH_PLATFORM, handle, PLATFORM_PERSISTENT), Password())
    with refused(0x28D):  # TPM_RC_RANGE, handle 2
        machine.run(EvictControl(TPM_RH_OWNER, PLATFORM_PERSISTENT, PLATFORM_PERSISTENT), Password())


def test_public_only_object_can_be_persistent() -> None:
    machine = started()
    point = primary(machine, ecc()).out_public.unique
    public = ecc(_LOOSE | TPMA_OBJECT_SIGN, x=point.x, y=point.y)
    made = machine.run(LoadExternal(None, public, TPM_RH_OWNER))
    machine.run(EvictControl(TPM_RH_OWNER, made.object_handle, PERSISTENT_FIRST), Password())
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    read = machine.run(ReadPublic(PERSISTENT_FIRST))
    assert (read.name, read.qualified_name, read.out_public) == (made.name, made.name, public)


# Handles and state.


def test_the_lowest_free_handle_is_taken_until_none_is_left() -> None:
    machine = started()
    handles = [primary(machine, ecc()).object_handle for _ in range(profile.MAX_LOADED_OBJECTS)]
    assert handles == list(range(TRANSIENT_FIRST, TRANSIENT_FIRST + profile.MAX_LOADED_OBJECTS))
    with refused(TPM_RC_OBJECT_MEMORY):
        primary(machine, ecc())
    machine.run(FlushContext(handles[2]))
    assert primary(machine, ecc()).object_handle == handles[2]


def test_persistent_objects_outlive_power_and_transient_ones_do_not() -> None:
    machine = started()
    top = primary(machine, storage(), auth=b"auth")
    assert not machine.dirty
    machine.run(EvictControl(TPM_RH_OWNER, top.object_handle, PERSISTENT_FIRST + 5), Password())
    assert machine.dirty
    parent, password = PERSISTENT_FIRST + 5, Password(b"auth")
    made = machine.run(Create(parent, TPMS_SENSITIVE_CREATE(b"", b"data"), keyed_hash(), b"", []), password)
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    assert machine.tpm.objects.transient == {}
    handle = machine.run(Load(parent, made.out_private, made.out_public), password).object_handle
    assert machine.run(Unseal(handle), Password()).out_data == b"data"
    machine.run(EvictControl(TPM_RH_OWNER, parent, parent), Password())
    machine.power_cycle()
    assert machine.tpm.objects.persistent == {}


def test_an_object_is_what_its_encoding_says() -> None:
    machine = started()
    top = primary(machine, storage(STORAGE | TPMA_OBJECT_STCLEAR)).object_handle
    handles = [top, loaded(machine, top, child(machine, top, rsa(bits=1024))),
               loaded(machine, top, child(machine, top, keyed_hash(), auth=b"auth", data=b"data")),
               machine.run(LoadExternal(TPMT_SENSITIVE(0x25, b"", b"", bytes(16)),
                                        cipher_key(_LOOSE | TPMA_OBJECT_DECRYPT, name_alg=TPM_ALG_NULL),
                                        TPM_RH_NULL)).object_handle]
    for handle in handles:
        before = found(machine, handle)
        after = Object.decode(before.encode())
        names = ("public", "sensitive", "name", "qualified_name", "hierarchy", "external", "st_clear",
                 "auth_value", "is_parent")
        assert [getattr(before, n) for n in names] == [getattr(after, n) for n in names]
        assert "auth" not in repr(before)
    assert found(machine, handles[1]).st_clear, "the parent's stClear counts"


@given(octets=st.binary(max_size=200))
def test_no_octets_restore_to_something_else(octets: bytes) -> None:
    objects = Objects()
    try:
        objects.restore(octets)
    except (TpmError, ValueError):
        assert objects.persistent == {}
    else:
        assert objects.save() == octets


def test_hierarchies_take_their_objects_along() -> None:
    machine = started()
    kept, gone = primary(machine, ecc()), primary(machine, ecc(), TPM_RH_ENDORSEMENT)
    for at, made in enumerate((kept, gone)):
        machine.run(EvictControl(TPM_RH_OWNER, made.object_handle, PERSISTENT_FIRST + at), Password())
    objects = machine.tpm.objects
    objects.dirty = False
    objects.flush_hierarchy(TPM_RH_ENDORSEMENT)
    assert not objects.dirty
    objects.evict_hierarchy(TPM_RH_ENDORSEMENT)
    assert objects.dirty
    assert list(objects.transient) == [kept.object_handle]
    assert list(objects.persistent) == [PERSISTENT_FIRST]


def test_a_loose_parent_is_not_trusted_with_the_binding() -> None:
    machine = started()
    top = primary(machine, storage(STORAGE & ~FIXED)).object_handle
    parent = found(machine, top)
    made = child(machine, top, ecc(SIGNING & ~FIXED))
    name = b"\0\x0b" + hashlib.sha256(encode(made.out_public)).digest()
    sensitive = wrapping.unprotect(parent, name, made.out_private)
    other = TPMT_SENSITIVE(sensitive.sensitive_type, b"", b"", bytes(31) + b"\x02")
    forged = wrapping.protect(parent, name, TPM_ALG_SHA256, other, bytes)
    with refused(0x0A5):  # TPM_RC_BINDING
        machine.run(Load(top, forged, made.out_public), Password())
    assert TPMA_OBJECT_SENSITIVEDATAORIGIN & made.out_public.object_attributes
