"""What many vTPMs of one manager cost: to open their store, to save, and to save together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final
from uuid import UUID

from cusetpm.daemon import System
from hwtpm.client import Client, Execute, Password
from hwtpm.errors import TpmError
from hwtpm.family import response_code
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVWrite
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE, TPMA_NV_NO_DA
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from manager.manager import Manager
from manager.model import Vtpm
from tests.bench.startup import Ratio, Start
from tests.manager.chips import OwnChip

_FEW, _MANY, _TOGETHER = 10, 20_000, 16
_INDEX: Final = 0x01500020


def measure(directory: Path, quick: bool) -> list[Start | Ratio]:
    """Return the figures; with *quick*, stores are small and samples few."""
    many, seconds = (200, 0.1) if quick else (_MANY, 2.0)
    return [*_stores(directory, many, seconds), *_writes(directory, seconds)]


def _stores(directory: Path, many: int, seconds: float) -> list[Start | Ratio]:
    took: dict[int, list[float]] = {_FEW: [], many: []}
    with ExitStack() as stack:
        chip = stack.enter_context(closing(OwnChip(directory / "chip of many")))
        opened = {}
        for count in took:
            path, uuids = directory / f"{count}.db", [UUID(int=n + 1) for n in range(count)]
            with closing(Manager(path, chip.sealing, os.urandom)) as made, made.change() as change:
                for uuid in uuids:
                    change.put_vtpm(uuid, Vtpm(0, bytes(64)))
            begin = perf_counter()
            manager = Manager(path, chip.sealing, os.urandom, interval=600_000)
            opening = perf_counter() - begin
            opened[count] = stack.enter_context(closing(manager))
        end = perf_counter() + seconds
        # In turns, so that what else the disk has to do is the same for both.
        while perf_counter() < end:
            for count, manager in opened.items():
                begin = perf_counter()
                manager.save_hash_key(UUID(int=1), os.urandom(64))
                took[count].append(perf_counter() - begin)
    return [Start("open_20000", f"opening a store of {many} vTPMs", opening, 2.0),
            Ratio("save_20000", f"a save among {many} vTPMs to one among {_FEW}",
                  median(took[many]) / median(took[_FEW]), 2.0)]


def _writes(directory: Path, seconds: float) -> list[Start | Ratio]:
    state = directory / "many"
    with closing(System(state)) as system:
        writers = []
        for number in range(_TOGETHER):
            device = system.add_guest(f"guest{number}")
            device.start_up("clear")
            writers.append(_writer(device.execute))
        alone, together = _rate(writers[:1], seconds), _rate(writers, seconds)
    took = []
    with closing(System(state)) as system:
        for number in range(_TOGETHER):
            begin = perf_counter()
            system.add_guest(f"guest{number}").start_up("clear")
            took.append(perf_counter() - begin)
    return [Ratio("write_together", f"an NV write when {_TOGETHER} vTPMs write at once to one alone",
                  alone / together, 0.25),
            Start("open_vtpm", "opening a vTPM that is there", median(took), 0.01)]


def _writer(execute: Execute) -> Callable[[], object]:
    """Return what writes 8 octets, other ones each time, to an NV Index of the TPM."""
    attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA
    tpm = Client(execute, os.urandom)
    tpm.run(NVDefineSpace(TPM_RH_OWNER, b"", TPMS_NV_PUBLIC(_INDEX, TPM_ALG_SHA256, attributes, b"", 8)),
            Password())
    # What a client computes, elsewhere, is not what is measured: it only puts other octets into its command.
    sent: list[bytes] = []

    def recorded(command: bytes) -> bytes:
        sent.append(command)
        return execute(command)

    Client(recorded, os.urandom).run(
        NVWrite(_INDEX, _INDEX, bytes(8), 0), Password())
    before, after = sent[0][:-10], sent[0][-2:]

    def write() -> None:
        response = execute(before + time.monotonic_ns().to_bytes(8, "big") + after)
        if response_code(response):
            raise TpmError(response_code(response))

    return write


def _rate(works: list[Callable[[], object]], seconds: float) -> float:
    """Return how often a second *works* are done, each by a thread of its own."""
    done = [0] * len(works)
    end = perf_counter() + seconds

    def run(number: int) -> None:
        while perf_counter() < end:
            works[number]()
            done[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    begin = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (perf_counter() - begin)
