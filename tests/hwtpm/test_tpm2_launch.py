"""Measured launches (Part 3, 22.9 to 22.11): alone, by registers, and beside swtpm."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

from hwtpm.chip import Chip
from hwtpm.client import Client
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_REQUEST_USE,
    ACCESS_TPM_ESTABLISHMENT,
    STS_RESET_ESTABLISHMENT_BIT,
    TPM_ACCESS,
    TPM_HASH_DATA,
    TPM_HASH_END,
    TPM_HASH_START,
    TPM_STS,
)
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.pcr import PCRAllocate, PCRRead
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.pcr import ALL_PCRS, selection
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA512,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import TPM_RH_PLATFORM
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import Machine, make_engine, refused, started
from tests.support.tpm2_pair import run

P1 = 0x140
PARTS = (b"what is ", b"about to run")
MEASURED = hashlib.sha256(b"".join(PARTS)).digest()
ONES = b"\xff" * 32


def launch(machine: Machine) -> None:
    machine.engine.hash_start()
    for part in PARTS:
        machine.engine.hash_data(part)
    machine.engine.hash_end()


def pcrs(client: Client, first: int, last: int, alg: int = TPM_ALG_SHA256) -> list[bytes]:
    return [client.run(PCRRead([selection(alg, 1 << index)])).pcr_values[0]
            for index in range(first, last + 1)]


def extended(value: bytes) -> bytes:
    return hashlib.sha256(value + MEASURED).digest()


def test_a_dynamic_launch_resets_its_pcrs_and_measures() -> None:
    machine = started()
    before = pcrs(machine.client, 0, 16)
    assert pcrs(machine.client, 17, 22) == [ONES] * 6
    clock, counter = machine.run(ReadClock()).current_time.clock_info, machine.tpm.pcrs.counter
    launch(machine)
    assert machine.engine.dirty, "restartCount is permanent"
    assert pcrs(machine.client, 0, 16) == before
    assert pcrs(machine.client, 17, 22) == [extended(bytes(32)), *[bytes(32)] * 5]
    assert machine.run(ReadClock()).current_time.clock_info.restart_count == clock.restart_count + 1
    assert machine.tpm.pcrs.counter > counter


def test_an_h_crtm_measures_into_pcr_0_before_the_startup() -> None:
    machine = make_engine()
    launch(machine)
    machine.run(Startup(TPM_SU_CLEAR))
    assert pcrs(machine.client, 0, 1) == [extended(bytes(31) + b"\x04"), bytes(32)]
    assert pcrs(machine.client, 17, 17) == [ONES]


def test_only_the_last_h_crtm_counts() -> None:
    machine = make_engine()
    launch(machine)
    launch(machine)
    machine.run(Startup(TPM_SU_CLEAR))
    assert pcrs(machine.client, 0, 0) == [extended(bytes(31) + b"\x04")]


def test_a_sequence_that_a_startup_interrupts_has_no_effect() -> None:
    machine = make_engine()
    machine.engine.hash_start()
    machine.engine.hash_data(b"data")
    machine.run(Startup(TPM_SU_CLEAR))
    before = pcrs(machine.client, 0, 22)
    machine.engine.hash_end()
    assert pcrs(machine.client, 0, 22) == before


def test_data_and_end_without_start_do_nothing() -> None:
    machine = started()
    before = pcrs(machine.client, 0, 23)
    machine.engine.hash_data(b"data")
    machine.engine.hash_end()
    launch(machine)
    machine.engine.hash_data(b"more")
    machine.engine.hash_end()
    assert pcrs(machine.client, 0, 16) == before[:17]
    assert pcrs(machine.client, 17, 17) == [extended(bytes(32))]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_a_resume_has_the_h_crtm_of_the_run_it_resumes(first: bool, second: bool) -> None:
    machine = make_engine()
    if first:
        launch(machine)
    machine.run(Startup(TPM_SU_CLEAR))
    machine.run(Shutdown(TPM_SU_STATE))
    kept = pcrs(machine.client, 0, 0)
    machine.power_cycle()
    if second:
        launch(machine)
    with refused(TPM_RC_VALUE | P1):
        machine.run(Startup(TPM_SU_STATE))
    machine.power_cycle()
    if first:
        launch(machine)
    machine.run(Startup(TPM_SU_STATE))
    assert pcrs(machine.client, 0, 0) == kept


def test_a_launch_nullifies_a_shutdown() -> None:
    machine = started()
    machine.run(Shutdown(TPM_SU_STATE))
    launch(machine)
    machine.durable = machine.engine.snapshot()
    machine.power_cycle()
    with refused(TPM_RC_VALUE | P1):
        machine.run(Startup(TPM_SU_STATE))


def test_the_h_crtm_measures_into_the_banks_of_the_new_allocation() -> None:
    machine = started()
    run(machine.client, PCRAllocate(TPM_RH_PLATFORM, [selection(TPM_ALG_SHA1, 0),
                                                      selection(TPM_ALG_SHA512, ALL_PCRS)]))
    machine.power_cycle()
    launch(machine)
    machine.run(Startup(TPM_SU_CLEAR))
    measured = hashlib.sha512(b"".join(PARTS)).digest()
    assert pcrs(machine.client, 0, 0, TPM_ALG_SHA512) == [
        hashlib.sha512(bytes(63) + b"\x04" + measured).digest()]


def test_in_failure_mode_nothing_is_measured() -> None:
    machine = started()
    machine.tpm.power.failed = True
    before = machine.tpm.pcrs.save_volatile(), list(machine.tpm.pcrs.banks[TPM_ALG_SHA256])
    launch(machine)
    assert before == (machine.tpm.pcrs.save_volatile(), machine.tpm.pcrs.banks[TPM_ALG_SHA256])


# Through the registers.

def make_chip(path: Path) -> Chip:
    ticks = itertools.count()
    return Chip(path, CtrDrbg(b"a chip").generate, lambda: next(ticks))


def by_registers(chip: Chip) -> None:
    chip.tis.write(4, TPM_HASH_START, 1, 0)
    for part in PARTS:
        for octet in part:
            chip.tis.write(4, TPM_HASH_DATA, 1, octet)
    chip.tis.write(4, TPM_HASH_END, 1, 0)


def established(chip: Chip) -> bool:
    return not chip.tis.read(0, TPM_ACCESS, 1) & ACCESS_TPM_ESTABLISHMENT


def test_the_platform_launches_through_the_registers_of_locality_4(tmp_path: Path) -> None:
    chip = make_chip(tmp_path / "nv")
    client = Client(lambda command: chip.engine.execute(command)[0], CtrDrbg(b"n").generate)
    client.run(Startup(TPM_SU_CLEAR))
    before = chip.saves
    by_registers(chip)
    assert chip.saves > before
    assert pcrs(client, 17, 17) == [extended(bytes(32))]
    chip.close()


def test_the_record_of_a_launch_outlives_power_until_it_is_reset(tmp_path: Path) -> None:
    chip = make_chip(tmp_path / "nv")
    assert not established(chip)
    by_registers(chip)
    assert established(chip)
    chip.close()
    chip = make_chip(tmp_path / "nv")
    assert established(chip)
    chip.tis.write(3, TPM_ACCESS, 1, ACCESS_REQUEST_USE)
    chip.tis.write(3, TPM_STS, 4, STS_RESET_ESTABLISHMENT_BIT)
    chip.tis.write(3, TPM_ACCESS, 1, ACCESS_ACTIVE_LOCALITY)
    assert not established(chip)
    chip.close()
    chip = make_chip(tmp_path / "nv")
    assert not established(chip)
    chip.close()


def test_a_record_that_cannot_be_stored_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = make_chip(tmp_path / "nv")

    def fail(slot: int, record: bytes) -> None:
        raise OSError("no space")

    monkeypatch.setattr(chip._slots, "write", fail)
    by_registers(chip)
    assert not chip.engine.established
    chip.close()


# Beside swtpm.

@pytest.mark.parametrize("early", [True, False])
def test_launches_are_swtpms(early: bool) -> None:
    machine = make_engine()
    with Swtpm("") as other:
        theirs = Client(other.execute, CtrDrbg(b"n").generate)
        for moment in (early, not early):
            if moment:
                launch(machine)
                other.hash_sequence(*PARTS)
            else:
                for client in (machine.client, theirs):
                    client.run(Startup(TPM_SU_CLEAR))
        assert pcrs(machine.client, 0, 23) == pcrs(theirs, 0, 23)
        ours, found = (client.run(ReadClock()).current_time.clock_info for client in (machine.client, theirs))
        assert ours.restart_count == found.restart_count
