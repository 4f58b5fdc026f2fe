"""A disk as it may be after power went: which names and which data are there.

Data of a file are there for sure when the file was synchronised after they were written; of the others any
may be there, in any order, and of each write any pages.  A change of names is there for sure when each
directory that it concerns was synchronised after it; of the others any number, in their order, from the first
on, as a journal has them.  That a name is there says nothing of the data: a file that was renamed before it
was synchronised may be empty.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_PAGE: Final = 512  # octets that a disk writes as a whole

Files = dict[str, bytes | None]
"""The content of each file in a directory, and None for each directory, those above before those below."""


class Event(NamedTuple):
    """Something that happened to a file or directory; an "ack" happened outside."""

    kind: str  # "write", "truncate", "sync", "create", "mkdir", "remove", "rename", "syncdir", "ack"
    path: str  # relative to the directory that is recorded
    at: int = 0
    data: bytes = b""
    to: str = ""  # the new name


class Cut(NamedTuple):
    """Power went after *events* of a recording; *how* says what is there that did not have to be.

    "none"; "all"; "some": any names, and of the data any pages; "last": all names, and the last write only;
    "names": all names and no data.
    """

    events: int
    how: str


class _File:
    def __init__(self, data: bytes) -> None:
        self.durable = bytearray(data)
        self.pending: list[Event] = []


class _Directory:
    def __init__(self) -> None:
        self.first: dict[str, _File | _Directory] = {}
        self.names: dict[str, _File | _Directory] = {}


_Node = _File | _Directory


class _Change:
    """*names* of directories are these nodes, or are gone, once the directories in *waits* are durable."""

    def __init__(self, *names: tuple[_Directory, str, _Node | None]) -> None:
        self.names = names
        self.waits = {id(directory) for directory, _, _ in names}


class Disk:
    """A directory that holds *files* for sure, and what happens to it from now on."""

    def __init__(self, files: Files) -> None:
        self.played = 0
        self._changes: list[_Change] = []
        self._written: list[_File] = []  # in the order of the writes that are not durable
        self._root = _Directory()
        for path, data in files.items():
            directory, name = self._place(path)
            node = directory.names[name] = _Directory() if data is None else _File(data)
            directory.first[name] = node

    def play(self, event: Event) -> None:
        """*event* happens."""
        self.played += 1
        if event.kind == "ack":
            return
        if event.kind == "syncdir":
            directory = self._at(event.path)
            for change in self._changes:
                change.waits.discard(id(directory))
        elif event.kind in ("write", "truncate", "sync"):
            file = self._at(event.path)
            assert isinstance(file, _File)
            if event.kind == "sync":
                for each in file.pending:
                    _apply(file.durable, each)
                file.pending.clear()
                self._written = [each for each in self._written if each is not file]
            else:
                file.pending.append(event)
                self._written.append(file)
        else:
            self._rename(event)

    def _rename(self, event: Event) -> None:
        directory, name = self._place(event.path)
        if event.kind == "rename":
            target, new = self._place(event.to)
            node = directory.names[name]
            change = _Change((directory, name, None), (target, new, node))
        else:
            made: dict[str, _Node] = {"create": _File(b""), "mkdir": _Directory()}
            change = _Change((directory, name, made.get(event.kind)))
        self._changes.append(change)
        for where, what, found in change.names:
            if found is None:
                del where.names[what]
            else:
                where.names[what] = found

    def _place(self, path: str) -> tuple[_Directory, str]:
        above, _, name = path.rpartition("/")
        found = self._at(above)
        assert isinstance(found, _Directory)
        return found, name

    def _at(self, path: str) -> _Node:
        found: _Node = self._root
        for part in filter(None, path.split("/")):
            assert isinstance(found, _Directory)
            found = found.names[part]
        return found

    def files(self, how: str, rng: random.Random) -> Files:
        """Return what is there if power goes now."""
        loose = [change for change in self._changes if change.waits]
        kept = {"none": 0, "some": rng.randint(0, len(loose))}.get(how, len(loose))
        gone = {id(change) for change in loose[kept:]}
        names: dict[int, dict[str, _Node]] = {}
        for change in self._changes:
            if id(change) not in gone:
                for directory, name, node in change.names:
                    found = names.setdefault(id(directory), dict(directory.first))
                    if node is None:
                        found.pop(name, None)
                    else:
                        found[name] = node
        last = self._written[-1] if self._written else None

        def walk(directory: _Directory, above: str) -> Iterator[tuple[str, bytes | None]]:
            for name, node in sorted(names.get(id(directory), directory.first).items()):
                if isinstance(node, _Directory):
                    yield above + name, None
                    yield from walk(node, f"{above}{name}/")
                else:
                    yield above + name, _content(node, how, rng, is_last=node is last)

        return dict(walk(self._root, ""))


def _content(file: _File, how: str, rng: random.Random, *, is_last: bool) -> bytes:
    """Return the content of *file*; *is_last* if it was written last of all."""
    data, pending = bytearray(file.durable), list(file.pending)
    if how == "some":
        rng.shuffle(pending)
        for each in pending:
            pieces = [each] if each.kind == "truncate" else [
                each._replace(at=each.at + at, data=each.data[at : at + _PAGE])
                for at in range(0, len(each.data), _PAGE)]
            for piece in pieces:
                if rng.random() < 0.5:
                    _apply(data, piece)
    elif how == "all" or (how == "last" and is_last):
        for each in pending if how == "all" else pending[-1:]:
            _apply(data, each)
    return bytes(data)


def _apply(data: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del data[event.at :]
        data.extend(bytes(event.at - len(data)))
    else:
        data.extend(bytes(max(0, event.at + len(event.data) - len(data))))
        data[event.at : event.at + len(event.data)] = event.data


def read(base: Path) -> Files:
    """Return what the directory *base* holds."""
    return {str(path.relative_to(base)): path.read_bytes() if path.is_file() else None
            for path in sorted(base.rglob("*"))}


def put(files: Files, target: Path) -> None:
    """The new directory *target* holds *files*, private as what is recorded is."""
    target.mkdir(mode=0o700)
    for name, data in files.items():
        if data is None:
            (target / name).mkdir(mode=0o700)
        else:
            with open(os.open(target / name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(data)
