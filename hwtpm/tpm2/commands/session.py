"""Session commands (Part 3, 11)."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import hashes, kdf
from hwtpm.errors import TpmError
from hwtpm.tpm2 import entity
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.session import PolicyRestart, StartAuthSession, StartAuthSessionResponse
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_DECRYPT
from hwtpm.tpm2.types.constants import (
    TPM_ALG_CFB,
    TPM_ALG_ECC,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_XOR,
    TPM_RC_ATTRIBUTES,
    TPM_RC_HANDLE,
    TPM_RC_KEY,
    TPM_RC_MODE,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
    TPM_SE_HMAC,
)
from hwtpm.tpm2.types.handles import TPM_HT_NV_INDEX, TPM_HT_TRANSIENT, TPM_RH_LOCKOUT, TPM_RH_NULL

_LEAST_NONCE: Final = 16


@handles
def start_auth_session(tpm: Tpm, cmd: StartAuthSession) -> StartAuthSessionResponse:
    """A session is loaded; its key comes from the salt and the authValue of the bind entity.  Part 3, 11.1.

    TPM_RC_SIZE (parameter 1): nonceCaller is shorter than 16 octets or longer than a digest.  TPM_RC_KEY,
    TPM_RC_HANDLE, TPM_RC_ATTRIBUTES (handle 1): tpmKey is not asymmetric, has no sensitive area, cannot
    decrypt.  TPM_RC_VALUE (parameter 2): not a salt for tpmKey.  TPM_RC_HANDLE (handle 2): the bind entity
    has no authValue here, or is a PIN Index.  TPM_RC_MODE (parameter 4): a mode other than CFB.
    TPM_RC_SESSION_MEMORY, TPM_RC_SESSION_HANDLES, TPM_RC_CONTEXT_GAP: see `Sessions.create`.
    """
    # Input Validation
    alg, bind = cmd.auth_hash, cmd.bind
    size = hashes.size(alg)
    if not _LEAST_NONCE <= len(cmd.nonce_caller) <= size:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    salt = _salt(tpm, cmd)
    if bind != TPM_RH_NULL:
        _check_bind(tpm, bind)
    if cmd.symmetric.algorithm not in (TPM_ALG_NULL, TPM_ALG_XOR) and cmd.symmetric.mode != TPM_ALG_CFB:
        raise TpmError(TPM_RC_MODE).parameter(4)
    tpm.sessions.check_room()

    # Internal Data Update
    nonce = tpm.random(len(cmd.nonce_caller))
    key = bound = b""
    da_bound = False
    if bind != TPM_RH_NULL or cmd.tpm_key != TPM_RH_NULL:
        secret = entity.auth_value(tpm, bind) + salt
        key = kdf.kdfa(alg, secret, b"ATH", nonce, cmd.nonce_caller, size * 8)
    if bind != TPM_RH_NULL:
        da_bound = entity.da_protected(tpm, bind)
        if cmd.session_type == TPM_SE_HMAC:
            bound = entity.bound(tpm, bind)
    session = tpm.sessions.create(
        cmd.session_type, alg, cmd.symmetric, nonce, session_key=key, bound=bound, is_da_bound=da_bound,
        is_lockout_bound=da_bound and bind == TPM_RH_LOCKOUT, start_time=tpm.clock.time_ms(),
        epoch=tpm.clock.epoch)

    # Command Output
    return StartAuthSessionResponse(session.handle, nonce)


def _salt(tpm: Tpm, cmd: StartAuthSession) -> bytes:
    """Return the salt that the command conveys; empty without tpmKey."""
    if cmd.tpm_key == TPM_RH_NULL:
        if cmd.encrypted_salt:
            raise TpmError(TPM_RC_VALUE).parameter(2)
        return b""
    key = tpm.objects.loaded(cmd.tpm_key)
    if key is None or key.public.type not in (TPM_ALG_RSA, TPM_ALG_ECC):
        raise TpmError(TPM_RC_KEY).handle(1)
    if not cmd.encrypted_salt:
        raise TpmError(TPM_RC_VALUE).parameter(2)
    if key.sensitive is None:
        raise TpmError(TPM_RC_HANDLE).handle(1)
    if not key.attributes & TPMA_OBJECT_DECRYPT:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    # Asymmetric keys come in with OpenSSL's help, which only salted sessions need.
    from hwtpm.tpm2.secret import decrypt_secret

    try:
        return decrypt_secret(key, cmd.encrypted_salt, b"SECRET")
    except TpmError:
        raise TpmError(TPM_RC_VALUE).parameter(2) from None


def _check_bind(tpm: Tpm, bind: int) -> None:
    kind = bind >> 24
    if kind == TPM_HT_TRANSIENT:
        found = tpm.objects.loaded(bind)
        usable = found is None or found.sensitive is not None
    else:
        usable = kind != TPM_HT_NV_INDEX or not tpm.nv.get(bind).is_pin
    if not usable:
        raise TpmError(TPM_RC_HANDLE).handle(2)


@handles
def policy_restart(tpm: Tpm, cmd: PolicyRestart) -> Empty:
    """The policy session is as when it was started, with its nonce, key and start time.  Part 3, 11.2."""
    # Internal Data Update
    tpm.sessions.get(cmd.session_handle).reset_policy()
    # Command Output
    return Empty()
