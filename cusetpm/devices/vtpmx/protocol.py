"""The emulator's side of Linux' vtpm-proxy, without I/O: for each request of the kernel one response.

A request is a command for the TPM, as whoever used the kernel's chip wrote it, or one that only the kernel
sends: TPM2_CC_SET_LOCALITY, for TPM 1.2 TPM_ORD_SET_LOCALITY with the same number.  It refuses that with
EFAULT when it comes from outside, so what arrives here is its own wish; later commands have that locality.
"""

from __future__ import annotations

import logging
from typing import Final

from cusetpm.devices.swtpm.abi import TPM2_CC_SET_LOCALITY
from cusetpm.devices.swtpm.control import Control
from cusetpm.transport import Cancelled

log = logging.getLogger(__name__)

_SET_LOCALITY: Final = TPM2_CC_SET_LOCALITY.to_bytes(4, "big")


class Emulator:
    """What is behind a chip of the kernel's: the TPM of *control*."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def answer(self, request: bytes, cancelled: Cancelled | None = None) -> bytes:
        """Return the one well-formed response to *request*, whatever that is.

        The kernel waits for it, and for nothing else: an error of ours is one of the TPM.
        """
        control = self._control
        try:
            if request[6:10] == _SET_LOCALITY:
                return control.set_locality_in_band(request)
            return control.execute(request, cancelled)
        except Exception:
            log.exception("a command failed")
            return control.family.error(control.family.failure)
