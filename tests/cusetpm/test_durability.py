"""Nothing acknowledged is lost: a TPM killed while it writes NV comes back with what it said it had."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cusetpm.daemon import COUNT_INTERVAL_MS, Device, System
from cusetpm.guest import Guest
from cusetpm.statedir import StateDirectory
from hwtpm.chip import Chip
from hwtpm.client import Client, Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVRead, NVWrite
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE, TPMA_NV_NO_DA
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from manager.manager import Manager
from manager.sealing20 import Chip20

KILLS = 200
INDEX = 0x01500020
_NUMBER = struct.Struct(">Q")


def client(device: Device) -> Client:
    return Client(device.execute, os.urandom)


def define(tpm: Client) -> None:
    attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA
    public = TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, attributes, b"", 8)
    tpm.run(NVDefineSpace(TPM_RH_OWNER, b"", public), Password())


def write(tpm: Client, number: int) -> None:
    tpm.run(NVWrite(INDEX, INDEX, _NUMBER.pack(number), 0), Password())


def read(tpm: Client) -> int:
    return int(_NUMBER.unpack(tpm.run(NVRead(INDEX, INDEX, 8, 0), Password()).data)[0])


def serve_until_killed(path: Path, said: int) -> None:
    """Report the number that is stored, then each further one when its write is acknowledged."""
    system = System(path)
    device = system.add_guest("tpm0")
    device.start_up("clear")
    tpm = client(device)
    number = read(tpm)
    while True:
        os.write(said, _NUMBER.pack(number))
        number += 1
        write(tpm, number)


def numbers(heard: int, count: int) -> list[int]:
    """Return up to *count* numbers from the pipe; fewer if the writer has gone."""
    found: list[int] = []
    while len(found) < count and (data := os.read(heard, _NUMBER.size)):
        found.append(_NUMBER.unpack(data)[0])
    return found


def last_words(die: Callable[[], object]) -> None:
    """Call *die* in a process of its own, which ends in it as if it were killed there: nothing is closed."""
    pid = os.fork()
    if not pid:  # The child never returns into pytest.
        try:
            die()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "it did not come to where it should have ended"


def ending(what: type | ModuleType, name: str, *, after: bool) -> None:
    """From now on this process ends before, or *after*, it calls *name* of *what*."""
    real = getattr(what, name)

    def end(*arguments: Any) -> None:
        if after:
            real(*arguments)
        os._exit(0)

    setattr(what, name, end)


def write_number_one(path: Path, *, killed: bool) -> None:
    """The number is 0, and then, acknowledged, 1; or *killed* when the store has it and the chip not yet."""
    system = System(path)
    device = system.add_guest("tpm0")
    device.start_up("clear")
    define(client(device))
    write(client(device), 0)
    system.manager.count()
    if killed:
        system.manager._ledger._interval = 0  # Every save is counted on its way.
        ending(Chip20, "increment", after=False)
    write(client(device), 1)
    system.close()
    os._exit(0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("what", "name"), [
    (Manager, "release"), (Chip, "release"), (StateDirectory, "make_guest"), (Guest, "release"),
    (StateDirectory, "keep")])
@pytest.mark.parametrize("kind", ["new", "closed", "store ahead of chip"])
def test_a_start_killed_while_it_is_accepted_can_be_done_again(
        tmp_path: Path, kind: str, what: type, name: str, after: bool) -> None:
    path = tmp_path / "state"
    if kind != "new":
        last_words(lambda: write_number_one(path, killed=kind != "closed"))

    def start() -> None:
        ending(what, name, after=after)
        device = System(path).add_guest("tpm0")
        device.start_up("clear")
        device.accept()

    last_words(start)
    system = System(path)
    device = system.add_guest("tpm0")
    device.start_up("clear")
    if kind == "new":
        define(client(device))
        write(client(device), 1)
    assert read(client(device)) == 1
    system.close()


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_by_kill_9(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng = random.Random(seed)
    system = System(tmp_path / "state")
    device = system.add_guest("tpm0")
    device.start_up("clear")
    define(client(device))
    write(client(device), 0)
    system.close()

    last = 0
    for kill in range(KILLS):
        heard, said = os.pipe()
        pid = os.fork()
        if not pid:  # The child never returns into pytest.
            try:
                os.close(heard)
                serve_until_killed(tmp_path / "state", said)
            except BaseException as error:
                os.write(2, f"round {kill}: {error!r}\n".encode())
            os._exit(1)
        os.close(said)
        wanted = rng.randrange(1, 6)
        found = numbers(heard, wanted)
        # Anywhere within the next write, which takes about a millisecond.
        until = time.perf_counter() + rng.random() * 0.0015
        while time.perf_counter() < until:
            pass
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"round {kill}: it failed by itself"
        assert len(found) == wanted
        stored, *acknowledged = found
        # The write in progress may have been completed, but nothing acknowledged is gone.
        assert last <= stored <= last + 1, f"round {kill}: {stored} is stored, {last} was acknowledged"
        last = max([stored, *acknowledged, *numbers(heard, 1 << 20)])
        os.close(heard)
    assert last > KILLS  # They were killed while they wrote.


def test_one_nv_write_crosses_every_box(tmp_path: Path) -> None:
    now = 1000
    system = System(tmp_path / "state", now=lambda: now)
    try:
        device = system.add_guest("tpm0")
        device.start_up("clear")
        define(client(device))
        # The chip counts saves at intervals: this write is the first of its own.
        now += COUNT_INTERVAL_MS
        before = system.counts()
        write(client(device), 1)
        crossed = {what: n - before[what] for what, n in system.counts().items()}
    finally:
        system.close()
    assert set(crossed) == {"guest ring commands", "guest saves", "manager ring commands", "manager saves",
                            "TIS register reads", "TIS register writes", "chip saves"}
    assert all(n > 0 for n in crossed.values()), crossed


def test_what_was_stored_is_there_in_the_next_life(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        system = System(tmp_path / "state")
        try:
            device = system.add_guest("tpm0")
            device.start_up("clear")
            tpm = client(device)
            if number == 1:
                define(tpm)
                with pytest.raises(TpmError):  # not written yet
                    read(tpm)
            else:
                assert read(tpm) == number - 1
            write(tpm, number)
        finally:
            system.close()
