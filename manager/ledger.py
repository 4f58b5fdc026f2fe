"""The manager's store and its chip, kept in step.

The store's epoch is the value of a counter of the chip, and the mark over all rows is made for one epoch.  A
change is one transaction of the store; the first save of each interval begins a new epoch, which the chip
counts.  The order is the rule of this module: the store first, then the chip, then the answer.  A store one
ahead of the counter is a change that power cut short, and is completed; a store behind it is an old copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import ProtocolError, StateError, TpmError
from manager import migration
from manager.book import Book, believed, nonce
from manager.change import Change
from manager.keys import KEY_SIZE, GroupKeys, RootKeys
from manager.model import ADMIN, ROOT, Changes, Group, Identity, Mark, Rows, SealedKey, Vtpm
from manager.opening import RootClosed, not_ours, present_keys, unsealed, unsealed_root
from manager.sealing import Conversation, SealingChip
from manager.store import Store, copied

log = logging.getLogger(__name__)


class Ledger:
    """The store at *path* and *chip*, in step; `book` is what the store holds.  Not safe for two threads.

    `parent` is the name of the chip's storage key.

    The parameters and what is raised are as `manager.manager.Manager` says.  It has only read before
    `release`, which is called once.  `accepted` has a line for each roll-back that was accepted.
    """

    def __init__(self, path: Path, chip: SealingChip, entropy: Callable[[int], bytes], pcrs: bytes,
                 now: Callable[[], int], interval: int, scratch: Path | None, accept_rollback: bool,
                 recovered: bytes | None) -> None:
        self.new = False
        self.accepted: list[str] = []
        self.store: Store
        self.book: Book
        self.root: RootKeys
        self._path, self._chip, self._entropy, self._pcrs = path, chip, entropy, pcrs
        self._epoch = 0
        self._old = False  # The store has format 1.
        self._accepting, self._recovered = accept_rollback, recovered
        self._recounts = False  # The chip has counted less than the store has seen.
        self._in_doubt = False  # What the store and the chip hold has to be read before they are used again.
        self._burn = False  # A commit failed; what it wrote must never count as the next epoch.
        self._now, self._interval = now, interval
        self._counted: int | None = None  # when the chip has counted last, for this process
        self._uncounted = False  # there are saves that the chip has not counted
        with self._named(), copied(path, scratch) as store:
            self._examine(store)

    def release(self) -> None:
        """The store is there and open for changes."""
        with self._named():
            self.store = Store(self._path)
            try:
                if self.new:
                    with self._chip.conversation(None) as chip:
                        self._initialise(chip)
                elif self._old:
                    self.store.upgrade(self._identity, self._mark(), self.book.rows)
                    self._uncounted = True
                self._accept()
            except BaseException:
                self.store.close()
                raise

    def _accept(self) -> None:
        """What was found to be old and accepted is the newest now."""
        self._accepting = False
        for told in self.accepted:
            log.warning("%s: accepted by the administrator: %s", self._path, told)
        if self.accepted:
            change = self._change(self._epoch + 1)
            # If the chip counts again what it has counted before, copies from then would pass.
            change.destroys = self._recounts
            self.commit(change)

    def settle(self) -> None:
        """Memory, store and chip agree; a save that failed half-way has succeeded or never was."""
        if self._in_doubt:
            with self._chip.conversation(self.parent) as chip:
                self._reconcile(chip, self.store)

    @property
    def due(self) -> bool:
        """Tell whether the next change is to be counted at once, or the store is in doubt."""
        return (self._in_doubt or self._burn or self._counted is None
                or self._now() - self._counted >= self._interval)

    def begin(self, *, at_once: bool) -> Change:
        """Return a change for `commit`; the chip counts it *at_once*, or with those of the next interval."""
        self.settle()
        if self._burn:
            self._advance({})
        return self._change(self._epoch + (at_once or self.due))

    def commit(self, change: Change) -> None:
        """*change* is durable, and counted as it was begun to be."""
        if change.destroys:
            self._replace_mask(change)
        elif change.epoch > self._epoch:
            self._advance(change.changes)
        else:
            self._commit(change.epoch, change.changes)
            self._in_doubt, self._uncounted = False, True
        change.done()

    def reserved(self) -> set[int]:
        """Return the numbers of the counter and of the key mask."""
        return {self._identity.counter, self._identity.mask} - {0}

    def count(self) -> None:
        """The chip has counted all that was committed."""
        if self._uncounted:
            self.settle()
            self._advance({})

    def close(self, count: Callable[[], None], failed: Callable[[Exception], None] | None) -> None:
        """All is counted by *count*, if the chip can, and the store is one file.

        *failed* or the log hear if not.
        """
        try:
            count()
        except (StateError, TpmError, ProtocolError, OSError) as error:
            if failed is not None:
                failed(error)
            else:
                log.warning("the manager's last saves are not counted by the chip: %s", error)
        finally:
            self._uncounted = False
            self.store.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What goes wrong with the store or the chip becomes a StateError that names the store."""
        try:
            yield
        except RootClosed as error:
            raise RootClosed(f"{self._path}: {error}", error.pcrs) from error
        except StateError as error:
            raise StateError(f"{self._path}: {error}") from error
        except (TpmError, ProtocolError) as error:
            raise StateError(f"{self._path}: the chip does not work as it has to: {error}") from error

    def _examine(self, store: Store | None) -> None:
        """*store*, a copy of what is there, has been read and believed; this manager is new without one."""
        seals = [] if store is None else store.keys(ROOT)
        if store is None or not seals:
            self.new = True
            return
        with self._chip.conversation(seals[0].parent) as chip:
            self.parent = chip.name
            identity = store.identity()
            if identity is None:
                raise StateError("damaged: it has a root key and no identity")
            self._identity = identity
            self.root = RootKeys(self._recovered or unsealed_root(chip, seals), b"", identity)
            if store.old:
                self._old = True
                self._migrate(store, seals[0])
                self._agree(chip.counter(identity.counter, self.root.counter_auth))
            else:
                self._reconcile(chip, store)

    def _migrate(self, store: Store, root: SealedKey) -> None:
        """The book has what *store*, one of format 1, holds."""
        self._epoch, kept = migration.read(store, self._identity, self.root.sealed)
        self.book = self._first_book(root, b"")
        for uuid, hash_key in kept.items():
            change = self._change(self._epoch)
            # Which was the first is not known any more, unless there is but one.
            change.put_vtpm(uuid, Vtpm(ADMIN if len(kept) == 1 else 0, hash_key))
            self.book.apply(change.changes, self.root.with_changes(
                self.book.digest, self.book.rows, change.changes))
            change.done()

    def _first_book(self, root: SealedKey, boot: bytes) -> Book:
        """Return the book of a store with a root key and its group, there since *boot*, and no vTPM."""
        rows = Rows()
        keys = GroupKeys(ROOT, self.root.sealed, self._entropy(KEY_SIZE))
        rows.seals[ROOT, 0] = root
        rows.groups[ROOT] = self.root.encrypt_group(
            ROOT, self._epoch, keys.half, Group(self._entropy(16), recovery=boot), nonce(self._entropy))
        return Book(self.root, rows, self.root.digest_of(rows), self._unseal)

    def _initialise(self, chip: Conversation) -> None:
        """The store is complete, and empty; until the last step, it can be done again."""
        self.parent = chip.name
        identity = self.store.identity()
        if identity is None:
            identity = Identity(self._entropy(16), self._chip.new_counter(), 0)
            identity = identity._replace(mask=self._new_area(identity))
            self.store.begin(identity)
        else:
            if not identity.mask:
                identity = identity._replace(mask=self._new_area(identity))
                self.store.begin(identity)
            if self._chip.has_counter(identity.counter):
                # A first use that was cut short has defined it; no other store has this number.
                chip.undefine_counter(identity.counter)
        self._identity = identity
        self.root = RootKeys(self._entropy(KEY_SIZE), self._entropy(KEY_SIZE), identity)
        sealed = chip.seal(self.root.sealed, chip.platform(self._pcrs))
        chip.define_area(identity.mask, KEY_SIZE, self.root.mask_auth)
        chip.write_area(identity.mask, 0, self.root.mask_auth, self.root.mask)
        chip.define_counter(identity.counter, self.root.counter_auth)
        self._epoch = chip.counter(identity.counter, self.root.counter_auth)
        self.book = self._first_book(sealed, chip.boot())
        self.store.complete(self._mark(), self.book.rows)

    def _reconcile(self, chip: Conversation, store: Store) -> None:
        """*store* has been read and believed, and its epoch is the chip's count."""
        mark, rows = store.read()
        # A change that failed may have been to give it a mask.
        self._identity = store.identity() or self._identity
        self._epoch, count = mark.epoch, chip.counter(self._identity.counter, self.root.counter_auth)
        book = self._replaced(chip, count, mark, rows)
        if book is None:
            try:
                book = believed(self._present_keys(chip), mark, rows, self._unseal, self._rolled_back)
            except AuthenticationFailed:
                raise StateError(not_ours(mark.epoch, count)) from None
        self.book, self.root = book, book.keys
        self._agree(count)
        self._in_doubt = False

    def _present_keys(self, talk: Conversation) -> RootKeys:
        return present_keys(self._chip, talk, self.root.sealed, self._identity)

    def _unmasked(self) -> RootKeys:
        return RootKeys(self.root.sealed, b"", self._identity._replace(mask=0))

    def _replaced(self, chip: Conversation, count: int, mark: Mark, rows: Rows) -> Book | None:
        """Return the book under the key mask that was about to replace the chip's, which it has done now.

        None if none was.
        """
        if not mark.next or mark.epoch != count + 1:
            return None
        following: RootKeys | None = None
        # The chip has the mask before, a first one that is not written yet, or no mask.
        for keys in self._present_keys, lambda _: self._unmasked():
            with suppress(AuthenticationFailed, StateError, TpmError):
                following = RootKeys(self.root.sealed, keys(chip).decrypt_mask(mark), self._identity)
                break
        if following is None:
            return None
        try:
            book = believed(following, mark, rows, self._unseal, self._rolled_back)
        except AuthenticationFailed:
            return None
        self._write_mask(chip, following)
        return book

    def _agree(self, count: int) -> None:
        """The chip's *count* is the store's epoch."""
        if self._epoch == count + 1:
            self._chip.increment(self._identity.counter, self.root.counter_auth)
        elif self._epoch < count:
            self._rolled_back(f"an old copy of the store was put back: it is at save {self._epoch}, the chip "
                              f"has counted {count}; put the newest copy back")
        elif self._epoch > count:
            self._rolled_back(f"an old copy of the chip's NV was put back: it has counted {count}, the store "
                              f"is at save {self._epoch}; put the chip's newest NV back")
            self._recounts = True
        if self.accepted:
            self._epoch = count

    def _rolled_back(self, told: str) -> None:
        """*told* says what was put back; StateError with it, unless the administrator accepts that."""
        if not self._accepting:
            raise StateError(told)
        self.accepted.append(told)

    def _unseal(self, seals: Sequence[SealedKey]) -> bytes:
        with self._chip.conversation(self.parent) as chip:
            return unsealed(chip, seals)

    def _change(self, epoch: int) -> Change:
        return Change(self.book, epoch, lambda: self._chip.conversation(self.parent), self._entropy)

    def _replace_mask(self, change: Change) -> None:
        """*change* is durable and counted, and no older copy of the store can be opened any more.

        The store has it first, and the new mask under the old root key; then the chip has the mask.  In
        between, the next start completes it.
        """
        identity = self._identity
        if not identity.mask:
            identity = identity._replace(mask=self._new_area(identity))
        keys = RootKeys(self.root.sealed, self._entropy(KEY_SIZE), identity)
        changes = change.under(keys)
        rows = self.book.rows.copy()
        rows.apply(changes)
        mark = keys.mark(change.epoch, keys.digest_of(rows), nonce(self._entropy),
                         self.root.encrypt_mask(keys.mask, change.epoch, nonce(self._entropy)))
        self._identity = identity
        self._store(mark, changes, identity)
        with self._chip.conversation(self.parent) as chip:
            self._write_mask(chip, keys)
        self.book.replace(keys, rows, keys.digest_of(rows))
        self.root = keys
        self._count_it()

    def _new_area(self, identity: Identity) -> int:
        """Return a number for the key mask's NV area."""
        while True:
            number = self._chip.new_area()
            if number != identity.counter:  # which may not be defined yet
                return number

    def _write_mask(self, chip: Conversation, keys: RootKeys) -> None:
        """The chip's key mask is that of *keys*."""
        number = self._identity.mask
        if not self._chip.has_area(number):
            chip.define_area(number, KEY_SIZE, keys.mask_auth)
        chip.write_area(number, 0, keys.mask_auth, keys.mask)

    def _advance(self, changes: Changes) -> None:
        """The next epoch, with *changes*, is durable, and counted by the chip."""
        self._commit(self._epoch + 1, changes)
        self._count_it()

    def _count_it(self) -> None:
        self._chip.increment(self._identity.counter, self.root.counter_auth)
        self._in_doubt = self._burn = self._uncounted = False
        self._counted = self._now()

    def _commit(self, epoch: int, changes: Changes) -> None:
        """*epoch*, with *changes*, is durable; in doubt until the caller knows."""
        digest = self.root.with_changes(self.book.digest, self.book.rows, changes)
        self._store(self.root.mark(epoch, digest, nonce(self._entropy)), changes)
        self.book.apply(changes, digest)

    def _store(self, mark: Mark, changes: Changes, identity: Identity | None = None) -> None:
        self._in_doubt = True
        try:
            self.store.commit(mark, changes, identity)
        except BaseException:
            # What a failed commit wrote may be complete in somebody's copy of the WAL.  An empty epoch in its
            # place makes that copy an old one.
            self._burn = True
            raise
        self._epoch = mark.epoch

    def _mark(self) -> Mark:
        return self.root.mark(self._epoch, self.book.digest, nonce(self._entropy))
