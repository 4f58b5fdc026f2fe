"""A full disk: one line when a start is refused, one for each time that saves begin to fail."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cusetpm.daemon import System
from cusetpm.trouble import Trouble, line
from hwtpm.client import Client, Password
from hwtpm.errors import StateError, TpmError
from hwtpm.slots import Slots
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.types.constants import TPM_RC_NV_UNAVAILABLE
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from manager.store import Store

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/s/state.1")

needs_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None,
                                reason="mounts a small file system, which needs root and unshare")


def on_small_disk(place: Path, size: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* with a state directory on a disk of *size* KiB; then list what is on it."""
    script = (f'mount -t tmpfs -o size={size}k none {place} && {{ "$@"; status=$?; find {place} -mindepth 1; '
              'exit $status; }')
    run = [*CUSETPM, "run", "--front-end", "socket", "--state-dir", f"{place}/s", "--", *command]
    return subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *run], capture_output=True, text=True,
                          check=False, timeout=120)


@needs_root
def test_a_disk_too_small_for_a_new_tpm_is_one_line_that_names_a_file_and_stays_empty(tmp_path: Path) -> None:
    files = set()
    for size in (*range(4, 60, 8), *range(60, 1000, 4)):
        done = on_small_disk(tmp_path, size, "true")
        told = done.stderr.splitlines()
        if not done.returncode:
            break
        assert (done.returncode, len(told)) == (125, 1), done.stderr
        found = re.fullmatch(rf"cusetpm: {tmp_path}/s/([^:]+): .*(full|space .*); make room there", told[0])
        assert found, told
        files.add(found[1])
        assert done.stdout == ""
    assert files >= {"chip.1", "chip.0", "manager.db", "guests/tpm0/state.0"}
    assert size > 60


@needs_root
def test_a_disk_that_fills_up_at_the_end_is_one_line(tmp_path: Path) -> None:
    """There is room for the start and not for the Shutdown; which file fails depends on the size."""
    told = []
    for size in range(100, 184, 6):
        done = on_small_disk(tmp_path, size, "true")
        if not done.returncode:
            assert len(done.stderr.splitlines()) <= 1, done.stderr
            told.append(done.stderr.replace(f"{tmp_path}/s/", "").strip())
    assert told[-1] == ""
    assert "cusetpm: vTPM tpm0: its state cannot be saved: guests/tpm0/state.1: No space left on device; " \
           "make room there" in told


@needs_root
def test_a_disk_that_is_full_three_times_is_three_lines(tmp_path: Path) -> None:
    script = r"""
        try() { printf %s "$1" | tpm2_nvwrite -i- 0x1500001 2>/dev/null; }
        write() { try "$1" && echo "wrote $1" || echo "failed $1"; }
        fill() { cat /dev/zero >"$0/fill" 2>/dev/null; }
        # Until there is no room left in the files that are there, either.
        use() { n=0; while [ $n -lt 100 ] && try $((n % 2)); do n=$((n + 1)); done; }
        tpm2_nvdefine -s 1 0x1500001 >/dev/null
        write 1
        for value in 4 5; do
            fill; use; write 2; write 3
            rm "$0/fill"; write $value
        done
        tpm2_nvread -s 1 0x1500001; echo
        fill; use
        exit 7
    """
    done = on_small_disk(tmp_path, 250, "sh", "-c", script, str(tmp_path))
    failed = ["failed 2", "failed 3"]
    assert done.stdout.splitlines()[:8] == ["wrote 1", *failed, "wrote 4", *failed, "wrote 5", "5"]
    assert done.returncode == 7
    told = done.stderr.splitlines()
    assert len(told) == 3
    # Whoever meets it first tells it: the vTPM, or the manager at the end of its second.
    what = "(vTPM tpm0: its state cannot be saved|the manager's saves cannot be counted by the chip)"
    wanted = rf"cusetpm: {what}: {tmp_path}/s/\S+: .*; make room there"
    assert all(re.fullmatch(wanted, each) for each in told)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with closing(System(tmp_path / "s")) as made:
        yield made


def change(tpm: Client, octet: int) -> None:
    """Change the owner's authorization value, which is *octet* - 1, to *octet*."""
    tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, bytes([octet])), Password(bytes([octet - 1]).strip(b"\0")))


@pytest.mark.parametrize("what", ["slot", "store", "both"])
def test_saves_that_fail_are_told_once_and_again_after_one_succeeded(
        system: System, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    device = system.add_guest("tpm0")
    device.start_up("clear")
    tpm = Client(device.execute, os.urandom)
    change(tpm, 1)
    system.manager._ledger._interval = 0  # Nothing is put off.

    def fail_slot(self: Slots, slot: int, record: bytes) -> None:
        raise FULL

    def fail_store(self: Store, *changes: object) -> None:
        raise StateError("SQLite: database or disk is full; make room there")

    for octet in (2, 3):
        caplog.clear()
        with monkeypatch.context() as patch:
            if what != "store":
                patch.setattr(Slots, "write", fail_slot)
            if what != "slot":
                patch.setattr(Store, "commit", fail_store)
            for _ in range(5):
                with pytest.raises(TpmError) as caught:
                    change(tpm, octet)
                assert caught.value.rc == TPM_RC_NV_UNAVAILABLE
                system._not_counted(StateError("SQLite: database or disk is full; make room there"))
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        named = "/s/state.1: No space" if what != "store" else f"{system.state.manager}: SQLite: "
        assert record.getMessage().startswith(f"vTPM tpm0: its state cannot be saved: {named}")
        system._counting.over()
        change(tpm, octet)


def test_the_chips_own_disk_is_named_where_its_answer_says_little(
        system: System, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    device = system.add_guest("tpm0")
    device.start_up("clear")
    change(Client(device.execute, os.urandom), 1)
    system.manager._ledger._interval = 0
    real = Slots.write

    def fail(self: Slots, slot: int, record: bytes) -> None:
        if self.path == system.state.chip:
            raise OSError(errno.EIO, os.strerror(errno.EIO), f"{self.path}.{slot}")
        real(self, slot, record)

    with monkeypatch.context() as patch:
        patch.setattr(Slots, "write", fail)
        for _ in range(3):
            with pytest.raises(TpmError):
                change(Client(device.execute, os.urandom), 2)
    (record,) = caplog.records
    said = rf"vTPM tpm0: its state cannot be saved: {system.state.chip}\.[01]: Input/output error"
    assert re.fullmatch(said, record.getMessage())
    # The store had the last change already, so it was completed.
    change(Client(device.execute, os.urandom), 3)


def test_a_cause_that_a_neighbour_has_told_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    together: list[Trouble] = []
    one, other, third = Trouble("one", together), Trouble("other", together), Trouble("third", together)
    for trouble in (one, other):
        trouble.met(FULL)
    third.met(PermissionError(errno.EACCES, "Permission denied", "/s/state.0"))
    assert [record.getMessage() for record in caplog.records] == [
        "one: /s/state.1: No space left on device; make room there", "third: /s/state.0: Permission denied"]
    one.over()  # So there is room again, and a disk that fills up anew is told anew.
    assert other.cause is None
    assert third.cause is not None
    other.met(FULL)
    assert caplog.records[-1].getMessage() == f"other: {line(FULL)}"
