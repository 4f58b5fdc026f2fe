"""A transport that answers the few commands which front_end.py sends, as a TPM 2.0 would."""

from __future__ import annotations

import errno
import struct
import threading

from cusetpm.transport import Cancelled, NotExecuted

GET_RANDOM, CREATE_PRIMARY, FLUSH_CONTEXT, GET_CAPABILITY = 0x17B, 0x131, 0x165, 0x17A
COMMAND_SIZE, COMMAND_CODE, CANCELED = 0x142, 0x143, 0x909
UNKNOWN_OBJECT, UNKNOWN_OBJECT_CODE = b"\x80\xff\xff\x00", 0xB0910


def message(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">HII", 0x8001, 10 + len(body), code) + body


class FakeTpm:
    """A key takes *key_s* seconds to create, unless it is cancelled.

    `asks` is what the last command was to ask whether it should end.
    """

    asks: Cancelled

    def __init__(self, key_s: float = 0.05) -> None:
        self._key_s = key_s
        self._lock = threading.Lock()
        self.cancelled = threading.Event()
        self.creating = threading.Event()
        self.cancels = 0

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        assert locality == 0
        self.asks = cancelled or bool
        if len(command) < 10 or int.from_bytes(command[2:6], "big") != len(command):
            return message(COMMAND_SIZE)
        code = int.from_bytes(command[6:10], "big")
        with self._lock:
            if code == GET_RANDOM:
                return message(0, command[10:12] + bytes(int.from_bytes(command[10:12], "big")))
            if code == FLUSH_CONTEXT:
                return message(0)
            if code == GET_CAPABILITY:
                return message(0, struct.pack(">BII", 0, 1, 0))
            if code == CREATE_PRIMARY:
                self.cancelled.clear()
                self.creating.set()
                stopped = self.cancelled.wait(self._key_s)
                self.creating.clear()
                return message(CANCELED) if stopped else message(0, b"\x80\0\0\0")
        return message(COMMAND_CODE)

    def cancel(self) -> None:
        self.cancels += 1
        self.cancelled.set()

    def takes_long(self, command: bytes) -> bool:
        return command[6:10] == CREATE_PRIMARY.to_bytes(4, "big")


class FakeSpace(FakeTpm):
    """A space of *manager*, in which FlushContext names nothing but what was created."""

    def __init__(self, manager: FakeManager, key_s: float) -> None:
        super().__init__(key_s)
        self._manager = manager

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        if command[10:] == UNKNOWN_OBJECT:
            raise NotExecuted(errno.EINVAL, UNKNOWN_OBJECT_CODE)
        return super().execute(command, locality, cancelled)

    def close(self) -> None:
        if self in self._manager.spaces:
            self._manager.spaces.remove(self)


class FakeManager(FakeTpm):
    """Spaces, of which `spaces` are open, and the TPM as it is."""

    def __init__(self, key_s: float = 0.05) -> None:
        super().__init__(key_s)
        self.spaces: list[FakeSpace] = []

    def open(self) -> FakeSpace:
        self.spaces.append(FakeSpace(self, self._key_s))
        return self.spaces[-1]
