"""What the look-alike of sysfs says: formats, and what becomes of it when the TPM is not as usual."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cusetpm import sysfs
from cusetpm.daemon import Device, System
from cusetpm.devices.files import Directory, Entry, File, Link
from cusetpm.measure import ima
from hwtpm.client import Password
from hwtpm.crypto import ids
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import DA_MAX_TRIES
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.pcr import PCRAllocate, PCRExtend
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.state.pcr import ALL_PCRS, selection
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.constants import TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_SU_CLEAR
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.startup import Startup as Startup12
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR
from tests.support import tpm2, tpm12
from tests.support.managed import Managed
from tests.support.templates import ecc

VECTORS = Path(__file__).parents[1] / "vectors"
IMA = json.loads((VECTORS / "ima_linux.json").read_text())["ima-ng"]
LOG = VECTORS / "eventlog" / "ovmf.bin"
CHIP = "class/tpm/tpm0"
BANKS_20 = {f"pcr-{name}" for name in ("sha1", "sha256", "sha384", "sha512")}
ONLY_12 = ("pubek", "pcrs", "enabled", "active", "owned", "temp_deactivated", "caps", "durations", "timeouts")


class Tree:
    """The look-alike of a TPM, and files for its lists in *directory*; `cancels` counts what it asked for."""

    def __init__(self, execute: Callable[[bytes], bytes], family: str, directory: Path) -> None:
        self.ima_list, self.event_log = directory / "ima", directory / "eventlog"
        self.cancels = 0
        self.root = Directory(sysfs.tree(execute, family, self._cancel, self.ima_list, self.event_log))

    def _cancel(self) -> None:
        self.cancels += 1

    def at(self, path: str) -> Entry:
        found: Entry = self.root
        for name in path.split("/"):
            assert isinstance(found, Directory)
            found = found.entries[name]
        return found

    def list(self, path: str) -> set[str]:
        found = self.at(path)
        assert isinstance(found, Directory)
        return {*found.entries.keys() - found.changing, *found.now()}

    def read(self, path: str) -> str:
        found = self.at(path)
        assert isinstance(found, File)
        assert found.read is not None
        return found.read().decode()


def refusal(tree: Tree, path: str) -> int | None:
    """Return the error that ends the read of a file."""
    with pytest.raises(OSError, match="Errno") as caught:
        tree.read(path)
    return caught.value.errno


def tree_of(machine: tpm2.Machine | tpm12.Machine, directory: Path) -> Tree:
    return Tree(machine.execute, "1.2" if isinstance(machine, tpm12.Machine) else "2.0", directory)


# TPM 2.0

def test_a_pcr_is_a_line_of_capital_hexadecimal_as_it_is_now(tmp_path: Path) -> None:
    machine = tpm2.started()
    tree = tree_of(machine, tmp_path)
    assert tree.list(CHIP) == {"tpm_version_major", *BANKS_20}
    assert tree.read(f"{CHIP}/tpm_version_major") == "2\n"
    for bank, size in (("sha1", 20), ("sha256", 32), ("sha384", 48), ("sha512", 64)):
        assert tree.list(f"{CHIP}/pcr-{bank}") == {str(n) for n in range(24)}
        assert tree.read(f"{CHIP}/pcr-{bank}/0") == "00" * size + "\n"
        assert tree.read(f"{CHIP}/pcr-{bank}/17") == "FF" * size + "\n"
    machine.run(PCRExtend(10, [TPMT_HA(TPM_ALG_SHA256, bytes(range(32)))]), Password())
    extended = tree.read(f"{CHIP}/pcr-sha256/10")
    assert extended == extended.upper()
    assert len(extended) == 65
    assert int(extended, 16)
    assert not int(tree.read(f"{CHIP}/pcr-sha1/10"), 16)


def test_only_banks_that_are_allocated_are_there_and_a_pcr_without_a_value_is_invalid(tmp_path: Path) -> None:
    machine = tpm2.started()
    tree = tree_of(machine, tmp_path)
    machine.run(PCRAllocate(TPM_RH_PLATFORM, [
        selection(TPM_ALG_SHA1, 0), selection(TPM_ALG_SHA256, ALL_PCRS), selection(ids.SHA384, 0),
        selection(ids.SHA512, 0)]), Password())
    assert tree.list(CHIP) > BANKS_20  # until power goes
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    assert tree.list(CHIP) == {"tpm_version_major", "pcr-sha256"}
    assert tree.read(f"{CHIP}/pcr-sha256/0")
    assert refusal(tree, f"{CHIP}/pcr-sha1/0") == errno.EINVAL


def test_before_the_startup_there_are_no_pcrs(tmp_path: Path) -> None:
    tree = tree_of(tpm2.make_engine(), tmp_path)
    assert tree.list(CHIP) == {"tpm_version_major"}
    assert refusal(tree, f"{CHIP}/pcr-sha256/0") == errno.EIO


def test_a_tpm_that_has_failed_has_no_values_and_still_a_version(tmp_path: Path) -> None:
    machine = tpm2.started()
    tree = tree_of(machine, tmp_path)
    machine.tpm.power.failed = True
    assert refusal(tree, f"{CHIP}/pcr-sha256/0") == errno.EIO
    assert tree.read(f"{CHIP}/tpm_version_major") == "2\n"


def test_looking_moves_nothing_of_anybody(tmp_path: Path) -> None:
    """It is done in a space: nobody's objects have to leave the TPM for it, and none appear."""
    shared = Managed(tpm2.started().execute)
    inside, raw = shared.open(), shared.raw
    tree = Tree(shared.manager.open().execute, "2.0", tmp_path)
    tree.list(CHIP)
    shared.wire.commands.clear()
    tree.read(f"{CHIP}/pcr-sha256/0")
    tree.list(CHIP)
    asked = list(shared.wire.commands)
    assert set(asked) == {0x17A, 0x17E}  # TPM2_GetCapability, TPM2_PCR_Read
    for user in (raw, inside):
        user.run(CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), ecc(), b"", []), Password())
    shared.wire.commands.clear()
    tree.read(f"{CHIP}/pcr-sha256/0")
    tree.list(CHIP)
    assert shared.wire.commands == asked
    assert len(raw.list("objects")) == len(inside.list("objects")) == 1


