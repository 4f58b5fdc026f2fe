"""A machine for the control channel that does what it is told, and remembers it."""

from __future__ import annotations

import struct

from cusetpm.transport import Cancelled
from hwtpm.errors import StateError


class FakeMachine:
    """Does what it is told, and keeps what it was told."""

    def __init__(self, family: str = "2.0", *, running: bool = True) -> None:
        self.family = family
        self.running = running
        self.established = False
        self.hashed: list[bytes] = []
        self.states: dict[int, bytes] = {1: b"permanent", 2: b"volatile"}
        self.locked = True
        self.lockable = True
        self.log: list[str] = []
        self.commands: list[tuple[bytes, int]] = []

    def power_on(self, *, keep_volatile: bool) -> None:
        self.running = True
        self.log.append("on keep" if keep_volatile else "on")

    def power_off(self, *, orderly: bool) -> None:
        self.running = False
        self.log.append("off orderly" if orderly else "off")

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        self.commands.append((command, locality))
        return bytes.fromhex("80010000000a00000000")

    def cancel(self) -> None:
        self.log.append("cancel")

    def hash_start(self) -> None:
        self.hashed, self.established = [], True

    def hash_data(self, data: bytes) -> None:
        self.hashed.append(data)

    def hash_end(self) -> None:
        self.log.append(f"hashed {b''.join(self.hashed)!r}")

    def presence(self, there: bool) -> None:
        self.log.append(f"presence {there}")

    def reset_established(self) -> None:
        self.established = False

    def store_volatile(self) -> None:
        self.log.append("stored")

    def get_state(self, kind: int) -> bytes | None:
        return self.states.get(kind)

    def set_state(self, kind: int, state: bytes) -> None:
        if state == b"foreign":
            raise StateError("this is not a state")
        self.states[kind] = state

    def lock(self, retries: int) -> bool:
        self.locked = self.lockable
        self.log.append(f"lock {retries}")
        return self.locked

    def unlock(self) -> None:
        self.locked = False


def u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)
