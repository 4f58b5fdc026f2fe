"""The vTPM manager: keeps every vTPM's key and state hash; only this chip opens them and none goes back.

The store's epoch is the value of a counter of the chip, and the mark over all rows is made for one epoch.  A
save is one transaction of the store; the first of each interval begins a new epoch, which the chip counts.
The order is the rule of this module: the store first, then the chip, then the answer.  A store one ahead of
the counter is a save that power cut short, and is completed; a store behind it is an old copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import UUID

from hwtpm.crypto import aead
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import ProtocolError, StateError, TpmError
from manager.keys import Digest, Keys
from manager.model import Identity, Row
from manager.sealing import Conversation, SealingChip
from manager.store import Store, copied

log = logging.getLogger(__name__)

DEFAULT_PCRS: Final = bytes((0xFF, 0, 0))
"""PCRs 0 to 7, the firmware's, as a bit map."""

_ROOT_SIZE = 32


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
    """

    def __init__(self, store_path: Path, chip: SealingChip, entropy: Callable[[int], bytes],
                 pcrs: bytes = DEFAULT_PCRS, *, now: Callable[[], int] = lambda: 0,
                 interval: int = 0, held: bool = False, scratch: Path | None = None) -> None:
        self.saves = 0  # that are durable
        self.new = False
        self._path, self._pcrs = store_path, pcrs
        self._held = True
        self._store: Store
        self._chip, self._entropy = chip, entropy
        self._lock = Lock()
        self._rows: dict[bytes, Row] = {}
        self._digest = Digest()
        self._epoch = 0
        self._in_doubt = False  # What the store and the chip hold has to be read before they are used again.
        self._burn = False  # A commit failed; what it wrote must never count as the next epoch.
        self._now, self._interval = now, interval
        self._counted: int | None = None  # when the chip has counted last, for this process
        self._uncounted = False  # there are saves that the chip has not counted
        with self._named(), copied(store_path, scratch) as store:
            self._examine(store)
        if not held:
            self.release()

    def release(self) -> None:
        """The store is there and open for saves; raises as the constructor does."""
        with self._lock, self._named():
            if not self._held:
                return
            self._store = Store(self._path)
            try:
                if self.new:
                    with self._chip.conversation(None) as chip:
                        self._initialise(chip)
            except BaseException:
                self._store.close()
                raise
            self._held = False

    def save_hash_key(self, uuid: UUID, hash_key: bytes) -> None:
        """*hash_key* is what the vTPM *uuid* gets back from now on, after any crash.

        Raises StateError, TpmError, ProtocolError or OSError when it could not be made sure of; a later
        `load_hash_key` tells which of the two, the old or the new, it is then for good.
        """
        with self._lock:
            self._settle()
            if self._burn:
                self._advance()
            nonce = self._entropy(aead.NONCE_SIZE)
            counted = self._counted is None or self._now() - self._counted >= self._interval
            epoch = self._epoch + 1 if counted else self._epoch
            row = self._keys.encrypt_row(uuid.bytes, epoch, hash_key, nonce)
            if counted:
                self._advance(uuid.bytes, row)
            else:
                self._commit(epoch, uuid.bytes, row)
                self._in_doubt, self._uncounted = False, True
            self.saves += 1

    def count(self) -> None:
        """The chip has counted all saves: every copy of the store from before the last of them is old now.

        To be called an interval after a save at the latest.  Raises as `save_hash_key` does.
        """
        with self._lock:
            self._count()

    def load_hash_key(self, uuid: UUID) -> bytes | None:
        """Return what `save_hash_key` was given last for *uuid*, None if never; raises as that does."""
        with self._lock:
            self._settle()
            row = self._rows.get(uuid.bytes)
            return None if row is None else self._keys.decrypt_row(uuid.bytes, row)

    def close(self, failed: Callable[[Exception], None] | None = None) -> None:
        """All saves are counted; the store is one file, and free for others; twice does nothing.

        A chip that does not work any more cannot count, and is not a reason to keep the store open: *failed*
        hears of it, or the log.
        """
        with self._lock:
            if self._held:
                return
            try:
                self._count()
            except (StateError, TpmError, ProtocolError, OSError) as error:
                if failed is not None:
                    failed(error)
                else:
                    log.warning("the manager's last saves are not counted by the chip: %s", error)
            finally:
                self._uncounted = False
                self._store.close()

    def _count(self) -> None:
        if self._uncounted:
            self._settle()
            self._advance()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What goes wrong with the store or the chip becomes a StateError that names the store."""
        try:
            yield
        except StateError as error:
            raise StateError(f"{self._path}: {error}") from error
        except (TpmError, ProtocolError) as error:
            raise StateError(f"{self._path}: the chip does not work as it has to: {error}") from error

    def _examine(self, store: Store | None) -> None:
        """*store*, a copy of what is there, has been read and believed; this manager is new without one."""
        root = None if store is None else store.root()
        if store is None or root is None:
            self.new = True
            return
        with self._chip.conversation(root.parent) as chip:
            self._parent = chip.name
            identity = store.identity()
            if identity is None:
                raise StateError("damaged: it has a root key and no identity")
            self._counter, self._keys = identity.counter, Keys(chip.unseal(root), identity)
            self._reconcile(chip, store)

    def _initialise(self, chip: Conversation) -> None:
        """The store is complete, and empty; until the last step, it can be done again."""
        self._parent = chip.name
        identity = self._store.identity()
        if identity is None:
            identity = Identity(self._entropy(16), self._chip.new_counter())
            self._store.begin(identity)
        elif self._chip.has_counter(identity.counter):
            # A first use that was cut short has defined it; no other store has this number.
            self._chip.undefine_counter(identity.counter)
        root = self._entropy(_ROOT_SIZE)
        self._counter, self._keys = identity.counter, Keys(root, identity)
        sealed = chip.seal(root, self._pcrs)
        self._chip.define_counter(self._counter, self._keys.counter_auth)
        self._epoch = chip.counter(self._counter, self._keys.counter_auth)
        mark = self._keys.mark(self._epoch, self._digest, self._entropy(aead.NONCE_SIZE))
        self._store.complete(sealed, mark)

    def _settle(self) -> None:
        """Memory, store and chip agree; a save that failed half-way has succeeded or never was."""
        if self._in_doubt:
            with self._chip.conversation(self._parent) as chip:
                self._reconcile(chip, self._store)

    def _reconcile(self, chip: Conversation, store: Store) -> None:
        """*store* has been read and believed, and its epoch is the chip's count."""
        mark, rows = store.read()
        digest = self._keys.digest_of(rows)
        try:
            self._keys.check(mark, digest)
        except AuthenticationFailed:
            raise StateError("damaged, or rows of it were changed; put the newest copy back") from None
        count = chip.counter(self._counter, self._keys.counter_auth)
        if mark.epoch == count + 1:
            self._chip.increment(self._counter, self._keys.counter_auth)
        elif mark.epoch < count:
            raise StateError(f"an old copy of the store was put back: it is at save {mark.epoch}, the chip "
                             f"has counted {count}; put the newest copy back")
        elif mark.epoch > count:
            raise StateError(f"an old copy of the chip's NV was put back: it has counted {count}, the store "
                             f"is at save {mark.epoch}; put the chip's newest NV back")
        self._rows, self._digest, self._epoch = rows, digest, mark.epoch
        self._in_doubt = False

    def _advance(self, uuid: bytes | None = None, row: Row | None = None) -> None:
        """The next epoch, with *row* as that of *uuid* if given, is durable, and counted by the chip."""
        self._commit(self._epoch + 1, uuid, row)
        self._chip.increment(self._counter, self._keys.counter_auth)
        self._in_doubt = self._burn = self._uncounted = False
        self._counted = self._now()

    def _commit(self, epoch: int, uuid: bytes | None, row: Row | None) -> None:
        """*epoch*, with *row* as that of *uuid* if given, is durable; in doubt until the caller knows."""
        digest = self._digest
        if uuid is not None and row is not None:
            digest = self._keys.with_row(digest, uuid, self._rows.get(uuid), row)
        mark = self._keys.mark(epoch, digest, self._entropy(aead.NONCE_SIZE))
        self._in_doubt = True
        try:
            self._store.commit(mark, uuid, row)
        except BaseException:
            # What a failed commit wrote may be complete in somebody's copy of the WAL.  An empty epoch in its
            # place makes that copy an old one.
            self._burn = True
            raise
        self._epoch, self._digest = epoch, digest
        if uuid is not None and row is not None:
            self._rows[uuid] = row
