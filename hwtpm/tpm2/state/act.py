"""Authenticated countdown timers (Part 1, 40)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.tpm2.profile import ACT_COUNT, MAX_DIGEST_SIZE
from hwtpm.tpm2.state.clock import Clock
from hwtpm.tpm2.state.owner import FLAG, Owner, Start
from hwtpm.tpm2.types.attributes import TPMA_ACT_PRESERVESIGNALED, TPMA_ACT_SIGNALED
from hwtpm.tpm2.types.base import UINT8, UINT16, UINT32, UINT64
from hwtpm.tpm2.types.constants import TPM_ALG_NULL
from hwtpm.tpm2.types.handles import TPM_RH_ACT_0
from hwtpm.tpm2.types.structures import TPMS_ACT_DATA
from hwtpm.wire import ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
STOP: Final = 0xFFFFFFFF  # the timeout that silences a timer that has signaled


class _Saved(Wire):
    timeout: UINT32
    attributes: UINT32
    policy_alg: UINT16
    policy: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]


class _Volatile(Wire):
    version: UINT8
    timers: Annotated[list[_Saved], ListOf(ACT_COUNT, prefix="B")]


class _Running(Wire):
    start: UINT64
    timeout: UINT32
    signaled: FLAG
    preserved: FLAG
    updated: FLAG
    policy_alg: UINT16
    policy: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]


class _Live(Wire):
    version: UINT8
    timers: Annotated[list[_Running], ListOf(ACT_COUNT, prefix="B")]


class _Timer:
    """One timer; *clock* gives the time that it counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = 0  # Time in ms when `_timeout` was set
        self._timeout = 0
        self._signaled = False
        self.preserved = False  # it had signaled before a TPM Resume
        self.updated = False  # TPM2_ACT_SetTimeout was used since the Startup
        self.policy: tuple[int, bytes] = (TPM_ALG_NULL, b"")

    @property
    def remaining(self) -> int:
        """The seconds left; zero when the timer does not count."""
        if not self._timeout:
            return 0
        left = self._timeout - (self._clock.time_ms() - self._start) // 1000
        if left > 0:
            return left
        self._timeout = 0
        self._signaled = True
        return 0

    @property
    def signaled(self) -> bool:
        """It has counted down to zero."""
        return not self.remaining and self._signaled

    def count(self, timeout: int) -> None:
        """The timer has *timeout* seconds left and goes on counting."""
        self._start, self._timeout = self._clock.time_ms(), timeout

    def set(self, timeout: int) -> None:
        """The four cases of Part 3, 33.2, and that *timeout* is STOP."""
        before, signaled = self.remaining, self._signaled
        if timeout == STOP and not before and signaled:
            timeout, signaled = 0, False
        elif timeout:
            signaled = False
        elif before:
            signaled = True
        self._signaled = signaled
        self.preserved, self.updated = False, True
        self.count(timeout)

    def attributes(self) -> int:
        """Return the TPMA_ACT."""
        return (TPMA_ACT_SIGNALED if self.signaled else 0) | (
            TPMA_ACT_PRESERVESIGNALED if self.preserved else 0)

    def saved(self) -> _Saved:
        """Return what a Shutdown keeps: half the time if nobody has set it since the Startup (Part 1, 40.2).

        A timer is not halved to zero, which would silence it.
        """
        timeout = self.remaining
        if not self.updated and timeout > 1:
            timeout //= 2
        return _Saved(timeout, self.attributes(), *self.policy)

    def resume(self, saved: _Saved) -> None:
        """Go on from what `saved` gave."""
        self._signaled = self.preserved = bool(saved.attributes & TPMA_ACT_SIGNALED)
        self.policy = (saved.policy_alg, saved.policy)
        self.count(saved.timeout)

    def running(self) -> _Running:
        """Return all of the timer as it is."""
        return _Running(self._start, self._timeout, self._signaled, self.preserved, self.updated,
                        *self.policy)

    def go_on(self, running: _Running) -> None:
        """Go on from what `running` gave."""
        self._start, self._timeout = running.start, running.timeout
        self._signaled, self.preserved = bool(running.signaled), bool(running.preserved)
        self.updated = bool(running.updated)
        self.policy = (running.policy_alg, running.policy)


class Timers(Owner):
    """ACT_COUNT timers from TPM_RH_ACT_0 on; nothing of them is permanent, a TPM Resume keeps them."""

    TAG: ClassVar[bytes] = b"acts"
    HANDLES: ClassVar[range] = range(TPM_RH_ACT_0, TPM_RH_ACT_0 + ACT_COUNT)

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._timers = [_Timer(clock) for _ in range(ACT_COUNT)]
        self._kept = b""  # what save_volatile gives until something but the passage of time changes

    def _get(self, handle: int) -> _Timer:
        return self._timers[handle - TPM_RH_ACT_0]

    def data(self, handle: int) -> TPMS_ACT_DATA:
        """Return handle, seconds left and TPMA_ACT of the timer."""
        timer = self._get(handle)
        return TPMS_ACT_DATA(handle, timer.remaining, timer.attributes())

    def signaled(self, handle: int) -> bool:
        """Tell whether the timer has counted down to zero."""
        return self._get(handle).signaled

    def set_timeout(self, handle: int, timeout: int) -> None:
        """The timer counts down from *timeout* seconds (Part 3, 33.2)."""
        self._get(handle).set(timeout)
        self._kept = b""

    def policy(self, handle: int) -> tuple[int, bytes]:
        """Return hash algorithm and digest of the policy; (TPM_ALG_NULL, empty) if there is none."""
        return self._get(handle).policy

    def set_policy(self, handle: int, alg: int, digest: bytes) -> None:
        """Set the policy; TPM_ALG_NULL and an empty digest remove it."""
        self._get(handle).policy = (alg, digest)
        self._kept = b""

    def shutdown(self) -> None:
        """The times left are taken anew for the Shutdown to come."""
        self._kept = b""

    def startup(self, start: Start) -> None:
        """Only a TPM Resume keeps timers, signals and policies."""
        if start is not Start.RESUME:
            self._timers = [_Timer(self._clock) for _ in range(ACT_COUNT)]
        for timer in self._timers:
            timer.updated = False
        self._kept = b""

    def save(self) -> bytes:
        """Return the version: nothing of a timer is permanent."""
        return bytes([_FORMAT])

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        if state != bytes([_FORMAT]):
            raise ValueError("timers of another version")

    def save_volatile(self) -> bytes:
        """Return version and each timer's time left, attributes and policy.

        A Shutdown counts although time passes (Part 1, 40.2), so the time left is that of the Shutdown.
        """
        if not self._kept:
            self._kept = encode(_Volatile(_FORMAT, [timer.saved() for timer in self._timers]))
        return self._kept

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave; the timers count from now."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT or len(found.timers) != ACT_COUNT:
            raise ValueError(f"timers of version {found.version}")
        for timer, saved in zip(self._timers, found.timers, strict=True):
            timer.resume(saved)
        self._kept = state

    def save_live(self) -> bytes:
        """Return version and each timer as it is, with no time of a Shutdown's."""
        return encode(_Live(_FORMAT, [timer.running() for timer in self._timers]))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave."""
        found = decode(_Live, state)
        if found.version != _FORMAT or len(found.timers) != ACT_COUNT:
            raise ValueError(f"timers of version {found.version}")
        if any(running.start > self._clock.time_ms() for running in found.timers):
            raise ValueError("a timer that starts later")
        for timer, running in zip(self._timers, found.timers, strict=True):
            timer.go_on(running)
