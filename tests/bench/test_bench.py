"""scripts/bench runs, checks what the TPMs do, and prints its table; its figures are those of the samples."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.bench import report, runner
from tests.bench.__main__ import CASES
from tests.bench.case import Bounds, Case, Wrong, expect
from tests.bench.peers import Peer
from tests.bench.runner import Figures, Result

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
needs_swtpm = pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BENCH, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@needs_swtpm
@pytest.mark.parametrize("family", CASES)
def test_every_operation_runs_on_both_tpms_and_gives_right_results(family: str, tmp_path: Path) -> None:
    done = bench("--tpm", family, "--quick", "--only", *CASES[family], "--seed", "7",
                 "--json", "figures.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["seed:", "7"] in table
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["operations"].keys() == CASES[family].keys()
    for name, figures in found["operations"].items():
        assert [line for line in table if line[:1] == [name]], f"no line for {name}"
        assert figures["wrong"] is None
        assert 0 < figures["swtpm"]["p50"] <= figures["swtpm"]["p95"]
        assert figures["ratio"] == pytest.approx(figures["cusetpm"]["p50"] / figures["swtpm"]["p50"])
    assert found["about"]["seed"] == "7"


@pytest.mark.parametrize(("option", "name"), [
    ("--only", "nonsense"), ("--profile", "nonsense"), ("--only", "sign_ecdsa"),
])
def test_an_operation_that_the_family_does_not_have_is_refused_in_one_line(option: str, name: str,
                                                                           tmp_path: Path) -> None:
    done = bench("--tpm", "1.2", option, name, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{name!r}" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("family", CASES)
def test_a_profile_names_functions_of_the_engine(family: str, tmp_path: Path) -> None:
    done = bench("--tpm", family, "--profile", "get_random", "--rounds", "5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{'tpm12' if family == '1.2' else 'tpm2'}/dispatch.py" in done.stdout


class _Fails(Case):
    """Gives a wrong result on the peer called "bad"."""

    name = "fails"

    def turn(self, rng: Random, count: int) -> list[int]:
        expect(self.tpm.name != "bad", "not what it should be")
        return [1000] * count


def _peer(name: str) -> Peer:
    return Peer(name, lambda command: command, bytes)


def test_a_wrong_result_is_no_figure() -> None:
    result = runner.measure(_Fails, (_peer("good"), _peer("bad")), 0, 2, 2)
    assert (result.wrong, result.ratio) == ("bad: not what it should be", None)
    assert "WRONG" in report.row(result, Bounds(3.0))
    assert "WRONG RESULTS:  fails" in report.summary([(result, Bounds(3.0))], [])


def test_samples_of_the_warm_up_do_not_count() -> None:
    result = runner.measure(_Fails, (_peer("one"), _peer("two")), 0, 3, 5)
    assert result == Result("fails", Figures(1.0, 1.0, 15), Figures(1.0, 1.0, 15))


def test_the_peers_get_the_same_inputs_in_turns() -> None:
    asked: list[tuple[str, float]] = []

    class Records(Case):
        name = "records"

        def turn(self, rng: Random, count: int) -> list[int]:
            asked.append((self.tpm.name, rng.random()))
            return [1000]

    runner.measure(Records, (_peer("a"), _peer("b")), 0, 2, 1)
    turns = asked[2:]
    assert [name for name, _ in turns] == ["a", "b", "a", "b"]
    assert turns[0][1] == turns[1][1] != turns[2][1] == turns[3][1]


def test_figures_are_median_and_95th_percentile_in_microseconds() -> None:
    assert runner.figures([n * 1000 for n in range(100, 0, -1)]) == Figures(50.5, 95.0, 100)
    assert runner.figures([7000]) == Figures(7.0, 7.0, 1)


@pytest.mark.parametrize(("ratio", "said"), [
    (3.1, "BUDGET MISSED"), (3.0, "goal missed"), (1.3, ""),
])
def test_a_ratio_is_held_to_budget_and_goal(ratio: float, said: str) -> None:
    assert report.verdict(ratio, Bounds(3.0, 1.3)) == said


def test_a_false_expectation_is_wrong() -> None:
    with pytest.raises(Wrong, match="what it was"):
        expect(False, "what it was")
