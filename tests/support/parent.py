"""A manager that a TPM has below it, for tests of what it asks."""

from __future__ import annotations

from hwtpm.errors import TpmError


class Parent:
    """Answers with what it was asked for, or refuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, int]] = []
        self.refusal = 0

    def __call__(self, data: bytes, pcrs: bytes, flags: int) -> bytes:
        if self.refusal:
            raise TpmError(self.refusal)
        self.asked.append((data, pcrs, flags))
        return b"signed: " + data
