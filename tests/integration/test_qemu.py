"""QEMU with a TPM of ours by its `emulator` back end: what its firmware measures, and its state in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwtpm.client import Client, Execute, Password
from hwtpm.client12 import Client as Client12
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm12.requests.endorsement import CreateEndorsementKeyPair, ReadPubek
from hwtpm.tpm12.requests.random import GetRandom as GetRandom12
from hwtpm.tpm12.requests.ticks import GetTicks
from tests.support.emulator import OURS, THEIRS
from tests.support.fake_machine import u32
from tests.support.qemu import Qemu, emulator, left_behind, make_disk
from tests.support.templates import storage
from tests.support.tpm12 import STORAGE_PARMS

FIRMWARE_PCRS = 0xFF
NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")
GIVE_UP_S = 60
models = pytest.mark.parametrize(
    ("model", "family"), [("tpm-tis", "2.0"), ("tpm-crb", "2.0"), ("tpm-tis", "1.2")])


def firmware_pcrs(execute: Execute, family: str = "2.0") -> list[bytes]:
    """Return PCRs 0 to 7, the SHA-256 ones of a TPM 2.0."""
    if family == "1.2":
        return [execute(bytes.fromhex("00c10000000e00000015") + u32(index))[10:] for index in range(8)]
    client = Client(execute, os.urandom)
    return client.run(PCRRead([selection(TPM_ALG_SHA256, FIRMWARE_PCRS)])).pcr_values


def identity(execute: Execute, family: str) -> tuple[bytes, ...]:
    """Return something permanent, something that goes with power, and the PCRs of the firmware.

    Of a TPM 2.0 the first two are primaries of the owner's seed and of the null seed, of a TPM 1.2 its
    endorsement key and the nonce of its ticks.
    """
    if family == "1.2":
        old = Client12(execute, os.urandom)
        return (old.run(ReadPubek(bytes(20))).pub_endorsement_key.pub_key,
                old.run(GetTicks()).current_time.tick_nonce, *firmware_pcrs(execute, family))
    client = Client(execute, os.urandom)
    names = []
    for hierarchy in (TPM_RH_OWNER, TPM_RH_NULL):
        made = client.run(CreatePrimary(hierarchy, NOTHING, storage(), b"", []), Password())
        names.append(made.name)
        client.run(FlushContext(made.object_handle))
    return (*names, *firmware_pcrs(execute))


def random(execute: Execute, family: str) -> bytes:
    if family == "1.2":
        return Client12(execute, os.urandom).run(GetRandom12(32)).random_bytes
    return Client(execute, os.urandom).run(GetRandom(32)).random_bytes


def set_up(directory: Path, family: str) -> None:
    """There is a TPM in *directory*, and a TPM 1.2 has an endorsement key, as swtpm_setup would make it."""
    with emulator(OURS, directory, "--flags", "startup-clear", family=family) as tpm:
        if family == "1.2":
            with left_behind(tpm) as execute:
                Client12(execute, os.urandom).run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS))
        tpm.end()


@models
def test_the_firmware_measures_into_ours_what_it_measures_into_swtpm(
    tmp_path: Path, model: str, family: str,
) -> None:
    measured = {}
    for program in (OURS, THEIRS):
        with emulator(program, tmp_path / program, family=family) as tpm:
            with Qemu(tmp_path, tpm.ctrl, model) as machine:
                machine.wait_for_firmware()
            with left_behind(tpm) as execute:
                measured[program] = firmware_pcrs(execute, family)
    assert measured[OURS] == measured[THEIRS]
    assert len(measured[OURS]) == 8
    assert {len(value.strip(b"\0")) > 10 for value in measured[OURS]} == {True}


def test_a_reset_of_the_machine_is_one_of_the_tpm(tmp_path: Path) -> None:
    with emulator(OURS, tmp_path / "state") as tpm:
        with Qemu(tmp_path, tpm.ctrl, "tpm-tis") as machine:
            machine.wait_for_firmware()
            machine.ask("system_reset")
            machine.wait_for_firmware()
        with left_behind(tpm) as execute:
            twice = firmware_pcrs(execute)
    with emulator(OURS, tmp_path / "state") as tpm:
        with Qemu(tmp_path, tpm.ctrl, "tpm-tis") as machine:
            machine.wait_for_firmware()
        with left_behind(tpm) as execute:
            assert firmware_pcrs(execute) == twice


def test_a_machine_that_ends_takes_its_tpm_with_it(tmp_path: Path) -> None:
    with emulator(OURS, tmp_path / "state") as tpm, Qemu(tmp_path, tpm.ctrl, "tpm-crb") as machine:
        machine.wait_for_firmware()
        machine.quit()
        assert tpm.has_ended()


@models
def test_a_machine_that_was_saved_to_a_file_goes_on_with_the_same_tpm(
    tmp_path: Path, model: str, family: str,
) -> None:
    """Another process of ours, with another state directory, becomes the TPM that the first one was."""
    file = tmp_path / "machine"
    set_up(tmp_path / "source", family)
    with emulator(OURS, tmp_path / "source", family=family) as tpm:
        with Qemu(tmp_path, tpm.ctrl, model) as machine:
            machine.wait_for_firmware()
            machine.save(file)
        with left_behind(tpm) as execute:
            before, said = identity(execute, family), random(execute, family)
    with emulator(OURS, tmp_path / "target", family=family) as tpm:
        with Qemu(tmp_path, tpm.ctrl, model, incoming=file) as machine:
            machine.wait_until_it_runs()
        with left_behind(tpm) as execute:
            assert identity(execute, family) == before
            assert random(execute, family) != said
        tpm.end()
    # What was taken over is durable: the same permanent secrets without the machine.
    flags = ("--flags", "startup-clear")
    with emulator(OURS, tmp_path / "target", *flags, family=family) as tpm, left_behind(tpm) as execute:
        permanent, _, *pcrs = identity(execute, family)
        assert permanent == before[0]
        assert pcrs == [bytes(len(before[2]))] * 8


@models
def test_a_snapshot_of_the_machine_has_its_tpm(tmp_path: Path, model: str, family: str) -> None:
    """A machine that started anew, with another null seed or nonce, becomes the one that savevm kept."""
    disk = tmp_path / "disk"
    make_disk(disk)
    set_up(tmp_path / "state", family)
    found = []
    for verb in ("savevm", None, "loadvm"):
        with emulator(OURS, tmp_path / "state", family=family) as tpm:
            with Qemu(tmp_path, tpm.ctrl, model, disk=disk) as machine:
                machine.wait_for_firmware()
                if verb is not None:
                    machine.snapshot(verb, "kept")
            with left_behind(tpm) as execute:
                found.append(identity(execute, family))
    saved, anew, loaded = found
    assert anew != saved
    assert loaded == saved


def test_a_machine_whose_tpm_was_swtpm_s_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "machine"
    with emulator(THEIRS, tmp_path / "source") as tpm, Qemu(tmp_path, tpm.ctrl, "tpm-tis") as machine:
        machine.wait_for_firmware()
        machine.save(file)
    with emulator(OURS, tmp_path / "target") as tpm, Qemu(tmp_path, tpm.ctrl, "tpm-tis", file) as machine:
        assert machine.process.wait(GIVE_UP_S) != 0
        assert "TPM error 0x1e" in (tmp_path / "qemu.log").read_text()
    assert "a state blob of type 1 is refused: " in (tmp_path / "target" / "log").read_text()
