"""Open files of a FUSE directory, under trio; imported with `fuseops`."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import TypeVar

import pyfuse3
import trio

from cusetpm.devices.files import File

log = logging.getLogger(__name__)

T = TypeVar("T")


class OpenFile:
    """An open *file* called *name*.  Its content is made anew by each read from its beginning."""

    def __init__(self, name: str, file: File, flags: int) -> None:
        access = flags & os.O_ACCMODE
        # Whatever its mode says: it is not for root either.
        if (access != os.O_WRONLY and file.read is None) or (access != os.O_RDONLY and file.write is None):
            raise pyfuse3.FUSEError(errno.EACCES)
        self._name = name
        self._file = file
        self._content: bytes | None = None

    async def read(self, off: int, size: int) -> bytes:
        content = self._content
        if content is None or off == 0:
            assert self._file.read is not None
            content = self._content = await in_thread(self._name, self._file.read)
        return content[off : off + size]

    async def write(self, data: bytes) -> int:
        write = self._file.write
        assert write is not None
        await in_thread(self._name, lambda: write(data))
        return len(data)


async def in_thread(name: str, call: Callable[[], T]) -> T:
    """Return what *call* returns, which may wait for a TPM.  Raises FUSEError; a defect is logged."""
    try:
        return await trio.to_thread.run_sync(call)
    except OSError as error:
        log.info("%s: %s", name, error)
        raise fuse_error(error) from None
    except Exception as error:
        log.error("%s: cannot be shown", name, exc_info=error)
        raise pyfuse3.FUSEError(errno.EIO) from None


def fuse_error(error: OSError) -> pyfuse3.FUSEError:
    """Return what ends a system call as *error* says."""
    return pyfuse3.FUSEError(error.errno or errno.EIO)
