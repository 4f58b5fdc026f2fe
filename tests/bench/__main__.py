"""cusetpm against swtpm on this machine, in one run; see docs/performance.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench import keys, many, peers, profiling, report, runner, small, startup, tpm12
from tests.bench.case import Bounds, Case
from tests.bench.peers import Exchange, Peer, Peer12, Unavailable

CASES: dict[str, dict[str, type[Case]]] = {
    "2.0": {case.name: case for case in (*small.CASES, *keys.CASES)},
    "1.2": {case.name: case for case in tpm12.CASES},
}
_PEERS = {kind.FAMILY: kind for kind in (Peer, Peer12)}
_QUICK_TURNS, _QUICK_PER_TURN, _QUICK_STARTS = 2, 3, 1
_STARTS = 9
_NICE = -10

Way = Callable[[str, Path, ExitStack], Exchange]


class Pair:
    """The two peers, started when they are first asked for and after every `reset`."""

    def __init__(self, family: str, names: tuple[str, str], ways: tuple[Way, Way], directory: Path,
                 seed: int) -> None:
        self._family = family
        self._names, self._ways, self._directory, self._seed = names, ways, directory, seed
        self._stack = ExitStack()
        self._peers: tuple[Peer, Peer] | None = None

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *exc: object) -> None:
        self.reset()

    def get(self) -> tuple[Peer, Peer]:
        """Return both peers, running."""
        if self._peers is None:
            self._peers = self._start(0), self._start(1)
        return self._peers

    def reset(self) -> None:
        """Neither peer runs; the next `get` starts new TPMs."""
        self._peers = None
        self._stack.close()

    def _start(self, which: int) -> Peer:
        base = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._directory)))
        nonces = random.Random(f"{self._seed} nonces")
        exchange = self._ways[which](self._family, base, self._stack)
        return _PEERS[self._family](self._names[which], exchange, nonces.randbytes)


def main() -> int:
    """Return the exit status: 1 if a TPM gave a wrong result, 2 if there is nothing to measure."""
    options = _options()
    cases = CASES[options.tpm]
    if options.list:
        print("\n".join(cases))
        return 0
    chosen = [cases[name] for name in options.only or cases]
    try:
        with tempfile.TemporaryDirectory(prefix="cusetpm-bench-", dir=options.dir) as name:
            if options.profile:
                nonces = random.Random(f"{options.seed} nonces").randbytes
                for one in options.profile:
                    count = options.rounds or max(cases[one].turns * cases[one].per_turn // 4, 5)
                    print(profiling.profile(cases[one], options.tpm, Path(name), nonces, options.seed,
                                            count, options.top))
                return 0
            return _compare(options, chosen, Path(name))
    except Unavailable as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _compare(options: argparse.Namespace, chosen: list[type[Case]], directory: Path) -> int:
    # As a user starts it: on any CPU and without a better priority.
    starts: list[startup.Start | startup.Ratio] = []
    if options.tpm == "2.0" and not options.control and not options.only:
        starts += startup.measure(_QUICK_STARTS if options.quick else _STARTS)
        starts += many.measure(directory, options.quick)
    _pin(options.cpu)
    if options.control:
        names, ways = ("swtpm", "swtpm again"), (peers.swtpm, peers.swtpm)
    else:
        names, ways = ("swtpm", "cusetpm"), (peers.swtpm, peers.cusetpm)
    about = {"tpm": options.tpm, **report.machine(directory.parent, options.cpu, options.seed)}
    print(report.header(about, names), flush=True)
    results: list[tuple[runner.Result, Bounds]] = []
    with Pair(options.tpm, names, ways, directory, options.seed) as pair:
        for kind in chosen:
            turns = options.rounds or (_QUICK_TURNS if options.quick else kind.turns)
            per_turn = min(kind.per_turn, _QUICK_PER_TURN) if options.quick else kind.per_turn
            result = runner.measure(kind, pair.get(), options.seed, turns, per_turn)
            # Two equal peers are held to nothing.
            results.append((result, Bounds() if options.control else kind.bounds))
            print(report.row(*results[-1]), flush=True)
            if result.wrong:
                pair.reset()
    for start in starts:
        print(report.start_row(start))
    print(report.summary(results, starts))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(about, names, results, starts), indent=1) + "\n")
    return 1 if any(result.wrong for result, _ in results) else 0


def _pin(cpu: int) -> None:
    """This process and those that it starts run on *cpu*, before others if this user may say so."""
    os.sched_setaffinity(0, {cpu})
    with contextlib.suppress(PermissionError):
        os.nice(_NICE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--tpm", choices=CASES, default="2.0", help="family of both TPMs (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few samples each: does it run?")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns (default: depends on the operation)")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[],
                        help="these operations; see --list")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--control", action="store_true",
                        help="swtpm against swtpm: what the method itself makes of two equal peers")
    parser.add_argument("--profile", nargs="+", metavar="NAME", default=[],
                        help="run our side of these operations in-process under cProfile instead")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="lines of a profile (%(default)s)")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), metavar="N",
                        help="where client and servers run (%(default)s)")
    parser.add_argument("--dir", type=Path, help="where both keep their state (the temporary directory)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), metavar="N",
                        help="of the inputs")
    parser.add_argument("--list", action="store_true", help="name the operations")
    options = parser.parse_args()
    for name in (*options.only, *options.profile):
        if name not in CASES[options.tpm]:
            parser.error(f"no operation {name!r} with a TPM {options.tpm}; --list names them")
    return options


if __name__ == "__main__":
    sys.exit(main())
