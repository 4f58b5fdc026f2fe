"""What the manager does not do."""

from __future__ import annotations


class Refused(Exception):
    """The manager does not do what it was asked to: *code* is the return code, *why* one line for people."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why