# TPM 1.2

def test_a_tpm_12_is_shown_in_the_formats_of_the_kernel(tmp_path: Path) -> None:
    machine = tpm12.with_endorsement_key()
    machine.run(Extend(3, bytes(range(20))))
    tree = tree_of(machine, tmp_path)
    assert tree.list(CHIP) == {"tpm_version_major", "pcr-sha1", "device", "cancel", *ONLY_12}
    assert tree.at(f"{CHIP}/device") == Link(".")
    shown = {name: tree.read(f"{CHIP}/{name}") for name in ONLY_12}
    pcrs = shown["pcrs"].split("\n")
    assert pcrs.pop() == ""
    assert len(pcrs) == 24
    assert pcrs[0] == "PCR-00: " + "00 " * 20
    assert pcrs[17] == "PCR-17: " + "FF " * 20
    assert pcrs[3].replace(" ", "") == "PCR-03:" + tree.read(f"{CHIP}/pcr-sha1/3").strip()
    head, modulus = shown["pubek"].split("Modulus:\n")
    assert head == ("Algorithm: 00 00 00 01\nEncscheme: 00 03\nSigscheme: 00 01\n"
                    "Parameters: 00 00 08 00 00 00 00 02 00 00 00 00\nModulus length: 256\n")
    assert [len(line) for line in modulus.split("\n")] == [47] * 16 + [0]
    assert len(bytes.fromhex(modulus)) == 256
    assert shown["caps"] == "Manufacturer: 0x4354504d\nTCG version: 1.2\nFirmware version: 0.1\n"
    assert shown["durations"] == "1000000 10000000 60000000 [original]\n"
    assert shown["timeouts"] == "750000 2000000 750000 750000 [original]\n"
    assert [shown[name] for name in ("enabled", "active", "owned", "temp_deactivated")] == [
        "1\n", "1\n", "0\n", "0\n"]
    assert tree.read(f"{CHIP}/tpm_version_major") == "1\n"


def test_the_flags_of_a_tpm_12_are_those_of_now(tmp_path: Path) -> None:
    machine = tpm12.with_endorsement_key()
    tree = tree_of(machine, tmp_path)
    key = machine.run(ReadPubek(bytes(20))).pub_endorsement_key
    tpm12.take_ownership(machine.client, key)
    assert tree.read(f"{CHIP}/owned") == "1\n"
    assert tree.read(f"{CHIP}/pubek") == ""  # The owner reads it from now on; the kernel shows nothing then.
    machine.tpm.flags.set(disable=True, deactivated=True)
    assert [tree.read(f"{CHIP}/{name}") for name in ("enabled", "active")] == ["0\n", "0\n"]


def test_a_tpm_12_without_startup_shows_nothing(tmp_path: Path) -> None:
    machine = tpm12.Machine()
    tree = tree_of(machine, tmp_path)
    assert [tree.read(f"{CHIP}/{name}") for name in ONLY_12] == [""] * len(ONLY_12)
    assert refusal(tree, f"{CHIP}/pcr-sha1/0") == errno.EIO
    machine.run(Startup12(TPM_ST_CLEAR))
    assert tree.read(f"{CHIP}/caps")


def test_a_lock_against_guessing_does_not_lock_what_is_shown(tmp_path: Path) -> None:
    """It is for commands that are authorized, and none of these is."""
    old = tpm12.with_endorsement_key()
    while not old.tpm.lockout.seconds_left:
        old.tpm.lockout.fail()
    tree = tree_of(old, tmp_path)
    assert all(tree.read(f"{CHIP}/{name}") for name in ONLY_12)
    new = tpm2.started()
    for _ in range(DA_MAX_TRIES):
        with pytest.raises(TpmError):
            new.run(DictionaryAttackLockReset(TPM_RH_LOCKOUT), Password(b"wrong"))
    tree = tree_of(new, tmp_path)
    assert tree.list(CHIP) > BANKS_20
    assert tree.read(f"{CHIP}/pcr-sha256/0")


