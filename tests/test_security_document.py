"""docs/security.md refers to code and tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(?:([\w/]+\.py)(?:: )?)?(\w+)?`", DOCUMENT)


def test_every_test_and_every_place_in_the_code_is_there() -> None:
    everywhere = "".join(path.read_text() for path in (ROOT / "tests" / "manager").glob("test_*.py"))
    missing, checked = [], 0
    for file, name in NAMED:
        if not file and not name.startswith("test_"):
            continue
        checked += 1
        path = ROOT / file
        code = path.read_text() if file and path.exists() else "" if file else everywhere
        if not code or (name and f"def {name}(" not in code):
            missing.append(f"{file}: {name}")
    assert not missing
    assert checked > 20
