"""AEAD envelopes of the store: what a flipped bit, a swapped row or a missing one cannot get past.

All keys derive from what the chip has sealed.  The root key derives from the sealed root key and from the key
mask in the chip's NV, so that changing the mask makes every older copy of the store useless.  It encrypts the
groups.  The key of a group derives from the group's sealed key and from the share in the group's row, and
encrypts its vTPMs.

The digest of all rows is a sum of one HMAC per row, so that a save costs the same in a store of any size; it
is stored encrypted and never in the clear, because who sees such digests can combine them.  A second sum, in
which each HMAC is multiplied by the row's place, says which row it is when one row is not as it has to be
(docs/adr/0016-the-managers-rows.md).
"""

from __future__ import annotations

from functools import lru_cache, partial
from hmac import compare_digest
from struct import Struct
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

from hwtpm.crypto import aead, hashes, kdf
from hwtpm.crypto.ids import SHA256
from hwtpm.errors import StateError, TpmError
from hwtpm.wire import decode, encode
from manager.model import (
    AnyRow,
    Changes,
    Group,
    GroupRow,
    Identity,
    Mark,
    Rows,
    SealedKey,
    Vtpm,
    VtpmRow,
    group_place,
    vtpm_place,
)

KEY_SIZE: Final = 32

_EPOCH = Struct(">Q")
_DIGEST = Struct(">32s32sQ")  # sum of the rows' HMACs, sum of their products with the places, number of rows
_STORE = Struct(">16sI")
_IDENTITY = Struct(">16sII")
_PLACE_SIZE: Final = 17
_VTPM_HEAD = Struct(">IQQ")
_SEAL_PART = Struct(">I")
_PRIME: Final = 2**255 - 19
_GROUP_HEAD: Final = 1 + KEY_SIZE + 16
_FORMAT: Final = b"\1"  # of what is encrypted in a row
T = TypeVar("T", Group, Vtpm)


class Digest(NamedTuple):
    """The digest of a set of rows."""

    total: int
    placed: int
    rows: int

    def pack(self) -> bytes:
        """Return the 72 octets that are stored, encrypted."""
        return _DIGEST.pack(self.total.to_bytes(32, "big"), self.placed.to_bytes(32, "big"), self.rows)

    def odd_one(self, other: Digest) -> int:
        """Return the place of the only row in which two sets differ; something else if they differ in more.

        One row less or more, or another row at its place.
        """
        total = (self.total - other.total) % _PRIME
        return (self.placed - other.placed) * pow(total, -1, _PRIME) % _PRIME if total else 0


class Half(NamedTuple):
    """The store's half of a group's key: a *share*, 32 octets, and a *proof*, 16, that the other is right."""

    share: bytes
    proof: bytes


