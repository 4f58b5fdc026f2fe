"""Protection against dictionary attacks, over time, restarts and losses of power."""

from __future__ import annotations

import pytest

from hwtpm.client import Client, Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import DA_LOCKOUT_RECOVERY, DA_MAX_TRIES, DA_RECOVERY_TIME
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import Clear, HierarchyChangeAuth, SetPrimaryPolicy
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVRead, NVWrite
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.clock import Clock
from hwtpm.tpm2.state.lockout import Lockout
from hwtpm.tpm2.types.attributes import (
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_NO_DA,
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_CAP_TPM_PROPERTIES,
    TPM_PT_LOCKOUT_COUNTER,
    TPM_RC_AUTH_FAIL,
    TPM_RC_BAD_AUTH,
    TPM_RC_LOCKOUT,
    TPM_RC_RETRY,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from tests.support.tpm2 import Machine, rc_of, refused, started
from tests.support.tpm2_pair import Pair

NONE = Password()
INDEX, FREE = 0x01000001, 0x01000002
S1 = 0x900
FAILED = TPM_RC_AUTH_FAIL | S1


def define(client: Client) -> None:
    """Define INDEX, which is protected, and FREE, which is not; both have the authValue "key"."""
    bits = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE
    for handle, more in ((INDEX, 0), (FREE, TPMA_NV_NO_DA)):
        public = TPMS_NV_PUBLIC(handle, TPM_ALG_SHA256, bits | more, b"", 8)
        client.run(NVDefineSpace(TPM_RH_OWNER, b"key", public), NONE)
        client.run(NVWrite(TPM_RH_OWNER, handle, bytes(8), 0), NONE)


@pytest.fixture
def tpm() -> Machine:
    machine = started()
    define(machine.client)
    return machine


def attempt(tpm: Machine, auth: bytes, handle: int = INDEX) -> int:
    return _code(tpm.client, auth, handle)


def _code(client: Client, auth: bytes, handle: int) -> int:
    return rc_of(lambda: client.run(NVRead(handle, handle, 1, 0), Password(auth)))


def parameters(tpm: Machine, tries: int, recovery: int, lockout_recovery: int, auth: bytes = b"") -> None:
    request = DictionaryAttackParameters(TPM_RH_LOCKOUT, tries, recovery, lockout_recovery)
    tpm.run(request, Password(auth))


def lose_power(tpm: Machine) -> None:
    tpm.power_cycle()
    tpm.run(Startup(TPM_SU_CLEAR))


def lock_out(tpm: Machine) -> None:
    while (code := attempt(tpm, b"bad")) != TPM_RC_LOCKOUT:
        assert code == FAILED


def test_as_many_failures_as_allowed_lock_what_is_protected(tpm: Machine) -> None:
    for _ in range(DA_MAX_TRIES):
        assert attempt(tpm, b"bad") == FAILED
        assert tpm.dirty
    assert attempt(tpm, b"key") == TPM_RC_LOCKOUT
    assert attempt(tpm, b"key", FREE) == 0
    tpm.run(NVRead(TPM_RH_OWNER, INDEX, 1, 0), NONE)


def test_failures_of_unprotected_entities_do_not_count(tpm: Machine) -> None:
    for _ in range(DA_MAX_TRIES + 1):
        assert attempt(tpm, b"bad", FREE) == TPM_RC_BAD_AUTH | S1
        assert not tpm.dirty
    assert attempt(tpm, b"key") == 0


def test_the_reported_counter_knows_what_time_has_healed(tpm: Machine) -> None:
    """Whatever property is asked for first: the counter by itself, too."""
    attempt(tpm, b"bad")
    attempt(tpm, b"bad")
    tpm.clock.advance(1000 * tpm.tpm.lockout.recovery_time)
    asked = GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_LOCKOUT_COUNTER, 1)
    (counter,) = tpm.run(asked).capability_data.data
    assert (counter.property, counter.value) == (TPM_PT_LOCKOUT_COUNTER, 1)
    assert tpm.dirty


def test_success_does_not_forgive(tpm: Machine) -> None:
    attempt(tpm, b"bad")
    attempt(tpm, b"key")
    assert tpm.tpm.lockout.failed_tries == 1


def test_an_hmac_session_fails_and_counts_like_a_password(tpm: Machine) -> None:
    session = tpm.client.start_session()
    session.auth = b"bad"
    with refused(FAILED):
        tpm.run(NVRead(INDEX, INDEX, 1, 0), session)
    assert tpm.tpm.lockout.failed_tries == 1


def test_failures_are_counted_over_losses_of_power(tpm: Machine) -> None:
    for _ in range(DA_MAX_TRIES):
        assert attempt(tpm, b"bad") == FAILED
        lose_power(tpm)
    assert attempt(tpm, b"key") == TPM_RC_LOCKOUT


def test_each_recovery_time_under_power_forgives_one(tpm: Machine) -> None:
    lock_out(tpm)
    tpm.clock.advance(DA_RECOVERY_TIME * 1000 - 1)
    assert attempt(tpm, b"key") == TPM_RC_LOCKOUT
    tpm.clock.advance(1)
    assert attempt(tpm, b"key") == 0
    assert tpm.tpm.lockout.failed_tries == DA_MAX_TRIES - 1
    tpm.clock.advance(DA_RECOVERY_TIME * 1000 * DA_MAX_TRIES * 5)
    assert attempt(tpm, b"key") == 0
    assert tpm.tpm.lockout.failed_tries == 0


