"""Our TIS driver over QEMU's register model, which others wrote, with our TPM and with swtpm behind it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from hwtpm.chip import Chip
from hwtpm.client import Client, Password
from hwtpm.client12 import Client as Client12
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.family import family as family_of
from hwtpm.family import response_code
from hwtpm.tis.driver import Driver
from hwtpm.tis.mmio import ModelWindow
from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_BEEN_SEIZED,
    ACCESS_REQUEST_USE,
    ACCESS_SEIZE,
    INTF_BURST_COUNT_STATIC,
    INTF_DATA_TRANSFER_SIZE_64,
    STS_BURST_COUNT_SHIFT,
    STS_COMMAND_READY,
    STS_DATA_AVAIL,
    STS_EXPECT,
    TIS_BASE,
    TIS_PAGE,
    TPM_ACCESS,
    TPM_INTF_CAPABILITY,
    TPM_STS,
)
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead, PCRReset
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.symmetric import Hash
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_RC_CANCELED, TPM_RC_LOCALITY
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.tpm12.requests.endorsement import CreateEndorsementKeyPair
from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1Start, SHA1Update
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.integrity import PCRReset as PCRReset12
from hwtpm.tpm12.requests.random import GetRandom as GetRandom12
from hwtpm.tpm12.types.codes import TPM_NOTLOCAL
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from tests.support.emulator import OURS, THEIRS
from tests.support.qemu import Qemu, emulator
from tests.support.qtest import Bus, BusWindow
from tests.support.templates import rsa
from tests.support.tpm12 import STORAGE_PARMS

OURS_2, OURS_12, THEIRS_2, THEIRS_12 = (OURS, "2.0"), (OURS, "1.2"), (THEIRS, "2.0"), (THEIRS, "1.2")
DIGEST = bytes(range(32))
LONG = os.urandom(960)
every_tpm = pytest.mark.parametrize("tpm", [OURS_2, OURS_12, THEIRS_2, THEIRS_12], ids="-".join)


class Window(BusWindow):
    """The window, with a hand on what is read and written."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.patch: Callable[[int, int], int] = lambda offset, value: value
        self.dead = False  # nothing is written any more

    def read8(self, address: int) -> int:
        return self.patch(address % TIS_PAGE, super().read8(address)) & 0xFF

    def read32(self, address: int) -> int:
        return self.patch(address % TIS_PAGE, super().read32(address))

    def write8(self, address: int, value: int) -> None:
        if not self.dead:
            super().write8(address, value)


class Machine:
    """A machine that stands still, and our driver on its bus; its TPM has been started."""

    def __init__(self, qemu: Qemu, family: str) -> None:
        self.window = Window(qemu.bus)
        self.driver = Driver(self.window, clock=time.monotonic, sleep=time.sleep)
        assert self.driver.probe().is_2_0 == (family == "2.0")
        assert response_code(self.driver.execute(family_of(family).startup["clear"])) == 0

    def client(self, locality: int = 0) -> Client:
        return Client(lambda command: self.driver.execute(command, locality), os.urandom)

    def client12(self, locality: int = 0) -> Client12:
        return Client12(lambda command: self.driver.execute(command, locality), os.urandom)


@contextmanager
def machine(tmp_path: Path, tpm: tuple[str, str]) -> Iterator[Machine]:
    program, family = tpm
    state = tmp_path / "state"
    state.mkdir()
    if tpm == THEIRS_12:
        # A swtpm that nobody has set up is disabled.
        subprocess.run(["swtpm_setup", "--tpmstate", state], check=True, capture_output=True)
    with emulator(program, state, family=family) as behind, \
            Qemu(tmp_path, behind.ctrl, "tpm-tis", still=True) as qemu:
        yield Machine(qemu, family)


def whole_commands(found: Machine, family: str) -> None:
    """Random octets, a PCR that is extended and read, and a command of more than 960 octets."""
    if family == "1.2":
        old = found.client12()
        assert len({old.run(GetRandom12(32)).random_bytes for _ in range(3)}) == 3
        before = old.run(PcrRead(10)).out_digest
        assert old.run(Extend(10, DIGEST[:20])).out_digest == sha1(before + DIGEST[:20]).digest()
        assert old.run(PcrRead(10)).out_digest == sha1(before + DIGEST[:20]).digest()
        assert old.run(SHA1Start()).max_num_bytes >= len(LONG)
        old.run(SHA1Update(LONG))
        assert old.run(SHA1Complete(b"end")).hash_value == sha1(LONG + b"end").digest()
        return
    client = found.client()
    assert len({client.run(GetRandom(32)).random_bytes for _ in range(3)}) == 3
    before = client.run(PCRRead([selection(TPM_ALG_SHA256, 1 << 10)])).pcr_values[0]
    client.run(PCRExtend(10, [TPMT_HA(TPM_ALG_SHA256, DIGEST)]), Password())
    after = client.run(PCRRead([selection(TPM_ALG_SHA256, 1 << 10)])).pcr_values[0]
    assert after == sha256(before + DIGEST).digest()
    assert client.run(Hash(LONG, TPM_ALG_SHA256, TPM_RH_NULL)).out_hash == sha256(LONG).digest()


