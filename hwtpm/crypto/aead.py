"""Authenticated encryption of stored state: AES-256-GCM (SP 800-38D)."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hwtpm.crypto.errors import AuthenticationFailed, OutOfRange

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_SIZE:
        raise OutOfRange(f"an AES-256-GCM key of {len(key)} octets")
    return AESGCM(key)


def seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes = b"") -> bytes:
    """Return the nonce, the ciphertext and its tag: 28 octets more than *plaintext*.

    *key* is 32 octets and *nonce* 12, never used twice under one key; *aad* is authenticated and
    not contained.  OutOfRange for another size.
    """
    if len(nonce) != NONCE_SIZE:
        raise OutOfRange(f"an AES-256-GCM nonce of {len(nonce)} octets")
    return nonce + _cipher(key).encrypt(nonce, plaintext, aad)


def open(key: bytes, sealed: bytes, aad: bytes = b"") -> bytes:
    """Return the plaintext of what `seal` made; AuthenticationFailed when anything differs.

    OutOfRange for a key of another size.
    """
    cipher = _cipher(key)
    if len(sealed) < NONCE_SIZE + TAG_SIZE:
        raise AuthenticationFailed("AES-256-GCM: too short")
    try:
        return cipher.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], aad)
    except InvalidTag:
        raise AuthenticationFailed("AES-256-GCM") from None
