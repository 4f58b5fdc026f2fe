"""What the manager keeps, as values: no I/O and no rules.

Every row of the store has a place, which is one number: its table and its key in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, NamedTuple
from uuid import UUID

from hwtpm.wire import SECRET, Fixed, Int, ListOf, Sized, Wire

HASH_KEY_MIN: Final = 52
HASH_KEY_MAX: Final = 64
"""Octets of what a vTPM has the manager keep: a hash and a key, opaque here (xen vtpm_manager.h)."""

ROOT: Final = 0
"""The owner of the sealed root key, and the number of the first group, whose key that is as well."""

DEFAULT_PCRS: Final = bytes((0xFF, 0, 0))
"""PCRs 0 to 7, the firmware's, as a bit map."""

ADMIN: Final = 1
"""A flag of a vTPM: it may administrate."""
MOVED: Final = 2
"""A flag of a vTPM: it has gone to another manager, and is not to be used here any more."""


class Identity(NamedTuple):
    """Which store this is, and the numbers of the chip's NV counter and key mask that belong to it.

    A *mask* of zero: there is none yet.
    """

    store: bytes  # 16 octets
    counter: int
    mask: int


class Platform(Wire):
    """A configuration of the machine: the PCRs of the bit map *pcrs* and the digest of their values.

    The digest is what a configuration list has, 32 or 20 octets (`manager.cfglist`).
    """

    pcrs: Annotated[bytes, Sized(32, prefix="B")]
    digest: Annotated[bytes, Sized(64, prefix="B")]


class Gone(Wire):
    """A vTPM that came from another manager and was removed here, *generation* being its last one."""

    uuid: Annotated[bytes, Fixed(16)]
    generation: Annotated[int, Int("I")]


class Group(Wire):
    """A group of vTPMs, and who says in which configurations of the machine they may run.

    *saa* is the modulus of the System Approval Agent's public key; empty: there is none yet.  *aik* is the
    group's identity key as the chip gives it out, with the secret *aik_auth*.  *sequence*, *platforms* and
    *kernels* are its configuration list.  *registered* is 1 when its key can be recovered, with *recovery*;
    before, that is what the chip called the time since its last reset when the key was made.
    *gone* is kept by the first group for all, and by nobody but `Change`.
    """

    uuid: Annotated[bytes, Fixed(16)]
    saa: Annotated[bytes, Sized(1024)] = b""
    aik: Annotated[bytes, Sized(16384)] = b""
    aik_auth: Annotated[bytes, Sized(64), SECRET] = b""
    sequence: Annotated[int, Int("Q")] = 0
    platforms: Annotated[Sequence[Platform], ListOf(1024)] = ()
    kernels: Annotated[Sequence[Annotated[bytes, Sized(64, prefix="B")]], ListOf(1024)] = ()
    registered: Annotated[int, Int("B")] = 0
    recovery: Annotated[bytes, Sized(4096)] = b""
    gone: Annotated[Sequence[Gone], ListOf(1 << 20)] = ()


class Vtpm(Wire):
    """A vTPM: *flags*, the *hash_key* it has had kept last (empty: none yet) and the hash of its *kernel*.

    *generation* is how often it has been sent to another manager; *target* is the address of the one that it
    was sent to, if it has MOVED.
    """

    flags: Annotated[int, Int("I")] = 0
    hash_key: Annotated[bytes, Sized(HASH_KEY_MAX), SECRET] = b""
    kernel: Annotated[bytes, Sized(64, prefix="B")] = b""
    generation: Annotated[int, Int("I")] = 0
    target: Annotated[bytes, Sized(32, prefix="B")] = b""


class SealedKey(NamedTuple):
    """A key as the chip has sealed it to one configuration: the PCRs of a bit map and their *digest*.

    *parent* names the storage key that wraps it: its Name, or the SHA-256 of the SRK's TPM_PUBKEY.  *public*
    and *private* are the areas of a TPM 2.0's sealed data object; a TPM_STORED_DATA is all in *private*.  The
    digest is empty if it is not known.
    """

    parent: bytes
    pcrs: bytes
    digest: bytes
    public: bytes
    private: bytes


class GroupRow(NamedTuple):
    """A group, encrypted; *epoch* is the store's epoch that saved it."""

    epoch: int
    sealed: bytes


