"""Hash, MAC and event sequences (Part 1, 29.4.6; Part 3, 17).

A sequence has one encoding, in a saved context as in the state of a running TPM.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final

from hwtpm.crypto.errors import CryptoError
from hwtpm.crypto.running import HashState, RunningCmac, RunningHash, RunningHmac
from hwtpm.tpm2.profile import HASH_COUNT, MAX_DIGEST_SIZE, MAX_SYM_BLOCK_SIZE, MAX_SYM_KEY_BYTES
from hwtpm.tpm2.types.base import UINT8, UINT16, UINT64
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.wire import SECRET, Arms, ListOf, On, Sized, Wire, decode, encode

_FORMAT: Final = 1
_HASH, _HMAC, _CMAC, _EVENT = range(1, 5)
_CHAINING: Final = 200  # octets at most, those of SHA-3
_BLOCK: Final = 136  # octets at most of an input block, those of SHA3-256
_SAFE: Final = (None, False, True)


class _Hash(Wire):
    """A running hash (`HashState`)."""

    alg: UINT16
    chaining: Annotated[bytes, Sized(_CHAINING, prefix="B"), SECRET]
    taken: UINT64
    rest: Annotated[bytes, Sized(_BLOCK, prefix="B"), SECRET]


class _HashPart(Wire):
    safe: UINT8  # which of _SAFE
    hash: _Hash


class _HmacPart(Wire):
    key: Annotated[bytes, Sized(_BLOCK, prefix="B"), SECRET]
    inner: _Hash


class _CmacPart(Wire):
    alg: UINT16
    key: Annotated[bytes, Sized(MAX_SYM_KEY_BYTES, prefix="B"), SECRET]
    chaining: Annotated[bytes, Sized(MAX_SYM_BLOCK_SIZE, prefix="B"), SECRET]
    rest: Annotated[bytes, Sized(MAX_SYM_BLOCK_SIZE, prefix="B"), SECRET]


class _EventPart(Wire):
    hashes: Annotated[list[_Hash], ListOf(HASH_COUNT, prefix="B")]


class _Encoded(Wire):
    version: UINT8
    kind: UINT8
    auth_value: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B"), SECRET]
    part: Annotated[
        Any, Arms({_HASH: _HashPart, _HMAC: _HmacPart, _CMAC: _CmacPart, _EVENT: _EventPart}), On("kind")]


class Sequence:
    """What every sequence shares with an object: a transient handle and an authValue.

    It has no Name, no policy and no dictionary attack protection.
    """

    is_sequence: ClassVar[bool] = True
    name: ClassVar[bytes] = b""
    hierarchy: ClassVar[int] = TPM_RH_NULL

    def __init__(self, auth_value: bytes) -> None:
        self.auth_value = auth_value.rstrip(b"\0")

    def update(self, data: bytes) -> None:
        """*data* is the next part of the message."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """Return everything that `decode_sequence` needs to go on from here, secrets included."""
        kind, part = self._part()
        return encode(_Encoded(_FORMAT, kind, self.auth_value, part))

    def _part(self) -> tuple[int, Wire]:
        raise NotImplementedError


class HashSequence(Sequence):
    """A running hash.

    `safe` tells whether the first block shows that the message does not start with TPM_GENERATED_VALUE; it
    is None before the first block.
    """

    def __init__(self, auth_value: bytes, running: RunningHash, safe: bool | None = None) -> None:
        super().__init__(auth_value)
        self._hash = running
        self.safe = safe

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def digest(self, data: bytes) -> bytes:
        """Return the digest of the message with *data* as its last part; the sequence stays as it is."""
        return self._hash.digest(data)

    def _part(self) -> tuple[int, Wire]:
        return _HASH, _HashPart(_SAFE.index(self.safe), _saved(self._hash))


class MacSequence(Sequence):
    """A running HMAC or CMAC."""

    def __init__(self, auth_value: bytes, running: RunningHmac | RunningCmac) -> None:
        super().__init__(auth_value)
        self._mac = running

    def update(self, data: bytes) -> None:
        self._mac.update(data)

    def digest(self, data: bytes) -> bytes:
        """Return the MAC of the message with *data* as its last part; the sequence stays as it is."""
        return self._mac.digest(data)

    def _part(self) -> tuple[int, Wire]:
        if isinstance(self._mac, RunningHmac):
            return _HMAC, _HmacPart(self._mac.key, _saved(self._mac.inner))
        return _CMAC, _CmacPart(self._mac.alg, self._mac.key, *self._mac.save())


class EventSequence(Sequence):
    """A running hash for each of some PCR banks."""

    def __init__(self, auth_value: bytes, running: Iterable[RunningHash]) -> None:
        super().__init__(auth_value)
        self._hashes = list(running)

    def update(self, data: bytes) -> None:
        for running in self._hashes:
            running.update(data)

    def digests(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return algorithm and digest of the event with *data* as its last part; the sequence stays."""
        return [(running.alg, running.digest(data)) for running in self._hashes]

    def _part(self) -> tuple[int, Wire]:
        return _EVENT, _EventPart([_saved(running) for running in self._hashes])


AnySequence = HashSequence | MacSequence | EventSequence


def _saved(running: RunningHash) -> _Hash:
    return _Hash(running.alg, *running.save())


def _restored(saved: _Hash) -> RunningHash:
    return RunningHash.restore(saved.alg, HashState(saved.chaining, saved.taken, saved.rest))


def decode_sequence(octets: bytes) -> AnySequence:
    """Return the sequence that `encode` described; raises TpmError or ValueError when it is no such thing."""
    found = decode(_Encoded, octets)
    if found.version != _FORMAT:
        raise ValueError(f"a sequence of version {found.version}")
    part = found.part
    try:
        if isinstance(part, _HashPart):
            return HashSequence(found.auth_value, _restored(part.hash), _SAFE[part.safe])
        if isinstance(part, _HmacPart):
            running = RunningHmac.restore(part.key, _restored(part.inner))
            return MacSequence(found.auth_value, running)
        if isinstance(part, _CmacPart):
            return MacSequence(found.auth_value, RunningCmac(part.alg, part.key, part.chaining, part.rest))
        return EventSequence(found.auth_value, map(_restored, part.hashes))
    except (CryptoError, IndexError):
        raise ValueError("the state of a sequence") from None
