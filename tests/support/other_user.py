"""An ordinary user beside root, for tests of what such a user may and sees."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

NOBODY: Final = 65534
CHECKOUT: Final = Path(__file__).parents[2]


def as_nobody(*command: str) -> list[str]:
    """Return *command* with what runs it as an ordinary user of no group; skips without root."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becomes another user, which needs root and setpriv")
    clean = ["env", "-u", "XDG_CONFIG_HOME", "-u", "XDG_RUNTIME_DIR", "HOME=/nonexistent"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *clean, *command]


def cusetpm_as_nobody(*arguments: str, **environment: str) -> list[str]:
    """Return the command that runs cusetpm so, with more *environment*.

    Skips where that user can reach no Python to run it with.
    """
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        if os.access(python, os.X_OK) and _reachable(Path(python)) and _reachable(CHECKOUT / "cusetpm"):
            environment["PYTHONPATH"] = f"{CHECKOUT}:{sysconfig.get_path('purelib')}"
            variables = [f"{name}={value}" for name, value in environment.items()]
            return as_nobody("env", *variables, python, "-m", "cusetpm", *arguments)
    pytest.skip("another user may execute neither this Python nor the system's of the same version")


def _reachable(path: Path) -> bool:
    """Tell whether others may search all directories above *path*, and those above what it links to."""
    return all(parent.stat().st_mode & stat.S_IXOTH for name in (path, path.resolve())
               for parent in name.parents)
