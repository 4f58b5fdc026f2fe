"""A vTPM whose storage is let go of and taken again, alone and between two processes that share it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.daemon import System
from cusetpm.devices.swtpm import abi
from cusetpm.devices.swtpm.control import Control, Policy
from cusetpm.guest import Guest
from cusetpm.holder import RETRY_S, Holder
from hwtpm.client import Client, Password
from hwtpm.client12 import Client as Client12
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2.requests.pcr import PCREvent, PCRRead
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_RC_FAILURE
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.startup import Startup as Startup12
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR
from tests.support.emulator import CHECKOUT, OURS, Emulator, running
from tests.support.fake_machine import u32
from tests.support.tpm2 import rc_of

STARTUP = bytes.fromhex("80010000000c000001440000")
SUCCESS = bytes.fromhex("80010000000a00000000")
FAILED = bytes.fromhex("80010000000a00000101")
KINDS = (abi.PTM_BLOB_TYPE_PERMANENT, abi.PTM_BLOB_TYPE_VOLATILE, abi.PTM_BLOB_TYPE_SAVESTATE)


class Waits:
    """Remembers how long it was to wait, and does not."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def holder(tmp_path: Path, waits: Waits) -> Iterator[Holder]:
    """Give a vTPM that runs and has measured something."""
    made = Holder(tmp_path / "state", "tpm0", "2.0", wait=waits)
    made.power_on(keep_volatile=False)
    assert made.execute(STARTUP) == SUCCESS
    client(made).run(PCREvent(16, b"something"), Password())
    yield made
    made.close()


def client(holder: Holder) -> Client:
    return Client(holder.execute, os.urandom)


def pcr_16(holder: Holder) -> bytes:
    (value,) = client(holder).run(PCRRead([selection(TPM_ALG_SHA256, 1 << 16)])).pcr_values
    return value


