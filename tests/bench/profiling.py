"""Where the time of one operation goes: our side of it in this process, under cProfile."""

from __future__ import annotations

import cProfile
import io
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.bench.case import Case
from tests.bench.peers import Exchange, Peer
from tests.bench.runner import figures


def profile(kind: type[Case], directory: Path, entropy: Callable[[int], bytes], seed: int, count: int,
            top: int) -> str:
    """Return the *top* functions of *count* samples of the case, by own time.

    The commands take the whole way but the socket: ring, guest, ring, manager, TIS and chip.  cProfile
    makes Python calls dear and leaves C alone, so it says where to look, not how long it takes.
    """
    from cusetpm.daemon import System
    from hwtpm.tpm2.types.constants import TPM_SU_CLEAR

    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory(dir=directory) as state:
        system = System(Path(state))
        try:
            device = system.add_guest("tpm0")
            device.start_up(TPM_SU_CLEAR)
            tpm = _Profiled("cusetpm", device.execute, entropy, profiler)
            case = kind(tpm)
            rng = Random(f"{seed} {kind.name} profile")
            for _ in range(2):
                case.once(rng)
            plain = []
            for _ in range(count):
                tpm.sample = 0
                case.once(rng)
                plain.append(tpm.sample)
            case.check()
            tpm.profiling = True
            for _ in range(count):
                case.once(rng)
            tpm.profiling = False
            case.check()
            case.close()
        finally:
            system.close()
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(top)
    found = figures(plain)
    lines = [line for line in out.getvalue().splitlines() if line.strip() and "Ordered by" not in line]
    title = f"{kind.name}: {found.p50:.1f} us (p95 {found.p95:.1f}) in-process; {count} samples profiled:"
    return "\n".join([title, *lines])


class _Profiled(Peer):
    """A peer whose timed exchanges, and no others, run under a profiler while `profiling` is set."""

    def __init__(self, name: str, exchange: Exchange, entropy: Callable[[int], bytes],
                 profiler: cProfile.Profile) -> None:
        super().__init__(name, self._through, entropy)
        self._inner, self._profiler = exchange, profiler
        self.profiling = False

    def _through(self, command: bytes) -> bytes:
        if not self.profiling:
            return self._inner(command)
        self._profiler.enable()
        try:
            return self._inner(command)
        finally:
            self._profiler.disable()
