"""What the TPM signs with a loaded key (Part 1, 31.2.1; Part 2, 5.8.1)."""

from __future__ import annotations

from hwtpm.crypto import ids
from hwtpm.tpm12.auth import require_usage
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.constants import TPM_KEY_IDENTITY, TPM_KEY_LEGACY, TPM_KEY_SIGNING


def require_signing_key(key: Key) -> None:
    """*key* is one that signs for TPM commands; else TPM_INVALID_KEYUSAGE."""
    require_usage(key, TPM_KEY_SIGNING, TPM_KEY_IDENTITY, TPM_KEY_LEGACY)


def sign_sha1(key: Key, digest: bytes) -> bytes:
    """Return the RSASSA-PKCS1-v1_5 signature over a SHA-1 digest, as long as the modulus of *key*."""
    return key.rsa.sign_pkcs1(ids.SHA1, digest)
