"""A TPM and its twin, made from its state: both get every command, and have to give the same octets."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from hwtpm.crypto.drbg import CtrDrbg
from tests.support.machine import AnyMachine, E


class _Later:
    """The entropy of *stream*, after one draw that does not count."""

    def __init__(self, stream: CtrDrbg) -> None:
        self._stream, self._counts = stream, False

    def __call__(self, size: int) -> bytes:
        counts, self._counts = self._counts, True
        return self._stream.generate(size) if counts else bytes(size)


class AnyTwins(AnyMachine[E]):
    """A machine whose twin, once it has one (`part`), gets what it gets and has to answer what it answers."""

    def __init__(self, seed: bytes = b"a test") -> None:
        self.twin: AnyTwins[E] | None = None
        super().__init__(seed, None)
        self._start_from(CtrDrbg(b"entropy that can be saved"))

    def _start_from(self, stream: CtrDrbg) -> None:
        """Power comes, with the entropy of *stream*."""
        self._stream = stream
        self.entropy = stream.generate
        self.engine = self._power_on(self.durable, None, None)

    def part(self) -> None:
        """From here on there is a twin, made of nothing but the state, with the same entropy to come.

        It takes the place of an earlier one.
        """
        running = self.engine.snapshot_running()
        assert self.engine.snapshot_running() == running  # saving changes nothing
        twin = copy(self)
        twin.twin = None
        # Besides the draw that seeds a new generator, one goes into the generator that was saved.
        twin.entropy = _Later(CtrDrbg.restore(self._stream.save()))
        twin.durable = self.engine.snapshot()
        twin.engine = twin._power_on(twin.durable, None, running)
        self.tpm.random.stir(b"")  # as a restoration does
        assert twin.engine.snapshot_running() == self.engine.snapshot_running()
        self.twin = twin

    def execute(self, command: bytes) -> bytes:
        response = super().execute(command)
        if self.twin is not None:
            self.twin.locality = self.locality
            other = self.twin.execute(command)
            assert other == response, f"{command.hex()}: {other.hex()} of the resumed, not {response.hex()}"
            assert self.twin.dirty == self.dirty
        return response

    def platform(self, act: Callable[[E], None]) -> None:
        """Do to the engines what is no command."""
        for machine in (self, self.twin):
            if machine is not None:
                act(machine.engine)
                if machine.engine.dirty:
                    machine.durable = machine.engine.snapshot()

    def power_cycle(self, off_ms: int = 1000) -> None:
        """Lose power and get it back; both draw the same entropy."""
        self.clock.advance(off_ms)
        for machine in (self, self.twin):
            if machine is not None:
                machine._start_from(CtrDrbg(b"entropy after another power-on"))

    def assert_equal(self) -> None:
        """Both have the same state, permanent and running."""
        assert self.twin is not None
        for machine in (self, self.twin):
            engine: Any = machine.engine
            engine._sections.clear()  # everything is encoded anew
        assert self.twin.engine.snapshot() == self.engine.snapshot()
        assert self.twin.engine.snapshot_running() == self.engine.snapshot_running()
