"""Taking ownership and clearing it (Part 3, 6.1 to 6.5)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.opt_in import SetOwnerInstall
from hwtpm.tpm12.requests.ownership import (
    DisableForceClear,
    DisableOwnerClear,
    ForceClear,
    OwnerClear,
    TakeOwnership,
)
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.requests.storage import CreateWrapKey, LoadKey2
from hwtpm.tpm12.state.owner import Owner
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_BAD_PRESENCE,
    TPM_BAD_VERSION,
    TPM_CLEAR_DISABLED,
    TPM_DECRYPT_ERROR,
    TPM_DISABLED_CMD,
    TPM_INSTALL_DISABLED,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_NO_ENDORSEMENT,
    TPM_NOSRK,
    TPM_OWNER_SET,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_OWNER,
    TPM_KEY_BIND,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_PID_OIAP,
    TPM_PID_OWNER,
    TPM_ST_CLEAR,
)
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    create_key,
    encrypt_to,
    key_template,
    load_key,
    once,
    owned,
    started,
    take_ownership,
    with_endorsement_key,
)
from tests.support.tpm12_pair import pair

PRESENT = PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT)
SRK = key_template(TPM_KEY_STORAGE, STORAGE_PARMS)
LEFT = ("disable", "deactivated", "read_pubek", "ownership", "allow_maintenance")


def request(machine: Machine, *, protocol: int = TPM_PID_OWNER, owner: bytes = OWNER_AUTH,
            srk_auth: bytes = SRK_AUTH, srk=SRK) -> TakeOwnership:  # type: ignore[no-untyped-def]
    key = machine.tpm.permanent.endorsement_key.pubkey
    return TakeOwnership(protocol, encrypt_to(key, owner), encrypt_to(key, srk_auth), srk)


def test_an_owner_needs_an_endorsement_key_and_permission_and_comes_alone() -> None:
    machine = started()
    anything = TakeOwnership(TPM_PID_OWNER, bytes(256), bytes(256), SRK)
    with refused(TPM_NO_ENDORSEMENT):
        machine.run(anything, machine.client.oiap(OWNER_AUTH))
    machine.run(PRESENT)
    machine.run(SetOwnerInstall(0))
    with refused(TPM_INSTALL_DISABLED):
        machine.run(anything, machine.client.oiap(OWNER_AUTH))
    machine.run(SetOwnerInstall(1))
    take_ownership(machine.client)
    with refused(TPM_OWNER_SET):
        machine.run(anything, machine.client.oiap(OWNER_AUTH))
    with refused(TPM_DISABLED_CMD):
        machine.run(ReadPubek(bytes(20)))


@pytest.mark.parametrize(("change", "rc"), [
    ({"protocol": TPM_PID_OIAP}, TPM_BAD_PARAMETER),
    ({"owner": OWNER_AUTH[:19]}, TPM_BAD_KEY_PROPERTY),
    ({"owner": b"another".ljust(20, b".")}, TPM_AUTHFAIL),
    ({"srk": key_template(TPM_KEY_BIND, STORAGE_PARMS)}, TPM_INVALID_KEYUSAGE),
    ({"srk": key_template(TPM_KEY_STORAGE, STORAGE_PARMS, flags=TPM_MIGRATABLE)}, TPM_INVALID_KEYUSAGE),
    ({"srk": key_template(TPM_KEY_STORAGE, SIGNING_PARMS)}, TPM_BAD_KEY_PROPERTY),
    ({"srk": key_template(TPM_KEY_STORAGE, STORAGE_PARMS, tag=0x0202)}, TPM_BAD_VERSION),
    ({"srk": key_template(TPM_KEY_STORAGE, STORAGE_PARMS, tag=0x0027)}, TPM_BAD_KEY_PROPERTY),
    ({"srk_auth": SRK_AUTH + b"."}, TPM_BAD_KEY_PROPERTY),
])
def test_what_makes_no_owner_leaves_everything(change, rc: int) -> None:  # type: ignore[no-untyped-def]
    machine = with_endorsement_key()
    before = machine.durable
    with refused(rc):
        machine.run(request(machine, **change), machine.client.oiap(OWNER_AUTH))
    assert machine.durable == before


def test_ownership_is_taken_in_an_oiap_session() -> None:
    machine = owned()
    session = machine.client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    machine.tpm.permanent.set(owner_installed=False)
    with refused(TPM_BAD_MODE):
        machine.run(request(machine), session)


def test_an_owner_who_clears_leaves_a_new_tpm_with_its_endorsement_key() -> None:
    machine = owned()
    machine.run(Extend(3, b"\3" * 20))
    pcr = machine.run(PcrRead(3))
    key = create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    load_key(machine.client, key)
    pubek = machine.tpm.permanent.endorsement_key.pubkey
    other = machine.client.oiap(OWNER_AUTH)
    machine.tpm.transports.add(TPM_TRANSPORT_PUBLIC(0, 0, 0), bytes(20))
    proof, daa_proof = machine.tpm.permanent.tpm_proof, machine.tpm.permanent.daa_proof
    machine.run(OwnerClear(), machine.client.oiap(OWNER_AUTH))
    permanent, flags = machine.tpm.permanent, machine.tpm.flags.permanent
    assert not permanent.owner_installed
    assert permanent.srk is None
    assert permanent.tpm_proof != proof
    assert permanent.daa_proof == daa_proof
    assert permanent.endorsement_key.pubkey == pubek
    assert all(getattr(flags, name) for name in LEFT)
    assert not machine.tpm.keys.loaded
    assert not machine.tpm.sessions.open
    assert not machine.tpm.transports.open
    machine.tpm.flags.set(disable=False)  # deactivation counts from the next start on
    assert machine.run(PcrRead(3)) == pcr
    with refused(TPM_NOSRK):
        machine.run(OwnerClear(), other)
    machine.power_cycle()
    machine.tpm.flags.set(deactivated=False)
    machine.run(Startup(TPM_ST_CLEAR))
    assert machine.run(ReadPubek(bytes(20))).pub_endorsement_key == pubek
    machine.run(request(machine), once(machine.client.oiap(OWNER_AUTH)))
    with refused(TPM_DECRYPT_ERROR):
        machine.run(LoadKey2(TPM_KH_SRK, key), machine.client.oiap(SRK_AUTH))


def test_each_owner_of_state_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = owned()
    cleared: list[bytes] = []
    for owner in machine.tpm.owners:
        def note(owner: Owner = owner, *, revoke: bool = False) -> None:
            cleared.append(owner.TAG)
        monkeypatch.setattr(owner, "owner_clear", note)
    machine.run(OwnerClear(), machine.client.oiap(OWNER_AUTH))
    assert cleared == [owner.TAG for owner in machine.tpm.owners]


def test_who_is_not_the_owner_clears_nothing() -> None:
    machine = owned()
    before = machine.durable
    with refused(TPM_AUTHFAIL):
        machine.run(OwnerClear(), machine.client.oiap(SRK_AUTH))
    assert machine.durable == before


def test_a_disabled_owner_clear_leaves_force_clear() -> None:
    machine = owned()
    machine.run(DisableOwnerClear(), machine.client.oiap(OWNER_AUTH))
    session = machine.client.oiap(OWNER_AUTH)
    with refused(TPM_CLEAR_DISABLED):
        machine.run(OwnerClear(), session)
    with refused(TPM_INVALID_AUTHHANDLE):
        machine.run(OwnerClear(), session)
    with refused(TPM_BAD_PRESENCE):
        machine.run(ForceClear())
    machine.run(PRESENT)
    machine.run(ForceClear())
    assert not machine.tpm.permanent.owner_installed
    assert not machine.tpm.flags.permanent.disable_owner_clear


def test_a_disabled_force_clear_comes_back_with_the_next_start() -> None:
    machine = started()
    machine.run(PRESENT)
    machine.run(DisableForceClear())
    with refused(TPM_CLEAR_DISABLED):
        machine.run(ForceClear())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    machine.run(PRESENT)
    machine.run(ForceClear())
    assert machine.tpm.flags.permanent.disable


def test_both_say_the_same_of_clearing_without_an_owner() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        both.agree(OwnerClear(), lambda client: client.oiap(OWNER_AUTH))
        both.agree(DisableOwnerClear(), lambda client: client.oiap(OWNER_AUTH))
        for request_ in (ForceClear(), DisableForceClear(), ForceClear(), PRESENT, ForceClear(), PcrRead(0)):
            both.agree(request_)
        both.power_cycle()
        for request_ in (Startup(TPM_ST_CLEAR), PRESENT, ForceClear(), PcrRead(0), ForceClear()):
            both.agree(request_)


def test_both_clear_an_owner_in_the_same_way() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        both.agree(PRESENT)
        for client in both.clients:
            take_ownership(client)
        both.agree(DisableOwnerClear(), lambda client: client.oiap(b"?" * 20))
        both.agree(OwnerClear(), lambda client: client.oiap(OWNER_AUTH))
        both.agree(PcrRead(0))
        both.agree(CreateWrapKey(TPM_KH_SRK, bytes(20), bytes(20), SRK), lambda client: client.oiap(SRK_AUTH))
        both.agree(ReadPubek(bytes(20)))
