"""Change of secrets (Part 3, 17 and 27.4)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from hmac import digest as hmac
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import (
    authorize,
    authorize_key,
    authorize_owner,
    close_bound,
    decrypt_auth,
    require_protocol,
    require_usage,
    use_key,
)
from hwtpm.tpm12.commands.certify import certify_info
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.contexts import flush_key
from hwtpm.tpm12.requests.change_auth import (
    ChangeAuth,
    ChangeAuthAsymFinish,
    ChangeAuthAsymFinishResponse,
    ChangeAuthAsymStart,
    ChangeAuthAsymStartResponse,
    ChangeAuthOwner,
    ChangeAuthResponse,
)
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.signing import sign
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.authorization import TPM_CHANGEAUTH_VALIDATE
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAMETER,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_STRUCTURE,
    TPM_WRONG_ENTITYTYPE,
)
from hwtpm.tpm12.types.constants import (
    TPM_AUTH_NEVER,
    TPM_ET_DATA,
    TPM_ET_KEY,
    TPM_ET_OWNER,
    TPM_ET_SRK,
    TPM_ISVOLATILE,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_IDENTITY,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
    TPM_PID_ADCP,
    TPM_PID_OIAP,
    TPM_PID_OSAP,
    TPM_PT_ASYM,
    TPM_PT_SEAL,
)
from hwtpm.tpm12.types.key import STRUCT_VER_1_1, TPM_KEY, TPM_STORE_ASYMKEY
from hwtpm.tpm12.types.storage import TPM_SEALED_DATA
from hwtpm.tpm12.wrapping import check_parms, decrypt, encrypt, generate, private_part, with_enc_data
from hwtpm.wire import decode, encode

_NO_SECRET: Final = bytes(20)


class _Entity:
    """A wrapped key or sealed data, decrypted: `secret` can be read and set."""

    def __init__(self, tpm: Tpm, kind: int, octets: bytes) -> None:
        """Decode *octets*: TPM_INVALID_STRUCTURE for no entity of that *kind*, TPM_AUTHFAIL if not ours."""
        self._content: TPM_STORE_ASYMKEY | TPM_SEALED_DATA
        try:
            self._content = private_part(octets) if kind == TPM_ET_KEY else decode(TPM_SEALED_DATA, octets)
        except TpmError:
            raise TpmError(TPM_INVALID_STRUCTURE) from None
        if isinstance(self._content, TPM_SEALED_DATA):
            if self._content.payload != TPM_PT_SEAL:
                raise TpmError(TPM_INVALID_STRUCTURE)
            if not compare_digest(self._content.tpm_proof, tpm.permanent.tpm_proof):
                raise TpmError(TPM_AUTHFAIL)

    @property
    def secret(self) -> bytes:
        """The secret that authorizes the use of the entity."""
        content = self._content
        return content.usage_auth if isinstance(content, TPM_STORE_ASYMKEY) else content.auth_data

    def encrypted(self, parent: Key, secret: bytes) -> bytes:
        """Return the entity with that *secret* under *parent*."""
        if isinstance(self._content, TPM_STORE_ASYMKEY):
            self._content.usage_auth = secret
        else:
            self._content.auth_data = secret
        return encrypt(parent.rsa, encode(self._content))


def _require_entity_type(kind: int) -> None:
    if kind not in (TPM_ET_DATA, TPM_ET_KEY):
        raise TpmError(TPM_WRONG_ENTITYTYPE)


@handles
def change_auth(tpm: Tpm, call: Call, cmd: ChangeAuth) -> ChangeAuthResponse:
    """The key or the sealed data is returned with a new secret.  Part 3, 17.1."""
    # Input Validation
    _require_entity_type(cmd.entity_type)
    parent = use_key(tpm, cmd.parent_handle)
    require_protocol(tpm, call, 0, TPM_PID_OSAP)
    require_protocol(tpm, call, 1, TPM_PID_OIAP)
    if cmd.protocol_id != TPM_PID_ADCP:
        raise TpmError(TPM_BAD_PARAMETER)
    authorize_key(tpm, call, 0, parent)
    require_usage(parent, TPM_KEY_STORAGE)
    entity = _Entity(tpm, cmd.entity_type, decrypt(parent, cmd.enc_data))
    authorize(tpm, call, 1, cmd.entity_type, entity.secret, b"")
    # Command Output
    for given in call.authorizations:
        given.continues = 0
    return ChangeAuthResponse(entity.encrypted(parent, decrypt_auth(call.authorizations[0], cmd.new_auth)))


@handles
def change_auth_owner(tpm: Tpm, call: Call, cmd: ChangeAuthOwner) -> Empty:
    """The owner or the SRK has a new secret, and no session is bound to the owner.  Part 3, 17.2."""
    # Input Validation
    given = authorize_owner(tpm, call, protocol=TPM_PID_OSAP)
    if cmd.protocol_id != TPM_PID_ADCP:
        raise TpmError(TPM_BAD_PARAMETER)
    if cmd.entity_type not in (TPM_ET_OWNER, TPM_ET_SRK):
        raise TpmError(TPM_WRONG_ENTITYTYPE)
    srk = use_key(tpm, TPM_KH_SRK, ignore_pcrs=True)
    secret = decrypt_auth(given, cmd.new_auth)
    # Internal Data Update
    if cmd.entity_type == TPM_ET_OWNER:
        tpm.permanent.set(owner_auth=secret)
    else:
        srk.usage_auth = secret
        tpm.permanent.touch()
    close_bound(tpm, call, TPM_ET_OWNER)
    # Command Output
    return Empty()


@handles
def change_auth_asym_start(tpm: Tpm, call: Call, cmd: ChangeAuthAsymStart) -> ChangeAuthAsymStartResponse:
    """A new key for a change of a secret is loaded, and signed by the identity key.  Part 3, 27.4.1."""
    # Input Validation
    identity = use_key(tpm, cmd.id_handle)
    if identity.public.key_usage != TPM_KEY_IDENTITY:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    authorize_key(tpm, call, 0, identity)
    check_parms(cmd.temp_key, TPM_KEY_AUTHCHANGE, fips=bool(tpm.flags.permanent.fips))
    tpm.keys.require_space()
    # Internal Data Update
    template = TPM_KEY(STRUCT_VER_1_1, 0, TPM_KEY_AUTHCHANGE, TPM_ISVOLATILE, TPM_AUTH_NEVER, cmd.temp_key,
                       b"", b"", b"")
    key = generate(tpm, template, TPM_PT_ASYM, _NO_SECRET, _NO_SECRET)
    info = certify_info(key, cmd.anti_replay, False)
    signature = sign(identity, sha1(encode(info)).digest())
    handle = tpm.keys.add(key, parent_pcr_status=False).handle
    # Command Output
    return ChangeAuthAsymStartResponse(info, signature, handle, with_enc_data(key.public, b""))


@handles
def change_auth_asym_finish(tpm: Tpm, call: Call, cmd: ChangeAuthAsymFinish) -> ChangeAuthAsymFinishResponse:
    """The key or the sealed data is returned with a new secret, the other key is gone.  Part 3, 27.4.2."""
    # Input Validation
    parent = use_key(tpm, cmd.parent_handle)
    if cmd.parent_handle == TPM_KH_SRK and call.authorizations:
        authorize_owner(tpm, call)
    else:
        authorize_key(tpm, call, 0, parent)
    _require_entity_type(cmd.entity_type)
    require_usage(parent, TPM_KEY_STORAGE)
    entity = _Entity(tpm, cmd.entity_type, decrypt(parent, cmd.enc_data))
    ephemeral = use_key(tpm, cmd.eph_handle)
    if ephemeral.public.key_usage != TPM_KEY_AUTHCHANGE:
        raise TpmError(TPM_BAD_PARAMETER)
    change = decode(TPM_CHANGEAUTH_VALIDATE, decrypt(ephemeral, cmd.enc_new_auth))
    if not compare_digest(hmac(entity.secret, change.new_auth_secret, "sha1"), cmd.new_auth_link):
        # Who guesses the old secret here is as far as with a wrong authorization.
        tpm.lockout.fail()
        raise TpmError(TPM_AUTHFAIL)
    # Internal Data Update
    flush_key(tpm, cmd.eph_handle)
    # Command Output
    salt = tpm.random(20)
    return ChangeAuthAsymFinishResponse(entity.encrypted(parent, change.new_auth_secret), salt,
                                        hmac(change.new_auth_secret, salt + change.n1, "sha1"))
