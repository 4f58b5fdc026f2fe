"""A xenstore in this process: a tree of small strings with owners, transactions and watches.

The rules are those of Xen's docs/misc/xenstore.txt as far as devices need them.  A domain writes
only what it owns or was allowed to write, reads only what it may, and has quotas, so that it cannot
hurt another domain.  Domain 0 may do everything.

Watches are delivered outside the lock, one at a time and in the order of the changes, by the
thread whose change finds no delivery in progress.  A callback may use the store; what it changes is
delivered after it returned.  It must not wait for another delivery.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

WatchCallback = Callable[[str], None]
Perms = tuple[tuple[int, str], ...]
"""The owner with everybody's access, then single domains: ((5, "n"), (0, "r")); of "n", "r", "w", "b"."""

T = TypeVar("T")

MAX_PATH = 3072
MAX_VALUE = 2048
MAX_NODES = 1000
MAX_WATCHES = 128
MAX_TRANSACTIONS = 10

_log = logging.getLogger(__name__)
_PATH = re.compile(r"/|(/[A-Za-z0-9_@-]+)+")


class StoreError(OSError):
    """xenstore refused: errno is ENOENT, EACCES, EAGAIN, EINVAL, E2BIG or ENOSPC."""


@dataclass(frozen=True, slots=True)
class _Node:
    value: str
    perms: Perms
    children: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Watch:
    path: str
    callback: WatchCallback
    domid: int
    live: bool = True


_Change = tuple[str, Perms, bool]


@dataclass(slots=True)
class Transaction:
    """Changes that become visible together, or not at all."""

    seen: dict[str, _Node | None] = field(default_factory=dict)
    put: dict[str, _Node | None] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)
    open: bool = True


