"""What the manager's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.manager.chips import KINDS, TestChip, chip_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manager.db"


@pytest.fixture(params=KINDS)
def any_chip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    """A chip of either family: our own behind its registers, and a real swtpm."""
    with closing(chip_of(request.param, tmp_path / "chip")) as made:
        yield made


@pytest.fixture(params=["1.2", "2.0"])
def own_chip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    """Our own chip, of either family."""
    with closing(chip_of(f"own-{request.param}", tmp_path / "chip")) as made:
        yield made
