"""Spaces as their users see them: in front of our TPM, and of swtpm, which has three places of each kind."""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Iterator

import pytest

from cusetpm.rm.space import OBJECTS, RESMGR, SESSIONS
from cusetpm.transport import NotExecuted
from hwtpm.client import Password, Session
from hwtpm.errors import ProtocolError
from hwtpm.tpm2.profile import CONTEXT_GAP_MAX, MAX_ACTIVE_SESSIONS
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, EvictControl, FlushContext
from hwtpm.tpm2.requests.hierarchy import Clear
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.policy import PolicyAuthValue, PolicyGetDigest
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import (
    EventSequenceComplete,
    HashSequenceStart,
    HMACStart,
    SequenceComplete,
    SequenceUpdate,
)
from hwtpm.tpm2.requests.session import PolicyRestart
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.symmetric import HMAC
from hwtpm.tpm2.state import objects as state_objects
from hwtpm.tpm2.state import sessions as state_sessions
from hwtpm.tpm2.types.attributes import TPMA_SESSION_AUDIT, TPMA_SESSION_CONTINUESESSION
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_CAP_HANDLES,
    TPM_RC_AUTH_CONTEXT,
    TPM_RC_CANCELED,
    TPM_RC_COMMAND_CODE,
    TPM_RC_COMMAND_SIZE,
    TPM_RC_CONTEXT_GAP,
    TPM_RC_HANDLE,
    TPM_RC_INITIALIZE,
    TPM_RC_INSUFFICIENT,
    TPM_RC_OBJECT_MEMORY,
    TPM_RC_REFERENCE_H0,
    TPM_RC_REFERENCE_S0,
    TPM_RC_SESSION_HANDLES,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_NULL, TPM_RH_OWNER, TRANSIENT_FIRST
from tests.support.managed import Managed, User
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import Machine, make_engine, refused, started
from tests.support.tpm2_keys import create_primary, keyed_hash, load, storage_template

