"""Valid commands of TPM 1.2 without keys: admin, ownership, capabilities, PCRs, NV, counters, delegation."""

from __future__ import annotations

from hwtpm.tpm12.requests.audit import GetAuditDigest, SetOrdinalAuditStatus
from hwtpm.tpm12.requests.capability import GetCapability, GetCapabilityOwner, SetCapability
from hwtpm.tpm12.requests.change_auth import ChangeAuthOwner
from hwtpm.tpm12.requests.context import (
    FlushSpecific,
    LoadAuthContext,
    LoadContext,
    SaveAuthContext,
    SaveContext,
    TerminateHandle,
)
from hwtpm.tpm12.requests.counter import (
    CreateCounter,
    IncrementCounter,
    ReadCounter,
    ReleaseCounter,
    ReleaseCounterOwner,
)
from hwtpm.tpm12.requests.delegation import (
    DelegateCreateOwnerDelegation,
    DelegateLoadOwnerDelegation,
    DelegateManage,
    DelegateReadTable,
    DelegateUpdateVerification,
    DelegateVerifyDelegation,
)
from hwtpm.tpm12.requests.endorsement import (
    CreateEndorsementKeyPair,
    CreateRevocableEK,
    DisablePubekRead,
    OwnerReadInternalPub,
    OwnerReadPubek,
    ReadPubek,
    RevokeTrust,
)
from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1CompleteExtend, SHA1Start, SHA1Update
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset
from hwtpm.tpm12.requests.maintenance import (
    KillMaintenanceFeature,
    LoadManuMaintPub,
    ReadManuMaintPub,
)
from hwtpm.tpm12.requests.management import ResetLockValue
from hwtpm.tpm12.requests.nv import (
    DirRead,
    DirWriteAuth,
    NVDefineSpace,
    NVReadValue,
    NVReadValueAuth,
    NVWriteValue,
    NVWriteValueAuth,
)
from hwtpm.tpm12.requests.opt_in import (
    OwnerSetDisable,
    PhysicalDisable,
    PhysicalEnable,
    PhysicalSetDeactivated,
    SetOperatorAuth,
    SetOwnerInstall,
    SetTempDeactivated,
)
from hwtpm.tpm12.requests.ownership import (
    DisableForceClear,
    DisableOwnerClear,
    ForceClear,
    OwnerClear,
    TakeOwnership,
)
from hwtpm.tpm12.requests.presence import PhysicalPresence, ResetEstablishmentBit
from hwtpm.tpm12.requests.random import GetRandom, StirRandom
from hwtpm.tpm12.requests.sessions import DSAP, OIAP, OSAP, SetOwnerPointer
from hwtpm.tpm12.requests.startup import Reset, SaveState, Startup
from hwtpm.tpm12.requests.testing import ContinueSelfTest, GetTestResult, SelfTestFull
from hwtpm.tpm12.requests.ticks import GetTicks
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC, TPM_DELEGATIONS
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.nv import TPM_NV_ATTRIBUTES, TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.ordinals import TPM_DELEGATE_DirWriteAuth
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
from tests.oracle.tpm12.scenario import Case, owners, scenario, simple
from tests.oracle.tpm12.sides import NEW, Side
from tests.support.tpm12 import (
    OWNER_AUTH,
    SRK_AUTH,
    STORAGE_PARMS,
    encrypt_to,
    key_template,
    once,
    selection,
)
from tests.support.tpm12_both import modulus

AUTH, NEW_AUTH, NONCE = b"a" * 20, b"b" * 20, b"n" * 20
ANYWHERE = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0x1F, bytes(20))
INDEX, AUTH_INDEX = 0x1234, 0x1235


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


# Startup, self-tests, opting in


@scenario(Startup)
def startup_clear(side: Side) -> Case:
    side.power_cycle()
    return Case(Startup(c.TPM_ST_CLEAR))


for request in (SaveState(), SelfTestFull(), ContinueSelfTest(), GetTestResult(), Reset(), OIAP(), GetTicks(),
                GetRandom(16), StirRandom(b"stir"), SHA1Start(), Extend(9, NONCE), PcrRead(9), DirRead(0),
                PhysicalPresence(0x0008), DelegateReadTable(),
                PCRReset(selection(16)), PCRReset(selection(23))):
    simple(request)
for request in (PhysicalDisable(), PhysicalEnable(), PhysicalSetDeactivated(1), PhysicalSetDeactivated(0),
                SetTempDeactivated(), SetOperatorAuth(AUTH), ForceClear()):
    simple(request, present=True)
