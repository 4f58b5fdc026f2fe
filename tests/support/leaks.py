"""Memory of this process, for tests of what C allocates."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path


def growth(call: Callable[[], object], times: int) -> int:
    """Return by how many octets the memory of this process grows with *times* calls, after some others."""
    for _ in range(times // 10):
        call()
    before = _resident()
    for _ in range(times):
        call()
    return _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
