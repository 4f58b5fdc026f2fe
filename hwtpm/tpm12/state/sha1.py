"""The SHA-1 thread of the commands TPM_SHA1Start to TPM_SHA1CompleteExtend (Part 3, 13)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.crypto import ids
from hwtpm.crypto.errors import OutOfRange
from hwtpm.crypto.running import HashState, RunningHash
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_BOOL, UINT8, UINT32, UINT64
from hwtpm.wire import Sized, Wire, decode, encode

_FORMAT: Final = 1
_BLOCK: Final = 64


class _Volatile(Wire):
    version: UINT8
    running: TPM_BOOL
    transport: UINT32 = 0
    chaining: Annotated[bytes, Sized(20, prefix="B")] = b""
    taken: UINT64 = 0
    rest: Annotated[bytes, Sized(_BLOCK, prefix="B")] = b""


def encode_thread(running: RunningHash | None, transport: int = 0) -> bytes:
    """Return version and a running hash, with the handle of its transport session, or that there is none."""
    if running is None:
        return encode(_Volatile(_FORMAT, 0))
    return encode(_Volatile(_FORMAT, 1, transport, *running.save()))


def decode_thread(state: bytes) -> tuple[RunningHash | None, int]:
    """Return what `encode_thread` was given; TpmError or ValueError when *state* is damaged."""
    found = decode(_Volatile, state)
    if found.version != _FORMAT:
        raise ValueError(f"SHA-1 thread of version {found.version}")
    if not found.running:
        return None, found.transport
    try:
        kept = HashState(found.chaining, found.taken, found.rest)
        return RunningHash.restore(ids.SHA1, kept), found.transport
    except OutOfRange as error:
        raise ValueError(f"SHA-1 thread: {error}") from None


class Sha1Thread(Owner):
    """`running` is the hash of the one thread, None without one.

    `transport` is the handle of the transport session that it runs in, 0 for none: a thread never leaves its
    session.
    """

    TAG: ClassVar[bytes] = b"sha1"

    def __init__(self) -> None:
        super().__init__()
        self.running: RunningHash | None = None
        self.transport = 0

    def begin(self, transport: int) -> None:
        """A thread runs in that transport session, in place of any other."""
        self.running, self.transport = RunningHash(ids.SHA1), transport

    def end(self) -> RunningHash | None:
        """There is no thread; what it was is returned."""
        running, self.running = self.running, None
        return running

    def owner_clear(self, *, revoke: bool = False) -> None:
        """There is no thread."""
        self.running = None

    def startup(self, start: Start) -> None:
        """There is no thread, not even in a resumed TPM (Part 2, 4.6: ST_STATE_RT_HASH)."""
        self.running = None

    def save_volatile(self) -> bytes:
        """Return version and the thread."""
        return encode_thread(self.running, self.transport)

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        self.running, self.transport = decode_thread(state)
