"""How those who wait are told how far something is that is done to many things one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Gives each of *items*, which are gone through once; *doing* says in a word or two what for."""

    def __call__(self, doing: str, items: Sequence[T]) -> Iterator[T]: ...


def untold(doing: str, items: Sequence[T]) -> Iterator[T]:
    """Give each of *items*; nobody waits."""
    return iter(items)
