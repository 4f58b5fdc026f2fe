"""Our TIS register model beside QEMU's tpm-tis: seeded walks over all registers of both.

    python -m tests.oracle.tis [--tpm 2.0|1.2] [--seed N] [--walks N] [--steps N]

Exits with 1 if a difference is not explained, or if walks of both families did not meet an entry of the list.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.oracle.tis.differences import DIFFERENCES
from tests.oracle.tis.sides import both
from tests.oracle.tis.walk import Report, long_commands, new_report, walk

_MACHINES = 10
"""Walks over one machine; a new one has a measured launch on record, which a walk may reset."""


def main() -> int:
    """Run and report; return the exit status."""
    options = argparse.ArgumentParser(prog="scripts/test --tis", description="Compare with QEMU's tpm-tis.")
    options.add_argument("--tpm", choices=("2.0", "1.2"), help="only that family")
    options.add_argument("--seed", type=int, default=1, help="of the first walk; others count up from it")
    options.add_argument("--walks", type=int, default=150, help="of each family")
    options.add_argument("--steps", type=int, default=300, help="of each walk")
    options.add_argument("--limit", type=int, default=20, help="print at most that many differences")
    given = options.parse_args()
    met: Counter[object] = Counter()
    good = True
    for family in ("2.0", "1.2"):
        if given.tpm not in (None, family):
            continue
        begin = time.monotonic()
        report = _run(family, given.seed, given.walks, given.steps)
        met.update(report.explained)
        good &= not report.unexplained
        _show(report, given.limit)
        print(f"TPM {family}, seeds {given.seed} to {given.seed + given.walks - 1}, "
              f"{time.monotonic() - begin:.0f} s", flush=True)
    unmet = [entry for entry in DIFFERENCES if entry not in met and given.tpm is None]
    for entry in unmet:
        print(f"not met: {entry}", file=sys.stderr)
    return 0 if good and not unmet else 1


def _run(family: str, seed: int, walks: int, steps: int) -> Report:
    report = new_report()
    for first in range(seed, seed + walks, _MACHINES):
        with tempfile.TemporaryDirectory(prefix="cusetpm-tis-") as place, \
                both(Path(place), family, established=True) as sides:
            if first == seed:
                long_commands(sides, report)
            for each in range(first, min(first + _MACHINES, seed + walks)):
                walk(sides, each, steps, report)
    return report


def _show(report: Report, limit: int) -> None:
    print(f"{sum(report.steps.values())} accesses, {sum(report.compared.values())} values compared, "
          f"{sum(report.explained.values())} differences explained by {len(report.explained)} entries, "
          f"{len(report.unexplained)} steps with others")
    for title, counts in (("accesses", report.steps), ("values", report.compared)):
        print(f"  {title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    states = (f"{before} to {after} {count}" for (before, after), count in report.transitions.most_common())
    print("  states: " + ", ".join(states))
    for entry, count in report.explained.most_common():
        print(f"  {count:6} {entry.why}")
    for origin, found in report.unexplained[:limit]:
        for one in found:
            print(f"{origin}: {one.step}: {one.where}: ours {one.ours}, QEMU's {one.theirs}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
