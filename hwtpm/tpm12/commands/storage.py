"""Storage: making and loading keys (Part 3, 10.4 to 10.6)."""

from __future__ import annotations

from hmac import compare_digest

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_key, decrypt_auth, parent_pcr_status, require_usage, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.storage import CreateWrapKey, CreateWrapKeyResponse, LoadKey2, LoadKeyResponse
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.codes import TPM_INVALID_KEYUSAGE
from hwtpm.tpm12.types.constants import (
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_IDENTITY,
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_PID_OSAP,
    TPM_PT_ASYM,
)
from hwtpm.tpm12.types.key import TPM_KEY
from hwtpm.tpm12.wrapping import check_properties, generate, unwrap, wrap


@handles
def create_wrap_key(tpm: Tpm, call: Call, cmd: CreateWrapKey) -> CreateWrapKeyResponse:
    """A new key is returned, its private part under its parent.  Part 3, 10.4."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    given = call.authorizations[0]
    authorize_key(tpm, call, 0, parent, TPM_PID_OSAP)
    info = cmd.key_info
    check_properties(info, fips=bool(tpm.flags.permanent.fips))
    require_usage(parent, TPM_KEY_STORAGE)
    if parent.public.key_flags & TPM_MIGRATABLE and not info.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if info.key_usage in (TPM_KEY_IDENTITY, TPM_KEY_AUTHCHANGE) or info.key_flags & TPM_MIGRATEAUTHORITY:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    # Command Output
    usage_auth = decrypt_auth(given, cmd.data_usage_auth)
    migration_auth = decrypt_auth(given, cmd.data_migration_auth, odd=True)
    if not info.key_flags & TPM_MIGRATABLE:
        migration_auth = tpm.permanent.tpm_proof
    given.continues = 0
    key = generate(tpm, info, TPM_PT_ASYM, usage_auth, migration_auth)
    return CreateWrapKeyResponse(wrap(key, parent))


@handles
def load_key2(tpm: Tpm, call: Call, cmd: LoadKey2) -> LoadKeyResponse:
    """The key is loaded under a new handle.  Part 3, 10.5."""
    return LoadKeyResponse(load(tpm, call, cmd.parent_handle, cmd.in_key))


def load(tpm: Tpm, call: Call, parent_handle: int, in_key: TPM_KEY) -> int:
    """Return the handle of *in_key*, loaded under its parent with the command's authorization."""
    # Input Validation
    parent = use_key(tpm, parent_handle)
    authorize_key(tpm, call, 0, parent)
    require_usage(parent, TPM_KEY_STORAGE)
    check_properties(in_key, fips=bool(tpm.flags.permanent.fips))
    key = unwrap(in_key, parent)
    _check_consistency(tpm, key)
    # Internal Data Update
    return tpm.keys.add(key, parent.uses_pcrs or parent_pcr_status(tpm, parent_handle)).handle


def _check_consistency(tpm: Tpm, key: Key) -> None:
    """The usage and the flags of a key that is to be loaded belong together, and it is ours."""
    public = key.public
    migratable = public.key_flags & TPM_MIGRATABLE
    if (public.key_usage == TPM_KEY_IDENTITY and migratable) or public.key_usage == TPM_KEY_AUTHCHANGE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if not migratable and not compare_digest(key.migration_auth, tpm.permanent.tpm_proof):
        raise TpmError(TPM_INVALID_KEYUSAGE)
