"""NV Indices: what their attributes promise, over restarts and losses of power."""

from __future__ import annotations

import hashlib
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.client import Password
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.profile import MAX_ORDERLY_COUNT, NV_INDEX_SPACE
from hwtpm.tpm2.requests.nv import (
    NVChangeAuth,
    NVDefineSpace,
    NVExtend,
    NVGlobalWriteLock,
    NVIncrement,
    NVRead,
    NVReadLock,
    NVReadPublic,
    NVSetBits,
    NVUndefineSpace,
    NVUndefineSpaceSpecial,
    NVWrite,
    NVWriteLock,
)
from hwtpm.tpm2.requests.policy import PolicyCommandCode
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.nv import NvMemory
from hwtpm.tpm2.types.attributes import (
    TPM_NT_BITS,
    TPM_NT_COUNTER,
    TPM_NT_EXTEND,
    TPM_NT_PIN_FAIL,
    TPM_NT_PIN_PASS,
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_CLEAR_STCLEAR,
    TPMA_NV_GLOBALLOCK,
    TPMA_NV_NO_DA,
    TPMA_NV_ORDERLY,
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_PLATFORMCREATE,
    TPMA_NV_POLICY_DELETE,
    TPMA_NV_READ_STCLEAR,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_NV_WRITE_STCLEAR,
    TPMA_NV_WRITEDEFINE,
    TPMA_NV_WRITELOCKED,
    TPMA_NV_WRITTEN,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_RC_AUTH_TYPE,
    TPM_RC_AUTH_UNAVAILABLE,
    TPM_RC_BAD_AUTH,
    TPM_RC_HANDLE,
    TPM_RC_NV_DEFINED,
    TPM_RC_NV_LOCKED,
    TPM_RC_NV_SPACE,
    TPM_RC_NV_UNINITIALIZED,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    TPM_CC_NV_ChangeAuth,
    TPM_CC_NV_UndefineSpaceSpecial,
)
from hwtpm.tpm2.types.handles import TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.wire import encode
from tests.support.tpm2 import Machine, make_engine, rc_of, refused, started

INDEX = 0x01500001
NONE = Password()
OPEN = TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE
BY_AUTH = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE
H1, S1 = 0x100, 0x800 | 0x100


def kind(value: int) -> int:
    return value << TPMA_NV_TPM_NT_SHIFT


def define(tpm: Machine, attributes: int = OPEN, size: int = 8, handle: int = INDEX, *, auth: bytes = b"",
           policy: bytes = b"", authority: int = TPM_RH_OWNER) -> None:
    public = TPMS_NV_PUBLIC(handle, TPM_ALG_SHA256, attributes, policy, size)
    tpm.run(NVDefineSpace(authority, auth, public), NONE)


def write(tpm: Machine, data: bytes, offset: int = 0, handle: int = INDEX) -> None:
    tpm.run(NVWrite(TPM_RH_OWNER, handle, data, offset), NONE)


def read(tpm: Machine, size: int = 8, offset: int = 0, handle: int = INDEX) -> bytes:
    return tpm.run(NVRead(TPM_RH_OWNER, handle, size, offset), NONE).data


def increment(tpm: Machine, times: int = 1, handle: int = INDEX) -> None:
    for _ in range(times):
        tpm.run(NVIncrement(TPM_RH_OWNER, handle), NONE)


def count(tpm: Machine) -> int:
    return int.from_bytes(read(tpm), "big")


def stored(tpm: Machine) -> bool:
    """Tell whether the last command changed permanent state."""
    return tpm.dirty


def attributes(tpm: Machine) -> int:
    return tpm.run(NVReadPublic(INDEX)).nv_public.attributes


def restart(tpm: Machine, shutdown: int | None = TPM_SU_CLEAR, startup: int = TPM_SU_CLEAR) -> None:
    """Go through a power cycle; without *shutdown* it is a loss of power."""
    if shutdown is not None:
        tpm.run(Shutdown(shutdown))
    tpm.power_cycle()
    tpm.run(Startup(startup))


@pytest.fixture
def tpm() -> Machine:
    return started()


