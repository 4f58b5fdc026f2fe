"""Monotonic counters (Part 1, 17; Part 2, 7.4 and 7.5)."""

from __future__ import annotations

from hashlib import sha1
from typing import Annotated, ClassVar, Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import COUNTERS
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_BOOL, TPM_SECRET, UINT8, UINT32
from hwtpm.tpm12.types.codes import TPM_BAD_COUNTER, TPM_RESOURCES
from hwtpm.tpm12.types.counter import COUNT_ID_ILLEGAL, COUNT_ID_NULL, TPM_COUNTER_LABEL, TPM_COUNTER_VALUE
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1


class Counter(Wire):
    """One counter.  A released one keeps its value, so that no later counter starts below it."""

    valid: TPM_BOOL
    label: TPM_COUNTER_LABEL
    counter: UINT32
    auth_data: TPM_SECRET

    @property
    def digest(self) -> bytes:
        """What tells the counter from others in an OSAP session."""
        return sha1(self.label + self.auth_data).digest()

    @property
    def public(self) -> TPM_COUNTER_VALUE:
        """What everybody may see of it."""
        return TPM_COUNTER_VALUE(self.label, self.counter)


class _Permanent(Wire):
    version: UINT8
    counters: Annotated[list[Counter], ListOf(COUNTERS, least=COUNTERS)]


class _Volatile(Wire):
    version: UINT8
    active: UINT32


class Counters(Owner):
    """The counters by their number, which is the countID.

    `active` is the only one that can be incremented until the next TPM_Startup(ST_CLEAR); COUNT_ID_NULL while
    none has been chosen, COUNT_ID_ILLEGAL when it has been released.
    """

    TAG: ClassVar[bytes] = b"cntr"

    def __init__(self) -> None:
        super().__init__()
        self._counters = [Counter(0, bytes(4), 0, bytes(20)) for _ in range(COUNTERS)]
        self.active = COUNT_ID_NULL

    @property
    def created(self) -> list[int]:
        """The numbers of the counters that there are."""
        return [number for number, counter in enumerate(self._counters) if counter.valid]

    def get(self, count_id: int) -> Counter:
        """Return the counter; TPM_BAD_COUNTER if there is none."""
        if count_id >= COUNTERS or not self._counters[count_id].valid:
            raise TpmError(TPM_BAD_COUNTER)
        return self._counters[count_id]

    def require_space(self) -> None:
        """Raise TPM_RESOURCES unless another counter can be created."""
        if len(self.created) == COUNTERS:
            raise TpmError(TPM_RESOURCES)

    def create(self, label: bytes, auth_data: bytes) -> int:
        """Return the number of a new counter, whose value is above that of every other (Part 3, 25.1)."""
        self.require_space()
        number = next(i for i, counter in enumerate(self._counters) if not counter.valid)
        value = max(counter.counter for counter in self._counters) + 1
        self._counters[number] = Counter(1, label, value, auth_data)
        self.touch()
        return number

    def increment(self, count_id: int) -> Counter:
        """The counter has one more, and is the active one."""
        counter = self._counters[count_id]
        counter.counter = (counter.counter + 1) & 0xFFFFFFFF
        self.active = count_id
        self.touch()
        return counter

    def release(self, count_id: int) -> None:
        """There is no such counter any more."""
        counter = self._counters[count_id]
        self._counters[count_id] = Counter(0, bytes(4), counter.counter, bytes(20))
        if self.active == count_id:
            self.active = COUNT_ID_ILLEGAL
        self.touch()

    def owner_clear(self, *, revoke: bool = False) -> None:
        """There are no counters."""
        for number in self.created:
            self.release(number)

    def startup(self, start: Start) -> None:
        """No counter has been chosen, unless a saved state was resumed."""
        if start is not Start.STATE:
            self.active = COUNT_ID_NULL

    def save(self) -> bytes:
        """Return version and all counters, released ones too."""
        return encode(_Permanent(_FORMAT, self._counters))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"counters of version {found.version}")
        self._counters = found.counters

    def save_volatile(self) -> bytes:
        """Return version and the active counter."""
        return encode(_Volatile(_FORMAT, self.active))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"active counter of version {found.version}")
        self.active = found.active