@every_tpm
def test_whole_commands_cross_the_registers(tmp_path: Path, tpm: tuple[str, str]) -> None:
    with machine(tmp_path, tpm) as found:
        whole_commands(found, tpm[1])


@every_tpm
def test_a_fifo_that_takes_seven_octets_at_a_time(tmp_path: Path, tpm: tuple[str, str]) -> None:
    """And takes them one by one: what the registers say is made smaller on the way to the driver."""

    def small(offset: int, value: int) -> int:
        if offset == TPM_INTF_CAPABILITY:
            return value & ~INTF_DATA_TRANSFER_SIZE_64 | INTF_BURST_COUNT_STATIC
        if offset == TPM_STS:
            burst = min(value >> STS_BURST_COUNT_SHIFT & 0xFFFF, 7)
            return value & ~(0xFFFF << STS_BURST_COUNT_SHIFT) | burst << STS_BURST_COUNT_SHIFT
        return value

    with machine(tmp_path, tpm) as found:
        found.window.patch = small
        found.driver.probe()
        whole_commands(found, tpm[1])


@every_tpm
def test_a_command_that_fills_the_fifo_is_answered_and_a_longer_one_does_not_reach_it(
    tmp_path: Path, tpm: tuple[str, str],
) -> None:
    tag, code = (0x00C1, 0x46) if tpm[1] == "1.2" else (0x8001, 0x17B)

    def long(size: int) -> bytes:
        return tag.to_bytes(2, "big") + size.to_bytes(4, "big") + code.to_bytes(4, "big") + bytes(size - 10)

    with machine(tmp_path, tpm) as found:
        # Their own refusals differ: swtpm has buffers of its own.
        assert response_code(found.driver.execute(long(4096))) != 0
        assert response_code(found.driver.execute(long(4097))) == (0x19 if tpm[1] == "1.2" else 0x142)
        whole_commands(found, tpm[1])


@every_tpm
def test_commands_come_from_the_locality_that_is_used(tmp_path: Path, tpm: tuple[str, str]) -> None:
    """PCR 20 can be reset from locality 2, and not from 0 or 1."""

    def reset(locality: int) -> int:
        try:
            if tpm[1] == "1.2":
                found.client12(locality).run(PCRReset12(TPM_PCR_SELECTION(b"\0\0\x10")))
            else:
                found.client(locality).run(PCRReset(20), Password())
        except TpmError as error:
            return error.rc
        return 0

    refused = TPM_NOTLOCAL if tpm[1] == "1.2" else TPM_RC_LOCALITY
    with machine(tmp_path, tpm) as found:
        assert [reset(locality) for locality in (2, 0, 2, 1)] == [0, refused, 0, refused]


def test_a_locality_that_another_one_seized_is_requested_again(tmp_path: Path) -> None:
    with machine(tmp_path, OURS_2) as found:
        other = TIS_BASE + 3 * TIS_PAGE + TPM_ACCESS
        found.window.write8(other, ACCESS_SEIZE)
        with pytest.raises(ProtocolError, match="TPM_ACCESS of locality 0: no activeLocality within 750 ms"):
            found.client().run(GetRandom(8))
        found.window.write8(other, ACCESS_ACTIVE_LOCALITY)
        found.client().run(GetRandom(8))


def test_force_seizes_from_a_lower_locality_and_not_from_a_higher_one(tmp_path: Path) -> None:
    with machine(tmp_path, OURS_2) as found:
        found.driver.release()
        access = TIS_BASE + TIS_PAGE + TPM_ACCESS
        found.window.write8(access, ACCESS_REQUEST_USE)
        found.driver.request_locality(2, force=True)
        assert found.window.read8(access) & ACCESS_BEEN_SEIZED
        found.driver.release()
        found.window.write8(access, ACCESS_REQUEST_USE)
        with pytest.raises(ProtocolError, match="TPM_ACCESS of locality 0: no activeLocality within 750 ms"):
            found.driver.request_locality(0, force=True)


