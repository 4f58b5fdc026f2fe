"""QEMU with a TPM of ours by its `emulator` back end: what its firmware measures, and its state in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hwtpm.client import Client, Password
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from tests.support.emulator import OURS, THEIRS, Emulator
from tests.support.qemu import Qemu, emulator, left_behind
from tests.support.templates import storage

FIRMWARE_PCRS = 0xFF
NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")
GIVE_UP_S = 60
models = pytest.mark.parametrize("model", ["tpm-tis", "tpm-crb"])


@contextmanager
def taken_over(tpm: Emulator) -> Iterator[Client]:
    """Give a client of the TPM that a machine has left behind."""
    with left_behind(tpm) as execute:
        yield Client(execute, os.urandom)


def firmware_pcrs(client: Client) -> list[bytes]:
    return client.run(PCRRead([selection(TPM_ALG_SHA256, FIRMWARE_PCRS)])).pcr_values


def identity(client: Client) -> tuple[bytes, ...]:
    """Return what depends on all that a TPM has: a permanent seed, one that goes with power, and PCRs."""
    names = []
    for hierarchy in (TPM_RH_OWNER, TPM_RH_NULL):
        made = client.run(CreatePrimary(hierarchy, NOTHING, storage(), b"", []), Password())
        names.append(made.name)
        client.run(FlushContext(made.object_handle))
    return (*names, *firmware_pcrs(client))


@models
def test_the_firmware_measures_into_ours_what_it_measures_into_swtpm(tmp_path: Path, model: str) -> None:
    measured = {}
    for program in (OURS, THEIRS):
        with emulator(program, tmp_path / program) as tpm:
            with Qemu(tmp_path, tpm.ctrl, model) as machine:
                machine.wait_for_firmware()
            with taken_over(tpm) as client:
                measured[program] = firmware_pcrs(client)
    assert measured[OURS] == measured[THEIRS]
    assert len(measured[OURS]) == 8
    assert bytes(32) not in measured[OURS]


def test_a_reset_of_the_machine_is_one_of_the_tpm(tmp_path: Path) -> None:
    with emulator(OURS, tmp_path / "state") as tpm:
        with Qemu(tmp_path, tpm.ctrl, "tpm-tis") as machine:
            machine.wait_for_firmware()
            machine.ask("system_reset")
            machine.wait_for_firmware()
        with taken_over(tpm) as client:
            twice = firmware_pcrs(client)
    with emulator(OURS, tmp_path / "state") as tpm:
        with Qemu(tmp_path, tpm.ctrl, "tpm-tis") as machine:
            machine.wait_for_firmware()
        with taken_over(tpm) as client:
            assert firmware_pcrs(client) == twice


def test_a_machine_that_ends_takes_its_tpm_with_it(tmp_path: Path) -> None:
    with emulator(OURS, tmp_path / "state") as tpm, Qemu(tmp_path, tpm.ctrl, "tpm-crb") as machine:
        machine.wait_for_firmware()
        machine.quit()
        assert tpm.has_ended()


@models
def test_a_machine_that_was_saved_to_a_file_goes_on_with_the_same_tpm(tmp_path: Path, model: str) -> None:
    """Another process of ours, with another state directory, becomes the TPM that the first one was."""
    file = tmp_path / "machine"
    with emulator(OURS, tmp_path / "source") as tpm:
        with Qemu(tmp_path, tpm.ctrl, model) as machine:
            machine.wait_for_firmware()
            machine.save(file)
        with taken_over(tpm) as client:
            before = identity(client)
            random = client.run(GetRandom(32)).random_bytes
    with emulator(OURS, tmp_path / "target") as tpm:
        with Qemu(tmp_path, tpm.ctrl, model, incoming=file) as machine:
            machine.wait_until_it_runs()
        with taken_over(tpm) as client:
            assert identity(client) == before
            assert client.run(GetRandom(32)).random_bytes != random
        tpm.end()
    # What was taken over is durable: the same permanent seeds without the machine.
    flags = ("--flags", "startup-clear")
    with emulator(OURS, tmp_path / "target", *flags) as tpm, taken_over(tpm) as client:
        owner, _, *pcrs = identity(client)
        assert owner == before[0]
        assert pcrs == [bytes(32)] * 8


def test_a_machine_whose_tpm_was_swtpm_s_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "machine"
    with emulator(THEIRS, tmp_path / "source") as tpm, Qemu(tmp_path, tpm.ctrl, "tpm-tis") as machine:
        machine.wait_for_firmware()
        machine.save(file)
    with emulator(OURS, tmp_path / "target") as tpm, Qemu(tmp_path, tpm.ctrl, "tpm-tis", file) as machine:
        assert machine.process.wait(GIVE_UP_S) != 0
        assert "TPM error 0x1e" in (tmp_path / "qemu.log").read_text()
    assert "a state blob of type 1 is refused: " in (tmp_path / "target" / "log").read_text()
