"""AEAD envelopes of the store: what a flipped bit, a swapped row or a missing one cannot get past.

All keys derive from the root key.  A row is AES-256-GCM under a key of its vTPM.  The digest of all rows is
the XOR of one HMAC per row, so that a save costs the same in a store of any size; it is stored encrypted and
never in the clear, because who sees such digests can combine them (docs/adr/0004-manager-store.md).
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct

from hwtpm.crypto import aead, hashes, kdf
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.crypto.ids import SHA256
from manager.model import Identity, Mark, Row

_EPOCH = Struct(">Q")
_TABLE = Struct(">32sQ")  # XOR of the rows' HMACs, number of rows
_IDENTITY = Struct(">16sI")


class Digest:
    """The digest of a set of rows; adding a row and taking it away are the same operation."""

    __slots__ = ("count", "value")

    def __init__(self, value: int = 0, count: int = 0) -> None:
        self.value, self.count = value, count

    def pack(self) -> bytes:
        """Return the 40 octets that are stored, encrypted."""
        return _TABLE.pack(self.value.to_bytes(32, "big"), self.count)


class Keys:
    """What the 32-octet root key is good for in the store *identity*.

    `counter_auth` is the authValue of the chip's counter.
    """

    def __init__(self, root: bytes, identity: Identity) -> None:
        self._root = root
        self._identity = _IDENTITY.pack(identity.store, identity.counter)
        self._fingerprint = self._derive(b"row digest")
        self.counter_auth = self._derive(b"counter")

    def __repr__(self) -> str:
        return "<keys>"

    def encrypt_row(self, uuid: bytes, epoch: int, hash_key: bytes, nonce: bytes) -> Row:
        """Return *hash_key* of the vTPM *uuid* (16 octets) as the row of *epoch*; *nonce* is 12 octets."""
        sealed = aead.seal(self._derive(b"row", uuid), nonce, hash_key, uuid + _EPOCH.pack(epoch))
        return Row(epoch, sealed)

    def decrypt_row(self, uuid: bytes, row: Row) -> bytes:
        """Return what `encrypt_row` was given; AuthenticationFailed if this is not the row that it made."""
        return aead.open(self._derive(b"row", uuid), row.sealed, uuid + _EPOCH.pack(row.epoch))

    def digest_of(self, rows: dict[bytes, Row]) -> Digest:
        """Return the digest of *rows*, by UUID."""
        digest = Digest()
        for uuid, row in rows.items():
            digest = self.with_row(digest, uuid, None, row)
        return digest

    def with_row(self, digest: Digest, uuid: bytes, old: Row | None, new: Row) -> Digest:
        """Return *digest* with the row *new* of *uuid* in the place of *old*."""
        value, count = digest.value ^ self._row_digest(uuid, new), digest.count
        if old is None:
            return Digest(value, count + 1)
        return Digest(value ^ self._row_digest(uuid, old), count)

    def mark(self, epoch: int, digest: Digest, nonce: bytes) -> Mark:
        """Return the mark of *epoch* over all rows; *nonce* is 12 octets."""
        sealed = aead.seal(self._derive(b"table", _EPOCH.pack(epoch)), nonce, digest.pack(), self._identity)
        return Mark(epoch, sealed)

    def check(self, mark: Mark, digest: Digest) -> None:
        """Return if *mark* was made for these rows at its epoch, else raise AuthenticationFailed."""
        found = aead.open(self._derive(b"table", _EPOCH.pack(mark.epoch)), mark.sealed, self._identity)
        if not compare_digest(found, digest.pack()):
            raise AuthenticationFailed("rows")

    def _row_digest(self, uuid: bytes, row: Row) -> int:
        return int.from_bytes(
            hashes.hmac(SHA256, self._fingerprint, uuid, _EPOCH.pack(row.epoch), row.sealed), "big")

    def _derive(self, label: bytes, context: bytes = b"") -> bytes:
        return kdf.kdfa(SHA256, self._root, b"cusetpm manager " + label, self._identity, context, 256)
