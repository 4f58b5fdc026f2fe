"""Endorsement key and ownership (Part 3, 6.1 and 14)."""

from __future__ import annotations

from hashlib import sha1

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import check
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.ownership import (
    CreateEndorsementKeyPair,
    PubekResponse,
    ReadPubek,
    TakeOwnership,
    TakeOwnershipResponse,
)
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.codes import (
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MODE,
    TPM_BAD_PARAMETER,
    TPM_DISABLED_CMD,
    TPM_INSTALL_DISABLED,
    TPM_INVALID_KEYUSAGE,
    TPM_NO_ENDORSEMENT,
    TPM_NOTFIPS,
    TPM_OWNER_SET,
)
from hwtpm.tpm12.types.constants import (
    TPM_AUTH_ALWAYS,
    TPM_AUTH_NEVER,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_PID_OIAP,
    TPM_PID_OWNER,
    TPM_PT_ASYM,
    TPM_SS_NONE,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS
from hwtpm.tpm12.wrapping import decrypt_oaep, generate, is_key12, rsa_parms, with_enc_data
from hwtpm.wire import encode


@handles
def create_endorsement_key_pair(tpm: Tpm, call: Call, cmd: CreateEndorsementKeyPair) -> PubekResponse:
    """The TPM has a new endorsement key; there was none.  Part 3, 14.1."""
    # Input Validation
    check_ek_parms(tpm, cmd.key_info)
    # Internal Data Update
    key = new_endorsement_key(tpm, cmd.key_info)
    tpm.flags.set(cekp_used=True, enable_revoke_ek=False)
    # Command Output
    return pubek_response(key, cmd.anti_replay)


def check_ek_parms(tpm: Tpm, parms: TPM_KEY_PARMS) -> None:
    """There is no endorsement key, and one can be made as *parms* say (Part 3, 14.1)."""
    if tpm.permanent.endorsement_key is not None:
        raise TpmError(TPM_DISABLED_CMD)
    rsa = rsa_parms(parms)
    if rsa.key_length != 2048 or rsa.num_primes != 2 or parms.enc_scheme != TPM_ES_RSAESOAEP_SHA1_MGF1:
        raise TpmError(TPM_BAD_KEY_PROPERTY)


def new_endorsement_key(tpm: Tpm, parms: TPM_KEY_PARMS) -> Key:
    """The TPM has a new endorsement key, and secrets for DAA that belong to it (Part 3, 14.1)."""
    template = TPM_KEY(0x0101, 0, TPM_KEY_STORAGE, 0, TPM_AUTH_ALWAYS,
                       TPM_KEY_PARMS(parms.algorithm_id, parms.enc_scheme, TPM_SS_NONE, parms.parms),
                       b"", b"", b"")
    key = generate(tpm, template, TPM_PT_ASYM, bytes(20), bytes(20))
    tpm.permanent.set(endorsement_key=key, tpm_daa_seed=tpm.random(20), daa_proof=tpm.random(20),
                      daa_blob_key=tpm.random(16))
    return key


def pubek_response(key: Key, anti_replay: bytes) -> PubekResponse:
    """Return the public endorsement key, and SHA-1 of it and the caller's nonce."""
    return PubekResponse(key.pubkey, sha1(encode(key.pubkey) + anti_replay).digest())


@handles
def read_pubek(tpm: Tpm, call: Call, cmd: ReadPubek) -> PubekResponse:
    """The public endorsement key is returned, unless only the owner may read it.  Part 3, 14.4."""
    # Input Validation
    if not tpm.flags.permanent.read_pubek:
        raise TpmError(TPM_DISABLED_CMD)
    if tpm.permanent.endorsement_key is None:
        raise TpmError(TPM_NO_ENDORSEMENT)
    # Command Output
    return pubek_response(tpm.permanent.endorsement_key, cmd.anti_replay)


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
    secret = decrypt_oaep(key, encrypted)
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
