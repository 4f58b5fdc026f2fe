"""The same valid command with other authorizations, and in other states of the TPM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hwtpm.client import Authorization, Password, Session
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import Clear, ClearControl, HierarchyChangeAuth, HierarchyControl
from hwtpm.tpm2.requests.nv import NVGlobalWriteLock, NVReadPublic, NVUndefineSpace, NVWrite
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.requests.policy import PolicyAuthValue, PolicyCommandCode, PolicyPassword
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import (
    TPMA_SESSION_AUDIT,
    TPMA_SESSION_AUDITEXCLUSIVE,
    TPMA_SESSION_AUDITRESET,
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_XOR,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
    TPM_RH_PLATFORM_NV,
)
from hwtpm.tpm2.types.structures import TPMT_HA
from tests.oracle.layout import fields
from tests.oracle.scenario import Case
from tests.oracle.sides import Side, octets, run
from tests.support.tpm2_either import INDEX

PLAIN = TPMT_SYM_DEF(TPM_ALG_NULL)
AES = TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CFB)
XOR = TPMT_SYM_DEF(TPM_ALG_XOR, TPM_ALG_SHA256)
_HMAC, _POLICY, _TRIAL = TPM_SE_HMAC, TPM_SE_POLICY, TPM_SE_TRIAL
_ON = TPMA_SESSION_CONTINUESESSION
Variant = Callable[[Side, Case], bytes]


def attempt(side: Side, request: Command[Any], *sessions: Authorization) -> None:
    """Run a request that may fail: whether it does is seen from what comes after."""
    try:
        run(side, request, *sessions)
    except TpmError:
        return


def _passwords(change: Callable[[list[Authorization]], list[Authorization]]) -> Variant:
    return lambda side, case: octets(side, case.request, *change(list(case.authorizations)))


def _replaced(number: int, password: bytes) -> Variant:
    def change(given: list[Authorization]) -> list[Authorization]:
        given[number] = Password(password)
        return given

    return _passwords(change)


def _session(
    number: int,
    kind: int,
    attributes: int = _ON,
    symmetric: TPMT_SYM_DEF = PLAIN,
    *,
    wrong: bool = False,
    hash_alg: int = TPM_ALG_SHA256,
    asserts: Callable[[int], Command[Any]] | None = None,
    gone: bool = False,
    bind: int = TPM_RH_NULL,
) -> Variant:
    """Authorize handle *number*, or more than the handles there are, by a session."""

    def make(side: Side, case: Case) -> bytes:
        given = list(case.authorizations)
        session = side.client.start_session(kind, hash_alg, symmetric, bind=bind)
        if asserts is not None:
            attempt(side, asserts(session.handle))
        if gone:
            run(side, FlushContext(session.handle))
        session.attributes = attributes
        if number < len(given):
            standing = given[number]
            if kind == _HMAC or asserts is PolicyAuthValue:
                session.auth = b"wrong" if wrong else standing.auth
            given[number] = session
        else:
            given.append(session)
        return octets(side, case.request, *given)

    return make


def _said(variant: Variant, attribute: int) -> Variant:
    """Set an attribute of the first session that the command was not made for."""

    def make(side: Side, case: Case) -> bytes:
        command = bytearray(variant(side, case))
        found = next(f for f in fields(case.request, bytes(command)) if f.path == "session1.attributes")
        command[found.offset] |= attribute
        return bytes(command)

    return make


def variants(case: Case) -> Iterator[tuple[str, Variant]]:
    """Yield other authorizations for *case*."""
    count = len(case.authorizations)
    if any(isinstance(a, Session) for a in case.authorizations):
        plain = [i for i, a in enumerate(case.authorizations) if isinstance(a, Password)]
    else:
        plain = list(range(count))
    if count:
        yield "no sessions", _passwords(lambda given: [])
    for number in range(count):
        yield f"wrong password {number + 1}", _replaced(number, b"wrong")
        yield f"empty password {number + 1}", _replaced(number, b"")
        yield f"long password {number + 1}", _replaced(number, bytes(65))
        yield f"zeros for a password {number + 1}", _replaced(number, bytes(32))
    if count > 1:
        yield "one session short", _passwords(lambda given: given[:-1])
        yield "sessions in the wrong order", _passwords(lambda given: given[::-1])
    yield "one password more", _passwords(lambda given: [*given, Password()])
    yield "four sessions", _passwords(lambda given: [*given, *[Password()] * (4 - len(given))])
    for number in plain[:2]:
        by = f"for handle {number + 1}"
        yield f"HMAC session {by}", _session(number, _HMAC)
        yield f"HMAC session with SHA-1 {by}", _session(number, _HMAC, hash_alg=TPM_ALG_SHA1)
        yield f"HMAC session that ends {by}", _session(number, _HMAC, 0)
        yield f"wrong HMAC {by}", _session(number, _HMAC, wrong=True)
        yield f"flushed HMAC session {by}", _session(number, _HMAC, gone=True)
        yield f"HMAC session bound to the owner {by}", _session(number, _HMAC, bind=TPM_RH_OWNER)
        yield f"policy session {by}", _session(number, _POLICY)
        yield f"flushed policy session {by}", _session(number, _POLICY, gone=True)
        yield f"trial session {by}", _session(number, _TRIAL)
        yield f"PolicyAuthValue {by}", _session(number, _POLICY, asserts=PolicyAuthValue)
        yield f"PolicyPassword {by}", _session(number, _POLICY, asserts=PolicyPassword)
        yield (
            f"PolicyCommandCode {by}",
            _session(number, _POLICY, asserts=lambda s: PolicyCommandCode(s, case.request.CC)),
        )
    if count and 0 in plain:
        for name, symmetric in (("AES", AES), ("XOR", XOR), ("nothing", PLAIN)):
            if symmetric is PLAIN:
                yield f"decrypt with {name}", _said(_session(0, _HMAC), TPMA_SESSION_DECRYPT)
            elif _encryptable(case.request):
                yield f"decrypt with {name}", _session(0, _HMAC, _ON | TPMA_SESSION_DECRYPT, symmetric)
            yield f"encrypt with {name}", _session(0, _HMAC, _ON | TPMA_SESSION_ENCRYPT, symmetric)
        yield "audit", _session(0, _HMAC, _ON | TPMA_SESSION_AUDIT)
        yield "exclusive audit", _session(0, _HMAC, _ON | TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITEXCLUSIVE)
        yield "exclusive without audit", _session(0, _HMAC, _ON | TPMA_SESSION_AUDITEXCLUSIVE)
        yield "audit reset", _session(0, _HMAC, _ON | TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITRESET)
        yield "audit by a policy", _session(0, _POLICY, _ON | TPMA_SESSION_AUDIT)
        yield "reserved attribute", _session(0, _HMAC, _ON | 8)
    yield "session for nothing", _session(9, _HMAC)
    yield "policy session for nothing", _session(9, _POLICY)
    yield "audit session", _session(9, _HMAC, _ON | TPMA_SESSION_AUDIT)
    yield (
        "exclusive audit session",
        _session(9, _HMAC, _ON | TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITEXCLUSIVE),
    )
    yield "encrypt session", _session(9, _HMAC, _ON | TPMA_SESSION_ENCRYPT, AES)
    yield "encrypt session with XOR", _session(9, _HMAC, _ON | TPMA_SESSION_ENCRYPT, XOR)
    if _encryptable(case.request):
        yield "decrypt session", _session(9, _HMAC, _ON | TPMA_SESSION_DECRYPT, AES)
        yield (
            "decrypt and encrypt session",
            _session(9, _HMAC, _ON | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT, AES),
        )


def _encryptable(request: Command[Any]) -> bool:
    from hwtpm.wire import first_is_sized

    return first_is_sized(type(request))


def _flush(first: int) -> Callable[[Side], None]:
    def change(side: Side) -> None:
        for handle in range(first, first + 3):
            attempt(side, FlushContext(handle))

    return change


def _resume(side: Side, shutdown: int, startup: int) -> None:
    attempt(side, Shutdown(shutdown))
    side.power_cycle()
    attempt(side, Startup(startup))


def _interrupted(side: Side) -> None:
    side.power_cycle()
    attempt(side, Startup(TPM_SU_CLEAR))


def _fail(side: Side) -> None:
    attempt(side, DictionaryAttackLockReset(TPM_RH_LOCKOUT), Password(b"wrong"))


CIRCUMSTANCES: dict[str, Callable[[Side], None]] = {
    "owner's authValue set": lambda s: attempt(s, HierarchyChangeAuth(TPM_RH_OWNER, b"other")),
    "endorsement authValue set": lambda s: attempt(s, HierarchyChangeAuth(TPM_RH_ENDORSEMENT, b"other")),
    "platform's authValue set": lambda s: attempt(s, HierarchyChangeAuth(TPM_RH_PLATFORM, b"other")),
    "lockout authValue set": lambda s: attempt(s, HierarchyChangeAuth(TPM_RH_LOCKOUT, b"other")),
    "owner disabled": lambda s: attempt(s, HierarchyControl(TPM_RH_PLATFORM, TPM_RH_OWNER, 0)),
    "endorsement disabled": lambda s: attempt(s, HierarchyControl(TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, 0)),
    "platform disabled": lambda s: attempt(s, HierarchyControl(TPM_RH_PLATFORM, TPM_RH_PLATFORM, 0)),
    "platform NV disabled": lambda s: attempt(s, HierarchyControl(TPM_RH_PLATFORM, TPM_RH_PLATFORM_NV, 0)),
    "locked out": lambda s: attempt(s, DictionaryAttackParameters(TPM_RH_LOCKOUT, 0, 1000, 1000)),
    "lockoutAuth failed": _fail,
    "locality 1": lambda s: s.set_locality(1),
    "locality 2": lambda s: s.set_locality(2),
    "locality 3": lambda s: s.set_locality(3),
    "locality 4": lambda s: s.set_locality(4),
    "no Startup": lambda s: s.power_cycle(),
    "power lost": _interrupted,
    "TPM Resume": lambda s: _resume(s, TPM_SU_STATE, TPM_SU_STATE),
    "TPM Restart": lambda s: _resume(s, TPM_SU_STATE, TPM_SU_CLEAR),
    "TPM Reset": lambda s: _resume(s, TPM_SU_CLEAR, TPM_SU_CLEAR),
    "TPM Resume that is none": lambda s: _resume(s, TPM_SU_CLEAR, TPM_SU_STATE),
    "after Shutdown": lambda s: attempt(s, Shutdown(TPM_SU_STATE)),
    "clear disabled": lambda s: attempt(s, ClearControl(TPM_RH_LOCKOUT, 1)),
    "cleared": lambda s: attempt(s, Clear(TPM_RH_PLATFORM)),
    "globally locked": lambda s: attempt(s, NVGlobalWriteLock(TPM_RH_OWNER)),
    "Index gone": lambda s: attempt(s, NVUndefineSpace(TPM_RH_OWNER, INDEX)),
    "Index written": lambda s: attempt(s, NVWrite(INDEX, INDEX, bytes(4), 0), Password(b"pin")),
    "objects flushed": _flush(0x80000000),
    "HMAC sessions flushed": _flush(0x02000000),
    "policy sessions flushed": _flush(0x03000000),
    "PCR extended": lambda s: attempt(s, PCRExtend(0, [TPMT_HA(TPM_ALG_SHA256, bytes(32))])),
    "looked at": lambda s: (attempt(s, ReadPublic(0x80000000)), attempt(s, NVReadPublic(INDEX)))[0],
}
