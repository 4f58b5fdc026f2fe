"""Measured launches: _TPM_Hash_Start, _TPM_Hash_Data and _TPM_Hash_End (Part 3, 22.9 to 22.11).

Before TPM2_Startup it is the H-CRTM that measures what it is about to run, into PCR 0; later it is a dynamic
root of trust (D-RTM), which resets the PCRs of the new environment and measures into PCR 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwtpm.crypto import hashes
from hwtpm.tpm2.commands.startup import recheck
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.profile import DRTM_PCR, HCRTM_PCR
from hwtpm.tpm2.types.structures import TPMT_HA

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


class Launch:
    """The event sequence of *tpm*; it has memory of its own, so no loaded object has to give way to it."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._hashes: dict[int, Hash] | None = None
        self._early = False

    def start(self) -> None:
        """An empty sequence takes the place of any that was not ended."""
        pcrs = self._tpm.pcrs
        self._early = not self._tpm.power.started
        if self._early:
            pcrs.apply_allocation()
        index = HCRTM_PCR if self._early else DRTM_PCR
        self._hashes = {alg: hashes.new(alg) for alg in pcrs.allocated(index)}

    def data(self, data: bytes) -> None:
        """The sequence goes on with *data*; without a sequence nothing happens."""
        for running in (self._hashes or {}).values():
            running.update(data)

    def end(self) -> None:
        """The sequence is measured and gone; without one, or if a Startup came between, nothing happens."""
        running, self._hashes = self._hashes, None
        tpm = self._tpm
        if running is None or tpm.power.failed or self._early == tpm.power.started:
            return
        digests = [TPMT_HA(alg, state.digest()) for alg, state in running.items()]
        if self._early:
            tpm.pcrs.launch_early(digests)
            return
        tpm.pcrs.launch(digests)
        tpm.clock.count_launch()
        if tpm.power.kept is not None:
            recheck(tpm)
