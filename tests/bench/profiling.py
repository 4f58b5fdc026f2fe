"""Where the time of one operation goes: our side of it in this process, under cProfile."""

from __future__ import annotations

import cProfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import CodeType

from tests.bench.case import Case
from tests.bench.peers import Exchange, Peer, Peer12
from tests.bench.runner import figures
from tests.bench.startup import ROOT

_ROW = "{:>9} {:>13} {:>7}  {}"


def profile(kind: type[Case], family: str, directory: Path, entropy: Callable[[int], bytes], seed: int,
            count: int, top: int) -> str:
    """Return the *top* functions of *count* samples of the case of that family, by own time.

    The commands take the whole way but the socket: ring, guest, ring, manager, TIS and chip.  cProfile
    makes Python calls dear and leaves C alone, so it says where to look, not how long it takes.
    """
    from cusetpm.daemon import System

    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory(dir=directory) as state:
        system = System(Path(state))
        try:
            device = system.add_guest("tpm0", tpm=family, bare=True)
            device.start_up("clear")
            tpm = _PROFILED[family]("cusetpm", device.execute, entropy, profiler)
            case = kind(tpm)
            rng = Random(f"{seed} {kind.name} profile")
            case.turn(rng, 2)
            plain = figures(case.turn(rng, count))
            tpm.profiling = True
            case.turn(rng, count)
            tpm.profiling = False
            case.close()
        finally:
            system.close()
    title = f"{kind.name}: {plain.p50:.1f} us (p95 {plain.p95:.1f}) in-process; {count} profiled, us each"
    lines = [title, _ROW.format("self", "with callees", "calls", "function")]
    found = sorted(profiler.getstats(), key=lambda entry: entry.inlinetime, reverse=True)
    for entry in found[:top]:
        own, total = (f"{seconds / count * 1e6:.1f}" for seconds in (entry.inlinetime, entry.totaltime))
        lines.append(_ROW.format(own, total, f"{entry.callcount / count:.1f}", _function(entry.code)))
    return "\n".join(lines)


def _function(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    path = Path(code.co_filename)
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{where}:{code.co_firstlineno} {code.co_qualname}"


class _Profiled(Peer):
    """A peer whose timed exchanges, and no others, run under a profiler while `profiling` is set."""

    def __init__(self, name: str, exchange: Exchange, entropy: Callable[[int], bytes],
                 profiler: cProfile.Profile) -> None:
        super().__init__(name, exchange, entropy)
        self._profiler = profiler
        self.profiling = False

    def exchange(self, command: bytes) -> bytes:
        return self._exchange(command)

    def timed(self, command: bytes) -> tuple[bytes, int]:
        if not self.profiling:
            return super().timed(command)
        self._profiler.enable()
        try:
            return self._exchange(command), 0
        finally:
            self._profiler.disable()


class _Profiled12(_Profiled, Peer12):
    """The same of a TPM 1.2."""


_PROFILED = {kind.FAMILY: kind for kind in (_Profiled, _Profiled12)}
