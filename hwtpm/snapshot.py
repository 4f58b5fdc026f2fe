"""The frame of a snapshot: magic[12], UINT16 version, UINT16 count; then tag[4], UINT32 size, octets.

The permanent state of a TPM is all that is left without power.  The state of a running TPM is the rest; it
belongs to one permanent state, and its last section is a digest over both, which also shows damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from struct import error as StructError
from typing import ClassVar, Final, Protocol

from hwtpm.errors import StateError, TpmError

_SECTION: Final = Struct(">4sI")
_MAGIC_SIZE: Final = 12
_HEAD: Final = Struct(f">{_MAGIC_SIZE}sHH")
_DIGEST: Final = b"hash"  # tag of the section with SHA-256 of the permanent state and of all other sections


class Changes:
    """Whether permanent state has changed since it was stored: one for all owners of a TPM.

    Every command asks, and asking each owner would take as long as a small command's decoding.
    """

    __slots__ = ("any",)

    def __init__(self) -> None:
        self.any = False


class Owner(Protocol):
    """An owner of state, of either family."""

    TAG: ClassVar[bytes]
    dirty: bool

    def restore(self, state: bytes) -> None:
        """Take permanent state; raises TpmError or ValueError when it is damaged."""


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


def restore(owners: Iterable[Owner], sections: dict[bytes, bytes]) -> None:
    """The permanent state of *owners* is that of *sections*, or, if this raises StateError, undefined."""
    by_tag = {owner.TAG: owner for owner in owners}
    if sections.keys() != by_tag.keys():
        raise StateError("the TPM state has other sections than this version of cusetpm knows")
    try:
        for tag, owner in by_tag.items():
            owner.restore(sections[tag])
            owner.dirty = False
    except (TpmError, ValueError) as error:
        raise StateError(f"the TPM state is damaged: {error}") from error


def resume(takers: Mapping[bytes, Callable[[bytes], None]], sections: dict[bytes, bytes]) -> None:
    """Each of *takers* has taken the section of its tag, or, if this raises StateError, some have."""
    if sections.keys() != takers.keys():
        raise StateError("the state of the running TPM has other sections than this version knows")
    try:
        for tag, take in takers.items():
            take(sections[tag])
    except (TpmError, ValueError) as error:
        raise StateError(f"the state of the running TPM is damaged: {error}") from error


def pack_running(magic: bytes, version: int, sections: dict[bytes, bytes], permanent: bytes) -> bytes:
    """Return the sections of a running TPM framed, bound to the snapshot *permanent*."""
    digest = hashlib.sha256(permanent + pack(magic, version, sections)).digest()
    return pack(magic, version, {**sections, _DIGEST: digest})


def unpack_running(magic: bytes, version: int, what: str, running: bytes,
                   permanent: bytes) -> dict[bytes, bytes]:
    """Return the sections of what `pack_running` made with *permanent*; StateError for anything else."""
    sections = unpack(magic, version, what, running)
    sections.pop(_DIGEST, None)
    if running != pack_running(magic, version, sections, permanent):
        raise StateError(f"the {what} state is damaged, or not of this permanent state")
    return sections
