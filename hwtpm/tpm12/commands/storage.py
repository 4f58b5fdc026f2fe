"""Making, loading and evicting keys (Part 3, 10.4 to 10.6, 21.1, 27.1.1 and 27.8)."""

from __future__ import annotations

from hmac import compare_digest

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import (
    authorize_key,
    authorize_owner,
    decrypt_auth,
    parent_pcr_status,
    require_usage,
    use_key,
)
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.contexts import flush_key
from hwtpm.tpm12.profile import OWNER_EVICT_KEY_HANDLES
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.storage import (
    CreateWrapKey,
    CreateWrapKeyResponse,
    EvictKey,
    GetPubKey,
    GetPubKeyResponse,
    KeyControlOwner,
    LoadKey,
    LoadKey2,
    LoadKey2Response,
    LoadKeyResponse,
)
from hwtpm.tpm12.state.keys import Key, LoadedKey
from hwtpm.tpm12.types.codes import (
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_NOSPACE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ISVOLATILE,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_BIND,
    TPM_KEY_CONTROL_OWNER_EVICT,
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
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
def load_key2(tpm: Tpm, call: Call, cmd: LoadKey2) -> LoadKey2Response:
    """The key is loaded under a new handle.  Part 3, 10.5."""
    return LoadKey2Response(_load(tpm, call, cmd.parent_handle, cmd.in_key))


@handles
def load_key(tpm: Tpm, call: Call, cmd: LoadKey) -> LoadKeyResponse:
    """The key is loaded under a new handle.  Part 3, 27.8."""
    return LoadKeyResponse(_load(tpm, call, cmd.parent_handle, cmd.in_key))


def _load(tpm: Tpm, call: Call, parent_handle: int, in_key: TPM_KEY) -> int:
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


@handles
def get_pub_key(tpm: Tpm, call: Call, cmd: GetPubKey) -> GetPubKeyResponse:
    """The public key is returned; that of the SRK only where the owner allows it.  Part 3, 10.6."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle, read_only=True)
    authorize_key(tpm, call, 0, key, public=True)
    if cmd.key_handle == TPM_KH_SRK and not tpm.flags.permanent.read_srk_pub:
        raise TpmError(TPM_INVALID_KEYHANDLE)
    # Command Output
    return GetPubKeyResponse(key.pubkey)


@handles
def evict_key(tpm: Tpm, call: Call, cmd: EvictKey) -> Empty:
    """The key is not loaded any more, unless it is under the owner's control.  Part 3, 27.1.1."""
    # Internal Data Update
    flush_key(tpm, cmd.evict_handle)
    # Command Output
    return Empty()


@handles
def key_control_owner(tpm: Tpm, call: Call, cmd: KeyControlOwner) -> Empty:
    """The key is kept until the owner lets go of it, or can be evicted by everybody again.  Part 3, 21.1."""
    # Input Validation
    authorize_owner(tpm, call)
    entry = tpm.keys.get(cmd.key_handle)
    require_usage(entry.key, TPM_KEY_SIGNING, TPM_KEY_STORAGE, TPM_KEY_IDENTITY, TPM_KEY_BIND, TPM_KEY_LEGACY)
    if cmd.pub_key != entry.key.pubkey:
        raise TpmError(TPM_BAD_PARAMETER)
    if cmd.bit_name != TPM_KEY_CONTROL_OWNER_EVICT:
        raise TpmError(TPM_BAD_MODE)
    if cmd.bit_value and not entry.owner_evict:
        _require_owner_evict(tpm, entry)
    # Internal Data Update
    tpm.keys.control(entry, TPM_KEY_CONTROL_OWNER_EVICT if cmd.bit_value else 0)
    # Command Output
    return Empty()


def _require_owner_evict(tpm: Tpm, entry: LoadedKey) -> None:
    """The key *entry* can come under the owner's control: TPM_NOSPACE, TPM_BAD_PARAMETER.

    There are always two more places for keys of others, since the owner has not so many.
    """
    if sum(loaded.owner_evict for loaded in tpm.keys.loaded.values()) >= OWNER_EVICT_KEY_HANDLES:
        raise TpmError(TPM_NOSPACE)
    if entry.parent_pcr_status or entry.key.public.key_flags & TPM_ISVOLATILE:
        raise TpmError(TPM_BAD_PARAMETER)
