"""Saved contexts of objects, sequences and sessions (Part 1, 27; Part 3, 28)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.client import Client, Password, Session
from hwtpm.crypto.hashes import digest
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import CONTEXT_GAP_MAX, MAX_LOADED_SESSIONS
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, FlushContext
from hwtpm.tpm2.requests.hierarchy import Clear, CreatePrimary, HierarchyControl
from hwtpm.tpm2.requests.nv import NVRead
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.policy import PolicyAuthValue, PolicyGetDigest
from hwtpm.tpm2.requests.sequence import HashSequenceStart, SequenceComplete, SequenceUpdate
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_STCLEAR,
    TPMA_SESSION_CONTINUESESSION,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_RC_AUTH_CONTEXT,
    TPM_RC_CONTEXT_GAP,
    TPM_RC_HANDLE,
    TPM_RC_HIERARCHY,
    TPM_RC_INTEGRITY,
    TPM_RC_REFERENCE_H0,
    TPM_RC_REFERENCE_S0,
    TPM_RC_SESSION_MEMORY,
    TPM_RC_SIZE,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.context import TPMS_CONTEXT
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.wire import decode, encode
from tests.support import tpm2_keys as keys
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_either import INDEX, written

INTEGRITY, SIZE = TPM_RC_INTEGRITY | 0x140, TPM_RC_SIZE | 0x140
HANDLE = TPM_RC_HANDLE | 0x140
KEEP = TPMA_SESSION_CONTINUESESSION


def save(client: Client, handle: int) -> TPMS_CONTEXT:
    return client.run(ContextSave(handle)).context


def load(client: Client, context: TPMS_CONTEXT) -> int:
    return client.run(ContextLoad(context)).loaded_handle


def usable(client: Client, session: Session) -> None:
    session.auth, session.attributes = b"pin", KEEP
    assert len(client.run(NVRead(INDEX, INDEX, 16, 0), session).data) == 16


def st_clear(template: TPMT_PUBLIC) -> TPMT_PUBLIC:
    template.object_attributes |= TPMA_OBJECT_STCLEAR
    return template


def test_an_object_stays_loaded_and_can_be_loaded_again_and_again(client: Client) -> None:
    handle = keys.create_primary(client, keys.storage_template())
    public = client.run(ReadPublic(handle))
    context = save(client, handle)
    assert (context.saved_handle, context.hierarchy) == (0x80000000, TPM_RH_OWNER)
    copies = [load(client, context) for _ in range(2)]
    for copy in copies:
        assert copy != handle
        assert client.run(ReadPublic(copy)) == public
    for each in (handle, *copies):
        client.run(FlushContext(each))
    with refused(TPM_RC_REFERENCE_H0):
        client.run(ReadPublic(handle))
    assert load(client, context) == handle


@pytest.mark.parametrize("public_only", [False, True])
def test_an_external_object(client: Client, *, public_only: bool) -> None:
    handle = keys.load(client, keys.elliptic(keys.SIGN), public_only=public_only)
    context = save(client, handle)
    assert context.hierarchy == TPM_RH_NULL
    copy = load(client, context)
    assert client.run(ReadPublic(copy)) == client.run(ReadPublic(handle))


def test_the_numbers_of_object_contexts_ascend(client: Client) -> None:
    handle = keys.load(client, keys.keyed_hash(keys.SIGN))
    first, second = save(client, handle), save(client, handle)
    assert first.sequence < second.sequence
    assert first.context_blob != second.context_blob
    assert load(client, first) != load(client, second)


def test_a_sequence_goes_on_from_where_it_was_saved(client: Client) -> None:
    handle = client.run(HashSequenceStart(b"auth", TPM_ALG_SHA256)).sequence_handle
    client.run(SequenceUpdate(handle, b"one"), Password(b"auth"))
    context = save(client, handle)
    assert (context.saved_handle, context.hierarchy) == (0x80000001, TPM_RH_NULL)
    client.run(SequenceUpdate(handle, b"two"), Password(b"auth"))
    client.run(FlushContext(handle))
    copy = load(client, context)
    done = client.run(SequenceComplete(copy, b"three", TPM_RH_NULL), Password(b"auth"))
    assert done.result == digest(TPM_ALG_SHA256, b"onethree")


def test_a_saved_session_is_loaded_once(client: Client) -> None:
    written(client, b"pin")
    session = client.start_session(bind=INDEX, bind_auth=b"pin")
    session.bound = True
    context = save(client, session.handle)
    assert (context.saved_handle, context.hierarchy) == (session.handle, TPM_RH_NULL)
    with refused(TPM_RC_REFERENCE_S0):
        usable(client, session)
    with refused(TPM_RC_REFERENCE_H0):
        save(client, session.handle)
    assert load(client, context) == session.handle
    usable(client, session)
    with refused(HANDLE):
        load(client, context)
    again = save(client, session.handle)
    with refused(HANDLE):
        load(client, context)
    assert load(client, again) == session.handle


def test_a_policy_session_keeps_what_was_asserted(client: Client) -> None:
    session = client.start_session(TPM_SE_POLICY)
    client.run(PolicyAuthValue(session.handle))
    before = client.run(PolicyGetDigest(session.handle)).policy_digest
    load(client, save(client, session.handle))
    assert client.run(PolicyGetDigest(session.handle)).policy_digest == before != bytes(32)


def test_a_flushed_session_cannot_be_loaded(client: Client) -> None:
    session = client.start_session()
    context = save(client, session.handle)
    client.run(FlushContext(session.handle))
    with refused(HANDLE):
        load(client, context)
    with refused(HANDLE):
        client.run(FlushContext(session.handle))
    other = client.start_session()
    assert other.handle == session.handle, "the handle is free again"
    with refused(HANDLE):
        load(client, context)


def test_flushing_a_session_ignores_the_kind_of_its_handle(client: Client) -> None:
    hmac, policy = client.start_session(), client.start_session(TPM_SE_POLICY)
    client.run(FlushContext(hmac.handle | 0x01000000))
    client.run(FlushContext(policy.handle & ~0x01000000))
    for handle in (hmac.handle, policy.handle, 0x80000000):
        with refused(HANDLE):
            client.run(FlushContext(handle))


def test_flush_context_takes_no_sessions(client: Client) -> None:
    with refused(TPM_RC_AUTH_CONTEXT):
        client.run(FlushContext(0x80000000), client.start_session())


def _changes(context: TPMS_CONTEXT) -> dict[str, TPMS_CONTEXT]:
    blob = context.context_blob
    changed = {
        "sequence": TPMS_CONTEXT(context.sequence + 1, context.saved_handle, context.hierarchy, blob),
        "hierarchy": TPMS_CONTEXT(context.sequence, context.saved_handle, TPM_RH_ENDORSEMENT, blob),
        "encrypted": TPMS_CONTEXT(context.sequence, context.saved_handle, context.hierarchy,
                                  blob[:-1] + bytes([blob[-1] ^ 1])),
        "integrity": TPMS_CONTEXT(context.sequence, context.saved_handle, context.hierarchy,
                                  blob[:2] + bytes([blob[2] ^ 1]) + blob[3:]),
        "cut": TPMS_CONTEXT(context.sequence, context.saved_handle, context.hierarchy, blob[:-1]),
        "longer": TPMS_CONTEXT(context.sequence, context.saved_handle, context.hierarchy, blob + b"\0"),
    }
    for handle in (0x80000000, 0x80000001, 0x80000002, 0x02000000, 0x03000000, 0x02000001):
        if handle != context.saved_handle:
            changed[f"{handle:x}"] = TPMS_CONTEXT(context.sequence, handle, context.hierarchy, blob)
    return changed


@pytest.mark.parametrize("kind", ["object", "session"])
def test_a_changed_context_is_refused(client: Client, kind: str) -> None:
    if kind == "object":
        handle = keys.create_primary(client, keys.storage_template())
    else:
        handle = client.start_session().handle
    context = save(client, handle)
    for name, changed in _changes(context).items():
        with pytest.raises(TpmError) as caught:
            load(client, changed)
        assert caught.value.rc == INTEGRITY, name
    load(client, context)


@pytest.mark.parametrize("blob", [b"", b"\0", b"\0\0", b"\0\x40", b"\0\x20" + bytes(32) + bytes(20)])
def test_a_context_without_a_proper_integrity_value(blob: bytes) -> None:
    with refused(SIZE):
        load(started().client, TPMS_CONTEXT(1, 0x80000000, TPM_RH_NULL, blob))


_MACHINE: list[Machine] = []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3), st.sampled_from([0x80000000, 0x80000001, 0x80000002, 0x02000000, 0x03000000]),
       st.binary(max_size=200))
def test_no_octets_are_taken_for_a_context(sequence: int, handle: int, blob: bytes) -> None:
    if not _MACHINE:
        _MACHINE.append(started())
    with pytest.raises(TpmError):
        load(_MACHINE[0].client, TPMS_CONTEXT(sequence, handle, TPM_RH_NULL, blob))


def test_contexts_of_a_disabled_hierarchy(client: Client) -> None:
    context = save(client, keys.create_primary(client, keys.storage_template()))
    client.run(HierarchyControl(TPM_RH_OWNER, TPM_RH_OWNER, 0), Password())
    with refused(TPM_RC_HIERARCHY | 0x140):
        load(client, context)
    client.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_OWNER, 1), Password())
    load(client, context)


def test_clear_voids_the_contexts_of_its_hierarchies_only(client: Client) -> None:
    owner = save(client, keys.create_primary(client, keys.storage_template()))
    endorsement = save(client, keys.create_primary(client, keys.storage_template(), TPM_RH_ENDORSEMENT))
    external = save(client, keys.load(client, keys.keyed_hash(keys.SIGN)))
    session = save(client, client.start_session().handle)
    client.run(Clear(TPM_RH_LOCKOUT), Password())
    for context in (owner, endorsement):
        with refused(INTEGRITY):
            load(client, context)
    for context in (external, session):
        load(client, context)


def _cycle(machine: Machine, shutdown: int | None, start: int) -> None:
    if shutdown is not None:
        machine.run(Shutdown(shutdown))
    machine.power_cycle()
    machine.run(Startup(start))


@pytest.mark.parametrize(("shutdown", "start", "objects", "cleared"), [
    (TPM_SU_STATE, TPM_SU_STATE, True, True),  # TPM Resume
    (TPM_SU_STATE, TPM_SU_CLEAR, True, False),  # TPM Restart
    (TPM_SU_CLEAR, TPM_SU_CLEAR, False, False),  # TPM Reset
    (None, TPM_SU_CLEAR, False, False),
])
def test_which_contexts_survive_a_power_cycle(shutdown: int | None, start: int, *, objects: bool,
                                              cleared: bool) -> None:
    machine = started()
    client = machine.client
    written(client, b"pin")
    ordinary = save(client, keys.create_primary(client, keys.storage_template()))
    volatile = save(client, keys.create_primary(client, st_clear(keys.storage_template())))
    assert volatile.saved_handle == 0x80000002
    kept = client.start_session()
    gone = client.start_session()
    session = save(client, kept.handle)
    _cycle(machine, shutdown, start)
    for context, survives in ((ordinary, objects), (volatile, cleared), (session, objects)):
        if survives:
            load(client, context)
        else:
            with refused(INTEGRITY):
                load(client, context)
    if objects:
        usable(client, kept)
    with refused(TPM_RC_REFERENCE_S0):
        usable(client, gone)


def test_a_session_saved_after_shutdown_is_not_restored() -> None:
    machine = started()
    session = machine.client.start_session()
    machine.run(Shutdown(TPM_SU_STATE))
    context = save(machine.client, session.handle)
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    with refused(INTEGRITY):
        load(machine.client, context)


def test_a_context_belongs_to_one_tpm() -> None:
    one, other = started(b"one"), started(b"other")
    context = save(one.client, keys.create_primary(one.client, keys.storage_template()))
    with refused(INTEGRITY):
        load(other.client, context)


def test_the_gap_between_saved_sessions_is_bounded() -> None:
    machine = started()
    client, sessions = machine.client, machine.tpm.sessions
    oldest = save(client, client.start_session().handle)
    recent = save(client, client.start_session().handle)
    sessions.next_session = oldest.sequence + CONTEXT_GAP_MAX  # as after so many more contexts
    last = client.start_session()
    save(client, last.handle)
    other = client.start_session()
    with refused(TPM_RC_CONTEXT_GAP):
        save(client, other.handle)
    loaded = [client.start_session() for _ in range(MAX_LOADED_SESSIONS - len(sessions.loaded) - 1)]
    assert loaded
    with refused(TPM_RC_CONTEXT_GAP):
        client.start_session()
    with refused(TPM_RC_CONTEXT_GAP):
        load(client, recent)
    load(client, oldest)  # The last place is for the oldest session.
    with refused(TPM_RC_SESSION_MEMORY):
        load(client, recent)
    save(client, other.handle)


def test_a_context_fits_into_a_command_whatever_the_object() -> None:
    client = started().client
    handle = keys.load(client, keys.rsa(keys.DECRYPT, bits=2048))
    context = save(client, handle)
    assert decode(TPMS_CONTEXT, encode(context)) == context
    assert len(encode(context)) < 4000


def test_a_temporary_object_is_in_the_null_hierarchy(client: Client) -> None:
    template = keys.storage_template()
    assert template.object_attributes & TPMA_OBJECT_FIXEDTPM
    request = CreatePrimary(TPM_RH_NULL, TPMS_SENSITIVE_CREATE(b"", b""), template, b"", [])
    context = save(client, client.run(request, Password()).object_handle)
    assert (context.saved_handle, context.hierarchy) == (0x80000000, TPM_RH_NULL)
