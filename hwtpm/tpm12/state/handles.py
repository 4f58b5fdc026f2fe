"""Handles of keys, sessions and counters."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.tpm12.types.codes import TPM_BAD_HANDLE

_MASK: Final = 0x00FFFFFF  # Reserved handles are above (Part 2, 4.4.1).


def chosen_handle(random: Random, taken: Container[int], wanted: int, *, keep: bool) -> int:
    """Return *wanted* if it is not *taken*, else a new handle or, to *keep* it, TPM_BAD_HANDLE."""
    if wanted not in taken:
        return wanted
    if keep:
        raise TpmError(TPM_BAD_HANDLE)
    return new_handle(random, taken)


def new_handle(random: Random, taken: Container[int]) -> int:
    """Return a handle that is not *taken*, not zero, and no reserved one."""
    while True:
        handle = int.from_bytes(random(4), "big") & _MASK
        if handle and handle not in taken:
            return handle