FIRST = 0x80FFFFFF
PLACES = 3
SIGN = 0x40000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Our TPM with as few places as hardware has."""
    monkeypatch.setattr(state_objects, "MAX_LOADED_OBJECTS", PLACES)
    monkeypatch.setattr(state_sessions, "MAX_LOADED_SESSIONS", PLACES)
    return started()


@pytest.fixture
def ours(machine: Machine) -> Managed:
    return Managed(machine.execute)


@pytest.fixture(params=["ours", "swtpm"])
def tpm(request: pytest.FixtureRequest) -> Iterator[Managed]:
    if request.param == "ours":
        yield request.getfixturevalue("ours")
    else:
        with Swtpm() as other:
            yield Managed(other.execute)


@contextlib.contextmanager
def not_executed(code: int, response_code: int) -> Iterator[None]:
    with pytest.raises(NotExecuted) as caught:
        yield
    assert caught.value.errno == code
    assert caught.value.response_code == RESMGR | response_code


def key(user: User, number: int) -> int:
    """Load the HMAC key *number*; return its handle."""
    return load(user, keyed_hash(SIGN, secret=b"key %d" % number))


def mac(user: User, handle: int) -> bytes:
    return user.run(HMAC(handle, b"message", TPM_ALG_NULL), Password()).out_hmac


def expected(number: int) -> bytes:
    import hmac

    return hmac.digest(b"key %d" % number, b"message", "sha256")


def policy(user: User) -> Session:
    return user.start_session(TPM_SE_POLICY)


def usable(user: User, session: Session) -> bool:
    """Use the policy *session*; False if the TPM does not know it as loaded."""
    with contextlib.suppress(Exception):
        user.run(PolicyRestart(session.handle))
        return True
    return False


# Objects.


def test_objects_are_named_from_80ffffff_downwards_by_the_first_free_name(tpm: Managed) -> None:
    user = tpm.open()
    assert [key(user, i) for i in range(3)] == [FIRST, FIRST - 1, FIRST - 2]
    user.run(FlushContext(FIRST - 1))
    assert key(user, 3) == FIRST - 1
    assert [mac(user, FIRST - i) for i in range(3)] == [expected(i) for i in (0, 3, 2)]


def test_one_space_has_more_objects_than_the_tpm_has_places(tpm: Managed) -> None:
    user = tpm.open()
    handles = [key(user, i) for i in range(20)]
    for i, handle in [*enumerate(handles), *reversed(list(enumerate(handles)))]:
        assert mac(user, handle) == expected(i)


def test_spaces_have_the_same_names_for_objects_of_their_own(tpm: Managed) -> None:
    users = [tpm.open() for _ in range(4)]
    for round_ in range(2):
        for i, user in enumerate(users):
            assert key(user, 10 * i + round_) == FIRST - round_
    for round_ in range(2):
        for i, user in enumerate(users):
            assert mac(user, FIRST - round_) == expected(10 * i + round_)


def test_an_object_that_is_not_of_the_space_is_invalid(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    key(other, 1)
    key(tpm.raw, 2)
    for handle in (FIRST, FIRST - 1, TRANSIENT_FIRST):
        with not_executed(errno.EINVAL, TPM_RC_REFERENCE_H0):
            user.run(ReadPublic(handle))
    mine = key(user, 3)
    with not_executed(errno.EINVAL, TPM_RC_REFERENCE_H0 + 1):
        user.run(EvictControl(TPM_RH_OWNER, FIRST - 1, 0x81000000), Password())
    assert mac(user, mine) == expected(3)


def test_a_loaded_context_gets_a_name_of_its_own(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    context = user.run(ContextSave(key(user, 1))).context
    assert user.run(ContextLoad(context)).loaded_handle == FIRST - 1
    assert other.run(ContextLoad(context)).loaded_handle == FIRST
    for i in range(2, 6):
        key(user, i)
    assert mac(user, FIRST - 1) == mac(other, FIRST) == expected(1)


def test_sequences_go_on_whatever_takes_their_place_meanwhile(tpm: Managed) -> None:
    users = [tpm.open(), tpm.open(), tpm.raw]
    parts = [bytes([i]) * 100 for i in range(5)]
    running = [user.run(HashSequenceStart(b"", TPM_ALG_SHA256)).sequence_handle for user in users]
    for part in parts:
        for number, (user, handle) in enumerate(zip(users, running, strict=True)):
            user.run(SequenceUpdate(handle, part + bytes([number])), Password())
        for user in users[:2]:
            for i in range(PLACES):
                user.run(FlushContext(key(user, i)))
    for number, (user, handle) in enumerate(zip(users, running, strict=True)):
        done = user.run(SequenceComplete(handle, b"", TPM_RH_NULL), Password())
        assert done.result == hashlib.sha256(b"".join(part + bytes([number]) for part in parts)).digest()
        assert user.list("objects") == []


def test_a_completed_event_sequence_gives_its_name_back(tpm: Managed) -> None:
    user = tpm.open()
    handle = user.run(HashSequenceStart(b"", TPM_ALG_NULL)).sequence_handle
    kept = key(user, 1)
    user.run(EventSequenceComplete(16, handle, b"event"), Password(), Password())
    assert user.list("objects") == [kept]


def test_a_command_needs_the_places_of_idle_objects_too(tpm: Managed) -> None:
    """HMAC_Start takes a place for the sequence beside the key's."""
    user = tpm.open()
    handles = [key(user, i) for i in range(PLACES)]
    starts = [HMACStart(handle, b"", TPM_ALG_NULL) for handle in handles]
    for i, handle in enumerate([user.run(start, Password()).sequence_handle for start in starts]):
        done = user.run(SequenceComplete(handle, b"message", TPM_RH_NULL), Password())
        assert done.result == expected(i)


# Sessions.


def test_sessions_of_many_spaces_survive_each_other(tpm: Managed) -> None:
    users = [tpm.open() for _ in range(4)]
    sessions = [(user, policy(user)) for user in users for _ in range(SESSIONS)]
    for user, session in sessions:
        user.run(PolicyAuthValue(session.handle))
    digests = {user.run(PolicyGetDigest(session.handle)).policy_digest for user, session in sessions}
    assert len(digests) == 1
    assert digests != {bytes(32)}


