"""Direct anonymous attestation: a join and a signature, stage by stage (Part 3, 26).

A stage is a function, and its place in the table is its number.  What Part 3 repeats at each stage is done
once: the checks that it begins with, and what it does to DAA_stage and DAA_digestContext.  The dispatcher
ends a session whose command fails.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from struct import Struct
from typing import Final, NamedTuple

from hwtpm.errors import TpmError
from hwtpm.tpm12 import daa
from hwtpm.tpm12.auth import authorize_owner, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.daa import Stage, number, require
from hwtpm.tpm12.requests.daa import DAAJoin, DAAResponse, DAASign
from hwtpm.tpm12.state.daa import DaaSession
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE, ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_DAA_INPUT_DATA0,
    TPM_DAA_INPUT_DATA1,
    TPM_DAA_ISSUER_SETTINGS,
    TPM_DAA_STAGE,
    TPM_DAA_TPM_SETTINGS,
)
from hwtpm.tpm12.types.constants import (
    DAA_SIZE_NE,
    TPM_KEY_IDENTITY,
    TPM_RT_DAA_TPM,
    TPM_RT_DAA_V0,
    TPM_RT_DAA_V1,
    DAA_SIZE_issuerModulus,
    DAA_SIZE_v0,
    DAA_SIZE_v1,
)
from hwtpm.tpm12.types.daa import TPM_DAA_TPM
from hwtpm.tpm12.wrapping import decrypt
from hwtpm.wire import decode, encode

_pack_u32 = Struct(">I").pack
_COUNT: Final = 4  # octets of DAA_count
_AIK, _DIGEST = b"\0", b"\1"  # what the selector says that is signed


def _joining_begins(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is how many moduli stage 1 takes."""
    count = number(data0)
    require(len(data0) == _COUNT and count > 0, TPM_DAA_INPUT_DATA0)
    session.tpm_specific.count = count
    return _pack_u32(session.handle)


