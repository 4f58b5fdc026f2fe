"""Measured launches: _TPM_Hash_Start, _TPM_Hash_Data and _TPM_Hash_End (Part 3, 22.9 to 22.11).

Before TPM2_Startup it is the H-CRTM that measures what it is about to run, into PCR 0; later it is a dynamic
root of trust (D-RTM), which resets the PCRs of the new environment and measures into PCR 17.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto.running import RunningHash
from hwtpm.tpm2.commands.startup import recheck
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.profile import DRTM_PCR, HCRTM_PCR
from hwtpm.tpm2.state.owner import FLAG
from hwtpm.tpm2.state.sequences import EventSequence, decode_sequence
from hwtpm.tpm2.types.base import UINT8
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.wire import Sized, Wire, decode, encode

_FORMAT: Final = 1


class _Live(Wire):
    version: UINT8
    early: FLAG
    sequence: Annotated[bytes, Sized(0xFFFF)]


class Launch:
    """The event sequence of *tpm*; it has memory of its own, so no loaded object has to give way to it."""

    TAG: ClassVar[bytes] = b"lnch"

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._sequence: EventSequence | None = None
        self._early = False

    def start(self) -> None:
        """An empty sequence takes the place of any that was not ended."""
        pcrs = self._tpm.pcrs
        self._early = not self._tpm.power.started
        if self._early:
            pcrs.apply_allocation()
        index = HCRTM_PCR if self._early else DRTM_PCR
        self._sequence = EventSequence(b"", map(RunningHash, pcrs.allocated(index)))

    def data(self, data: bytes) -> None:
        """The sequence goes on with *data*; without a sequence nothing happens."""
        if self._sequence is not None:
            self._sequence.update(data)

    def end(self) -> None:
        """The sequence is measured and gone; without one, or if a Startup came between, nothing happens."""
        sequence, self._sequence = self._sequence, None
        tpm = self._tpm
        if sequence is None or tpm.power.failed or self._early == tpm.power.started:
            return
        digests = [TPMT_HA(alg, digest) for alg, digest in sequence.digests(b"")]
        if self._early:
            tpm.pcrs.launch_early(digests)
            return
        tpm.pcrs.launch(digests)
        tpm.clock.count_launch()
        if tpm.power.kept is not None:
            recheck(tpm)

    def save_live(self) -> bytes:
        """Return version, whether the sequence began before the Startup, and it or nothing."""
        sequence = b"" if self._sequence is None else self._sequence.encode()
        return encode(_Live(_FORMAT, self._early, sequence))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave; TpmError or ValueError when it is damaged."""
        found = decode(_Live, state)
        sequence = decode_sequence(found.sequence) if found.sequence else None
        if found.version != _FORMAT or not (sequence is None or isinstance(sequence, EventSequence)):
            raise ValueError(f"a measured launch of version {found.version}")
        self._sequence, self._early = sequence, bool(found.early)
