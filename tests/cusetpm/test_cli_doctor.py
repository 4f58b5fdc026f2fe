"""`cusetpm doctor` tells what `cusetpm run` will meet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]

needs_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None,
                                reason="gives up a capability, which needs root and setpriv")


def doctor(*before: str) -> tuple[int, dict[str, str]]:
    """Return the status, and the lines by subject: "ok" or "missing", then what is said."""
    done = subprocess.run([*before, *CUSETPM, "doctor"], capture_output=True, text=True, check=False,
                          timeout=120)
    assert done.stderr == ""
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return done.returncode, {subject: f"{mark} {what}" for mark, subject, what in rows}


def works(front_end: str, *before: str) -> bool:
    done = subprocess.run([*before, *CUSETPM, "run", "--front-end", front_end, "--", "true"],
                          capture_output=True, check=False, timeout=120)
    return done.returncode == 0


@pytest.mark.parametrize("before", [
    [], pytest.param(["setpriv", "--bounding-set=-sys_admin"], marks=needs_root),
])
def test_a_front_end_is_ok_exactly_if_run_can_use_it(before: list[str]) -> None:
    status, said = doctor(*before)
    fuse, cuse = works("fuse", *before), works("cuse", *before)
    assert said["FUSE"].startswith("ok") == fuse
    assert said["CUSE"].startswith("ok") == cuse
    assert status == (0 if fuse or cuse else 1)
    assert said["vtpm-proxy"].startswith("ok") == works("vtpmx", *before)
    assert said["socket"].startswith("ok")


def test_what_is_missing_comes_with_what_mends_it() -> None:
    _, said = doctor()
    assert all("; try: " in line for line in said.values() if line.startswith("missing"))
