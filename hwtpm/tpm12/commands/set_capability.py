"""Setting flags and data of the TPM (Part 3, 7.2; Part 2, 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_owner
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.capability import SetCapability
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAMETER,
    TPM_BAD_PRESENCE,
    TPM_DEACTIVATED,
    TPM_DISABLED,
    TPM_OWNER_SET,
)


class _Asked(NamedTuple):
    """A value that somebody wants to set; *owner* tells whether he is the owner."""

    tpm: Tpm
    owner: bool
    value: int


_Check = Callable[[_Asked], None]


def _refuse_unless(condition: object, rc: int) -> None:
    if not condition:
        raise TpmError(rc)


def _owner(asked: _Asked) -> None:
    _refuse_unless(asked.owner, TPM_AUTHFAIL)


def _present(asked: _Asked) -> None:
    _refuse_unless(asked.tpm.flags.physical_presence, TPM_AUTHFAIL)


def _owner_or_present(asked: _Asked) -> None:
    _refuse_unless(asked.owner or asked.tpm.flags.physical_presence, TPM_AUTHFAIL)


def _no_owner(asked: _Asked) -> None:
    _refuse_unless(not asked.tpm.permanent.owner_installed, TPM_OWNER_SET)


def _enabled(asked: _Asked) -> None:
    _refuse_unless(not asked.tpm.flags.permanent.disable, TPM_DISABLED)


def _active(asked: _Asked) -> None:
    _refuse_unless(not asked.tpm.flags.stclear.deactivated, TPM_DEACTIVATED)


def _to_true(asked: _Asked) -> None:
    _refuse_unless(asked.value, TPM_BAD_PARAMETER)


def _to_false(asked: _Asked) -> None:
    _refuse_unless(not asked.value, TPM_BAD_PARAMETER)


def _trusted_locality(asked: _Asked) -> None:
    asked.tpm.require_locality(c.TPM_LOC_THREE | c.TPM_LOC_FOUR)


def _present_or_fewer_bits(asked: _Asked) -> None:
    new = asked.value & ~asked.tpm.flags.deferred_physical_presence
    _refuse_unless(not new or asked.tpm.flags.physical_presence, TPM_BAD_PRESENCE)


def _permanent(name: str) -> Callable[[Tpm, int], None]:
    return lambda tpm, value: tpm.flags.set(**{name: value})


def _disable_force_clear(tpm: Tpm, value: int) -> None:
    tpm.flags.stclear.disable_force_clear = value


def _tos_present(tpm: Tpm, value: int) -> None:
    tpm.flags.tos_present = bool(value)


def _deferred_presence(tpm: Tpm, value: int) -> None:
    tpm.flags.deferred_physical_presence = value


def _restrict_delegate(tpm: Tpm, value: int) -> None:
    tpm.permanent.set(restrict_delegate=value)


def _daa_proof(tpm: Tpm, value: int) -> None:
    tpm.permanent.renew_daa_secrets(tpm.random)


class _Rule(NamedTuple):
    """What may be set: the size of the value (None for any), the checks in their order, and how it is set."""

    size: int | None
    checks: tuple[_Check, ...]
    apply: Callable[[Tpm, int], None]


_RULES: Final[dict[tuple[int, int], _Rule]] = {
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_DISABLE): _Rule(1, (_owner_or_present,), _permanent("disable")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_OWNERSHIP):
        _Rule(1, (_no_owner, _present, _enabled, _active), _permanent("ownership")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_DEACTIVATED): _Rule(1, (_present, _enabled), _permanent("deactivated")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_READPUBEK):
        _Rule(1, (_owner, _enabled, _active), _permanent("read_pubek")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_DISABLEOWNERCLEAR):
        _Rule(1, (_owner, _to_true, _enabled, _active), _permanent("disable_owner_clear")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_ALLOWMAINTENANCE):
        _Rule(1, (_owner, _to_false, _enabled, _active), _permanent("allow_maintenance")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_READSRKPUB):
        _Rule(1, (_owner, _enabled, _active), _permanent("read_srk_pub")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_TPMESTABLISHED):
        _Rule(1, (_trusted_locality, _to_false), _permanent("tpm_established")),
    (c.TPM_SET_PERM_FLAGS, c.TPM_PF_DISABLEFULLDALOGICINFO):
        _Rule(1, (_owner,), _permanent("disable_full_da_logic_info")),
    (c.TPM_SET_PERM_DATA, c.TPM_PD_RESTRICTDELEGATE):
        _Rule(4, (_owner, _enabled, _active), _restrict_delegate),
    (c.TPM_SET_PERM_DATA, c.TPM_PD_DAAPROOF): _Rule(None, (_owner, _enabled, _active), _daa_proof),
    (c.TPM_SET_STCLEAR_FLAGS, c.TPM_SF_DISABLEFORCECLEAR):
        _Rule(1, (_enabled, _active, _to_true), _disable_force_clear),
    (c.TPM_SET_STCLEAR_DATA, c.TPM_SD_DEFERREDPHYSICALPRESENCE):
        _Rule(4, (_present_or_fewer_bits,), _deferred_presence),
    (c.TPM_SET_STANY_FLAGS, c.TPM_AF_TOSPRESENT):
        _Rule(1, (_trusted_locality, _enabled, _active, _to_false), _tos_present),
}


@handles
def set_capability(tpm: Tpm, call: Call, cmd: SetCapability) -> Empty:
    """The flag or the datum has that value, if there is a rule by which it may.  Part 3, 7.2.

    TPM_BAD_PARAMETER for what nobody may set, and for a value of the wrong form.
    """
    # Input Validation
    if call.authorizations:
        authorize_owner(tpm, call)
    rule = _RULES.get((cmd.cap_area, int.from_bytes(cmd.sub_cap, "big"))) if len(cmd.sub_cap) == 4 else None
    if rule is None or rule.size not in (None, len(cmd.set_value)):
        raise TpmError(TPM_BAD_PARAMETER)
    value = int.from_bytes(cmd.set_value, "big")
    if rule.size == 1 and value > 1:
        raise TpmError(TPM_BAD_PARAMETER)
    asked = _Asked(tpm, bool(call.authorizations), value)
    for check in rule.checks:
        check(asked)
    # Internal Data Update
    rule.apply(tpm, value)
    # Command Output
    return Empty()
