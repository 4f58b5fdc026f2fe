"""Ephemeral keys of operations in two steps: TPM2_Commit and TPM2_EC_Ephemeral (Part 1, 44.2).

No key is kept.  Each is derived from its number, a nonce, and the Name of the key that it belongs to;
an array of bits tells which of the last SPLIT_MAX numbers have not been used up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Final

from hwtpm.crypto.kdf import kdfa
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import SPLIT_MAX
from hwtpm.tpm2.state.owner import Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT64
from hwtpm.tpm2.types.constants import TPM_RC_RANGE, TPM_RC_VALUE
from hwtpm.wire import RC_VALUE, SECRET, Fixed, Wire, decode, encode

_FORMAT: Final = 1
_NONCE: Final = 64  # octets: twice the security strength of any curve
_COUNTERS: Final = 1 << 16
_LABEL: Final = b"ECDAA Commit\0"


class _Volatile(Wire):
    version: UINT8
    nonce: Annotated[bytes, Fixed(_NONCE), SECRET]
    count: UINT64
    pending: Annotated[bytes, Fixed(SPLIT_MAX // 8)]


class Commits(Owner):
    """`count` is the number of the next ephemeral key.  *random* gives that many random octets.

    All is volatile and lives through TPM Restart and TPM Resume; a TPM Reset starts from zero with a new
    nonce, so that no number of before names a key.
    """

    TAG: ClassVar[bytes] = b"CMIT"

    def __init__(self, random: Callable[[int], bytes]) -> None:
        super().__init__()
        self._random = random
        self._nonce = random(_NONCE)
        self._pending = 0
        self.count = 0

    def scalar(self, alg: int, name: bytes, order: int, number: int | None = None) -> int:
        """Return the private scalar of key *number*, by default the next one (equation 60).

        It belongs to the key of that Name, empty for none, and to the curve of that order; *alg* is the hash
        of the derivation.  It is zero with a negligible probability.
        """
        bits = -(-order.bit_length() // 8) * 8
        counted = (self.count if number is None else number).to_bytes(8, "big")
        return int.from_bytes(kdfa(alg, self._nonce, _LABEL, name, counted, bits), "big") % order

    def commit(self) -> int:
        """The next key is pending; return the low-order 16 bits of its number."""
        number = self.count
        self._pending |= 1 << number % SPLIT_MAX
        self.count += 1
        return number % _COUNTERS

    def pending(self, counter: int) -> int:
        """Return the number of the pending key that `commit` returned *counter* for (Part 1, 44.2.5).

        TPM_RC_RANGE: the counter is none of the last SPLIT_MAX; TPM_RC_VALUE: its key has been used.
        """
        behind = (self.count - counter) % _COUNTERS
        if not 0 < behind <= min(SPLIT_MAX, self.count):
            raise TpmError(TPM_RC_RANGE)
        if not self._pending >> counter % SPLIT_MAX & 1:
            raise TpmError(TPM_RC_VALUE)
        return self.count - behind

    def retire(self, counter: int) -> None:
        """The key of *counter* is used up."""
        self._pending &= ~(1 << counter % SPLIT_MAX)

    def save(self) -> bytes:
        return bytes([_FORMAT])

    def restore(self, state: bytes) -> None:
        if state != bytes([_FORMAT]):
            raise ValueError("commitments of another version")

    def save_volatile(self) -> bytes:
        pending = self._pending.to_bytes(SPLIT_MAX // 8, "big")
        return encode(_Volatile(_FORMAT, self._nonce, self.count, pending))

    def restore_volatile(self, state: bytes) -> None:
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise TpmError(RC_VALUE)
        self._nonce, self.count = found.nonce, found.count
        self._pending = int.from_bytes(found.pending, "big")

    def startup(self, start: Start) -> None:
        if start is Start.RESET:
            self._nonce, self.count, self._pending = self._random(_NONCE), 0, 0
