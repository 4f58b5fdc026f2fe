"""Delegation commands (Part 3, 19)."""

from __future__ import annotations

from struct import Struct

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import (
    authorize_key,
    authorize_owner,
    close_shared,
    decrypt_auth,
    delegation_of,
    use_key,
)
from hwtpm.tpm12.context import Authorization, Call, Tpm, handles
from hwtpm.tpm12.delegating import Blob, protect, pub_key_digest, read_blob, seal, secret_of, verify
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.delegation import (
    DelegateCreateKeyDelegation,
    DelegateCreateOwnerDelegation,
    DelegateLoadOwnerDelegation,
    DelegateManage,
    DelegateManageResponse,
    DelegateReadTable,
    DelegateReadTableResponse,
    DelegateUpdateVerification,
    DelegateUpdateVerificationResponse,
    DelegateVerifyDelegation,
    DelegationResponse,
)
from hwtpm.tpm12.state.delegation import Row
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_DELEGATE_FAMILY,
    TPM_DELEGATE_LOCK,
    TPM_DISABLED_CMD,
)
from hwtpm.tpm12.types.constants import (
    TPM_DEL_KEY_BITS,
    TPM_DEL_OWNER_BITS,
    TPM_DELEGATE_ADMIN_LOCK,
    TPM_FAMFLAG_ENABLED,
    TPM_FAMILY_ADMIN,
    TPM_FAMILY_CREATE,
    TPM_FAMILY_ENABLE,
    TPM_FAMILY_INVALIDATE,
    TPM_KH_OWNER,
    TPM_PID_DSAP,
    TPM_PID_OSAP,
)
from hwtpm.tpm12.types.delegate import (
    TPM_DELEGATE_KEY_BLOB,
    TPM_DELEGATE_OWNER_BLOB,
    TPM_DELEGATE_PUBLIC,
    TPM_DELEGATE_SENSITIVE,
)
from hwtpm.tpm12.types.ordinals import TPM_KEY_DELEGATE_CMK_ConvertMigration
from hwtpm.wire import decode, encode

_pack_u32 = Struct(">I").pack
# The bits of per1 that stand for ordinals; none of per2 does (Part 2, 20.2.1 to 20.2.4).
_ORDINALS = {
    TPM_DEL_OWNER_BITS: 0xFFFFFFFF,
    TPM_DEL_KEY_BITS: (2 << TPM_KEY_DELEGATE_CMK_ConvertMigration) - 1,
}
_FLAGS = {TPM_FAMILY_ADMIN: TPM_DELEGATE_ADMIN_LOCK, TPM_FAMILY_ENABLE: TPM_FAMFLAG_ENABLED}


@handles
def delegate_manage(tpm: Tpm, call: Call, cmd: DelegateManage) -> DelegateManageResponse:
    """A family is created, changed or gone; every shared secret is void.  Part 3, 19.1."""
    # Input Validation
    family = None if cmd.op_code == TPM_FAMILY_CREATE else tpm.delegations.family(cmd.family_id)
    writes = tpm.permanent.no_owner_nv_write
    if call.authorizations:
        given = authorize_owner(tpm, call)
        delegated = delegation_of(tpm, given)
        if family is not None and delegated is not None and delegated.family_id != cmd.family_id:
            raise TpmError(TPM_DELEGATE_FAMILY)
        if family is not None:
            _end_delegated(given)
    else:
        writes = _write_without_owner(tpm, family.flags if family is not None else 0)
    if cmd.op_code in (TPM_FAMILY_CREATE, *_FLAGS) and len(cmd.op_data) != 1:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    if cmd.op_code not in (TPM_FAMILY_CREATE, TPM_FAMILY_INVALIDATE, *_FLAGS):
        raise TpmError(TPM_BAD_PARAMETER)
    # Internal Data Update
    ret_data = b""
    if family is None:
        ret_data = _pack_u32(tpm.delegations.create_family(cmd.op_data[0]).family_id)
    elif cmd.op_code == TPM_FAMILY_INVALIDATE:
        del tpm.delegations.families[cmd.family_id]
    else:
        flag = _FLAGS[cmd.op_code]
        family.flags = family.flags | flag if cmd.op_data[0] else family.flags & ~flag
    tpm.delegations.touch()
    _void_shared_secrets(tpm, call)
    tpm.permanent.count_nv_writes(writes)
    # Command Output
    return DelegateManageResponse(ret_data)


