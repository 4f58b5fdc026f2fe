"""Files, directories and links that are shown beside a device, without FUSE.

As in sysfs, a file's content is made when it is read from its beginning, and what one write(2) brings is
one value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

SYSFS_SIZE = 4096
"""The size that sysfs tells of its files, whatever is in them, in octets."""


class File(NamedTuple):
    """A file of which *read* returns the content as it is now, and *write* takes what is written.

    Without one of them it cannot be opened for that.  Both may wait for a TPM; an OSError that they raise is
    what the system call ends with.  *size* is what is told of it.
    """

    read: Callable[[], bytes] | None = None
    write: Callable[[bytes], None] | None = None
    size: int = SYSFS_SIZE


class Link(NamedTuple):
    """A symbolic link."""

    target: str


class Directory(NamedTuple):
    """A directory of *entries*; of those in *changing*, only the ones that `now` returns are there now.

    `now` may wait for a TPM.
    """

    entries: Mapping[str, Entry]
    changing: Collection[str] = ()
    now: Callable[[], Collection[str]] = tuple


Entry = File | Link | Directory
