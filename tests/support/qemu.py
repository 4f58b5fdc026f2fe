"""QEMU with a TPM behind a control channel of swtpm's kind; `Qemu` boots its firmware and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from cusetpm.devices.swtpm import abi
from hwtpm.client import Execute
from tests.support.emulator import Emulator, running
from tests.support.fake_machine import u32
from tests.support.qtest import Bus

_GIVE_UP_S = 120
_DONE = b"No bootable device."  # the last words of SeaBIOS, long after all that it measures


@contextmanager
def emulator(program: str, directory: Path, *options: str, family: str = "2.0") -> Iterator[Emulator]:
    """Start *program* as QEMU wants it: no channel for commands but the one that QEMU passes."""
    ctrl = directory / "data.ctrl"
    words = ("--ctrl", f"type=unixio,path={ctrl}", *options)
    with running(program, directory, *words, sockets=False, family=family) as found:
        yield found


@contextmanager
def left_behind(tpm: Emulator) -> Iterator[Execute]:
    """Give what executes commands of the TPM that a machine has left behind, as it was."""
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as ctrl, ours:
        ctrl.settimeout(_GIVE_UP_S)
        ours.settimeout(_GIVE_UP_S)
        ctrl.connect(str(tpm.ctrl))
        with theirs:
            socket.send_fds(ctrl, [u32(abi.CMD_SET_DATAFD)], [theirs.fileno()])
        assert ctrl.recv(100) == u32(0)

        def execute(command: bytes) -> bytes:
            ours.sendall(command)
            return ours.recv(4096)

        yield execute


def make_disk(path: Path) -> None:
    """An empty disk that can hold snapshots is at *path*."""
    program = shutil.which("qemu-img")
    if program is None:
        pytest.skip("qemu-img is not installed")
    subprocess.run([program, "create", "-q", "-f", "qcow2", path, "1M"], check=True)


class Qemu:
    """A machine that runs; a context manager that ends it, as a crash would, if it still runs then.

    *ctrl* is the path of the control channel, *model* tpm-tis or tpm-crb; *incoming* a file that `save` made;
    *boot* a kernel and an initial file system, instead of which only firmware runs; *disk* an image that
    holds snapshots.  `serial` is the other end of the machine's serial port.  A machine that is *still* runs
    nothing: its devices are reached over its `bus`.
    """

    def __init__(self, directory: Path, ctrl: Path, model: str, incoming: Path | None = None,
                 boot: tuple[Path, Path] | None = None, disk: Path | None = None, *,
                 still: bool = False) -> None:
        program = shutil.which("qemu-system-x86_64")
        if program is None:
            pytest.skip("qemu-system-x86_64 is not installed")
        monitor, its_monitor = socket.socketpair()
        serial, its_serial = socket.socketpair()
        bus, its_bus = socket.socketpair()
        self._console, tell = os.pipe()
        words = [
            program, "-M", "q35", "-accel", "tcg", "-m", "64" if boot is None else "256",
            "-nodefaults", "-display", "none",
            "-chardev", f"socket,id=tpm,path={ctrl}", "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", f"{model},tpmdev=tpm",
            "-chardev", f"file,id=bios,path=/dev/fd/{tell}",
            "-device", "isa-debugcon,iobase=0x402,chardev=bios",
            "-chardev", f"socket,id=qmp,fd={its_monitor.fileno()}", "-mon", "chardev=qmp,mode=control",
            "-chardev", f"socket,id=tty,fd={its_serial.fileno()}", "-serial", "chardev:tty",
        ]
        if still:
            # Debian has QEMU without the accelerator qtest; a processor that is never started does as well.
            words += ["-S", "-chardev", f"socket,id=qtest,fd={its_bus.fileno()}"]
            words += ["-qtest", "chardev:qtest", "-qtest-log", "none"]
        if boot is not None:
            words += ["-kernel", str(boot[0]), "-initrd", str(boot[1])]
            words += ["-append", "console=ttyS0 quiet panic=-1"]
        if disk is not None:
            words += ["-drive", f"if=virtio,format=qcow2,file={disk}"]
        if incoming is not None:
            words += ["-incoming", f"exec:cat {incoming}"]
        self._log = directory / "qemu.log"
        theirs = (its_monitor, its_serial, its_bus)
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[tell, *(end.fileno() for end in theirs)])
        for end in theirs:
            end.close()
        serial.settimeout(_GIVE_UP_S)
        self.serial = serial
        self._bus = bus
        self.bus = Bus(bus)
        os.close(tell)
        monitor.settimeout(_GIVE_UP_S)
        self._monitor = monitor.makefile("rw")
        self._socket = monitor
        self._events: list[dict[str, Any]] = []
        self._read()  # The greeting.
        self.ask("qmp_capabilities")

    def __enter__(self) -> Qemu:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.crash()
        self._monitor.close()
        self._socket.close()
        self.serial.close()
        self._bus.close()
        os.close(self._console)

    def ask(self, command: str, **arguments: object) -> Any:
        """Return what the command of QMP returns."""
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor.flush()
        while True:
            found = self._read()
            if "event" in found:
                self._events.append(found)
                continue
            assert "return" in found, (command, found, self._log.read_text())
            return found["return"]

    def wait_for_firmware(self) -> None:
        """The firmware has done all that it does."""
        said = b""
        while _DONE not in said:
            piece = os.read(self._console, 4096)
            assert piece, self._log.read_text()
            said += piece

    def hear(self, last: str) -> list[str]:
        """Return the lines that come from the serial port, up to the line *last*."""
        said = b""
        end = time.monotonic() + _GIVE_UP_S
        while f"\n{last}\n".encode() not in said:
            assert time.monotonic() < end, said.decode(errors="replace")
            piece = self.serial.recv(4096)
            assert piece, self._log.read_text()
            said += piece
        return said.decode(errors="replace").splitlines()

    def save(self, file: Path) -> None:
        """The whole machine is in *file*, and stands still."""
        self.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.ask("migrate", uri=f"exec:cat >{file}")
        self._wait_for("MIGRATION", "status", "completed", "failed")
        assert self.ask("query-migrate")["status"] == "completed", self._log.read_text()

    def reset(self) -> None:
        """The machine has been reset, as by its button."""
        self._events.clear()
        self.ask("system_reset")
        self._wait_for("RESET", "", "")

    def snapshot(self, verb: str, name: str) -> None:
        """Have the whole machine kept on its disk by savevm, or fetched from there by loadvm."""
        command = {"command-line": f"{verb} {name}"}
        assert self.ask("human-monitor-command", **command) == "", self._log.read_text()

    def wait_until_it_runs(self) -> None:
        """A machine that came from a file goes on."""
        if self.ask("query-status")["status"] != "running":
            self._wait_for("RESUME", "", "")
        assert self.ask("query-status")["status"] == "running", self._log.read_text()

    def quit(self) -> None:
        """The machine ends in an orderly way, and takes its TPM with it."""
        self.ask("quit")
        assert self.process.wait(_GIVE_UP_S) == 0

    def crash(self) -> None:
        """The machine is gone, and its TPM does not know."""
        self.process.kill()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        line = self._monitor.readline()
        assert line, self._log.read_text()
        found: dict[str, Any] = json.loads(line)
        return found

    def _wait_for(self, event: str, key: str, *values: str) -> None:
        while True:
            found = self._events.pop(0) if self._events else self._read()
            if found.get("event") == event and (not key or found["data"][key] in values):
                return
