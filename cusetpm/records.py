"""A vTPM's permanent state in its two files, and which of them is the truth."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from hwtpm.crypto import aead
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import StateError
from hwtpm.slots import Slots


def truth(slots: Slots, known: bytes, uuid: UUID) -> tuple[int, bytes | None]:
    """Return the slot that holds the truth about the vTPM *uuid*, and the snapshot in it; None for a new one.

    *known* is what the manager keeps of it: SHA-256 and key of the record, or nothing.  StateError, one line
    for people, when files and manager do not agree; OSError from the file system.
    """
    records = [slots.read(0), slots.read(1)]
    if not known:
        if None not in records:
            raise StateError(f"{slots.path}: there is a state, but the manager has no key for vTPM {uuid}; "
                             f"was the manager's store replaced?")
        return 1, None
    digest, key = known[:32], known[32:]
    for slot, record in enumerate(records):
        if record is not None and sha256(record).digest() == digest:
            try:
                return slot, aead.open(key, record, uuid.bytes)
            except AuthenticationFailed:
                raise StateError(f"{slots.path}.{slot}: belongs to another vTPM") from None
    raise StateError(f"{slots.path}: damaged, or an old copy was put back: neither file is the state that "
                     f"the manager knows of vTPM {uuid}; put the newest copy back, the keys of older ones "
                     f"are destroyed")