def test_a_partial_first_write_leaves_zeros_and_survives_a_loss_of_power(tpm: Machine) -> None:
    define(tpm)
    with refused(TPM_RC_NV_UNINITIALIZED):
        read(tpm, 0)
    write(tpm, b"\x55", 2)
    assert stored(tpm)
    restart(tpm, None)
    assert read(tpm) == b"\0\0\x55\0\0\0\0\0"
    write(tpm, b"abc", 5)
    assert read(tpm, 4, 4) == b"\0abc"


def test_writing_what_is_there_needs_no_save_but_the_first_write_does(tpm: Machine) -> None:
    define(tpm)
    write(tpm, b"")
    assert stored(tpm)
    assert attributes(tpm) & TPMA_NV_WRITTEN
    write(tpm, bytes(8))
    assert not stored(tpm)
    write(tpm, b"1")
    assert stored(tpm)


def test_the_name_follows_the_public_area(tpm: Machine) -> None:
    define(tpm)
    before = tpm.run(NVReadPublic(INDEX))
    write(tpm, b"1")
    after = tpm.run(NVReadPublic(INDEX))
    assert after.nv_public.attributes == OPEN | TPMA_NV_WRITTEN
    for response in (before, after):
        expected = b"\0\x0b" + hashlib.sha256(encode(response.nv_public)).digest()
        assert response.nv_name == expected
    assert before.nv_name != after.nv_name


def test_an_index_is_defined_once(tpm: Machine) -> None:
    define(tpm)
    with refused(TPM_RC_NV_DEFINED):
        define(tpm)
    tpm.run(NVUndefineSpace(TPM_RH_OWNER, INDEX), NONE)
    assert stored(tpm)
    with refused(TPM_RC_HANDLE | H1):
        tpm.run(NVReadPublic(INDEX))
    define(tpm)
    with refused(TPM_RC_NV_UNINITIALIZED):
        read(tpm)


def test_space_ends_and_undefining_gives_it_back(tpm: Machine) -> None:
    handles: list[int] = []
    while True:
        handle = INDEX + len(handles)
        code = rc_of(lambda handle=handle: define(tpm, size=2048, handle=handle))  # type: ignore[misc]
        if code:
            break
        handles.append(handle)
    assert code == TPM_RC_NV_SPACE
    assert len(handles) == NV_INDEX_SPACE // (2048 + 22)
    tpm.run(NVUndefineSpace(TPM_RH_OWNER, handles[0]), NONE)
    define(tpm, size=2048, handle=handles[0])


def test_ram_for_hybrid_indices_ends(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_ORDERLY, 2048)
    with refused(TPM_RC_NV_SPACE):
        define(tpm, OPEN | TPMA_NV_ORDERLY, 2048, INDEX + 1)
    define(tpm, OPEN, 2048, INDEX + 1)


def test_a_counter_never_repeats_a_count_of_a_deleted_one(tpm: Machine) -> None:
    define(tpm, OPEN | kind(TPM_NT_COUNTER))
    increment(tpm, 5)
    assert count(tpm) == 5
    tpm.run(NVUndefineSpace(TPM_RH_OWNER, INDEX), NONE)
    restart(tpm, None)
    define(tpm, OPEN | kind(TPM_NT_COUNTER))
    with refused(TPM_RC_NV_UNINITIALIZED):
        count(tpm)
    increment(tpm)
    assert count(tpm) == 6


def test_a_hybrid_counter_goes_on_after_an_orderly_restart(tpm: Machine) -> None:
    define(tpm, OPEN | kind(TPM_NT_COUNTER) | TPMA_NV_ORDERLY)
    increment(tpm, 3)
    restart(tpm, TPM_SU_CLEAR)
    assert count(tpm) == 3
    increment(tpm)
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    assert count(tpm) == 4


def test_a_hybrid_counter_is_stored_at_first_and_at_roll_over_only(tpm: Machine) -> None:
    define(tpm, OPEN | kind(TPM_NT_COUNTER) | TPMA_NV_ORDERLY)
    increment(tpm)
    assert stored(tpm)
    increment(tpm)
    assert not stored(tpm)
    increment(tpm, MAX_ORDERLY_COUNT - 2)
    assert not stored(tpm)
    increment(tpm)
    assert stored(tpm)
    assert count(tpm) == MAX_ORDERLY_COUNT + 1


