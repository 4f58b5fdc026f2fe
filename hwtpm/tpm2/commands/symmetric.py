"""Symmetric encryption (Part 3, 15.2 and 15.3); the hashes of that chapter are in `hashing`."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import symmetric
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import MAC_SCHEMES
from hwtpm.tpm2.requests.symmetric import (
    EncryptDecrypt,
    EncryptDecrypt2,
    EncryptDecrypt2Response,
    EncryptDecryptResponse,
)
from hwtpm.tpm2.types.algorithms import TPMS_SYMCIPHER_PARMS
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_DECRYPT, TPMA_OBJECT_RESTRICTED, TPMA_OBJECT_SIGN
from hwtpm.tpm2.types.constants import (
    TPM_ALG_CBC,
    TPM_ALG_ECB,
    TPM_ALG_NULL,
    TPM_RC_ATTRIBUTES,
    TPM_RC_KEY,
    TPM_RC_MODE,
    TPM_RC_SIZE,
)

_WHOLE_BLOCKS: Final = (TPM_ALG_CBC, TPM_ALG_ECB)


@handles
def encrypt_decrypt(tpm: Tpm, cmd: EncryptDecrypt) -> EncryptDecryptResponse:
    """The data are returned encrypted or decrypted, with the IV of the next part.  Part 3, 15.2.

    The codes are those of `encrypt_decrypt2`, with mode, ivIn and inData as parameters 2, 3 and 4.
    """
    return EncryptDecryptResponse(*_crypt(tpm, cmd, mode=2, iv=3, data=4))


@handles
def encrypt_decrypt2(tpm: Tpm, cmd: EncryptDecrypt2) -> EncryptDecrypt2Response:
    """The data are returned encrypted or decrypted, with the IV of the next part.  Part 3, 15.3.

    TPM_RC_KEY (handle 1): not a symmetric cipher.  TPM_RC_ATTRIBUTES (handle 1): restricted is SET, decrypt
    is CLEAR for a decryption, or sign for an encryption.  TPM_RC_MODE (handle 1): the key is for a MAC.
    TPM_RC_MODE (parameter 3): not the mode of the key,
    or no mode at all.  TPM_RC_SIZE (parameter 4): the IV is not one block, or not empty for ECB.
    TPM_RC_SIZE (parameter 1): the data are not whole blocks, for CBC and ECB.
    """
    return EncryptDecrypt2Response(*_crypt(tpm, cmd, mode=3, iv=4, data=1))


def _crypt(tpm: Tpm, cmd: EncryptDecrypt | EncryptDecrypt2, *, mode: int, iv: int,
           data: int) -> tuple[bytes, bytes]:
    """Return the data and the chaining value; errors name the parameters by the given numbers."""
    # Input Validation
    key = tpm.objects.loaded(cmd.key_handle)
    parameters = None if key is None else key.public.parameters
    if key is None or not isinstance(parameters, TPMS_SYMCIPHER_PARMS):
        raise TpmError(TPM_RC_KEY).handle(1)
    use = TPMA_OBJECT_DECRYPT if cmd.decrypt else TPMA_OBJECT_SIGN
    if key.attributes & (TPMA_OBJECT_RESTRICTED | use) != use:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    cipher = parameters.sym
    if cipher.mode in MAC_SCHEMES:
        raise TpmError(TPM_RC_MODE).handle(1)
    chosen = cmd.mode
    block = symmetric.block_size(cipher.algorithm)
    if cipher.mode != TPM_ALG_NULL:
        if chosen not in (TPM_ALG_NULL, cipher.mode):
            raise TpmError(TPM_RC_MODE).parameter(mode)
        assert cipher.mode is not None
        chosen = cipher.mode
    elif chosen == TPM_ALG_NULL:
        raise TpmError(TPM_RC_MODE).parameter(mode)
    if len(cmd.iv_in) != (0 if chosen == TPM_ALG_ECB else block):
        raise TpmError(TPM_RC_SIZE).parameter(iv)
    if chosen in _WHOLE_BLOCKS and len(cmd.in_data) % block:
        raise TpmError(TPM_RC_SIZE).parameter(data)

    # Command Output
    assert key.sensitive is not None, "a public-only object has no authorization"
    run = symmetric.decrypt if cmd.decrypt else symmetric.encrypt
    return run(cipher.algorithm, chosen, key.sensitive.sensitive, cmd.iv_in, cmd.in_data)
