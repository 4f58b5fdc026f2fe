"""What happens to the files of a directory is recorded, and images made of what a loss of power leaves of it.

SQLite's calls are seen by hooks in its default VFS; it synchronises the directory, too, when it synchronises
a journal or WAL that it has made for the first time (os_unix.c, unixSync).  All else is seen in the functions
of `os` that everything in Python comes down to.  What goes another way is noticed at the end of a recording.
"""

from __future__ import annotations

import builtins
import ctypes
import io
import os
import random
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.disk import Cut, Disk, Event, Files, put, read

__all__ = ["Cut", "Recording", "cuts", "image", "ram", "recorded"]

_METHODS: Final = 19  # of sqlite3_io_methods, version 3, the version number with them
_XWRITE, _XTRUNCATE, _XSYNC = 3, 4, 5
_MAIN_JOURNAL, _WAL = 0x800, 0x80000  # SQLITE_OPEN_
_MEMORY: Final = "/dev/shm"  # noqa: S108  (a new directory in it is private)

HOWS: Final = ("none", "all", "some", "last", "names")
"""What can be there of what was not synchronised (`Cut`)."""

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


class Recording:
    """What happens to the files in *base* while `recorded`."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.events: list[Event] = []
        self._before: Files = {}
        self._disk = Disk({})

    def begin(self) -> None:
        """What is there now was there before."""
        self._before = read(self.base)
        self._disk = Disk(self._before)

    def ack(self, what: str) -> None:
        """*what* was acknowledged."""
        self.events.append(Event("ack", what))

    def add(self, kind: str, path: str, at: int = 0, data: bytes = b"", to: str = "") -> None:
        """That happened to *path*, if it is in the directory."""
        if path == str(self.base) or self._is_inside(path):
            assert not to or self._is_inside(to), f"{path} leaves the directory"
            self.events.append(Event(kind, self._inside(path), at, data, self._inside(to)))

    def _is_inside(self, path: str) -> bool:
        return path.startswith(f"{self.base}/") and not path.endswith(" (deleted)")

    def _inside(self, path: str) -> str:
        return path[len(f"{self.base}/") :]

    def told(self, events: int) -> list[str]:
        """Return what was acknowledged among the first *events*, in order."""
        return [event.path for event in self.events[:events] if event.kind == "ack"]

    def files(self, cut: Cut, rng: random.Random) -> Files:
        """Return what is in the directory after *cut*."""
        if self._disk.played > cut.events:
            self._disk = Disk(self._before)
        while self._disk.played < cut.events:
            self._disk.play(self.events[self._disk.played])
        return self._disk.files(cut.how, rng)

    def check(self) -> None:
        """Everything that has happened was seen."""
        seen, found = self.files(Cut(len(self.events), "all"), random.Random()), read(self.base)
        differences = sorted(name for name in {*seen, *found} if (name, seen.get(name, 0)) != (
            name, found.get(name, 0)))
        assert not differences, f"something happened to {differences} that was not recorded"


def image(recording: Recording, cut: Cut, target: Path, rng: random.Random) -> set[str]:
    """The new directory *target* is what the disk has after *cut*; return what was acknowledged."""
    put(recording.files(cut, rng), target)
    return set(recording.told(cut.events))


def cuts(recording: Recording, rng: random.Random, most: int, hows: Sequence[str] = HOWS) -> list[Cut]:
    """Return *most* cuts of *recording* at most: one at each moment, as far as that goes.

    The first and the last are among them, and those after which something was acknowledged: each outcome that
    lasts is seen.
    """
    last = len(recording.events)
    first = {0, last, *(n for n, event in enumerate(recording.events, 1) if event.kind == "ack")}
    moments = [*sorted(first), *rng.sample(sorted(set(range(last)) - first), last + 1 - len(first))]
    found = [Cut(n, rng.choice(hows)) for n in moments][:most]
    others = sorted({Cut(n, how) for n in moments for how in hows} - set(found))
    return sorted(found + rng.sample(others, min(len(others), most - len(found))))


@contextmanager
def ram() -> Iterator[Path]:
    """Give a directory in memory, if there are such: to synchronise what is only looked at takes long."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as place:
        yield Path(place)


