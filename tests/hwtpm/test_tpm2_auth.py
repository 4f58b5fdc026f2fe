"""The authorization area: its form, its checks, and what counts as an attack (Part 3, 5.5 and 5.6)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.client import Client, Password
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import Clear, HierarchyChangeAuth
from hwtpm.tpm2.requests.nv import NVRead, NVWrite
from hwtpm.tpm2.requests.object import ObjectChangeAuth, ReadPublic, Unseal
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import HashSequenceStart, SequenceUpdate
from hwtpm.tpm2.types.attributes import (
    TPM_NT_PIN_FAIL,
    TPM_NT_PIN_PASS,
    TPMA_NV_AUTHREAD,
    TPMA_NV_NO_DA,
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_RC_AUTH_CONTEXT,
    TPM_RC_AUTH_FAIL,
    TPM_RC_AUTH_MISSING,
    TPM_RC_AUTH_TYPE,
    TPM_RC_AUTH_UNAVAILABLE,
    TPM_RC_AUTHSIZE,
    TPM_RC_BAD_AUTH,
    TPM_RC_LOCKOUT,
    TPM_RC_SIZE,
    TPM_CC_NV_Read,
)
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_NULL, TPM_RH_OWNER, TPM_RS_PW
from hwtpm.tpm2.types.objects import TPMT_SENSITIVE
from tests.support import tpm2_keys as keys
from tests.support.tpm2 import Machine, rc_of, refused, started
from tests.support.tpm2_either import (
    DA_INDEX,
    INDEX,
    Recording,
    define,
    either,
    rename,
    written,
)

FAIL, BAD = TPM_RC_AUTH_FAIL | 0x900, TPM_RC_BAD_AUTH | 0x900


def read(client: Client, *authorizations: Password, size: int = 4) -> bytes:
    return client.run(NVRead(INDEX, INDEX, size, 0), *authorizations).data


def raw(area: bytes, *, size: int | None = None, parameters: bytes = b"\0\4\0\0") -> bytes:
    """Return the command NV_Read with the octets of its authorization area as given."""
    told = len(area) if size is None else size
    body = INDEX.to_bytes(4, "big") * 2 + told.to_bytes(4, "big") + area + parameters
    return b"\x80\x02" + (10 + len(body)).to_bytes(4, "big") + TPM_CC_NV_Read.to_bytes(4, "big") + body


def password(auth: bytes = b"pin", handle: int = TPM_RS_PW, nonce: bytes = b"", attributes: int = 1) -> bytes:
    return (handle.to_bytes(4, "big") + len(nonce).to_bytes(2, "big") + nonce + bytes([attributes])
            + len(auth).to_bytes(2, "big") + auth)


AREAS = {
    "right": raw(password()),
    "continue clear": raw(password(attributes=0)),
    "no area": raw(b""),
    "size too small": raw(password(), size=8),
    "size too big": raw(password(), size=1000),
    "size cuts the session": raw(password(), size=11),
    "size takes parameters": raw(password(), size=14),
    "password with nonce": raw(password(nonce=b"x")),
    "password that encrypts": raw(password(attributes=0x41)),
    "password that decrypts": raw(password(attributes=0x21)),
    "password that audits": raw(password(attributes=0x81)),
    "password audit reset": raw(password(attributes=0x05)),
    "password exclusive": raw(password(attributes=0x03)),
    "reserved attributes": raw(password(attributes=0x09)),
    "wrong password": raw(password(b"pim")),
    "no password": raw(password(b"")),
    "long password": raw(password(bytes(64))),
    "longer password": raw(password(bytes(65))),
    "long nonce": raw(password(nonce=bytes(65))),
    "no such session": raw(password(handle=0x02000000)),
    "no such policy session": raw(password(handle=0x03000000)),
    "session out of range": raw(password(handle=0x02FFFFFF)),
    "not a session": raw(password(handle=0x80000000)),
    "two passwords": raw(password() + password()),
    "three passwords": raw(password() * 3),
    "four passwords": raw(password() * 4),
    "second is missing": raw(password() + password(handle=0x02000001)),
    "second is cut": raw(password() + b"\x40\0\0\x09\0"),
    "trailing octet": raw(password() + b"\0"),
    "no parameters": raw(password(), parameters=b""),
    "trailing parameters": raw(password(), parameters=b"\0\4\0\0\0"),
}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Client, Client]]:
    with either("ours") as ours, either("swtpm") as theirs:
        for each in (ours, theirs):
            written(each, b"pin")
        yield ours, theirs


def _agree(pair: tuple[Client, Client], command: bytes) -> None:
    """Both answer with the same code; where Part 3, 5.5 has TPM_RC_AUTHSIZE, libtpms has TPM_RC_SIZE."""
    ours, theirs = (int.from_bytes(client._execute(command)[6:10], "big") for client in pair)
    assert (TPM_RC_SIZE if ours == TPM_RC_AUTHSIZE else ours) == theirs, command.hex()


@pytest.mark.parametrize("name", AREAS)
def test_response_codes_are_those_of_swtpm(pair: tuple[Client, Client], name: str) -> None:
    _agree(pair, AREAS[name])


@settings(max_examples=300, deadline=None)
@given(area=st.binary(max_size=40), size=st.none() | st.integers(0, 60))
def test_any_area_gets_the_code_of_swtpm(pair: tuple[Client, Client], area: bytes, size: int | None) -> None:
    _agree(pair, raw(area, size=size))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(AREAS)), st.integers(0, 60), st.integers(0, 255))
def test_any_octet_changed_gets_the_code_of_swtpm(pair: tuple[Client, Client], name: str, at: int,
                                                  octet: int) -> None:
    changed = bytearray(AREAS[name])
    offset = 18 + at % (len(changed) - 18)
    changed[offset] = octet
    _agree(pair, bytes(changed))


def test_commands_without_their_authorization(client: Client) -> None:
    written(client, b"pin")
    with refused(TPM_RC_AUTH_MISSING):
        read(client)
    with refused(TPM_RC_AUTH_CONTEXT):
        client.run(FlushContext(0x80000000), Password())


def test_a_password_for_nothing_is_refused(client: Client) -> None:
    assert rc_of(lambda: client.run(GetRandom(8), Password())) == 0x98B  # TPM_RC_HANDLE, session 1


# Dictionary attacks.

def _wrong(client: Client, times: int, rc: int) -> None:
    for _ in range(times):
        with refused(rc):
            read(client, Password(b"wrong"))


def test_failures_of_a_protected_index_count(client: Client) -> None:
    written(client, b"pin", DA_INDEX)
    client.run(DictionaryAttackParameters(TPM_RH_LOCKOUT, 2, 1000, 1000), Password())
    _wrong(client, 2, FAIL)
    with refused(TPM_RC_LOCKOUT):
        read(client, Password(b"pin"))
    client.run(DictionaryAttackLockReset(TPM_RH_LOCKOUT), Password())
    read(client, Password(b"pin"))


def test_failures_of_an_unprotected_index_do_not_count(client: Client) -> None:
    written(client, b"pin")
    client.run(DictionaryAttackParameters(TPM_RH_LOCKOUT, 2, 1000, 1000), Password())
    _wrong(client, 5, BAD)
    read(client, Password(b"pin"))


def test_failures_by_hmac_count_too(client: Client) -> None:
    written(client, b"pin", DA_INDEX)
    client.run(DictionaryAttackParameters(TPM_RH_LOCKOUT, 2, 1000, 1000), Password())
    session = client.start_session()
    session.auth = b"wrong"
    for _ in range(2):
        with refused(FAIL):
            client.run(NVRead(INDEX, INDEX, 4, 0), session)
    session.auth = b"pin"
    with refused(TPM_RC_LOCKOUT):
        client.run(NVRead(INDEX, INDEX, 4, 0), session)


def test_a_session_bound_to_a_protected_entity_counts_for_any_other(client: Client) -> None:
    written(client, b"pin", DA_INDEX)
    written(client, b"free", handle=INDEX + 1)
    client.run(DictionaryAttackParameters(TPM_RH_LOCKOUT, 1, 1000, 1000), Password())
    session = client.start_session(bind=INDEX, bind_auth=b"pin")
    session.auth = b"wrong"
    with refused(FAIL):
        client.run(NVRead(INDEX + 1, INDEX + 1, 4, 0), session)
    session.auth = b"free"
    assert rc_of(lambda: client.run(NVRead(INDEX + 1, INDEX + 1, 4, 0), session)) & 0xFFF == TPM_RC_LOCKOUT
    client.run(NVRead(INDEX + 1, INDEX + 1, 4, 0), Password(b"free"))


def test_a_failure_of_lockout_auth_ends_its_use(client: Client) -> None:
    client.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), Password())
    with refused(FAIL):
        client.run(DictionaryAttackLockReset(TPM_RH_LOCKOUT), Password(b"wrong"))
    for auth in (b"lock", b"wrong"):
        with refused(TPM_RC_LOCKOUT):
            client.run(Clear(TPM_RH_LOCKOUT), Password(auth))


def test_failures_of_hierarchies_do_not_count(client: Client) -> None:
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"owner"), Password())
    for _ in range(40):
        with refused(BAD):
            client.run(HierarchyChangeAuth(TPM_RH_OWNER, b""), Password(b"wrong"))
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b""), Password(b"owner"))


def test_a_failure_is_durable() -> None:
    machine = started()
    written(machine.client, b"pin", DA_INDEX)
    _wrong(machine.client, 1, FAIL)
    assert machine.dirty


def _sealed(attributes: int) -> keys.Areas:
    public, sensitive = keys.keyed_hash(0, TPM_ALG_NULL, TPM_ALG_NULL, secret=b"content")
    public.object_attributes = attributes
    return public, TPMT_SENSITIVE(sensitive.sensitive_type, b"pin", sensitive.seed_value, sensitive.sensitive)


@pytest.mark.parametrize(("attributes", "rc"), [
    (TPMA_OBJECT_USERWITHAUTH, FAIL), (TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA, BAD),
    (TPMA_OBJECT_NODA, TPM_RC_AUTH_UNAVAILABLE),
])
def test_objects(client: Client, attributes: int, rc: int) -> None:
    handle = keys.load(client, _sealed(attributes))
    assert rc_of(lambda: client.run(Unseal(handle), Password(b"wrong"))) == rc
    if rc != TPM_RC_AUTH_UNAVAILABLE:
        assert client.run(Unseal(handle), Password(b"pin")).out_data == b"content"


def test_an_object_whose_administration_needs_a_policy(client: Client) -> None:
    parent = keys.create_primary(client, keys.storage_template())
    handle = keys.load(client, _sealed(TPMA_OBJECT_USERWITHAUTH | 0x80))
    with refused(TPM_RC_AUTH_TYPE):
        client.run(ObjectChangeAuth(handle, parent, b""), Password(b"pin"))


def test_a_public_area_authorizes_nothing(client: Client) -> None:
    handle = keys.load(client, keys.keyed_hash(keys.SIGN), public_only=True)
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        client.run(Unseal(handle), Password())
    client.run(ReadPublic(handle))


def test_sequences_have_an_auth_value(client: Client) -> None:
    handle = client.run(HashSequenceStart(b"auth", TPM_ALG_SHA256)).sequence_handle
    client.names[handle] = b""
    with refused(BAD):
        client.run(SequenceUpdate(handle, b"data"), Password(b"wrong"))
    client.run(SequenceUpdate(handle, b"data"), Password(b"auth"))


# PIN indices: the count is of the uses of the authValue.

def _pin_index(client: Client, kind: int, limit: int) -> None:
    attributes = (kind << TPMA_NV_TPM_NT_SHIFT | TPMA_NV_AUTHREAD | TPMA_NV_OWNERWRITE | TPMA_NV_OWNERREAD
                  | TPMA_NV_NO_DA)
    define(client, b"pin", attributes, size=8)
    client.run(NVWrite(TPM_RH_OWNER, INDEX, bytes(4) + limit.to_bytes(4, "big"), 0), Password())
    rename(client, INDEX)


def _count(client: Client) -> int:
    data = client.run(NVRead(TPM_RH_OWNER, INDEX, 8, 0), Password()).data
    return int.from_bytes(data[:4], "big")


def test_pin_fail_counts_failures_in_a_row(client: Client) -> None:
    _pin_index(client, TPM_NT_PIN_FAIL, 3)
    _wrong(client, 2, BAD)
    assert _count(client) == 2
    read(client, Password(b"pin"))
    assert _count(client) == 0
    _wrong(client, 3, BAD)
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        read(client, Password(b"pin"))
    assert _count(client) == 3


def test_pin_pass_counts_successes(client: Client) -> None:
    _pin_index(client, TPM_NT_PIN_PASS, 2)
    _wrong(client, 2, BAD)
    assert _count(client) == 0
    session = client.start_session()
    session.auth = b"pin"
    client.run(NVRead(INDEX, INDEX, 8, 0), session)
    read(client, Password(b"pin"))
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        read(client, Password(b"pin"))
    assert _count(client) == 2


def test_a_pin_index_cannot_be_bound_to(client: Client) -> None:
    _pin_index(client, TPM_NT_PIN_PASS, 2)
    with refused(0x28B):  # TPM_RC_HANDLE, handle 2
        client.start_session(bind=INDEX, bind_auth=b"pin")


# Whatever comes, there is one response, and no session is left in a state that another command cannot use.

_MACHINE: list[tuple[Machine, Recording]] = []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_any_octets_in_the_session_area_get_one_response(octets: bytes) -> None:
    if not _MACHINE:
        machine = started()
        written(machine.client, b"pin")
        machine.client.start_session()
        _MACHINE.append((machine, Recording(machine.client)))
    machine, wire = _MACHINE[0]
    wire.raw(raw(b"\x02\0\0\0" + octets))
    wire.raw(raw(octets))
    assert machine.tpm.sessions.loaded
    assert read(machine.client, Password(b"pin")) == b"\0\1\2\3"
    assert TPM_RH_NULL not in machine.tpm.sessions.saved
