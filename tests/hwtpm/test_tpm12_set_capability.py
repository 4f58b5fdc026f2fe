"""Setting flags and data of the TPM (Part 3, 7.2; Part 2, 7)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.requests.capability import SetCapability
from hwtpm.tpm12.requests.opt_in import PhysicalDisable, SetTempDeactivated
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_LOCALITY,
    TPM_BAD_PARAMETER,
    TPM_BAD_PRESENCE,
    TPM_DEACTIVATED,
    TPM_DISABLED,
    TPM_OWNER_SET,
)
from tests.support.tpm2 import refused
from tests.support.tpm12 import OWNER_AUTH, Machine, owned, started
from tests.support.tpm12_pair import pair

PRESENT = PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_PRESENT)
TRUE, FALSE = b"\1", b"\0"


def flag(sub_cap: int, value: bytes, area: int = c.TPM_SET_PERM_FLAGS) -> SetCapability:
    return SetCapability(area, sub_cap.to_bytes(4, "big"), value)


def by_owner(machine: Machine, request: SetCapability) -> None:
    machine.run(request, machine.client.oiap(OWNER_AUTH))


OWNERS = [
    (flag(c.TPM_PF_READPUBEK, TRUE), "read_pubek", 1),
    (flag(c.TPM_PF_DISABLEOWNERCLEAR, TRUE), "disable_owner_clear", 1),
    (flag(c.TPM_PF_ALLOWMAINTENANCE, FALSE), "allow_maintenance", 0),
    (flag(c.TPM_PF_READSRKPUB, TRUE), "read_srk_pub", 1),
    (flag(c.TPM_PF_DISABLEFULLDALOGICINFO, TRUE), "disable_full_da_logic_info", 1),
    (flag(c.TPM_PF_DISABLE, TRUE), "disable", 1),
]


@pytest.mark.parametrize(("request_", "name", "value"), OWNERS)
def test_the_owner_sets_his_flags_and_nobody_else(request_: SetCapability, name: str, value: int) -> None:
    machine = owned()
    before = machine.durable
    with refused(TPM_AUTHFAIL):
        machine.run(request_)
    with refused(TPM_AUTHFAIL):
        machine.run(request_, machine.client.oiap(b"?" * 20))
    assert machine.durable == before
    by_owner(machine, request_)
    assert getattr(machine.tpm.flags.permanent, name) == value


def test_who_is_there_sets_flags_of_presence() -> None:
    machine = started()
    for request in (flag(c.TPM_PF_DISABLE, TRUE), flag(c.TPM_PF_OWNERSHIP, FALSE),
                    flag(c.TPM_PF_DEACTIVATED, TRUE)):
        with refused(TPM_AUTHFAIL):
            machine.run(request)
    machine.run(PRESENT)
    machine.run(flag(c.TPM_PF_OWNERSHIP, FALSE))
    machine.run(flag(c.TPM_PF_DEACTIVATED, TRUE))
    machine.run(flag(c.TPM_PF_DISABLE, TRUE))
    flags = machine.tpm.flags.permanent
    assert (flags.ownership, flags.deactivated, flags.disable) == (0, 1, 1)
    with refused(TPM_DISABLED):
        machine.run(flag(c.TPM_PF_DEACTIVATED, FALSE))
    machine.run(flag(c.TPM_PF_DISABLE, FALSE))


def test_ownership_is_not_set_beside_an_owner() -> None:
    machine = owned()
    machine.run(PRESENT)
    with refused(TPM_OWNER_SET):
        machine.run(flag(c.TPM_PF_OWNERSHIP, FALSE))


@pytest.mark.parametrize("request_", [
    flag(c.TPM_PF_DISABLEOWNERCLEAR, FALSE), flag(c.TPM_PF_ALLOWMAINTENANCE, TRUE),
    flag(c.TPM_SF_DISABLEFORCECLEAR, FALSE, c.TPM_SET_STCLEAR_FLAGS),
])
def test_a_one_way_flag_goes_one_way(request_: SetCapability) -> None:
    machine = owned()
    with refused(TPM_BAD_PARAMETER):
        by_owner(machine, request_)


def test_force_clear_is_disabled_by_everybody() -> None:
    machine = started()
    machine.run(flag(c.TPM_SF_DISABLEFORCECLEAR, TRUE, c.TPM_SET_STCLEAR_FLAGS))
    assert machine.tpm.flags.stclear.disable_force_clear


@pytest.mark.parametrize(("area", "sub_cap", "name"), [
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_TPMESTABLISHED, "tpm_established"),
    (c.TPM_SET_STANY_FLAGS, c.TPM_AF_TOSPRESENT, "tos_present"),
])
def test_flags_of_a_launch_are_taken_away_by_the_trusted_system(area: int, sub_cap: int, name: str) -> None:
    machine = started()
    machine.tpm.flags.set(tpm_established=True)
    machine.tpm.flags.tos_present = True
    with refused(TPM_BAD_LOCALITY):
        machine.run(flag(sub_cap, FALSE, area))
    machine.locality = 3
    with refused(TPM_BAD_PARAMETER):
        machine.run(flag(sub_cap, TRUE, area))
    machine.run(flag(sub_cap, FALSE, area))
    flags = machine.tpm.flags
    assert not getattr(flags.permanent if area == c.TPM_SET_PERM_FLAGS else flags, name)


def test_presence_is_deferred_by_who_is_there_and_given_up_by_everybody() -> None:
    machine = started()
    deferred = c.TPM_SD_DEFERREDPHYSICALPRESENCE
    with refused(TPM_BAD_PRESENCE):
        machine.run(flag(deferred, bytes([0, 0, 0, 1]), c.TPM_SET_STCLEAR_DATA))
    machine.run(PRESENT)
    machine.run(flag(deferred, bytes([0, 0, 0, 3]), c.TPM_SET_STCLEAR_DATA))
    machine.run(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_NOTPRESENT))
    machine.run(flag(deferred, bytes([0, 0, 0, 1]), c.TPM_SET_STCLEAR_DATA))
    assert machine.tpm.flags.deferred_physical_presence == 1
    with refused(TPM_BAD_PRESENCE):
        machine.run(flag(deferred, bytes([0, 0, 0, 2]), c.TPM_SET_STCLEAR_DATA))


def test_the_owner_restricts_delegation_and_renews_the_secrets_of_daa() -> None:
    machine = owned()
    by_owner(machine, flag(c.TPM_PD_RESTRICTDELEGATE, bytes([0, 0, 0, 5]), c.TPM_SET_PERM_DATA))
    assert machine.tpm.permanent.restrict_delegate == 5
    secrets = machine.tpm.permanent.daa_proof, machine.tpm.permanent.tpm_daa_seed
    with refused(TPM_AUTHFAIL):
        machine.run(flag(c.TPM_PD_DAAPROOF, b"", c.TPM_SET_PERM_DATA))
    by_owner(machine, flag(c.TPM_PD_DAAPROOF, b"", c.TPM_SET_PERM_DATA))
    assert secrets != (machine.tpm.permanent.daa_proof, machine.tpm.permanent.tpm_daa_seed)


@pytest.mark.parametrize(("off", "rc"), [
    (PhysicalDisable(), TPM_DISABLED), (SetTempDeactivated(), TPM_DEACTIVATED),
])
@pytest.mark.parametrize("request_", [
    flag(c.TPM_PF_READPUBEK, TRUE), flag(c.TPM_PF_READSRKPUB, TRUE), flag(c.TPM_PF_DISABLEOWNERCLEAR, TRUE),
    flag(c.TPM_PF_ALLOWMAINTENANCE, FALSE), flag(c.TPM_PD_RESTRICTDELEGATE, bytes(4), c.TPM_SET_PERM_DATA),
    flag(c.TPM_SF_DISABLEFORCECLEAR, TRUE, c.TPM_SET_STCLEAR_FLAGS),
])
def test_a_tpm_that_is_off_sets_little(off, rc: int, request_: SetCapability) -> None:  # type: ignore[no-untyped-def]
    machine = owned()
    machine.run(PRESENT)
    machine.run(off)
    with refused(rc):
        by_owner(machine, request_)


@pytest.mark.parametrize("request_", [
    flag(c.TPM_PF_CEKPUSED, TRUE), flag(c.TPM_PF_FIPS, TRUE), flag(c.TPM_PF_NV_LOCKED, FALSE), flag(99, TRUE),
    flag(c.TPM_PF_DISABLE, b""), flag(c.TPM_PF_DISABLE, b"\0\1"), flag(c.TPM_PF_DISABLE, b"\2"),
    flag(c.TPM_PD_TPMPROOF, bytes(4), c.TPM_SET_PERM_DATA),
    flag(c.TPM_PD_RESTRICTDELEGATE, bytes(3), c.TPM_SET_PERM_DATA),
    flag(c.TPM_SF_DEACTIVATED, FALSE, c.TPM_SET_STCLEAR_FLAGS),
    flag(c.TPM_AD_AUDITDIGEST, bytes(20), c.TPM_SET_STANY_DATA),
    flag(1, bytes(4), c.TPM_SET_VENDOR), flag(1, TRUE, 0), flag(1, TRUE, 8),
    SetCapability(c.TPM_SET_PERM_FLAGS, b"\0\1", TRUE),
])
def test_nobody_sets_anything_else(request_: SetCapability) -> None:
    machine = owned()
    machine.run(PRESENT)
    before = machine.durable
    with refused(TPM_BAD_PARAMETER):
        by_owner(machine, request_)
    assert machine.durable == before


def test_both_say_the_same_of_setting() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        for locality in 0, 3:
            both.set_locality(locality)
            for present in False, True:
                both.agree(PRESENT if present else PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_NOTPRESENT))
                for area in range(1, 8):
                    for sub_cap in range(28):
                        if (area, sub_cap) == (c.TPM_SET_PERM_DATA, c.TPM_PD_DAAPROOF):
                            continue  # swtpm lets everybody renew it
                        for value in TRUE, FALSE, b"", bytes(4), bytes([0, 0, 0, 1]):
                            both.agree(flag(sub_cap, value, area))