@contextmanager
def recorded(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """*recording* is told of what happens to files that are opened meanwhile, and misses nothing."""
    with _sqlite(recording), monkeypatch.context() as patch:
        _watch(recording, patch)
        recording.begin()
        yield
    recording.check()


def _watch(recording: Recording, patch: pytest.MonkeyPatch) -> None:
    """*recording* is told of what the functions of `os` and `open` do."""
    def told(name: str, tell: Callable[..., Callable[[Any], None]], module: Any = os) -> None:
        """*tell* gets the arguments before, and what it returns the result afterwards."""
        real = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            done = tell(*arguments, **named)
            result = real(*arguments, **named)
            done(result)
            return result

        patch.setattr(module, name, call)

    def then(kind: str, path: str, at: int = 0, data: bytes = b"", to: str = "") -> Callable[[Any], None]:
        return lambda result: recording.add(kind, path, at, data, to)

    def opens(path: Any, flags: int, mode: int = 0, *, dir_fd: int | None = None) -> Callable[[Any], None]:
        name = _named(path, dir_fd)
        if flags & os.O_CREAT and not os.path.lexists(name):
            return then("create", name)
        return then("truncate", name) if flags & os.O_TRUNC else _nothing

    def opens_file(file: Any, mode: str = "r", *more: Any, **named: Any) -> Callable[[Any], None]:
        # What is written to it is seen only if it is sent; nobody needs more.
        if isinstance(file, int) or not set(mode) & set("wxa"):
            return _nothing
        flags = os.O_CREAT | (os.O_TRUNC if "w" in mode else 0)
        return opens(file, flags)

    def renames(old: Any, new: Any, *, src_dir_fd: int | None = None,
                dst_dir_fd: int | None = None) -> Callable[[Any], None]:
        return then("rename", _named(old, src_dir_fd), to=_named(new, dst_dir_fd))

    def syncs(fd: int) -> Callable[[Any], None]:
        return then("syncdir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync", _place(fd))

    def sends(out: int, source: int, offset: int, count: int) -> Callable[[Any], None]:
        at = os.lseek(out, 0, os.SEEK_CUR)
        return lambda sent: recording.add("write", _place(out), at, os.pread(source, sent, offset))

    told("open", opens)
    for module in builtins, io:
        told("open", opens_file, module)
    told("mkdir", lambda path, mode=0, *, dir_fd=None: then("mkdir", _named(path, dir_fd)))
    for name in "unlink", "remove", "rmdir":
        told(name, lambda path, *, dir_fd=None: then("remove", _named(path, dir_fd)))
    for name in "rename", "replace":
        told(name, renames)
    told("pwrite", lambda fd, data, at: then("write", _place(fd), at, bytes(data)))
    told("ftruncate", lambda fd, size: then("truncate", _place(fd), size))
    told("sendfile", sends)
    for name in "fsync", "fdatasync":
        told(name, syncs)


def _nothing(result: Any) -> None:
    pass


def _named(path: Any, dir_fd: int | None) -> str:
    above = os.getcwd() if dir_fd is None else _place(dir_fd)
    return os.path.normpath(os.path.join(above, os.fsdecode(path)))


def _place(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@contextmanager
def _sqlite(recording: Recording) -> Iterator[None]:
    """*recording* is told of what SQLite does to files that it opens meanwhile."""
    library = _library()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    real_open, real_delete = _Open(vfs.xOpen), _Delete(vfs.xDelete)
    first_open, first_delete = vfs.xOpen, vfs.xDelete
    names: dict[int, str] = {}
    unnamed: set[int] = set()  # files whose names are not durable yet
    kept: list[Any] = []

    def open_(self: int, name: bytes | None, file: int, flags: int, out: int) -> int:
        path = name.decode() if name else ""
        made = not os.path.lexists(path)
        result = int(real_open(self, name, file, flags, out))
        if not result and path:
            names[file] = path
            unnamed.discard(file)
            if made:
                recording.add("create", path)
                if flags & (_MAIN_JOURNAL | _WAL):
                    unnamed.add(file)
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
            if this in unnamed:
                unnamed.discard(this)
                recording.add("syncdir", os.path.dirname(names[this]))
            return result

        hooks = [_Write(write_), _Truncate(truncate_), _Sync(sync_)]
        for number, hook in zip((_XWRITE, _XTRUNCATE, _XSYNC), hooks, strict=True):
            table[number] = ctypes.cast(hook, ctypes.c_void_p)
        kept.extend([table, write, truncate, sync, *hooks])
        methods[0] = ctypes.addressof(table)

    def delete(self: int, name: bytes, directory: int) -> int:
        path = name.decode()
        there = os.path.lexists(path)
        result = int(real_delete(self, name, directory))
        if there and not result:
            recording.add("remove", path)
            if directory:
                recording.add("syncdir", os.path.dirname(path))
        return result

    hooks = _Open(open_), _Delete(delete)
    vfs.xOpen, vfs.xDelete = (ctypes.cast(hook, ctypes.c_void_p).value for hook in hooks)
    try:
        yield
    finally:
        vfs.xOpen, vfs.xDelete = first_open, first_delete


def _library() -> Any:
    """Return the SQLite that the sqlite3 module uses."""
    import sqlite3

    sqlite3.connect(":memory:").close()
    with open("/proc/self/maps") as maps:
        found = {line.split()[-1] for line in maps if "libsqlite3" in line}
    if not found:
        pytest.skip("the sqlite3 module has no libsqlite3 of its own that could be hooked into")
    return ctypes.CDLL(found.pop())
