"""The hardware TPM: an engine of either family behind TIS registers, with its own NV file."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from struct import Struct
from threading import Lock

from hwtpm.errors import StateError
from hwtpm.family import Family, family
from hwtpm.sealedslots import SealedSlots, is_sealed
from hwtpm.slots import Slots
from hwtpm.tis.fifo import Tis
from hwtpm.tis.registers import TPM_FAMILY_1_2, TPM_FAMILY_2_0

_RECORD = Struct(">Q32s")  # sequence number, SHA-256 of number and snapshot


class Chip:
    """A chip that has power: `tis` is its register model.

    *path* names the NV file (two slots, ``PATH.0`` and ``PATH.1``); a chip without one is manufactured.
    *kind* is its family, TPM 2.0 unless given.  *entropy*, *now* and *primes* are those of its engine.  What
    a command changes in NV is on the device before its response can be read.  NV lies in the clear, as inside
    a chip, unless a *key* encrypts it.  Raises StateError if the NV file is not one that this version can
    read, or not with this key.

    A chip that is *held* writes nothing before `release`: until then power can go as if it had never come.
    """

    def __init__(self, path: Path, entropy: Callable[[int], bytes], now: Callable[[], int], *,
                 kind: Family | None = None, held: bool = False,
                 primes: Callable[[int, int], tuple[int, int] | None] | None = None,
                 key: bytes = b"") -> None:
        self.kind = kind or family("2.0")
        self.saves = 0  # NV writes since power-on, without those of the manufacture
        self.failure: OSError | None = None  # why NV could not be written last, of which commands say little
        self._slots = SealedSlots(path, key) if key else Slots(path)
        try:
            self._sequence, self._durable = _newest(self._slots)
            try:
                self.engine = self.kind.make(entropy, now, self._durable, primes=primes)
            except StateError as error:
                raise StateError(f"{path}: {error}") from None
            self._held = held
            if not held:
                self._manufactured()
        except BaseException:
            self._slots.close()
            raise
        self._lock = Lock()
        self.tis = Tis(
            self._execute, hash_start=self.engine.hash_start, hash_data=self.engine.hash_data,
            hash_end=self._hash_end, established=self.engine.established, on_established=self._establish,
            family=TPM_FAMILY_1_2 if self.kind.name == "1.2" else TPM_FAMILY_2_0,
        )

    def release(self) -> None:
        """What has changed since power-on is on the device, as all is that follows; OSError if it is not."""
        with self._lock:
            if self._held:
                self._manufactured()
                if self.engine.dirty:
                    self._save()
                    self.saves += 1
                self._held = False

    def close(self) -> None:
        """Power is gone."""
        with self._lock:
            self._slots.close()

    def _execute(self, command: bytes, locality: int) -> bytes:
        with self._lock:
            response, _ = self.engine.execute(command, locality, self.tis.cancelled)
            return response if self._stored() else self.kind.unsaved

    def _hash_end(self) -> None:
        with self._lock:
            self.engine.hash_end()
            self._stored()

    def _establish(self, established: bool) -> None:
        with self._lock:
            self.engine.establish(established)
            self._stored()

    def _stored(self) -> bool:
        """Store what has changed; if that fails, nothing has changed."""
        if self.engine.dirty and not self._held:
            try:
                self._save()
            except OSError as error:
                self.failure = error
                assert self._durable is not None
                self.engine.rollback(self._durable)
                return False
            self.failure = None
            self.saves += 1
        return True

    def _manufactured(self) -> None:
        """A new chip is on the device.

        Both slots are filled before the first command, so that one damaged copy later is never mistaken for a
        manufacture that was cut short.
        """
        if self._durable is None:
            self._save()
            self._save()

    def _save(self) -> None:
        """Write the engine's snapshot over the older of the two records."""
        snapshot = self.engine.snapshot()
        sequence = self._sequence + 1
        number = sequence.to_bytes(8, "big")
        self._slots.write(sequence & 1, _RECORD.pack(sequence, sha256(number + snapshot).digest()) + snapshot)
        self._sequence, self._durable = sequence, snapshot


def _newest(slots: Slots) -> tuple[int, bytes | None]:
    """Return sequence number and snapshot of the newest complete record; (0, None) for an empty pair."""
    newest: tuple[int, bytes | None] = (0, None)
    torn = 0
    for slot in (0, 1):
        record = slots.read(slot)
        if record is None:
            continue
        if is_sealed(record):
            raise StateError(f"{slots.path}.{slot}: encrypted with a key, which is needed")
        if len(record) >= _RECORD.size:
            sequence, digest = _RECORD.unpack_from(record)
            snapshot = record[_RECORD.size :]
            if sha256(record[:8] + snapshot).digest() == digest:
                if sequence > newest[0]:
                    newest = sequence, snapshot
                continue
        torn += 1
    if newest[1] is None and torn:
        # Power went during manufacture if the second record was never begun; else both copies are damaged.
        if torn == 2:
            raise StateError(f"{slots.path}.0 and .1: both copies of the chip's NV are damaged")
        return 0, None
    return newest
