"""Hash and HMAC of one buffer (Part 3, 15.4 and 15.5)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import tickets
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.symmetric import HMAC, Hash, HashResponse, HMACResponse
from hwtpm.tpm2.types.algorithms import TPMS_SCHEME_HASH
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_RESTRICTED, TPMA_OBJECT_SIGN
from hwtpm.tpm2.types.constants import (
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_RC_ATTRIBUTES,
    TPM_RC_KEY,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMS_KEYEDHASH_PARMS


@handles
def hash(tpm: Tpm, cmd: Hash) -> HashResponse:
    # Command Output: a message too short to start with TPM_GENERATED_VALUE is safe, for it is whole.
    digest = hashes.digest(cmd.hash_alg, cmd.data)
    safe = not tickets.looks_generated(cmd.data)
    return HashResponse(digest, tickets.hashcheck(tpm, cmd.hierarchy, digest, safe=safe))


@handles
def hmac(tpm: Tpm, cmd: HMAC) -> HMACResponse:
    # Input Validation
    alg, key = hmac_key(tpm, cmd.handle, cmd.hash_alg, 2)
    # Command Output
    return HMACResponse(hashes.hmac(alg, key, cmd.buffer))


def hmac_key(tpm: Tpm, handle: int, hash_alg: int, number: int) -> tuple[int, bytes]:
    """Return the hash algorithm and the key of an HMAC with the object at *handle* (Part 3, 15.5).

    *hash_alg* is parameter *number* of the command; TPM_ALG_NULL chooses the scheme of the key.  Raises
    TPM_RC_TYPE, TPM_RC_ATTRIBUTES or TPM_RC_KEY for an object that is no unrestricted HMAC key.
    """
    found = tpm.objects.loaded(handle)
    if found is None or found.public.type != TPM_ALG_KEYEDHASH:
        raise TpmError(TPM_RC_TYPE).handle(1)
    if found.attributes & TPMA_OBJECT_RESTRICTED:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    if not found.attributes & TPMA_OBJECT_SIGN:
        raise TpmError(TPM_RC_KEY).handle(1)
    parameters = found.public.parameters
    assert isinstance(parameters, TPMS_KEYEDHASH_PARMS)
    details = parameters.scheme.details
    if isinstance(details, TPMS_SCHEME_HASH):
        if hash_alg not in (TPM_ALG_NULL, details.hash_alg):
            raise TpmError(TPM_RC_VALUE).parameter(number)
        hash_alg = details.hash_alg
    elif hash_alg == TPM_ALG_NULL:
        raise TpmError(TPM_RC_VALUE).parameter(number)
    assert found.sensitive is not None, "the dispatcher authorizes no use of a public area alone"
    return hash_alg, found.sensitive.sensitive
