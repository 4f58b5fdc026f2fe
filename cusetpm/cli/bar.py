"""A bar on standard error for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Final, TypeVar

import click

T = TypeVar("T")

_PATIENCE_S: Final = 1.0
_STEPS: Final = 200  # of a bar: more cannot be seen


def bar(doing: str, items: Sequence[T]) -> Iterator[T]:
    """Give each of *items*; a bar tells how far that is, if standard error is a terminal.

    There is none before it has taken a second.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    begun, done, left = monotonic(), 0, iter(items)
    for item in left:
        yield item
        done += 1
        if monotonic() - begun >= _PATIENCE_S:
            break
    else:
        return
    with click.progressbar(length=len(items), label=doing, file=sys.stderr,
                           update_min_steps=max(1, len(items) // _STEPS)) as shown:
        shown.update(done)
        for item in left:
            yield item
            shown.update(1)
