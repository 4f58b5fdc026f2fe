"""Saved contexts and flushing of TPM 1.2 (Part 3, 21, 22, 27.1 and 27.2)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.profile import AUTH_SESSIONS, SESSION_LIST
from hwtpm.tpm12.requests.context import (
    FlushSpecific,
    LoadAuthContext,
    LoadContext,
    LoadKeyContext,
    SaveAuthContext,
    SaveContext,
    SaveKeyContext,
    TerminateHandle,
)
from hwtpm.tpm12.requests.nv import DirWriteAuth
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.codes import (
    TPM_BAD_HANDLE,
    TPM_BAD_PARAMETER,
    TPM_BADCONTEXT,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_RESOURCE,
    TPM_NOCONTEXTSPACE,
    TPM_RESOURCEMISSING,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_KEYHANDLE,
    TPM_ISVOLATILE,
    TPM_KEY_SIGNING,
    TPM_RT_AUTH,
    TPM_RT_CONTEXT,
    TPM_RT_COUNTER,
    TPM_RT_KEY,
    TPM_ST_CLEAR,
    TPM_ST_STATE,
)
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    Machine,
    create_key,
    key_template,
    load_key,
    owned,
    signing_key,
)

LABEL = b"label of sixteen"


@pytest.fixture
def machine() -> Machine:
    return owned()


def restart(machine: Machine) -> None:
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))


def save(machine: Machine, kind: int, handle: int) -> bytes:
    return machine.run(SaveContext(handle, kind, LABEL)).context_blob


def test_a_key_stays_loaded_and_its_blob_outlives_power(machine: Machine) -> None:
    handle = signing_key(machine.client)
    blob = save(machine, TPM_RT_KEY, handle)
    assert handle in machine.tpm.keys.loaded
    with refused(TPM_BAD_HANDLE):
        machine.run(LoadContext(0, 1, blob))
    assert machine.run(LoadContext(0, 0, blob)).handle != handle
    restart(machine)
    assert machine.run(LoadContext(0, 1, blob)).handle == handle
    assert machine.tpm.keys.get(handle).key.usage_auth == KEY_AUTH


def test_a_volatile_key_does_not(machine: Machine) -> None:
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_ISVOLATILE)
    handle = load_key(machine.client, create_key(machine.client, template))
    blob = save(machine, TPM_RT_KEY, handle)
    machine.run(LoadContext(0, 0, blob))
    restart(machine)
    with refused(TPM_BADCONTEXT):
        machine.run(LoadContext(0, 0, blob))


def test_a_volatile_key_outlives_a_resumed_state_only(machine: Machine) -> None:
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS, flags=TPM_ISVOLATILE)
    handle = load_key(machine.client, create_key(machine.client, template))
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    machine.run(Sign(handle, bytes(20)), machine.client.oiap(KEY_AUTH))
    machine.run(SaveState())
    restart(machine)
    assert not machine.tpm.keys.loaded


def test_a_saved_session_is_gone_until_it_is_loaded_once(machine: Machine) -> None:
    session = machine.client.oiap(OWNER_AUTH)
    blob = save(machine, TPM_RT_AUTH, session.handle)
    with refused(TPM_INVALID_AUTHHANDLE):
        machine.tpm.sessions.get(session.handle)
    assert machine.run(LoadContext(0, 1, blob)).handle == session.handle
    machine.run(DirWriteAuth(0, bytes(20)), session)
    with refused(TPM_BADCONTEXT):
        machine.run(LoadContext(0, 0, blob))


def test_a_bound_session_needs_its_entity(machine: Machine) -> None:
    key, other = signing_key(machine.client), signing_key(machine.client)
    session = machine.client.osap(TPM_ET_KEYHANDLE, key, KEY_AUTH)
    blob = save(machine, TPM_RT_AUTH, session.handle)
    with refused(TPM_BAD_HANDLE):
        machine.run(LoadContext(0x123456, 0, blob))
    with refused(TPM_RESOURCEMISSING):
        machine.run(LoadContext(other, 0, blob))
    machine.run(LoadContext(key, 0, blob))


def test_sessions_end_with_power_unless_the_state_was_saved(machine: Machine) -> None:
    blobs = [save(machine, TPM_RT_AUTH, machine.client.oiap(OWNER_AUTH).handle) for _ in range(2)]
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    machine.run(LoadContext(0, 0, blobs[0]))
    restart(machine)
    with refused(TPM_BADCONTEXT):
        machine.run(LoadContext(0, 0, blobs[1]))


def test_any_changed_octet_makes_a_blob_bad(machine: Machine) -> None:
    blob = save(machine, TPM_RT_KEY, signing_key(machine.client))
    for at in (10, 30, 60, len(blob) - 1):
        with refused(TPM_BADCONTEXT):
            machine.run(LoadContext(0, 0, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]))


def test_the_list_of_saved_sessions_is_finite_and_can_be_flushed(machine: Machine) -> None:
    blobs = [save(machine, TPM_RT_AUTH, machine.client.oiap(OWNER_AUTH).handle) for _ in range(SESSION_LIST)]
    with refused(TPM_NOCONTEXTSPACE):
        save(machine, TPM_RT_AUTH, machine.client.oiap(OWNER_AUTH).handle)
    count = int.from_bytes(blobs[0][26:30], "big")
    machine.run(FlushSpecific(count, TPM_RT_CONTEXT))
    with refused(TPM_BADCONTEXT):
        machine.run(LoadContext(0, 0, blobs[0]))
    with refused(TPM_BAD_PARAMETER):
        machine.run(FlushSpecific(count, TPM_RT_CONTEXT))
    save(machine, TPM_RT_AUTH, machine.client.oiap(OWNER_AUTH).handle)
    assert len(machine.tpm.sessions.open) <= AUTH_SESSIONS


def test_flushing_a_key_ends_its_sessions(machine: Machine) -> None:
    key = signing_key(machine.client)
    session = machine.client.osap(TPM_ET_KEYHANDLE, key, KEY_AUTH)
    machine.run(FlushSpecific(key, TPM_RT_KEY))
    assert key not in machine.tpm.keys.loaded
    assert session.handle not in machine.tpm.sessions.open
    for handle, kind, rc in ((key, TPM_RT_KEY, TPM_BAD_PARAMETER), (1, TPM_RT_AUTH, TPM_INVALID_AUTHHANDLE),
                             (1, TPM_RT_COUNTER, TPM_INVALID_RESOURCE)):
        with refused(rc):
            machine.run(FlushSpecific(handle, kind))
    session = machine.client.oiap(KEY_AUTH)
    machine.run(TerminateHandle(session.handle))
    with refused(TPM_INVALID_AUTHHANDLE):
        machine.run(TerminateHandle(session.handle))


def test_only_keys_and_sessions_can_be_saved(machine: Machine) -> None:
    for handle, kind in ((1, TPM_RT_KEY), (1, TPM_RT_AUTH), (0, TPM_RT_COUNTER)):
        with refused(TPM_INVALID_RESOURCE):
            save(machine, kind, handle)


def test_the_old_commands_do_the_same_within_one_start(machine: Machine) -> None:
    key = signing_key(machine.client)
    blob = machine.run(SaveKeyContext(key)).context_blob
    with refused(TPM_INVALID_KEYHANDLE):
        machine.run(SaveKeyContext(key))
    assert machine.run(LoadKeyContext(blob)).handle == key
    session = machine.client.osap(TPM_ET_KEYHANDLE, key, KEY_AUTH)
    saved = machine.run(SaveAuthContext(session.handle)).context_blob
    assert machine.run(LoadAuthContext(saved)).handle == session.handle
    saved = machine.run(SaveAuthContext(session.handle)).context_blob
    machine.run(FlushSpecific(key, TPM_RT_KEY))
    with refused(TPM_RESOURCEMISSING):
        machine.run(LoadAuthContext(saved))
    with refused(TPM_BAD_PARAMETER):
        machine.run(LoadAuthContext(blob))
    restart(machine)
    with refused(TPM_BADCONTEXT):
        machine.run(LoadKeyContext(blob))
