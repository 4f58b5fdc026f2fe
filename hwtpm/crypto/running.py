"""Hashes and MACs of messages that come in parts, which can be saved between any two parts.

hashlib keeps the state of a running hash to itself.  So the octets that came last are kept beside it, at most
KEPT of them, and what is older is in a chaining value (`compression`).  To be saved, a hash takes all whole
blocks into that; so what is saved is short.  One that was restored goes on from there without hashlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hwtpm.crypto import compression, hashes, ids, symmetric
from hwtpm.crypto.errors import OutOfRange

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

KEPT: Final = 16 * 1024
"""How many octets a running hash keeps at most.  Messages up to here cost what they cost with hashlib."""

_LONGEST: Final = 1 << 60  # octets; the shortest limit of a message is that of SHA-1 and SHA-256, 2**61


class HashState(NamedTuple):
    """A running hash: the *chaining* value over *taken* octets, whole blocks, and the octets after them.

    While none are taken, *chaining* is empty.
    """

    chaining: bytes
    taken: int
    rest: bytes


class RunningHash:
    """A hash with *alg* of what `update` was given so far."""

    __slots__ = ("_chaining", "_live", "_rest", "_taken", "alg")

    def __init__(self, alg: int) -> None:
        self.alg = alg
        self._live: Hash | None = hashes.new(alg)  # None after a restoration
        self._chaining, self._taken, self._rest = b"", 0, bytearray()

    def update(self, data: bytes) -> None:
        """*data* is the next part of the message."""
        if self._live is not None:
            self._live.update(data)
        self._rest += data
        if len(self._rest) > KEPT:
            self._take()

    def digest(self, data: bytes = b"") -> bytes:
        """Return the digest of the message with *data* as its last part; the hash stays as it is."""
        if self._live is not None:
            last = self._live.copy()
            last.update(data)
            return last.digest()
        rest = bytes(self._rest) + data
        return compression.finish(self.alg, self._chaining, rest, self._taken + len(rest))

    def _take(self) -> None:
        """All whole blocks are in the chaining value."""
        whole = len(self._rest) - len(self._rest) % hashes.block_size(self.alg)
        if whole:
            chaining = self._chaining or compression.start(self.alg)
            self._chaining = compression.compress(self.alg, chaining, bytes(self._rest[:whole]))
            self._taken += whole
            del self._rest[:whole]

    def save(self) -> HashState:
        """Return what `restore` makes this hash from."""
        self._take()
        return HashState(self._chaining, self._taken, bytes(self._rest))

    @classmethod
    def restore(cls, alg: int, state: HashState) -> RunningHash:
        """Return the hash that was saved; OutOfRange when *state* is not one of a hash with *alg*."""
        chaining, taken, rest = state
        block = hashes.block_size(alg)
        size = len(compression.start(alg)) if taken else 0
        if taken % block or taken > _LONGEST or len(rest) >= block or len(chaining) != size:
            raise OutOfRange("the state of a running hash")
        running = cls(alg)
        running.update(rest)
        if taken:
            running._live, running._chaining, running._taken = None, chaining, taken
        return running


class RunningHmac:
    """An HMAC (RFC 2104) with *key*, of any size.  `key` fills one block of the hash."""

    __slots__ = ("inner", "key")

    def __init__(self, alg: int, key: bytes) -> None:
        block = hashes.block_size(alg)
        self.key = (hashes.digest(alg, key) if len(key) > block else key).ljust(block, b"\0")
        self.inner = RunningHash(alg)
        self.inner.update(self.key.translate(hashes.INNER))

    def update(self, data: bytes) -> None:
        """*data* is the next part of the message."""
        self.inner.update(data)

    def digest(self, data: bytes = b"") -> bytes:
        """Return the MAC of the message with *data* as its last part; the MAC stays as it is."""
        return hashes.digest(self.inner.alg, self.key.translate(hashes.OUTER), self.inner.digest(data))

    @classmethod
    def restore(cls, key: bytes, inner: RunningHash) -> RunningHmac:
        """Return the HMAC with this `key` and `inner`; OutOfRange when they do not fit."""
        if len(key) != hashes.block_size(inner.alg):
            raise OutOfRange(f"an HMAC key of {len(key)} octets")
        running = cls(inner.alg, key)
        running.inner = inner
        return running


class RunningCmac:
    """A CMAC (SP 800-38B) with a block cipher."""

    __slots__ = ("_chaining", "_rest", "alg", "key")

    def __init__(self, alg: int, key: bytes, chaining: bytes = b"", rest: bytes = b"") -> None:
        """Go on from what `save` gave; without that, from the start.  OutOfRange for a wrong size."""
        self.alg, self.key = alg, key
        block = symmetric.block_size(alg)
        self._chaining, self._rest = chaining or bytes(block), rest
        if len(self._chaining) != block or len(rest) > block:
            raise OutOfRange("the state of a running CMAC")
        self._encrypt(b"")  # The cipher looks at the key.

    def _encrypt(self, blocks: bytes) -> bytes:
        """Return the last block of the CBC encryption of *blocks*; without one, what it goes on from."""
        return symmetric.encrypt(self.alg, ids.CBC, self.key, self._chaining, blocks)[1]

    def update(self, data: bytes) -> None:
        """*data* is the next part of the message."""
        # What may be the last block waits: it is treated in another way.
        held = self._rest + data
        whole = max(len(held) - 1, 0) // len(self._chaining) * len(self._chaining)
        self._chaining, self._rest = self._encrypt(held[:whole]), held[whole:]

    def digest(self, data: bytes = b"") -> bytes:
        """Return the CMAC of the message with *data* as its last part; the MAC stays as it is."""
        last = RunningCmac(self.alg, self.key, self._chaining, self._rest)
        last.update(data)
        return last._finish()

    def _finish(self) -> bytes:
        """Encrypt the last block after a subkey has been added (SP 800-38B, 6.1 and 6.2)."""
        block = len(self._chaining)
        modulus = 1 << 8 * block | (0x87 if block == symmetric.BLOCK else 0x1B)
        zeros = symmetric.encrypt(self.alg, ids.ECB, self.key, b"", bytes(block))[0]
        subkey = int.from_bytes(zeros, "big")
        for _ in range(1 if len(self._rest) == block else 2):
            subkey <<= 1
            if subkey >> 8 * block:
                subkey ^= modulus
        padded = self._rest if len(self._rest) == block else (self._rest + b"\x80").ljust(block, b"\0")
        return self._encrypt((int.from_bytes(padded, "big") ^ subkey).to_bytes(block, "big"))

    def save(self) -> tuple[bytes, bytes]:
        """Return the chaining value and the octets that wait, at most one block each."""
        return self._chaining, self._rest
