"""Slots whose records a key encrypts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hwtpm.chip import Chip
from hwtpm.errors import StateError
from hwtpm.sealedslots import SealedSlots
from hwtpm.slots import Slots

KEY, OTHER = b"k" * 16, b"o" * 32


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[SealedSlots]:
    with closing(SealedSlots(tmp_path / "nv", KEY)) as made:
        yield made


def test_a_record_is_read_as_it_was_written_and_is_not_on_the_disk(slots: SealedSlots) -> None:
    assert slots.read(0) is None
    slots.write(0, b"what nobody shall read")
    assert slots.read(0) == b"what nobody shall read"
    assert b"nobody" not in slots.path.with_name("nv.0").read_bytes()


def test_equal_records_are_not_equal_on_the_disk(slots: SealedSlots) -> None:
    for slot in (0, 1):
        slots.write(slot, b"the same")
    first, second = (slots.path.with_name(f"nv.{slot}").read_bytes() for slot in (0, 1))
    assert first != second


def test_another_key_and_none_are_told_from_damage(slots: SealedSlots) -> None:
    slots.write(0, b"record")
    refused = pytest.raises(StateError, match="encrypted with another key")
    with closing(SealedSlots(slots.path, OTHER)) as other, refused:
        other.read(0)
    file = slots.path.with_name("nv.0")
    octets = bytearray(file.read_bytes())
    octets[60] ^= 1
    file.write_bytes(octets)
    assert slots.read(0) == b""
    with closing(Slots(slots.path)) as plain:
        plain.write(0, b"in the clear")
    with pytest.raises(StateError, match=f"{slots.path}.0: not encrypted with a key; use it without one"):
        slots.read(0)


def chip(path: Path, key: bytes = b"") -> Chip:
    return Chip(path, os.urandom, lambda: 0, key=key)


def test_the_nv_of_a_chip_can_be_encrypted(tmp_path: Path) -> None:
    with closing(chip(tmp_path / "chip", KEY)) as made:
        seed = made.engine.snapshot()[-64:]
    with closing(chip(tmp_path / "chip", KEY)) as again:
        assert again.engine.snapshot()[-64:] == seed
    assert all(b"cusetpm 2.0" not in file.read_bytes() for file in tmp_path.iterdir())
    for key, why in ((b"", "encrypted with a key, which is needed"), (OTHER, "encrypted with another key")):
        with pytest.raises(StateError, match=f"{tmp_path}/chip.0: {why}"):
            chip(tmp_path / "chip", key)


def test_the_nv_of_a_chip_in_the_clear_is_no_use_with_a_key(tmp_path: Path) -> None:
    chip(tmp_path / "chip").close()
    with pytest.raises(StateError, match="not encrypted with a key"):
        chip(tmp_path / "chip", KEY)


def test_one_damaged_copy_of_two_is_enough(tmp_path: Path) -> None:
    chip(tmp_path / "chip", KEY).close()
    file = tmp_path / "chip.0"
    octets = bytearray(file.read_bytes())
    octets[60] ^= 1
    file.write_bytes(octets)
    chip(tmp_path / "chip", KEY).close()
