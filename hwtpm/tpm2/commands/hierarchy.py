"""Hierarchy commands (Part 3, 24); TPM2_CreatePrimary is in `primary`."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_SIZE
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.hierarchy import (
    ChangeEPS,
    ChangePPS,
    Clear,
    ClearControl,
    HierarchyChangeAuth,
    HierarchyControl,
    ReadOnlyControl,
    SetPrimaryPolicy,
)
from hwtpm.tpm2.types.base import YES
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_RC_AUTH_FAIL,
    TPM_RC_AUTH_TYPE,
    TPM_RC_DISABLED,
    TPM_RC_SIZE,
)
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
    TPM_RH_PLATFORM_NV,
)

_PLATFORM_ENABLES: Final = (TPM_RH_PLATFORM, TPM_RH_PLATFORM_NV)


@handles
def hierarchy_control(tpm: Tpm, cmd: HierarchyControl) -> Empty:
    """The enable is SET, or CLEAR and the objects of the hierarchy flushed.  Part 3, 24.2.

    TPM_RC_AUTH_TYPE: the authority may not change this enable, or not in this direction.
    """
    # Input Validation
    enable, state = cmd.enable, cmd.state == YES
    if cmd.auth_handle != TPM_RH_PLATFORM:
        if enable in _PLATFORM_ENABLES or cmd.auth_handle != enable:
            raise TpmError(TPM_RC_AUTH_TYPE)
        if state and not tpm.hierarchies.enabled(enable):
            raise TpmError(TPM_RC_AUTH_TYPE)
    # Internal Data Update
    if enable == TPM_RH_PLATFORM_NV:
        tpm.hierarchies.ph_enable_nv = state
    else:
        if not state and tpm.hierarchies.enabled(enable):
            tpm.objects.flush_hierarchy(enable)
        tpm.hierarchies.set_enabled(enable, state)
    # Command Output
    return Empty()


@handles
def set_primary_policy(tpm: Tpm, cmd: SetPrimaryPolicy) -> Empty:
    """The hierarchy, lockout or timer has the policy, or none.  Part 3, 24.3.

    TPM_RC_SIZE (parameter 1): the policy is not a digest of the algorithm, or not empty without one.
    """
    # Input Validation
    size = 0 if cmd.hash_alg == TPM_ALG_NULL else hashes.size(cmd.hash_alg)
    if len(cmd.auth_policy) != size:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    # Internal Data Update
    owner = tpm.timers if cmd.auth_handle in tpm.timers.HANDLES else tpm.hierarchies
    owner.set_policy(cmd.auth_handle, cmd.hash_alg, cmd.auth_policy)
    # Command Output
    return Empty()


def _flush(tpm: Tpm, hierarchy: int) -> None:
    """No object of the hierarchy is loaded or persistent."""
    tpm.objects.flush_hierarchy(hierarchy)
    tpm.objects.evict_hierarchy(hierarchy)


@handles
def change_pps(tpm: Tpm, cmd: ChangePPS) -> Empty:
    """The platform has a new seed and proof, no policy and no objects.  Part 3, 24.4."""
    # Internal Data Update
    tpm.hierarchies.new_seed(TPM_RH_PLATFORM, tpm.random)
    tpm.hierarchies.new_proof(TPM_RH_PLATFORM, tpm.random)
    tpm.hierarchies.set_policy(TPM_RH_PLATFORM, TPM_ALG_NULL, b"")
    tpm.pcrs.set_policy(TPM_ALG_NULL, b"")
    _flush(tpm, TPM_RH_PLATFORM)
    # Command Output
    return Empty()


@handles
def change_eps(tpm: Tpm, cmd: ChangeEPS) -> Empty:
    """The endorsement hierarchy has a new seed and proof, is enabled and empty.  Part 3, 24.5."""
    # Internal Data Update
    hierarchies = tpm.hierarchies
    hierarchies.new_seed(TPM_RH_ENDORSEMENT, tpm.random)
    hierarchies.new_proof(TPM_RH_ENDORSEMENT, tpm.random)
    hierarchies.set_enabled(TPM_RH_ENDORSEMENT, True)
    hierarchies.set_auth(TPM_RH_ENDORSEMENT, b"")
    hierarchies.set_policy(TPM_RH_ENDORSEMENT, TPM_ALG_NULL, b"")
    _flush(tpm, TPM_RH_ENDORSEMENT)
    # Command Output
    return Empty()


@handles
def clear(tpm: Tpm, cmd: Clear) -> Empty:
    """What the owner made is gone.  Part 3, 24.6.

    TPM_RC_DISABLED: TPM2_ClearControl has disabled it.
    """
    # Input Validation
    if tpm.hierarchies.disable_clear:
        raise TpmError(TPM_RC_DISABLED)
    # Internal Data Update
    _flush(tpm, TPM_RH_OWNER)
    _flush(tpm, TPM_RH_ENDORSEMENT)
    tpm.nv.undefine_owned()
    tpm.hierarchies.clear(tpm.random)
    tpm.lockout.defaults()
    tpm.clock.clear()
    tpm.audit.clear()
    tpm.pcrs.set_auth(b"")
    tpm.pcrs.count_change()
    # Command Output
    return Empty()


@handles
def clear_control(tpm: Tpm, cmd: ClearControl) -> Empty:
    """TPM2_Clear is disabled or enabled.  Part 3, 24.7.

    TPM_RC_AUTH_FAIL: lockoutAuth can only disable it.
    """
    # Input Validation
    disable = cmd.disable == YES
    if cmd.auth == TPM_RH_LOCKOUT and not disable:
        raise TpmError(TPM_RC_AUTH_FAIL)
    # Internal Data Update
    tpm.hierarchies.set_disable_clear(disable)
    # Command Output
    return Empty()


@handles
def hierarchy_change_auth(tpm: Tpm, cmd: HierarchyChangeAuth) -> Empty:
    """The hierarchy or lockout has the authValue.  Part 3, 24.8.

    TPM_RC_SIZE (parameter 1): it is longer than a digest of the hash for context integrity.
    """
    # Input Validation
    if len(cmd.new_auth.rstrip(b"\0")) > CONTEXT_INTEGRITY_HASH_SIZE:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    # Internal Data Update
    tpm.hierarchies.set_auth(cmd.auth_handle, cmd.new_auth)
    # Command Output
    return Empty()


@handles
def read_only_control(tpm: Tpm, cmd: ReadOnlyControl) -> Empty:
    """The TPM is in read-only mode, or is not.  Part 3, 24.9."""
    # Internal Data Update
    tpm.platform.read_only = cmd.state == YES
    # Command Output
    return Empty()
