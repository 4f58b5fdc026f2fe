"""The state of a running vTPM in a file, until it goes on from there.

    file    magic[12] "cusetpm run\\0", UINT16 version, then nonce[12], ciphertext, tag[16]

It is encrypted under a key that is derived from that of the vTPM's durable record, and bound to its number
and digest.  So it is of no use any more once another record is the truth: a vTPM that has saved anything
since does not go back.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct
from typing import Final

from hwtpm.crypto import aead, hashes, ids
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import StateError
from hwtpm.slots import sync_directory, write_whole

_HEAD: Final = Struct(">12sH")
_MAGIC: Final = b"cusetpm run\0"
_VERSION: Final = 1


class Suspended:
    """The file at *path*, which need not be there; *identity* is that of the vTPM, and no secret.

    *record* is, in each method, what the manager keeps of the record that is the truth: its last 32 octets
    are a key.
    """

    def __init__(self, path: Path, identity: bytes) -> None:
        self.path = path
        self._identity = identity

    def store(self, state: bytes, record: bytes) -> None:
        """The file holds *state*, durably.  OSError from the file system."""
        key, bound_to = self._derived(record)
        sealed = aead.seal(key, os.urandom(aead.NONCE_SIZE), state, bound_to)
        write_whole(self.path, _HEAD.pack(_MAGIC, _VERSION) + sealed)

    def load(self, record: bytes) -> bytes | None:
        """Return what was stored; None if there is nothing, or nothing that goes with *record*.

        StateError for a file of another kind or version; OSError from the file system.
        """
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if found[: _HEAD.size] != _HEAD.pack(_MAGIC, _VERSION):
            raise StateError(f"{self.path}: not the state of a running TPM, or that of another version of "
                             f"cusetpm; remove it to go on without")
        key, bound_to = self._derived(record)
        try:
            return aead.open(key, found[_HEAD.size :], bound_to)
        except AuthenticationFailed:
            return None

    def remove(self) -> None:
        """There is no file, durably.  OSError from the file system."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return
        # A vTPM that went on without saving anything would go back if power brought the file back.
        sync_directory(self.path.parent)

    def _derived(self, record: bytes) -> tuple[bytes, bytes]:
        return hashes.hmac(ids.SHA256, record[-32:], b"running"), self._identity + record[:-32]
