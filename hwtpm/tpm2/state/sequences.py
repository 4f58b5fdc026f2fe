"""Hash, MAC and event sequences, loaded or saved (Part 1, 32.4; Part 3, 17).

hashlib keeps the state of a running hash to itself.  So a saved sequence stays in memory, in a `Parking`, and
its context blob carries the number of its place: it cannot be loaded after a loss of power.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from hwtpm.crypto import hashes
from hwtpm.tpm2.state.objects import Sequence

if TYPE_CHECKING:
    from hashlib import _Hash as Hash
    from hmac import HMAC

    from hwtpm.crypto.symmetric import Cmac

_PLACES: Final = 256


class HashSequence(Sequence):
    """A running hash with *alg*.

    `safe` tells whether the first block shows that the message does not start with TPM_GENERATED_VALUE; it
    is None before the first block.
    """

    def __init__(self, auth_value: bytes, alg: int) -> None:
        super().__init__(auth_value)
        self.alg = alg
        self.safe: bool | None = None
        self._hash: Hash = hashes.new(alg)

    def update(self, data: bytes) -> None:
        """*data* is the next part of the message."""
        self._hash.update(data)

    def digest(self, data: bytes) -> bytes:
        """Return the digest of the message with *data* as its last part; the sequence stays as it is."""
        last = self._hash.copy()
        last.update(data)
        return last.digest()

    def copy(self) -> HashSequence:
        """Return a sequence that goes on from here by itself."""
        twin = HashSequence(self.auth_value, self.alg)
        twin.safe, twin._hash = self.safe, self._hash.copy()
        return twin


class MacSequence(Sequence):
    """A running HMAC or CMAC."""

    def __init__(self, auth_value: bytes, running: HMAC | Cmac) -> None:
        super().__init__(auth_value)
        self._mac = running

    def update(self, data: bytes) -> None:
        """*data* is the next part of the message."""
        self._mac.update(data)

    def digest(self, data: bytes) -> bytes:
        """Return the MAC of the message with *data* as its last part; the sequence stays as it is."""
        last = self._mac.copy()
        last.update(data)
        return last.digest()

    def copy(self) -> MacSequence:
        """Return a sequence that goes on from here by itself."""
        return MacSequence(self.auth_value, self._mac.copy())


class EventSequence(Sequence):
    """A running hash with each of *algs*, for the PCR banks."""

    def __init__(self, auth_value: bytes, algs: Iterable[int]) -> None:
        super().__init__(auth_value)
        self._hashes: dict[int, Hash] = {alg: hashes.new(alg) for alg in algs}

    def update(self, data: bytes) -> None:
        """*data* is the next part of the event."""
        for running in self._hashes.values():
            running.update(data)

    def digests(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return algorithm and digest of the event with *data* as its last part; the sequence stays."""
        result = []
        for alg, running in self._hashes.items():
            last = running.copy()
            last.update(data)
            result.append((alg, last.digest()))
        return result

    def copy(self) -> EventSequence:
        """Return a sequence that goes on from here by itself."""
        twin = EventSequence(self.auth_value, ())
        twin._hashes = {alg: running.copy() for alg, running in self._hashes.items()}
        return twin


AnySequence = HashSequence | MacSequence | EventSequence


class Parking:
    """Where saved sequences wait, by number: _PLACES at most.

    When there are more, the oldest goes of which a later copy is kept.  A resource manager saves a sequence
    anew after every command that uses it, so one user with a long message would else take the places of
    all others.  Only if there is no such copy, the oldest of all goes.
    """

    def __init__(self) -> None:
        self._places: dict[int, AnySequence] = {}
        self._outdated: dict[int, None] = {}  # numbers with a later copy
        self._next = 1

    def park(self, sequence: AnySequence) -> int:
        """Keep a copy of *sequence* and return its number, which no other sequence had since power on."""
        number, self._next = self._next, self._next + 1
        if sequence.place in self._places:
            self._outdated[sequence.place] = None
        sequence.place = number
        self._places[number] = sequence.copy()
        if len(self._places) > _PLACES:
            going = next(iter(self._outdated or self._places))
            self._outdated.pop(going, None)
            del self._places[going]
        return number

    def unpark(self, number: int) -> AnySequence:
        """Return a new copy of the sequence; raises KeyError when it is not kept any more."""
        sequence = self._places[number].copy()
        sequence.place = number
        return sequence

    def clear(self) -> None:
        """No sequence is kept."""
        self._places.clear()
        self._outdated.clear()