simple(SetOwnerInstall(0), base=NEW, present=True)
simple(DisableForceClear())
for capability in ((c.TPM_CAP_ORD, u32(0x14)), (c.TPM_CAP_ALG, u32(1)), (c.TPM_CAP_PID, b"\0\1"),
                   (c.TPM_CAP_FLAG, u32(c.TPM_CAP_FLAG_PERMANENT)), (c.TPM_CAP_FLAG, u32(0x109)),
                   (c.TPM_CAP_PROPERTY, u32(c.TPM_CAP_PROP_PCR)), (c.TPM_CAP_PROPERTY, u32(0x111)),
                   (c.TPM_CAP_VERSION, b""), (c.TPM_CAP_KEY_HANDLE, b""), (c.TPM_CAP_SYM_MODE, u32(3)),
                   (c.TPM_CAP_NV_LIST, b""), (c.TPM_CAP_TRANS_ALG, u32(6)), (c.TPM_CAP_TRANS_ES, b"\0\4"),
                   (c.TPM_CAP_HANDLE, u32(2)), (c.TPM_CAP_AUTH_ENCRYPT, u32(6)),
                   (c.TPM_CAP_SELECT_SIZE, b"\1\2\0\3")):
    simple(GetCapability(*capability), f"capability_{capability[0]:x}_{capability[1].hex()}")


@scenario(ResetEstablishmentBit)
def reset_establishment_bit(side: Side) -> Case:
    side.set_locality(3)
    return Case(ResetEstablishmentBit())


@scenario(SetTempDeactivated)
def set_temp_deactivated_by_operator(side: Side) -> Case:
    side.present()
    side.run(SetOperatorAuth(AUTH))
    side.run(PhysicalPresence(0x0010))
    return Case(SetTempDeactivated(), side.client.oiap(AUTH))


@scenario(SetCapability)
def set_capability_present(side: Side) -> Case:
    side.present()
    return Case(SetCapability(c.TPM_SET_PERM_FLAGS, u32(c.TPM_PF_DISABLE), b"\1"))


for request in (OwnerSetDisable(1), OwnerClear(), DisableOwnerClear(), ResetLockValue(),
                SetOrdinalAuditStatus(0x15, 1), DisablePubekRead(),
                SetCapability(c.TPM_SET_PERM_FLAGS, u32(c.TPM_PF_READPUBEK), b"\1"),
                DelegateManage(0, c.TPM_FAMILY_CREATE, b"F"), DirWriteAuth(0, NONCE),
                KillMaintenanceFeature()):
    owners(request)


owners(GetCapabilityOwner(), varies="version")
owners(OwnerReadPubek(), varies="pub_key")
owners(OwnerReadInternalPub(c.TPM_KH_SRK), "read_srk", varies="pub_key")
owners(OwnerReadInternalPub(c.TPM_KH_EK), "read_ek", varies="pub_key")
# Each TPM has audited what made it ready, and has ordinals of its own.
simple(GetAuditDigest(0), varies="audit_digest ord_list")


# Ownership and the endorsement key


def take(side: Side) -> TakeOwnership:
    made = side.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS)).pub_endorsement_key
    owner, srk = (encrypt_to(made, auth) for auth in (OWNER_AUTH, SRK_AUTH))
    return TakeOwnership(c.TPM_PID_OWNER, owner, srk, key_template(c.TPM_KEY_STORAGE, STORAGE_PARMS))


@scenario(TakeOwnership, NEW, varies="pub_key enc_data")
def take_ownership(side: Side) -> Case:
    return Case(take(side), side.client.oiap(OWNER_AUTH))


@scenario(CreateEndorsementKeyPair, NEW, varies="pub_key")
def create_endorsement_key_pair(side: Side) -> Case:
    return Case(CreateEndorsementKeyPair(NONCE, STORAGE_PARMS))


@scenario(CreateRevocableEK, NEW, varies="pub_key output_ek_reset checksum")
def create_revocable_ek(side: Side) -> Case:
    return Case(CreateRevocableEK(NONCE, STORAGE_PARMS, 0, AUTH))


@scenario(ReadPubek, NEW, varies="pub_key checksum")
def read_pubek(side: Side) -> Case:
    side.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS))
    return Case(ReadPubek(NONCE))


@scenario(RevokeTrust, NEW)
def revoke_trust(side: Side) -> Case:
    side.run(CreateRevocableEK(NONCE, STORAGE_PARMS, 0, AUTH))
    side.present()
    return Case(RevokeTrust(AUTH))


@scenario(ChangeAuthOwner)
def change_auth_owner(side: Side) -> Case:
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return Case(ChangeAuthOwner(c.TPM_PID_ADCP, session.encrypt(NEW_AUTH), c.TPM_ET_SRK), session)


# Maintenance, which is ours alone


simple(LoadManuMaintPub(NONCE, TPM_PUBKEY(STORAGE_PARMS, modulus())), base=NEW)


