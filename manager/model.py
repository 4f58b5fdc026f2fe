"""What the manager keeps, as values: no I/O and no rules."""

from __future__ import annotations

from typing import Final, NamedTuple

HASH_KEY_MIN: Final = 52
HASH_KEY_MAX: Final = 64
"""Octets of what a vTPM has the manager keep: a hash and a key, opaque here (xen vtpm_manager.h)."""


class Identity(NamedTuple):
    """Which store this is, and the handle of the chip's NV counter that belongs to it."""

    store: bytes  # 16 octets
    counter: int


class SealedRoot(NamedTuple):
    """The root key as a sealed data object of the chip.

    *parent* is the Name of the storage key that wraps it, *pcrs* the bit map of PCRs of the SHA-256 bank that
    its policy names (Part 2, 10.5.2), *public* and *private* the object's areas in wire format.
    """

    parent: bytes
    pcrs: bytes
    public: bytes
    private: bytes


class Row(NamedTuple):
    """One vTPM's hash and key, encrypted; *epoch* is the store's epoch that saved it."""

    epoch: int
    sealed: bytes


class Mark(NamedTuple):
    """The store's epoch, which the chip's counter follows, and the encrypted digest of all rows."""

    epoch: int
    sealed: bytes
