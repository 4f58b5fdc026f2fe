"""Scenarios of start-up, PCRs, policies, hierarchies, capabilities, NV and the rest (Part 3, 9 to 33)."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Annotated, Any, ClassVar

from hwtpm.crypto.hashes import digest
from hwtpm.tpm2.requests.attached import ACGetCapability, ACSend, PolicyACSendSelect
from hwtpm.tpm2.requests.capability import GetCapability, TestParms
from hwtpm.tpm2.requests.clock import ClockRateAdjust, ClockSet, ReadClock
from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.requests.countdown import ACTSetTimeout
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import (
    ChangeEPS,
    ChangePPS,
    Clear,
    ClearControl,
    HierarchyChangeAuth,
    HierarchyControl,
    ReadOnlyControl,
    SetPrimaryPolicy,
)
from hwtpm.tpm2.requests.management import PPCommands, SetAlgorithmSet
from hwtpm.tpm2.requests.nv import (
    NVCertify,
    NVChangeAuth,
    NVDefineSpace,
    NVDefineSpace2,
    NVExtend,
    NVGlobalWriteLock,
    NVIncrement,
    NVRead,
    NVReadLock,
    NVReadPublic,
    NVReadPublic2,
    NVSetBits,
    NVUndefineSpace,
    NVUndefineSpaceSpecial,
    NVWrite,
    NVWriteLock,
)
from hwtpm.tpm2.requests.pcr import (
    PCRAllocate,
    PCREvent,
    PCRExtend,
    PCRRead,
    PCRReset,
    PCRSetAuthPolicy,
    PCRSetAuthValue,
)
from hwtpm.tpm2.requests.policy import (
    PolicyAuthorize,
    PolicyAuthorizeNV,
    PolicyAuthValue,
    PolicyCapability,
    PolicyCommandCode,
    PolicyCounterTimer,
    PolicyCpHash,
    PolicyDuplicationSelect,
    PolicyGetDigest,
    PolicyLocality,
    PolicyNameHash,
    PolicyNV,
    PolicyNvWritten,
    PolicyOR,
    PolicyParameters,
    PolicyPassword,
    PolicyPCR,
    PolicyPhysicalPresence,
    PolicySecret,
    PolicySigned,
    PolicyTemplate,
    PolicyTicket,
)
from hwtpm.tpm2.requests.random import GetRandom, StirRandom
from hwtpm.tpm2.requests.session import PolicyRestart
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.testing import GetTestResult, IncrementalSelfTest, SelfTest
from hwtpm.tpm2.types import attributes as bits
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_CAP_ACT,
    TPM_CAP_ALGS,
    TPM_CAP_AUDIT_COMMANDS,
    TPM_CAP_AUTH_POLICIES,
    TPM_CAP_COMMANDS,
    TPM_CAP_ECC_CURVES,
    TPM_CAP_HANDLES,
    TPM_CAP_PCR_PROPERTIES,
    TPM_CAP_PCRS,
    TPM_CAP_PP_COMMANDS,
    TPM_CAP_TPM_PROPERTIES,
    TPM_EO_EQ,
    TPM_EO_UNSIGNED_GE,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    TPM_CC_NV_ChangeAuth,
    TPM_CC_NV_Read,
    TPM_CC_NV_UndefineSpaceSpecial,
    TPM_CC_SetCapability,
)
from hwtpm.tpm2.types.handles import (
    TPM_RH_ACT_0,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.interface import TPMI_RH_HIERARCHY_AUTH
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC, TPMT_NV_PUBLIC_2
from hwtpm.tpm2.types.objects import TPMT_PUBLIC_PARMS
from hwtpm.tpm2.types.structures import TPM2B_DATA, TPMS_PCR_SELECTION, TPMT_HA
from hwtpm.wire import Role
from tests.oracle.scenario import Case, policy_digest, policy_session, scenario, simple
from tests.oracle.scenarios_keys import ECDSA, NO_TICKET, PCR_SHA256, RSASSA, external
from tests.oracle.sides import Side, run
from tests.support import templates
from tests.support import tpm2_keys as keys
from tests.support.tpm2_either import AUTH_INDEX, DA_INDEX, INDEX, define, rename, written

DIGEST = bytes(range(32))
NAME = b"\0\x0b" + DIGEST
_NT = bits.TPMA_NV_TPM_NT_SHIFT
COUNTER = AUTH_INDEX | bits.TPM_NT_COUNTER << _NT
BITS = AUTH_INDEX | bits.TPM_NT_BITS << _NT
EXTEND = AUTH_INDEX | bits.TPM_NT_EXTEND << _NT
BY_OWNER = bits.TPMA_NV_OWNERREAD | bits.TPMA_NV_OWNERWRITE | bits.TPMA_NV_NO_DA

# 9, 10: start-up and tests


@scenario(Startup)
def startup_clear(side: Side) -> Case:
    side.power_cycle()
    return Case(Startup(TPM_SU_CLEAR))


@scenario(Startup)
def startup_state(side: Side) -> Case:
    run(side, Shutdown(TPM_SU_STATE))
    side.power_cycle()
    return Case(Startup(TPM_SU_STATE))


simple(Shutdown(TPM_SU_CLEAR))
simple(Shutdown(TPM_SU_STATE), "shutdown_state")
simple(SelfTest(1))
simple(SelfTest(0), "self_test_rest")
simple(IncrementalSelfTest([TPM_ALG_SHA256]))
simple(GetTestResult())

# 16: random numbers

simple(GetRandom(16))
simple(StirRandom(b"something"))

# 22: PCRs

simple(PCRExtend(16, [TPMT_HA(TPM_ALG_SHA256, DIGEST), TPMT_HA(TPM_ALG_SHA1, DIGEST[:20])]))
simple(PCREvent(16, b"event"))
simple(PCRRead([PCR_SHA256]))
simple(PCRRead([TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\xff\xff\xff"), PCR_SHA256]), "pcr_read_many")
simple(PCRReset(16))
simple(
    PCRAllocate(
        TPM_RH_PLATFORM,
        [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\xff\xff\xff"), TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\0\0\0")],
    )
)
simple(PCRSetAuthPolicy(TPM_RH_PLATFORM, DIGEST, TPM_ALG_SHA256, 20))
simple(PCRSetAuthValue(20, b"value"))

# 23: policies


def policy(
    name: str, make: Callable[[int], Command[Any]], kind: int = TPM_SE_POLICY, unlike: str = "$^"
) -> None:
    """Register a policy command that a new session can take."""

    def build(side: Side) -> Case:
        return Case(make(policy_session(side, kind=kind).handle))

    build.__name__ = name
    scenario(type(make(0)), unlike=unlike)(build)


policy("policy_restart", PolicyRestart)
policy("policy_or", lambda s: PolicyOR(s, [bytes(32), DIGEST]))
policy("policy_or_trial", lambda s: PolicyOR(s, [bytes(32), DIGEST, DIGEST]), TPM_SE_TRIAL)
policy("policy_pcr", lambda s: PolicyPCR(s, b"", [PCR_SHA256]))
policy("policy_pcr_trial", lambda s: PolicyPCR(s, DIGEST, [PCR_SHA256]), TPM_SE_TRIAL)
policy("policy_locality", lambda s: PolicyLocality(s, 3))
policy(
    "policy_counter_timer", lambda s: PolicyCounterTimer(s, bytes(8), 0, TPM_EO_UNSIGNED_GE), unlike="octets"
)
policy("policy_command_code", lambda s: PolicyCommandCode(s, TPM_CC_NV_Read))
policy("policy_physical_presence", PolicyPhysicalPresence)
policy("policy_cp_hash", lambda s: PolicyCpHash(s, DIGEST))
policy("policy_name_hash", lambda s: PolicyNameHash(s, DIGEST))
policy(
    "policy_duplication_select",
    lambda s: PolicyDuplicationSelect(s, b"\0\x0b" + DIGEST, b"\0\x0b" + DIGEST, 1),
)
policy("policy_auth_value", PolicyAuthValue)
policy("policy_password", PolicyPassword)
policy("policy_get_digest", PolicyGetDigest)
policy("policy_nv_written", lambda s: PolicyNvWritten(s, 1))
policy("policy_template", lambda s: PolicyTemplate(s, DIGEST))
policy("policy_capability", lambda s: PolicyCapability(s, b"", 0, TPM_EO_EQ, TPM_CAP_ALGS, 1))
policy("policy_parameters", lambda s: PolicyParameters(s, DIGEST))


@scenario(PolicySecret, unlike="octets")
def policy_secret(side: Side) -> Case:
    return Case(PolicySecret(TPM_RH_OWNER, policy_session(side).handle, b"", b"", b"ref", 0))


@scenario(PolicySecret, unlike="octets")
def policy_secret_ticket(side: Side) -> Case:
    session = policy_session(side)
    return Case(PolicySecret(TPM_RH_OWNER, session.handle, session.nonce_tpm, DIGEST, b"ref", -1000))


@scenario(PolicySecret, unlike="octets")
def policy_secret_of_index(side: Side) -> Case:
    written(side.client, b"pin")
    return Case(PolicySecret(INDEX, policy_session(side).handle, b"", b"", b"", 0), b"pin")


def signed(side: Side, expiration: int) -> PolicySigned:
    """Return a valid authorization by an RSA key."""
    session = policy_session(side)
    key = external(side, keys.rsa(keys.SIGN))
    a_hash = digest(TPM_ALG_SHA256, session.nonce_tpm, pack(">i", expiration), b"", b"ref")
    made = run(side, Sign(key, a_hash, RSASSA, NO_TICKET))
    return PolicySigned(key, session.handle, session.nonce_tpm, b"", b"ref", expiration, made.signature)


@scenario(PolicySigned)
def policy_signed(side: Side) -> Case:
    return Case(signed(side, 0))


@scenario(PolicySigned)
def policy_signed_ticket(side: Side) -> Case:
    return Case(signed(side, -100000))


@scenario(PolicyTicket, unlike="timeout")
def policy_ticket(side: Side) -> Case:
    authorization = signed(side, -100000)
    made = run(side, authorization)
    run(side, PolicyRestart(authorization.policy_session))
    name = side.client.names[authorization.auth_object]
    return Case(
        PolicyTicket(authorization.policy_session, made.timeout, b"", b"ref", name, made.policy_ticket)
    )


@scenario(PolicyAuthorize)
def policy_authorize(side: Side) -> Case:
    session = policy_session(side)
    key = external(side, keys.elliptic(keys.SIGN), hierarchy=TPM_RH_NULL)
    approval = digest(TPM_ALG_SHA256, bytes(32), b"ref")
    made = run(side, Sign(key, approval, ECDSA, NO_TICKET))
    public = external(side, keys.elliptic(keys.SIGN), public_only=True, hierarchy=TPM_RH_OWNER)
    ticket = run(side, VerifySignature(public, approval, made.signature)).validation
    return Case(PolicyAuthorize(session.handle, bytes(32), b"ref", side.client.names[key], ticket))


@scenario(PolicyNV)
def policy_nv(side: Side) -> Case:
    written(side.client, b"pin")
    session = policy_session(side).handle
    return Case(PolicyNV(INDEX, INDEX, session, b"\0\1\2", 0, TPM_EO_EQ), b"pin")


@scenario(PolicyAuthorizeNV)
def policy_authorize_nv(side: Side) -> Case:
    define(side.client, size=34)
    run(side, NVWrite(INDEX, INDEX, b"\0\x0b" + bytes(32), 0))
    rename(side.client, INDEX)
    return Case(PolicyAuthorizeNV(INDEX, INDEX, policy_session(side).handle))


# 24 to 27: hierarchies, lockout, management

simple(HierarchyControl(TPM_RH_OWNER, TPM_RH_OWNER, 0))
simple(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, 0), "hierarchy_control_by_platform")
simple(SetPrimaryPolicy(TPM_RH_OWNER, DIGEST, TPM_ALG_SHA256))
simple(ChangePPS(TPM_RH_PLATFORM))
simple(ChangeEPS(TPM_RH_PLATFORM))
simple(Clear(TPM_RH_LOCKOUT))
simple(Clear(TPM_RH_PLATFORM), "clear_by_platform")
simple(ClearControl(TPM_RH_LOCKOUT, 1))
simple(HierarchyChangeAuth(TPM_RH_OWNER, b"owner"))
simple(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lockout"), "lockout_change_auth")
simple(ReadOnlyControl(TPM_RH_PLATFORM, 0))
simple(DictionaryAttackLockReset(TPM_RH_LOCKOUT))
simple(DictionaryAttackParameters(TPM_RH_LOCKOUT, 5, 60, 60))
simple(PPCommands(TPM_RH_PLATFORM, [0x11F], []), refused=True)  # without physical presence
simple(SetAlgorithmSet(TPM_RH_PLATFORM, 0))

# 29, 30: clock and capabilities

simple(ReadClock())
simple(ClockSet(TPM_RH_OWNER, 1 << 40), unlike="octets")
simple(ClockRateAdjust(TPM_RH_OWNER, 1))
for _name, _group, _first in (
    ("algs", TPM_CAP_ALGS, 0),
    ("handles", TPM_CAP_HANDLES, 0x40000000),
    ("commands", TPM_CAP_COMMANDS, 0x11F),
    ("pp_commands", TPM_CAP_PP_COMMANDS, 0),
    ("audit_commands", TPM_CAP_AUDIT_COMMANDS, 0),
    ("pcrs", TPM_CAP_PCRS, 0),
    ("properties", TPM_CAP_TPM_PROPERTIES, 0x200),
    ("fixed_properties", TPM_CAP_TPM_PROPERTIES, 0x100),
    ("pcr_properties", TPM_CAP_PCR_PROPERTIES, 0),
    ("curves", TPM_CAP_ECC_CURVES, 0),
    ("policies", TPM_CAP_AUTH_POLICIES, 0x40000000),
    ("act", TPM_CAP_ACT, 0x40000110),
):
    simple(GetCapability(_group, _first, 2), f"capability_{_name}")


class SetCapability(Command[Empty]):
    """TPM2_SetCapability with octets for data: it has no capability that could be set."""

    CC: ClassVar[int] = TPM_CC_SetCapability
    auth_handle: Annotated[TPMI_RH_HIERARCHY_AUTH, Role.USER]
    set_capability_data: TPM2B_DATA


simple(SetCapability(TPM_RH_OWNER, bytes(4)), refused=True)
for _name, _public in (
    ("rsa", templates.rsa()),
    ("ecc", templates.ecc()),
    ("keyed_hash", templates.keyed_hash()),
    ("xor", templates.keyed_hash(scheme=templates.XOR)),
    ("cipher", templates.cipher_key()),
):
    simple(TestParms(TPMT_PUBLIC_PARMS(_public.type, _public.parameters)), f"test_parms_{_name}")

# 31: NV

simple(NVDefineSpace(TPM_RH_OWNER, b"pin", TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, AUTH_INDEX, b"", 16)))
simple(
    NVDefineSpace(
        TPM_RH_PLATFORM,
        b"",
        TPMS_NV_PUBLIC(
            INDEX,
            TPM_ALG_SHA1,
            AUTH_INDEX | bits.TPMA_NV_PLATFORMCREATE | bits.TPMA_NV_POLICYREAD,
            DIGEST[:20],
            100,
        ),
    ),
    "nv_define_by_platform",
)
for _name, _attributes, _size in (("counter", COUNTER, 8), ("bits", BITS, 8), ("extend", EXTEND, 32)):
    simple(
        NVDefineSpace(TPM_RH_OWNER, b"", TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, _attributes, b"", _size)),
        f"nv_define_{_name}",
    )
simple(
    NVDefineSpace2(
        TPM_RH_OWNER, b"pin", TPMT_NV_PUBLIC_2(1, TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, AUTH_INDEX, b"", 16))
    )
)


def nv(
    request: type[Command[Any]],
    *rest: Any,
    attributes: int = AUTH_INDEX,
    size: int = 16,
    fill: bool = False,
    name: str = "",
) -> None:
    """Register an NV command by the authValue of its Index."""

    def build(side: Side) -> Case:
        define(side.client, b"pin", attributes, size=size)
        if fill:
            run(
                side,
                NVWrite(INDEX, INDEX, bytes(range(size)), 0),
                *Case(NVWrite(1, 1, b"", 0), b"pin").authorizations,
            )
            rename(side.client, INDEX)
        return Case(request(INDEX, INDEX, *rest), b"pin")

    build.__name__ = name or request.__name__.lower()
    scenario(request)(build)


nv(NVWrite, bytes(range(16)), 0)
nv(NVWrite, b"part", 4, fill=True, name="nv_write_part")
nv(NVWrite, bytes(range(16)), 0, attributes=DA_INDEX, name="nv_write_da")
nv(NVIncrement, attributes=COUNTER, size=8)
nv(NVExtend, b"data", attributes=EXTEND, size=32)
nv(NVSetBits, 5, attributes=BITS, size=8)
nv(NVWriteLock, attributes=AUTH_INDEX | bits.TPMA_NV_WRITE_STCLEAR)
nv(NVRead, 8, 4, fill=True)
nv(NVRead, 8, 4, attributes=DA_INDEX, fill=True, name="nv_read_da")
nv(NVReadLock, attributes=AUTH_INDEX | bits.TPMA_NV_READ_STCLEAR, fill=True)
simple(NVGlobalWriteLock(TPM_RH_OWNER))


@scenario(NVGlobalWriteLock)
def nv_global_write_lock_index(side: Side) -> Case:
    define(side.client, attributes=AUTH_INDEX | bits.TPMA_NV_GLOBALLOCK)
    return Case(NVGlobalWriteLock(TPM_RH_PLATFORM))


@scenario(NVRead)
def nv_read_by_owner(side: Side) -> Case:
    define(side.client, attributes=BY_OWNER)
    run(side, NVWrite(TPM_RH_OWNER, INDEX, bytes(16), 0))
    rename(side.client, INDEX)
    return Case(NVRead(TPM_RH_OWNER, INDEX, 16, 0))


@scenario(NVRead)
def nv_read_by_policy(side: Side) -> Case:
    allow = [lambda s: PolicyCommandCode(s, TPM_CC_NV_Read)]
    written(side.client, b"", AUTH_INDEX | bits.TPMA_NV_POLICYREAD, policy=policy_digest(side, *allow))
    return Case(NVRead(INDEX, INDEX, 8, 0), policy_session(side, *allow))


@scenario(NVReadPublic)
def nv_read_public(side: Side) -> Case:
    return Case(NVReadPublic(written(side.client, b"pin")))


@scenario(NVReadPublic2)
def nv_read_public_2(side: Side) -> Case:
    return Case(NVReadPublic2(written(side.client, b"pin")))


@scenario(NVUndefineSpace)
def nv_undefine_space(side: Side) -> Case:
    return Case(NVUndefineSpace(TPM_RH_OWNER, define(side.client)))


@scenario(NVUndefineSpaceSpecial)
def nv_undefine_space_special(side: Side) -> Case:
    allow = [lambda s: PolicyCommandCode(s, TPM_CC_NV_UndefineSpaceSpecial)]
    attributes = AUTH_INDEX | bits.TPMA_NV_POLICY_DELETE | bits.TPMA_NV_PLATFORMCREATE
    run(
        side,
        NVDefineSpace(
            TPM_RH_PLATFORM,
            b"",
            TPMS_NV_PUBLIC(INDEX, TPM_ALG_SHA256, attributes, policy_digest(side, *allow), 8),
        ),
    )
    rename(side.client, INDEX)
    return Case(NVUndefineSpaceSpecial(INDEX, TPM_RH_PLATFORM), policy_session(side, *allow), b"")


@scenario(NVChangeAuth)
def nv_change_auth(side: Side) -> Case:
    allow = [lambda s: PolicyCommandCode(s, TPM_CC_NV_ChangeAuth)]
    define(side.client, b"pin", policy=policy_digest(side, *allow))
    return Case(NVChangeAuth(INDEX, b"new"), policy_session(side, *allow))


@scenario(NVCertify)
def nv_certify(side: Side) -> Case:
    written(side.client, b"pin")
    key = external(side, keys.elliptic(keys.SIGN))
    return Case(NVCertify(key, INDEX, INDEX, b"qualifying", ECDSA, 8, 0), b"", b"pin")


@scenario(NVCertify)
def nv_certify_digest(side: Side) -> Case:
    written(side.client, b"pin")
    key = external(side, keys.rsa(keys.SIGN))
    return Case(NVCertify(key, INDEX, INDEX, b"qualifying", RSASSA, 0, 0), b"", b"pin")


# 32, 33: attached components and timers

simple(ACGetCapability(0x90000000, 0, 1))
policy("policy_ac_send_select", lambda s: PolicyACSendSelect(s, NAME, NAME, NAME, 1))


@scenario(ACSend, refused=True)
def ac_send(side: Side) -> Case:
    key = external(side, keys.elliptic(keys.SIGN))
    return Case(ACSend(key, TPM_RH_OWNER, 0x90000000, b"data"))


simple(ACTSetTimeout(TPM_RH_ACT_0, 100))