@pytest.mark.parametrize("times", [1, 7, MAX_ORDERLY_COUNT, MAX_ORDERLY_COUNT + 1, MAX_ORDERLY_COUNT + 2])
def test_a_hybrid_counter_is_not_lower_after_a_loss_of_power(tpm: Machine, times: int) -> None:
    define(tpm, OPEN | kind(TPM_NT_COUNTER) | TPMA_NV_ORDERLY)
    increment(tpm, times)
    restart(tpm, None)
    expected = times | MAX_ORDERLY_COUNT
    assert count(tpm) == expected
    restart(tpm, None)
    assert count(tpm) == expected
    increment(tpm)
    assert count(tpm) == expected + 1


def test_incrementing_after_shutdown_makes_the_shutdown_void(tpm: Machine) -> None:
    define(tpm, OPEN | kind(TPM_NT_COUNTER) | TPMA_NV_ORDERLY)
    increment(tpm, 2)
    tpm.run(Shutdown(TPM_SU_CLEAR))
    increment(tpm, 2)
    tpm.power_cycle()
    tpm.run(Startup(TPM_SU_CLEAR))
    assert count(tpm) == MAX_ORDERLY_COUNT


def test_a_hybrid_ordinary_index_lasts_as_long_as_shutdown_state_keeps_it(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_ORDERLY)
    write(tpm, b"12345678")
    assert not stored(tpm)
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    assert read(tpm) == b"12345678"
    restart(tpm, TPM_SU_STATE, TPM_SU_CLEAR)
    assert read(tpm) == b"12345678"
    restart(tpm, TPM_SU_CLEAR)
    with refused(TPM_RC_NV_UNINITIALIZED):
        read(tpm)


def test_clear_stclear_forgets_at_restart_but_not_at_resume(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_CLEAR_STCLEAR)
    write(tpm, b"12345678")
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    assert read(tpm) == b"12345678"
    restart(tpm, TPM_SU_STATE, TPM_SU_CLEAR)
    with refused(TPM_RC_NV_UNINITIALIZED):
        read(tpm)
    write(tpm, b"1")
    assert read(tpm) == b"1" + bytes(7), "what it held before is gone"


def test_extend_begins_with_zeros(tpm: Machine) -> None:
    define(tpm, OPEN | kind(TPM_NT_EXTEND), 32)
    expected = bytes(32)
    for data in (b"one", b"", b"two"):
        tpm.run(NVExtend(TPM_RH_OWNER, INDEX, data), NONE)
        expected = hashlib.sha256(expected + data).digest()
    assert read(tpm, 32) == expected


def test_bits_add_up_and_unchanged_bits_need_no_save(tpm: Machine) -> None:
    define(tpm, OPEN | kind(TPM_NT_BITS))
    tpm.run(NVSetBits(TPM_RH_OWNER, INDEX, 0), NONE)
    assert stored(tpm)
    assert count(tpm) == 0
    tpm.run(NVSetBits(TPM_RH_OWNER, INDEX, 0x8000000000000001), NONE)
    tpm.run(NVSetBits(TPM_RH_OWNER, INDEX, 2), NONE)
    assert count(tpm) == 0x8000000000000003
    tpm.run(NVSetBits(TPM_RH_OWNER, INDEX, 2), NONE)
    assert not stored(tpm)


def test_a_write_lock_lasts_until_restart_or_for_ever(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_WRITE_STCLEAR)
    define(tpm, OPEN | TPMA_NV_WRITEDEFINE, handle=INDEX + 1)
    define(tpm, OPEN | TPMA_NV_WRITEDEFINE, handle=INDEX + 2)
    write(tpm, b"1")
    write(tpm, b"1", handle=INDEX + 1)
    for handle in (INDEX, INDEX + 1, INDEX + 2):
        tpm.run(NVWriteLock(TPM_RH_OWNER, handle), NONE)
        with refused(TPM_RC_NV_LOCKED):
            write(tpm, b"2", handle=handle)
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    with refused(TPM_RC_NV_LOCKED):
        write(tpm, b"2")
    restart(tpm, None)
    write(tpm, b"2")
    with refused(TPM_RC_NV_LOCKED):
        write(tpm, b"2", handle=INDEX + 1)
    write(tpm, b"2", handle=INDEX + 2)  # It was not written when it was locked, so a restart unlocks it.


