"""Measuring files: what gets into the list and the PCRs, in which order, and what is refused."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path

import pytest

from cusetpm import imalog
from cusetpm.measure import BadLog, DoesNotFit, ima, imaverify
from cusetpm.measure.pcr import Given, bank_of
from cusetpm.measure.tpm import Tpm, connect
from cusetpm.tpmfile import TpmFile
from hwtpm.client import Password
from hwtpm.crypto import ids
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.pcr import PCRAllocate
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR, TPM_CC_PCR_Extend
from hwtpm.tpm2.types.handles import TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.tpm12.types.ordinals import TPM_ORD_Extend
from tests.support import tpm2, tpm12
from tests.support.served import served

Machine = tpm2.Machine | tpm12.Machine
_BANKS = {tpm2.Machine: 4, tpm12.Machine: 1}


@pytest.fixture(params=[tpm2, tpm12], ids=["2.0", "1.2"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """A TPM of each family after its Startup."""
    return request.param.started()


def tpm_of(machine: Machine) -> Tpm:
    return connect(machine.execute, os.urandom)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in ("a", "b", "with space"):
        (tmp_path / name).write_text(f"content of {name}")
    return [str(tmp_path / name) for name in ("a", "b", "with space")]


def measure(machine: Machine, path: Path, *files: str, template: str = "ima-ng", hash_name: str = "sha256",
            form: ima.Format | None = None) -> list[bytes]:
    tpm = tpm_of(machine)
    return imalog.measure(tpm, str(path), files, template=template, hash_name=hash_name, form=form)


def verified(machine: Machine, path: Path) -> ima.MeasurementList:
    """Return the list at *path*, which fits the TPM."""
    found = ima.parse(path.read_bytes())
    values = tpm_of(machine).read(range(11))
    assert len(values) == _BANKS[type(machine)] * 11
    assert imaverify.verify(found, Given(values, "the TPM")).used == len(found.entries)
    return found


@pytest.mark.parametrize("form", ["binary", "ascii"])
@pytest.mark.parametrize(("template", "hash_name"), [
    ("ima", "sha1"), ("ima-ng", "sha1"), ("ima-ng", "sha384"), ("ima-sig", "sha256"), ("ima-sig", "sha512")])
def test_the_list_and_pcr_10_of_every_bank_contain_each_file(
        machine: Machine, tmp_path: Path, files: list[str], template: str, hash_name: str,
        form: ima.Format) -> None:
    lines = measure(machine, tmp_path / "list", *files, template=template, hash_name=hash_name, form=form)
    found = verified(machine, tmp_path / "list")
    assert (found.format, [ima.show(e) for e in found.entries]) == (form, lines)
    aggregate, *rest = found.entries
    assert aggregate.name == b"boot_aggregate"
    assert [e.name for e in rest] == [os.fsencode(f).replace(b" ", b"_") for f in files]
    assert [e.file_digest for e in rest] == [
        ("" if template == "ima" else hash_name, hashlib.new(hash_name, Path(f).read_bytes()).digest())
        for f in files]


@pytest.mark.parametrize(("hash_name", "bank"), [
    ("sha384", "sha384"), ("sha512", "sha512"), ("sha1", "sha1")])
def test_the_boot_aggregate_is_of_the_bank_of_the_hash(
        machine: Machine, tmp_path: Path, files: list[str], hash_name: str, bank: str) -> None:
    if isinstance(machine, tpm12.Machine):
        bank = "sha1"
    check_aggregate(machine, tmp_path / "list", files[0], hash_name, bank)


def test_the_boot_aggregate_is_of_sha256_without_a_bank_of_the_hash(tmp_path: Path, files: list[str]) -> None:
    machine = tpm2.started()
    machine.run(PCRAllocate(TPM_RH_PLATFORM, [TPMS_PCR_SELECTION(ids.SHA512, bytes(3))]), Password())
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    check_aggregate(machine, tmp_path / "list", files[0], "sha512", "sha256")


def check_aggregate(machine: Machine, path: Path, file: str, hash_name: str, bank: str) -> None:
    """Measure *file* with the hash, and find the boot_aggregate in its list to be one of *bank*."""
    tpm = tpm_of(machine)
    for index in 3, 9:
        tpm.extend(index, {alg: bytes(len(value)) for (alg, _), value in tpm.read([index]).items()})
    measure(machine, path, file, hash_name=hash_name)
    values = tpm.read(range(10))
    covered = b"".join(values[bank_of(bank), index] for index in range(8 if bank == "sha1" else 10))
    first = ima.parse(path.read_bytes()).entries[0]
    assert first.file_digest == (bank, hashlib.new(bank, covered).digest())


def test_what_is_measured_already_is_not_again_until_it_changes(
        machine: Machine, tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "list"
    assert len(measure(machine, path, *files, files[0])) == 4
    before = path.read_bytes()
    assert measure(machine, path, *files) == []
    assert path.read_bytes() == before
    Path(files[1]).write_text("changed")
    (line,) = measure(machine, path, *files)
    assert line.endswith(b"/b\n")
    assert imaverify.changed(verified(machine, path)) == [files[1].encode()]


def test_a_link_is_measured_where_it_leads(machine: Machine, tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "link").symlink_to("a")
    measure(machine, tmp_path / "list", str(tmp_path / "link"))
    assert verified(machine, tmp_path / "list").entries[1].name == files[0].encode()


def test_an_ascii_list_is_continued_in_its_format(machine: Machine, tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "list"
    measure(machine, path, files[0], form="ascii")
    measure(machine, path, files[1], template="ima-sig")
    assert [e.template for e in verified(machine, path).entries] == ["ima-ng", "ima-ng", "ima-sig"]
    with pytest.raises(BadLog, match="the list is in the ascii format"):
        measure(machine, path, files[2], form="binary")


@pytest.mark.parametrize("attribute", ["security.ima", "security.evm"])
def test_template_ima_sig_records_the_signature(
        machine: Machine, tmp_path: Path, files: list[str], attribute: str) -> None:
    signature = (b"\x03" if attribute == "security.ima" else b"\x05") + b"\x02\x04 a signature"
    try:
        os.setxattr(files[0], attribute, signature)
    except OSError as error:
        pytest.skip(f"{attribute} cannot be set here: {error.strerror}")
    measure(machine, tmp_path / "list", *files[:2], template="ima-sig")
    assert [e.field("sig") for e in verified(machine, tmp_path / "list").entries] == [b"", signature, b""]


# Refusals

@pytest.mark.parametrize(("name", "why"), [
    ("missing", "No such file"), ("", "not a regular file"), ("fifo", "not a regular file")])
def test_a_file_that_cannot_be_measured_stops_everything_before_it_begins(
        machine: Machine, tmp_path: Path, files: list[str], name: str, why: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match=why) as caught:
        measure(machine, tmp_path / "list", files[0], str(tmp_path / name))
    assert caught.value.filename == str(tmp_path / name)
    assert not (tmp_path / "list").exists()
    assert not any(tpm_of(machine).read([10])[ids.SHA1, 10])


def test_a_new_list_for_a_pcr_that_was_extended_is_refused(
        machine: Machine, tmp_path: Path, files: list[str]) -> None:
    measure(machine, tmp_path / "list", files[0])
    with pytest.raises(DoesNotFit, match="the list is new, and sha1:10 was extended before"):
        measure(machine, tmp_path / "other", files[0])


def test_a_list_that_does_not_fit_the_tpm_is_not_continued(
        machine: Machine, tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "list"
    measure(machine, path, files[0])
    before = path.read_bytes()
    another = tpm2.started() if isinstance(machine, tpm2.Machine) else tpm12.started()
    with pytest.raises(DoesNotFit, match=r"entry 1 \(boot_aggregate\) is the first that is not in sha1:10"):
        measure(another, path, files[1])
    tpm_of(machine).extend(10, {ids.SHA1: bytes(20)})
    also = "; sha256:10 sha384:10 sha512:10 fits$" if isinstance(machine, tpm2.Machine) else "by itself$"
    with pytest.raises(DoesNotFit, match=f"^sha1:10 would be .*{also}"):
        measure(machine, path, files[1])
    assert path.read_bytes() == before


def test_an_entry_that_the_tpm_refuses_is_not_in_the_list(
        machine: Machine, tmp_path: Path, files: list[str]) -> None:
    extends = 0

    def refusing(command: bytes) -> bytes:
        nonlocal extends
        if int.from_bytes(command[6:10], "big") in (TPM_CC_PCR_Extend, TPM_ORD_Extend):
            extends += 1
            if extends == 3:
                return bytes.fromhex("80010000000a00000907" if command[0] else "00c40000000a00000007")
        return machine.execute(command)

    path = tmp_path / "list"
    with pytest.raises(TpmError):
        imalog.measure(connect(refusing, os.urandom), str(path), files, template="ima-ng", hash_name="sha256",
                       form=None)
    assert len(verified(machine, path).entries) == 2
    measure(machine, path, *files)
    assert len(verified(machine, path).entries) == 4


def test_garbage_is_not_continued(machine: Machine, tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "list").write_bytes(b"garbage")
    with pytest.raises(BadLog, match="neither of IMA's list formats"):
        measure(machine, tmp_path / "list", files[0])
    assert (tmp_path / "list").read_bytes() == b"garbage"


def _measure_elsewhere(path: str, file: str, socket: str) -> None:
    with TpmFile(socket) as file_of_tpm:
        imalog.measure(connect(file_of_tpm.execute, os.urandom), path, [file], template="ima-ng",
                       hash_name="sha256", form=None)


def test_several_processes_may_continue_one_list_at_once(tmp_path: Path, machine: Machine) -> None:
    names = [tmp_path / str(number) for number in range(6)]
    for name in names:
        name.write_text(name.name)
    spawn = multiprocessing.get_context("spawn")
    with served(machine.execute, tmp_path) as socket:
        running = [spawn.Process(target=_measure_elsewhere, args=(str(tmp_path / "list"), str(name), socket))
                   for name in names]
        for process in running:
            process.start()
        for process in running:
            process.join()
            assert process.exitcode == 0
    found = verified(machine, tmp_path / "list")
    assert {e.name for e in found.entries[1:]} == {os.fsencode(name) for name in names}
