"""The endorsement key (Part 3, 14, 27.6 and 27.7)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_owner
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.endorsement import (
    CreateEndorsementKeyPair,
    CreateRevocableEK,
    CreateRevocableEKResponse,
    DisablePubekRead,
    OwnerReadInternalPub,
    OwnerReadPubek,
    PubekResponse,
    PublicKeyResponse,
    ReadPubek,
    RevokeTrust,
)
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAMETER,
    TPM_DISABLED_CMD,
    TPM_NO_ENDORSEMENT,
    TPM_PERMANENTEK,
)
from hwtpm.tpm12.types.constants import (
    TPM_AUTH_ALWAYS,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_STORAGE,
    TPM_KH_EK,
    TPM_KH_SRK,
    TPM_PT_ASYM,
    TPM_SS_NONE,
)
from hwtpm.tpm12.types.key import STRUCT_VER_1_1, TPM_KEY, TPM_KEY_PARMS
from hwtpm.tpm12.wrapping import generate, rsa_parms
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
    template = TPM_KEY(STRUCT_VER_1_1, 0, TPM_KEY_STORAGE, 0, TPM_AUTH_ALWAYS,
                       TPM_KEY_PARMS(parms.algorithm_id, parms.enc_scheme, TPM_SS_NONE, parms.parms),
                       b"", b"", b"")
    key = generate(tpm, template, TPM_PT_ASYM, bytes(20), bytes(20))
    tpm.permanent.set(endorsement_key=key)
    tpm.permanent.endorsement_key_fresh = True
    tpm.permanent.renew_daa_secrets(tpm.random)
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
def create_revocable_ek(tpm: Tpm, call: Call, cmd: CreateRevocableEK) -> CreateRevocableEKResponse:
    """The TPM has a new endorsement key, and a secret that revokes it; there was no key.  Part 3, 14.2."""
    # Input Validation
    check_ek_parms(tpm, cmd.key_info)
    # Internal Data Update
    key = new_endorsement_key(tpm, cmd.key_info)
    reset = tpm.random(20) if cmd.generate_reset else cmd.input_ek_reset
    tpm.permanent.set(ek_reset=reset)
    tpm.flags.set(cekp_used=True, enable_revoke_ek=True)
    # Command Output
    public = pubek_response(key, cmd.anti_replay)
    return CreateRevocableEKResponse(public.pub_endorsement_key, public.checksum, reset)


@handles
def revoke_trust(tpm: Tpm, call: Call, cmd: RevokeTrust) -> Empty:
    """The endorsement key is gone, and all that belonged to it or to an owner.  Part 3, 14.3."""
    # Input Validation
    if not tpm.flags.permanent.enable_revoke_ek:
        raise TpmError(TPM_PERMANENTEK)
    if not compare_digest(cmd.ek_reset, tpm.permanent.ek_reset):
        raise TpmError(TPM_AUTHFAIL)
    tpm.flags.require_presence()
    # Internal Data Update
    tpm.owner_clear(revoke=True)
    # Command Output
    return Empty()


@handles
def owner_read_internal_pub(tpm: Tpm, call: Call, cmd: OwnerReadInternalPub) -> PublicKeyResponse:
    """The public part of the endorsement key or the SRK is returned to the owner.  Part 3, 14.5."""
    # Input Validation
    authorize_owner(tpm, call)
    keys = {TPM_KH_EK: tpm.permanent.endorsement_key, TPM_KH_SRK: tpm.permanent.srk}
    key = keys.get(cmd.key_handle)
    if key is None:
        raise TpmError(TPM_BAD_PARAMETER)
    # Command Output
    return PublicKeyResponse(key.pubkey)


@handles
def owner_read_pubek(tpm: Tpm, call: Call, cmd: OwnerReadPubek) -> PublicKeyResponse:
    """The public endorsement key is returned to the owner.  Part 3, 27.6."""
    # Input Validation
    authorize_owner(tpm, call)
    if tpm.permanent.endorsement_key is None:
        raise TpmError(TPM_NO_ENDORSEMENT)
    # Command Output
    return PublicKeyResponse(tpm.permanent.endorsement_key.pubkey)


@handles
def disable_pubek_read(tpm: Tpm, call: Call, cmd: DisablePubekRead) -> Empty:
    """Only the owner can read the public endorsement key.  Part 3, 27.7."""
    # Input Validation
    authorize_owner(tpm, call)
    # Internal Data Update
    tpm.flags.set(read_pubek=False)
    # Command Output
    return Empty()
