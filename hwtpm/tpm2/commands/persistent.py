"""TPM2_EvictControl (Part 3, 28.5)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.context import EvictControl
from hwtpm.tpm2.types.constants import TPM_RC_ATTRIBUTES, TPM_RC_HANDLE, TPM_RC_HIERARCHY, TPM_RC_RANGE
from hwtpm.tpm2.types.handles import PERSISTENT_FIRST, PLATFORM_PERSISTENT, TPM_RH_PLATFORM


@handles
def evict_control(tpm: Tpm, cmd: EvictControl) -> Empty:
    """A transient object is persistent as well, or a persistent one is gone.  Part 3, 28.5.

    TPM_RC_ATTRIBUTES (handle 2): temporary, stClear or a sequence.  TPM_RC_HIERARCHY (handle 2): not the
    object of this authorization.  TPM_RC_HANDLE (handle 2): another persistent handle than that of the
    object. TPM_RC_RANGE (parameter 1): not a handle of this authorization; (handle 2): not an object that
    the owner may evict.  TPM_RC_NV_DEFINED: the handle is taken.  TPM_RC_NV_SPACE: no room.
    """
    # Input Validation
    platform = cmd.auth == TPM_RH_PLATFORM
    found = tpm.objects.loaded(cmd.object_handle)
    if found is None or found.temporary or found.st_clear:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(2)
    persistent = cmd.object_handle >= PERSISTENT_FIRST
    if persistent:
        if cmd.object_handle != cmd.persistent_handle:
            raise TpmError(TPM_RC_HANDLE).handle(2)
        if not platform and cmd.object_handle >= PLATFORM_PERSISTENT:
            raise TpmError(TPM_RC_RANGE).handle(2)
    else:
        if (found.hierarchy == TPM_RH_PLATFORM) != platform:
            raise TpmError(TPM_RC_HIERARCHY).handle(2)
        if (cmd.persistent_handle >= PLATFORM_PERSISTENT) != platform:
            raise TpmError(TPM_RC_RANGE).parameter(1)

    # Internal Data Update
    if persistent:
        tpm.objects.evict(cmd.object_handle)
    else:
        tpm.objects.persist(cmd.persistent_handle, found)

    # Command Output
    return Empty()
