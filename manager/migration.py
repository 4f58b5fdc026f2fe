"""A store of format 1, read once: its root key is sealed as today, its rows know neither groups nor flags.

Keys derived from the sealed root key itself, a row was 52 to 64 octets of a vTPM under a key of its own, and
the digest was the XOR of the rows' HMACs (docs/adr/0004-manager-store.md).
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import Final
from uuid import UUID

from hwtpm.crypto import aead, hashes, kdf
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.crypto.ids import SHA256
from hwtpm.errors import StateError
from manager.model import Identity
from manager.store import Store

_EPOCH: Final = Struct(">Q")
_TABLE: Final = Struct(">32sQ")  # XOR of the rows' HMACs, number of rows
_IDENTITY: Final = Struct(">16sI")


def read(store: Store, identity: Identity, root: bytes) -> tuple[int, dict[UUID, bytes]]:
    """Return the epoch of *store* and what each vTPM has had kept; StateError if it cannot be believed."""
    context = _IDENTITY.pack(identity.store, identity.counter)

    def derive(label: bytes, of: bytes = b"") -> bytes:
        return kdf.kdfa(SHA256, root, b"cusetpm manager " + label, context, of, 256)

    mark, rows = store.read_old()
    fingerprint, digest = derive(b"row digest"), 0
    kept: dict[UUID, bytes] = {}
    try:
        for uuid, (epoch, sealed) in rows.items():
            bound = uuid + _EPOCH.pack(epoch)
            kept[UUID(bytes=uuid)] = aead.open(derive(b"row", uuid), sealed, bound)
            digest ^= int.from_bytes(hashes.hmac(SHA256, fingerprint, bound, sealed), "big")
        found = aead.open(derive(b"table", _EPOCH.pack(mark.epoch)), mark.sealed, context)
        if not compare_digest(found, _TABLE.pack(digest.to_bytes(32, "big"), len(rows))):
            raise AuthenticationFailed("rows")
    except AuthenticationFailed:
        raise StateError("damaged, or rows of it were changed; put the newest copy back") from None
    return mark.epoch, kept