@scenario(ReadManuMaintPub)
def read_manu_maint_pub(side: Side) -> Case:
    if side.name == "ours":
        side.run(LoadManuMaintPub(NONCE, TPM_PUBKEY(STORAGE_PARMS, modulus())))
    return Case(ReadManuMaintPub(NONCE))


# Hashing


def hashing(side: Side) -> None:
    side.run(SHA1Start())


@scenario(SHA1Update)
def sha1_update(side: Side) -> Case:
    hashing(side)
    return Case(SHA1Update(b"x" * 64))


@scenario(SHA1Complete)
def sha1_complete(side: Side) -> Case:
    hashing(side)
    side.run(SHA1Update(b"x" * 64))
    return Case(SHA1Complete(b"abc"))


@scenario(SHA1CompleteExtend)
def sha1_complete_extend(side: Side) -> Case:
    hashing(side)
    return Case(SHA1CompleteExtend(9, b"abc"))


# NV storage


def area(index: int, permission: int, size: int = 16, read: TPM_PCR_INFO_SHORT = ANYWHERE,
         write: TPM_PCR_INFO_SHORT = ANYWHERE) -> TPM_NV_DATA_PUBLIC:
    return TPM_NV_DATA_PUBLIC(index, read, write, TPM_NV_ATTRIBUTES(permission), 0, 0, 0, size)


def define(side: Side, index: int, permission: int, size: int = 16) -> None:
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    side.run(NVDefineSpace(area(index, permission, size), session.encrypt(AUTH)), once(session))


@scenario(NVDefineSpace)
def nv_define_space(side: Side) -> Case:
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return Case(NVDefineSpace(area(INDEX, c.TPM_NV_PER_OWNERWRITE), session.encrypt(AUTH)), session)


@scenario(NVDefineSpace, NEW)
def nv_define_space_lock(side: Side) -> Case:
    return Case(NVDefineSpace(area(c.TPM_NV_INDEX_LOCK, 0, 0), bytes(20)))


@scenario(NVDefineSpace, NEW)
def nv_define_space_before_lock(side: Side) -> Case:
    return Case(NVDefineSpace(area(INDEX, c.TPM_NV_PER_PPWRITE), bytes(20)))


@scenario(NVWriteValue)
def nv_write_value(side: Side) -> Case:
    define(side, INDEX, c.TPM_NV_PER_OWNERWRITE | c.TPM_NV_PER_OWNERREAD)
    return Case(NVWriteValue(INDEX, 0, b"sixteen octets.."), side.client.oiap(OWNER_AUTH))


@scenario(NVWriteValue, NEW)
def nv_write_value_before_lock(side: Side) -> Case:
    side.run(NVDefineSpace(area(INDEX, c.TPM_NV_PER_PPWRITE), bytes(20)))
    return Case(NVWriteValue(INDEX, 4, b"octets"))


@scenario(NVReadValue)
def nv_read_value(side: Side) -> Case:
    define(side, INDEX, c.TPM_NV_PER_OWNERWRITE | c.TPM_NV_PER_OWNERREAD)
    side.owner(NVWriteValue(INDEX, 0, b"sixteen octets.."))
    return Case(NVReadValue(INDEX, 0, 16), side.client.oiap(OWNER_AUTH))


@scenario(NVReadValue)
def nv_read_value_free(side: Side) -> Case:
    define(side, INDEX, c.TPM_NV_PER_OWNERWRITE)
    return Case(NVReadValue(INDEX, 2, 8))


@scenario(NVWriteValueAuth)
def nv_write_value_auth(side: Side) -> Case:
    define(side, AUTH_INDEX, c.TPM_NV_PER_AUTHWRITE | c.TPM_NV_PER_AUTHREAD)
    return Case(NVWriteValueAuth(AUTH_INDEX, 0, b"octets"), side.client.oiap(AUTH))


@scenario(NVReadValueAuth)
def nv_read_value_auth(side: Side) -> Case:
    define(side, AUTH_INDEX, c.TPM_NV_PER_AUTHWRITE | c.TPM_NV_PER_AUTHREAD)
    return Case(NVReadValueAuth(AUTH_INDEX, 0, 16), side.client.oiap(AUTH))


# Counters


def counter(side: Side) -> int:
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return side.run(CreateCounter(session.encrypt(AUTH), b"cntr"), once(session)).count_id


@scenario(CreateCounter)
def create_counter(side: Side) -> Case:
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return Case(CreateCounter(session.encrypt(AUTH), b"cntr"), session)


@scenario(IncrementCounter)
def increment_counter(side: Side) -> Case:
    return Case(IncrementCounter(counter(side)), side.client.oiap(AUTH))


@scenario(ReadCounter)
def read_counter(side: Side) -> Case:
    return Case(ReadCounter(counter(side)))


