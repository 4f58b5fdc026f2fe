"""The random number generator of a TPM (TPM 2.0: Part 1, "RNG Module"; TPM 1.2: Part 1, 4.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hwtpm.crypto.drbg import CtrDrbg

_SEED: Final = 48 + 24  # octets of entropy and nonce (SP 800-90A, Table 3, AES-256)
_FORMAT: Final = 1
_STATE: Final = 48  # octets of a CTR_DRBG with AES-256
_AHEAD: Final = 1024  # octets generated at once: one call of the cipher costs as much as many blocks


class Random:
    """Random octets by call: ``random(size)``.  Not permanent state: each power-on draws fresh *entropy*."""

    TAG: Final = b"rand"

    __slots__ = ("_drbg", "_entropy", "_ready", "_used")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._drbg = CtrDrbg(entropy(_SEED))
        self._ready, self._used = b"", 0

    def __repr__(self) -> str:
        return "<Random>"

    def __call__(self, size: int) -> bytes:
        """Return *size* octets."""
        start = self._used
        end = start + size
        if end > len(self._ready):
            if size > _AHEAD:
                return self._drbg.generate(size)
            self._ready = self._drbg.generate(_AHEAD)
            start, end = 0, size
        self._used = end
        return self._ready[start:end]

    def stir(self, data: bytes) -> None:
        """Everything that is returned from now on depends on *data* as well, and on fresh entropy."""
        self._drbg.reseed(self._entropy(_SEED) + data)
        self._ready, self._used = b"", 0

    def save_live(self) -> bytes:
        """Return version and the state of the generator."""
        return bytes([_FORMAT]) + self._drbg.save()

    def restore_live(self, state: bytes) -> None:
        """Go on from what `save_live` gave, and from fresh entropy: as after `stir` with nothing.

        Whoever restores a state twice must not get two TPMs that use the same nonces.
        """
        if state[:1] != bytes([_FORMAT]) or len(state) != 1 + _STATE:
            raise ValueError("the state of a generator")
        self._drbg = CtrDrbg.restore(state[1:])
        self.stir(b"")
