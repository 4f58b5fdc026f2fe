"""A vTPM's permanent state in its two files, and which of them is the truth.

    record    magic[8] "cusetpm\\2", UINT64 number, nonce[12], ciphertext, tag[16]
    kept      UINT64 number, the first 20 octets of the record's SHA-256, key[32]

A record is AES-256-GCM with magic, number and the vTPM's UUID as associated data.  Numbers grow with every
record.  The key is the same from record to record, until something is destroyed that older ones hold.

The manager keeps the last part for the vTPM.  In a crash it may lose what it was told last, but never a key:
so a record that this key opens and whose number is higher was completed later, and is the truth.
One with a lower number is an old copy that somebody has put back.

Records of before had no number: nonce[12], ciphertext, tag[16], each with a key of its own; kept was the
SHA-256 and the key.
"""

from __future__ import annotations

import os
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple
from uuid import UUID

from hwtpm.crypto import aead
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import StateError
from hwtpm.slots import Slots

_MAGIC: Final = b"cusetpm\2"
_HEAD: Final = Struct(">8sQ")
_KEPT: Final = Struct(">Q20s32s")
_UNNUMBERED: Final = Struct(">32s32s")


class OldCopy(StateError):
    """What is in the files, or what of it is not damaged, is older than what the manager knows."""


class Record(NamedTuple):
    """The record in *slot* 0 or 1: *kept* is what the manager has to keep of it, *snapshot* is the state."""

    slot: int
    kept: bytes
    snapshot: bytes

    @property
    def number(self) -> int:
        """The record's number; that of a record of before is 0."""
        return _number(self.kept)

    @property
    def key(self) -> bytes | None:
        """The key for the records to come, 32 octets; None if they need another one."""
        return self.kept[-aead.KEY_SIZE :] if len(self.kept) == _KEPT.size else None

    def __repr__(self) -> str:
        return f"Record({self.slot}, number {self.number})"


def seal(snapshot: bytes, slot: int, number: int, key: bytes, uuid: UUID) -> tuple[Record, bytes]:
    """Return the record of *snapshot*, and its octets for the file of *slot*."""
    head = _HEAD.pack(_MAGIC, number)
    octets = head + aead.seal(key, os.urandom(aead.NONCE_SIZE), snapshot, head + uuid.bytes)
    return Record(slot, _kept(octets, number, key), snapshot), octets


def truth(slots: Slots, known: bytes, uuid: UUID, *, accept: bool = False) -> Record | None:
    """Return the record that is the truth about the vTPM *uuid*; None for a new one.

    *known* is what the manager keeps of it, or nothing.  StateError, one line for people, when files and
    manager do not agree: OldCopy if there is only an older record, which is returned with *accept*; OSError
    from the file system.
    """
    octets = [slots.read(0), slots.read(1)]
    if not known:
        if None not in octets:
            raise StateError(f"{slots.path}: there is a state, but the manager has no key for vTPM {uuid}; "
                             f"if its deletion was cut short, delete it once more (cusetpm manager vtpm "
                             f"delete); if the manager's store was replaced, put it back")
        return None
    if len(known) not in (_UNNUMBERED.size, _KEPT.size):
        raise StateError(f"{slots.path}: what the manager keeps of vTPM {uuid} is another program's")
    found = [_opened(slots, slot, each, known, uuid) for slot, each in enumerate(octets) if each]
    newest = max(filter(None, found), key=lambda record: record.number, default=None)
    number = _number(known)
    for record in (newest, *found):
        if record is not None and (record.kept == known or record.number > number):
            return record
    told = f"{slots.path}: damaged, or an old copy was put back"
    if newest is None:
        raise StateError(f"{told}: neither file is the state that the manager knows of vTPM {uuid}, nor one "
                         f"that its key opens; put the newest copy back")
    if not accept:
        raise OldCopy(f"{told}: the newest state there is save {newest.number}, the manager knows save "
                      f"{number} of vTPM {uuid}; put the newest copy back, or accept the old one (cusetpm "
                      f"manager vtpm accept-rollback)")
    return newest


def accepted(slots: Slots, known: bytes, uuid: UUID) -> tuple[Record, bytes] | None:
    """Return an old copy, which `truth` refuses, as the next record, and its octets; None if there is none.

    Raises as `truth` does for what cannot be opened.
    """
    record = truth(slots, known, uuid, accept=True)
    if record is None or record.key is None or record.kept == known or record.number > _number(known):
        return None
    return seal(record.snapshot, 1 - record.slot, _number(known) + 1, record.key, uuid)


def _kept(octets: bytes, number: int, key: bytes) -> bytes:
    return _KEPT.pack(number, sha256(octets).digest()[:20], key)


def _number(kept: bytes) -> int:
    return int.from_bytes(kept[:8], "big") if len(kept) == _KEPT.size else 0


def _opened(slots: Slots, slot: int, octets: bytes, known: bytes, uuid: UUID) -> Record | None:
    """Return the record if the key in *known* opens it."""
    if len(known) == _UNNUMBERED.size:
        digest, key = _UNNUMBERED.unpack(known)
        if sha256(octets).digest() != digest:
            return None
        head, kept = b"", known
    else:
        head, key = octets[: _HEAD.size], known[-aead.KEY_SIZE :]
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            return None
        kept = _kept(octets, _HEAD.unpack(head)[1], key)
    try:
        return Record(slot, kept, aead.open(key, octets[len(head) :], head + uuid.bytes))
    except AuthenticationFailed:
        return None
