"""A TPM 2.0 engine for tests: reproducible randomness, a clock that moves when told, and a typed client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hwtpm.client import Client
from hwtpm.errors import TpmError
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR
from tests.support.machine import AnyMachine


class Machine(AnyMachine[Engine]):
    """A TPM 2.0 with a typed client."""

    def __init__(self, seed: bytes = b"a test", snapshot: bytes | None = None,
                 running: bytes | None = None) -> None:
        super().__init__(seed, snapshot, running)
        self.client = Client(self.execute, self.nonces)
        self.run = self.client.run

    def _power_on(self, snapshot: bytes | None, seed: bytes | None, running: bytes | None) -> Engine:
        return Engine(self.entropy, self.clock, snapshot, seed, running=running)


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
