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
    """The root key as the chip has sealed it to the PCRs of the bit map *pcrs*.

    *parent* names the storage key that wraps it: its Name, or the SHA-256 of the SRK's TPM_PUBKEY.  *public*
    and *private* are the areas of a TPM 2.0's sealed data object; a TPM_STORED_DATA is all in *private*.
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


def pcr_list(pcrs: bytes) -> str:
    """Return the numbers of the PCRs in the bit map, for people."""
    return ", ".join(str(8 * i + bit) for i, octet in enumerate(pcrs) for bit in range(8) if octet >> bit & 1)
