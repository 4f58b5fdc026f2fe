"""Handles of keys, sessions and counters."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from hwtpm.crypto.random import Random

_MASK: Final = 0x00FFFFFF  # Reserved handles are above (Part 2, 4.4.1).


def new_handle(random: Random, taken: Container[int]) -> int:
    """Return a handle that is not *taken*, not zero, and no reserved one."""
    while True:
        handle = int.from_bytes(random(4), "big") & _MASK
        if handle and handle not in taken:
            return handle
