"""Blobs of delegations: their encryption and integrity (Part 1, 19; Part 2, 20.12 and 20.13)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from hmac import digest as hmac
from typing import TypeVar

from hwtpm.crypto import ids, symmetric
from hwtpm.crypto.errors import OutOfRange
from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL, TPM_BAD_DELEGATE, TPM_BAD_PARAM_SIZE, TPM_BAD_PARAMETER
from hwtpm.tpm12.types.constants import TPM_TAG_DELEGATE_OWNER_BLOB, TPM_TAG_DELG_KEY_BLOB
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_KEY_BLOB, TPM_DELEGATE_OWNER_BLOB, TPM_DELEGATE_SENSITIVE
from hwtpm.wire import decode, encode

Blob = TPM_DELEGATE_OWNER_BLOB | TPM_DELEGATE_KEY_BLOB
B = TypeVar("B", TPM_DELEGATE_OWNER_BLOB, TPM_DELEGATE_KEY_BLOB, Blob)


def seal(tpm: Tpm, blob: B, auth_value: bytes) -> B:
    """Return *blob* with that secret in it, and protected."""
    counter = tpm.random(16)
    plain = encode(TPM_DELEGATE_SENSITIVE(auth_value))
    blob.additional_area = counter
    blob.sensitive_area, _ = symmetric.encrypt(ids.AES, ids.CTR, tpm.permanent.delegate_key, counter, plain)
    return protect(tpm, blob)


def pub_key_digest(modulus: bytes) -> bytes:
    """Return SHA-1 of the TPM_STORE_PUBKEY of a key, which says whose use is delegated (Part 2, 20.13)."""
    return sha1(len(modulus).to_bytes(4, "big") + modulus).digest()


def protect(tpm: Tpm, blob: B) -> B:
    """Return *blob* with the integrity digest that its content has now."""
    blob.integrity_digest = _digest(tpm, blob)
    return blob


def _digest(tpm: Tpm, blob: Blob) -> bytes:
    """Return the HMAC over *blob* with a digest of zeros."""
    told, blob.integrity_digest = blob.integrity_digest, ZERO_DIGEST
    try:
        return hmac(tpm.permanent.tpm_proof, encode(blob), "sha1")
    finally:
        blob.integrity_digest = told


def verify(tpm: Tpm, blob: Blob) -> None:
    """*blob* is one that this TPM has protected; else TPM_AUTHFAIL."""
    if not compare_digest(_digest(tpm, blob), blob.integrity_digest):
        raise TpmError(TPM_AUTHFAIL)


def secret_of(tpm: Tpm, blob: Blob) -> bytes:
    """Return the secret in *blob*, which has been verified; TPM_BAD_DELEGATE if there is none."""
    try:
        plain, _ = symmetric.decrypt(ids.AES, ids.CTR, tpm.permanent.delegate_key, blob.additional_area,
                                     blob.sensitive_area)
        return decode(TPM_DELEGATE_SENSITIVE, plain).auth_value
    except (TpmError, OutOfRange):
        raise TpmError(TPM_BAD_DELEGATE) from None


def read_blob(octets: bytes) -> Blob:
    """Return the blob of either kind; TPM_BAD_PARAMETER for another tag, or what decoding says."""
    if len(octets) < 2:
        raise TpmError(TPM_BAD_PARAM_SIZE)
    tag = int.from_bytes(octets[:2], "big")
    if tag == TPM_TAG_DELEGATE_OWNER_BLOB:
        return decode(TPM_DELEGATE_OWNER_BLOB, octets)
    if tag == TPM_TAG_DELG_KEY_BLOB:
        return decode(TPM_DELEGATE_KEY_BLOB, octets)
    raise TpmError(TPM_BAD_PARAMETER)