def _error(number: int, path: str) -> StoreError:
    return StoreError(number, errno.errorcode[number], path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def _below(path: str, root: str) -> bool:
    return root == "/" or path == root or path.startswith(root + "/")


def _may(node: _Node, domid: int, access: str) -> bool:
    owner, everybody = node.perms[0]
    if domid in (0, owner):
        return True
    granted = dict(node.perms[1:]).get(domid, everybody)
    return granted in (access, "b")


class XenStore:
    """The tree and its watches; domains use it through `client`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {"/": _Node("", ((0, "r"),))}
        self._owned: Counter[int] = Counter()
        self._watches: list[_Watch] = []
        self._events: deque[tuple[_Watch, str]] = deque()
        self._delivering = False

    def client(self, domid: int) -> StoreClient:
        """Return the store as domain *domid* sees it."""
        return StoreClient(self, domid)

    # What clients do; every path is absolute and valid here.

    def _get(self, path: str, tx: Transaction | None) -> _Node | None:
        node = self._nodes.get(path)
        if tx is None:
            return node
        if path in tx.put:
            return tx.put[path]
        tx.seen.setdefault(path, node)
        return node

    def _put(self, path: str, node: _Node | None, tx: Transaction | None) -> None:
        if tx is not None:
            tx.seen.setdefault(path, self._nodes.get(path))
            tx.put[path] = node
            return
        old = self._nodes.get(path)
        if old is not None:
            self._owned[old.perms[0][0]] -= 1
        if node is None:
            self._nodes.pop(path, None)
        else:
            self._nodes[path] = node
            self._owned[node.perms[0][0]] += 1

    def _need(self, path: str, domid: int, access: str, tx: Transaction | None) -> _Node:
        node = self._get(path, tx)
        if node is None:
            # Xen hides whether a node exists from those who may not read its parent.
            raise _error(errno.ENOENT if self._visible(path, domid, tx) else errno.EACCES, path)
        if not _may(node, domid, access):
            raise _error(errno.EACCES, path)
        return node

    def _visible(self, path: str, domid: int, tx: Transaction | None) -> bool:
        while path != "/":
            path = _parent(path)
            node = self._get(path, tx)
            if node is not None:
                return _may(node, domid, "r")
        return True

    def _create(self, path: str, domid: int, value: str, tx: Transaction | None) -> _Node:
        """Make *path* and what is missing above it, with the parent's access but owned by *domid*."""
        parent_path = _parent(path)
        parent = self._get(parent_path, tx)
        if parent is None:
            parent = self._create(parent_path, domid, "", tx)
        elif not _may(parent, domid, "w"):
            raise _error(errno.EACCES, path)
        if domid and self._owned[domid] + (len(tx.put) if tx else 0) >= MAX_NODES:
            raise _error(errno.ENOSPC, path)
        owner = domid or parent.perms[0][0]
        node = _Node(value, ((owner, parent.perms[0][1]), *parent.perms[1:]))
        self._put(path, node, tx)
        name = path.rpartition("/")[2]
        self._put(parent_path, replace(parent, children=parent.children | {name}), tx)
        return node

    def _write(self, path: str, domid: int, value: str, tx: Transaction | None) -> _Change:
        node = self._get(path, tx)
        if node is None:
            node = self._create(path, domid, value, tx)
        elif not _may(node, domid, "w"):
            raise _error(errno.EACCES, path)
        else:
            self._put(path, replace(node, value=value), tx)
        return path, node.perms, False

    def _remove(self, path: str, domid: int, tx: Transaction | None) -> list[_Change]:
        node = self._need(path, domid, "w", tx)
        parent_path = _parent(path)
        parent = self._get(parent_path, tx)
        if path == "/" or parent is None:
            raise _error(errno.EINVAL, path)
        self._put(parent_path, replace(parent, children=parent.children - {path.rpartition("/")[2]}), tx)
        changes: list[_Change] = []
        todo = [(path, node)]
        while todo:
            at, node = todo.pop()
            changes.append((at, node.perms, at != path))
            for name in node.children:
                child = self._get(_join(at, name), tx)
                if child is not None:
                    todo.append((_join(at, name), child))
            self._put(at, None, tx)
        return changes

    def _commit(self, tx: Transaction) -> None:
        """Apply *tx*; EAGAIN if anything it looked at is no longer what it saw."""
        if any(self._nodes.get(path) is not node for path, node in tx.seen.items()):
            raise _error(errno.EAGAIN, "transaction")
        for path, node in tx.put.items():
            self._put(path, node, None)

    # Watches.

    def _queue(self, changes: list[_Change]) -> None:
        for path, perms, exact in changes:
            for watch in self._watches:
                # Below a removed node only a watch on the very node fires; the removal itself was one change.
                hit = path == watch.path if exact else _below(path, watch.path)
                if hit and _may(_Node("", perms), watch.domid, "r"):
                    self._events.append((watch, path))

    def _deliver(self) -> None:
        with self._lock:
            if self._delivering:
                return
            self._delivering = True
        while True:
            with self._lock:
                if not self._events:
                    self._delivering = False
                    return
                watch, path = self._events.popleft()
            if watch.live:
                try:
                    watch.callback(path)
                except Exception:
                    # One watcher's bug must not keep events from the others.
                    _log.exception("watch on %s failed for %s", watch.path, path)


class StoreClient:
    """The store with the rights of one domain.

    A path that does not begin with "/" is relative to /local/domain/<domid>.  All methods raise
    `StoreError`; values are strings of at most 2048 octets.
    """

    def __init__(self, store: XenStore, domid: int) -> None:
        self._store = store
        self.domid = domid
        self.home = f"/local/domain/{domid}"
        self._transactions = 0

    def _path(self, path: str) -> str:
        full = path if path.startswith("/") else f"{self.home}/{path}"
        if len(full) > MAX_PATH or _PATH.fullmatch(full) is None:
            raise _error(errno.EINVAL, path[:80])
        return full

    def read(self, path: str, tx: Transaction | None = None) -> str:
        """Return the value at *path*."""
        full = self._path(path)
        with self._store._lock:
            return self._store._need(full, self.domid, "r", tx).value

    def get(self, path: str, tx: Transaction | None = None) -> str | None:
        """Return the value at *path*, or None if there is none that this domain may read."""
        try:
            return self.read(path, tx)
        except StoreError:
            return None

    def directory(self, path: str) -> list[str]:
        """Return the names below *path*, sorted."""
        full = self._path(path)
        with self._store._lock:
            return sorted(self._store._need(full, self.domid, "r", None).children)

    def write(self, path: str, value: str, tx: Transaction | None = None) -> None:
        """*path* holds *value*; nodes that were missing above it exist.  E2BIG if it is too long."""
        full = self._path(path)
        if len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE:
            raise _error(errno.E2BIG, path)
        self._change(tx, lambda store: [store._write(full, self.domid, value, tx)])

    def mkdir(self, path: str, tx: Transaction | None = None) -> None:
        """*path* exists; if it did before, nothing has changed."""
        full = self._path(path)

        def make(store: XenStore) -> list[_Change]:
            if store._get(full, tx) is not None:
                return []
            return [(full, store._create(full, self.domid, "", tx).perms, False)]

        self._change(tx, make)

    def rm(self, path: str, tx: Transaction | None = None) -> None:
        """*path* and everything below it are gone.  ENOENT if it was not there."""
        full = self._path(path)
        self._change(tx, lambda store: store._remove(full, self.domid, tx))

    def set_perms(self, path: str, perms: Perms, tx: Transaction | None = None) -> None:
        """*path* has *perms*.  Its owner may do so; only domain 0 may give it to another owner."""
        full = self._path(path)
        if not perms or any(access not in ("n", "r", "w", "b") for _, access in perms):
            raise _error(errno.EINVAL, path)

        def change(store: XenStore) -> list[_Change]:
            node = store._need(full, self.domid, "w", tx)
            owner = node.perms[0][0]
            if self.domid and (self.domid != owner or perms[0][0] != owner):
                raise _error(errno.EACCES, path)
            store._put(full, replace(node, perms=perms), tx)
            return [(full, perms, False)]

        self._change(tx, change)

    def _change(self, tx: Transaction | None, change: Callable[[XenStore], list[_Change]]) -> None:
        store = self._store
        with store._lock:
            if tx is not None and not tx.open:
                raise _error(errno.EINVAL, "transaction")
            changes = change(store)
            if tx is not None:
                tx.changes.extend(changes)
                return
            store._queue(changes)
        store._deliver()

    def begin(self) -> Transaction:
        """Return a new transaction; at most 10 are open at once (ENOSPC)."""
        with self._store._lock:
            if self.domid and self._transactions >= MAX_TRANSACTIONS:
                raise _error(errno.ENOSPC, "transaction")
            self._transactions += 1
        return Transaction()

    def end(self, tx: Transaction, commit: bool = True) -> None:
        """*tx* is over; with *commit* its changes are visible.  EAGAIN: it conflicted and nothing changed."""
        store = self._store
        with store._lock:
            if not tx.open:
                raise _error(errno.EINVAL, "transaction")
            tx.open = False
            self._transactions -= 1
            if not commit:
                return
            store._commit(tx)
            store._queue(tx.changes)
        store._deliver()

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Return *work*(transaction) after its changes are committed; it runs again on every conflict."""
        while True:
            tx = self.begin()
            try:
                result = work(tx)
            except BaseException:
                self.end(tx, commit=False)
                raise
            try:
                self.end(tx)
            except StoreError as exc:
                if exc.errno != errno.EAGAIN:
                    raise
            else:
                return result

    def watch(self, path: str, callback: WatchCallback) -> _Watch:
        """*callback*(path) runs once now, then for every change of *path* or below it that may be read."""
        watch = _Watch(self._path(path), callback, self.domid)
        store = self._store
        with store._lock:
            mine = sum(1 for other in store._watches if other.domid == self.domid)
            if self.domid and mine >= MAX_WATCHES:
                raise _error(errno.E2BIG, path)
            store._watches.append(watch)
            store._events.append((watch, watch.path))
        store._deliver()
        return watch

    def unwatch(self, watch: _Watch) -> None:
        """*watch* fires no more, except for a callback that is running in another thread."""
        watch.live = False
        with self._store._lock, suppress(ValueError):
            self._store._watches.remove(watch)
