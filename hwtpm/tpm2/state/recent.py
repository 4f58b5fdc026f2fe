"""A bounded memory of what was used last."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that were used last, by key, at most *limit* of them."""

    __slots__ = ("_found", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: K) -> V | None:
        """Return the value, which is the one used last from now on; None when there is none."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep the value; the one that has not been used for longest goes where there are too many."""
        self._found[key] = value
        if len(self._found) > self._limit:
            self._found.popitem(last=False)

    def clear(self) -> None:
        """Keep nothing."""
        self._found.clear()
