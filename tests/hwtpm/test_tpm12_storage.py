"""Making, loading and evicting keys of TPM 1.2 (Part 3, 10.4 to 10.6, 21.1, 27.1.1 and 27.8)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.primes import generate_rsa
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.profile import KEY_HANDLES, OWNER_EVICT_KEY_HANDLES
from hwtpm.tpm12.requests.context import FlushSpecific
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.requests.storage import EvictKey, GetPubKey, KeyControlOwner, LoadKey, LoadKey2
from hwtpm.tpm12.state.keys import pub_data_digest
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_VERSION,
    TPM_DECRYPT_ERROR,
    TPM_FAIL,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_PCR_INFO,
    TPM_INVALID_STRUCTURE,
    TPM_KEY_OWNER_CONTROL,
    TPM_KEYNOTFOUND,
    TPM_NOSPACE,
    TPM_NOTFIPS,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_ALG_SHA,
    TPM_AUTH_NEVER,
    TPM_ES_NONE,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_KEYHANDLE,
    TPM_ISVOLATILE,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_BIND,
    TPM_KEY_CONTROL_OWNER_EVICT,
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_EK,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_NO_READ_PUBKEY_AUTH,
    TPM_PCRIGNOREDONREAD,
    TPM_PT_ASYM,
    TPM_PT_SEAL,
    TPM_RT_KEY,
    TPM_SS_NONE,
    TPM_ST_CLEAR,
    TPM_TAG_KEY12,
    TPM_ES_RSAESPKCSv15,
    TPM_SS_RSASSAPKCS1v15_DER,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS, TPM_STORE_ASYMKEY
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG
from hwtpm.tpm12.wrapping import with_enc_data
from hwtpm.wire import encode
from tests.support.tpm2 import rc_of, refused
from tests.support.tpm12 import (
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
    RSA_2048,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    composite,
    create_key,
    key_template,
    load_key,
    new_key,
    once,
    owned,
    selection,
    signing_key,
)

ZERO = bytes(20)
DIGEST = b"d" * 20


@pytest.fixture
def machine() -> Machine:
    return owned()


def pub_key(client: Client, key: int, auth: bytes | None = KEY_AUTH) -> TPM_PUBKEY:
    sessions = () if auth is None else (once(client.oiap(auth)),)
    return client.run(GetPubKey(key), *sessions).pub_key


def bound_to(value: bytes, *pcrs: int) -> bytes:
    """PCR information of TPM 1.1 for PCRs that all have that value."""
    chosen = selection(*pcrs)
    return encode(TPM_PCR_INFO(chosen, composite(chosen, *[value] * len(pcrs)), ZERO))


# Making


@pytest.mark.parametrize("tag", [0x0101, TPM_TAG_KEY12])
def test_a_new_key_tells_the_pcrs_and_the_locality_of_its_creation(machine: Machine, tag: int) -> None:
    machine.locality = 2
    chosen = selection(1, 9)
    created = composite(chosen, machine.tpm.pcrs.values[1], machine.tpm.pcrs.values[9])
    if tag == TPM_TAG_KEY12:
        given = TPM_PCR_INFO_LONG(1, 0x1F, chosen, selection(3), b"x" * 20, b"y" * 20)
        kept = TPM_PCR_INFO_LONG(1 << 2, 0x1F, chosen, selection(3), created, b"y" * 20)
        info, expected = encode(given), encode(kept)
    else:
        info = encode(TPM_PCR_INFO(chosen, b"y" * 20, b"x" * 20))
        expected = encode(TPM_PCR_INFO(chosen, b"y" * 20, created))
    key = create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=tag, pcr_info=info))
    assert key.pcr_info == expected
    assert load_key(machine.client, key)  # with PCRs that do not hold: they count when it is used


def test_pcr_information_that_cannot_be_read_makes_no_key(machine: Machine) -> None:
    for info, rc in ((b"x", TPM_BAD_PARAM_SIZE), (bytes(43), TPM_BAD_PARAM_SIZE),
                     (b"\0\4" + bytes(44), TPM_INVALID_PCR_INFO)):
        with refused(rc):
            create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS, pcr_info=info))


OAEP, PKCS, NO_ES = TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_ES_RSAESPKCSv15, TPM_ES_NONE
SHA1, DER, INFO = TPM_SS_RSASSAPKCS1v15_SHA1, TPM_SS_RSASSAPKCS1v15_DER, TPM_SS_RSASSAPKCS1v15_INFO
SCHEMES = {  # of each usage (Part 2, 5.8.1)
    TPM_KEY_SIGNING: {(NO_ES, SHA1), (NO_ES, DER), (NO_ES, INFO)},
    TPM_KEY_STORAGE: {(OAEP, TPM_SS_NONE)},
    TPM_KEY_BIND: {(OAEP, TPM_SS_NONE), (PKCS, TPM_SS_NONE)},
    TPM_KEY_LEGACY: {(OAEP, SHA1), (PKCS, SHA1), (OAEP, DER), (PKCS, DER)},
    TPM_KEY_MIGRATE: {(OAEP, TPM_SS_NONE)},
}


@pytest.mark.parametrize("usage", SCHEMES)
def test_each_usage_has_its_schemes(machine: Machine, usage: int) -> None:
    for encryption in (0, NO_ES, PKCS, OAEP, 4):
        for signature in (0, TPM_SS_NONE, SHA1, DER, INFO, 5):
            template = key_template(usage, TPM_KEY_PARMS(TPM_ALG_RSA, encryption, signature, RSA_2048))
            if (encryption, signature) in SCHEMES[usage]:
                assert create_key(machine.client, template).key_usage == usage
            else:
                with refused(TPM_BAD_KEY_PROPERTY):
                    create_key(machine.client, template)


def rsa(bits: int, primes: int = 2, exponent: bytes = b"") -> bytes:
    return encode(TPM_RSA_KEY_PARMS(bits, primes, exponent))


@pytest.mark.parametrize(("usage", "algorithm", "parms"), [
    (TPM_KEY_SIGNING, TPM_ALG_SHA, RSA_2048),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(2048, 3)),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(1536)),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(4096)),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(2048, exponent=b"\0\0\1")),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(2048, exponent=b"\1")),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(2048, exponent=b"\1\0\0\0\1")),
    (TPM_KEY_SIGNING, TPM_ALG_RSA, rsa(2048, exponent=b"\xff" * 3000)),
    (TPM_KEY_STORAGE, TPM_ALG_RSA, rsa(1024)),
    (TPM_KEY_STORAGE, TPM_ALG_RSA, rsa(2048, exponent=b"\3")),
    (TPM_KEY_MIGRATE, TPM_ALG_RSA, rsa(1024)),
    (0, TPM_ALG_RSA, RSA_2048),
    (0x0017, TPM_ALG_RSA, RSA_2048),
])
def test_a_key_that_this_tpm_cannot_make(machine: Machine, usage: int, algorithm: int, parms: bytes) -> None:
    schemes = (OAEP, TPM_SS_NONE) if usage in (TPM_KEY_STORAGE, TPM_KEY_MIGRATE) else (NO_ES, SHA1)
    with refused(TPM_BAD_KEY_PROPERTY):
        create_key(machine.client, key_template(usage, TPM_KEY_PARMS(algorithm, *schemes, parms)))


def test_flags_and_versions_that_are_not_defined_are_refused(machine: Machine) -> None:
    for tag, rc in ((0x0102, TPM_BAD_VERSION), (0x0201, TPM_BAD_VERSION), (0x0027, TPM_BAD_KEY_PROPERTY)):
        with refused(rc):
            create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=tag))
    good = encode(key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATABLE))
    command = bytearray(b"\0\xc2" + bytes(4) + b"\0\0\0\x1f" + b"\x40\0\0\0" + bytes(40) + good + bytes(45))
    command[2:6] = len(command).to_bytes(4, "big")
    assert machine.execute(bytes(command))[6:10] == TPM_INVALID_AUTHHANDLE.to_bytes(4, "big")
    command[54 + 6 + 3] |= 0x20  # the sixth flag
    assert machine.execute(bytes(command))[6:10] == TPM_BAD_KEY_PROPERTY.to_bytes(4, "big")


def test_the_revision_of_a_structure_is_ignored_on_input_and_zero_on_output(machine: Machine) -> None:
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
    template.fill = 0x0102
    made = create_key(machine.client, template)
    assert (made.tag, made.fill) == (0x0101, 0)
    assert machine.tpm.keys.get(load_key(machine.client, made))


def test_the_parent_decides_what_can_be_made_under_it(machine: Machine) -> None:
    client = machine.client
    parent = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, flags=TPM_MIGRATABLE)
    with refused(TPM_INVALID_KEYUSAGE):
        create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS), parent, KEY_AUTH)
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATABLE)
    key = create_key(client, template, parent, KEY_AUTH)
    handle = load_key(client, key, parent, KEY_AUTH)
    assert machine.tpm.keys.get(handle).key.migration_auth == MIGRATION_AUTH
    for other in (signing_key(client), new_key(client, TPM_KEY_BIND, STORAGE_PARMS)):
        with refused(TPM_INVALID_KEYUSAGE):
            create_key(client, template, other, KEY_AUTH)


def test_identity_and_certified_keys_are_made_by_other_commands(machine: Machine) -> None:
    for template in (key_template(TPM_KEY_IDENTITY, SIGNING_PARMS),
                     key_template(TPM_KEY_AUTHCHANGE, STORAGE_PARMS),
                     key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_MIGRATEAUTHORITY)):
        with refused(TPM_INVALID_KEYUSAGE):
            create_key(machine.client, template)


def test_fips_mode_forbids_short_free_and_legacy_keys(machine: Machine) -> None:
    machine.tpm.flags.set(fips=True)
    short = TPM_KEY_PARMS(TPM_ALG_RSA, NO_ES, SHA1, rsa(512))
    for template in (key_template(TPM_KEY_SIGNING, short),
                     key_template(TPM_KEY_SIGNING, SIGNING_PARMS, auth_data_usage=TPM_AUTH_NEVER),
                     key_template(TPM_KEY_LEGACY, TPM_KEY_PARMS(TPM_ALG_RSA, OAEP, SHA1, RSA_2048))):
        with refused(TPM_NOTFIPS):
            create_key(machine.client, template, adip=6)


@pytest.mark.parametrize("bits", [512, 1024])
@pytest.mark.parametrize("exponent", [b"", b"\3"])
def test_keys_of_512_and_1024_bits_work(machine: Machine, bits: int, exponent: bytes) -> None:
    client = machine.client
    key = new_key(client, TPM_KEY_SIGNING, TPM_KEY_PARMS(TPM_ALG_RSA, NO_ES, SHA1, rsa(bits, 2, exponent)))
    found = pub_key(client, key)
    assert len(found.pub_key) * 8 == bits
    signature = client.run(Sign(key, DIGEST), once(client.oiap(KEY_AUTH))).sig
    RsaPublic(found.pub_key, 3 if exponent else 65537).verify_pkcs1(ids.SHA1, DIGEST, signature)


def test_a_cancelled_command_fails_and_ends_its_session(machine: Machine) -> None:
    """TPM 1.2 has no code for that; the TIS specification lets the driver take no answer at all."""
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
    found_ahead = machine.tpm.primes
    machine.cancelled = lambda: True
    for primes in (found_ahead, None):
        machine.tpm.primes = primes
        with refused(TPM_FAIL):
            create_key(machine.client, template)
        assert not machine.tpm.sessions.open
    asked: list[int] = []

    def third_time() -> bool:
        asked.append(1)
        return len(asked) == 3

    machine.cancelled = third_time
    with refused(TPM_FAIL):  # while it searches
        create_key(machine.client, template)
    assert len(asked) == 3
    machine.cancelled, machine.tpm.primes = bool, found_ahead
    assert create_key(machine.client, template)


# Loading


def test_load_key_is_the_1_1_command_whose_handle_is_authorized(machine: Machine) -> None:
    """The client refuses a response whose HMAC does not cover the handle."""
    client = machine.client
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    handle = client.run(LoadKey(TPM_KH_SRK, key), once(client.oiap(SRK_AUTH))).inkey_handle
    assert machine.tpm.keys.get(handle).key.usage_auth == KEY_AUTH


def stored(key: TPM_KEY, prime: bytes, payload: int = TPM_PT_ASYM, migration_auth: bytes = MIGRATION_AUTH,
           digest: bytes | None = None) -> bytes:
    return encode(TPM_STORE_ASYMKEY(payload, KEY_AUTH, migration_auth, digest or pub_data_digest(key), prime))


@cache
def _own_primes() -> tuple[int, int]:
    return generate_rsa(2048, 65537, CtrDrbg(b"made outside").generate, bool)


def made_outside(machine: Machine, usage: int = TPM_KEY_SIGNING, parms: TPM_KEY_PARMS = SIGNING_PARMS,
                 flags: int = TPM_MIGRATABLE, modulus: int | None = None, prime: int | None = None,
                 **inside: Any) -> TPM_KEY:
    """A key that software has wrapped under the SRK."""
    p, q = _own_primes()
    template = key_template(usage, parms, flags=flags)
    template.pub_key = (p * q if modulus is None else modulus).to_bytes(256, "big")
    private = stored(template, (p if prime is None else prime).to_bytes(128, "big"), **inside)
    srk = RsaPublic(machine.tpm.permanent.srk.public.pub_key)
    return with_enc_data(template, srk.encrypt_oaep(ids.SHA1, b"TCPA", private))


def test_a_key_wrapped_by_software_is_loaded_and_signs(machine: Machine) -> None:
    handle = load_key(machine.client, made_outside(machine))
    signature = machine.run(Sign(handle, DIGEST), machine.client.oiap(KEY_AUTH)).sig
    p, q = _own_primes()
    RsaPublic(p * q).verify_pkcs1(ids.SHA1, DIGEST, signature)


@pytest.mark.parametrize(("change", "rc"), [
    ({"flags": 0}, TPM_INVALID_KEYUSAGE),  # its migrationAuth is not this TPM's proof
    ({"usage": TPM_KEY_IDENTITY}, TPM_INVALID_KEYUSAGE),
    ({"usage": TPM_KEY_AUTHCHANGE, "parms": STORAGE_PARMS}, TPM_INVALID_KEYUSAGE),
    ({"payload": TPM_PT_SEAL}, TPM_INVALID_STRUCTURE),
    ({"digest": DIGEST}, TPM_AUTHFAIL),
    ({"parms": STORAGE_PARMS}, TPM_BAD_KEY_PROPERTY),
])
def test_a_key_that_is_not_consistent_is_not_loaded(machine: Machine, change: dict[str, Any],
                                                    rc: int) -> None:
    with refused(rc):
        load_key(machine.client, made_outside(machine, **change))
    assert not machine.tpm.keys.loaded


def test_public_and_private_part_have_to_belong_together(machine: Machine) -> None:
    p, q = _own_primes()
    for modulus, prime in ((p * q + 2, p), (p * q, p - 2), (p * p, p), (p * q, 3), (p * q, 0)):
        with refused(TPM_BAD_KEY_PROPERTY):
            load_key(machine.client, made_outside(machine, modulus=modulus, prime=prime))
    assert load_key(machine.client, made_outside(machine, prime=q))


def test_a_key_whose_factors_are_not_prime_is_no_defect(machine: Machine) -> None:
    """Software can wrap anything; nobody tests primes when a key is loaded (Part 3, 10.5)."""
    for offset in range(2, 12, 2):
        p, q = (prime + offset for prime in _own_primes())
        handle = load_key(machine.client, made_outside(machine, modulus=p * q, prime=p))
        assert rc_of(lambda handle=handle: machine.run(  # type: ignore[misc]
            Sign(handle, DIGEST), once(machine.client.oiap(KEY_AUTH)))) in (0, TPM_BAD_KEY_PROPERTY)
        machine.run(EvictKey(handle))


def test_a_key_of_another_parent_or_size_is_not_loaded(machine: Machine) -> None:
    client = machine.client
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    other = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)
    with refused(TPM_DECRYPT_ERROR):
        load_key(client, key, other, KEY_AUTH)
    with refused(TPM_BAD_DATASIZE):
        load_key(client, with_enc_data(key, key.enc_data + b"\0"))
    with refused(TPM_INVALID_KEYUSAGE):
        load_key(client, key, signing_key(client), KEY_AUTH)
    with refused(TPM_KEYNOTFOUND):
        load_key(client, key, TPM_KH_EK, KEY_AUTH)
    with refused(TPM_INVALID_KEYHANDLE):
        load_key(client, key, 0x123, KEY_AUTH)
    with refused(TPM_AUTHFAIL):
        machine.run(LoadKey2(TPM_KH_SRK, key))


def test_there_is_space_for_twenty_keys(machine: Machine) -> None:
    key = create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    handles = {load_key(machine.client, key) for _ in range(KEY_HANDLES)}
    assert len(handles) == KEY_HANDLES
    with refused(TPM_NOSPACE):
        load_key(machine.client, key)
    machine.run(EvictKey(handles.pop()))
    assert load_key(machine.client, key)


def test_a_child_remembers_that_a_parent_is_bound_to_pcrs(machine: Machine) -> None:
    client = machine.client
    first = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, pcr_info=bound_to(ZERO, 3))
    template = key_template(TPM_KEY_STORAGE, STORAGE_PARMS)
    second = load_key(client, create_key(client, template, first, KEY_AUTH), first, KEY_AUTH)
    third = load_key(client, create_key(client, template, second, KEY_AUTH), second, KEY_AUTH)
    assert [machine.tpm.keys.get(h).parent_pcr_status for h in (first, second, third)] == [False, True, True]


# Public parts


def test_the_public_key_of_the_srk_is_the_owners_decision(machine: Machine) -> None:
    with refused(TPM_INVALID_KEYHANDLE):
        pub_key(machine.client, TPM_KH_SRK, SRK_AUTH)
    machine.tpm.flags.set(read_srk_pub=True)
    assert pub_key(machine.client, TPM_KH_SRK, SRK_AUTH).pub_key == machine.tpm.permanent.srk.public.pub_key
    with refused(TPM_AUTHFAIL):
        pub_key(machine.client, TPM_KH_SRK, None)


def test_some_keys_show_their_public_part_without_authorization(machine: Machine) -> None:
    client = machine.client
    for usage, free in ((TPM_AUTH_NEVER, True), (TPM_NO_READ_PUBKEY_AUTH, True), (1, False)):
        key = signing_key(client, auth_data_usage=usage)
        if free:
            assert pub_key(client, key, None) == pub_key(client, key)
        else:
            with refused(TPM_AUTHFAIL):
                pub_key(client, key, None)
        with refused(TPM_AUTHFAIL):
            pub_key(client, key, b"x" * 20)
        if usage != TPM_AUTH_NEVER:
            with refused(TPM_AUTHFAIL):
                machine.run(Sign(key, DIGEST))


def test_pcrs_count_when_a_public_part_is_read_unless_the_key_says_so(machine: Machine) -> None:
    client = machine.client
    strict = signing_key(client, pcr_info=bound_to(ZERO, 3))
    lenient = signing_key(client, pcr_info=bound_to(ZERO, 3), flags=TPM_PCRIGNOREDONREAD)
    assert pub_key(client, strict)
    machine.run(Extend(3, DIGEST))
    assert pub_key(client, lenient)
    with refused(TPM_WRONGPCRVAL):
        pub_key(client, strict)
    with refused(TPM_WRONGPCRVAL):
        machine.run(Sign(lenient, DIGEST), client.oiap(KEY_AUTH))


# Evicting


def test_an_evicted_key_is_gone_with_its_sessions(machine: Machine) -> None:
    client = machine.client
    key = signing_key(client)
    session = client.osap(TPM_ET_KEYHANDLE, key, KEY_AUTH)
    machine.run(EvictKey(key))
    with refused(TPM_INVALID_KEYHANDLE):
        machine.run(Sign(key, DIGEST), session)
    assert not machine.tpm.sessions.open
    for handle in (key, TPM_KH_SRK):
        with refused(TPM_INVALID_KEYHANDLE):
            machine.run(EvictKey(handle))


def control(client: Client, key: int, pubkey: TPM_PUBKEY, value: bool, bit: int = TPM_KEY_CONTROL_OWNER_EVICT,
            auth: bytes = OWNER_AUTH) -> None:
    client.run(KeyControlOwner(key, pubkey, bit, value), once(client.oiap(auth)))


def test_a_key_of_the_owner_stays_until_he_lets_go(machine: Machine) -> None:
    client = machine.client
    key = signing_key(client)
    public = pub_key(client, key)
    control(client, key, public, True)
    assert machine.dirty
    control(client, key, public, True)
    assert not machine.dirty
    for command in (EvictKey(key), FlushSpecific(key, TPM_RT_KEY)):
        with refused(TPM_KEY_OWNER_CONTROL):
            machine.run(command)  # type: ignore[type-var]
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    assert machine.run(Sign(key, DIGEST), client.oiap(KEY_AUTH)).sig
    control(client, key, public, False)
    machine.run(EvictKey(key))
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    with refused(TPM_INVALID_KEYHANDLE):
        machine.run(Sign(key, DIGEST), client.oiap(KEY_AUTH))


def test_the_owner_names_the_key_he_means(machine: Machine) -> None:
    client = machine.client
    key, other = signing_key(client), signing_key(client)
    for handle, public, bit, auth, rc in (
        (key, pub_key(client, other), TPM_KEY_CONTROL_OWNER_EVICT, OWNER_AUTH, TPM_BAD_PARAMETER),
        (key, pub_key(client, key), 2, OWNER_AUTH, TPM_BAD_MODE),
        (key, pub_key(client, key), TPM_KEY_CONTROL_OWNER_EVICT, KEY_AUTH, TPM_AUTHFAIL),
        (TPM_KH_SRK, pub_key(client, key), TPM_KEY_CONTROL_OWNER_EVICT, OWNER_AUTH, TPM_INVALID_KEYHANDLE),
    ):
        with refused(rc):
            control(client, handle, public, True, bit, auth)


def test_some_keys_cannot_be_the_owners(machine: Machine) -> None:
    client = machine.client
    parent = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, pcr_info=bound_to(ZERO, 3))
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
    child = load_key(client, create_key(client, template, parent, KEY_AUTH), parent, KEY_AUTH)
    for key, rc in ((child, TPM_BAD_PARAMETER),
                    (signing_key(client, flags=TPM_ISVOLATILE), TPM_BAD_PARAMETER),
                    (new_key(client, TPM_KEY_MIGRATE, STORAGE_PARMS), TPM_INVALID_KEYUSAGE)):
        with refused(rc):
            control(client, key, pub_key(client, key), True)


def test_the_owner_has_ten_places(machine: Machine) -> None:
    client = machine.client
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    handles = [load_key(client, key) for _ in range(OWNER_EVICT_KEY_HANDLES + 1)]
    public = pub_key(client, handles[0])
    for handle in handles[:-1]:
        control(client, handle, public, True)
    with refused(TPM_NOSPACE):
        control(client, handles[-1], public, True)
    control(client, handles[0], public, False)
    control(client, handles[-1], public, True)
