"""A window onto the TIS registers of this machine's own TPM, through a device such as /dev/mem."""

from __future__ import annotations

import errno
import mmap
import os

from hwtpm.errors import ProtocolError
from hwtpm.tis.registers import TIS_BASE, TIS_SIZE


class MemoryWindow:
    """The registers at 0xFED40000 of the memory *path*, on a processor that is little-endian as they are.

    Each call is one access of its width.  Raises OSError, which names *path*, if the memory is not there or
    the kernel does not give it away.
    """

    def __init__(self, path: str) -> None:
        # O_SYNC: past the caches.
        fd = os.open(path, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(fd, TIS_SIZE, offset=TIS_BASE)
        except ValueError:
            raise OSError(errno.ENXIO, f"no memory at 0x{TIS_BASE:x}", path) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)
        self._octets = memoryview(self._memory)
        self._words = self._octets.cast("I")

    def close(self) -> None:
        """The memory is not mapped any more; nothing else may be called."""
        self._words.release()
        self._octets.release()
        self._memory.close()

    def read8(self, address: int) -> int:
        """Return the octet at *address*."""
        return self._octets[self._place(address, 1)]

    def read32(self, address: int) -> int:
        """Return the 4 octets at *address*, a multiple of 4."""
        return self._words[self._place(address, 4) >> 2]

    def write8(self, address: int, value: int) -> None:
        """Write the octet *value* at *address*."""
        self._octets[self._place(address, 1)] = value

    def write32(self, address: int, value: int) -> None:
        """Write the 4 octets of *value* at *address*, a multiple of 4."""
        self._words[self._place(address, 4) >> 2] = value

    def _place(self, address: int, size: int) -> int:
        place = address - TIS_BASE
        if not 0 <= place <= TIS_SIZE - size or place % size:
            raise ProtocolError(f"no {size} octets of the TIS registers at address 0x{address:x}")
        return place
