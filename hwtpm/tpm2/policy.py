"""What the policy commands have in common (Part 3, 23.2)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import DIGEST_SIZE
from hwtpm.tpm2.state.sessions import Session
from hwtpm.tpm2.types.constants import (
    TPM_EO_BITCLEAR,
    TPM_EO_BITSET,
    TPM_EO_EQ,
    TPM_EO_NEQ,
    TPM_EO_SIGNED_GE,
    TPM_EO_SIGNED_GT,
    TPM_EO_SIGNED_LE,
    TPM_EO_SIGNED_LT,
    TPM_EO_UNSIGNED_GE,
    TPM_EO_UNSIGNED_GT,
    TPM_EO_UNSIGNED_LE,
    TPM_RC_CPHASH,
    TPM_RC_EXPIRED,
    TPM_RC_SIZE,
)

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Tpm

_U32: Final = Struct(">I").pack
_SIGNED: Final = (TPM_EO_SIGNED_GT, TPM_EO_SIGNED_LT, TPM_EO_SIGNED_GE, TPM_EO_SIGNED_LE)


def extend(session: Session, code: int, *asserted: bytes) -> None:
    """policyDigest includes the command code and what is asserted."""
    session.policy_digest = hashes.digest(session.auth_hash, session.policy_digest, _U32(code), *asserted)


def update(session: Session, code: int, name: bytes, policy_ref: bytes | None) -> None:
    """policyDigest includes the Name of an authorizing entity, and then policyRef (Part 3, 23.2.3)."""
    extend(session, code, name)
    if policy_ref is not None:
        session.policy_digest = hashes.digest(session.auth_hash, session.policy_digest, policy_ref)


def qualified(session: Session) -> bytes:
    """Return what the session is limited to already; empty if it is not."""
    return session.cp_hash or session.name_hash or session.template_hash or session.parameters_hash


def timeout(session: Session, expiration: int, nonce: bytes) -> int:
    """Return the Time in ms at which an authorization expires, 0 for never (Part 3, 23.2.2).

    *expiration* counts in seconds, from the start of the session when the authorization has its *nonce*, else
    from the zero of Time.
    """
    if not expiration:
        return 0
    return abs(expiration) * 1000 + (session.start_time if nonce else 0)


def check(tpm: Tpm, session: Session, expires: int, cp_hash: bytes, numbers: tuple[int, int]) -> None:
    """Check expiry and cpHashA of an authorization; *numbers* are those of the parameters (Part 3, 23.2.2).

    Raises TPM_RC_EXPIRED with the first number, TPM_RC_SIZE with the second, and TPM_RC_CPHASH.
    """
    if expires and (expires < tpm.clock.time_ms() or session.epoch != tpm.clock.epoch):
        raise TpmError(TPM_RC_EXPIRED).parameter(numbers[0])
    if cp_hash:
        if len(cp_hash) != DIGEST_SIZE[session.auth_hash]:
            raise TpmError(TPM_RC_SIZE).parameter(numbers[1])
        if qualified(session) and session.cp_hash != cp_hash:
            raise TpmError(TPM_RC_CPHASH)


def limit(session: Session, expires: int, cp_hash: bytes) -> None:
    """The session is limited as an authorization says; its timeout only gets sooner (Part 3, 23.2.4)."""
    if cp_hash:
        session.cp_hash = cp_hash
    if expires and not 0 < session.timeout <= expires:
        session.timeout = expires


def holds(operation: int, found: bytes, operand: bytes) -> bool:
    """Tell whether ``found operation operand`` is true, for operands of one size (Part 2, 6.8)."""
    signed = operation in _SIGNED
    a, b = int.from_bytes(found, "big", signed=signed), int.from_bytes(operand, "big", signed=signed)
    if operation == TPM_EO_EQ:
        return a == b
    if operation == TPM_EO_NEQ:
        return a != b
    if operation == TPM_EO_BITSET:
        return a & b == b
    if operation == TPM_EO_BITCLEAR:
        return not a & b
    if operation in (TPM_EO_SIGNED_GT, TPM_EO_UNSIGNED_GT):
        return a > b
    if operation in (TPM_EO_SIGNED_GE, TPM_EO_UNSIGNED_GE):
        return a >= b
    if operation in (TPM_EO_SIGNED_LE, TPM_EO_UNSIGNED_LE):
        return a <= b
    return a < b