def test_the_global_lock_locks_what_asks_for_it(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_GLOBALLOCK)
    define(tpm, OPEN, handle=INDEX + 1)
    tpm.run(NVGlobalWriteLock(TPM_RH_PLATFORM), NONE)
    with refused(TPM_RC_NV_LOCKED):
        write(tpm, b"1")
    write(tpm, b"1", handle=INDEX + 1)
    assert attributes(tpm) & TPMA_NV_WRITELOCKED


def test_a_read_lock_lasts_until_restart(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_READ_STCLEAR)
    write(tpm, b"1")
    tpm.run(NVReadLock(TPM_RH_OWNER, INDEX), NONE)
    with refused(TPM_RC_NV_LOCKED):
        read(tpm)
    restart(tpm)
    assert read(tpm, 1) == b"1"


def test_the_auth_value_opens_what_the_attributes_say(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_AUTHREAD | TPMA_NV_NO_DA, auth=b"key\0")
    write(tpm, b"12345678")
    assert tpm.run(NVRead(INDEX, INDEX, 8, 0), Password(b"key")).data == b"12345678"
    with refused(TPM_RC_BAD_AUTH | S1):
        tpm.run(NVRead(INDEX, INDEX, 8, 0), Password(b"kez"))
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        tpm.run(NVWrite(INDEX, INDEX, b"1", 0), Password(b"key"))


def test_an_hmac_session_reads_and_writes_with_the_new_name(tpm: Machine) -> None:
    define(tpm, BY_AUTH | TPMA_NV_NO_DA, auth=b"key")
    tpm.client.names[INDEX] = tpm.run(NVReadPublic(INDEX)).nv_name
    session = tpm.client.start_session()
    session.auth = b"key"
    tpm.run(NVWrite(INDEX, INDEX, b"12345678", 0), session)
    tpm.client.names[INDEX] = tpm.run(NVReadPublic(INDEX)).nv_name
    assert tpm.run(NVRead(INDEX, INDEX, 8, 0), session).data == b"12345678"


def _policy(code: int) -> bytes:
    return hashlib.sha256(bytes(32) + 0x16C.to_bytes(4, "big") + code.to_bytes(4, "big")).digest()


def test_change_auth_takes_a_policy(tpm: Machine) -> None:
    define(tpm, OPEN | BY_AUTH | TPMA_NV_NO_DA, auth=b"key", policy=_policy(TPM_CC_NV_ChangeAuth))
    with refused(TPM_RC_AUTH_TYPE):
        tpm.run(NVChangeAuth(INDEX, b"new"), Password(b"key"))
    session = tpm.client.start_session(TPM_SE_POLICY)
    tpm.run(PolicyCommandCode(session.handle, TPM_CC_NV_ChangeAuth))
    tpm.run(NVChangeAuth(INDEX, b"new"), session)
    restart(tpm, None)
    tpm.run(NVWrite(INDEX, INDEX, b"1", 0), Password(b"new"))
    with refused(TPM_RC_BAD_AUTH | S1):
        tpm.run(NVWrite(INDEX, INDEX, b"1", 0), Password(b"key"))


def test_policy_delete_takes_its_policy_and_the_platform(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_POLICY_DELETE | TPMA_NV_PLATFORMCREATE, authority=TPM_RH_PLATFORM,
           policy=_policy(TPM_CC_NV_UndefineSpaceSpecial))
    assert rc_of(lambda: tpm.run(NVUndefineSpace(TPM_RH_PLATFORM, INDEX), NONE))
    session = tpm.client.start_session(TPM_SE_POLICY)
    tpm.run(PolicyCommandCode(session.handle, TPM_CC_NV_UndefineSpaceSpecial))
    tpm.run(NVUndefineSpaceSpecial(INDEX, TPM_RH_PLATFORM), session, NONE)
    with refused(TPM_RC_HANDLE | H1):
        tpm.run(NVReadPublic(INDEX))


