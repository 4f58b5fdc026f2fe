"""The window onto registers in memory: a file stands for /dev/mem, and shows what was read and written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwtpm.errors import ProtocolError
from hwtpm.tis.memory import MemoryWindow
from hwtpm.tis.registers import TIS_BASE, TIS_SIZE


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A memory without a TPM: ones where its registers would be."""
    path = tmp_path / "mem"
    with open(path, "wb") as file:
        file.seek(TIS_BASE)
        file.write(b"\xff" * TIS_SIZE)
    return path


@pytest.fixture
def window(memory: Path) -> Iterator[MemoryWindow]:
    found = MemoryWindow(str(memory))
    yield found
    found.close()


def test_octets_and_words_are_where_the_registers_are(memory: Path, window: MemoryWindow) -> None:
    assert window.read8(TIS_BASE) == 0xFF
    assert window.read32(TIS_BASE + TIS_SIZE - 4) == 0xFFFFFFFF
    window.write8(TIS_BASE + 0x4FFF, 0x12)
    window.write32(TIS_BASE + 0x18, 0x11223344)
    assert window.read8(TIS_BASE + 0x18) == 0x44
    with open(memory, "rb") as file:
        file.seek(TIS_BASE)
        octets = file.read()
    assert octets[0x18:0x1C] == b"\x44\x33\x22\x11"
    assert octets[-1] == 0x12
    assert octets.count(0xFF) == TIS_SIZE - 5


@pytest.mark.parametrize("address", [0, TIS_BASE - 1, TIS_BASE + TIS_SIZE, TIS_BASE + 2**32])
def test_other_addresses_are_refused(window: MemoryWindow, address: int) -> None:
    for access in (lambda: window.read8(address), lambda: window.read32(address),
                   lambda: window.write8(address, 0), lambda: window.write32(address, 0)):
        with pytest.raises(ProtocolError, match=f"octets of the TIS registers at address {address:#x}"):
            access()


@pytest.mark.parametrize("offset", [1, 2, 3, TIS_SIZE - 3])
def test_a_word_that_is_not_aligned_would_be_more_than_one_access(window: MemoryWindow, offset: int) -> None:
    with pytest.raises(ProtocolError, match="no 4 octets"):
        window.read32(TIS_BASE + offset)
    with pytest.raises(ProtocolError, match="no 4 octets"):
        window.write32(TIS_BASE + offset, 0)


def test_a_memory_that_is_too_short_names_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mem"
    path.write_bytes(b"short")
    with pytest.raises(OSError, match=re.escape(f"no memory at 0xfed40000: '{path}'")):
        MemoryWindow(str(path))
