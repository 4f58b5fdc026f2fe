"""The frame of a snapshot: magic[12], UINT16 version, UINT16 count; then tag[4], UINT32 size, octets."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final

from hwtpm.errors import StateError

_SECTION: Final = Struct(">4sI")
_MAGIC_SIZE: Final = 12
_HEAD: Final = Struct(f">{_MAGIC_SIZE}sHH")


def pack(magic: bytes, version: int, sections: dict[bytes, bytes]) -> bytes:
    """Return the sections framed; *magic* has 12 octets, each tag 4."""
    pieces = [_HEAD.pack(magic, version, len(sections))]
    for tag, section in sections.items():
        pieces += (_SECTION.pack(tag, len(section)), section)
    return b"".join(pieces)


def unpack(magic: bytes, version: int, what: str, snapshot: bytes) -> dict[bytes, bytes]:
    """Return the sections of what `pack` made; StateError, which calls it *what*, for anything else."""
    try:
        found_magic, found_version, count = _HEAD.unpack_from(snapshot)
        if found_magic != magic:
            raise StateError(f"this is not the state of a {what}")
        if found_version != version:
            raise StateError(f"the {what} state has version {found_version}; this version of cusetpm reads "
                             f"{version}")
        off = _HEAD.size
        sections: dict[bytes, bytes] = {}
        for _ in range(count):
            tag, size = _SECTION.unpack_from(snapshot, off)
            off += _SECTION.size
            sections[tag] = snapshot[off : off + size]
            off += size
    except StructError:
        raise StateError(f"the {what} state is cut short") from None
    if off != len(snapshot):
        raise StateError(f"the {what} state is cut short")
    return sections
