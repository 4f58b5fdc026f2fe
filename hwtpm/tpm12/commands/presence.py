"""Physical presence and the establishment bit (Part 3, 6.6 and 6.7)."""

from __future__ import annotations

from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.presence import PhysicalPresence, ResetEstablishmentBit
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER
from hwtpm.tpm12.types.constants import (
    TPM_LOC_FOUR,
    TPM_LOC_THREE,
    TPM_PHYSICAL_PRESENCE_CMD_DISABLE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_PHYSICAL_PRESENCE_HW_DISABLE,
    TPM_PHYSICAL_PRESENCE_HW_ENABLE,
    TPM_PHYSICAL_PRESENCE_LIFETIME_LOCK,
    TPM_PHYSICAL_PRESENCE_LOCK,
    TPM_PHYSICAL_PRESENCE_NOTPRESENT,
    TPM_PHYSICAL_PRESENCE_PRESENT,
)

_LIFETIME: Final = (TPM_PHYSICAL_PRESENCE_LIFETIME_LOCK | TPM_PHYSICAL_PRESENCE_HW_ENABLE
                    | TPM_PHYSICAL_PRESENCE_CMD_ENABLE | TPM_PHYSICAL_PRESENCE_HW_DISABLE
                    | TPM_PHYSICAL_PRESENCE_CMD_DISABLE)
_ASSERTION: Final = (TPM_PHYSICAL_PRESENCE_LOCK | TPM_PHYSICAL_PRESENCE_PRESENT
                     | TPM_PHYSICAL_PRESENCE_NOTPRESENT)
_PERMANENT: Final = {  # what each bit makes of a permanent flag
    TPM_PHYSICAL_PRESENCE_HW_ENABLE: ("physical_presence_hw_enable", True),
    TPM_PHYSICAL_PRESENCE_HW_DISABLE: ("physical_presence_hw_enable", False),
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE: ("physical_presence_cmd_enable", True),
    TPM_PHYSICAL_PRESENCE_CMD_DISABLE: ("physical_presence_cmd_enable", False),
    TPM_PHYSICAL_PRESENCE_LIFETIME_LOCK: ("physical_presence_lifetime_lock", True),
}
_LIFETIME_CONFLICTS: Final = (
    TPM_PHYSICAL_PRESENCE_HW_ENABLE | TPM_PHYSICAL_PRESENCE_HW_DISABLE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE | TPM_PHYSICAL_PRESENCE_CMD_DISABLE,
)
_ASSERTION_CONFLICTS: Final = (
    TPM_PHYSICAL_PRESENCE_LOCK | TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_PHYSICAL_PRESENCE_PRESENT | TPM_PHYSICAL_PRESENCE_NOTPRESENT,
)


@handles
def physical_presence(tpm: Tpm, call: Call, cmd: PhysicalPresence) -> Empty:
    """Somebody is there or not, or a way to tell it is enabled or disabled for good.  Part 3, 6.6."""
    # Input Validation
    bits = cmd.physical_presence
    if bits & ~(_LIFETIME | _ASSERTION) or not bits or (bits & _LIFETIME and bits & _ASSERTION):
        raise TpmError(TPM_BAD_PARAMETER)
    if bits & _LIFETIME:
        _set_lifetime(tpm, bits)
    else:
        _set_assertion(tpm, bits)
    # Command Output
    return Empty()


def _set_lifetime(tpm: Tpm, bits: int) -> None:
    # Input Validation
    if tpm.flags.permanent.physical_presence_lifetime_lock or _conflict(bits, _LIFETIME_CONFLICTS):
        raise TpmError(TPM_BAD_PARAMETER)
    # Internal Data Update
    tpm.flags.set(**dict(change for bit, change in _PERMANENT.items() if bits & bit))


def _set_assertion(tpm: Tpm, bits: int) -> None:
    # Input Validation
    flags = tpm.flags.stclear
    if not tpm.flags.permanent.physical_presence_cmd_enable or flags.physical_presence_lock:
        raise TpmError(TPM_BAD_PARAMETER)
    if _conflict(bits, _ASSERTION_CONFLICTS):
        raise TpmError(TPM_BAD_PARAMETER)
    # Internal Data Update
    flags.physical_presence = int(bool(bits & TPM_PHYSICAL_PRESENCE_PRESENT))
    if bits & TPM_PHYSICAL_PRESENCE_LOCK:
        flags.physical_presence_lock = 1


def _conflict(bits: int, pairs: tuple[int, ...]) -> bool:
    return any(bits & pair == pair for pair in pairs)


@handles
def reset_establishment_bit(tpm: Tpm, call: Call, cmd: ResetEstablishmentBit) -> Empty:
    """The record of a dynamic launch is gone.  Part 3, 6.7."""
    # Input Validation
    tpm.require_locality(TPM_LOC_THREE | TPM_LOC_FOUR)
    # Internal Data Update
    tpm.flags.set(tpm_established=False)
    # Command Output
    return Empty()
