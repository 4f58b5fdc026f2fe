"""Signing and signature verification (Part 3, 20)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import schemes, tickets
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.signing import Sign, SignResponse, VerifySignature, VerifySignatureResponse
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_RESTRICTED, TPMA_OBJECT_SIGN, TPMA_OBJECT_X509SIGN
from hwtpm.tpm2.types.constants import TPM_RC_ATTRIBUTES, TPM_RC_KEY, TPM_RC_SIZE, TPM_ST_VERIFIED
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_TK_VERIFIED


@handles
def verify_signature(tpm: Tpm, cmd: VerifySignature) -> VerifySignatureResponse:
    """A ticket is returned that says that the key made this signature of the digest.  Part 3, 20.2.

    TPM_RC_ATTRIBUTES (handle 1): not a signing key.  TPM_RC_SIGNATURE, TPM_RC_SCHEME, TPM_RC_HANDLE
    (parameter 2): see `schemes.verify`.
    """
    # Input Validation
    key = tpm.objects.loaded(cmd.key_handle)
    if key is None or not key.attributes & TPMA_OBJECT_SIGN:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    try:
        schemes.verify(key, cmd.digest, cmd.signature)
    except TpmError as error:
        raise error.parameter(2) from None

    # Command Output
    hierarchy, hmac = key.hierarchy, b""
    if hierarchy == TPM_RH_NULL or not key.name:
        hierarchy = TPM_RH_NULL
    else:
        hmac = tickets.verified(tpm, TPM_ST_VERIFIED, hierarchy, cmd.digest, key.name, None)
    return VerifySignatureResponse(TPMT_TK_VERIFIED(TPM_ST_VERIFIED, hierarchy, None, hmac))


@handles
def sign(tpm: Tpm, cmd: Sign) -> SignResponse:
    """The signature of the digest is returned.  Part 3, 20.5.

    TPM_RC_KEY (handle 1): not a signing key.  TPM_RC_ATTRIBUTES (handle 1): x509sign is SET.  TPM_RC_SCHEME
    (parameter 2): see `schemes.choose`.  TPM_RC_TICKET (parameter 3): the key is restricted, or a ticket is
    given, and the ticket is not one for this digest.  TPM_RC_SIZE (parameter 1): without a ticket, the digest
    is not as long as the scheme's hash makes it.
    """
    # Input Validation
    try:
        key = schemes.signing_key(tpm, cmd.key_handle)
    except TpmError as error:
        raise error.handle(1) from None
    if key is None:
        raise TpmError(TPM_RC_KEY).handle(1)
    attributes = key.attributes
    if attributes & TPMA_OBJECT_X509SIGN:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    try:
        chosen = schemes.choose(key, cmd.in_scheme)
    except TpmError as error:
        raise error.parameter(2) from None
    digest = cmd.digest
    if attributes & TPMA_OBJECT_RESTRICTED or cmd.validation.digest:
        try:
            tickets.check_hashcheck(tpm, cmd.validation, chosen[1], digest)
        except TpmError as error:
            raise error.parameter(3) from None
    elif len(digest) != hashes.size(chosen[1]):
        raise TpmError(TPM_RC_SIZE).parameter(1)

    # Command Output
    return SignResponse(schemes.sign(tpm, key, chosen, digest))
