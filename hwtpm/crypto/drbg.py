"""A deterministic random bit generator.

CTR_DRBG with AES-256 and the derivation function (SP 800-90A Rev. 1, 10.2.1 and 10.3.2).  Of the
approved mechanisms it is the fastest from Python: the output and the next state are one stretch
of key stream, which is one call of the cipher.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR

from hwtpm.crypto.errors import OutOfRange

_KEY: Final = 32
_BLOCK: Final = 16
_SEED: Final = _KEY + _BLOCK
_REQUEST: Final = 1 << 16  # Octets in one request at most (SP 800-90A, Table 3).
_ZEROS: Final = bytes(_SEED)


def _cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    return Cipher(AES(key), CBC(iv)).encryptor().update(data)


def _condense(material: bytes) -> bytes:
    """Return 48 octets made of all of *material* (SP 800-90A, 10.3.2: Block_Cipher_df)."""
    text = len(material).to_bytes(4, "big") + _SEED.to_bytes(4, "big") + material + b"\x80"
    text = text.ljust(-(-len(text) // _BLOCK) * _BLOCK, b"\0")
    fixed = bytes(range(_KEY))
    start = bytes(_BLOCK)
    # BCC is the last block of CBC encryption under a zero IV.
    chained = b"".join(
        _cbc(fixed, start, i.to_bytes(4, "big").ljust(_BLOCK, b"\0") + text)[-_BLOCK:] for i in range(3)
    )
    # Encrypting the last output over and over is CBC encryption of zeros.
    return _cbc(chained[:_KEY], chained[_KEY:], _ZEROS)


class CtrDrbg:
    """One instance; the same seed material and the same calls give the same octets."""

    __slots__ = ("_counter", "_key")

    def __init__(self, seed_material: bytes) -> None:
        """Instantiate; *seed_material* is entropy, nonce and personalization string, one after another."""
        self._key = bytes(_KEY)
        self._counter = 0
        self._update(_condense(seed_material))

    def __repr__(self) -> str:
        return "<CTR_DRBG>"

    def _stream(self, count: int) -> bytes:
        """Return *count* blocks of the key stream after the counter, and move the counter."""
        first = (self._counter + 1) & ((1 << 128) - 1)
        self._counter = (self._counter + count) & ((1 << 128) - 1)
        return (
            Cipher(AES(self._key), CTR(first.to_bytes(_BLOCK, "big")))
            .encryptor()
            .update(bytes(count * _BLOCK))
        )

    def _become(self, state: bytes) -> None:
        self._key = state[:_KEY]
        self._counter = int.from_bytes(state[_KEY:], "big")

    def _update(self, provided: bytes) -> None:
        """Mix 48 octets into the state (SP 800-90A, 10.2.1.2)."""
        stream = int.from_bytes(self._stream(_SEED // _BLOCK), "big")
        self._become((stream ^ int.from_bytes(provided, "big")).to_bytes(_SEED, "big"))

    def reseed(self, data: bytes) -> None:
        """Mix *data* of any size into the state: entropy, then additional input (10.2.1.4.2)."""
        self._update(_condense(data))

    def generate(self, size: int) -> bytes:
        """Return *size* octets (10.2.1.5.2, without additional input); beyond 65536 as several requests."""
        if size > _REQUEST:
            return b"".join(self.generate(min(_REQUEST, size - at)) for at in range(0, size, _REQUEST))
        count = -(-size // _BLOCK)
        stream = self._stream(count + _SEED // _BLOCK)
        self._become(stream[count * _BLOCK :])
        return stream[:size]

    def save(self) -> bytes:
        """Return the state, 48 octets that are as secret as every future output."""
        return self._key + self._counter.to_bytes(_BLOCK, "big")

    @classmethod
    def restore(cls, state: bytes) -> CtrDrbg:
        """Return an instance that continues where `save` was called; OutOfRange unless 48 octets."""
        if len(state) != _SEED:
            raise OutOfRange(f"a generator state of {len(state)} octets")
        drbg = cls.__new__(cls)
        drbg._become(state)
        return drbg
