"""A TPM 2.0 engine for tests: reproducible randomness, a clock that moves when told, and a typed client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hwtpm.client import Client
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.errors import TpmError
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR


class ManualClock:
    """Milliseconds that pass by `advance` only."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms

    def advance(self, ms: int) -> None:
        self.ms += ms


class Machine:
    """An engine with its clock, its client, and the `locality` that commands come from."""

    def __init__(self, seed: bytes = b"a test", snapshot: bytes | None = None,
                 running: bytes | None = None) -> None:
        self.clock = ManualClock()
        self.entropy = CtrDrbg(b"entropy of " + seed).generate
        self.locality = 0
        self.cancelled: Callable[[], bool] = bool  # what commands that take long ask
        self.dirty = False  # of the last command
        self.durable = snapshot
        self.engine = Engine(self.entropy, self.clock, snapshot, None if snapshot is not None else seed,
                             running=running)
        self.client = Client(self.execute, CtrDrbg(b"nonces of " + seed).generate)
        self.run = self.client.run
        if snapshot is None:
            self.durable = self.engine.snapshot()

    @property
    def tpm(self):  # type: ignore[no-untyped-def]
        return self.engine.tpm

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
        assert self.durable is not None
        self.clock.advance(off_ms)
        self.engine = Engine(self.entropy, self.clock, self.durable)


def make_engine() -> Machine:
    """Return a newly manufactured TPM before its Startup."""
    return Machine()


def started(seed: bytes = b"a test") -> Machine:
    """Return a newly manufactured TPM after Startup(CLEAR)."""
    machine = Machine(seed)
    machine.run(Startup(TPM_SU_CLEAR))
    return machine


def rc_of(call: Callable[[], object]) -> int:
    """Return the response code that *call* raises, or 0."""
    try:
        call()
    except TpmError as error:
        return error.rc
    return 0


@contextmanager
def refused(rc: int) -> Iterator[None]:
    """Expect the response code *rc*."""
    with pytest.raises(TpmError) as caught:
        yield
    assert caught.value.rc == rc, f"0x{caught.value.rc:03x} instead of 0x{rc:03x}"
