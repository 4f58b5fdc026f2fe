"""Runs a command under a stock Debian kernel, in QEMU without KVM, on this machine's own files.

The guest sees the host's root file system (its writes stay in memory), has /dev/cuse, /dev/fuse and
/dev/vtpmx, no network but loopback, and runs the command as root in the current directory.  Python
runs 5 to 10 times slower in it.  With --tpm, the firmware and the kernel measure into a TPM.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from image import Firmware, Image, UnavailableError, firmware, prepare, program
from trusted import prepare_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]

# The statuses of timeout(1) and of container runners for the same two failures.
STATUS_TIMEOUT = 124
STATUS_NO_MACHINE = 125

POLL_SECONDS = 0.05
CONSOLE_LINES = 40


def main() -> int:
    """Return the status of the command, or 124 after the timeout, or 125 if the machine failed."""
    parser = argparse.ArgumentParser(prog="scripts/vm/run", description=__doc__)
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="default: 300")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="default: 2048")
    parser.add_argument("--tpm", type=_tpm, metavar="MODEL:SOCKET",
                        help="a TPM of QEMU's model tpm-tis or tpm-crb; SOCKET is swtpm's control channel")
    parser.add_argument("--firmware", choices=["seabios", "ovmf"], default="seabios", help="default: seabios")
    parser.add_argument("--trusted", action="store_true",
                        help="build the module for trusted keys; COMMAND finds its directory in TRUSTED")
    parser.add_argument("--append", default="", metavar="PARAMETERS", help="for the kernel, besides its own")
    parser.add_argument("--prepare", action="store_true", help="only download and build what it boots")
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    options = parser.parse_args()
    if not options.command and not options.prepare:
        parser.error("COMMAND is missing")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        image = prepare()
        bios = firmware() if options.firmware == "ovmf" else None
        command = options.command
        if options.trusted:
            command = ["env", f"TRUSTED={prepare_trusted()}", *command]
    except UnavailableError as exc:
        print(f"scripts/vm/run: {exc}", file=sys.stderr)
        return STATUS_NO_MACHINE
    if options.prepare:
        return 0
    with tempfile.TemporaryDirectory(prefix="cusetpm-vm-") as results:
        hardware = Hardware(options.memory, options.tpm, bios, options.append)
        return run(image, hardware, command, Path(results), options.timeout)


class Hardware(NamedTuple):
    """What the machine has, and what its kernel is told."""

    memory: int  # in MiB
    tpm: tuple[str, str] | None  # QEMU's model, and the path of a control channel
    firmware: Firmware | None  # None: SeaBIOS, which QEMU brings along
    append: str


def _tpm(value: str) -> tuple[str, str]:
    model, colon, path = value.partition(":")
    if model not in ("tpm-tis", "tpm-crb") or not colon:
        raise argparse.ArgumentTypeError(f"{value!r} is neither tpm-tis:SOCKET nor tpm-crb:SOCKET")
    return model, os.path.abspath(path)


def run(image: Image, hardware: Hardware, command: list[str], results: Path, timeout: float) -> int:
    """Return the status of *command* in a new machine; its output has been copied to ours.

    *results* is an empty directory shared with the guest.  *timeout* is in seconds.
    """
    (results / "command").write_text(_script(command))
    streams = [
        (_follow(results / "stdout"), sys.stdout.buffer),
        (_follow(results / "stderr"), sys.stderr.buffer),
    ]
    deadline = time.monotonic() + timeout
    machine = subprocess.Popen(list(_qemu(image, hardware, results)), stdin=subprocess.DEVNULL)
    status = results / "status"
    try:
        while True:
            # Looked at before the streams, so that nothing written earlier is missed.
            ended = status.exists() or machine.poll() is not None
            for source, sink in streams:
                _copy(source, sink)
            if ended:
                break
            if time.monotonic() > deadline:
                _report(results, f"no result after {timeout:g} s")
                return STATUS_TIMEOUT
            time.sleep(POLL_SECONDS)
    finally:
        machine.kill()
        machine.wait()
        for source, _ in streams:
            source.close()
    if not status.exists():
        _report(results, "the machine stopped before the command ended")
        return STATUS_NO_MACHINE
    return int(status.read_text())


def _script(command: list[str]) -> str:
    """Return what the guest's shell runs: *command* with our directory and a root user's environment."""
    environment = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": f"{CHECKOUT}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
    return f"cd {shlex.quote(os.getcwd())} || exit\nexec {shlex.join(words)}\n"


def _qemu(image: Image, hardware: Hardware, results: Path) -> Iterator[str]:
    shares = {"host": Path("/"), "results": results}
    yield program("qemu-system-x86_64")
    yield from ("-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2")
    yield from ("-m", str(hardware.memory))
    yield from ("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{results}/console")
    yield from ("-kernel", str(image.kernel), "-initrd", str(image.initrd))
    yield from ("-append", f"console=ttyS0 panic=-1 oops=panic quiet {hardware.append}".rstrip())
    if hardware.tpm is not None:
        model, socket = hardware.tpm
        yield from ("-chardev", f"socket,id=tpm,path={socket}", "-tpmdev", "emulator,id=tpm,chardev=tpm")
        yield from ("-device", f"{model},tpmdev=tpm")
    if hardware.firmware is not None:
        # The firmware writes its variables, so they are a copy.
        variables = results / "variables"
        shutil.copy(hardware.firmware.variables, variables)
        flash = "if=pflash,format=raw"
        yield from ("-drive", f"{flash},unit=0,readonly=on,file={hardware.firmware.code}")
        yield from ("-drive", f"{flash},unit=1,file={variables}")
    for tag, path in shares.items():
        readonly = ",readonly=on" if tag == "host" else ""
        yield "-virtfs"
        yield f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{readonly}"


def _follow(path: Path) -> BinaryIO:
    path.touch()
    return path.open("rb", buffering=0)


def _copy(source: BinaryIO, sink: BinaryIO) -> None:
    while data := source.read(1 << 16):
        sink.write(data)
    sink.flush()


def _report(results: Path, what: str) -> None:
    """Say what went wrong, with the end of the guest's console."""
    print(f"scripts/vm/run: {what}; the end of its console:", file=sys.stderr)
    console = results / "console"
    if console.exists():
        lines = console.read_text(errors="replace").splitlines()
        # How long the trace after a panic is depends on what ran; the line that names it is always shown.
        panics = [i for i, line in enumerate(lines) if "Kernel panic" in line]
        begin = min([max(len(lines) - CONSOLE_LINES, 0), *panics[:1]])
        print(*lines[begin:], sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
