"""Slots whose records a key of the user's encrypts: the chip's NV, where it does not lie inside a chip.

    record    magic[12] "cusetpm seal", check[8], then nonce[12], ciphertext, tag[16]

*check* tells which key it was, so that a wrong one is told from damage.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Final

from hwtpm.crypto import aead, hashes, ids
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import StateError
from hwtpm.slots import Slots

_MAGIC: Final = b"cusetpm seal"
_CHECK_SIZE: Final = 8
_HEAD_SIZE: Final = len(_MAGIC) + _CHECK_SIZE


class SealedSlots(Slots):
    """A pair of slot files with records that *key*, of any size, encrypts."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._key = hashes.hmac(ids.SHA256, key, b"cusetpm records")
        self._check = hashes.hmac(ids.SHA256, key, b"cusetpm check")[:_CHECK_SIZE]
        super().__init__(path)

    def read(self, slot: int) -> bytes | None:
        """Return the record in *slot*, as `Slots.read`; empty for one that is torn.

        Raises StateError, also for a record that is not encrypted or with another key.
        """
        record = super().read(slot)
        if record is None:
            return None
        if not is_sealed(record):
            raise StateError(f"{self.path}.{slot}: not encrypted with a key; use it without one")
        if not hmac.compare_digest(record[len(_MAGIC) : _HEAD_SIZE], self._check):
            raise StateError(f"{self.path}.{slot}: encrypted with another key")
        try:
            return aead.open(self._key, record[_HEAD_SIZE:], record[:_HEAD_SIZE])
        except AuthenticationFailed:
            return b""

    def write(self, slot: int, record: bytes) -> None:
        """*record* is in *slot*, encrypted, and on the device."""
        head = _MAGIC + self._check
        super().write(slot, head + aead.seal(self._key, os.urandom(aead.NONCE_SIZE), record, head))


def is_sealed(record: bytes) -> bool:
    """Tell whether *record*, as `Slots.read` returns it, is encrypted with a key."""
    return record.startswith(_MAGIC)