def test_an_hmac_session_keeps_its_nonces_while_it_is_saved(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    handle = key(user, 1)
    session = user.start_session(bind=handle)
    session.attributes = TPMA_SESSION_CONTINUESESSION
    for _ in range(3):
        assert user.run(HMAC(handle, b"message", TPM_ALG_NULL), session).out_hmac == expected(1)
        for _ in range(SESSIONS):
            other.run(FlushContext(policy(other).handle))
        tpm.raw.run(GetRandom(8))


def test_a_session_that_was_not_to_continue_is_none(tpm: Managed) -> None:
    user = tpm.open()
    handle = key(user, 1)
    session = user.start_session()
    session.attributes = 0
    user.run(HMAC(handle, b"message", TPM_ALG_NULL), session)
    assert user.list("loaded") == []
    assert len([user.start_session() for _ in range(SESSIONS)]) == SESSIONS


def test_a_session_of_somebody_else_is_not_loaded_for_this_space(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    handle = key(user, 1)
    for owner in (other, tpm.raw):
        foreign = owner.start_session()
        with refused(TPM_RC_REFERENCE_S0):
            user.run(HMAC(handle, b"message", TPM_ALG_NULL), foreign)
        asserting = policy(owner)
        with refused(TPM_RC_REFERENCE_H0):
            user.run(PolicyRestart(asserting.handle))
        with refused(TPM_RC_HANDLE + 0x140):
            user.run(FlushContext(asserting.handle))
        assert usable(owner, asserting)
        owner.run(FlushContext(foreign.handle))


def test_a_saved_session_outlives_its_space_and_belongs_to_whoever_loads_it(tpm: Managed) -> None:
    user = tpm.open()
    session = policy(user)
    user.run(PolicyAuthValue(session.handle))
    context = user.run(ContextSave(session.handle)).context
    assert not usable(user, session)
    user.close()
    other = tpm.open()
    assert other.list("saved") == [session.handle & 0xFFFFFF | 0x02000000]
    assert other.run(ContextLoad(context)).loaded_handle == session.handle
    assert other.list("saved") == []
    assert other.run(PolicyGetDigest(session.handle)).policy_digest != bytes(32)
    other.close()
    assert tpm.raw.list("loaded") == tpm.raw.list("saved") == []


def test_a_session_that_nobody_holds_can_be_flushed_by_all(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    session = policy(user)
    user.run(ContextSave(session.handle))
    other.run(FlushContext(session.handle))
    assert other.list("saved") == []
    with refused(TPM_RC_HANDLE + 0x140):
        other.run(FlushContext(session.handle))


def test_sessions_that_nobody_holds_make_way_for_new_ones(
        tpm: Managed, caplog: pytest.LogCaptureFixture) -> None:
    """A program that starts and saves sessions again and again takes none from others."""
    for _ in range(MAX_ACTIVE_SESSIONS + 10):
        greedy = tpm.open()
        greedy.run(ContextSave(policy(greedy).handle))
        greedy.close()
    user = tpm.open()
    assert all(usable(user, policy(user)) for _ in range(SESSIONS))
    (told,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert told.endswith("makes way: a program saved it and never loaded it again")


@pytest.mark.parametrize("saved_by", ["manager", "client"])
def test_a_session_survives_the_gap_of_context_numbers(
    machine: Machine, ours: Managed, saved_by: str
) -> None:
    """The oldest saved session is saved anew before the TPM has no numbers left (Part 1, 27.5)."""
    user, other = ours.open(), ours.open()
    session = policy(user)
    user.run(PolicyAuthValue(session.handle))
    digest = user.run(PolicyGetDigest(session.handle)).policy_digest
    context = None
    if saved_by == "client":
        context = user.run(ContextSave(session.handle)).context
    else:
        ours.raw.run(GetRandom(1))

    def save_many() -> None:
        """Be where so many contexts have been saved that the oldest one's number is the last."""
        state = machine.tpm.sessions
        state.next_session = min(state.saved.values()) + CONTEXT_GAP_MAX + 1

    for _ in range(3):
        save_many()
        active = [policy(other)]
        assert ours.raw.list("loaded") == []  # It could be saved.
        save_many()
        active += [policy(other) for _ in range(PLACES - 1)]  # The last place is for the oldest.
        assert all(usable(other, found) for found in active)
        for found in active:
            other.run(FlushContext(found.handle))
    if context is not None:
        assert user.run(ContextLoad(context)).loaded_handle == session.handle
    assert user.run(PolicyGetDigest(session.handle)).policy_digest == digest


def test_a_session_that_cannot_be_saved_is_not_lent_to_others(machine: Machine, ours: Managed) -> None:
    """The raw user's saved session is too old, and only he could save it anew."""
    user, other = ours.open(), ours.open()
    ours.raw.run(ContextSave(policy(ours.raw).handle))
    session = policy(user)
    user.run(PolicyAuthValue(session.handle))
    digest = user.run(PolicyGetDigest(session.handle)).policy_digest
    machine.tpm.sessions.next_session += CONTEXT_GAP_MAX + 1
    with refused(TPM_RC_CONTEXT_GAP):
        other.run(PolicyRestart(session.handle))
    raw = policy(ours.raw)
    with refused(TPM_RC_CONTEXT_GAP):
        other.run(PolicyRestart(raw.handle))
    assert ours.raw.list("loaded") == [session.handle, raw.handle]
    assert user.run(PolicyGetDigest(session.handle)).policy_digest == digest
    assert usable(ours.raw, raw)


def test_a_command_that_needs_more_places_than_there_are_has_no_memory(
    ours: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_objects, "MAX_LOADED_OBJECTS", 1)
    user = ours.open()
    handles = [key(user, i) for i in range(2)]
    with refused(TPM_RC_OBJECT_MEMORY):
        user.run(HMACStart(handles[0], b"", TPM_ALG_NULL), Password())
    assert [mac(user, handle) for handle in handles] == [expected(0), expected(1)]


# Quotas.


def test_a_space_has_room_for_many_objects_and_refuses_one_more(ours: Managed) -> None:
    greedy, user = ours.open(), ours.open()
    context = user.run(ContextSave(key(user, 1))).context
    for _ in range(OBJECTS):
        greedy.run(ContextLoad(context))
    for attempt in (lambda: key(greedy, 2), lambda: greedy.run(ContextLoad(context))):
        with not_executed(errno.ENOMEM, TPM_RC_OBJECT_MEMORY):
            attempt()
    assert mac(greedy, FIRST - OBJECTS + 1) == expected(1)
    assert mac(user, key(user, 3)) == expected(3)


def test_a_space_has_room_for_many_sequences_and_refuses_one_more(ours: Managed) -> None:
    """What is saved of a sequence is in its context, so any number can wait outside the TPM."""
    greedy, user = ours.open(), ours.open()
    start = HashSequenceStart(b"", TPM_ALG_SHA256)
    context = greedy.run(ContextSave(greedy.run(start).sequence_handle)).context
    for _ in range(OBJECTS - 1):
        greedy.run(start)
    for request in (start, ContextLoad(context)):
        with not_executed(errno.ENOMEM, TPM_RC_OBJECT_MEMORY):
            greedy.run(request)
    user.run(start)
    done = greedy.run(SequenceComplete(FIRST, b"message", TPM_RH_NULL), Password())
    assert done.result == hashlib.sha256(b"message").digest()


def test_a_space_has_more_sessions_than_the_first_ones_only_while_half_are_free(ours: Managed) -> None:
    greedy, user = ours.open(), ours.open()
    with not_executed(errno.ENOMEM, TPM_RC_SESSION_HANDLES):
        for _ in range(MAX_ACTIVE_SESSIONS):
            policy(greedy)
    assert len(greedy.list("loaded")) == MAX_ACTIVE_SESSIONS // 2 + 1
    assert [usable(user, policy(user)) for _ in range(SESSIONS)] == [True] * SESSIONS
    with not_executed(errno.ENOMEM, TPM_RC_SESSION_HANDLES):
        policy(user)


# What a space is told.


def test_a_list_of_handles_is_that_of_the_space(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    for i in range(5):
        key(user, i)
    key(other, 9)
    key(tpm.raw, 8)
    session = policy(user)
    other.start_session()
    assert user.list("objects") == [FIRST - i for i in reversed(range(5))]
    assert other.list("objects") == [FIRST]
    assert tpm.raw.list("objects") == [TRANSIENT_FIRST]
    assert user.list("loaded") == [session.handle]
    assert user.list("saved") == tpm.open().list("saved") == []
    asked = user.run(GetCapability(TPM_CAP_HANDLES, FIRST - 3, 2))
    assert asked.more_data == 1
    assert asked.capability_data.data == [FIRST - 3, FIRST - 2]
    assert user.run(GetCapability(TPM_CAP_HANDLES, TRANSIENT_FIRST, 0)).capability_data.data == []


def test_a_list_that_would_have_to_be_authentic_is_refused(tpm: Managed) -> None:
    user = tpm.open()
    audit = user.start_session()
    audit.attributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT
    with not_executed(errno.EFAULT, TPM_RC_AUTH_CONTEXT):
        user.run(GetCapability(TPM_CAP_HANDLES, TRANSIENT_FIRST, 8), audit)
    user.run(GetCapability(TPM_CAP_HANDLES, 0x40000000, 8), audit)


def test_an_unknown_command_is_answered_by_the_resource_manager(tpm: Managed) -> None:
    space = tpm.manager.open()
    answer = space.execute(bytes.fromhex("80010000000a00001fff"))
    assert answer == bytes.fromhex("80010000000a") + (RESMGR | TPM_RC_COMMAND_CODE).to_bytes(4, "big")
    with not_executed(errno.EINVAL, TPM_RC_COMMAND_SIZE):
        space.execute(bytes.fromhex("800100000006"))


def test_a_command_cut_short_is_the_tpm_s_to_refuse(tpm: Managed) -> None:
    space = tpm.manager.open()
    answer = space.execute(bytes.fromhex("80010000000c000001738000"))
    assert int.from_bytes(answer[6:10], "big") == TPM_RC_INSUFFICIENT + 0x100


# Beside the user of /dev/tpmN.


def test_the_raw_user_finds_its_objects_at_their_handles(tpm: Managed) -> None:
    user = tpm.open()
    handles = [key(tpm.raw, i) for i in range(PLACES)]
    assert handles == [TRANSIENT_FIRST + i for i in range(PLACES)]
    tpm.raw.run(FlushContext(handles[1]))
    for _ in range(2):
        for i in range(10, 15):
            key(user, i)
        # Key and sequence need two places, and only one is free.
        running = user.run(HMACStart(FIRST, b"", TPM_ALG_NULL), Password()).sequence_handle
        user.run(FlushContext(running))
        assert tpm.raw.list("objects") == [handles[0], handles[2]]
        assert [mac(tpm.raw, h) for h in (handles[0], handles[2])] == [expected(0), expected(2)]
    tpm.raw.run(FlushContext(handles[0]))
    key(user, 20)
    assert mac(tpm.raw, handles[2]) == expected(2)
    assert key(tpm.raw, 4) == handles[0]
    assert [mac(user, FIRST - i) for i in range(10)] == [expected(10 + i % 5) for i in range(10)]


def test_the_raw_user_finds_its_sessions_loaded(tpm: Managed) -> None:
    user = tpm.open()
    sessions = [policy(tpm.raw) for _ in range(PLACES)]
    for session in sessions:
        tpm.raw.run(PolicyAuthValue(session.handle))
    own = [policy(user) for _ in range(SESSIONS)]
    assert sorted(tpm.raw.list("loaded")) == sorted(session.handle for session in sessions)
    for session in sessions:
        assert tpm.raw.run(PolicyGetDigest(session.handle)).policy_digest != bytes(32)
    assert all(usable(user, session) for session in own)


def test_what_the_raw_user_flushes_behind_the_manager_s_back_is_gone(tpm: Managed) -> None:
    user = tpm.open()
    session = policy(user)
    tpm.raw.run(FlushContext(session.handle))
    mine = policy(tpm.raw)
    assert mine.handle == session.handle
    assert not usable(user, session)
    user.close()
    assert usable(tpm.raw, mine)


# The end of things.


def test_everything_is_flushed_on_close(tpm: Managed) -> None:
    user = tpm.open()
    for i in range(5):
        key(user, i)
    for _ in range(2):
        policy(user)
    user.run(HashSequenceStart(b"", TPM_ALG_SHA256))
    user.close()
    user.close()
    assert [tpm.raw.list(kind) for kind in ("objects", "loaded", "saved")] == [[], [], []]
    with refused(TPM_RC_CANCELED):
        user.run(GetRandom(8))


def test_a_space_that_is_closed_during_a_command_is_flushed_after_it(ours: Managed, machine: Machine) -> None:
    user = ours.open()
    handle = key(user, 1)
    policy(user)
    ours.wire.meanwhile = user.close
    mac(user, handle)
    assert not machine.tpm.objects.transient
    assert not machine.tpm.sessions.loaded


def test_a_clear_takes_the_objects_of_its_hierarchy_out_of_every_space(tpm: Managed) -> None:
    user, other = tpm.open(), tpm.open()
    gone = create_primary(user, storage_template())
    kept = key(user, 1)
    raw_gone, raw_kept = create_primary(tpm.raw, storage_template()), key(tpm.raw, 2)
    for handle in (gone, kept):
        user.run(ReadPublic(handle))
    other.run(Clear(TPM_RH_LOCKOUT), Password())
    assert key(other, 3) == FIRST  # Wherever the TPM puts it, it is not what has been flushed.
    assert user.list("objects") == [kept]
    with not_executed(errno.EINVAL, TPM_RC_REFERENCE_H0):
        user.run(ReadPublic(gone))
    assert mac(user, kept) == expected(1)
    assert tpm.raw.list("objects") == [raw_kept]
    with refused(TPM_RC_REFERENCE_H0):
        tpm.raw.run(ReadPublic(raw_gone))
    create_primary(user, storage_template())
    tpm.raw.run(Clear(TPM_RH_LOCKOUT), Password())
    assert user.list("objects") == [kept]


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("orderly", [False, True])
def test_a_reset_leaves_in_a_space_what_the_tpm_would_still_load(
    machine: Machine, orderly: bool, told: bool
) -> None:
    """Contexts survive a TPM Resume and die with a TPM Reset; what was not saved is gone either way.

    The manager sees the Startup, or is *told* of the power and somebody else sends the Startup.
    """
    tpm = Managed(machine.execute)
    user = tpm.open()
    handles = [key(user, i) for i in range(PLACES + 1)]
    session = policy(user)
    if orderly:
        tpm.raw.run(Shutdown(TPM_SU_STATE))
    last = key(user, 9)
    machine.power_cycle()
    with refused(TPM_RC_INITIALIZE):
        mac(user, handles[0])
    startup = Startup(TPM_SU_STATE if orderly else TPM_SU_CLEAR)
    if told:
        tpm.manager.lose()
        machine.client.run(startup)
        key(tpm.open(), 8)  # It gets a place that the manager might believe to be that of `last`.
    else:
        user.run(startup)
    with not_executed(errno.EINVAL, TPM_RC_REFERENCE_H0):
        mac(user, last)
    assert user.list("objects") == (handles[::-1] if orderly else [])
    assert usable(user, session) == orderly
    assert mac(user, key(user, 7)) == expected(7)
    assert user.list("loaded") == ([session.handle] if orderly else [])
    if not orderly:
        # Its handle is free for everybody.
        saved = policy(tpm.raw)
        tpm.raw.run(ContextSave(saved.handle))
        assert saved.handle == session.handle
        assert user.list("saved") == [0x02000000]


def test_before_startup_the_tpm_answers_itself() -> None:
    tpm = Managed(make_engine().execute)
    user = tpm.open()
    with refused(TPM_RC_INITIALIZE):
        user.run(PCRRead([]))
    user.run(Startup(TPM_SU_CLEAR))
    assert key(user, 1) == FIRST


def test_a_command_that_was_cancelled_before_its_turn_does_not_run(ours: Managed) -> None:
    space = ours.manager.open()
    answer = space.execute(bytes.fromhex("80010000000c0000017b0008"), 0, lambda: True)
    assert int.from_bytes(answer[6:10], "big") == TPM_RC_CANCELED
    assert ours.wire.commands == []


def test_a_space_can_be_closed_when_the_tpm_has_gone(ours: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(command: bytes) -> bytes:
        raise ProtocolError("the back end has gone")

    user, other = ours.open(), ours.open()
    key(user, 1)
    with monkeypatch.context() as patch:
        patch.setattr(ours.wire, "_execute", gone)
        user.close()
    assert mac(other, key(other, 2)) == expected(2)


def test_a_command_takes_long_while_it_has_to_wait(ours: Managed) -> None:
    space = ours.manager.open()
    found: list[bool] = []
    ours.wire.meanwhile = lambda: found.append(space.takes_long(b""))
    space.execute(bytes.fromhex("80010000000c0000017b0008"))
    assert found == [True]
    assert not space.takes_long(b"")


# Speed.


def test_nothing_is_swapped_while_there_is_room() -> None:
    tpm = Managed(started().execute)
    users = [tpm.open(), tpm.open()]
    handles = [(user, key(user, i), policy(user)) for i, user in enumerate(users)]
    tpm.wire.commands.clear()
    for _ in range(3):
        for user, handle, session in handles:
            mac(user, handle)
            user.run(PolicyGetDigest(session.handle))
    assert len(tpm.wire.commands) == 3 * len(handles) * 2


def test_an_object_that_was_saved_before_is_only_flushed(ours: Managed) -> None:
    user = ours.open()
    handles = [key(user, i) for i in range(PLACES + 1)]
    for handle in handles:
        mac(user, handle)
    ours.wire.commands.clear()
    for handle in handles:
        mac(user, handle)
    assert 0x162 not in ours.wire.commands  # TPM_CC_ContextSave