def _take_modulus(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is the first key of the issuer, or the next one, which the last has signed: inputData1."""
    context, specific = session.context, session.tpm_specific
    require(len(data0) == DAA_SIZE_issuerModulus, TPM_DAA_INPUT_DATA0)
    if not context.scratch:
        session.join.digest_n0 = sha1(data0).digest()
        specific.rekey = sha1(tpm.permanent.tpm_daa_seed + session.join.digest_n0).digest()
    else:
        require(len(data1) == DAA_SIZE_issuerModulus, TPM_DAA_INPUT_DATA1)
        daa.verify(context.scratch, data0, data1)
    context.scratch = data0
    specific.count -= 1
    if specific.count:
        context.stage = 1  # The next modulus comes in the same stage.
    return b""


def _take_issuer(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 has the issuer's settings, which its last key has signed: inputData1."""
    session.issuer_settings = daa.issuer(data0)
    require(len(data1) == DAA_SIZE_issuerModulus, TPM_DAA_INPUT_DATA1)
    daa.verify(session.context.scratch, session.join.digest_n0 + data0, data1)
    session.tpm_specific.digest_issuer = sha1(data0).digest()
    session.context.scratch = b""
    return b""


def _take_count(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is DAA_count, by which secrets for one issuer differ."""
    require(len(data0) == _COUNT, TPM_DAA_INPUT_DATA0)
    session.tpm_specific.count = number(data0)
    session.join.u0, session.join.u1 = tpm.random(len(session.join.u0)), tpm.random(len(session.join.u1))
    return b""


_multiply_u1: Final = daa.giving(daa.multiply("digest_s1", daa.u1))


def _give_commitment(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """The commitment to the secrets is given, and what stage 8 proves to be this TPM's is its digest."""
    output = _multiply_u1(tpm, session, data0, data1)
    count = _pack_u32(session.tpm_specific.count)
    session.context.digest = sha1(output + count + session.join.digest_n0).digest()
    return output


def _prove_endorsement(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is a nonce of the issuer under the endorsement key."""
    require(len(data0) == DAA_SIZE_NE, TPM_DAA_INPUT_DATA0)
    key = tpm.permanent.endorsement_key
    assert key is not None, "an owner has taken ownership with it"
    proof = sha1(session.context.digest + decrypt(key, data0)).digest()
    session.context.digest = ZERO_DIGEST
    return proof


def _give_low(session: DaaSession, secret: int) -> bytes:
    return daa.low(daa.r2(session) + daa.c(session) * secret).to_bytes(DAA_SIZE_v0, "big")


def _carry(session: DaaSession, value: int) -> None:
    """What *value* has above its low half is in DAA_scratch."""
    session.context.scratch = daa.high(value).to_bytes(DAA_SIZE_issuerModulus, "big")


def _give_high(session: DaaSession, blinding: int, secret: int) -> bytes:
    output = daa.octets(blinding + daa.c(session) * secret + daa.scratch(session))
    session.context.scratch = b""
    return output


def _join_low(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    return _give_low(session, daa.u0(session))


def _join_carry(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    _carry(session, daa.r2(session) + daa.c(session) * daa.u0(session))
    return session.context.digest


def _join_high(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    return _give_high(session, daa.r3(session), daa.u1(session))


def _give_v0(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is the low half of what the issuer contributes to v."""
    require(len(data0) == DAA_SIZE_v0, TPM_DAA_INPUT_DATA0)
    whole = number(data0) + daa.u0(session)
    v0 = daa.low(whole).to_bytes(DAA_SIZE_v0, "big")
    session.tpm_specific.digest_v0 = sha1(v0).digest()
    _carry(session, whole)
    return daa.seal(tpm, TPM_RT_DAA_V0, v0)


def _give_v1(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is the high half of it."""
    require(len(data0) == DAA_SIZE_v1, TPM_DAA_INPUT_DATA0)
    whole = number(data0) + daa.u1(session) + daa.scratch(session)
    require(whole.bit_length() <= 8 * DAA_SIZE_v1, TPM_DAA_INPUT_DATA0)
    v1 = whole.to_bytes(DAA_SIZE_v1, "big")
    session.tpm_specific.digest_v1 = sha1(v1).digest()
    session.context.scratch = b""
    return daa.seal(tpm, TPM_RT_DAA_V1, v1)


def _give_tpm(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    return daa.seal(tpm, TPM_RT_DAA_TPM, encode(session.tpm_specific))


def _signing_begins(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 has the issuer's settings."""
    session.issuer_settings = daa.issuer(data0)
    return _pack_u32(session.handle)


def _take_tpm(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData0 is what the last stage of a join with this issuer has given."""
    session.tpm_specific = decode(TPM_DAA_TPM, daa.unseal(tpm, TPM_RT_DAA_TPM, data0))
    _check_issuer(session)
    return b""


def _take_message(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    """inputData1 is what is signed: the handle of an identity key or a digest, as inputData0 says."""
    require(data0 in (_AIK, _DIGEST), TPM_DAA_INPUT_DATA0)
    if data0 == _DIGEST:
        require(len(data1) == TPM_DIGEST_SIZE, TPM_DAA_INPUT_DATA1)
        message = data1
    else:
        message = _modulus_of_identity(tpm, data1)
    session.context.digest = sha1(session.context.digest + data0 + message).digest()
    return session.context.digest


def _modulus_of_identity(tpm: Tpm, handle: bytes) -> bytes:
    require(len(handle) == 4, TPM_DAA_INPUT_DATA1)
    try:
        public = use_key(tpm, number(handle), read_only=True).public
    except TpmError:
        raise TpmError(TPM_DAA_INPUT_DATA1) from None
    require(public.key_usage == TPM_KEY_IDENTITY, TPM_DAA_INPUT_DATA1)
    return public.pub_key


def _v0(tpm: Tpm, session: DaaSession, given: bytes) -> int:
    v0 = daa.unseal(tpm, TPM_RT_DAA_V0, given)
    require(sha1(v0).digest() == session.tpm_specific.digest_v0, TPM_DAA_INPUT_DATA0)
    return number(v0)


def _sign_low(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    return _give_low(session, _v0(tpm, session, data0))


def _sign_carry(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    _carry(session, daa.r2(session) + daa.c(session) * _v0(tpm, session, data0))
    return b""


def _sign_high(tpm: Tpm, session: DaaSession, data0: bytes, data1: bytes) -> bytes:
    v1 = daa.unseal(tpm, TPM_RT_DAA_V1, data0)
    require(sha1(v1).digest() == session.tpm_specific.digest_v1, TPM_DAA_INPUT_DATA0)
    return _give_high(session, daa.r4(session), number(v1))


class _Protocol(NamedTuple):
    """The stages by number, what DAA_digestContext covers, and from which stage on the two digests count."""

    stages: tuple[Stage, ...]
    covers: Callable[[DaaSession], bytes]
    context_from: int
    issuer_from: int


_JOIN: Final = _Protocol((
    _joining_begins,  # 0
    _take_modulus,
    _take_issuer,
    _take_count,
    daa.multiply("digest_r0", daa.f0, first=True),
    daa.multiply("digest_r1", daa.f1),  # 5
    daa.multiply("digest_s0", daa.u0),
    _give_commitment,
    _prove_endorsement,
    daa.blind,
    daa.multiply("digest_r1", daa.r1),  # 10
    daa.multiply("digest_s0", daa.r2),
    daa.giving(daa.multiply("digest_s1", daa.r3)),
    daa.take_w,
    daa.give_e,
    daa.give_e1,  # 15
    daa.challenge,
    daa.respond(daa.r0, daa.f0),
    daa.respond(daa.r1, daa.f1),
    _join_low,
    _join_carry,  # 20
    _join_high,
    _give_v0,
    _give_v1,
    _give_tpm,
), lambda session: encode(session.tpm_specific) + encode(session.join), 1, 3)

_SIGN: Final = _Protocol((
    _signing_begins,  # 0
    _take_tpm,
    daa.blind,
    daa.multiply("digest_r1", daa.r1),
    daa.multiply("digest_s0", daa.r2),
    daa.giving(daa.multiply("digest_s1", daa.r4)),  # 5
    daa.take_w,
    daa.give_e,
    daa.give_e1,
    daa.challenge,
    _take_message,  # 10
    daa.respond(daa.r0, daa.f0),
    daa.respond(daa.r1, daa.f1),
    _sign_low,
    _sign_carry,
    _sign_high,  # 15
), lambda session: encode(session.tpm_specific), 2, 2)


def _check_issuer(session: DaaSession) -> None:
    """The session has the settings that its TPM_DAA_TPM was made with; else TPM_DAA_ISSUER_SETTINGS."""
    digest = sha1(encode(session.issuer_settings)).digest()
    require(session.tpm_specific.digest_issuer == digest, TPM_DAA_ISSUER_SETTINGS)


def _advance(tpm: Tpm, protocol: _Protocol, cmd: DAAJoin | DAASign) -> DAAResponse:
    """Do one stage: the session is open from stage 0 on, and closed after the last one."""
    session = tpm.daa.get(cmd.handle) if cmd.stage else tpm.daa.new()
    context = session.context
    require(context.stage == cmd.stage, TPM_DAA_STAGE)
    if cmd.stage >= protocol.issuer_from:
        _check_issuer(session)
    if cmd.stage >= protocol.context_from:
        digest = sha1(protocol.covers(session)).digest()
        require(context.digest_context == digest, TPM_DAA_TPM_SETTINGS)
    context.stage += 1
    output = protocol.stages[cmd.stage](tpm, session, cmd.input_data0, cmd.input_data1)
    context.digest_context = sha1(protocol.covers(session)).digest()
    tpm.daa.add(session)
    if context.stage == len(protocol.stages):
        tpm.daa.close(session.handle)
    return DAAResponse(output)


@handles
def daa_join(tpm: Tpm, call: Call, cmd: DAAJoin) -> DAAResponse:
    """One stage of a join is done.  Part 3, 26.1."""
    # Input Validation
    authorize_owner(tpm, call)
    # Command Output
    return _advance(tpm, _JOIN, cmd)


@handles
def daa_sign(tpm: Tpm, call: Call, cmd: DAASign) -> DAAResponse:
    """One stage of a signature is done.  Part 3, 26.2."""
    # Input Validation
    authorize_owner(tpm, call)
    # Command Output
    return _advance(tpm, _SIGN, cmd)
