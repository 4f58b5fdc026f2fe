"""Tickets: evidence by HMAC that this TPM did something before (Part 1, 9.5.3.3; Part 2, 10.6)."""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from typing import TYPE_CHECKING

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_ALG
from hwtpm.tpm2.types.constants import (
    TPM_GENERATED_VALUE,
    TPM_RC_TICKET,
    TPM_ST_DIGEST_VERIFIED,
    TPM_ST_HASHCHECK,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_TK_HASHCHECK

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Tpm

_U16, _U32, _U64 = Struct(">H").pack, Struct(">I").pack, Struct(">Q").pack
_GENERATED = _U32(TPM_GENERATED_VALUE)


def looks_generated(message: bytes) -> bool:
    """Tell whether *message* starts as what the TPM itself makes and signs (Part 2, 6.2)."""
    return message.startswith(_GENERATED)


def hashcheck(tpm: Tpm, hierarchy: int, digest: bytes, *, safe: bool) -> TPMT_TK_HASHCHECK:
    """Return the evidence that *digest* is that of a message that does not look generated (Part 2, 10.6.7).

    It is a NULL Ticket unless *safe*, and in the NULL hierarchy.
    """
    if not safe or hierarchy == TPM_RH_NULL:
        return TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
    return TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, hierarchy, _hashcheck(tpm, hierarchy, digest))


def check_hashcheck(tpm: Tpm, ticket: TPMT_TK_HASHCHECK, alg: int, digest: bytes) -> None:
    """Return if `hashcheck` gave *ticket* for *digest* and that is one of *alg*, else raise TPM_RC_TICKET.

    A NULL Ticket is refused.  The ticket does not name a hash algorithm: those of the profile differ in size.
    """
    if len(digest) != hashes.size(alg) or not compare_digest(
            ticket.digest, _hashcheck(tpm, ticket.hierarchy, digest)):
        raise TpmError(TPM_RC_TICKET)


def _hashcheck(tpm: Tpm, hierarchy: int, digest: bytes) -> bytes:
    return hashes.hmac(CONTEXT_INTEGRITY_HASH_ALG, tpm.hierarchies.proof(hierarchy), _U16(TPM_ST_HASHCHECK),
                       digest)


def verified(tpm: Tpm, tag: int, hierarchy: int, signed: bytes, key_name: bytes,
             metadata: int | None) -> bytes:
    """Return the HMAC of a TPMT_TK_VERIFIED: the key verified *signed*, a digest or message.

    *metadata* is the hash algorithm that a TPM_ST_DIGEST_VERIFIED names (Part 2, 10.6.5).
    """
    extra = _U16(metadata) if tag == TPM_ST_DIGEST_VERIFIED and metadata is not None else b""
    return hashes.hmac(CONTEXT_INTEGRITY_HASH_ALG, tpm.hierarchies.proof(hierarchy),
                       _U16(tag), signed, key_name, extra)


def authorized(tpm: Tpm, tag: int, hierarchy: int, cp_hash: bytes, policy_ref: bytes, name: bytes,
               timeout: int, *, until_reset: bool) -> bytes:
    """Return the digest of a TPMT_TK_AUTH: *name* authorized until *timeout*, a Time in ms (Part 3, 23.2.5).

    With *until_reset*, a TPM Reset ends it as well.
    """
    ends = b""
    if timeout:
        ends = _U32(tpm.clock.epoch)
        if until_reset:
            # The proof of the NULL hierarchy is as good as a count: it is another after each TPM Reset.
            ends += tpm.hierarchies.proof(TPM_RH_NULL)
    return hashes.hmac(CONTEXT_INTEGRITY_HASH_ALG, tpm.hierarchies.proof(hierarchy),
                       _U16(tag), cp_hash, policy_ref, name, _U64(timeout), ends)
