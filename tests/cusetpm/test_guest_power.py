"""A vTPM without power, and with it again: what stays, what goes, and what can be put in its place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cusetpm.daemon import Device, System
from cusetpm.devices.swtpm.abi import (
    PTM_BLOB_TYPE_PERMANENT,
    PTM_BLOB_TYPE_SAVESTATE,
    PTM_BLOB_TYPE_VOLATILE,
    TPM_BAD_TYPE,
)
from hwtpm.client import Client, Password
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
from tests.support.tpm2 import rc_of

INDEX = 0x01500020


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
    public = TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE, b"", 8)
    client(device).run(NVDefineSpace(TPM_RH_OWNER, b"", public), Password())


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


def pcr_16(device: Device) -> bytes:
    (value,) = client(device).run(PCRRead([selection(TPM_ALG_SHA256, 1 << 16)])).pcr_values
    return value


def extended(device: Device) -> bytes:
    """Return PCR 16 of *device*, which is started and measures something into it."""
    device.start_up("clear")
    digest = TPMT_HA(TPM_ALG_SHA256, hashlib.sha256(b"something").digest())
    client(device).run(PCRExtend(16, [digest]), Password())
    return pcr_16(device)


def volatile(device: Device) -> bytes:
    found = device.get_state(PTM_BLOB_TYPE_VOLATILE)
    assert found is not None
    return found


def test_a_suspended_vtpm_goes_on_in_this_process_and_in_another(tmp_path: Path) -> None:
    system = System(tmp_path / "state")
    device = system.add_guest("web1")
    value = extended(device)
    device.store_volatile()
    device.power_off()
    device.power_on(keep_volatile=False)
    assert pcr_16(device) == value
    device.store_volatile()
    system.close()
    system = System(tmp_path / "state")
    device = system.add_guest("web1", resume=True)
    assert pcr_16(device) == value
    system.close()
    system = System(tmp_path / "state")
    device = system.add_guest("web1", resume=True)
    assert code(device, "clear") == 0  # It has been resumed once, and then was shut down.
    system.close()


def test_a_vtpm_that_was_used_since_does_not_go_back(system: System) -> None:
    device = system.add_guest("web1")
    extended(device)
    device.store_volatile()
    define(device)
    device.power_off(orderly=False)
    device.power_on()
    assert code(device, "clear") == 0
    assert defined(device)
    assert pcr_16(device) == bytes(32)


def test_a_suspended_vtpm_that_is_started_anyway_is_not_suspended_any_more(tmp_path: Path) -> None:
    system = System(tmp_path / "state")
    extended(device := system.add_guest("web1"))
    device.store_volatile()
    system.close()
    (stored,) = (tmp_path / "state" / "guests" / "web1").glob("*.running")
    system = System(tmp_path / "state")
    device = system.add_guest("web1")
    assert code(device, "clear") == 0
    device.accept()
    assert not stored.exists()
    system.close()


def test_a_running_state_moves_to_another_vtpm_with_its_permanent_state(system: System) -> None:
    source = system.add_guest("web1")
    value = extended(source)
    states = permanent(source), volatile(source)
    target, _ = stopped(system, "web2")
    target.set_state(PTM_BLOB_TYPE_PERMANENT, states[0])
    target.set_state(PTM_BLOB_TYPE_VOLATILE, states[1])
    target.set_state(PTM_BLOB_TYPE_SAVESTATE, b"")
    target.power_on(keep_volatile=False)
    assert pcr_16(target) == value
    assert code(target, "clear") == TPM_RC_INITIALIZE
    target.power_off()
    target.power_on()
    assert code(target, "clear") == 0


def test_a_running_state_without_its_permanent_state_is_refused(system: System) -> None:
    source = system.add_guest("web1")
    extended(source)
    state, running = permanent(source), volatile(source)
    define(source)
    target, own = stopped(system, "web2")
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


def test_a_file_that_is_no_running_state_is_named(tmp_path: Path) -> None:
    system = System(tmp_path / "state")
    extended(device := system.add_guest("web1"))
    device.store_volatile()
    system.close()
    (stored,) = (tmp_path / "state" / "guests" / "web1").glob("*.running")
    intact = stored.read_bytes()
    stored.write_bytes(b"something else entirely")
    system = System(tmp_path / "state")
    with pytest.raises(StateError, match=f"{stored}: not the state of a running TPM"):
        system.add_guest("web1", resume=True)
    system.close()
    # One that is damaged is as good as none.
    stored.write_bytes(intact[:-1])
    system = System(tmp_path / "state")
    assert code(system.add_guest("web1", resume=True), "clear") == 0
    system.close()


def test_a_running_tpm_1_2_cannot_be_suspended(system: System) -> None:
    device = system.add_guest("old", tpm="1.2")
    with pytest.raises(StateError, match=r"a running TPM 1.2 cannot be suspended"):
        device.store_volatile()
