"""What the test TPMs of both families have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.family import Engine

E = TypeVar("E", bound=Engine)


class ManualClock:
    """Milliseconds that pass by `advance` only."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms

    def advance(self, ms: int) -> None:
        self.ms += ms


class AnyMachine(Generic[E]):
    """An engine with its clock and the `locality` that commands come from; reproducible from *seed*."""

    engine: E

    def __init__(self, seed: bytes, snapshot: bytes | None, running: bytes | None = None) -> None:
        self.clock = ManualClock()
        self.entropy = CtrDrbg(b"entropy of " + seed).generate
        self.nonces = CtrDrbg(b"nonces of " + seed).generate  # for a client
        self.locality = 0
        self.cancelled: Callable[[], bool] = bool  # what commands that take long ask
        self.dirty = False  # of the last command
        self.engine = self._power_on(snapshot, None if snapshot is not None else seed, running)
        self.durable = self.engine.snapshot() if snapshot is None else snapshot

    def _power_on(self, snapshot: bytes | None, seed: bytes | None, running: bytes | None) -> E:
        raise NotImplementedError

    @property
    def tpm(self) -> Any:
        """What the engine works on."""
        engine: Any = self.engine
        return engine.tpm

    def execute(self, command: bytes) -> bytes:
        """Run a command as a guest does: what it changes for good is durable with the response."""
        response, self.dirty = self.engine.execute(command, self.locality, self.cancelled)
        if self.engine.fault is not None:
            raise self.engine.fault
        if self.dirty:
            self.durable = self.engine.snapshot()
        return response

    def power_cycle(self, off_ms: int = 1000) -> None:
        """Lose power and get it back; only what was durable is left."""
        self.clock.advance(off_ms)
        self.engine = self._power_on(self.durable, None, None)