def test_what_a_driver_that_was_killed_left_is_reclaimed(tmp_path: Path) -> None:
    """In the middle of a command: the next driver's first one is executed, not lost."""
    with machine(tmp_path, OURS_2) as found:
        request = CreatePrimary(TPM_RH_NULL, TPMS_SENSITIVE_CREATE(b"", b""), rsa(), b"", [])

        def killed(offset: int, value: int) -> int:
            if offset == TPM_STS and not value & (STS_COMMAND_READY | STS_EXPECT | STS_DATA_AVAIL):
                polls.append(value)
            if len(polls) == 3:  # The first was before tpmGo; the key takes longer than the others.
                found.window.dead = True
                raise KeyboardInterrupt
            return value

        polls: list[int] = []
        page = TIS_BASE + 2 * TIS_PAGE
        found.window.patch = killed
        with pytest.raises(KeyboardInterrupt):
            found.client(2).run(request, Password())
        found.window.patch, found.window.dead = lambda offset, value: value, False
        assert found.window.read8(page + TPM_ACCESS) & ACCESS_ACTIVE_LOCALITY
        found.driver = Driver(found.window, clock=time.monotonic, sleep=time.sleep)
        found.driver.probe()
        found.driver.reclaim()
        assert not found.window.read8(page + TPM_ACCESS) & ACCESS_ACTIVE_LOCALITY
        whole_commands(found, "2.0")


def test_a_tpm_that_shows_its_crb_interface_is_refused_by_that_name(tmp_path: Path) -> None:
    with emulator(OURS, tmp_path / "state") as behind, \
            Qemu(tmp_path, behind.ctrl, "tpm-crb", still=True) as qemu:
        driver = Driver(BusWindow(qemu.bus), clock=time.monotonic, sleep=time.sleep)
        with pytest.raises(ProtocolError, match="the TPM shows its CRB interface, not the FIFO"):
            driver.probe()


def test_a_locality_out_of_reach_is_one_line(tmp_path: Path) -> None:
    """QEMU lets nothing through to locality 4."""
    with machine(tmp_path, OURS_2) as found:
        with pytest.raises(ProtocolError, match="TPM_ACCESS of locality 4: no activeLocality within 750 ms"):
            found.client(4).run(GetRandom(8))
        found.client().run(GetRandom(8))


@every_tpm
def test_a_cancelled_command_ends_and_the_next_one_is_executed(tmp_path: Path, tpm: tuple[str, str]) -> None:
    """A TPM 2.0 answers that it was cancelled; the command of a TPM 1.2 is aborted, without an answer.

    swtpm reads its control channel between commands only, so that its TPM 2.0 carries on to the end.
    """
    def cancelling(offset: int, value: int) -> int:
        if offset == TPM_STS:
            found.driver.cancel()
        return value

    with machine(tmp_path, tpm) as found:
        found.window.patch = cancelling
        request = CreatePrimary(TPM_RH_NULL, TPMS_SENSITIVE_CREATE(b"", b""), rsa(), b"", [])
        if tpm[1] == "1.2":
            with pytest.raises(ProtocolError, match="the command was aborted"):
                found.client12().run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS))
        elif tpm == OURS_2:
            with pytest.raises(TpmError) as refusal:
                found.client().run(request, Password())
            assert refusal.value.rc == TPM_RC_CANCELED
        else:
            found.client().run(request, Password())
        found.window.patch = lambda offset, value: value
        whole_commands(found, tpm[1])


@pytest.mark.parametrize("family", ["2.0", "1.2"])
def test_our_chip_answers_behind_its_own_registers_as_behind_qemu_s(tmp_path: Path, family: str) -> None:
    """Whole, cut and senseless commands at each locality; only what has no secret of the chip in it."""
    kind = family_of(family)
    if family == "2.0":
        bodies = ["0000017e 00000001 000b 03 ffff00", "0000017a 00000006 00000100 00000004", "0000017a",
                  "00000fff", "0000013d 00000014 00000009 40000009 0000 00 0000", "00000144 0000",
                  "0000017b 0000"]
        tags = ["8001", "8002", "00c1"]
    else:
        bodies = ["00000015 0000000a", "00000014 00000012" + "5a" * 20, "00000065 00000005 00000004 00000101",
                  "00000fff", "00000015", "000000c8 0003 000010", "00000099 0001"]
        tags = ["00c1", "00c2", "8001"]
    chip = Chip(tmp_path / "chip", os.urandom, lambda: time.monotonic_ns() // 1_000_000, kind=kind)
    own = Driver(ModelWindow(chip.tis), clock=time.monotonic, sleep=time.sleep)
    assert response_code(own.execute(kind.startup["clear"])) == 0
    codes = set()
    with machine(tmp_path, (OURS, family)) as found:
        for locality in (0, 2, 3, 1):
            for tag in tags:
                for body in bodies:
                    octets = bytes.fromhex(body)
                    command = bytes.fromhex(tag) + (6 + len(octets)).to_bytes(4, "big") + octets
                    response = own.execute(command, locality)
                    assert response == found.driver.execute(command, locality), (tag, body, locality)
                    codes.add(response_code(response))
    chip.close()
    assert 0 in codes
    assert len(codes) > 4
