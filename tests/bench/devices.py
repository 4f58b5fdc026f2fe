"""Round trips through the devices of one machine: `python -m tests.bench.devices [cuse|fuse]`.

    echo      an endless loop in Python that decodes nothing it need not: the floor for what is below
    device    our device file in front of a TPM that has its answer ready
    tpm0      a whole TPM: `cusetpm run --front-end cuse`, or fuse
    tpmrm0    the same through the resource manager
    socket    the same TPM through its unix socket

Everything runs on one CPU, turn and turn about, and each answer is looked at.  A development machine has no
/dev/cuse: `scripts/vm/run -- python -m tests.bench.devices` measures in the virtual machine, which is many
times slower than the machine itself, so only the ratios say anything.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cusetpm import mounts
from cusetpm.devices.cuse import abi
from cusetpm.devices.cuse.device import CUSE, CuseDevice
from cusetpm.devices.cuse.protocol import READ_BUFFER
from cusetpm.devices.fusefile import FuseFile
from cusetpm.devices.fusemount import Mounter
from cusetpm.devices.session import Device
from cusetpm.transport import Cancelled

CHECKOUT = Path(__file__).resolve().parents[2]
TURNS, PER_TURN, WARM_UP = 30, 100, 200
GET_RANDOM = bytes.fromhex("80010000000c0000017b0010")
PCR_READ = bytes.fromhex("8001000000140000017e00000001000b03000001")
ANSWER = bytes.fromhex("80010000001c000000000010") + bytes(16)

_OUT = struct.Struct("=IiQ")


class Ready:
    """A TPM with one answer."""

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        return ANSWER

    def cancel(self) -> None: ...

    def takes_long(self, command: bytes) -> bool:
        return False


def echo(name: str) -> None:
    """Serve /dev/*name* with as little as the kernel accepts; never returns."""
    init = abi.CUSE_INIT_OUT.pack(7, 31, 0, 0, 4096, 4096, 0, 0) + b"DEVNAME=" + name.encode() + b"\0"
    endless(os.open(CUSE, os.O_RDWR), {abi.CUSE_INIT: init})


def echo_file(path: str) -> None:
    """Serve the file *path* so; never returns."""
    fd, _ = Mounter().mount(path, 0o100600)
    os.set_blocking(fd, True)
    attributes = abi.ATTR_OUT.pack(3600, 0, 1, *[0] * 8, 0o100600, 1, *[0] * 5)
    endless(fd, {abi.FUSE_INIT: abi.INIT_OUT.pack(7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0),
                 abi.FUSE_GETATTR: attributes})


def endless(fd: int, answers: dict[int, bytes]) -> None:
    """Answer the kernel's messages on *fd*, by opcode; never returns."""
    buffer = bytearray(READ_BUFFER)
    written = abi.WRITE_OUT.pack(len(GET_RANDOM), 0)
    opened = abi.OPEN_OUT.pack(1, abi.FOPEN_DIRECT_IO | abi.FOPEN_NONSEEKABLE, 0)
    answers = {**answers, abi.FUSE_OPEN: opened, abi.FUSE_WRITE: written, abi.FUSE_READ: ANSWER}
    while True:
        os.readv(fd, [buffer])
        _, opcode, unique = struct.unpack_from("=IIQ", buffer)
        body = answers.get(opcode, b"")
        os.write(fd, _OUT.pack(16 + len(body), 0, unique) + body)


@contextmanager
def served(serve: Callable[[], None], path: str) -> Iterator[str]:
    """Run *serve* in a process of its own, which makes the device at *path*, or mounts it there."""
    pid = os.fork()
    if pid == 0:
        try:
            serve()
            time.sleep(3600)
        finally:
            os._exit(1)
    try:
        while not (path.startswith("/dev/") and os.path.exists(path)) and not os.path.ismount(path):
            time.sleep(0.01)
        yield path
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@contextmanager
def whole(kind: str) -> Iterator[list[str]]:
    """Give device, managed device and socket of a TPM that `cusetpm run` serves."""
    show = 'echo "$CUSETPM_DEVICE $CUSETPM_RM_DEVICE $CUSETPM_SOCKET"; cat'
    command = [sys.executable, "-m", "cusetpm", "run", "--front-end", kind, "--", "sh", "-c", show]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()
        process.communicate()


@contextmanager
def file_system() -> Iterator[tuple[str, str]]:
    """Give the paths of two files that are served: an echo, and our device."""
    with tempfile.TemporaryDirectory(prefix="cusetpm-bench-") as directory:
        paths = [f"{directory}/echo0", f"{directory}/ready0"]
        for path in paths:
            Path(path).touch()
        try:
            with served(lambda: echo_file(paths[0]), paths[0]), \
                    served(FuseFile(paths[1], Device(Ready()), Mounter()).start, paths[1]):
                yield paths[0], paths[1]
        finally:
            for path in paths:
                mounts.unmount(path)


@contextmanager
def character_devices() -> Iterator[tuple[str, str]]:
    """Give the paths of two devices of CUSE that are served: an echo, and ours."""
    with served(lambda: echo("echo0"), "/dev/echo0") as floor, \
            served(CuseDevice("ready0", Device(Ready())).start, "/dev/ready0") as ready:
        yield floor, ready


def opened(path: str) -> int:
    """Return a descriptor that takes commands and gives responses."""
    if not path.endswith(".sock"):
        return os.open(path, os.O_RDWR)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return connection.detach()


def measure(fd: int, command: bytes, count: int) -> list[int]:
    """Return the nanoseconds of each of *count* round trips."""
    write, read, now = os.write, os.read, time.perf_counter_ns
    found = []
    for _ in range(count):
        begin = now()
        write(fd, command)
        response = read(fd, 4096)
        found.append(now() - begin)
        assert response[6:10] == bytes(4), response.hex()
    return found


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "cuse"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with ExitStack() as stack:
        floor, ready = stack.enter_context(character_devices() if kind == "cuse" else file_system())
        ways = {"echo": (floor, GET_RANDOM), "device": (ready, GET_RANDOM)}
        for name, path in zip(("tpm0", "tpmrm0", "socket"), stack.enter_context(whole(kind)), strict=True):
            ways[f"{name} get_random"] = path, GET_RANDOM
            ways[f"{name} pcr_read"] = path, PCR_READ
        files = {path: opened(path) for path in {path for path, _ in ways.values()}}
        samples: dict[str, list[int]] = {name: [] for name in ways}
        for path, command in ways.values():
            measure(files[path], command, WARM_UP)
        for _ in range(TURNS):
            for name, (path, command) in ways.items():
                samples[name] += measure(files[path], command, PER_TURN)
        for fd in files.values():
            os.close(fd)
    least = statistics.median(samples["echo"])
    print(f"{'round trip':20} {'p50 us':>9} {'p95 us':>9} {'x echo':>7}")
    for name, found in samples.items():
        middle, high = statistics.median(found), statistics.quantiles(found, n=20)[-1]
        print(f"{name:20} {middle / 1000:9.1f} {high / 1000:9.1f} {middle / least:7.2f}")


if __name__ == "__main__":
    main()
