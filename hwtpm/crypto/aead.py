"""Authenticated encryption of stored state: AES-256-GCM (SP 800-38D)."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hwtpm.crypto.errors import AuthenticationFailed, OutOfRange

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
"""Octets by which a ciphertext is longer than its plaintext."""


def _cipher(key: bytes, nonce: bytes) -> AESGCM:
    if len(key) != KEY_SIZE:
        raise OutOfRange(f"an AES-256-GCM key of {len(key)} octets")
    if len(nonce) != NONCE_SIZE:
        raise OutOfRange(f"an AES-256-GCM nonce of {len(nonce)} octets")
    return AESGCM(key)


def seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes = b"") -> bytes:
    """Return the ciphertext followed by its tag.

    *key* is 32 octets and *nonce* 12, never used twice under one key; *aad* is authenticated and
    not contained.  OutOfRange for another size.
    """
    return _cipher(key, nonce).encrypt(nonce, plaintext, aad)


def open(key: bytes, nonce: bytes, ciphertext: bytes, aad: bytes = b"") -> bytes:
    """Return the plaintext of what `seal` made; AuthenticationFailed when anything differs."""
    try:
        return _cipher(key, nonce).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise AuthenticationFailed("AES-256-GCM") from None
