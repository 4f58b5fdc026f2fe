"""Starts many runs of cusetpm at once, and asks every device the moment it exists: a plain script.

Usage: at_once.py cuse|fuse|socket COUNT PLACE -- CUSETPM...: the runs keep their files in PLACE, where
nothing else is, and their COMMANDs use the resource manager's device as soon as they run.  Nothing here
sleeps: devices are heard of through inotify.  Prints which devices answered.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
SUCCESS = bytes.fromhex("8001000000140000000000080000")[:10]
GIVE_UP_S = 500
NAMES = ("tpm0", "tpmrm0")
IN_ATTRIB, IN_MOVED_TO, IN_CREATE = 0x4, 0x80, 0x100

COMMAND = f"""
import os, socket, sys
device = os.environ.get("CUSETPM_RM_DEVICE")
if device:
    fd = os.open(device, os.O_RDWR)
else:
    link = socket.socket(socket.AF_UNIX)
    link.connect(os.environ["CUSETPM_RM_SOCKET"])
    fd = link.fileno()
os.write(fd, {GET_RANDOM!r})
assert os.read(fd, 4096)[:10] == {SUCCESS!r}
sys.stdin.read()
"""


class Events:
    """Names that appear in directories, or change, as inotify tells."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_CLOEXEC)
        self._watched: dict[int, Path] = {}

    def watch(self, directory: Path, kinds: int) -> list[Path]:
        """Return what is in *directory* already; what comes later is told."""
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), kinds)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(directory))
        self._watched[number] = directory
        return list(directory.iterdir())

    def read(self) -> Iterator[Path]:
        data = os.read(self.fd, 65536)
        while data:
            number, _, _, size = struct.unpack_from("iIII", data)
            yield self._watched[number] / os.fsdecode(data[16 : 16 + size].rstrip(b"\0"))
            data = data[16 + size :]


def ask(path: Path) -> None:
    """The TPM behind *path* has answered GetRandom, at the first try."""
    if stat.S_ISSOCK(os.stat(path).st_mode):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            link.sendall(GET_RANDOM)
            response = link.recv(4096)
    else:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, GET_RANDOM)
            response = os.read(fd, 4096)
        finally:
            os.close(fd)
    assert response[:10] == SUCCESS, (path, response)


def appearing(place: Path) -> Iterator[Path]:
    """Yield *place* once it is watched, and then what appears in the directories of runs in it."""
    events = Events()
    found = events.watch(place, IN_CREATE | IN_MOVED_TO)
    yield place
    while True:
        for path in found:
            if path.parent == place:
                found += events.watch(path, IN_CREATE | IN_MOVED_TO)
            else:
                yield path
        found = list(events.read())


def sockets(place: Path, _: int) -> Iterator[Path]:
    """Yield the sockets of runs in *place* when they appear."""
    for path in appearing(place):
        if path == place or path.name in ("tpm0.sock", "tpmrm0.sock"):
            yield path


def files(place: Path, _: int) -> Iterator[Path]:
    """Yield the device files of runs in *place* when they appear."""
    for path in appearing(place):
        if path.name == "dev":
            yield from (path / name for name in NAMES)
        elif path == place:
            yield path


def nodes(place: Path, count: int) -> Iterator[Path]:
    """Yield device nodes when they appear, and again when they change.

    The kernel makes a node some instants before it can be opened; it gets its mode and owner when it can.
    """
    events = Events()
    there = {*events.watch(Path("/dev"), IN_CREATE | IN_ATTRIB)}
    wanted = {Path(f"/dev/{name[:-1]}{number}") for name in NAMES for number in range(count)}
    assert not there & wanted
    yield place
    while True:
        for path in events.read():
            if path in wanted:
                yield path


KINDS = {"socket": sockets, "fuse": files, "cuse": nodes}


def answers(found: Iterator[Path], count: int, *, early: bool) -> set[Path]:
    """Return *count* devices of *found*; if *early*, some come once more when they can be opened."""
    answered: set[Path] = set()
    while len(answered) < count:
        path = next(found)
        if path in answered:
            continue
        try:
            ask(path)
        except OSError as error:
            if not early or error.errno not in (errno.ENXIO, errno.ENODEV):
                raise
        else:
            answered.add(path)
    return answered


def main(kind: str, count: int, place: Path, run: list[str]) -> None:
    found = KINDS[kind](place, count)
    next(found)  # It watches from now on.
    environment = os.environ | {"XDG_RUNTIME_DIR": str(place)}
    words = [*run, "run", "--front-end", kind, "--", sys.executable, "-I", "-S", "-c", COMMAND]
    runs = [subprocess.Popen(words, stdin=subprocess.PIPE, env=environment) for _ in range(count)]
    try:
        print(*sorted(path.name for path in answers(found, len(NAMES) * count, early=kind == "cuse")))
    finally:
        for each in runs:
            each.communicate()
    assert all(each.returncode == 0 for each in runs)


if __name__ == "__main__":
    signal.alarm(GIVE_UP_S)
    separator = sys.argv.index("--")
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[separator + 1 :])
