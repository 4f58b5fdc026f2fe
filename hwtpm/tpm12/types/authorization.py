"""Structures for changes of secrets (Part 2, 5.11)."""

from __future__ import annotations

from hwtpm.tpm12.types.base import TPM_NONCE, TPM_SECRET
from hwtpm.wire import Wire


class TPM_CHANGEAUTH_VALIDATE(Wire):
    """A new secret, and a nonce by which the caller knows the answer.  Part 2, 5.11."""

    new_auth_secret: TPM_SECRET
    n1: TPM_NONCE