def test_time_without_power_does_not_forgive(tpm: Machine) -> None:
    lock_out(tpm)
    tpm.clock.advance(DA_RECOVERY_TIME * 1000 - 1)
    tpm.power_cycle(off_ms=DA_RECOVERY_TIME * 10_000)
    tpm.run(Startup(TPM_SU_CLEAR))
    assert attempt(tpm, b"key") == TPM_RC_LOCKOUT


def test_a_new_failure_begins_the_recovery_time_again(tpm: Machine) -> None:
    attempt(tpm, b"bad")
    tpm.clock.advance(DA_RECOVERY_TIME * 1000 - 1)
    attempt(tpm, b"bad")
    tpm.clock.advance(1)
    attempt(tpm, b"key")
    assert tpm.tpm.lockout.failed_tries == 2


def test_lock_reset_forgives_all(tpm: Machine) -> None:
    lock_out(tpm)
    tpm.run(DictionaryAttackLockReset(TPM_RH_LOCKOUT), NONE)
    assert attempt(tpm, b"key") == 0
    lose_power(tpm)
    assert tpm.tpm.lockout.failed_tries == 0


def test_one_failure_of_lockout_auth_locks_it_for_lockout_recovery(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    with refused(FAILED):
        parameters(tpm, 5, 5, 5, b"bad")
    with refused(TPM_RC_LOCKOUT):
        parameters(tpm, 5, 5, 5, b"lock")
    assert attempt(tpm, b"key") == 0, "others are not locked out"
    lose_power(tpm)
    tpm.clock.advance(DA_LOCKOUT_RECOVERY * 1000 - 1)
    with refused(TPM_RC_LOCKOUT):
        parameters(tpm, 5, 5, 5, b"lock")
    tpm.clock.advance(1)
    parameters(tpm, 5, 5, 5, b"lock")


def test_lockout_recovery_of_zero_takes_a_startup(tpm: Machine) -> None:
    parameters(tpm, 5, 5, 0)
    tpm.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    with refused(FAILED):
        parameters(tpm, 5, 5, 0, b"bad")
    tpm.clock.advance(10**9)
    with refused(TPM_RC_LOCKOUT):
        parameters(tpm, 5, 5, 0, b"lock")
    tpm.run(Shutdown(TPM_SU_CLEAR))
    lose_power(tpm)
    parameters(tpm, 5, 5, 0, b"lock")


def test_lockout_policy_with_lock_reset_ends_the_lockout_of_lockout_auth(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    tpm.run(SetPrimaryPolicy(TPM_RH_LOCKOUT, bytes(32), TPM_ALG_SHA256), Password(b"lock"))
    with refused(FAILED):
        parameters(tpm, 5, 5, 5, b"bad")
    tpm.run(DictionaryAttackLockReset(TPM_RH_LOCKOUT), tpm.client.start_session(TPM_SE_POLICY))
    parameters(tpm, 5, 5, 5, b"lock")


def test_parameters_do_not_change_the_count(tpm: Machine) -> None:
    attempt(tpm, b"bad")
    parameters(tpm, 1, 1000, 1000)
    assert attempt(tpm, b"key") == TPM_RC_LOCKOUT
    parameters(tpm, 2, 1000, 1000)
    assert attempt(tpm, b"key") == 0


def test_no_tries_is_lockout_and_no_recovery_time_is_no_protection(tpm: Machine) -> None:
    parameters(tpm, 0, 1000, 1000)
    assert attempt(tpm, b"key") == TPM_RC_LOCKOUT
    parameters(tpm, 1, 0, 1000)
    for _ in range(5):
        assert attempt(tpm, b"bad") == FAILED
    assert attempt(tpm, b"key") == 0


def test_clear_restores_the_defaults(tpm: Machine) -> None:
    parameters(tpm, 1, 2, 3)
    lock_out(tpm)
    tpm.run(Clear(TPM_RH_PLATFORM), NONE)
    lockout = tpm.tpm.lockout
    assert (lockout.failed_tries, lockout.max_tries) == (0, DA_MAX_TRIES)
    assert (lockout.recovery_time, lockout.lockout_recovery) == (DA_RECOVERY_TIME, DA_LOCKOUT_RECOVERY)


def test_restore_takes_exactly_what_save_gives(tpm: Machine) -> None:
    parameters(tpm, 7, 8, 9)
    attempt(tpm, b"bad")
    again = Lockout(Clock(lambda: 0))
    again.restore(tpm.tpm.lockout.save())
    assert again.save() == tpm.tpm.lockout.save()
    assert again.failed_tries == 1
    with pytest.raises(TpmError):
        again.restore(b"\1")


def test_failures_are_answered_as_by_swtpm(fresh: Pair) -> None:
    for client in (fresh.ours, fresh.theirs):
        define(client)
    # At its first use of a protected authValue swtpm asks for a retry, while it stores that there was one
    # (Part 1, 16.8.6).  We need not: a failure is stored before it is answered.
    assert _code(fresh.theirs, b"key", INDEX) == TPM_RC_RETRY
    fresh.answers(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"))
    for auth in (b"key", b"bad", b"key", b"bad", b"bad", b"bad", b"key"):
        for handle in (FREE, INDEX):
            ours, theirs = fresh.codes(NVRead(handle, handle, 1, 0), Password(auth))
            assert ours == theirs
    requests: tuple[Command[Empty], ...] = (DictionaryAttackLockReset(TPM_RH_LOCKOUT),
                                            DictionaryAttackParameters(TPM_RH_LOCKOUT, 1, 1000, 1000))
    for request in requests:
        for auth in (b"lock", b"lock", b"bad", b"lock"):
            ours, theirs = fresh.codes(request, Password(auth))
            assert ours == theirs
