"""A manager that is killed at any moment has every save that it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from uuid import UUID

from manager.manager import Manager
from manager.model import Group, Vtpm
from tests.manager.chips import OwnChip

ROOT = Path(__file__).parents[2]
VTPM = UUID(int=1)
KILLS = 15
SAVER = """
import os, sys
from pathlib import Path
from uuid import UUID
from manager.manager import Manager
from tests.manager.chips import OwnChip
base = Path(sys.argv[1])
manager = Manager(base / "manager.db", OwnChip(base / "chip").sealing, os.urandom)
n = int.from_bytes((manager.load_hash_key(UUID(int=1)) or bytes(8))[:8], "big")
while True:
    n += 1
    manager.save_hash_key(UUID(int=1), n.to_bytes(8, "big") * 8)
    os.write(1, n.to_bytes(8, "big"))
"""


def test_no_acknowledged_save_is_lost_by_kill(tmp_path: Path) -> None:
    seed = time.time_ns()
    moments = random.Random(seed)
    acknowledged = 0
    for _ in range(6):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
        assert saver.stdout is not None
        # At least one save has to be acknowledged; after some more comes the end, at no particular moment.
        told = saver.stdout.read(8 * moments.randint(1, 100))
        os.kill(saver.pid, signal.SIGKILL)
        told += saver.stdout.read()
        saver.stdout.close()
        saver.wait()
        acknowledged = int.from_bytes(told[len(told) // 8 * 8 - 8 :][:8], "big")
        with closing(OwnChip(tmp_path / "chip")) as chip, \
                closing(Manager(tmp_path / "manager.db", chip.sealing, os.urandom)) as manager:
            found = int.from_bytes((manager.load_hash_key(VTPM) or b"")[:8], "big")
        # One save may have been made durable and not told.
        assert found in (acknowledged, acknowledged + 1), f"seed {seed}"
    assert acknowledged >= 6


WORKER = """
import os, sys
from pathlib import Path
from uuid import UUID
from manager.manager import Manager
from tests.manager.chips import OwnChip
from tests.manager.test_manager_kill import STEPS, place
base = Path(sys.argv[1])
manager = Manager(base / "manager.db", OwnChip(base / "chip").sealing, os.urandom)
n = place(manager)
while True:
    STEPS[n % len(STEPS)](manager)
    n = (n + 1) % len(STEPS)
    os.write(1, bytes([n]))
"""
GUEST = UUID(int=2)


def _make(manager: Manager) -> None:
    with manager.change() as change:
        number = change.new_group(Group(b"g" * 16, b"old"))
        change.put_vtpm(GUEST, Vtpm(), number)


def _edit(manager: Manager) -> None:
    with manager.change() as change:
        change.put_group(1, Group(b"g" * 16, b"new"))


def _remove(manager: Manager) -> None:
    with manager.change() as change:
        change.remove_vtpm(GUEST)


def _remove_group(manager: Manager) -> None:
    with manager.change() as change:
        change.remove_group(1)


STEPS = (_make, lambda manager: manager.save_hash_key(GUEST, b"1" * 64), _edit, _remove, _remove_group)


def place(manager: Manager) -> int:
    """Return how many of the steps have been made; each is there as a whole or not at all."""
    if manager.groups() == [0]:
        assert manager.find(GUEST) is None
        return 0
    assert manager.groups() == [0, 1]
    saa, there = manager.group(1).saa, manager.find(GUEST)
    if there is None:
        assert saa == b"new"
        return 4
    assert there == 1
    if manager.load_hash_key(GUEST) is None:
        assert saa == b"old"
        return 1
    return 2 if saa == b"old" else 3


def test_no_acknowledged_change_is_lost_by_kill(tmp_path: Path) -> None:
    seed = time.time_ns()
    moments = random.Random(seed)
    made, whole = 0, 0
    for _ in range(KILLS):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
        assert worker.stdout is not None
        told = worker.stdout.read(moments.randint(1, 12))
        # Anywhere within the next change, which takes some milliseconds.
        until = time.perf_counter() + moments.random() * 0.01
        while time.perf_counter() < until:
            pass
        os.kill(worker.pid, signal.SIGKILL)
        told += worker.stdout.read()
        worker.stdout.close()
        worker.wait()
        made += len(told)
        with closing(OwnChip(tmp_path / "chip")) as chip, \
                closing(Manager(tmp_path / "manager.db", chip.sealing, os.urandom)) as manager:
            found = place(manager)
        assert found in (told[-1], (told[-1] + 1) % len(STEPS)), f"seed {seed}"
        whole += found != told[-1]
    print(f"seed {seed}: {KILLS} kills, {made} changes acknowledged, {whole} found that nobody was told of")
    assert made > KILLS
