"""The owner of permanent and volatile flags (Part 2, 7.1 to 7.3)."""

from __future__ import annotations

from typing import ClassVar, Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_BOOL, UINT8, UINT32
from hwtpm.tpm12.types.codes import TPM_BAD_PRESENCE
from hwtpm.tpm12.types.flags import TPM_PERMANENT_FLAGS, TPM_STCLEAR_FLAGS
from hwtpm.wire import Wire, decode, encode

_FORMAT: Final = 1


class _Permanent(Wire):
    version: UINT8
    flags: TPM_PERMANENT_FLAGS


class _Volatile(Wire):
    version: UINT8
    flags: TPM_STCLEAR_FLAGS
    tos_present: TPM_BOOL
    deferred_physical_presence: UINT32


class Flags(Owner):
    """`permanent` is changed by `set` only; `stclear` and the others freely.

    `hardware_presence` is the platform's signal that somebody is there, `tos_present` a member of
    TPM_STANY_FLAGS, `deferred_physical_presence` one of TPM_STCLEAR_DATA.
    """

    TAG: ClassVar[bytes] = b"flag"

    def __init__(self) -> None:
        super().__init__()
        self.permanent = TPM_PERMANENT_FLAGS()
        self.stclear = TPM_STCLEAR_FLAGS()
        self.tos_present = False
        self.deferred_physical_presence = 0
        self.hardware_presence = False

    def set(self, **values: bool | int) -> None:
        """The permanent flags named have these values."""
        for name, value in values.items():
            if getattr(self.permanent, name) != value:
                setattr(self.permanent, name, int(value))
                self.touch()

    @property
    def physical_presence(self) -> bool:
        """Tell whether somebody is there, by command or by signal where those are enabled (Part 1, 10)."""
        by_command = self.permanent.physical_presence_cmd_enable and self.stclear.physical_presence
        by_signal = self.permanent.physical_presence_hw_enable and self.hardware_presence
        return bool(by_command or by_signal)

    def require_presence(self) -> None:
        """Raise TPM_BAD_PRESENCE unless somebody is there."""
        if not self.physical_presence:
            raise TpmError(TPM_BAD_PRESENCE)

    def owner_clear(self, *, revoke: bool = False) -> None:
        """The flags have the values of a TPM without an owner (Part 3, 6.2 and 14.3)."""
        self.set(disable=True, deactivated=True, read_pubek=True, disable_owner_clear=False,
                 disable_full_da_logic_info=False, allow_maintenance=True, read_srk_pub=False,
                 ownership=True, operator=False, maintenance_done=False)
        if revoke:
            self.set(nv_locked=False, cekp_used=False)
        self.deferred_physical_presence = 0

    def startup(self, start: Start) -> None:
        """Flags of STANY are reset, those of STCLEAR unless a saved state was resumed."""
        self.tos_present = False
        if start is not Start.STATE:
            self.stclear = TPM_STCLEAR_FLAGS(deactivated=self.permanent.deactivated)
            self.deferred_physical_presence = 0
        if start is Start.DEACTIVATED:
            self.stclear.deactivated = 1

    def save(self) -> bytes:
        """Return version and TPM_PERMANENT_FLAGS."""
        return encode(_Permanent(_FORMAT, self.permanent))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"flags of version {found.version}")
        self.permanent = found.flags

    def save_volatile(self) -> bytes:
        """Return version, TPM_STCLEAR_FLAGS and the others."""
        return encode(_Volatile(_FORMAT, self.stclear, self.tos_present, self.deferred_physical_presence))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"volatile flags of version {found.version}")
        self.stclear, self.tos_present = found.flags, bool(found.tos_present)
        self.deferred_physical_presence = found.deferred_physical_presence
