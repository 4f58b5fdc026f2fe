"""Checks the files beside the devices of a FUSE directory: a plain script, COMMAND of `cusetpm run`.

Usage: shown_files.py SEED.  Every file under $CUSETPM_SYSFS is read whole, at any offset and in pieces of any
size, and nobody can write to it, make one or remove one.  Prints what it read: "PATH CONTENT", both as Python
shows them.
"""

from __future__ import annotations

import errno
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)
READS = 20


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def whole(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def pieces(fd: int, size: int) -> Iterator[bytes]:
    while piece := os.read(fd, size):
        yield piece


def reads_at_any_offset_and_size(path: Path, content: bytes, dice: random.Random) -> None:
    length = len(content)
    for number in range(READS):
        off, size = dice.randrange(length + 3), dice.choice((1, 7, 4096, dice.randrange(1, length + 3)))
        fd = opened(path)
        try:
            # The first read of an open file may be anywhere, too.
            if number % 2:
                assert os.pread(fd, 1 << 16, 0) == content, path
            assert os.pread(fd, size, off) == content[off : off + size], (path, off, size)
            assert os.lseek(fd, off, os.SEEK_SET) == off
            assert os.read(fd, size) == content[off : off + size], (path, off, size)
        finally:
            os.close(fd)
    fd = opened(path)
    try:
        assert b"".join(pieces(fd, dice.randrange(1, length + 2))) == content, path
    finally:
        os.close(fd)


def refused(call: Callable[..., object], *arguments: object) -> None:
    code = None
    try:
        call(*arguments)
    except OSError as error:
        code = error.errno
    assert code in REFUSALS, (call, arguments, code)


def is_only_for_reading(path: Path) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        refused(os.open, path, flags)
    refused(os.unlink, path)
    refused(os.rename, path, path.with_name("other"))


def takes_nothing_new(directory: Path) -> None:
    new = directory / "new"
    refused(os.open, new, os.O_WRONLY | os.O_CREAT)
    refused(os.mkdir, new)
    refused(os.symlink, "target", new)


def main(seed: str) -> None:
    dice = random.Random(seed)
    root = Path(os.environ["CUSETPM_SYSFS"])
    for directory, _, names in os.walk(root):
        takes_nothing_new(Path(directory))
        if directory != str(root):  # The place of the mount is somebody else's.
            refused(os.rmdir, directory)
        assert {entry.name for entry in os.scandir(directory)} >= set(names)
        for name in names:
            path = Path(directory, name)
            if name == "cancel":
                refused(os.open, path, os.O_RDONLY)
                refused(os.open, path, os.O_RDWR)
                path.write_text("1")
                continue
            content = whole(path)
            assert content, path
            reads_at_any_offset_and_size(path, content, dice)
            is_only_for_reading(path)
            print(repr(str(path.relative_to(root))), content)
    assert not (root / "class/tpm/tpm0/pcr-md5").exists()


if __name__ == "__main__":
    main(sys.argv[1])
