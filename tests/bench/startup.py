"""How long it takes until there is a TPM, and to import an engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

from tests.bench.peers import Unavailable

ROOT: Final = Path(__file__).resolve().parents[2]
_IMPORT: Final = """
from time import perf_counter
begin = perf_counter()
import hwtpm.tpm2.engine
from hwtpm.tpm2 import commands
commands.load()
print(perf_counter() - begin)
"""


class Start(NamedTuple):
    """Something that happens once per process: its median in seconds, and the budget for it."""

    name: str
    what: str
    seconds: float
    budget: float


class Ratio(NamedTuple):
    """One of our figures to another one, and the budget for that."""

    name: str
    what: str
    ratio: float
    budget: float


def measure(count: int) -> list[Start]:
    """Return the start-up figures, medians of *count* runs each."""
    run, load = (median(once() for _ in range(count)) for once in (_run, _import))
    return [Start("start_up", "scripts/cusetpm run -- true", run, 0.5),
            Start("import", "import of the engine and its commands", load, 0.15)]


def _run() -> float:
    begin = perf_counter()
    done = subprocess.run([ROOT / "scripts" / "cusetpm", "run", "--", "true"], capture_output=True, text=True,
                          check=False)
    took = perf_counter() - begin
    if done.returncode:
        raise Unavailable(f"cusetpm run -- true ended with {done.returncode}: {done.stderr.strip()}")
    return took


def _import() -> float:
    done = subprocess.run([sys.executable, "-I", "-c", _IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)
