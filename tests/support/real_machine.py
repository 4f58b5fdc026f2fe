"""A machine for the control channel with a real engine, started as firmware does."""

from __future__ import annotations

from typing import Any

from cusetpm.transport import Cancelled
from tests.support import tpm2, tpm12
from tests.support.fake_machine import FakeMachine
from tests.support.machine import AnyMachine


class RealMachine(FakeMachine):
    """Commands are those of an engine; `answered` has each with its locality, once it was answered."""

    def __init__(self, family: str = "2.0") -> None:
        super().__init__(family)
        self.tpm: AnyMachine[Any] = tpm2.started() if family == "2.0" else tpm12.started()
        self.answered: list[tuple[bytes, int]] = []

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        self.tpm.locality = locality
        response = self.tpm.execute(command)
        self.answered.append((command, locality))
        return response