def test_writing_to_cancel_asks_for_it_whatever_is_written(tmp_path: Path) -> None:
    tree = tree_of(tpm12.started(), tmp_path)
    cancel = tree.at(f"{CHIP}/cancel")
    assert isinstance(cancel, File)
    assert cancel.read is None
    assert cancel.write is not None
    cancel.write(b"1\n")
    cancel.write(b"")
    assert tree.cancels == 2


# Through all boxes.

def look(device: Device, directory: Path) -> Tree:
    return Tree(device.execute if device.manager is None else device.manager.open().execute, device.family,
                directory)


@pytest.mark.parametrize("family", ["2.0", "1.2"])
def test_without_power_there_are_no_values(tmp_path: Path, family: str) -> None:
    system = System(tmp_path / "state")
    try:
        device = system.add_guest("tpm0", tpm=family)
        device.start_up("clear")
        tree = look(device, tmp_path)
        bank = "sha256" if family == "2.0" else "sha1"
        before = tree.read(f"{CHIP}/pcr-{bank}/0")
        device.power_off()
        assert refusal(tree, f"{CHIP}/pcr-{bank}/0") == errno.EIO
        if family == "1.2":
            assert [tree.read(f"{CHIP}/{name}") for name in ONLY_12] == [""] * len(ONLY_12)
        device.power_on()
        device.start_up("clear")
        assert tree.read(f"{CHIP}/pcr-{bank}/0") == before
    finally:
        system.close()


# Lists

def test_lists_are_there_once_they_are_recorded(tmp_path: Path) -> None:
    tree = tree_of(tpm2.started(), tmp_path)
    security = "kernel/security"
    assert tree.list(f"{security}/ima") == tree.list(f"{security}/tpm0") == set()
    tree.ima_list.write_bytes(b"")
    assert tree.list(f"{security}/ima") == set()
    tree.ima_list.write_bytes(bytes.fromhex(IMA["binary"]))
    tree.event_log.write_bytes(LOG.read_bytes())
    ends = ("", "_sha1", "_sha256", "_sha384", "_sha512")
    assert tree.list(f"{security}/ima") == {
        f"{form}_runtime_measurements{end}" for form in ("ascii", "binary") for end in ends}
    assert tree.read(f"{security}/ima/ascii_runtime_measurements") == IMA["ascii"]
    assert tree.read(f"{security}/ima/ascii_runtime_measurements_sha1") == IMA["ascii"]
    of_bank = ima.parse(tree.read(f"{security}/ima/ascii_runtime_measurements_sha256").encode())
    assert of_bank.alg == ids.SHA256
    assert tree.list(f"{security}/tpm0") == {"binary_bios_measurements"}
    log = tree.at(f"{security}/tpm0/binary_bios_measurements")
    assert isinstance(log, File)
    assert log.read is not None
    assert log.read() == LOG.read_bytes()


def test_what_is_no_list_is_an_error_of_input(tmp_path: Path) -> None:
    tree = tree_of(tpm2.started(), tmp_path)
    tree.ima_list.write_bytes(b"garbage")
    tree.event_log.write_bytes(b"garbage")
    for path in ("ima/ascii_runtime_measurements", "tpm0/binary_bios_measurements"):
        assert refusal(tree, f"kernel/security/{path}") == errno.EIO


def test_what_is_no_file_is_not_shown_and_nobody_waits_for_it(tmp_path: Path) -> None:
    tree = tree_of(tpm2.started(), tmp_path)
    made: list[tuple[Callable[[Path], object], Callable[[Path], object]]] = [
        (os.mkfifo, os.unlink), (os.mkdir, os.rmdir), (lambda path: os.symlink(path, path), os.unlink)]
    for make, remove in made:
        make(tree.ima_list)
        assert tree.list("kernel/security/ima") == set()
        with pytest.raises(OSError, match="Errno"):
            tree.read("kernel/security/ima/ascii_runtime_measurements")
        remove(tree.ima_list)


def test_a_list_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    tree = tree_of(tpm2.started(), tmp_path)
    tree.event_log.touch()
    os.truncate(tree.event_log, 1 << 40)
    assert refusal(tree, "kernel/security/tpm0/binary_bios_measurements") == errno.EIO


def test_an_entry_that_is_half_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list grows while it is read: what ends within an entry is read again, for then there is more."""
    tree = tree_of(tpm2.started(), tmp_path)
    whole = bytes.fromhex(IMA["binary"])
    versions = [whole[:-40], whole[:-7], whole]
    monkeypatch.setattr(sysfs, "_content", lambda path: versions.pop(0) if versions else whole)
    assert tree.read("kernel/security/ima/ascii_runtime_measurements") == IMA["ascii"]
    assert versions == []
