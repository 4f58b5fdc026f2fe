"""Measured launches: TPM_HASH_START, TPM_HASH_DATA, TPM_HASH_END of locality 4 (PC Client TIS 1.21, 11.3).

The dynamic root of trust resets the PCRs of the new environment and is measured into PCR 17.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Final

from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.state.power import Tested

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_DRTM_PCR: Final = 17
_RESET: Final = range(17, 23)


class Launch:
    """The sequence of *tpm*; before TPM_Startup, and in a TPM that has failed, there is none."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._hash: Hash | None = None

    def start(self) -> None:
        """The trusted environment is present, its PCRs are zero, and an empty sequence has begun."""
        tpm = self._tpm
        self._hash = None
        if not tpm.power.started or tpm.power.tested is Tested.FAILED:
            return
        tpm.power.forget()
        tpm.flags.tos_present = True
        for number in _RESET:
            tpm.pcrs.reset(number, tos_present=True)
        self._hash = sha1()

    def data(self, data: bytes) -> None:
        """The sequence goes on with *data*; without a sequence nothing happens."""
        if self._hash is not None:
            self._hash.update(data)

    def end(self) -> None:
        """The sequence is measured and gone; without one nothing happens."""
        running, self._hash = self._hash, None
        if running is not None:
            self._tpm.pcrs.extend(_DRTM_PCR, running.digest())