def _write_without_owner(tpm: Tpm, family_flags: int) -> int:
    """Return how many NV writes there will have been; there is no owner, and the family is not locked."""
    if tpm.permanent.owner_installed:
        raise TpmError(TPM_AUTHFAIL)
    if family_flags & TPM_DELEGATE_ADMIN_LOCK:
        raise TpmError(TPM_DELEGATE_LOCK)
    return tpm.permanent.next_nv_write()


def _void_shared_secrets(tpm: Tpm, call: Call) -> None:
    close_shared(tpm, call)
    tpm.delegations.owner_reference = TPM_KH_OWNER


def _end_delegated(given: Authorization) -> None:
    """A session that is itself a delegation ends with the command."""
    if given.session is not None and given.session.protocol == TPM_PID_DSAP:
        given.continues = 0


@handles
def delegate_create_key_delegation(tpm: Tpm, call: Call,
                                   cmd: DelegateCreateKeyDelegation) -> DelegationResponse:
    """A delegation of the use of the key is returned.  Part 3, 19.2."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key, TPM_PID_OSAP)
    given = call.authorizations[0]
    pub = _checked(tpm, given, cmd.public_info, TPM_DEL_KEY_BITS)
    auth_value = decrypt_auth(given, cmd.del_auth)
    # Command Output
    given.continues = 0
    blob = TPM_DELEGATE_KEY_BLOB(pub, ZERO_DIGEST, pub_key_digest(key.public.pub_key), b"", b"")
    return DelegationResponse(encode(seal(tpm, blob, auth_value)))


def _checked(tpm: Tpm, given: Authorization, pub: TPM_DELEGATE_PUBLIC, kind: int) -> TPM_DELEGATE_PUBLIC:
    """Return the delegation, verified by its family; who was delegated to grants no more than he has."""
    family = tpm.delegations.family(pub.family_id)
    delegated = delegation_of(tpm, given)
    if delegated is not None:
        if pub.family_id != delegated.family_id:
            raise TpmError(TPM_DELEGATE_FAMILY)
        if not family.flags & TPM_FAMFLAG_ENABLED:
            raise TpmError(TPM_DISABLED_CMD)
        more = pub.permissions.per1 & ~delegated.permissions.per1
        if more or pub.permissions.per2 & ~delegated.permissions.per2:
            raise TpmError(TPM_AUTHFAIL)
    rights = pub.permissions
    if rights.delegate_type != kind or rights.per1 & ~_ORDINALS[kind] or rights.per2:
        raise TpmError(TPM_BAD_PARAMETER)
    return TPM_DELEGATE_PUBLIC(pub.row_label, pub.pcr_info, pub.permissions, pub.family_id,
                               family.verification_count)


@handles
def delegate_create_owner_delegation(tpm: Tpm, call: Call,
                                     cmd: DelegateCreateOwnerDelegation) -> DelegationResponse:
    """A delegation of the owner's rights is returned; with *increment*, earlier ones are void.

    Part 3, 19.3.
    """
    # Input Validation
    given = authorize_owner(tpm, call, protocol=TPM_PID_OSAP)
    pub = _checked(tpm, given, cmd.public_info, TPM_DEL_OWNER_BITS)
    auth_value = decrypt_auth(given, cmd.del_auth)
    # Internal Data Update
    if cmd.increment:
        family = tpm.delegations.family(pub.family_id)
        family.verification_count += 1
        pub.verification_count = family.verification_count
        tpm.delegations.touch()
        _void_shared_secrets(tpm, call)
    # Command Output
    given.continues = 0
    blob = TPM_DELEGATE_OWNER_BLOB(pub, ZERO_DIGEST, b"", b"")
    return DelegationResponse(encode(seal(tpm, blob, auth_value)))


@handles
def delegate_load_owner_delegation(tpm: Tpm, call: Call, cmd: DelegateLoadOwnerDelegation) -> Empty:
    """The delegation is in the row; before there is an owner, its secret comes in the clear.

    Part 3, 19.4.
    """
    # Input Validation
    blob = decode(TPM_DELEGATE_OWNER_BLOB, cmd.blob)
    family = tpm.delegations.enabled_family(blob.pub.family_id)
    writes = tpm.permanent.no_owner_nv_write
    if tpm.permanent.owner_installed:
        if not call.authorizations:
            raise TpmError(TPM_AUTHFAIL)
        given = authorize_owner(tpm, call)
        delegated = delegation_of(tpm, given)
        if delegated is not None and delegated.family_id != blob.pub.family_id:
            raise TpmError(TPM_DELEGATE_FAMILY)
        _end_delegated(given)
        verify(tpm, blob)
        auth_value = secret_of(tpm, blob)
    else:
        writes = _write_without_owner(tpm, family.flags)
        auth_value = decode(TPM_DELEGATE_SENSITIVE, blob.sensitive_area).auth_value
    tpm.delegations.require_row_number(cmd.index)
    # Internal Data Update
    tpm.delegations.rows[cmd.index] = Row(cmd.index, blob.pub, auth_value)
    tpm.delegations.touch()
    _void_shared_secrets(tpm, call)
    tpm.permanent.count_nv_writes(writes)
    # Command Output
    return Empty()


@handles
def delegate_read_table(tpm: Tpm, call: Call, cmd: DelegateReadTable) -> DelegateReadTableResponse:
    """Both tables are returned, without secrets.  Part 3, 19.5."""
    # Command Output
    families = b"".join(encode(family) for family in tpm.delegations.families.values())
    rows = b"".join(_pack_u32(row.index) + encode(row.pub) for _, row in sorted(tpm.delegations.rows.items()))
    return DelegateReadTableResponse(families, rows)


@handles
def delegate_update_verification(tpm: Tpm, call: Call,
                                 cmd: DelegateUpdateVerification) -> DelegateUpdateVerificationResponse:
    """The row, or the blob that is returned, has its family's verification count.  Part 3, 19.6."""
    # Input Validation
    given = authorize_owner(tpm, call)
    blob: Blob | None = None
    if len(cmd.input_data) == 4:
        pub = tpm.delegations.row(int.from_bytes(cmd.input_data, "big")).pub
    else:
        blob = read_blob(cmd.input_data)
        verify(tpm, blob)
        pub = blob.pub
    family = tpm.delegations.family(pub.family_id)
    delegated = delegation_of(tpm, given)
    if delegated is not None:
        if delegated.family_id != pub.family_id:
            raise TpmError(TPM_DELEGATE_FAMILY)
        if not family.flags & TPM_FAMFLAG_ENABLED:
            raise TpmError(TPM_DISABLED_CMD)
    # Internal Data Update
    pub.verification_count = family.verification_count
    if blob is None:
        tpm.delegations.touch()
    # Command Output
    return DelegateUpdateVerificationResponse(encode(protect(tpm, blob)) if blob is not None else b"")


@handles
def delegate_verify_delegation(tpm: Tpm, call: Call, cmd: DelegateVerifyDelegation) -> Empty:
    """The delegation is one that can be used.  Part 3, 19.7."""
    # Input Validation
    blob = read_blob(cmd.delegation)
    tpm.delegations.require_current(blob.pub)
    verify(tpm, blob)
    secret_of(tpm, blob)
    # Command Output
    return Empty()
