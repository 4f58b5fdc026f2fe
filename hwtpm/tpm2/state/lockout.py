"""Protection against dictionary attacks (Part 1, "Dictionary Attack Protection")."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import DA_LOCKOUT_RECOVERY, DA_MAX_TRIES, DA_RECOVERY_TIME
from hwtpm.tpm2.state.clock import Clock
from hwtpm.tpm2.state.owner import Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT32, UINT64
from hwtpm.tpm2.types.constants import TPM_RC_LOCKOUT
from hwtpm.wire import Wire, decode, encode


class _Permanent(Wire):
    version: UINT8
    failed_tries: UINT32
    max_tries: UINT32
    recovery_time: UINT32
    lockout_recovery: UINT32
    lockout_auth_enabled: UINT8


class _Live(Wire):
    version: UINT8
    heal_from: UINT64
    lockout_from: UINT64


class Lockout(Owner):
    """Counts failed authorizations of protected entities; times are seconds that the TPM has power."""

    TAG: ClassVar[bytes] = b"lock"

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._heal_from = 0  # Time in ms from which the next failure is forgiven
        self._lockout_from = 0  # Time in ms of the last failure of lockoutAuth
        self.defaults()

    def defaults(self) -> None:
        """The parameters and counts are those of a new TPM (Part 3, 24.6, TPM2_Clear)."""
        self.failed_tries = 0
        self.max_tries = DA_MAX_TRIES
        self.recovery_time = DA_RECOVERY_TIME
        self.lockout_recovery = DA_LOCKOUT_RECOVERY
        self.lockout_auth_enabled = True
        self.touch()

    def check(self, lockout_auth: bool) -> None:
        """Raise TPM_RC_LOCKOUT if authValues of protected entities, or lockoutAuth, cannot be used now."""
        self.heal()
        if not self.lockout_auth_enabled if lockout_auth else self.failed_tries >= self.max_tries:
            raise TpmError(TPM_RC_LOCKOUT)

    def failure(self, lockout_handle: bool) -> None:
        """Count a failed authorization, of lockoutAuth or of another protected entity."""
        if lockout_handle:
            self.lockout_auth_enabled = False
            self._lockout_from = self._clock.time_ms()
            self.touch()
        elif self.recovery_time:
            self.failed_tries += 1
            self._heal_from = self._clock.time_ms()
            self.touch()

    def reset(self) -> None:
        """No failures are counted (TPM2_DictionaryAttackLockReset).

        lockoutAuth can be used again: if it could not be, lockoutPolicy was used (Part 1, 16.8.5).
        """
        self.failed_tries = 0
        self.lockout_auth_enabled = True
        self.touch()

    def set_parameters(self, max_tries: int, recovery_time: int, lockout_recovery: int) -> None:
        """Set the parameters (TPM2_DictionaryAttackParameters); times are seconds."""
        self.max_tries, self.recovery_time, self.lockout_recovery = max_tries, recovery_time, lockout_recovery
        self.touch()

    def in_lockout(self) -> bool:
        """Tell whether protected authValues cannot be used now."""
        self.heal()
        return self.failed_tries >= self.max_tries

    def heal(self) -> None:
        """Forgive a failure for each recoveryTime that has passed, and lockoutAuth after lockoutRecovery."""
        now = self._clock.time_ms()
        if self.failed_tries:
            if not self.recovery_time:
                self.failed_tries = 0
                self.touch()
            else:
                forgiven = (now - self._heal_from) // 1000 // self.recovery_time
                if forgiven > 0:
                    self.failed_tries = max(0, self.failed_tries - forgiven)
                    self._heal_from += forgiven * self.recovery_time * 1000
                    self.touch()
        if (not self.lockout_auth_enabled and self.lockout_recovery
                and (now - self._lockout_from) // 1000 >= self.lockout_recovery):
            self.lockout_auth_enabled = True
            self.touch()

    def startup(self, start: Start) -> None:
        """The times begin anew; a lockoutRecovery of zero asks for a restart, and this is one."""
        self._heal_from = self._lockout_from = self._clock.time_ms()
        if not self.lockout_auth_enabled and not self.lockout_recovery:
            self.lockout_auth_enabled = True
            self.touch()

    def save(self) -> bytes:
        """Return version, count, parameters and whether lockoutAuth can be used."""
        return encode(_Permanent(1, self.failed_tries, self.max_tries, self.recovery_time,
                                 self.lockout_recovery, int(self.lockout_auth_enabled)))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != 1:
            raise ValueError(f"lockout state of version {found.version}")
        self.failed_tries, self.max_tries = found.failed_tries, found.max_tries
        self.recovery_time, self.lockout_recovery = found.recovery_time, found.lockout_recovery
        self.lockout_auth_enabled = bool(found.lockout_auth_enabled)

    def save_live(self) -> bytes:
        """Return version and the Times from which failures are forgiven."""
        return encode(_Live(1, self._heal_from, self._lockout_from))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave."""
        found = decode(_Live, state)
        if found.version != 1:
            raise ValueError(f"lockout state of version {found.version}")
        if max(found.heal_from, found.lockout_from) > self._clock.time_ms():
            raise ValueError("a failure that is to come")
        self._heal_from, self._lockout_from = found.heal_from, found.lockout_from