class VtpmRow(NamedTuple):
    """A vTPM of the group number *group*, encrypted; *created* grows from each vTPM to the next new one."""

    group: int
    created: int
    epoch: int
    sealed: bytes


class Mark(NamedTuple):
    """The store's epoch, which the chip's counter follows, and the encrypted digest of all rows.

    *next* is empty, or the key mask that is about to replace the chip's, encrypted.
    """

    epoch: int
    sealed: bytes
    next: bytes = b""


AnyRow = SealedKey | GroupRow | VtpmRow
Changes = dict[int, AnyRow | None]
"""Rows by place; None stands for one that is removed."""

_TABLES: Final = (SealedKey, GroupRow, VtpmRow)
_SEAL, _GROUP, _VTPM = (number << 128 for number in (1, 2, 3))


def seal_place(owner: int, position: int) -> int:
    """Return the place of the key of *owner* as it is sealed to configuration number *position*."""
    return _SEAL | owner << 32 | position


def group_place(number: int) -> int:
    """Return the place of the group *number*."""
    return _GROUP | number


def vtpm_place(uuid: UUID) -> int:
    """Return the place of the vTPM *uuid*."""
    return _VTPM | uuid.int


def split(place: int) -> tuple[type[AnyRow], int]:
    """Return the kind of the row at *place*, and its key among them."""
    return _TABLES[(place >> 128) - 1], place & (1 << 128) - 1


def place_name(place: int) -> str:
    """Return what the row at *place* is, for people."""
    kind, key = split(place)
    if kind is SealedKey:
        return f"the sealed key {(key & 0xFFFFFFFF) + 1} of group {key >> 32}"
    if kind is GroupRow:
        return f"the row of group {key}"
    return f"the row of vTPM {UUID(int=key)}"


class Rows:
    """All rows of a store; `vtpms` are in the order of their creation."""

    def __init__(self) -> None:
        self.seals: dict[tuple[int, int], SealedKey] = {}
        self.groups: dict[int, GroupRow] = {}
        self.vtpms: dict[UUID, VtpmRow] = {}

    def copy(self) -> Rows:
        """Return the same rows once more."""
        rows = Rows()
        rows.seals, rows.groups, rows.vtpms = dict(self.seals), dict(self.groups), dict(self.vtpms)
        return rows

    def items(self) -> Iterator[tuple[int, AnyRow]]:
        """Give each row with its place."""
        for (owner, position), key in self.seals.items():
            yield seal_place(owner, position), key
        for number, group in self.groups.items():
            yield group_place(number), group
        for uuid, vtpm in self.vtpms.items():
            yield vtpm_place(uuid), vtpm

    def get(self, place: int) -> AnyRow | None:
        """Return the row at *place*, None if there is none."""
        kind, key = split(place)
        if kind is SealedKey:
            return self.seals.get((key >> 32, key & 0xFFFFFFFF))
        return self.groups.get(key) if kind is GroupRow else self.vtpms.get(UUID(int=key))

    def apply(self, changes: Changes) -> None:
        """The rows are as *changes* say."""
        for place, row in changes.items():
            key = split(place)[1]
            if isinstance(row, SealedKey):
                self.seals[key >> 32, key & 0xFFFFFFFF] = row
            elif isinstance(row, GroupRow):
                self.groups[key] = row
            elif isinstance(row, VtpmRow):
                self.vtpms[UUID(int=key)] = row
            else:
                self._remove(place)

    def _remove(self, place: int) -> None:
        kind, key = split(place)
        if kind is SealedKey:
            self.seals.pop((key >> 32, key & 0xFFFFFFFF), None)
        elif kind is GroupRow:
            self.groups.pop(key, None)
        else:
            self.vtpms.pop(UUID(int=key), None)

    def seals_of(self, owner: int) -> list[SealedKey]:
        """Return the key of *owner* as it is sealed to each of its configurations, in their order."""
        return [key for (whose, _), key in sorted(self.seals.items()) if whose == owner]


def pcr_list(pcrs: bytes) -> str:
    """Return the numbers of the PCRs in the bit map, for people."""
    return ", ".join(str(8 * i + bit) for i, octet in enumerate(pcrs) for bit in range(8) if octet >> bit & 1)
