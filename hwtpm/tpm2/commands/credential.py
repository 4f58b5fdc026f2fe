"""TPM2_ActivateCredential and TPM2_MakeCredential (Part 3, 12.5 and 12.6; Part 1, 19)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import wrapping
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import MAX_DIGEST_SIZE
from hwtpm.tpm2.requests.object import (
    ActivateCredential,
    ActivateCredentialResponse,
    MakeCredential,
    MakeCredentialResponse,
)
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.templates import ASYMMETRIC, is_storage_key, protection
from hwtpm.tpm2.types.constants import TPM_RC_SIZE, TPM_RC_TYPE

_LABEL = b"IDENTITY"


def _credential_key(tpm: Tpm, handle: int, number: int) -> Object:
    """Return the asymmetric Storage Key at *handle*, of which only the public area need be loaded."""
    key = tpm.objects.loaded(handle)
    if key is None or not is_storage_key(key.public) or key.public.type not in ASYMMETRIC:
        raise TpmError(TPM_RC_TYPE).handle(number)
    return key


@handles
def activate_credential(tpm: Tpm, cmd: ActivateCredential) -> ActivateCredentialResponse:
    """The credential is returned that was made for both objects.  Part 3, 12.5.

    TPM_RC_TYPE (handle 1): a sequence; (handle 2): not an asymmetric Storage Key.  TPM_RC_SIZE, TPM_RC_VALUE,
    TPM_RC_INSUFFICIENT, TPM_RC_ECC_POINT (parameter 2): the secret is not of the form that the key takes.
    TPM_RC_INTEGRITY (parameter 1): the credential was not made for these objects; TPM_RC_SIZE,
    TPM_RC_INSUFFICIENT (parameter 1): the sizes inside do not fit.
    """
    # Input Validation
    activated = tpm.objects.loaded(cmd.activate_handle)
    if activated is None:
        raise TpmError(TPM_RC_TYPE).handle(1)
    key = _credential_key(tpm, cmd.key_handle, 2)
    # The asymmetric algorithms come in only when one is used.
    from hwtpm.tpm2.secret import decrypt_secret

    try:
        seed = decrypt_secret(key, cmd.secret, _LABEL)
    except TpmError as error:
        raise error.parameter(2) from None
    try:
        inside = wrapping.outer_unwrap(key.public.name_alg, seed, protection(key.public), activated.name,
                                       cmd.credential_blob, with_iv=False)
        credential, rest = wrapping.take_sized(inside, MAX_DIGEST_SIZE)
        if rest:
            raise TpmError(TPM_RC_SIZE)
    except TpmError as error:
        raise error.parameter(1) from None

    # Command Output
    return ActivateCredentialResponse(credential)


@handles
def make_credential(tpm: Tpm, cmd: MakeCredential) -> MakeCredentialResponse:
    """The credential is returned in a form that only a TPM with both objects opens.  Part 3, 12.6.

    TPM_RC_TYPE (handle 1): not an asymmetric Storage Key.  TPM_RC_SIZE (parameter 1): the credential is
    longer than a digest of the key's nameAlg.  TPM_RC_VALUE: an RSA key is too short for such a digest.
    """
    # Input Validation
    key = _credential_key(tpm, cmd.handle, 1)
    alg = key.public.name_alg
    if len(cmd.credential) > hashes.size(alg):
        raise TpmError(TPM_RC_SIZE).parameter(1)

    # Command Output
    from hwtpm.tpm2.secret import encrypt_secret

    seed, secret = encrypt_secret(key, _LABEL, tpm.random)
    inside = len(cmd.credential).to_bytes(2, "big") + cmd.credential
    blob = wrapping.outer_wrap(alg, seed, protection(key.public), cmd.object_name, inside)
    return MakeCredentialResponse(blob, secret)