def is_free(state: Path, tpm: str = "2.0") -> bool:
    """Tell whether another process can use *state*; it does nothing to the vTPM."""
    words = [CHECKOUT / "scripts" / "cusetpm", "run", "--startup", "none", "--front-end", "socket",
             "--tpm", tpm, "--state-dir", state, "--", "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "in use by process" in done.stderr, done.stderr
    return done.returncode == 0


def test_what_was_let_go_can_be_taken_by_another_and_again_by_the_first(
    holder: Holder, tmp_path: Path,
) -> None:
    before = pcr_16(holder)
    assert not is_free(tmp_path / "state")
    holder.unlock()
    holder.unlock()
    assert holder.running
    assert is_free(tmp_path / "state")
    assert holder.lock(0)
    assert not is_free(tmp_path / "state")
    assert pcr_16(holder) == before != bytes(32)


def test_a_command_takes_the_storage_again_by_itself(holder: Holder) -> None:
    before = pcr_16(holder)
    holder.unlock()
    assert pcr_16(holder) == before


def test_storage_that_another_holds_is_waited_for_as_often_as_asked(holder: Holder, waits: Waits,
                                                                    tmp_path: Path) -> None:
    holder.unlock()
    with running(OURS, tmp_path / "state") as other:
        assert not holder.lock(3)
        assert waits.asked == [RETRY_S] * 3
        assert rc_of(lambda: pcr_16(holder)) == TPM_RC_FAILURE
        other.end()
    assert holder.lock(3)
    assert len(waits.asked) == 3


def test_a_vtpm_that_another_has_used_does_not_go_on(holder: Holder, tmp_path: Path) -> None:
    holder.unlock()
    other = System(tmp_path / "state")
    device = other.add_guest("tpm0")
    device.start_up("clear")
    device.accept()
    other.close()
    with pytest.raises(StateError, match=r"used by another process since, so the TPM in memory cannot go on"):
        holder.lock(0)
    assert holder.execute(STARTUP) == FAILED
    with pytest.raises(TpmError) as refusal:
        Control(holder).lock_storage(0)
    assert refusal.value.rc == abi.TPM_FAIL
    # It can be started anew, as after a loss of power.
    holder.power_off(orderly=True)
    holder.power_on(keep_volatile=False)
    assert holder.execute(STARTUP) == SUCCESS


def test_what_is_only_in_memory_is_lost_without_a_trace(holder: Holder, tmp_path: Path) -> None:
    holder.unlock()
    before = contents(tmp_path / "state")
    holder.power_off(orderly=True)
    assert not holder.running
    holder.close()
    assert contents(tmp_path / "state") == before


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_stopped_vtpm_lets_go_and_starts_again(holder: Holder, tmp_path: Path) -> None:
    holder.power_off(orderly=True)
    holder.unlock()
    assert is_free(tmp_path / "state")
    holder.power_on(keep_volatile=False)
    assert holder.execute(STARTUP) == SUCCESS


def test_a_tpm_1_2_is_let_go_and_taken_again_like_a_tpm_2_0(tmp_path: Path) -> None:
    holder = Holder(tmp_path / "state", "tpm0", "1.2")
    holder.power_on(keep_volatile=False)
    tpm = Client12(holder.execute, os.urandom)
    tpm.run(Startup12(TPM_ST_CLEAR))
    value = tpm.run(Extend(16, bytes(20))).out_digest
    holder.unlock()
    assert is_free(tmp_path / "state", "1.2")
    assert tpm.run(PcrRead(16)).out_digest == value
    assert not is_free(tmp_path / "state", "1.2")
    holder.close()


def test_a_vtpm_that_cannot_be_kept_in_memory_keeps_its_storage(
    holder: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(guest: Guest) -> bytes:
        raise StateError("which state is the last one cannot be learned now")

    with monkeypatch.context() as patch:
        patch.setattr(Guest, "running", refuse)
        holder.unlock()
    assert not is_free(tmp_path / "state")
    assert pcr_16(holder) != bytes(32)


def test_fetching_the_last_state_lets_go_only_on_demand(holder: Holder, tmp_path: Path) -> None:
    for wanted in (False, True):
        control = Control(holder, Policy(release_lock_outgoing=wanted))
        control.stateblob_fetched(abi.PTM_BLOB_TYPE_PERMANENT)
        control.stateblob_fetched(abi.PTM_BLOB_TYPE_SAVESTATE)
        assert is_free(tmp_path / "state") == wanted


# Two processes on one state directory.


class Channels:
    """Both channels of *emulator*."""

    def __init__(self, emulator: Emulator) -> None:
        self.ctrl, self.data = (socket.socket(socket.AF_UNIX) for _ in range(2))
        for connection, path in ((self.ctrl, emulator.ctrl), (self.data, emulator.data)):
            connection.settimeout(60)
            connection.connect(str(path))

    def ask(self, message: bytes) -> bytes:
        self.ctrl.sendall(message)
        return self.ctrl.recv(600_000)

    def execute(self, command: bytes) -> bytes:
        self.data.sendall(command)
        return self.data.recv(4096)

    def pcr_16(self) -> bytes:
        command = PCRRead([selection(TPM_ALG_SHA256, 1 << 16)])
        return Client(self.execute, os.urandom).run(command).pcr_values[0]

    def close(self) -> None:
        self.ctrl.close()
        self.data.close()


def test_a_migration_over_shared_storage(tmp_path: Path) -> None:
    """As libvirt starts the two: the target is there while the source still holds the storage."""
    state = ("--tpmstate", f"dir={tmp_path / 'state'}")
    (tmp_path / "state").mkdir()
    with (
        running(OURS, tmp_path / "source", *state, "--migration", "release-lock-outgoing") as one,
        running(OURS, tmp_path / "target", *state, "--migration", "incoming,release-lock-outgoing") as other,
    ):
        source, target = Channels(one), Channels(other)
        assert source.ask(u32(abi.CMD_INIT, 0)) == u32(0)
        assert source.execute(STARTUP) == SUCCESS
        Client(source.execute, os.urandom).run(PCREvent(16, b"something"), Password())
        value = source.pcr_16()
        assert target.ask(u32(abi.CMD_LOCK_STORAGE, 1)) == u32(abi.TPM_FAIL)
        blobs = [source.ask(u32(abi.CMD_GET_STATEBLOB, 1, kind, 0))[16:] for kind in KINDS]
        for kind, blob in zip(KINDS, blobs, strict=True):
            assert target.ask(u32(abi.CMD_SET_STATEBLOB, 0, kind, len(blob)) + blob) == u32(0)
        assert target.ask(u32(abi.CMD_INIT, abi.PTM_INIT_FLAG_DELETE_VOLATILE)) == u32(0)
        assert target.pcr_16() == value
        # The source has nothing to go on with as long as the target is there.
        assert source.execute(STARTUP) == FAILED
        assert source.ask(u32(abi.CMD_SHUTDOWN)) == u32(0)
        assert one.has_ended()
        assert target.pcr_16() == value
        source.close()
        target.close()


def test_a_migration_that_fails_leaves_the_source_as_it_was(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "source", "--migration", "release-lock-outgoing") as emulator:
        source = Channels(emulator)
        assert source.ask(u32(abi.CMD_INIT, 0)) == u32(0)
        assert source.execute(STARTUP) == SUCCESS
        for kind in KINDS:
            source.ask(u32(abi.CMD_GET_STATEBLOB, 1, kind, 0))
        assert is_free(tmp_path / "source")
        assert source.ask(u32(abi.CMD_LOCK_STORAGE, 300)) == u32(0)  # QEMU's way.
        assert not is_free(tmp_path / "source")
        assert source.pcr_16() == bytes(32)
        source.close()
