"""Opt-in and physical presence of TPM 1.2 (Part 3, 5, 6.6 and 6.7)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset
from hwtpm.tpm12.requests.opt_in import (
    OwnerSetDisable,
    PhysicalDisable,
    PhysicalEnable,
    PhysicalSetDeactivated,
    SetOperatorAuth,
    SetOwnerInstall,
    SetTempDeactivated,
)
from hwtpm.tpm12.requests.presence import PhysicalPresence, ResetEstablishmentBit
from hwtpm.tpm12.requests.random import GetRandom, StirRandom
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_LOCALITY,
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_BAD_PRESENCE,
    TPM_DEACTIVATED,
    TPM_DISABLED,
    TPM_NOOPERATOR,
    TPM_NOSRK,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_OWNER,
    TPM_KH_OWNER,
    TPM_PHYSICAL_PRESENCE_CMD_DISABLE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_PHYSICAL_PRESENCE_HW_DISABLE,
    TPM_PHYSICAL_PRESENCE_HW_ENABLE,
    TPM_PHYSICAL_PRESENCE_LIFETIME_LOCK,
    TPM_PHYSICAL_PRESENCE_LOCK,
    TPM_PHYSICAL_PRESENCE_NOTPRESENT,
    TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_ST_CLEAR,
)
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from tests.support.tpm2 import refused
from tests.support.tpm12 import OWNER_AUTH, Machine, once, owned, started
from tests.support.tpm12_pair import pair

OPERATOR_AUTH = b"operator".ljust(20, b".")
PRESENT = PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT)
ABSENT = PhysicalPresence(TPM_PHYSICAL_PRESENCE_NOTPRESENT)


def restart(machine: Machine) -> None:
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))


@pytest.mark.parametrize("request_", [
    SetOwnerInstall(0), PhysicalEnable(), PhysicalDisable(), PhysicalSetDeactivated(1),
    SetOperatorAuth(bytes(20)), SetTempDeactivated(),
])
def test_who_is_not_there_changes_nothing(request_) -> None:  # type: ignore[no-untyped-def]
    machine = started()
    before = machine.durable
    with refused(TPM_BAD_PRESENCE):
        machine.run(request_)
    assert machine.durable == before
    assert not machine.tpm.flags.stclear.deactivated
    machine.run(PRESENT)
    machine.run(request_)


def test_a_disabled_tpm_is_enabled_by_who_is_there_and_stays_so() -> None:
    machine = Machine()
    machine.run(Startup(TPM_ST_CLEAR))
    with refused(TPM_BAD_PARAMETER):
        machine.run(PRESENT)
    machine.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
    machine.run(PRESENT)
    machine.run(PhysicalEnable())
    with refused(TPM_DEACTIVATED):
        machine.run(PcrRead(0))
    machine.run(PhysicalSetDeactivated(0))
    with refused(TPM_DEACTIVATED):
        machine.run(PcrRead(0))
    restart(machine)
    machine.run(PcrRead(0))
    machine.run(PRESENT)
    machine.run(PhysicalDisable())
    restart(machine)
    with refused(TPM_DISABLED):
        machine.run(PcrRead(0))


def test_the_owner_disables_and_enables() -> None:
    machine = owned()
    machine.run(OwnerSetDisable(1), machine.client.oiap(OWNER_AUTH))
    with refused(TPM_DISABLED):
        machine.run(PcrRead(0))
    with refused(TPM_AUTHFAIL):
        machine.run(OwnerSetDisable(0), machine.client.oiap(b"?" * 20))
    machine.run(OwnerSetDisable(0), machine.client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH))
    machine.run(PcrRead(0))
    with refused(TPM_NOSRK):
        started().run(OwnerSetDisable(1), started().client.oiap(OWNER_AUTH))


def test_a_state_that_is_no_boolean_is_refused() -> None:
    machine = started()
    machine.run(PRESENT)
    with refused(TPM_BAD_PARAMETER):
        machine.run(SetOwnerInstall(2))


def test_an_owner_is_not_disturbed_by_set_owner_install() -> None:
    machine = owned()
    machine.run(SetOwnerInstall(0))
    assert machine.tpm.flags.permanent.ownership


def test_the_operator_deactivates_until_the_next_start() -> None:
    machine = started()
    with refused(TPM_NOOPERATOR):
        machine.run(SetTempDeactivated(), machine.client.oiap(OPERATOR_AUTH))
    machine.run(PRESENT)
    machine.run(SetOperatorAuth(OPERATOR_AUTH))
    machine.run(ABSENT)
    with refused(TPM_AUTHFAIL):
        machine.run(SetTempDeactivated(), machine.client.oiap(b"?" * 20))
    machine.run(SetTempDeactivated(), once(machine.client.oiap(OPERATOR_AUTH)))
    with refused(TPM_DEACTIVATED):
        machine.run(PcrRead(0))
    restart(machine)
    machine.run(PcrRead(0))


def test_the_operator_authorizes_with_oiap_only() -> None:
    machine = owned()
    machine.run(PRESENT)
    machine.run(SetOperatorAuth(OPERATOR_AUTH))
    with refused(TPM_BAD_MODE):
        machine.run(SetTempDeactivated(), machine.client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH))


@pytest.mark.parametrize("bits", [
    0, 0x8000, 0x0001, TPM_PHYSICAL_PRESENCE_HW_ENABLE | TPM_PHYSICAL_PRESENCE_HW_DISABLE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE | TPM_PHYSICAL_PRESENCE_CMD_DISABLE,
    TPM_PHYSICAL_PRESENCE_LOCK | TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_PHYSICAL_PRESENCE_PRESENT | TPM_PHYSICAL_PRESENCE_NOTPRESENT,
    TPM_PHYSICAL_PRESENCE_PRESENT | TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
])
def test_bits_of_presence_that_contradict_are_refused(bits: int) -> None:
    machine = started()
    before = machine.durable
    with refused(TPM_BAD_PARAMETER):
        machine.run(PhysicalPresence(bits))
    assert machine.durable == before
    assert not machine.tpm.flags.physical_presence


def test_locked_presence_cannot_be_asserted_before_the_next_start() -> None:
    machine = started()
    machine.run(PRESENT)
    machine.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_LOCK))
    assert not machine.tpm.flags.physical_presence
    with refused(TPM_BAD_PARAMETER):
        machine.run(PRESENT)
    restart(machine)
    machine.run(PRESENT)


def test_ways_to_tell_presence_are_enabled_for_good_and_locked() -> None:
    machine = started()
    machine.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_HW_ENABLE | TPM_PHYSICAL_PRESENCE_CMD_DISABLE
                                 | TPM_PHYSICAL_PRESENCE_LIFETIME_LOCK))
    with refused(TPM_BAD_PARAMETER):
        machine.run(PRESENT)
    restart(machine)
    with refused(TPM_BAD_PARAMETER):
        machine.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
    with refused(TPM_BAD_PRESENCE):
        machine.run(PhysicalEnable())
    machine.tpm.flags.hardware_presence = True
    machine.run(PhysicalEnable())


def test_a_signal_that_is_disabled_is_no_presence() -> None:
    machine = started()
    machine.tpm.flags.hardware_presence = True
    with refused(TPM_BAD_PRESENCE):
        machine.run(PhysicalEnable())


def test_presence_by_command_ends_when_commands_may_not_tell_it() -> None:
    machine = started()
    machine.run(PRESENT)
    machine.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_DISABLE))
    with refused(TPM_BAD_PRESENCE):
        machine.run(PhysicalEnable())


@pytest.mark.parametrize("locality", [0, 1, 2, 3, 4])
def test_the_establishment_bit_is_reset_from_localities_3_and_4(locality: int) -> None:
    machine = started()
    machine.tpm.flags.set(tpm_established=True)
    machine.locality = locality
    if locality < 3:
        with refused(TPM_BAD_LOCALITY):
            machine.run(ResetEstablishmentBit())
    else:
        machine.run(ResetEstablishmentBit())
    assert machine.tpm.flags.permanent.tpm_established == (locality < 3)


def test_both_answer_the_same_commands_while_disabled_or_deactivated() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        for off in PhysicalDisable(), SetTempDeactivated():
            both.agree(PRESENT)
            both.agree(PhysicalEnable())
            both.agree(off)
            for request in (GetRandom(0), StirRandom(b"x"), PcrRead(0), Extend(0, bytes(20)),
                            PCRReset(TPM_PCR_SELECTION(b"\0\0\1")), ReadPubek(bytes(20)), SaveState()):
                both.agree(request)


def test_both_say_the_same_of_presence_and_opt_in() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        for request in (
            PhysicalEnable(), PhysicalDisable(), PhysicalSetDeactivated(1), SetOwnerInstall(0),
            SetTempDeactivated(), SetOperatorAuth(bytes(20)), ResetEstablishmentBit(),
            *(PhysicalPresence(1 << bit) for bit in (0, 1, 15)), PhysicalPresence(0),
            *(PhysicalPresence(1 << i | 1 << j) for i in range(3, 10) for j in range(i)),
            PhysicalPresence(TPM_PHYSICAL_PRESENCE_HW_DISABLE | TPM_PHYSICAL_PRESENCE_CMD_ENABLE),
            PhysicalEnable(), PRESENT, PhysicalDisable(), PhysicalDisable(), PhysicalSetDeactivated(1),
            SetOwnerInstall(0), PcrRead(0), PhysicalEnable(), PcrRead(0), SetOwnerInstall(0),
            SetOwnerInstall(1),
            SetOperatorAuth(OPERATOR_AUTH), PhysicalSetDeactivated(1), PcrRead(0), SetTempDeactivated(),
            SetTempDeactivated(), PcrRead(0), PhysicalSetDeactivated(0),
            PhysicalPresence(TPM_PHYSICAL_PRESENCE_NOTPRESENT | TPM_PHYSICAL_PRESENCE_LOCK), PRESENT,
            PhysicalEnable(),
        ):
            both.agree(request)
        both.power_cycle()
        both.agree(Startup(TPM_ST_CLEAR))
        both.agree(SetTempDeactivated(), lambda client: client.oiap(OPERATOR_AUTH))
        both.agree(PcrRead(0))
        for locality in range(5):
            both.set_locality(locality)
            both.agree(ResetEstablishmentBit())
        both.set_locality(0)
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_LIFETIME_LOCK))
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_HW_ENABLE))
