"""Identities (Part 3, 15)."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import (
    authorize_key,
    authorize_owner,
    check_pcr_info,
    decrypt_auth,
    one_or_two,
    use_key,
)
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.identity import (
    ActivateIdentity,
    ActivateIdentityResponse,
    MakeIdentity,
    MakeIdentityResponse,
)
from hwtpm.tpm12.signing import sign
from hwtpm.tpm12.types.codes import (
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAMETER,
    TPM_BAD_TYPE,
    TPM_INVALID_KEYUSAGE,
    TPM_NO_ENDORSEMENT,
)
from hwtpm.tpm12.types.constants import (
    TPM_EK_TYPE_ACTIVATE,
    TPM_KEY_IDENTITY,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_PID_OSAP,
    TPM_PT_ASYM,
    TPM_TAG_EK_BLOB,
)
from hwtpm.tpm12.types.identity import (
    TPM_ASYM_CA_CONTENTS,
    TPM_EK_BLOB,
    TPM_EK_BLOB_ACTIVATE,
    TPM_IDENTITY_CONTENTS,
)
from hwtpm.tpm12.wrapping import check_properties, decrypt, generate, rsa_parms, wrap
from hwtpm.wire import decode, encode

_VERSION_1_1: Final = b"\1\1\0\0"
_BITS: Final = 2048


@handles
def make_identity(tpm: Tpm, call: Call, cmd: MakeIdentity) -> MakeIdentityResponse:
    """A new identity key under the SRK is returned, and what it has signed for a CA.  Part 3, 15.1."""
    # Input Validation
    info = cmd.id_key_params
    check_properties(info, fips=bool(tpm.flags.permanent.fips))
    if rsa_parms(info.algorithm_parms).key_length != _BITS:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    for_srk, for_owner = one_or_two(call)
    owner = authorize_owner(tpm, call, for_owner, TPM_PID_OSAP)
    srk = use_key(tpm, TPM_KH_SRK)
    authorize_key(tpm, call, for_srk, srk)
    if info.key_usage != TPM_KEY_IDENTITY or info.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    # Command Output
    usage_auth = decrypt_auth(owner, cmd.identity_auth)
    for given in call.authorizations:
        given.continues = 0
    key = generate(tpm, info, TPM_PT_ASYM, usage_auth, tpm.permanent.tpm_proof)
    contents = TPM_IDENTITY_CONTENTS(_VERSION_1_1, call.ordinal, cmd.label_priv_ca_digest, key.pubkey)
    return MakeIdentityResponse(wrap(key, srk), sign(key, sha1(encode(contents)).digest()))


@handles
def activate_identity(tpm: Tpm, call: Call, cmd: ActivateIdentity) -> ActivateIdentityResponse:
    """The session key that a CA has made for that identity of this TPM is returned.  Part 3, 15.2."""
    # Input Validation
    for_key, for_owner = one_or_two(call)
    authorize_owner(tpm, call, for_owner)
    key = use_key(tpm, cmd.id_key_handle)
    authorize_key(tpm, call, for_key, key)
    if key.public.key_usage != TPM_KEY_IDENTITY:
        raise TpmError(TPM_BAD_PARAMETER)
    if tpm.permanent.endorsement_key is None:
        raise TpmError(TPM_NO_ENDORSEMENT)
    plain = decrypt(tpm.permanent.endorsement_key, cmd.blob)
    identity = sha1(encode(key.pubkey)).digest()
    content: TPM_EK_BLOB_ACTIVATE | TPM_ASYM_CA_CONTENTS
    if int.from_bytes(plain[:2], "big") == TPM_TAG_EK_BLOB:
        blob = decode(TPM_EK_BLOB, plain)
        if blob.ek_type != TPM_EK_TYPE_ACTIVATE:
            raise TpmError(TPM_BAD_TYPE)
        content = decode(TPM_EK_BLOB_ACTIVATE, blob.blob)
    else:
        content = decode(TPM_ASYM_CA_CONTENTS, plain)
    if content.id_digest != identity:
        raise TpmError(TPM_BAD_PARAMETER)
    if isinstance(content, TPM_EK_BLOB_ACTIVATE):
        check_pcr_info(tpm, content.pcr_info)
    # Command Output
    return ActivateIdentityResponse(content.session_key)
