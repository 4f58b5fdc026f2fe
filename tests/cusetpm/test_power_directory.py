"""What is done to state directories is cut short anywhere: power goes, or the process is killed."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from cusetpm import cli
from tests.support.cut_short import SCENARIOS
from tests.support.powercut import Recording, cuts, image, ram, recorded

MOST: Final = {"2.0": 42, "1.2": 16}
"""How many cuts of each are tried: a chip that is a TPM 1.2 starts slower."""
KILLS: Final = 6


@pytest.mark.slow
@pytest.mark.parametrize("family", MOST)
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_a_loss_of_power_leaves_is_whole_or_is_completed(
        tmp_path: Path, name: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng, scenario = random.Random(seed), SCENARIOS[name]
    with ram() as memory:
        base = memory / "base" / "disk"
        base.mkdir(parents=True)
        scenario.prepare(base, family)
        recording = Recording(base)
        with recorded(recording, monkeypatch):
            scenario.act(base, family, recording.ack)
        wanted = cuts(recording, rng, MOST[family])
        found: Counter[str] = Counter()
        for cut in wanted:
            disk = memory / "cut" / "disk"
            disk.parent.mkdir()
            told = image(recording, cut, disk, rng)
            try:
                found[scenario.look(disk, told, family)] += 1
            except BaseException:
                print(f"{cut}, told {told}, last {recording.events[:cut.events][-3:]}"[:1000])
                raise
            shutil.rmtree(disk.parent)
    kinds = Counter(event.kind for event in recording.events)
    print(f"{name}: {len(recording.events)} events, {dict(kinds)}, {len(wanted)} cuts: {dict(found)}")
    assert len(found) > 1


class Dying(Recording):
    """Its process is killed at event number *last*, if that is not 0."""

    def __init__(self, base: Path, last: int) -> None:
        super().__init__(base)
        self._last = last

    def add(self, kind: str, path: str, at: int = 0, data: bytes = b"", to: str = "") -> None:
        super().add(kind, path, at, data, to)
        if len(self.events) == self._last > 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Ended(NamedTuple):
    """A process: its exit status, what it has done to files, and how long it took."""

    status: int
    events: int
    seconds: float


def run(words: list[str], base: Path, last: int, seconds: float) -> Ended:
    """Run the command line in another process, which is killed at an event or after some time."""
    told, began = base.with_name("events"), time.monotonic()
    pid = os.fork()
    if not pid:  # The child never returns into pytest.
        code, recording = 1, Dying(base, last)
        try:
            sys.argv, sys.stdout = ["cusetpm", *words], io.StringIO()
            with recorded(recording, pytest.MonkeyPatch()):
                cli.main()
        except SystemExit as done:
            code = int(done.code or 0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        told.write_text(str(len(recording.events)))
        os._exit(code)
    ended, status = 0, 0
    while not ended:
        if time.monotonic() - began >= seconds:
            os.kill(pid, signal.SIGKILL)
            seconds = float("inf")
        ended, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.0005)  # Nothing tells when a process ends, if it may have to be killed before.
    took = time.monotonic() - began
    return Ended(os.waitstatus_to_exitcode(status), 0 if status else int(told.read_text()), took)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.commands])
def test_what_a_kill_leaves_is_whole_or_is_completed(tmp_path: Path, name: str) -> None:
    """Half of them are killed at something that they do to a file, the others at any time."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng, scenario, family = random.Random(seed), SCENARIOS[name], "2.0"
    assert scenario.commands is not None
    found: Counter[str] = Counter()
    killed = 0
    with ram() as memory:
        prepared = memory / "base" / "disk"
        prepared.mkdir(parents=True)
        scenario.prepare(prepared, family)
        whole: dict[str, Ended] = {}
        for attempt in range(KILLS + 1):
            disk = memory / "cut" / "disk"
            shutil.copytree(prepared, disk)
            commands = scenario.commands(disk, family)
            victim = rng.choice(list(commands)) if attempt else ""
            told: set[str] = set()
            for what, words in commands.items():
                last, seconds = 0, float("inf")
                if what == victim and attempt % 2:
                    last = rng.randint(1, whole[what].events)
                elif what == victim:
                    seconds = rng.random() * whole[what].seconds
                ended = run(words, disk, last, seconds)
                if what == victim and ended.status == -signal.SIGKILL:
                    killed += 1
                    break
                assert ended.status == 0, f"{what}: {ended}"
                told.add(what)
                whole.setdefault(what, ended)
            assert attempt or told == set(commands)
            found[scenario.look(disk, told, family)] += 1
            shutil.rmtree(disk.parent)
    took = ", ".join(f"{what} {each.events} events, {each.seconds:.2f} s" for what, each in whole.items())
    print(f"{name}: {took}; {killed} killed: {dict(found)}")
    assert killed >= KILLS // 3
