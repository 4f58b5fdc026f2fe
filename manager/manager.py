"""The vTPM manager: keeps every vTPM's key and state hash; only this chip opens them and none goes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from uuid import UUID

from hwtpm.errors import ProtocolError, StateError, TpmError
from manager.book import Book, Closed, Moved, NoVtpm
from manager.change import Change
from manager.check import check
from manager.keys import KEY_SIZE
from manager.ledger import Ledger
from manager.model import ADMIN, DEFAULT_PCRS, MOVED, Group, SealedKey, Vtpm, vtpm_place
from manager.sealing import SealingChip


class _Save:
    """What a thread waits for that has something to save."""

    def __init__(self, uuid: UUID, hash_key: bytes) -> None:
        self.uuid, self.hash_key = uuid, hash_key
        self.done = False  # by this thread or by another one, in the same transaction as its own
        self.error: BaseException | None = None


class Manager:
    """The manager of the store at *store_path* and of *chip*; safe to use from any thread.

    A store that is not there is made, its root key sealed to *pcrs*, a bit map.
    *entropy* gives random octets.  Raises StateError, one line for people that begins with the path, when
    store and chip do not agree or one of them cannot be used; nothing is destroyed then.  OSError as the
    file system gives it.

    A manager that is *held* has only read: before `release` it makes no store and saves nothing.  It is
    `new` if it has found no complete store.  What it reads lies in *scratch* for that time.

    *now* gives milliseconds that never go back.  Saves within *interval* milliseconds after one that the chip
    counted are not counted one by one; whoever sees time pass calls `count`.  So a copy of the store is
    refused once it is that old.  With an interval of zero every save is counted.

    A vTPM that saves for the first time is one more in the first group, unless *auto_create* is false.

    With *accept_rollback*, old copies of the store, of its rows or of the chip's NV are not refused but
    taken, if they can be opened still; `accepted` says which, and the log.  It is valid with `release`.

    RootClosed, a StateError, says that the chip does not unseal the root key; *recovered* is what it had
    sealed, if somebody knows that.
    """

    def __init__(self, store_path: Path, chip: SealingChip, entropy: Callable[[int], bytes],
                 pcrs: bytes = DEFAULT_PCRS, *, now: Callable[[], int] = lambda: 0,
                 interval: int = 0, held: bool = False, scratch: Path | None = None,
                 auto_create: bool = True, accept_rollback: bool = False,
                 recovered: bytes | None = None) -> None:
        self.saves = 0
        self._held = True
        self._auto_create = auto_create
        self._chip = chip
        self._lock = Lock()
        self._waiting: deque[_Save] = deque()
        self._put_off: dict[UUID, bytes] = {}  # what vTPMs have saved since the store was changed last
        self._unsure: Change | None = None  # a change with all of that, whose commit has failed
        self._ledger = Ledger(store_path, chip, entropy, pcrs, now, interval, scratch,
                              accept_rollback, recovered)
        self.new = self._ledger.new
        self.accepted: list[str] = self._ledger.accepted
        if not held:
            self.release()

    def release(self) -> None:
        """The store is there and open for saves; raises as the constructor does."""
        with self._lock:
            if self._held:
                self._ledger.release()
                self._held = False

    def save_hash_key(self, uuid: UUID, hash_key: bytes) -> None:
        """*hash_key* is what the vTPM *uuid* gets back from now on, after any crash.

        If its key, the last 32 octets, is the one before, it is durable with the next change or the next
        `count` only: a crash can bring back the one before it until then, under the same key.
        Raises StateError, TpmError, ProtocolError or OSError when it could not be made sure of; a later
        `load_hash_key` tells which of the two, the old or the new, it is then for good.  Of the StateErrors,
        NoVtpm says that nobody has made this vTPM, Moved that it is another manager's, Closed that its
        group is closed.
        """
        save = _Save(uuid, hash_key)
        self._waiting.append(save)
        with self._lock:
            if not save.done:
                self._save_together()
        if save.error is not None:
            raise save.error

    def _save_together(self) -> None:
        """All saves that wait have been made, in one transaction."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            at_once = self._ledger.due
            change: Change | None = None
            for save in batch:
                try:
                    if change is None and not at_once and self._can_wait(save):
                        self._put_off[save.uuid] = save.hash_key
                        continue
                    change = change or self._begin(at_once=False)
                    vtpm = self._saving(change, save.uuid)
                    vtpm.hash_key = save.hash_key
                    change.put_vtpm(save.uuid, vtpm)
                except (StateError, TpmError, ProtocolError, OSError) as error:
                    save.error = error  # That is no reason for the others to fail.
            if change is not None and change.changes:
                self._commit(change)
            self.saves += sum(save.error is None for save in batch)
        except BaseException as error:
            for save in batch:
                save.error = save.error or error
        for save in batch:
            save.done = True

    def load_hash_key(self, uuid: UUID) -> bytes | None:
        """Return what `save_hash_key` was given last for *uuid*, None if never; raises as that does."""
        with self._reading() as book:
            if uuid in self._put_off:
                return self._put_off[uuid]
            if uuid not in book.rows.vtpms:
                return None
            return self._usable(uuid, book.vtpm(uuid)).hash_key or None

    def _can_wait(self, save: _Save) -> bool:
        """Tell whether nobody needs *save*'s part to be in the store before the next change of it."""
        before = self._put_off.get(save.uuid)
        if before is None:
            book = self._ledger.book
            if save.uuid not in book.rows.vtpms:
                return False
            before = self._usable(save.uuid, book.vtpm(save.uuid)).hash_key
        return before[-KEY_SIZE:] == save.hash_key[-KEY_SIZE:]

    def _begin(self, *, at_once: bool) -> Change:
        """Return a change that has all that was put off."""
        self._settle()
        change = self._ledger.begin(at_once=at_once)
        for uuid, hash_key in self._put_off.items():
            vtpm = change.vtpm(uuid)
            vtpm.hash_key = hash_key
            change.put_vtpm(uuid, vtpm)
        return change

    def _commit(self, change: Change) -> None:
        self._unsure = change
        self._ledger.commit(change)
        self._put_off.clear()
        self._unsure = None

    def _settle(self) -> None:
        """What the store holds is known, and what was put off is not in it."""
        self._ledger.settle()
        if self._unsure is not None:
            rows, changes = self._ledger.book.rows.vtpms, self._unsure.changes
            if all(rows.get(uuid) == changes.get(vtpm_place(uuid)) for uuid in self._put_off):
                self._put_off.clear()
            self._unsure = None

    def _saving(self, change: Change, uuid: UUID) -> Vtpm:
        """Return the vTPM *uuid*, which may be a new one, as it is before it saves."""
        if change.find(uuid) is not None:
            return self._usable(uuid, change.vtpm(uuid))
        if self._auto_create:
            return Vtpm(0 if self._ledger.book.rows.vtpms or change.changes else ADMIN)
        raise NoVtpm(uuid)

    def _usable(self, uuid: UUID, vtpm: Vtpm) -> Vtpm:
        if vtpm.flags & MOVED:
            raise Moved(uuid)
        return vtpm

    # What administrators ask for

    @contextmanager
    def change(self) -> Iterator[Change]:
        """A unit of work: what is done to it is valid at its end, durable and counted by the chip.

        If it ends with an exception nothing has changed.  Nothing else changes meanwhile, so it is to be
        short.  Raises as `save_hash_key` does.
        """
        with self._lock:
            change = self._begin(at_once=True)
            yield change
            self._commit(change)

    def groups(self) -> list[int]:
        """Return the numbers of the groups, in the order of their creation: the first is always 0."""
        with self._reading() as book:
            return book.groups()

    def group(self, number: int) -> Group:
        """Return the group *number*, whether its key can be had or not; NoGroup without one."""
        with self._reading() as book:
            return book.group(number)

    def seals(self, number: int) -> list[SealedKey]:
        """Return the key of the group *number* as it is sealed to each of its configurations."""
        with self._reading() as book:
            return book.rows.seals_of(number)

    def closed(self, number: int) -> Closed | None:
        """Return why the key of the group *number* cannot be had now, None if it can; raises NoGroup."""
        with self._reading() as book:
            try:
                book.group_keys(number)
            except Closed as error:
                return error
            return None

    def secret(self, number: int) -> bytes:
        """Return the 32 octets that the chip has sealed for the group *number*; raises NoGroup and Closed."""
        with self._reading() as book:
            return book.group_keys(number).sealed

    def moving_key(self) -> bytes:
        """Return the private key, 32 octets, for vTPMs that other managers send (`manager.moving`)."""
        with self._reading() as book:
            return book.keys.moving_key

    def vtpms(self, group: int, offset: int = 0, limit: int | None = None) -> list[UUID]:
        """Return the vTPMs of *group* in the order of their creation: *limit* at most, from *offset* on."""
        with self._reading() as book:
            return book.vtpms(group)[offset : None if limit is None else offset + limit]

    def find(self, uuid: UUID) -> int | None:
        """Return the number of the group of the vTPM *uuid*, None if there is no such vTPM."""
        with self._reading() as book:
            row = book.rows.vtpms.get(uuid)
            return None if row is None else row.group

    def vtpm(self, uuid: UUID) -> Vtpm:
        """Return the vTPM *uuid*; NoVtpm, a StateError, without one, and Closed when its group is."""
        with self._reading() as book:
            vtpm = book.vtpm(uuid)
            vtpm.hash_key = self._put_off.get(uuid, vtpm.hash_key)
            return vtpm

    def check(self) -> list[str]:
        """Return a line for everything in the store, as it is in its file, that is damaged; none is good."""
        with self._lock:
            self._settle()
            return check(self._ledger.store, self._chip)

    def backup(self, target: Path, beside: Callable[[Book], None]) -> None:
        """*target*, which is not there yet, is a store with the same contents, durably.

        While nothing can change *beside* is called with them, for what has to go with it.
        """
        with self._reading() as book:
            if self._put_off:
                self._commit(self._begin(at_once=False))
            self._ledger.store.backup(target)
            beside(book)

    @contextmanager
    def exclusive(self) -> Iterator[bytes]:
        """Nobody else uses the manager and its chip meanwhile; gives the name of the chip's storage key."""
        with self._reading():
            yield self._ledger.parent

    def reserved(self) -> set[int]:
        """Return the numbers of the chip's NV that are the manager's."""
        with self._reading():
            return self._ledger.reserved()

    # What who runs it asks for

    def count(self) -> None:
        """The chip has counted all saves: every copy of the store from before the last of them is old now.

        To be called an interval after a save at the latest.  Raises as `save_hash_key` does.
        """
        with self._lock:
            self._count()

    def _count(self) -> None:
        if self._put_off:
            self._commit(self._begin(at_once=True))
        else:
            self._ledger.count()

    def close(self, failed: Callable[[Exception], None] | None = None) -> None:
        """All saves are counted; the store is one file, and free for others; twice does nothing.

        A chip that does not work any more cannot count, and is not a reason to keep the store open: *failed*
        hears of it, or the log.
        """
        with self._lock:
            if not self._held:
                self._ledger.close(self._count, failed)

    @contextmanager
    def _reading(self) -> Iterator[Book]:
        with self._lock:
            self._settle()
            yield self._ledger.book
