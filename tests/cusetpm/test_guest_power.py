"""A vTPM without power, and with it again: what stays, what goes, and what can be put in its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cusetpm.daemon import Device, System
from cusetpm.devices.swtpm.abi import (
    PTM_BLOB_TYPE_PERMANENT,
    PTM_BLOB_TYPE_SAVESTATE,
    PTM_BLOB_TYPE_VOLATILE,
    TPM_BAD_TYPE,
)
from hwtpm.client import Client, Execute, Password
from hwtpm.client12 import Client as Client12
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVReadPublic
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.startup import Shutdown
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_RC_FAILURE,
    TPM_RC_HANDLE,
    TPM_RC_INITIALIZE,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.opt_in import SetOwnerInstall
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.types.codes import TPM_INVALID_POSTINIT
from hwtpm.tpm12.types.constants import (
    TPM_CAP_FLAG,
    TPM_CAP_FLAG_PERMANENT,
    TPM_PHYSICAL_PRESENCE_PRESENT,
)
from hwtpm.tpm12.types.flags import TPM_PERMANENT_FLAGS
from hwtpm.wire import decode
from tests.support.tpm2 import rc_of

INDEX = 0x01500020
PUBLIC = TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE, b"", 8)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "state")
    yield made
    made.close()


def client(device: Device) -> Client:
    return Client(device.execute, os.urandom)


def code(device: Device, kind: str) -> int:
    """Return the response code of Startup(*kind*)."""
    return rc_of(lambda: device.start_up(kind))


def define(device: Device) -> None:
    client(device).run(NVDefineSpace(TPM_RH_OWNER, b"", PUBLIC), Password())


def defined(device: Device) -> bool:
    found = rc_of(lambda: client(device).run(NVReadPublic(INDEX)))
    assert found & 0xBF in (0, TPM_RC_HANDLE)
    return not found


def permanent(device: Device) -> bytes:
    found = device.get_state(PTM_BLOB_TYPE_PERMANENT)
    assert found is not None
    return found


def stopped(system: System, name: str) -> tuple[Device, bytes]:
    """Return a vTPM without power, and its permanent state."""
    device = system.add_guest(name)
    state = permanent(device)
    device.power_off()
    return device, state


def test_without_power_every_command_fails_and_with_it_a_startup_is_due(system: System) -> None:
    device = system.add_guest("web1", powered=False)
    assert not device.running
    assert code(device, "clear") == TPM_RC_FAILURE
    device.power_on()
    assert device.running
    with pytest.raises(TpmError) as refusal:
        client(device).run(PCRRead([selection(TPM_ALG_SHA256, 1)]))
    assert refusal.value.rc == TPM_RC_INITIALIZE
    assert code(device, "clear") == 0


def test_a_power_cycle_keeps_what_is_permanent(system: System) -> None:
    device = system.add_guest("web1")
    device.start_up("clear")
    define(device)
    device.power_off()
    device.power_on()
    device.start_up("clear")
    assert defined(device)


@pytest.mark.parametrize("orderly", [True, False])
def test_power_goes_after_an_orderly_shutdown_or_without(system: System, orderly: bool) -> None:
    """An orderly one lets Startup(STATE) resume; a second Startup is needed in any case."""
    device = system.add_guest("web1")
    device.start_up("clear")
    device.power_off(orderly=orderly)
    device.power_off()
    device.power_on()
    assert code(device, "state") & 0xBF == (0 if orderly else TPM_RC_VALUE)


def test_a_shutdown_of_the_guest_s_own_is_left_as_it_is(system: System) -> None:
    device = system.add_guest("web1")
    device.start_up("clear")
    client(device).run(Shutdown(TPM_SU_CLEAR))
    device.power_off()
    device.power_on()
    assert code(device, "state") & 0xBF == TPM_RC_VALUE


def test_a_measured_launch_reaches_pcr_0_before_startup_and_stays_on_record(system: System) -> None:
    device = system.add_guest("web1")
    device.hash_start()
    device.hash_data(b"what is ")
    device.hash_data(b"launched")
    device.hash_end()
    device.start_up("clear")
    (value,) = client(device).run(PCRRead([selection(TPM_ALG_SHA256, 1)])).pcr_values
    start = bytes(31) + b"\4"  # Part 1, 34.2: locality 4
    assert value == hashlib.sha256(start + hashlib.sha256(b"what is launched").digest()).digest()
    device.power_off()
    device.power_on()
    assert device.established
    device.reset_established()
    device.power_off()
    device.power_on()
    assert not device.established


def test_a_permanent_state_moves_to_another_vtpm_and_is_durable_there(system: System, tmp_path: Path) -> None:
    source = system.add_guest("web1")
    source.start_up("clear")
    define(source)
    state = permanent(source)
    assert source.get_state(PTM_BLOB_TYPE_SAVESTATE) is None
    other = System(tmp_path / "other")
    try:
        target = other.add_guest("web1", powered=False)
        target.set_state(PTM_BLOB_TYPE_PERMANENT, state)
        target.power_on()
        assert permanent(target) == state
    finally:
        other.close()
    other = System(tmp_path / "other")
    try:
        target = other.add_guest("web1")
        target.start_up("clear")
        assert defined(target)
    finally:
        other.close()


def test_a_state_that_is_taken_back_changes_nothing(system: System) -> None:
    state = permanent(system.add_guest("web1"))
    device, own = stopped(system, "web2")
    device.set_state(PTM_BLOB_TYPE_PERMANENT, state)
    device.set_state(PTM_BLOB_TYPE_PERMANENT, b"")
    device.power_on()
    assert permanent(device) == own


@pytest.mark.parametrize("damage", [
    lambda state: b"x" + state, lambda state: state + b"x",
    lambda state: state[:40], lambda state: state[:-1],
])
def test_a_state_that_is_none_is_refused_and_the_one_before_stays(
    system: System, damage: Callable[[bytes], bytes],
) -> None:
    device, own = stopped(system, "web1")
    with pytest.raises(StateError):
        device.set_state(PTM_BLOB_TYPE_PERMANENT, damage(own))
    with pytest.raises(TpmError) as refusal:
        device.set_state(PTM_BLOB_TYPE_SAVESTATE, own)
    assert refusal.value.rc == TPM_BAD_TYPE
    device.power_on()
    assert permanent(device) == own


def test_a_state_that_cannot_be_made_durable_gives_no_power(
    system: System, monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = permanent(system.add_guest("web1"))
    device, own = stopped(system, "web2")
    device.set_state(PTM_BLOB_TYPE_PERMANENT, state)
    with monkeypatch.context() as patch:
        patch.setattr(device.inner.front, "execute", _fail)
        with pytest.raises(ProtocolError):
            device.power_on()
        assert not device.running
    device.power_on()
    assert permanent(device) == own


def _fail(*_: object) -> bytes:
    raise ProtocolError("the manager has gone")


def test_a_vtpm_that_never_had_power_is_made_when_it_gets_some(tmp_path: Path) -> None:
    for made in (False, True):
        system = System(tmp_path / "state")
        device = system.add_guest("web1", powered=False)
        device.accept()
        if made:
            device.power_on()
        system.close()
        slots = (tmp_path / "state" / "guests" / "web1").glob("state.?")
        assert any(slot.stat().st_size for slot in slots) == made


# The running state.


class Family(NamedTuple):
    """What the tests need of a family of TPMs."""

    name: str
    not_started: int  # the code of a second Startup
    pcr_16: Callable[[Execute], bytes]
    extend: Callable[[Execute], object]  # PCR 16
    change: Callable[[Execute], object]  # permanent state
    changed: Callable[[Execute], bool]


def _pcr_16(execute: Execute) -> bytes:
    (value,) = Client(execute, os.urandom).run(PCRRead([selection(TPM_ALG_SHA256, 1 << 16)])).pcr_values
    return value


def _install_no_owner(execute: Execute) -> None:
    for request in (PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT), SetOwnerInstall(0)):
        Client12(execute, os.urandom).run(request)


def _flags(execute: Execute) -> TPM_PERMANENT_FLAGS:
    request = GetCapability(TPM_CAP_FLAG, TPM_CAP_FLAG_PERMANENT.to_bytes(4, "big"))
    return decode(TPM_PERMANENT_FLAGS, Client12(execute, os.urandom).run(request).resp)


DIGEST = TPMT_HA(TPM_ALG_SHA256, hashlib.sha256(b"something").digest())
TPM20 = Family(
    "2.0", TPM_RC_INITIALIZE, _pcr_16,
    lambda execute: Client(execute, os.urandom).run(PCRExtend(16, [DIGEST]), Password()),
    lambda execute: Client(execute, os.urandom).run(NVDefineSpace(TPM_RH_OWNER, b"", PUBLIC), Password()),
    lambda execute: not rc_of(lambda: Client(execute, os.urandom).run(NVReadPublic(INDEX))),
)
TPM12 = Family(
    "1.2", TPM_INVALID_POSTINIT,
    lambda execute: Client12(execute, os.urandom).run(PcrRead(16)).out_digest,
    lambda execute: Client12(execute, os.urandom).run(Extend(16, bytes(20))),
    _install_no_owner, lambda execute: not _flags(execute).ownership,
)
families = pytest.mark.parametrize("family", [TPM20, TPM12], ids=["2.0", "1.2"])


def guest(system: System, name: str, family: Family, **how: bool) -> Device:
    """Return a vTPM; a 1.2 has no endorsement key, which would take long."""
    return system.add_guest(name, tpm=family.name, bare=True, **how)


def extended(device: Device, family: Family) -> bytes:
    """Return PCR 16 of *device*, which is started and measures something into it."""
    device.start_up("clear")
    family.extend(device.execute)
    value = family.pcr_16(device.execute)
    assert value.strip(b"\0")
    return value


def volatile(device: Device) -> bytes:
    found = device.get_state(PTM_BLOB_TYPE_VOLATILE)
    assert found is not None
    return found


@families
def test_a_suspended_vtpm_goes_on_in_this_process_and_in_another(tmp_path: Path, family: Family) -> None:
    system = System(tmp_path / "state")
    device = guest(system, "web1", family)
    value = extended(device, family)
    device.store_volatile()
    device.power_off()
    device.power_on(keep_volatile=False)
    assert family.pcr_16(device.execute) == value
    device.store_volatile()
    system.close()
    system = System(tmp_path / "state")
    device = guest(system, "web1", family, resume=True)
    assert family.pcr_16(device.execute) == value
    system.close()
    system = System(tmp_path / "state")
    device = guest(system, "web1", family, resume=True)
    assert code(device, "clear") == 0  # It has been resumed once, and then was shut down.
    system.close()


@families
def test_a_launch_in_progress_is_suspended_as_well(system: System, family: Family) -> None:
    device = guest(system, "web1", family)
    device.start_up("clear")
    device.hash_start()
    device.hash_data(b"what is ")
    device.store_volatile()
    device.power_off(orderly=False)
    device.power_on()
    device.hash_data(b"launched")
    device.hash_end()
    assert device.established
    assert not rc_of(lambda: family.pcr_16(device.execute))


@families
def test_a_vtpm_that_was_used_since_does_not_go_back(system: System, family: Family) -> None:
    device = guest(system, "web1", family)
    value = extended(device, family)
    device.store_volatile()
    family.change(device.execute)
    device.power_off(orderly=False)
    device.power_on()
    assert code(device, "clear") == 0
    assert family.changed(device.execute)
    assert family.pcr_16(device.execute) == bytes(len(value))


@families
def test_a_suspended_vtpm_that_is_started_anyway_is_not_suspended_any_more(
    tmp_path: Path, family: Family,
) -> None:
    system = System(tmp_path / "state")
    extended(device := guest(system, "web1", family), family)
    device.store_volatile()
    system.close()
    (stored,) = (tmp_path / "state" / "guests" / "web1").glob("*.running")
    system = System(tmp_path / "state")
    device = guest(system, "web1", family)
    assert code(device, "clear") == 0
    device.accept()
    assert not stored.exists()
    system.close()


@families
def test_a_running_state_moves_to_another_vtpm_with_its_permanent_state(
    system: System, family: Family,
) -> None:
    source = guest(system, "web1", family)
    value = extended(source, family)
    states = permanent(source), volatile(source)
    target = guest(system, "web2", family)
    target.power_off()
    target.set_state(PTM_BLOB_TYPE_PERMANENT, states[0])
    target.set_state(PTM_BLOB_TYPE_VOLATILE, states[1])
    target.set_state(PTM_BLOB_TYPE_SAVESTATE, b"")
    target.power_on(keep_volatile=False)
    assert family.pcr_16(target.execute) == value
    assert code(target, "clear") == family.not_started
    target.power_off()
    target.power_on()
    assert code(target, "clear") == 0


@families
def test_a_running_state_without_its_permanent_state_is_refused(system: System, family: Family) -> None:
    source = guest(system, "web1", family)
    extended(source, family)
    state, running = permanent(source), volatile(source)
    family.change(source.execute)
    target = guest(system, "web2", family)
    target.power_off()
    own = target.guest.permanent()
    for given in (None, permanent(source)):
        if given is not None:
            target.set_state(PTM_BLOB_TYPE_PERMANENT, given)
        with pytest.raises(StateError):
            target.set_state(PTM_BLOB_TYPE_VOLATILE, running)
    target.set_state(PTM_BLOB_TYPE_PERMANENT, state)
    with pytest.raises(StateError):
        target.set_state(PTM_BLOB_TYPE_VOLATILE, running[:-1])
    # Nothing that was set counts any more.
    target.power_on()
    assert permanent(target) == own


def test_a_running_state_of_the_other_family_is_refused(system: System) -> None:
    source, target = guest(system, "new", TPM20), guest(system, "old", TPM12)
    running = volatile(source)
    target.power_off()
    with pytest.raises(StateError, match=r"this is not the state of a running TPM 1\.2"):
        target.set_state(PTM_BLOB_TYPE_VOLATILE, running)
    target.power_on()
    assert code(target, "clear") == 0


def test_without_power_there_is_no_running_state(system: System) -> None:
    device = guest(system, "web1", TPM12, powered=False)
    for act in (device.store_volatile, lambda: volatile(device)):
        with pytest.raises(StateError, match="has no power, so there is no running state"):
            act()


@families
def test_a_file_that_is_no_running_state_is_named(tmp_path: Path, family: Family) -> None:
    system = System(tmp_path / "state")
    extended(device := guest(system, "web1", family), family)
    device.store_volatile()
    system.close()
    (stored,) = (tmp_path / "state" / "guests" / "web1").glob("*.running")
    intact = stored.read_bytes()
    stored.write_bytes(b"something else entirely")
    system = System(tmp_path / "state")
    with pytest.raises(StateError, match=f"{stored}: not the state of a running TPM"):
        guest(system, "web1", family, resume=True)
    system.close()
    # One that is damaged is as good as none.
    stored.write_bytes(intact[:-1])
    system = System(tmp_path / "state")
    assert code(guest(system, "web1", family, resume=True), "clear") == 0
    system.close()
