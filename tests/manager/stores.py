"""What tests do with a manager's store, behind a chip of either family."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hwtpm.errors import StateError
from manager.manager import Manager
from manager.service import Service
from tests.manager.chips import TestChip

A, B = UUID(int=0xA), UUID(int=0xB)


def manager(path: Path, chip: TestChip) -> Manager:
    return Manager(path, chip.sealing, os.urandom)


def service(opened: Manager, chip: TestChip, **how: Any) -> Service:
    """Return the service of a manager that is open."""
    return Service(opened, chip.sealing, lambda: chip.sealing, os.urandom, **how)


def kept(path: Path, chip: TestChip, *uuids: UUID) -> list[bytes | None]:
    """Return what a manager that opens the store now has of the vTPMs."""
    with closing(manager(path, chip)) as opened:
        return [opened.load_hash_key(uuid) for uuid in uuids]


def refused(path: Path, chip: TestChip, says: str) -> None:
    """Opening fails with one line that names the store, and neither store nor chip is the poorer."""
    before, counters, areas = path.read_bytes(), chip.counters(), chip.areas()
    with pytest.raises(StateError, match=says) as caught:
        manager(path, chip)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert (chip.counters(), chip.areas()) == (counters, areas)
    chip.nothing_is_loaded()