def test_a_pin_that_fails_too_often_is_closed_and_success_resets_it(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_AUTHREAD | TPMA_NV_NO_DA | kind(TPM_NT_PIN_FAIL), auth=b"1234")
    write(tpm, b"\0\0\0\0\0\0\0\2")

    def enter(pin: bytes) -> int:
        return rc_of(lambda: tpm.run(NVRead(INDEX, INDEX, 8, 0), Password(pin)))

    assert enter(b"0000") == TPM_RC_BAD_AUTH | S1
    assert stored(tpm)
    assert enter(b"1234") == 0
    assert enter(b"0000") == enter(b"0000") == TPM_RC_BAD_AUTH | S1
    restart(tpm, None)
    assert enter(b"1234") == TPM_RC_AUTH_UNAVAILABLE
    write(tpm, b"\0\0\0\0")
    assert enter(b"1234") == 0


def test_a_pin_pass_counts_its_uses(tpm: Machine) -> None:
    define(tpm, OPEN | TPMA_NV_AUTHREAD | TPMA_NV_NO_DA | kind(TPM_NT_PIN_PASS), auth=b"1234")
    write(tpm, b"\0\0\0\0\0\0\0\2")
    for _ in range(2):
        tpm.run(NVRead(INDEX, INDEX, 8, 0), Password(b"1234"))
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        tpm.run(NVRead(INDEX, INDEX, 8, 0), Password(b"1234"))
    assert read(tpm) == b"\0\0\0\2\0\0\0\2"


def test_restore_takes_exactly_what_save_gives(tpm: Machine) -> None:
    define(tpm, auth=b"key")
    define(tpm, OPEN | TPMA_NV_ORDERLY | kind(TPM_NT_COUNTER), handle=INDEX + 1)
    define(tpm, OPEN | TPMA_NV_ORDERLY, handle=INDEX + 2)
    write(tpm, b"12345678")
    increment(tpm, 300, INDEX + 1)
    write(tpm, b"12345678", handle=INDEX + 2)
    saved = tpm.tpm.nv.save()
    again = NvMemory()
    again.restore(saved)
    assert again.save() == saved
    assert again.handles() == [INDEX, INDEX + 1, INDEX + 2]
    assert again.get(INDEX).auth_value == b"key"
    assert again.get(INDEX + 1).count == 256
    for damaged in (b"", saved[:8], b"\2" + saved[1:], saved[:-1], saved + b"\0", saved + saved[9:]):
        with pytest.raises((ValueError, TpmError)):
            NvMemory().restore(damaged)


@given(st.binary(max_size=120))
def test_any_octets_are_a_state_or_refused(octets: bytes) -> None:
    nv = NvMemory()
    try:
        nv.restore(b"\1" + octets)
    except (ValueError, TpmError):
        assert nv.handles() == []
    else:
        assert nv.save() == b"\1" + octets


def test_a_rollback_undoes_permanent_state_and_keeps_hybrid_data(tpm: Machine) -> None:
    define(tpm)
    define(tpm, OPEN | TPMA_NV_ORDERLY, handle=INDEX + 1)
    write(tpm, b"12345678", handle=INDEX + 1)
    before = tpm.engine.snapshot()
    write(tpm, b"87654321")
    tpm.engine.rollback(before)
    with refused(TPM_RC_NV_UNINITIALIZED):
        read(tpm)
    assert read(tpm, handle=INDEX + 1) == b"12345678"


def test_damaged_state_is_refused() -> None:
    machine = make_engine()
    define_after = Machine(b"other")
    define_after.run(Startup(TPM_SU_CLEAR))
    define(define_after)
    snapshot = define_after.engine.snapshot()
    with pytest.raises(StateError):
        Engine(machine.entropy, machine.clock, snapshot[:-3])


def test_saving_one_small_change_among_a_hundred_indices_is_cheap(tpm: Machine) -> None:
    for i in range(100):
        define(tpm, size=64, handle=INDEX + i)
        write(tpm, bytes([i]), handle=INDEX + i)
    nv = tpm.tpm.nv
    nv.save()
    index = nv.get(INDEX + 50)
    best = 1.0
    for i in range(200):
        nv.write(index, i.to_bytes(8, "big"))
        begin = perf_counter()
        nv.save()
        best = min(best, perf_counter() - begin)
    assert best < 50e-6, f"{best * 1e6:.1f} us"
