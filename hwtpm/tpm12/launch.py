"""Measured launches: TPM_HASH_START, TPM_HASH_DATA, TPM_HASH_END of locality 4 (PC Client TIS 1.21, 11.3).

The dynamic root of trust resets the PCRs of the new environment and is measured into PCR 17.  An error in any
of the three begins failure mode: a launch that was not measured must not look like one that was.
"""

from __future__ import annotations

from typing import ClassVar, Final

from hwtpm.crypto import ids
from hwtpm.crypto.running import RunningHash
from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.state.power import Tested
from hwtpm.tpm12.state.sha1 import decode_thread, encode_thread

_DRTM_PCR: Final = 17
_RESET: Final = range(17, 23)


class Launch:
    """The sequence of *tpm*; in a TPM that has failed there is none, and nothing happens."""

    TAG: ClassVar[bytes] = b"lnch"

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._hash: RunningHash | None = None

    def start(self) -> None:
        """The trusted environment is present, its PCRs are zero, and an empty sequence has begun.

        Before TPM_Startup failure mode begins.
        """
        tpm = self._tpm
        self._hash = None
        if tpm.power.tested is Tested.FAILED:
            return
        if not tpm.power.started:
            tpm.power.fail("a launch before TPM_Startup")
            return
        tpm.power.forget()
        tpm.flags.tos_present = True
        for number in _RESET:
            tpm.pcrs.reset(number, tos_present=True)
        self._hash = RunningHash(ids.SHA1)

    def data(self, data: bytes) -> None:
        """The sequence goes on with *data*; without a sequence failure mode begins."""
        if self._hash is not None:
            self._hash.update(data)
        else:
            self._fail()

    def end(self) -> None:
        """The sequence is measured and gone; without one failure mode begins."""
        running, self._hash = self._hash, None
        if running is not None:
            self._tpm.pcrs.extend(_DRTM_PCR, running.digest())
        else:
            self._fail()

    def _fail(self) -> None:
        if self._tpm.power.tested is not Tested.FAILED:
            self._tpm.power.fail("a launch without TPM_HASH_START")

    def save_live(self) -> bytes:
        """Return version and the sequence, or that there is none."""
        return encode_thread(self._hash)

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave; TpmError or ValueError when it is damaged."""
        self._hash, _ = decode_thread(state)
