"""The rows of an open store, believed, and the keys that open them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest
from uuid import UUID

from hwtpm.crypto import aead
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import StateError
from manager.keys import Digest, GroupKeys, Half, RootKeys, same
from manager.model import (
    ROOT,
    Changes,
    Group,
    GroupRow,
    Mark,
    Rows,
    SealedKey,
    Vtpm,
    VtpmRow,
    group_place,
    pcr_list,
    place_name,
    split,
)
from manager.sealing import OtherConfiguration

Unseal = Callable[[Sequence[SealedKey]], bytes]


class Closed(StateError):
    """The key of the group *number* is sealed to other configurations of the machine; *pcrs* is a bit map."""

    def __init__(self, number: int, pcrs: bytes) -> None:
        super().__init__(f"group {number} is closed: the PCRs {pcr_list(pcrs)} are not as in any of its "
                         f"configurations; start the machine in one of them, or recover the group")
        self.number, self.pcrs = number, pcrs


class NoGroup(StateError):
    """There is no group of that number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no group {number}")


class NoVtpm(StateError):
    """There is no vTPM of that UUID."""

    def __init__(self, uuid: UUID) -> None:
        super().__init__(f"there is no vTPM {uuid}")


class Moved(StateError):
    """The vTPM is another manager's now."""

    def __init__(self, uuid: UUID) -> None:
        super().__init__(f"vTPM {uuid} has moved to another manager; start it there")


class Book:
    """The rows of a store, whose digest is *digest*, and what opens them.

    *unseal* has the chip unseal a key that is sealed to one or more configurations; it is asked for the key
    of a group when that is first needed.  Methods raise NoGroup and NoVtpm for what is not there, Closed when
    the key of a group cannot be had now, and what *unseal* raises.
    """

    def __init__(self, keys: RootKeys, rows: Rows, digest: Digest, unseal: Unseal) -> None:
        self.keys, self.rows, self.digest = keys, rows, digest
        self._unseal = unseal
        self._opened: dict[int, GroupKeys] = {}
        self._closed: dict[int, Closed] = {}
        self.created = max((row.created for row in rows.vtpms.values()), default=0)

    def apply(self, changes: Changes, digest: Digest) -> None:
        """The rows are as *changes* say, and their digest is *digest*."""
        self.rows.apply(changes)
        self.digest = digest

    def replace(self, keys: RootKeys, rows: Rows, digest: Digest) -> None:
        """The rows are *rows*, for the root *keys*; groups that were open still are."""
        self.keys, self.rows, self.digest = keys, rows, digest

    def groups(self) -> list[int]:
        """Return the numbers of the groups, in the order of their creation."""
        return sorted(self.rows.groups)

    def group(self, number: int) -> Group:
        """Return the group *number*, whether its key can be had or not."""
        return self.opened_row(number)[1]

    def opened_row(self, number: int) -> tuple[Half, Group]:
        """Return the store's half of the key of the group *number*, and the group."""
        row = self.rows.groups.get(number)
        if row is None:
            raise NoGroup(number)
        try:
            return self.keys.decrypt_group(number, row)
        except AuthenticationFailed:
            raise StateError(f"damaged: {place_name(group_place(number))} cannot be decrypted") from None

    def group_keys(self, number: int) -> GroupKeys:
        """Return the keys of the group *number*."""
        keys = self._opened.get(number)
        if keys is not None and number in self.rows.groups:
            return keys
        if number in self._closed:
            raise self._closed[number]
        half, _ = self.opened_row(number)
        return self.open(number, opened(number, self._sealed_half(number), half))

    def open(self, number: int, keys: GroupKeys) -> GroupKeys:
        """The keys of the group *number* are *keys*; return them."""
        self._closed.pop(number, None)
        self._opened[number] = keys
        return keys

    def _sealed_half(self, number: int) -> bytes:
        if number == ROOT:
            return self.keys.sealed
        try:
            return self._unseal(self.rows.seals_of(number))
        except OtherConfiguration as error:
            # What PCRs have measured stays in them as long as the machine runs.
            self._closed[number] = closed = Closed(number, error.pcrs)
            raise closed from None

    def vtpms(self, group: int) -> list[UUID]:
        """Return the vTPMs of *group*, in the order of their creation."""
        return [uuid for uuid, row in self.rows.vtpms.items() if row.group == group]

    def vtpm(self, uuid: UUID) -> Vtpm:
        """Return the vTPM *uuid*."""
        row = self.rows.vtpms.get(uuid)
        if row is None:
            raise NoVtpm(uuid)
        try:
            return self.group_keys(row.group).decrypt_vtpm(uuid, row)
        except AuthenticationFailed:
            raise StateError(f"damaged: the row of vTPM {uuid} cannot be decrypted") from None


def believed(keys: RootKeys, mark: Mark, rows: Rows, unseal: Unseal,
             rolled_back: Callable[[str], None]) -> Book:
    """Return *rows* as a book if *mark* was made for them.

    If not, and every row is one that was saved at some time, *rolled_back* is told in one line what was put
    back, and decides.  StateError, one line for people, says what is damaged; AuthenticationFailed if *mark*
    is no mark.
    """
    stored = keys.open_mark(mark)
    book = Book(keys, rows, keys.digest_of(rows), unseal)
    told = differs(book, stored)
    if told is not None:
        damaged = problems(book)
        if damaged:
            raise StateError(damaged[0])
        rolled_back(told)
    return book


def problems(book: Book) -> list[str]:
    """Return a line for each row of *book* that cannot be decrypted; groups that are closed are left out."""
    found = []
    for place, row in book.rows.items():
        key = split(place)[1]
        try:
            if isinstance(row, GroupRow):
                book.keys.decrypt_group(key, row)
            elif isinstance(row, VtpmRow):
                book.group_keys(row.group).decrypt_vtpm(UUID(int=key), row)
        except AuthenticationFailed:
            found.append(f"{place_name(place)} is damaged; put the newest copy of the store back")
        except Closed:
            pass
        except StateError as error:
            found.append(f"{place_name(place)}: {error}")
    return found


def differs(book: Book, stored: Digest) -> str | None:
    """Return the line that says which row of *book* is not one that *stored* is the digest of; None: none."""
    if same(stored, book.digest):
        return None
    place = stored.odd_one(book.digest)
    again = "put the newest copy of the store back"
    if not 1 <= place >> 128 <= 3:
        return f"old rows of several groups or vTPMs were put back; {again}"
    if book.rows.get(place) is None:
        return f"{place_name(place)} is gone; {again}"
    what = "damaged, or " if split(place)[0] is SealedKey else ""
    return f"{place_name(place)} is {what}an old one that was put back; {again}"


def opened(number: int, sealed: bytes, half: Half) -> GroupKeys:
    """Return the keys of the group *number*; StateError if *sealed* and *half* do not belong together."""
    keys = GroupKeys(number, sealed, half.share)
    if not compare_digest(keys.half.proof, half.proof):
        raise StateError(f"this is not the key of group {number}")
    return keys


def nonce(entropy: Callable[[int], bytes]) -> bytes:
    """Return a nonce for one envelope."""
    return entropy(aead.NONCE_SIZE)