class RootKeys:
    """What the 32-octet sealed root key is good for in the store *identity*, with the chip's key *mask*.

    An empty mask: the chip has none yet.  `counter_auth` and `mask_auth` are the authValues of the chip's
    counter and of the NV space of the mask, `moving_key` is the private key that other managers encrypt for.
    They stay whatever is in the mask.
    """

    def __init__(self, root: bytes, mask: bytes, identity: Identity) -> None:
        self.sealed = root
        self.mask = mask
        store = _STORE.pack(identity.store, identity.counter)
        self.counter_auth = _derive(root, b"counter", store)
        self.mask_auth = _derive(root, b"mask", store)[:20]  # as much as a TPM 1.2 takes
        self.moving_key = _derive(root, b"moving", store)
        self._identity = _IDENTITY.pack(*identity)
        self._root = _derive(root, b"root", self._identity, mask)
        self._fingerprint = _derive(self._root, b"row digest")
        # Many marks have the same epoch.
        self._table_key = lru_cache(2)(partial(_derive, self._root, b"table"))

    def __repr__(self) -> str:
        return "<root keys>"

    def encrypt_group(self, number: int, epoch: int, half: Half, group: Group, nonce: bytes) -> GroupRow:
        """Return *group* and *half* of its key as a row of *epoch*; *nonce* is 12 octets."""
        place = group_place(number).to_bytes(_PLACE_SIZE, "big")
        plain = _FORMAT + half.share + half.proof + encode(group)
        return GroupRow(epoch, aead.seal(_derive(self._root, b"group", place), nonce, plain,
                                         place + _EPOCH.pack(epoch)))

    def decrypt_group(self, number: int, row: GroupRow) -> tuple[Half, Group]:
        """Return half and group as given to `encrypt_group`; AuthenticationFailed if this is not its row."""
        place = group_place(number).to_bytes(_PLACE_SIZE, "big")
        plain = aead.open(_derive(self._root, b"group", place), row.sealed, place + _EPOCH.pack(row.epoch))
        half = Half(plain[1 : 1 + KEY_SIZE], plain[1 + KEY_SIZE : _GROUP_HEAD])
        return half, _decoded(Group, plain[:1], plain[_GROUP_HEAD:])

    def digest_of(self, rows: Rows) -> Digest:
        """Return the digest of all *rows*."""
        total = placed = count = 0
        for place, row in rows.items():
            found = self._fingerprint_of(place, row)
            total, placed, count = total + found, placed + found * place, count + 1
        return Digest(total % _PRIME, placed % _PRIME, count)

    def with_changes(self, digest: Digest, rows: Rows, changes: Changes) -> Digest:
        """Return the digest of *rows*, which is *digest*, as it is with *changes*."""
        total, placed, count = digest
        for place, new in changes.items():
            difference = 0
            if new is not None:
                difference, count = self._fingerprint_of(place, new), count + 1
            old = rows.get(place)
            if old is not None:
                difference, count = difference - self._fingerprint_of(place, old), count - 1
            total, placed = total + difference, placed + difference * place
        return Digest(total % _PRIME, placed % _PRIME, count)

    def mark(self, epoch: int, digest: Digest, nonce: bytes, following: bytes = b"") -> Mark:
        """Return the mark of *epoch* over all rows; *nonce* is 12 octets, *following* is its `next`."""
        key = self._table_key(_EPOCH.pack(epoch))
        return Mark(epoch, aead.seal(key, nonce, digest.pack(), self._identity), following)

    def open_mark(self, mark: Mark) -> Digest:
        """Return the digest of the rows that *mark* was made for; AuthenticationFailed if it is no mark."""
        key = self._table_key(_EPOCH.pack(mark.epoch))
        total, placed, count = _DIGEST.unpack(aead.open(key, mark.sealed, self._identity))
        return Digest(int.from_bytes(total, "big"), int.from_bytes(placed, "big"), count)

    def encrypt_mask(self, mask: bytes, epoch: int, nonce: bytes) -> bytes:
        """Return the next key *mask*, which is about to become valid with *epoch*, encrypted."""
        return aead.seal(_derive(self._root, b"next mask"), nonce, mask, _EPOCH.pack(epoch))

    def decrypt_mask(self, mark: Mark) -> bytes:
        """Return what `encrypt_mask` was given for the epoch of *mark*; AuthenticationFailed without it."""
        return aead.open(_derive(self._root, b"next mask"), mark.next, _EPOCH.pack(mark.epoch))

    def _fingerprint_of(self, place: int, row: AnyRow) -> int:
        if isinstance(row, VtpmRow):
            packed = _VTPM_HEAD.pack(row.group, row.created, row.epoch) + row.sealed
        elif isinstance(row, SealedKey):
            packed = b"".join(_SEAL_PART.pack(len(part)) + part for part in row)
        else:
            packed = _EPOCH.pack(row.epoch) + row.sealed
        octets = hashes.hmac(SHA256, self._fingerprint, place.to_bytes(_PLACE_SIZE, "big"), packed)
        return int.from_bytes(octets, "big")


class GroupKeys:
    """What the key of the group *number* is good for: *sealed* is the chip's half, *share* the store's.

    `half` is what the store has to keep of it.
    """

    def __init__(self, number: int, sealed: bytes, share: bytes) -> None:
        self.sealed = sealed
        self._key = _derive(sealed, b"group key", group_place(number).to_bytes(_PLACE_SIZE, "big"), share)
        self.half = Half(share, _derive(self._key, b"proof")[:16])
        self._row_key = lru_cache(64)(partial(_derive, self._key, b"row"))  # Who saves will save again.

    def __repr__(self) -> str:
        return "<group keys>"

    def encrypt_vtpm(self, uuid: UUID, head: VtpmRow, vtpm: Vtpm, nonce: bytes) -> VtpmRow:
        """Return *head* with *vtpm* in it; *nonce* is 12 octets."""
        place, bound = self._bound(uuid, head)
        sealed = aead.seal(self._row_key(place), nonce, _FORMAT + encode(vtpm), bound)
        return head._replace(sealed=sealed)

    def decrypt_vtpm(self, uuid: UUID, row: VtpmRow) -> Vtpm:
        """Return what `encrypt_vtpm` was given; AuthenticationFailed if this is not the row it made."""
        place, bound = self._bound(uuid, row)
        plain = aead.open(self._row_key(place), row.sealed, bound)
        return _decoded(Vtpm, plain[:1], plain[1:])

    def _bound(self, uuid: UUID, row: VtpmRow) -> tuple[bytes, bytes]:
        place = vtpm_place(uuid).to_bytes(_PLACE_SIZE, "big")
        return place, place + _VTPM_HEAD.pack(row.group, row.created, row.epoch)


def same(one: Digest, other: Digest) -> bool:
    """Tell whether two digests are of the same rows."""
    return compare_digest(one.pack(), other.pack())


def _derive(key: bytes, label: bytes, context: bytes = b"", more: bytes = b"") -> bytes:
    return kdf.kdfa(SHA256, key, b"cusetpm manager " + label, context, more, 256)


def _decoded(kind: type[T], version: bytes, octets: bytes) -> T:
    if version != _FORMAT:
        raise StateError("a row was written by a later version of cusetpm")
    try:
        return decode(kind, octets)
    except TpmError as error:
        raise StateError(f"damaged: a row cannot be read ({error})") from None
