"""The table that people read, and the same as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.case import Bounds
from tests.bench.runner import Figures, Result
from tests.bench.startup import ROOT, Ratio, Start

_LIBRARIES = "cryptography", "gmpy2"
_ROW = "{:<20} {:>21} {:>21} {:>7}  {:>7} {:>6}  {}"


def machine(directory: Path, cpu: int, seed: int) -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "machine": f"{os.cpu_count()} x {_cpu()}, Linux {platform.release()}",
        "python": ", ".join((platform.python_version(), *(f"{p} {version(p)}" for p in _LIBRARIES))),
        "cusetpm": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty") or version("cusetpm"),
        "swtpm": _output("swtpm", "--version").partition(",")[0] or "none",
        "state": f"{directory} on {_filesystem(directory)}",
        "pinned": f"client and servers to CPU {cpu}, nice {os.nice(0)}, load {os.getloadavg()[0]:.2f}",
        "seed": str(seed),
    }


def header(about: dict[str, str], names: tuple[str, str]) -> str:
    """Return the lines above the figures."""
    lines = [f"{key + ':':<9}{value}" for key, value in about.items()]
    lines += ["", "p50 (p95) in microseconds, ratio of medians; the peers take turns in one run",
              _ROW.format("operation", *names, "ratio", "budget", "goal", "").rstrip()]
    return "\n".join(lines)


def row(result: Result, bounds: Bounds) -> str:
    """Return the line of one operation."""
    if result.wrong:
        return f"{result.name:<20} WRONG  {result.wrong}"
    assert result.theirs is not None
    assert result.ours is not None
    assert result.ratio is not None
    return _ROW.format(result.name, _cell(result.theirs), _cell(result.ours), f"{result.ratio:.2f}",
                       *map(_bound, bounds), verdict(result.ratio, bounds)).rstrip()


def verdict(ratio: float, bounds: Bounds) -> str:
    """Return what *bounds* say of a ratio: "BUDGET MISSED", "goal missed", or nothing."""
    if bounds.budget is not None and ratio > bounds.budget:
        return "BUDGET MISSED"
    return "goal missed" if bounds.goal is not None and ratio > bounds.goal else ""


def start_row(start: Start | Ratio) -> str:
    """Return the line of one figure of ours alone."""
    missed = "  BUDGET MISSED" if _missed(start) else ""
    if isinstance(start, Ratio):
        return f"{start.name:<20} {start.ratio:.2f}, budget {start.budget:.2g}  ({start.what}){missed}"
    return (f"{start.name:<20} {start.seconds * 1000:.0f} ms, budget {start.budget * 1000:.0f} ms"
            f"  ({start.what}){missed}")


def _missed(start: Start | Ratio) -> bool:
    return (start.ratio if isinstance(start, Ratio) else start.seconds) > start.budget


def summary(results: Iterable[tuple[Result, Bounds]], starts: Iterable[Start | Ratio]) -> str:
    """Return the last lines: which bounds are missed, and what was wrong."""
    missed: dict[str, list[str]] = {"BUDGET MISSED": [], "goal missed": [], "WRONG": []}
    for result, bounds in results:
        if result.wrong:
            missed["WRONG"].append(result.name)
        elif result.ratio is not None and (said := verdict(result.ratio, bounds)):
            missed[said].append(result.name)
    missed["BUDGET MISSED"] += [start.name for start in starts if _missed(start)]
    lines = [f"budgets missed: {_list(missed['BUDGET MISSED'])}",
             f"goals missed:   {_list(missed['goal missed'])}"]
    if missed["WRONG"]:
        lines.append(f"WRONG RESULTS:  {_list(missed['WRONG'])}")
    return "\n".join(lines)


def as_json(about: dict[str, str], names: tuple[str, str], results: Sequence[tuple[Result, Bounds]],
            starts: Iterable[Start | Ratio]) -> dict[str, Any]:
    """Return all of it for machines; times in microseconds, start-up in seconds."""
    operations = {}
    for result, bounds in results:
        operations[result.name] = {
            names[0]: _plain(result.theirs), names[1]: _plain(result.ours), "ratio": result.ratio,
            "budget": bounds.budget, "goal": bounds.goal, "wrong": result.wrong or None,
        }
    return {"about": about, "peers": names, "operations": operations, "start": [s._asdict() for s in starts]}


def _plain(found: Figures | None) -> dict[str, float] | None:
    return None if found is None else found._asdict()


def _cell(found: Figures) -> str:
    return f"{_micro(found.p50)} ({_micro(found.p95)})"


def _micro(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(directory: Path) -> str:
    """Return the type of the file system that *directory* is on, from the longest mount point above it."""
    best, kind = "", "an unknown file system"
    where = directory.resolve()
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, found = line.split()[:3]
        if len(point) > len(best) and where.is_relative_to(point):
            best, kind = point, found
    return kind