@scenario(ReleaseCounter)
def release_counter(side: Side) -> Case:
    return Case(ReleaseCounter(counter(side)), side.client.oiap(AUTH))


@scenario(ReleaseCounterOwner)
def release_counter_owner(side: Side) -> Case:
    return Case(ReleaseCounterOwner(counter(side)), side.client.oiap(OWNER_AUTH))


# Delegation and sessions


def family(side: Side) -> int:
    made = int.from_bytes(side.owner(DelegateManage(0, c.TPM_FAMILY_CREATE, b"F")).ret_data, "big")
    side.owner(DelegateManage(made, c.TPM_FAMILY_ENABLE, b"\1"))
    return made


def described(number: int) -> TPM_DELEGATE_PUBLIC:
    rights = TPM_DELEGATIONS(c.TPM_DEL_OWNER_BITS, 1 << TPM_DELEGATE_DirWriteAuth, 0)
    return TPM_DELEGATE_PUBLIC(ord("R"), ANYWHERE, rights, number, 0)


def owner_blob(side: Side) -> bytes:
    public = described(family(side))
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return side.run(DelegateCreateOwnerDelegation(0, public, session.encrypt(AUTH)), once(session)).blob


@scenario(DelegateManage)
def delegate_manage_enable(side: Side) -> Case:
    return Case(DelegateManage(family(side), c.TPM_FAMILY_ENABLE, b"\0"), side.client.oiap(OWNER_AUTH))


@scenario(DelegateCreateOwnerDelegation, varies="blob")
def delegate_create_owner_delegation(side: Side) -> Case:
    public = described(family(side))
    session = side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return Case(DelegateCreateOwnerDelegation(0, public, session.encrypt(AUTH)), session)


@scenario(DelegateLoadOwnerDelegation)
def delegate_load_owner_delegation(side: Side) -> Case:
    return Case(DelegateLoadOwnerDelegation(0, owner_blob(side)), side.client.oiap(OWNER_AUTH))


@scenario(DelegateUpdateVerification, varies="output_data")
def delegate_update_verification(side: Side) -> Case:
    return Case(DelegateUpdateVerification(owner_blob(side)), side.client.oiap(OWNER_AUTH))


@scenario(DelegateVerifyDelegation)
def delegate_verify_delegation(side: Side) -> Case:
    return Case(DelegateVerifyDelegation(owner_blob(side)))


@scenario(OSAP)
def osap_owner(side: Side) -> Case:
    return Case(OSAP(c.TPM_ET_OWNER, c.TPM_KH_OWNER, NONCE))


@scenario(OSAP)
def osap_srk(side: Side) -> Case:
    return Case(OSAP(c.TPM_ET_KEYHANDLE, c.TPM_KH_SRK, NONCE))


@scenario(DSAP)
def dsap_blob(side: Side) -> Case:
    return Case(DSAP(c.TPM_ET_DEL_OWNER_BLOB, 0, NONCE, owner_blob(side)))


@scenario(DSAP)
def dsap_row(side: Side) -> Case:
    side.owner(DelegateLoadOwnerDelegation(0, owner_blob(side)))
    return Case(DSAP(c.TPM_ET_DEL_ROW, 0, NONCE, u32(0)))


@scenario(DirWriteAuth)
def delegated_dir_write_auth(side: Side) -> Case:
    session = side.client.dsap(c.TPM_ET_DEL_OWNER_BLOB, owner_blob(side), AUTH)
    return Case(DirWriteAuth(0, NONCE), session)


simple(SetOwnerPointer(c.TPM_ET_OWNER, 0))


@scenario(FlushSpecific)
def flush_session(side: Side) -> Case:
    return Case(FlushSpecific(side.client.oiap(AUTH).handle, c.TPM_RT_AUTH))


@scenario(TerminateHandle)
def terminate_handle(side: Side) -> Case:
    return Case(TerminateHandle(side.client.oiap(AUTH).handle))


@scenario(SaveAuthContext, varies="context_blob")
def save_auth_context(side: Side) -> Case:
    return Case(SaveAuthContext(side.client.oiap(AUTH).handle))


@scenario(LoadAuthContext)
def load_auth_context(side: Side) -> Case:
    return Case(LoadAuthContext(side.run(SaveAuthContext(side.client.oiap(AUTH).handle)).context_blob))


@scenario(SaveContext, varies="context_blob")
def save_session(side: Side) -> Case:
    return Case(SaveContext(side.client.oiap(AUTH).handle, c.TPM_RT_AUTH, b"l" * 16))


@scenario(LoadContext)
def load_session(side: Side) -> Case:
    handle = side.client.oiap(AUTH).handle
    saved = side.run(SaveContext(handle, c.TPM_RT_AUTH, b"l" * 16)).context_blob
    return Case(LoadContext(0, 0, saved))

