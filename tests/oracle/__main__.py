"""The side-by-side oracle: every command, valid and in every way wrong, to our TPM and to swtpm.

    python -m tests.oracle [--tpm 2.0|1.2] [--seed N] [--extra N] [--only EXPRESSION]

Exits with 1 if a difference is not explained, if an entry of the reviewed list was not met, if a command has
no scenario, or if a scenario could not be readied.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

from hwtpm.tpm12.context import COMMANDS as COMMANDS_1_2
from tests.oracle import scenarios_keys, scenarios_state
from tests.oracle.differences import DIFFERENCES, Difference
from tests.oracle.runner import CC_NAMES, Oracle, show
from tests.oracle.scenario import SCENARIOS
from tests.oracle.tpm12 import scenarios_keys as keys_1_2
from tests.oracle.tpm12 import scenarios_state as state_1_2
from tests.oracle.tpm12.differences import DIFFERENCES as DIFFERENCES_1_2
from tests.oracle.tpm12.runner import Oracle as Oracle12
from tests.oracle.tpm12.scenario import SCENARIOS as SCENARIOS_1_2

_TELL_SECONDS = 15


def main() -> int:
    """Run and report; return the exit status."""
    assert scenarios_keys
    assert scenarios_state
    assert keys_1_2
    assert state_1_2
    options = argparse.ArgumentParser(prog="scripts/test --oracle", description="Compare with swtpm.")
    options.add_argument("--tpm", choices=("2.0", "1.2"), help="only that family")
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
    good = True
    if given.tpm != "1.2":
        with Oracle() as oracle:
            good &= _compare("2.0", oracle, SCENARIOS, DIFFERENCES, CC_NAMES, given)
            ours, theirs = oracle.implemented
            for name, entries in (("only ours", ours - theirs), ("only swtpm's", theirs - ours)):
                print(f"{name}: {' '.join(sorted(CC_NAMES.get(cc, hex(cc)) for cc in entries)) or 'none'}")
    if given.tpm != "2.0":
        with Oracle12() as oracle12:
            names = {ordinal: entry.request.__name__ for ordinal, entry in COMMANDS_1_2.items()}
            good &= _compare("1.2", oracle12, SCENARIOS_1_2, DIFFERENCES_1_2, names, given)
            alone = oracle12.implemented["ours"] - oracle12.implemented["swtpm"]
            print(f"only ours: {' '.join(sorted(names[ordinal] for ordinal in alone)) or 'none'}")
    return 0 if good else 1


def _compare(family: str, oracle: Any, scenarios: Iterable[Any], reviewed: tuple[Difference, ...],
             names: dict[int, str], given: argparse.Namespace) -> bool:
    """Run the scenarios and report; tell whether all is well."""
    print(f"TPM {family}, seed {given.seed}", flush=True)
    begin = told = time.monotonic()
    chosen = [s for s in scenarios if re.search(given.only, f"{s.request.__name__} {s.name}")]
    report = oracle.report
    for number, scenario in enumerate(chosen, 1):
        oracle.run(scenario, given.seed, extra=given.extra)
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            print(f"  {number} of {len(chosen)} scenarios, {sum(report.compared.values())} commands, "
                  f"{told - begin:.0f} s", flush=True)
    missing = [] if given.only else oracle.without_scenario()
    unused = [] if given.only else [e for e in reviewed if e not in report.explained and not e.rare]
    show(report, names, given.limit, given.samples)
    for text in report.broken:
        print(f"not readied: {text}", file=sys.stderr)
    for entry in unused:
        print(f"not met: {entry}", file=sys.stderr)
    if missing:
        print(f"without scenario: {' '.join(missing)}", file=sys.stderr)
    print(f"TPM {family}, seed {given.seed}, {time.monotonic() - begin:.0f} s", flush=True)
    return not (report.unexplained or report.broken or unused or missing)


if __name__ == "__main__":
    sys.exit(main())
