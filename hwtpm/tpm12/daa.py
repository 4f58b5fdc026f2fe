"""What the stages of a join and of a signature compute (Part 3, 26).

Names are those of Part 3: f is the secret of the TPM, in halves f0 and f1; v0 and v1 are the halves of the
credential's; r0 to r4 blind them; c is the challenge, DAA_digest.  Numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from hmac import compare_digest
from hmac import digest as hmac
from struct import Struct
from typing import Final

from hwtpm.crypto import ids, symmetric
from hwtpm.crypto.errors import BadKey, BadSignature, OutOfRange
from hwtpm.crypto.kdf import mgf1
from hwtpm.crypto.modular import power
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.state.daa import DaaSession
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_DAA_INPUT_DATA0,
    TPM_DAA_INPUT_DATA1,
    TPM_DAA_ISSUER_VALIDITY,
    TPM_DAA_WRONG_W,
    TPM_SIZE,
)
from hwtpm.tpm12.types.constants import (
    DAA_SIZE_NT,
    DAA_power0,
    DAA_power1,
    DAA_SIZE_issuerModulus,
    DAA_SIZE_r0,
    DAA_SIZE_r1,
    DAA_SIZE_r2,
    DAA_SIZE_r3,
    DAA_SIZE_r4,
    DAA_SIZE_w,
)
from hwtpm.tpm12.types.daa import TPM_DAA_BLOB, TPM_DAA_ISSUER, TPM_DAA_SENSITIVE
from hwtpm.wire import decode, encode

Stage = Callable[[Tpm, DaaSession, bytes, bytes], bytes]
"""Takes inputData0 and inputData1, and returns outputData.  It raises TpmError, which ends the session."""
Value = Callable[[DaaSession], int]

_NO_LABEL: Final = bytes(16)
_pack_u32 = Struct(">I").pack


def require(condition: bool, rc: int) -> None:
    """Raise TpmError(*rc*) unless *condition* holds."""
    if not condition:
        raise TpmError(rc)


def number(octets: bytes) -> int:
    """Return the number that *octets* are."""
    return int.from_bytes(octets, "big")


def octets(value: int) -> bytes:
    """Return *value* without leading zeros."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def low(value: int) -> int:
    """Return what is below 2^DAA_power1 of *value*, 1024 bits."""
    return value & (1 << DAA_power1) - 1


def high(value: int) -> int:
    """Return what is above of it."""
    return value >> DAA_power1


def to_power(base: int, exponent: int, modulus: int) -> int:
    """Return base^exponent mod modulus; TPM_DAA_WRONG_W for a modulus that is even, or zero."""
    try:
        return power(base, exponent, modulus)
    except OutOfRange:
        raise TpmError(TPM_DAA_WRONG_W) from None


# The secrets of a session


def f(session: DaaSession) -> int:
    """Return the secret of this TPM for this issuer and count; TPM_DAA_WRONG_W for a q of zero."""
    seed = session.tpm_specific.rekey + _pack_u32(session.tpm_specific.count)
    return _mod_q(session, number(sha1(seed + b"\0").digest() + sha1(seed + b"\1").digest()))


def f0(session: DaaSession) -> int:
    """Return the low 104 bits of f."""
    return f(session) & (1 << DAA_power0) - 1


def f1(session: DaaSession) -> int:
    """Return the other bits of f."""
    return f(session) >> DAA_power0


def _blinding(label: bytes, size: int) -> Value:
    return lambda session: number(mgf1(ids.SHA1, label + session.context.context_seed, size))


r0: Final = _blinding(b"r0", DAA_SIZE_r0)
r1: Final = _blinding(b"r1", DAA_SIZE_r1)
r2: Final = _blinding(b"r2", DAA_SIZE_r2)
r3: Final = _blinding(b"r3", DAA_SIZE_r3)
r4: Final = _blinding(b"r4", DAA_SIZE_r4)


def u0(session: DaaSession) -> int:
    """Return the low half of what the TPM contributes to v."""
    return number(session.join.u0)


def u1(session: DaaSession) -> int:
    """Return the high half of it."""
    return number(session.join.u1)


def c(session: DaaSession) -> int:
    """Return the challenge."""
    return number(session.context.digest)


def scratch(session: DaaSession) -> int:
    """Return DAA_scratch, zero where that is NULL."""
    return number(session.context.scratch)


def _mod_q(session: DaaSession, value: int) -> int:
    q = number(session.issuer_settings.generic_q)
    require(q != 0, TPM_DAA_WRONG_W)
    return value % q


# What an issuer says


def issuer(given: bytes) -> TPM_DAA_ISSUER:
    """Return the settings that *given* is; TPM_DAA_INPUT_DATA0 for anything else."""
    try:
        return decode(TPM_DAA_ISSUER, given)
    except TpmError:
        raise TpmError(TPM_DAA_INPUT_DATA0) from None


