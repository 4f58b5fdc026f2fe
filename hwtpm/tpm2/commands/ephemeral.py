"""Ephemeral EC keys (Part 3, 19), and the exchange that uses them (Part 3, 14.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from hwtpm.crypto import hashes
from hwtpm.crypto.errors import BadPoint
from hwtpm.errors import TpmError
from hwtpm.tpm2.commands.asymmetric import decryption_key, ecc_key
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_ALG
from hwtpm.tpm2.requests.asymmetric import ZGen2Phase, ZGen2PhaseResponse
from hwtpm.tpm2.requests.ephemeral import Commit, CommitResponse, ECEphemeral, ECEphemeralResponse
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_ECDAA,
    TPM_ALG_ECDH,
    TPM_ALG_ECMQV,
    TPM_ALG_NULL,
    TPM_RC_ECC_POINT,
    TPM_RC_HASH,
    TPM_RC_NO_RESULT,
    TPM_RC_SCHEME,
    TPM_RC_SIZE,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate

_NO_POINT: Final = TPMS_ECC_POINT(b"", b"")


@handles
def commit(tpm: Tpm, cmd: Commit) -> CommitResponse:
    """The points of the first step of an anonymous signature are returned, with its number.  Part 3, 19.2.

    TPM_RC_KEY (handle 1): not an ECC key.  TPM_RC_SCHEME (handle 1): its scheme is not ECDAA.  TPM_RC_SIZE
    (parameter 3): only one of s2 and y2 is empty.  TPM_RC_HASH (handle 1): there is no nameAlg to hash s2
    with.  TPM_RC_ECC_POINT (parameter 2 or 1): the point of s2 and y2, or P1, is not on the curve.
    TPM_RC_NO_RESULT: the random scalar is zero.
    """
    from hwtpm.crypto import ecc

    # Input Validation
    key, parameters = ecc_key(tpm, cmd.sign_handle)
    if parameters.scheme.scheme != TPM_ALG_ECDAA:
        raise TpmError(TPM_RC_SCHEME).handle(1)
    if bool(cmd.s2) != bool(cmd.y2):
        raise TpmError(TPM_RC_SIZE).parameter(3)
    curve = ecc.curve(parameters.curve_id)
    alg = key.public.name_alg
    base: TPMS_ECC_POINT | None = None
    if cmd.s2:
        if alg == TPM_ALG_NULL:
            raise TpmError(TPM_RC_HASH).handle(1)
        x = int.from_bytes(hashes.digest(alg, cmd.s2), "big") % curve.p
        base = TPMS_ECC_POINT(x.to_bytes(curve.field_size, "big"), cmd.y2)
        if not ecc.on_curve(curve.id, base.x, base.y):
            raise TpmError(TPM_RC_ECC_POINT).parameter(2)
    given = bool(cmd.p1.x or cmd.p1.y)
    if given and not ecc.on_curve(curve.id, cmd.p1.x, cmd.p1.y):
        raise TpmError(TPM_RC_ECC_POINT).parameter(1)
    scalar = tpm.commits.scalar(CONTEXT_INTEGRITY_HASH_ALG if alg == TPM_ALG_NULL else alg, key.name, curve.n)
    if not scalar:
        raise TpmError(TPM_RC_NO_RESULT)

    # Command Output: K = [d](x2, y2), L = [r](x2, y2), E = [r]P1, or [r]G without any input.
    once = ecc.EccPrivate(curve.id, scalar)
    k = ell = e = _NO_POINT
    if base is not None:
        k = TPMS_ECC_POINT(*cast("EccPrivate", key.key).multiply(base.x, base.y))
        tpm.check_cancel()
        ell = TPMS_ECC_POINT(*once.multiply(base.x, base.y))
    if given:
        e = TPMS_ECC_POINT(*once.multiply(cmd.p1.x, cmd.p1.y))
    elif base is None:
        e = TPMS_ECC_POINT(*once.public)

    # Internal Data Update
    return CommitResponse(k, ell, e, tpm.commits.commit())


@handles
def ec_ephemeral(tpm: Tpm, cmd: ECEphemeral) -> ECEphemeralResponse:
    """The public point of a new ephemeral key is returned, with its number.  Part 3, 19.3.

    TPM_RC_NO_RESULT: the random scalar is zero.
    """
    from hwtpm.crypto import ecc

    # Input Validation
    curve = ecc.curve(cmd.curve_id)
    scalar = tpm.commits.scalar(CONTEXT_INTEGRITY_HASH_ALG, b"", curve.n)
    if not scalar:
        raise TpmError(TPM_RC_NO_RESULT)
    # Internal Data Update
    point = TPMS_ECC_POINT(*ecc.EccPrivate(curve.id, scalar).public)
    return ECEphemeralResponse(point, tpm.commits.commit())


@handles
def z_gen_2_phase(tpm: Tpm, cmd: ZGen2Phase) -> ZGen2PhaseResponse:
    """The points shared in a key exchange are returned; the ephemeral key is used up.  Part 3, 14.7.

    TPM_RC_KEY, TPM_RC_ATTRIBUTES (handle 1): see `decryption_key`.  TPM_RC_SCHEME (parameter 3): not the
    scheme of the key.  TPM_RC_ECC_POINT (parameter 1 or 2): the point is not on the curve.  TPM_RC_RANGE,
    TPM_RC_VALUE (parameter 4): see `Commits.pending`.
    """
    from hwtpm.crypto import ecc, ecexchange

    # Input Validation
    key = decryption_key(tpm, cmd.key_a, TPM_ALG_ECC)
    parameters = key.public.parameters
    assert isinstance(parameters, TPMS_ECC_PARMS)
    if parameters.scheme.scheme not in (TPM_ALG_NULL, cmd.in_scheme):
        raise TpmError(TPM_RC_SCHEME).parameter(3)
    curve = ecc.curve(parameters.curve_id)
    for number, point in ((1, cmd.in_qs_b), (2, cmd.in_qe_b)):
        if not ecc.on_curve(curve.id, point.x, point.y):
            raise TpmError(TPM_RC_ECC_POINT).parameter(number)
    try:
        found = tpm.commits.pending(cmd.counter)
    except TpmError as error:
        raise error.parameter(4) from None
    once = ecc.EccPrivate(curve.id, tpm.commits.scalar(CONTEXT_INTEGRITY_HASH_ALG, b"", curve.n, found))
    static = cast("EccPrivate", key.key)
    theirs = (cmd.in_qs_b.x, cmd.in_qs_b.y), (cmd.in_qe_b.x, cmd.in_qe_b.y)

    # Command Output: a point at infinity is an empty one.
    second = _NO_POINT
    try:
        if cmd.in_scheme == TPM_ALG_ECDH:
            z = static.multiply(*theirs[0])
            second = TPMS_ECC_POINT(*once.multiply(*theirs[1]))
        else:
            exchange = ecexchange.mqv if cmd.in_scheme == TPM_ALG_ECMQV else ecexchange.sm2
            z = exchange(static, once, *theirs) or (b"", b"")
    except BadPoint:
        raise TpmError(TPM_RC_NO_RESULT) from None

    # Internal Data Update
    tpm.commits.retire(cmd.counter)
    return ZGen2PhaseResponse(TPMS_ECC_POINT(*z), second)
