"""The side-by-side oracle: every command, valid and in every way wrong, to our TPM and to swtpm.

    python -m tests.oracle [--seed N] [--extra N] [--only EXPRESSION]

Exits with 1 if a difference is not explained, if an entry of the reviewed list was not met, if a command has
no scenario, or if a scenario could not be readied.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

from tests.oracle import scenarios_keys, scenarios_state
from tests.oracle.differences import DIFFERENCES
from tests.oracle.runner import CC_NAMES, Oracle, show
from tests.oracle.scenario import SCENARIOS


def main() -> int:
    """Run and report; return the exit status."""
    assert scenarios_keys
    assert scenarios_state
    options = argparse.ArgumentParser(prog="scripts/test --oracle", description="Compare with swtpm.")
    options.add_argument(
        "--seed", type=int, default=1, help="of the random variations; another one tries others"
    )
    options.add_argument(
        "--extra", type=int, default=40, help="random variations of a scenario, of each kind"
    )
    options.add_argument("--only", default="", help="only commands and scenarios that match this expression")
    options.add_argument("--limit", type=int, default=50, help="print at most that many kinds of differences")
    options.add_argument("--samples", type=int, default=3, help="and of each kind at most that many")
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    begin = time.monotonic()
    with Oracle() as oracle:
        for scenario in SCENARIOS:
            if re.search(given.only, f"{scenario.request.__name__} {scenario.name}"):
                started = time.monotonic()
                oracle.run(scenario, given.seed, extra=given.extra)
                if time.monotonic() - started > 20:
                    print(f"  {scenario.name} took {time.monotonic() - started:.0f} s", flush=True)
        missing = [] if given.only else oracle.without_scenario()
        ours, theirs = oracle.implemented
        report = oracle.report
    show(report, given.limit, given.samples)
    unused = (
        []
        if given.only
        else [entry for entry in DIFFERENCES if entry not in report.explained and not entry.rare]
    )
    for name, entries in (("only ours", ours - theirs), ("only swtpm's", theirs - ours)):
        print(f"{name}: {' '.join(sorted(CC_NAMES.get(cc, hex(cc)) for cc in entries)) or 'none'}")
    for text in report.broken:
        print(f"not readied: {text}", file=sys.stderr)
    for entry in unused:
        print(f"not met: {entry}", file=sys.stderr)
    if missing:
        print(f"without scenario: {' '.join(missing)}", file=sys.stderr)
    print(f"seed {given.seed}, {time.monotonic() - begin:.0f} s")
    return 1 if report.unexplained or report.broken or unused or missing else 0


if __name__ == "__main__":
    sys.exit(main())
