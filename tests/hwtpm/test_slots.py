"""Slot files: records survive, other formats are refused, and a rewrite touches only its own slot."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwtpm.errors import StateError
from hwtpm.slots import Slots


def test_a_new_pair_is_empty_and_makes_no_file(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "state")
    assert slots.read(0) is None
    assert slots.read(1) is None
    assert list(tmp_path.iterdir()) == []
    slots.close()
    slots.close()


def test_a_file_is_made_private_when_it_is_first_written(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "state")
    slots.write(1, b"record")
    assert [path.name for path in tmp_path.iterdir()] == ["state.1"]
    assert (tmp_path / "state.1").stat().st_mode & 0o777 == 0o600
    assert [slots.read(0), slots.read(1)] == [None, b"record"]
    slots.close()


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40000)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_last_record_of_each_slot_is_there_after_reopening(
        tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.mktemp("slots") / "state"
    slots = Slots(path)
    expected: list[bytes | None] = [None, None]
    for i, (slot, size) in enumerate(writes):
        expected[slot] = bytes([i + 1]) * size
        slots.write(slot, expected[slot] or b"")
    slots.close()
    again = Slots(path)
    assert [again.read(0), again.read(1)] == expected
    again.close()


def test_a_shorter_record_hides_what_is_left_of_a_longer_one(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "state")
    slots.write(0, b"x" * 20000)
    size = (tmp_path / "state.0").stat().st_size
    slots.write(0, b"short")
    assert slots.read(0) == b"short"
    assert (tmp_path / "state.0").stat().st_size == size
    slots.close()


@pytest.mark.parametrize(("content", "words"), [
    (b"something else that is no state file", "not a state file"),
    (b"cusetpm slot\0\x63\0\0\0\0", "another version"),
    (b"cus", "not a state file"),
])
def test_a_file_of_another_kind_or_version_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "state.1").write_bytes(content)
    slots = Slots(tmp_path / "state")
    with pytest.raises(StateError, match=words) as caught:
        slots.read(1)
    assert str(tmp_path / "state.1") in str(caught.value)
    slots.close()


def test_a_file_that_cannot_grow_stays_as_it_was(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "state")
    slots.write(0, b"record")
    before = (tmp_path / "state.0").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"state\.0"):
            slots.write(0, bytes(len(before)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (tmp_path / "state.0").read_bytes() == before
    slots.write(0, bytes(len(before)))
    assert slots.read(0) == bytes(len(before))
    slots.close()
