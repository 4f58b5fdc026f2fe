"""Signatures of loaded keys (Part 1, 31.2; Part 2, 5.8.1)."""

from __future__ import annotations

from hwtpm.crypto import ids
from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import require_usage
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.codes import TPM_BAD_KEY_PROPERTY
from hwtpm.tpm12.types.constants import (
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_SIGNING,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)


def signs_digests(key: Key) -> bool:
    """Tell whether the scheme of *key* is one that the TPM signs its own structures with."""
    scheme = key.public.algorithm_parms.sig_scheme
    return scheme in (TPM_SS_RSASSAPKCS1v15_SHA1, TPM_SS_RSASSAPKCS1v15_INFO)


def require_signing(key: Key) -> None:
    """*key* is one that signs statements of the TPM; else TPM_INVALID_KEYUSAGE."""
    require_usage(key, TPM_KEY_SIGNING, TPM_KEY_IDENTITY, TPM_KEY_LEGACY)


def sign(key: Key, digest: bytes) -> bytes:
    """Return the signature over a SHA-1 *digest*; TPM_BAD_KEY_PROPERTY for a key of no use."""
    try:
        return key.rsa.sign_pkcs1(ids.SHA1, digest)
    except CryptoError:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None


def sign_block(key: Key, block: bytes) -> bytes:
    """Return the signature over *block* as it is, at most 11 octets shorter than the modulus."""
    try:
        return key.rsa.sign_block(block)
    except CryptoError:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None
