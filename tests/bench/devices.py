"""Round trips through the device files of one machine: `python -m tests.bench.devices` where /dev/cuse is.

    echo      an endless loop in Python that decodes nothing it need not: the floor for what is below
    device    our CUSE device in front of a TPM that has its answer ready
    tpm0      a whole TPM: `cusetpm run --front-end cuse`
    tpmrm0    the same through the resource manager

Everything runs on one CPU, turn and turn about, and each answer is looked at.  A development machine has no
/dev/cuse: `scripts/vm/run -- python -m tests.bench.devices` measures in the virtual machine, which is many
times slower than the machine itself, so only the ratios say anything.
"""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cusetpm.devices.cuse import abi
from cusetpm.devices.cuse.device import CUSE, CuseDevice
from cusetpm.devices.cuse.protocol import READ_BUFFER
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
    fd = os.open(CUSE, os.O_RDWR)
    buffer = bytearray(READ_BUFFER)
    written = abi.WRITE_OUT.pack(len(GET_RANDOM), 0)
    opened = abi.OPEN_OUT.pack(1, abi.FOPEN_DIRECT_IO | abi.FOPEN_NONSEEKABLE, 0)
    init = abi.CUSE_INIT_OUT.pack(7, 31, 0, 0, 4096, 4096, 0, 0) + b"DEVNAME=" + name.encode() + b"\0"
    answers = {abi.CUSE_INIT: init, abi.FUSE_OPEN: opened, abi.FUSE_WRITE: written, abi.FUSE_READ: ANSWER}
    while True:
        os.readv(fd, [buffer])
        _, opcode, unique = struct.unpack_from("=IIQ", buffer)
        body = answers.get(opcode, b"")
        os.write(fd, _OUT.pack(16 + len(body), 0, unique) + body)


@contextmanager
def served(serve: Callable[[], None], path: str) -> Iterator[str]:
    """Run *serve* in a process of its own, which makes the device at *path*."""
    pid = os.fork()
    if pid == 0:
        try:
            serve()
            time.sleep(3600)
        finally:
            os._exit(1)
    try:
        while not os.path.exists(path):
            time.sleep(0.01)
        yield path
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@contextmanager
def whole() -> Iterator[tuple[str, str]]:
    """Give the devices of a TPM that `cusetpm run` serves."""
    show = 'echo "$CUSETPM_DEVICE $CUSETPM_RM_DEVICE"; cat'
    command = [sys.executable, "-m", "cusetpm", "run", "--front-end", "cuse", "--", "sh", "-c", show]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        device, managed = process.stdout.readline().split()
        yield device, managed
        process.communicate()


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
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with ExitStack() as stack:
        floor = stack.enter_context(served(lambda: echo("echo0"), "/dev/echo0"))
        ready = stack.enter_context(served(CuseDevice("ready0", Device(Ready())).start, "/dev/ready0"))
        ways = {"echo": (floor, GET_RANDOM), "device": (ready, GET_RANDOM)}
        device, managed = stack.enter_context(whole())
        for name, path in ("tpm0", device), ("tpmrm0", managed):
            ways[f"{name} get_random"] = path, GET_RANDOM
            ways[f"{name} pcr_read"] = path, PCR_READ
        files = {path: os.open(path, os.O_RDWR) for path in {path for path, _ in ways.values()}}
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
