"""Linux' vtpm-proxy: names are those of the kernel's include/uapi/linux/vtpm_proxy.h.

Integers are in the machine's byte order; what is read and written after that are commands and responses.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

VTPM_PROXY_FLAG_TPM2: Final = 1
"""The chip is a TPM 2.0; without, a TPM 1.2."""

VTPM_PROXY_NEW_DEV: Final = Struct("=IIIII")
"""struct vtpm_proxy_new_dev: flags, tpm_num, fd, major, minor; the kernel fills in all but the flags."""

VTPM_PROXY_IOC_NEW_DEV: Final = 0xC0000000 | VTPM_PROXY_NEW_DEV.size << 16 | 0xA1 << 8
"""_IOWR(0xa1, 0x00, struct vtpm_proxy_new_dev)"""
