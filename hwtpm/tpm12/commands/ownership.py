"""Ownership (Part 3, 6.1 to 6.5)."""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_owner, check
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.ownership import (
    DisableForceClear,
    DisableOwnerClear,
    ForceClear,
    OwnerClear,
    TakeOwnership,
    TakeOwnershipResponse,
)
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.codes import (
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_CLEAR_DISABLED,
    TPM_INSTALL_DISABLED,
    TPM_INVALID_KEYUSAGE,
    TPM_NO_ENDORSEMENT,
    TPM_NOTFIPS,
    TPM_OWNER_SET,
)
from hwtpm.tpm12.types.constants import (
    TPM_AUTH_NEVER,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_PID_OIAP,
    TPM_PID_OWNER,
    TPM_PT_ASYM,
    TPM_SS_NONE,
)
from hwtpm.tpm12.types.key import TPM_KEY
from hwtpm.tpm12.wrapping import decrypt, generate, is_key12, rsa_parms, with_enc_data


@handles
def take_ownership(tpm: Tpm, call: Call, cmd: TakeOwnership) -> TakeOwnershipResponse:
    """The TPM has an owner, an SRK, and new secrets for what belongs to an owner.  Part 3, 6.1."""
    # Input Validation
    if tpm.permanent.owner_installed:
        raise TpmError(TPM_OWNER_SET)
    if not tpm.flags.permanent.ownership:
        raise TpmError(TPM_INSTALL_DISABLED)
    endorsement_key = tpm.permanent.endorsement_key
    if endorsement_key is None:
        raise TpmError(TPM_NO_ENDORSEMENT)
    session = tpm.sessions.get(call.authorizations[0].handle)
    if session.protocol != TPM_PID_OIAP:
        raise TpmError(TPM_BAD_MODE)
    if cmd.protocol_id != TPM_PID_OWNER:
        raise TpmError(TPM_BAD_PARAMETER)
    owner_auth = _secret(endorsement_key, cmd.enc_owner_auth)
    # The response, too, is authorized with the new owner's secret.
    check(tpm, call, 0, session, owner_auth)
    _check_srk(tpm, cmd.srk_params)
    srk_auth = _secret(endorsement_key, cmd.enc_srk_auth)
    # Internal Data Update
    proof = tpm.random(20)
    srk = generate(tpm, cmd.srk_params, TPM_PT_ASYM, srk_auth, proof)
    tpm.permanent.set(owner_installed=True, owner_auth=owner_auth, srk=srk, tpm_proof=proof,
                      context_key=tpm.random(16), delegate_key=tpm.random(16))
    tpm.flags.set(read_pubek=False)
    # Command Output
    return TakeOwnershipResponse(with_enc_data(srk.public, b""))


def _secret(key: Key, encrypted: bytes) -> bytes:
    secret = decrypt(key, encrypted)
    if len(secret) != 20:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    return secret


def _check_srk(tpm: Tpm, params: TPM_KEY) -> None:
    """*params* describe an SRK (Part 3, 6.1)."""
    if params.key_usage != TPM_KEY_STORAGE or params.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    rsa = rsa_parms(params.algorithm_parms)
    schemes = params.algorithm_parms.enc_scheme, params.algorithm_parms.sig_scheme
    if schemes != (TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE) or rsa.key_length != 2048 or rsa.exponent:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    if tpm.flags.permanent.fips and params.auth_data_usage == TPM_AUTH_NEVER:
        raise TpmError(TPM_NOTFIPS)
    is_key12(params)


@handles
def owner_clear(tpm: Tpm, call: Call, cmd: OwnerClear) -> Empty:
    """There is no owner any more; the response is authorized with his secret once more.  Part 3, 6.2."""
    # Input Validation
    authorize_owner(tpm, call).continues = 0
    if tpm.flags.permanent.disable_owner_clear:
        raise TpmError(TPM_CLEAR_DISABLED)
    # Internal Data Update
    tpm.owner_clear()
    # Command Output
    return Empty()


@handles
def force_clear(tpm: Tpm, call: Call, cmd: ForceClear) -> Empty:
    """Who is there has taken the TPM from its owner, if there was one.  Part 3, 6.3."""
    # Input Validation
    tpm.flags.require_presence()
    if tpm.flags.stclear.disable_force_clear:
        raise TpmError(TPM_CLEAR_DISABLED)
    # Internal Data Update
    tpm.owner_clear()
    # Command Output
    return Empty()


@handles
def disable_owner_clear(tpm: Tpm, call: Call, cmd: DisableOwnerClear) -> Empty:
    """Only TPM_ForceClear can clear the TPM.  Part 3, 6.4."""
    # Input Validation
    authorize_owner(tpm, call)
    # Internal Data Update
    tpm.flags.set(disable_owner_clear=True)
    # Command Output
    return Empty()


@handles
def disable_force_clear(tpm: Tpm, call: Call, cmd: DisableForceClear) -> Empty:
    """TPM_ForceClear is disabled until the TPM starts again.  Part 3, 6.5."""
    # Internal Data Update
    tpm.flags.stclear.disable_force_clear = 1
    # Command Output
    return Empty()
