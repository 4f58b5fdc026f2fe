"""Management of TPM 1.2 (Part 3, 9)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.profile import LOCKOUT_THRESHOLD
from hwtpm.tpm12.requests.management import ResetLockValue
from hwtpm.tpm12.requests.opt_in import OwnerSetDisable
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL, TPM_BAD_ORDINAL, TPM_DEFEND_LOCK_RUNNING, TPM_NOSRK
from hwtpm.tpm12.types.constants import TPM_ST_STATE
from hwtpm.tpm12.types.ordinals import TPM_ORD_FieldUpgrade, TPM_ORD_SetRedirection
from tests.support.tpm2 import refused
from tests.support.tpm12 import OWNER_AUTH, Machine, owned, started

WRONG = b"?" * 20


def lock(machine: Machine) -> None:
    """Guess until the TPM refuses all authorizations for some time."""
    while not machine.tpm.lockout.seconds_left:
        with refused(TPM_AUTHFAIL):
            machine.run(OwnerSetDisable(0), machine.client.oiap(WRONG))
    with refused(TPM_DEFEND_LOCK_RUNNING):
        machine.run(OwnerSetDisable(0), machine.client.oiap(OWNER_AUTH))


def test_the_owner_ends_a_lock_and_forgives_what_led_to_it() -> None:
    machine = owned()
    lock(machine)
    machine.run(ResetLockValue(), machine.client.oiap(OWNER_AUTH))
    machine.run(OwnerSetDisable(0), machine.client.oiap(OWNER_AUTH))
    assert machine.tpm.lockout.failures == 0


def test_who_guesses_here_closes_this_way_too_until_the_lock_has_run_out() -> None:
    machine = owned()
    lock(machine)
    with refused(TPM_AUTHFAIL):
        machine.run(ResetLockValue(), machine.client.oiap(WRONG))
    with refused(TPM_AUTHFAIL):
        machine.run(ResetLockValue(), machine.client.oiap(OWNER_AUTH))
    machine.run(SaveState())
    machine.power_cycle(off_ms=0)
    machine.run(Startup(TPM_ST_STATE))
    with refused(TPM_AUTHFAIL):
        machine.run(ResetLockValue(), machine.client.oiap(OWNER_AUTH))
    machine.clock.advance(1000 * machine.tpm.lockout.seconds_left)
    machine.run(ResetLockValue(), machine.client.oiap(OWNER_AUTH))


def test_a_lock_that_has_run_out_opens_this_way_for_the_next_one() -> None:
    machine = owned()
    lock(machine)
    with refused(TPM_AUTHFAIL):
        machine.run(ResetLockValue(), machine.client.oiap(WRONG))
    machine.clock.advance(1000 * machine.tpm.lockout.seconds_left)
    lock(machine)
    machine.run(ResetLockValue(), machine.client.oiap(OWNER_AUTH))


def test_the_lock_doubles_with_each_further_guess() -> None:
    machine = owned()
    seconds = []
    for _ in range(LOCKOUT_THRESHOLD + 4):
        with refused(TPM_AUTHFAIL):
            machine.run(OwnerSetDisable(0), machine.client.oiap(WRONG))
        seconds.append(machine.tpm.lockout.seconds_left)
        machine.clock.advance(1000 * seconds[-1])
    assert seconds == [0] * LOCKOUT_THRESHOLD + [1, 2, 4, 8]


def test_without_an_owner_there_is_nothing_to_forgive() -> None:
    machine = started()
    with refused(TPM_NOSRK):
        machine.run(ResetLockValue(), machine.client.oiap(OWNER_AUTH))


@pytest.mark.parametrize("ordinal", [TPM_ORD_FieldUpgrade, TPM_ORD_SetRedirection])
def test_what_is_optional_and_not_there_is_an_unknown_ordinal(ordinal: int) -> None:
    answer = started().execute(bytes.fromhex("00c1 0000000a") + ordinal.to_bytes(4, "big"))
    assert int.from_bytes(answer[6:], "big") == TPM_BAD_ORDINAL