def verify(modulus: bytes, signed: bytes, signature: bytes) -> None:
    """The owner of *modulus*, with exponent 2^16 + 1, has signed *signed*; else TPM_DAA_ISSUER_VALIDITY."""
    try:
        RsaPublic(modulus).verify_pkcs1(ids.SHA1, sha1(signed).digest(), signature)
    except (BadKey, BadSignature):
        raise TpmError(TPM_DAA_ISSUER_VALIDITY) from None


# Stages


def multiply(base: str, exponent: Value, *, first: bool = False) -> Stage:
    """Return a stage that multiplies DAA_scratch by base^exponent mod n, or with *first* sets it to that.

    inputData0 is the issuer's parameter whose digest is the member *base*, and inputData1 is n.
    """

    def stage(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
        settings = session.issuer_settings
        require(sha1(data0).digest() == getattr(settings, base), TPM_DAA_INPUT_DATA0)
        require(sha1(data1).digest() == settings.digest_n, TPM_DAA_INPUT_DATA1)
        n = number(data1)
        require(n.bit_length() <= 8 * DAA_SIZE_issuerModulus, TPM_SIZE)
        value = to_power(number(data0), exponent(session), n)
        if not first:
            value = value * scratch(session) % n
        session.context.scratch = value.to_bytes(DAA_SIZE_issuerModulus, "big")
        return b""

    return stage


def giving(stage: Stage) -> Stage:
    """Return *stage*, with DAA_scratch as its output, which is NULL then."""

    def last(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
        stage(tpm, session, data0, data1)
        output, session.context.scratch = session.context.scratch, b""
        return output

    return last


def respond(blinding: Value, secret: Value) -> Stage:
    """Return a stage that gives blinding + c * secret."""

    def stage(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
        return octets(blinding(session) + c(session) * secret(session))

    return stage


_multiply_r0: Final = multiply("digest_r0", r0, first=True)


def blind(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """Begin a proof: new secrets blind the old ones (join stage 9, sign stage 2)."""
    session.context.context_seed = tpm.random(20)
    return _multiply_r0(tpm, session, data0, data1)


def _check_gamma(session: DaaSession, data0: bytes) -> int:
    require(sha1(data0).digest() == session.issuer_settings.digest_gamma, TPM_DAA_INPUT_DATA0)
    return number(data0)


def take_w(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData1 is w, an element of order q modulo gamma (join stage 13, sign stage 6)."""
    gamma = _check_gamma(session, data0)
    require(len(data1) == DAA_SIZE_w, TPM_DAA_INPUT_DATA1)
    q = number(session.issuer_settings.generic_q)
    require(to_power(number(data1), q, gamma) == 1, TPM_DAA_WRONG_W)
    session.context.scratch = data1
    return b""


def give_e(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """Give w^f mod gamma, the pseudonym (join stage 14, sign stage 7)."""
    return octets(to_power(scratch(session), f(session), _check_gamma(session, data0)))


def give_e1(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """Give w^r mod gamma, which blinds the pseudonym (join stage 15, sign stage 8)."""
    gamma = _check_gamma(session, data0)
    r = _mod_q(session, r0(session) + (r1(session) << DAA_power0))
    e1 = to_power(scratch(session), r, gamma)
    session.context.scratch = b""
    return octets(e1)


def challenge(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """Give a nonce; with it the host's digest is the challenge (join stage 16, sign stage 9)."""
    require(len(data0) == len(ZERO_DIGEST), TPM_DAA_INPUT_DATA0)
    nonce = tpm.random(DAA_SIZE_NT)
    session.context.digest = sha1(data0 + nonce).digest()
    return nonce


# Blobs


def seal(tpm: Tpm, resource_type: int, secret: bytes) -> bytes:
    """Return *secret* as a TPM_DAA_BLOB, which only this TPM can read."""
    counter = tpm.random(16)
    blob = TPM_DAA_BLOB(resource_type, _NO_LABEL, ZERO_DIGEST, counter,
                        _crypt(tpm, counter, encode(TPM_DAA_SENSITIVE(secret))))
    blob.blob_integrity = _integrity(tpm, blob)
    return encode(blob)


def unseal(tpm: Tpm, resource_type: int, given: bytes) -> bytes:
    """Return what `seal` has sealed as that type; TPM_DAA_INPUT_DATA0 for anything else."""
    try:
        blob = decode(TPM_DAA_BLOB, given)
    except TpmError:
        raise TpmError(TPM_DAA_INPUT_DATA0) from None
    told, blob.blob_integrity = blob.blob_integrity, ZERO_DIGEST
    right = compare_digest(told, _integrity(tpm, blob)) and blob.resource_type == resource_type
    require(right, TPM_DAA_INPUT_DATA0)
    plain = _crypt(tpm, blob.additional_data, blob.sensitive_data)
    return decode(TPM_DAA_SENSITIVE, plain).internal_data


def _integrity(tpm: Tpm, blob: TPM_DAA_BLOB) -> bytes:
    return hmac(tpm.permanent.daa_proof, encode(blob), "sha1")


def _crypt(tpm: Tpm, counter: bytes, text: bytes) -> bytes:
    return symmetric.encrypt(ids.AES, ids.CTR, tpm.permanent.daa_blob_key, counter, text)[0]
