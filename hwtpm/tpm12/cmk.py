"""Who may migrate a certified migration key (Part 1, 11.3; Part 2, 5.15 to 5.21)."""

from __future__ import annotations

from hashlib import sha1
from hmac import digest as hmac
from typing import Final

from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.types.constants import TPM_PT_MIGRATE_EXTERNAL, TPM_PT_MIGRATE_RESTRICTED
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.migration import TPM_CMK_MA_APPROVAL, TPM_CMK_MIGAUTH, TPM_CMK_SIGTICKET
from hwtpm.wire import Wire, encode

CMK_PAYLOADS: Final = (TPM_PT_MIGRATE_RESTRICTED, TPM_PT_MIGRATE_EXTERNAL)
"""Payload types of certified migration keys, made here or elsewhere."""


def _proof(tpm: Tpm, statement: Wire) -> bytes:
    """Return what proves that this TPM has said *statement*."""
    return hmac(tpm.permanent.tpm_proof, encode(statement), "sha1")


def approval(tpm: Tpm, msa_digest: bytes) -> bytes:
    """Return the proof that the owner has approved the migration authorities of that digest."""
    return _proof(tpm, TPM_CMK_MA_APPROVAL(msa_digest))


def migration_proof(tpm: Tpm, msa_digest: bytes, pubkey_digest: bytes) -> bytes:
    """Return the migrationAuth of a key that only these authorities can migrate."""
    return _proof(tpm, TPM_CMK_MIGAUTH(msa_digest, pubkey_digest))


def ticket(tpm: Tpm, verification_key_digest: bytes, signed_data: bytes) -> bytes:
    """Return the proof that the key of that digest has signed that data."""
    return _proof(tpm, TPM_CMK_SIGTICKET(verification_key_digest, signed_data))


def pubkey_digest(pubkey: TPM_PUBKEY) -> bytes:
    """Return SHA-1 of *pubkey*."""
    return sha1(encode(pubkey)).digest()
