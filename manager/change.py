"""A unit of work: what is done to groups and vTPMs, to become valid at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from typing import Final
from uuid import UUID

from hwtpm.errors import StateError
from manager.book import Book, NoGroup, NoVtpm, nonce, opened
from manager.keys import KEY_SIZE, GroupKeys, Half, RootKeys
from manager.model import (
    DEFAULT_PCRS,
    ROOT,
    Changes,
    Gone,
    Group,
    GroupRow,
    Platform,
    Vtpm,
    VtpmRow,
    group_place,
    seal_place,
    vtpm_place,
)
from manager.sealing import Conversation

_GROUPS: Final = 1 << 32


class Change:
    """Changes to *book* that belong to *epoch*; reading gives what will be when they are done.

    *converse* begins a conversation with the chip.  Methods raise NoGroup, NoVtpm and Closed, and what the
    chip gives, as those of `Book` do.
    """

    def __init__(self, book: Book, epoch: int, converse: Callable[[], AbstractContextManager[Conversation]],
                 entropy: Callable[[int], bytes]) -> None:
        self.epoch = epoch
        self._book, self._converse, self._entropy = book, converse, entropy
        self.changes: Changes = {}
        self.destroys = False  # a key: no older copy of the store is to be opened any more
        self._groups: dict[int, tuple[Half, Group]] = {}  # as changed here
        self._opened: dict[int, GroupKeys] = {}
        self._created = book.created

    # Reading

    def groups(self) -> list[int]:
        """Return the numbers of the groups, in the order of their creation."""
        gone = {number for number in self._book.groups() if self._removed(group_place(number))}
        return sorted({*self._book.groups(), *self._groups} - gone)

    def group(self, number: int) -> Group:
        """Return the group *number*, whether its key can be had or not."""
        return copy(self._shared(number)[1])

    def secret(self, number: int) -> bytes:
        """Return the 32 octets that the chip has sealed for the group *number*."""
        return self._keys(number).sealed

    def vtpms(self, group: int) -> list[UUID]:
        """Return the vTPMs of *group*, in the order of their creation."""
        found = {uuid: row for uuid, row in self._book.rows.vtpms.items()
                 if not self._removed(vtpm_place(uuid))}
        for place, row in self.changes.items():
            if isinstance(row, VtpmRow):
                found[UUID(int=place & (1 << 128) - 1)] = row
        return [uuid for uuid, row in found.items() if row.group == group]

    def find(self, uuid: UUID) -> int | None:
        """Return the number of the group of the vTPM *uuid*, None if there is no such vTPM."""
        row = self._row(uuid)
        return None if row is None else row.group

    def vtpm(self, uuid: UUID) -> Vtpm:
        """Return the vTPM *uuid*."""
        row = self._row(uuid)
        if row is None:
            raise NoVtpm(uuid)
        if vtpm_place(uuid) not in self.changes:
            return self._book.vtpm(uuid)
        return self._keys(row.group).decrypt_vtpm(uuid, row)

    # Changing

    def new_group(self, group: Group, platforms: Sequence[Platform] = ()) -> int:
        """There is one more group, its key sealed to each of *platforms*, or to the machine as it is."""
        number = max(self.groups(), default=ROOT) + 1
        if number >= _GROUPS:
            raise StateError("there are too many groups")
        keys = self._opened[number] = GroupKeys(number, self._entropy(KEY_SIZE), self._entropy(KEY_SIZE))
        self._put_group(number, keys.half, copy(group))
        self.seal(number, platforms)
        return number

    def put_group(self, number: int, group: Group) -> None:
        """The group *number* is *group*."""
        half, before = self._shared(number)
        group.gone = before.gone
        self._put_group(number, half, copy(group))

    def remove_group(self, number: int) -> None:
        """The group *number*, which is not the first, is gone, and so are its vTPMs."""
        self._shared(number)
        if number == ROOT:
            raise StateError("the first group cannot be removed")
        for uuid in self.vtpms(number):
            self.changes[vtpm_place(uuid)] = None
        self._groups.pop(number, None)
        self.changes[group_place(number)] = None
        self._unseal_none(number)
        self.destroys = True

    def put_vtpm(self, uuid: UUID, vtpm: Vtpm, group: int | None = None) -> None:
        """*vtpm* is the vTPM *uuid*, in the group *group*; None: where it is, and a new one in the first."""
        row = self._row(uuid)
        if row is None:
            self._created += 1
            row = VtpmRow(ROOT, self._created, 0, b"")
        head = row._replace(group=row.group if group is None else group, epoch=self.epoch)
        self.changes[vtpm_place(uuid)] = self._keys(head.group).encrypt_vtpm(
            uuid, head, vtpm, nonce(self._entropy))

    def remove_vtpm(self, uuid: UUID) -> None:
        """There is no vTPM *uuid*, and nothing that opens what it has had kept."""
        row = self._row(uuid)
        if row is None:
            raise NoVtpm(uuid)
        generation = self.vtpm(uuid).generation
        self.changes[vtpm_place(uuid)] = None
        if generation:
            # The bundle that has brought it must not bring it again.
            half, first = self._shared(ROOT)
            others = [gone for gone in first.gone if gone.uuid != uuid.bytes]
            first.gone = [*others, Gone(uuid.bytes, generation)]
            self._put_group(ROOT, half, first)
        self.renew(row.group)

    def seal(self, number: int, platforms: Sequence[Platform] = ()) -> None:
        """The key of the group *number* is sealed to each of *platforms*, and to no other configuration.

        Without any, it is sealed to the machine as it is, as far as the PCRs of its first seal until now tell
        (PCRs 0 to 7 for a new one).  A group from which a configuration is taken gets another key.
        """
        before = self._book.rows.seals_of(number)
        if platforms and any(Platform(key.pcrs, key.digest) not in platforms for key in before):
            self.renew(number, None if number == ROOT else self._entropy(KEY_SIZE))
        secret = self.secret(number)
        with self._converse() as chip:
            wanted = platforms or [chip.platform(before[0].pcrs if before else DEFAULT_PCRS)]
            sealed = [chip.seal(secret, platform) for platform in wanted]
        self._unseal_none(number)
        for position, key in enumerate(sealed):
            self.changes[seal_place(number, position)] = key

    def opened(self, number: int, secret: bytes) -> None:
        """The group *number* is open: *secret* is what the chip has sealed for it, else StateError."""
        self._opened[number] = opened(number, secret, self._shared(number)[0])

    def renew(self, number: int, sealed: bytes | None = None) -> None:
        """The group *number* has a new key, and nothing opens the copies of its rows that somebody has.

        *sealed* is what the chip is to seal for it from now on, if that is something else.
        """
        group, vtpms = self.group(number), {uuid: self.vtpm(uuid) for uuid in self.vtpms(number)}
        self._opened[number] = GroupKeys(number, sealed or self.secret(number), self._entropy(KEY_SIZE))
        self._put_group(number, self._opened[number].half, group)
        for uuid, vtpm in vtpms.items():
            self.put_vtpm(uuid, vtpm)
        self.destroys = True

    def under(self, keys: RootKeys) -> Changes:
        """Return the changes, with all groups, as they are for other root *keys*."""
        groups = {group_place(number): keys.encrypt_group(
            number, self.epoch, *self._shared(number), nonce(self._entropy)) for number in self.groups()}
        return self.changes | groups

    def done(self) -> None:
        """The book, which has the changes, has the keys as well."""
        for number, keys in self._opened.items():
            if number in self._book.rows.groups:
                self._book.open(number, keys)
        self._book.created = self._created

    def _removed(self, place: int) -> bool:
        return place in self.changes and self.changes[place] is None

    def _row(self, uuid: UUID) -> VtpmRow | None:
        row = self.changes.get(vtpm_place(uuid))
        if isinstance(row, VtpmRow):
            return row
        return None if self._removed(vtpm_place(uuid)) else self._book.rows.vtpms.get(uuid)

    def _shared(self, number: int) -> tuple[Half, Group]:
        if number in self._groups:
            return self._groups[number]
        if self._removed(group_place(number)):
            raise NoGroup(number)
        return self._book.opened_row(number)

    def _keys(self, number: int) -> GroupKeys:
        if number in self._opened:
            return self._opened[number]
        if self._removed(group_place(number)):
            raise NoGroup(number)
        return self._book.group_keys(number)

    def _put_group(self, number: int, half: Half, group: Group) -> None:
        self._groups[number] = half, group
        self.changes[group_place(number)] = self._encrypted(number, half, group)

    def _encrypted(self, number: int, half: Half, group: Group) -> GroupRow:
        return self._book.keys.encrypt_group(number, self.epoch, half, group, nonce(self._entropy))

    def _unseal_none(self, number: int) -> None:
        """No configuration unseals the key of the group *number*."""
        for place, key in list(self.changes.items()):
            if key is not None and place >> 32 == seal_place(number, 0) >> 32:
                del self.changes[place]
        for owner, position in self._book.rows.seals:
            if owner == number:
                self.changes[seal_place(owner, position)] = None
