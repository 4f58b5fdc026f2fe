"""Hash and MAC of one buffer (Part 3, 15.4 to 15.6)."""

from __future__ import annotations

from hwtpm.crypto import hashes, symmetric
from hwtpm.errors import TpmError
from hwtpm.tpm2 import tickets
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import HASHES, MAC_SCHEMES
from hwtpm.tpm2.requests.symmetric import MAC, Hash, HashResponse, MACResponse
from hwtpm.tpm2.types.algorithms import TPMS_SYMCIPHER_PARMS
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_RESTRICTED, TPMA_OBJECT_SIGN
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_RC_ATTRIBUTES,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_KEYEDHASH_PARMS


@handles
def hash(tpm: Tpm, cmd: Hash) -> HashResponse:
    """The digest of the data is returned, with a ticket if it may be signed.  Part 3, 15.4."""
    # Command Output: a message too short to start with TPM_GENERATED_VALUE is safe, for it is whole.
    digest = hashes.digest(cmd.hash_alg, cmd.data)
    safe = not tickets.looks_generated(cmd.data)
    return HashResponse(digest, tickets.hashcheck(tpm, cmd.hierarchy, digest, safe=safe))


@handles
def mac(tpm: Tpm, cmd: MAC) -> MACResponse:
    """The MAC of the buffer is returned; also TPM2_HMAC, at the same code.  Part 3, 15.6."""
    # Input Validation
    cipher, alg, key = mac_key(tpm, cmd.handle, cmd.in_scheme)
    # Command Output
    if cipher == TPM_ALG_NULL:
        return MACResponse(hashes.hmac(alg, key, cmd.buffer))
    return MACResponse(symmetric.cmac(cipher, key, cmd.buffer))


def mac_key(tpm: Tpm, handle: int, scheme: int) -> tuple[int, int, bytes]:
    """Return cipher, scheme and key of a MAC with the object at *handle* (Part 3, 15.6 and Table 82).

    The cipher is TPM_ALG_NULL for an HMAC, whose scheme is a hash.

    *scheme* is parameter 2: a hash for an HMAC key, CMAC for a block cipher, TPM_ALG_NULL for that of the
    key.  TPM_RC_TYPE (handle 1): neither kind of key.  TPM_RC_VALUE (parameter 2): not the scheme of the key,
    or none at all.  TPM_RC_SCHEME (parameter 2): not one for this kind of key.  TPM_RC_ATTRIBUTES (handle 1):
    a restricted key.  TPM_RC_KEY (handle 1): sign is CLEAR.
    """
    found = tpm.objects.loaded(handle)
    parameters = None if found is None else found.public.parameters
    cipher = TPM_ALG_NULL
    if isinstance(parameters, TPMS_KEYEDHASH_PARMS):
        details = parameters.scheme.details
        own, suitable = TPM_ALG_NULL if details is None else details.hash_alg, HASHES
    elif isinstance(parameters, TPMS_SYMCIPHER_PARMS):
        mode = parameters.sym.mode
        own, suitable = TPM_ALG_NULL if mode is None else mode, MAC_SCHEMES
        cipher = parameters.sym.algorithm
    else:
        raise TpmError(TPM_RC_TYPE).handle(1)
    assert found is not None
    if TPM_ALG_NULL not in (own, scheme) and own != scheme:
        raise TpmError(TPM_RC_VALUE).parameter(2)
    if scheme == TPM_ALG_NULL:
        scheme = own
    if scheme == TPM_ALG_NULL:
        raise TpmError(TPM_RC_VALUE).parameter(2)
    if scheme not in suitable:
        raise TpmError(TPM_RC_SCHEME).parameter(2)
    if found.attributes & TPMA_OBJECT_RESTRICTED:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    if not found.attributes & TPMA_OBJECT_SIGN:
        raise TpmError(TPM_RC_KEY).handle(1)
    assert found.sensitive is not None, "the dispatcher authorizes no use of a public area alone"
    key = found.sensitive.sensitive
    return cipher, scheme, key
