"""The state of a running TPM 1.2: restored at any point, it goes on as if nothing had been."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import copy
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm import snapshot as frame
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm12.engine import _RUNNING, RUNNING_VERSION, Engine
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.context import LoadContext, SaveContext
from hwtpm.tpm12.requests.delegation import DelegateLoadOwnerDelegation
from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1Start, SHA1Update
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.nv import DirWriteAuth, NVReadValueAuth, NVWriteValueAuth
from hwtpm.tpm12.requests.opt_in import PhysicalSetDeactivated, SetTempDeactivated
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.sessions import SetOwnerPointer
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.testing import GetTestResult
from hwtpm.tpm12.requests.ticks import GetTicks
from hwtpm.tpm12.state.daa import DaaSessions
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.capability import TPM_DA_INFO
from hwtpm.tpm12.types.codes import (
    TPM_AREA_LOCKED,
    TPM_AUTHFAIL,
    TPM_BADCONTEXT,
    TPM_DEACTIVATED,
    TPM_DEFEND_LOCK_RUNNING,
    TPM_FAILEDSELFTEST,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_POSTINIT,
)
from hwtpm.tpm12.types.signed import TPM_SIGN_INFO
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from hwtpm.wire import decode, encode
from tests.support import tpm12_fixtures as fixture
from tests.support.daa import Join, Sign, issuer, verify
from tests.support.machine import ManualClock
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    Machine,
    once,
    owned,
    signing_key,
    started,
    take_ownership,
)
from tests.support.tpm12_keys import pubkey
from tests.support.tpm12_running import AUTH, LiveWalk, Twins, observe

FILES = sorted((Path(__file__).resolve().parents[1] / "vectors").glob("running12-*.json"))
MESSAGE = b"what is measured" * 100


def twins(*, owner: bool = True) -> Twins:
    machine = Twins()
    machine.tpm.flags.set(disable=False, deactivated=False, physical_presence_cmd_enable=True)
    machine.run(Startup(c.TPM_ST_CLEAR))
    if owner:
        take_ownership(machine.client)
    return machine


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), before=st.integers(0, 80), after=st.integers(1, 60))
def test_a_resumed_tpm_cannot_be_told_from_one_that_went_on(seed: int, before: int, after: int) -> None:
    """The twin gives the same octets for every command after a random history; `Twins` compares them."""
    machine = twins()
    walk = LiveWalk(seed, machine)
    walk.go(before)
    machine.part()
    walk.go(after)
    observe(machine)
    machine.assert_equal()


# What a random walk seldom reaches; the twin has to give the same answers here, too.

@pytest.mark.parametrize("when", range(4))
@pytest.mark.parametrize("inside", [False, True])
def test_a_sha_1_thread_goes_on_where_it_was(when: int, *, inside: bool) -> None:
    machine = twins(owner=False)
    client = machine.client
    if inside:
        client = client.establish(TPM_TRANSPORT_PUBLIC(0, 0, c.TPM_ES_NONE), AUTH)
    for number, request in enumerate((SHA1Start(), SHA1Update(MESSAGE[:640]), SHA1Update(MESSAGE[640:1536]))):
        if number == when:
            machine.part()
        client.run(request)
    if when == 3:
        machine.part()
    assert client.run(SHA1Complete(MESSAGE[1536:])).hash_value == sha1(MESSAGE).digest()


@pytest.mark.parametrize("when", range(5))
def test_a_launch_goes_on_where_it_was(when: int) -> None:
    machine = twins(owner=False)
    for number, act in enumerate((Engine.hash_start, lambda e: e.hash_data(MESSAGE[:777]),
                                  lambda e: e.hash_data(MESSAGE[777:]), Engine.hash_end)):
        if number == when:
            machine.part()
        machine.platform(act)
    if when == 4:
        machine.part()
    assert machine.run(PcrRead(17)).out_digest == sha1(bytes(20) + sha1(MESSAGE).digest()).digest()


def test_failure_mode_stays_with_its_reason() -> None:
    machine = twins(owner=False)
    machine.platform(Engine.hash_end)
    machine.part()
    assert machine.run(GetTestResult()).out_data == b"failed: a launch without TPM_HASH_START"
    with refused(TPM_FAILEDSELFTEST):
        machine.run(GetRandom(1))


def test_a_tpm_that_is_not_started_can_be_saved() -> None:
    machine = Twins()
    machine.part()
    with refused(TPM_INVALID_POSTINIT):
        machine.run(GetRandom(1))
    machine.run(Startup(c.TPM_ST_CLEAR))


def test_a_long_lockout_runs_out_when_it_would_have() -> None:
    """Its time in milliseconds needs more than 32 bits."""
    machine = twins()
    for _ in range(30):
        machine.clock.advance(1000 * machine.tpm.lockout.seconds_left)
        with refused(TPM_AUTHFAIL):
            machine.run(DirWriteAuth(0, bytes(20)), machine.client.oiap(bytes(20)))
    session = machine.client.oiap(OWNER_AUTH)
    machine.part()
    told = machine.run(GetCapability(c.TPM_CAP_DA_LOGIC, b"\0\1")).resp
    left = 1000 * (1 << 24)
    assert left > 1 << 32
    assert decode(TPM_DA_INFO, told).action_depend_value == 1 << 24
    machine.clock.advance(left - 1)
    with refused(TPM_DEFEND_LOCK_RUNNING):
        machine.run(DirWriteAuth(0, bytes(20)), session)
    machine.clock.advance(1)
    machine.run(DirWriteAuth(0, bytes(20)), session)


def test_a_context_that_was_saved_before_can_be_loaded_once() -> None:
    machine = twins()
    session = machine.client.oiap(OWNER_AUTH)
    blob = machine.run(SaveContext(session.handle, c.TPM_RT_AUTH, bytes(16))).context_blob
    machine.part()
    machine.run(LoadContext(0, 1, blob))
    machine.run(DirWriteAuth(0, bytes(20)), session)
    with refused(TPM_BADCONTEXT):
        machine.run(LoadContext(0, 1, blob))


def test_an_exclusive_transport_session_stays_exclusive() -> None:
    machine = twins(owner=False)
    inside = machine.client.establish(
        TPM_TRANSPORT_PUBLIC(c.TPM_TRANSPORT_EXCLUSIVE, 0, c.TPM_ES_NONE), AUTH)
    machine.part()
    inside.run(PcrRead(16))
    machine.run(PcrRead(16))
    with refused(TPM_INVALID_AUTHHANDLE):
        inside.run(PcrRead(16))


def test_the_log_of_a_transport_session_goes_on() -> None:
    machine = twins()
    client = machine.client
    signer = signing_key(client)
    modulus = pubkey(client, signer).pub_key
    inside = client.establish(TPM_TRANSPORT_PUBLIC(c.TPM_TRANSPORT_LOG, 0, c.TPM_ES_NONE), AUTH)
    inside.run(Extend(16, bytes(20)))
    machine.clock.advance(50)
    machine.part()
    inside.run(Extend(16, bytes(20)))
    released = inside.release(signer, bytes(20), once(client.oiap(KEY_AUTH)))
    info = TPM_SIGN_INFO(b"TRAN", bytes(20), inside.log)
    RsaPublic(modulus).verify_pkcs1(ids.SHA1, sha1(encode(info)).digest(), released.signature)


@pytest.mark.parametrize("stage", [8, 15])
def test_a_daa_join_and_a_signature_go_on(stage: int) -> None:
    machine = twins()
    endorsement = machine.tpm.permanent.endorsement_key
    host = Join(machine.client, issuer(1), endorsement.pubkey)
    host.to(stage)
    machine.part()
    signer = Sign(machine.client, issuer(1), host.finish(), bytes(20))
    signer.to(stage)
    machine.part()
    verify(issuer(1), signer.finish())


def test_delegated_sessions_and_the_owner_pointer_stay() -> None:
    machine = twins()
    client = machine.client
    blob = fixture.delegation(client)
    machine.run(DelegateLoadOwnerDelegation(0, blob), once(client.oiap(OWNER_AUTH)))
    session = client.dsap(c.TPM_ET_DEL_OWNER_BLOB, blob, AUTH)
    machine.run(SetOwnerPointer(c.TPM_ET_DEL_ROW, 0))
    machine.part()
    machine.run(DirWriteAuth(0, bytes(20)), session)
    machine.run(DirWriteAuth(0, bytes(20)), once(client.oiap(AUTH)))
    with refused(TPM_AUTHFAIL):
        machine.run(DirWriteAuth(0, bytes(20)), client.oiap(OWNER_AUTH))


def test_volatile_locks_and_flags_stay() -> None:
    machine = twins()
    client = machine.client
    fixture.define_area(client)
    machine.run(NVWriteValueAuth(fixture.INDEX, 0, b""), once(client.oiap(AUTH)))
    machine.run(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_PRESENT))
    machine.part()
    with refused(TPM_AREA_LOCKED):
        machine.run(NVWriteValueAuth(fixture.INDEX, 0, b"x"), client.oiap(AUTH))
    machine.run(NVReadValueAuth(fixture.INDEX, 0, 1), once(client.oiap(AUTH)))
    machine.run(PhysicalSetDeactivated(0))  # Somebody is still there.
    machine.run(SetTempDeactivated())
    machine.part()
    with refused(TPM_DEACTIVATED):
        machine.run(PcrRead(0))


@pytest.mark.parametrize("used", [False, True])
def test_what_was_saved_counts_until_the_next_command(*, used: bool) -> None:
    machine = twins(owner=False)
    machine.run(SaveState())
    machine.part()
    if used:
        machine.run(PcrRead(0))
    machine.power_cycle()
    if used:
        with refused(TPM_FAILEDSELFTEST):
            machine.run(Startup(c.TPM_ST_STATE))
    else:
        machine.run(Startup(c.TPM_ST_STATE))


# The state itself.

def test_the_time_between_saving_and_resuming_does_not_count() -> None:
    machine = started()
    machine.clock.advance(1234)
    before = machine.run(GetTicks()).current_time
    running, snapshot = machine.engine.snapshot_running(), machine.engine.snapshot()
    clock = ManualClock()
    clock.ms = 5
    machine.engine = Engine(machine.entropy, clock, snapshot, running=running)
    assert machine.run(GetTicks()).current_time == before
    clock.advance(10)
    assert machine.run(GetTicks()).current_time.current_ticks == before.current_ticks + 10


def test_a_state_that_is_resumed_twice_gives_two_streams_of_random_octets() -> None:
    machine = started()
    running, snapshot = machine.engine.snapshot_running(), machine.engine.snapshot()
    one, two = (Machine(seed, snapshot, running).run(GetRandom(32)).random_bytes for seed in (b"1", b"2"))
    assert one != two


class Saved(NamedTuple):
    """Permanent and running state of a TPM with something of everything, and who uses it."""

    snapshot: bytes
    running: bytes
    known: fixture.Known
    join: Join

    @property
    def sections(self) -> dict[bytes, bytes]:
        return frame.unpack_running(*_RUNNING, "TPM", self.running, self.snapshot)


@cache
def saved() -> Saved:
    machine, known = fixture.make(8)
    machine.clock.advance(1000 * machine.tpm.lockout.seconds_left)
    machine.run(SetOwnerPointer(c.TPM_ET_OWNER, 0))
    join = Join(machine.client, issuer(1), machine.tpm.permanent.endorsement_key.pubkey)
    join.to(8)
    running = machine.engine.snapshot_running()
    return Saved(machine.engine.snapshot(), running, known, join)


def packed(sections: dict[bytes, bytes], snapshot: bytes) -> bytes:
    return frame.pack_running(*_RUNNING, sections, snapshot)


def resume(snapshot: bytes, running: bytes) -> Machine:
    return Machine(b"resumed", snapshot, running)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 1 << 20), change=st.binary(max_size=3), size=st.integers(0, 40))
def test_damage_is_refused(at: int, change: bytes, size: int) -> None:
    snapshot, running, *_ = saved()
    at %= len(running)
    damaged = running[:at] + change + running[at + size :]
    if damaged != running:
        with pytest.raises(StateError):
            resume(snapshot, damaged)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_no_section_of_any_content_does_more_than_be_refused(data: st.DataObject) -> None:
    """The digest over it is right; what is accepted makes a TPM that answers commands and can be saved."""
    snapshot, _, known, join = saved()
    sections = saved().sections
    tag = data.draw(st.sampled_from(sorted(sections)))
    changed = bytearray(sections[tag])
    if changed and data.draw(st.booleans()):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    sections[tag] = bytes(changed)
    try:
        machine = resume(snapshot, packed(sections, snapshot))
    except StateError:
        return
    observe(machine)
    host = copy(join)
    host.client, host.given = machine.client, dict(join.given)
    for use in (lambda: host.to(12), lambda: fixture.ask(machine, known)):
        with suppress(TpmError, ProtocolError):
            use()
    machine.engine.snapshot_running()


def test_a_state_of_other_sections_or_another_version_is_refused() -> None:
    snapshot, sections = saved().snapshot, saved().sections
    for tag, section in sections.items():
        fewer = {name: octets for name, octets in sections.items() if name != tag}
        if tag == DaaSessions.TAG:  # a state from before there was DAA
            assert resume(snapshot, packed(fewer, snapshot)).tpm.daa.open == {}
        else:
            with pytest.raises(StateError, match="other sections"):
                resume(snapshot, packed(fewer, snapshot))
        if section:
            with pytest.raises(StateError, match="damaged"):
                resume(snapshot, packed({**sections, tag: b"\x09" + section[1:]}, snapshot))
    with pytest.raises(StateError, match="other sections"):
        resume(snapshot, packed({**sections, b"more": b""}, snapshot))
    with pytest.raises(StateError, match="version 99"):
        resume(snapshot, frame.pack_running(_RUNNING[0], 99, sections, snapshot))


def test_a_state_of_another_permanent_state_is_refused() -> None:
    """PCR values of one time must not come back at another."""
    snapshot, running, *_ = saved()
    for other in (owned(b"another").durable, started(b"another").durable):
        with pytest.raises(StateError, match="not of this permanent state"):
            resume(other, running)
    with pytest.raises(StateError, match=r"not the state of a running TPM 1\.2"):
        resume(snapshot, snapshot)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_stored_state_is_read(path: Path) -> None:
    stored = json.loads(path.read_text())
    machine = resume(bytes.fromhex(stored["snapshot"]), bytes.fromhex(stored["running"]))
    known = decode(fixture.Known, bytes.fromhex(stored["known"]))
    assert fixture.finish(machine) + fixture.ask(machine, known) == stored["answers"]


def test_there_is_a_file_of_today() -> None:
    """A change of the format needs a new version, with a file of its own (tests/support)."""
    versions = [json.loads(path.read_text())["version"] for path in FILES]
    assert versions == list(range(1, RUNNING_VERSION + 1))
