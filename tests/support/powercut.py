"""What a loss of power leaves on a disk: writes are recorded, and images made that are cut at any of them.

A write is on the disk for sure when its file was synchronised after it.  Of the others any may be there, in
any order, and of each any pages.  SQLite's writes are seen by hooks in its default VFS, those of the slot
files in the functions of `os` that they call.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

_PAGE: Final = 512  # octets that a disk writes as a whole
_METHODS: Final = 19  # of sqlite3_io_methods, version 3, the version number with them
_XWRITE, _XTRUNCATE, _XSYNC = 3, 4, 5

_Write = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Open = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int,
                         ctypes.c_void_p)
_Delete = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """The beginning of sqlite3_vfs (sqlite3.h)."""

    _fields_ = [("iVersion", ctypes.c_int), ("szOsFile", ctypes.c_int), ("mxPathname", ctypes.c_int),
                ("pNext", ctypes.c_void_p), ("zName", ctypes.c_char_p), ("pAppData", ctypes.c_void_p),
                ("xOpen", ctypes.c_void_p), ("xDelete", ctypes.c_void_p)]


class Event(NamedTuple):
    """Something that happened to a file; an "ack" happened outside."""

    kind: str  # "write", "truncate", "sync", "delete", "ack"
    path: str  # relative to the directory that is recorded
    at: int = 0
    data: bytes = b""


class Recording:
    """What happens to the files in *base* while `recorded`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.events: list[Event] = []

    def ack(self, what: str) -> None:
        """*what* was acknowledged."""
        self.events.append(Event("ack", what))

    def add(self, kind: str, path: str, at: int = 0, data: bytes = b"") -> None:
        if path.startswith(f"{self.base}/"):
            self.events.append(Event(kind, path[len(f"{self.base}/") :], at, data))


def _library() -> Any:
    """Return the SQLite that the sqlite3 module uses."""
    import sqlite3

    sqlite3.connect(":memory:").close()
    with open("/proc/self/maps") as maps:
        found = {line.split()[-1] for line in maps if "libsqlite3" in line}
    if not found:
        pytest.skip("the sqlite3 module has no libsqlite3 of its own that could be hooked into")
    return ctypes.CDLL(found.pop())


@contextmanager
def recorded(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """*recording* is told of what happens to files that are opened meanwhile."""
    library = _library()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    real_open, real_delete = _Open(vfs.xOpen), _Delete(vfs.xDelete)
    first_open, first_delete = vfs.xOpen, vfs.xDelete
    names: dict[int, str] = {}
    kept: list[Any] = []

    def open_(self: int, name: bytes | None, file: int, flags: int, out: int) -> int:
        result = int(real_open(self, name, file, flags, out))
        if not result and name:
            names[file] = name.decode()
            _hook(file)
        return result

    def _hook(file: int) -> None:
        methods = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
        table = (ctypes.c_void_p * _METHODS)()
        assert methods[0] is not None
        ctypes.memmove(table, methods[0], ctypes.sizeof(table))
        write, truncate, sync = (
            _Write(table[_XWRITE] or 0), _Truncate(table[_XTRUNCATE] or 0), _Sync(table[_XSYNC] or 0))

        def write_(this: int, data: int, size: int, at: int) -> int:
            recording.add("write", names[this], at, ctypes.string_at(data, size))
            return int(write(this, data, size, at))

        def truncate_(this: int, size: int) -> int:
            recording.add("truncate", names[this], size)
            return int(truncate(this, size))

        def sync_(this: int, how: int) -> int:
            result = int(sync(this, how))
            recording.add("sync", names[this])
            return result

        hooks = [_Write(write_), _Truncate(truncate_), _Sync(sync_)]
        for number, hook in zip((_XWRITE, _XTRUNCATE, _XSYNC), hooks, strict=True):
            table[number] = ctypes.cast(hook, ctypes.c_void_p)
        kept.extend([table, write, truncate, sync, *hooks])
        methods[0] = ctypes.addressof(table)

    def delete(self: int, name: bytes, directory: int) -> int:
        recording.add("delete", name.decode())
        return int(real_delete(self, name, directory))

    hooks = _Open(open_), _Delete(delete)
    vfs.xOpen, vfs.xDelete = (ctypes.cast(hook, ctypes.c_void_p).value for hook in hooks)
    real_pwrite, real_fdatasync, real_fsync = os.pwrite, os.fdatasync, os.fsync

    def pwrite(fd: int, data: Any, at: int) -> int:
        recording.add("write", os.readlink(f"/proc/self/fd/{fd}"), at, bytes(data))
        return real_pwrite(fd, data, at)

    def fdatasync(fd: int) -> None:
        real_fdatasync(fd)
        recording.add("sync", os.readlink(f"/proc/self/fd/{fd}"))

    def fsync(fd: int) -> None:
        real_fsync(fd)
        recording.add("sync", os.readlink(f"/proc/self/fd/{fd}"))

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", pwrite)
            patch.setattr(os, "fdatasync", fdatasync)
            patch.setattr(os, "fsync", fsync)
            yield
    finally:
        vfs.xOpen, vfs.xDelete = first_open, first_delete


class Cut(NamedTuple):
    """Power went after *events* of a recording; *how* says what of the unsynchronised writes is there."""

    events: int
    how: str  # "none", "all", "some": any of their pages, "last": only the last one


def image(recording: Recording, before: Path, cut: Cut, target: Path, rng: random.Random) -> set[str]:
    """*target* is what the disk has after *cut*, having begun as *before*; return what was acknowledged."""
    shutil.copytree(before, target)
    acknowledged: set[str] = set()
    open_writes: dict[str, list[Event]] = {}
    for event in recording.events[: cut.events]:
        if event.kind == "ack":
            acknowledged.add(event.path)
        elif event.kind == "sync":
            for each in open_writes.pop(event.path, []):
                _apply(target, each)
        else:
            open_writes.setdefault(event.path, []).append(event)
    pending = [each for writes in open_writes.values() for each in writes]
    if cut.how == "some":
        rng.shuffle(pending)
    for each in pending if cut.how in ("all", "some") else pending[-1:] if cut.how == "last" else []:
        if cut.how == "some" and each.kind == "write":
            for at in range(0, len(each.data), _PAGE):
                if rng.random() < 0.5:
                    _apply(target, each._replace(at=each.at + at, data=each.data[at : at + _PAGE]))
        elif cut.how != "some" or rng.random() < 0.5:
            _apply(target, each)
    return acknowledged


def _apply(target: Path, event: Event) -> None:
    path = target / event.path
    if event.kind == "delete":
        path.unlink(missing_ok=True)
        return
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if event.kind == "truncate":
            os.ftruncate(fd, event.at)
        else:
            os.pwrite(fd, event.data, event.at)
    finally:
        os.close(fd)
