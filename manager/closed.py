"""A manager that cannot open its store: the machine is in none of the configurations of the first group.

Nothing of the store can be read then but which chip it belongs to.  So everything is closed, and all that
can be done is what leads to a recovery: the chip identifies itself, and the SAA of the first group brings its
key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from uuid import UUID

from hwtpm.errors import StateError
from manager.book import Book, Closed
from manager.change import Change
from manager.manager import Manager
from manager.model import ROOT, SealedKey
from manager.sealing import SealingChip
from manager.store import copied


class ClosedManager(Manager):
    """The manager of the store at *path* and of *chip*, which `Manager` could not open: RootClosed.

    It has one group, which is closed.  *scratch* is as for `Manager`.
    """

    def __init__(self, path: Path, chip: SealingChip, entropy: Callable[[int], bytes], pcrs: bytes,
                 scratch: Path | None = None) -> None:
        self.saves, self.new, self.accepted = 0, False, []
        self._path, self._chip, self._entropy, self._pcrs = path, chip, entropy, pcrs
        self._lock = Lock()
        with copied(path, scratch) as store:
            identity = None if store is None else store.identity()
            seals = [] if store is None else store.keys(ROOT)
        if identity is None or not seals:
            raise StateError(f"{path}: there is nothing to recover")
        self._identity, self._seals = identity, seals

    def recover(self, root: bytes) -> None:
        """The store can be opened: *root*, its key, is sealed to its configurations and to the present one.

        StateError if this is not its key, and what `Manager` raises.
        """
        with self._lock:
            with self._chip.conversation(self._seals[0].parent) as talk:
                here = talk.platform(self._seals[0].pcrs)
            with (closing(Manager(self._path, self._chip, self._entropy, recovered=root)) as opened,
                  opened.change() as change):
                platforms = list(change.group(ROOT).platforms)
                change.seal(ROOT, platforms if here in platforms else [*platforms, here])

    def release(self) -> None:
        """There is nothing to release."""

    def close(self, failed: Callable[[Exception], None] | None = None) -> None:
        """There is nothing to close."""

    def count(self) -> None:
        """There is nothing to count."""

    def groups(self) -> list[int]:
        """Return the number of the first group."""
        return [ROOT]

    def closed(self, number: int) -> Closed | None:
        """Return why nothing can be had."""
        return Closed(ROOT, self._pcrs)

    def seals(self, number: int) -> list[SealedKey]:
        """Return the root key as it is sealed to each of its configurations."""
        return self._seals

    def reserved(self) -> set[int]:
        """Return the numbers of the chip's NV that are the manager's."""
        return {self._identity.counter, self._identity.mask} - {0}

    @contextmanager
    def exclusive(self) -> Iterator[bytes]:
        """Nobody else uses the chip meanwhile; gives the name of its storage key."""
        with self._lock:
            yield self._seals[0].parent

    def save_hash_key(self, uuid: UUID, hash_key: bytes) -> None:
        """Closed."""
        raise Closed(ROOT, self._pcrs)

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Closed."""
        raise Closed(ROOT, self._pcrs)
        yield  # type: ignore[unreachable]

    def check(self) -> list[str]:
        """Closed."""
        raise Closed(ROOT, self._pcrs)

    @contextmanager
    def _reading(self) -> Iterator[Book]:
        raise Closed(ROOT, self._pcrs)
        yield  # type: ignore[unreachable]
