"""Hierarchies: their auths, policies and enables, and what TPM2_Clear leaves."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from hwtpm.client import Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import EvictControl
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import (
    ChangeEPS,
    ChangePPS,
    Clear,
    ClearControl,
    CreatePrimary,
    CreatePrimaryResponse,
    HierarchyChangeAuth,
    HierarchyControl,
    SetPrimaryPolicy,
)
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVReadPublic
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.hierarchy import Hierarchies
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SENSITIVE_CREATE,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_PLATFORMCREATE,
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.base import NO, YES
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_ECC,
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ECC_NIST_P256,
    TPM_RC_AUTH_FAIL,
    TPM_RC_AUTH_TYPE,
    TPM_RC_BAD_AUTH,
    TPM_RC_DISABLED,
    TPM_RC_HANDLE,
    TPM_RC_HIERARCHY,
    TPM_RC_REFERENCE_H0,
    TPM_RC_SIZE,
    TPM_SE_POLICY,
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
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMT_PUBLIC
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_pair import Pair

NONE = Password()
H1, S1, P1 = 0x100, 0x900, 0x140
PERSISTENT = 0x81000001
STORAGE_KEY = (TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN
               | TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT)


@pytest.fixture
def tpm() -> Machine:
    return started()


def primary(tpm: Machine, hierarchy: int) -> CreatePrimaryResponse:
    parameters = TPMS_ECC_PARMS(
        symmetric=TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB),
        scheme=TPMT_ECC_SCHEME(TPM_ALG_NULL, None), curve_id=TPM_ECC_NIST_P256,
        kdf=TPMT_KDF_SCHEME(TPM_ALG_NULL, None))
    public = TPMT_PUBLIC(TPM_ALG_ECC, TPM_ALG_SHA256, STORAGE_KEY, b"", parameters, TPMS_ECC_POINT(b"", b""))
    return tpm.run(CreatePrimary(hierarchy, TPMS_SENSITIVE_CREATE(b"", b""), public, b"", []), NONE)


def restart(tpm: Machine, shutdown: int | None = TPM_SU_CLEAR, startup: int = TPM_SU_CLEAR) -> None:
    if shutdown is not None:
        tpm.run(Shutdown(shutdown))
    tpm.power_cycle()
    tpm.run(Startup(startup))


@pytest.mark.parametrize("handle", [TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_LOCKOUT])
def test_a_changed_auth_survives_a_loss_of_power(tpm: Machine, handle: int) -> None:
    tpm.run(HierarchyChangeAuth(handle, b"secret\0\0"), NONE)
    restart(tpm, None)
    code = TPM_RC_AUTH_FAIL if handle == TPM_RH_LOCKOUT else TPM_RC_BAD_AUTH
    tpm.run(HierarchyChangeAuth(handle, b"other"), Password(b"secret"))
    with refused(code | S1):
        tpm.run(HierarchyChangeAuth(handle, b""), Password(b"secret"))


def test_the_platforms_auth_and_policy_last_until_restart(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_PLATFORM, b"secret"), NONE)
    tpm.run(SetPrimaryPolicy(TPM_RH_PLATFORM, bytes(32), TPM_ALG_SHA256), Password(b"secret"))
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    assert tpm.tpm.hierarchies.policy(TPM_RH_PLATFORM) == (TPM_ALG_SHA256, bytes(32))
    tpm.run(ClearControl(TPM_RH_PLATFORM, NO), Password(b"secret"))
    restart(tpm)
    assert tpm.tpm.hierarchies.policy(TPM_RH_PLATFORM) == (TPM_ALG_NULL, b"")
    tpm.run(ClearControl(TPM_RH_PLATFORM, NO), NONE)


def test_the_response_is_authorized_with_the_new_auth(tpm: Machine) -> None:
    session = tpm.client.start_session()
    area = session.hmac_key

    def new_key() -> bytes:
        return b"new"

    keys = iter((area, new_key))
    session.hmac_key = lambda: next(keys)()  # type: ignore[method-assign]
    tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, b"new"), session)  # ProtocolError if it were not


def test_clear_answers_with_the_empty_auth(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_LOCKOUT, b"lock"), NONE)
    session = tpm.client.start_session()
    keys = iter((b"lock", b""))
    session.hmac_key = lambda: next(keys)  # type: ignore[method-assign]
    tpm.run(Clear(TPM_RH_LOCKOUT), session)
    assert not list(keys)


def test_an_auth_longer_than_any_digest_is_refused(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, b"x" * 64), NONE)
    with refused(TPM_RC_SIZE | P1):
        tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, b"x" * 65), Password(b"x" * 64))


def test_a_policy_authorizes_the_hierarchy_over_restarts(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, b"secret"), NONE)
    session = tpm.client.start_session(TPM_SE_POLICY)
    tpm.run(SetPrimaryPolicy(TPM_RH_OWNER, bytes(32), TPM_ALG_SHA256), Password(b"secret"))
    tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, b"other"), session)
    restart(tpm, None)
    session = tpm.client.start_session(TPM_SE_POLICY)
    tpm.run(SetPrimaryPolicy(TPM_RH_OWNER, b"", TPM_ALG_NULL), session)
    assert tpm.tpm.hierarchies.policy(TPM_RH_OWNER) == (TPM_ALG_NULL, b"")


def test_a_disabled_hierarchy_loses_its_objects_and_cannot_be_used(tpm: Machine) -> None:
    handle = primary(tpm, TPM_RH_OWNER).object_handle
    tpm.run(EvictControl(TPM_RH_OWNER, handle, PERSISTENT), NONE)
    tpm.run(HierarchyControl(TPM_RH_OWNER, TPM_RH_OWNER, NO), NONE)
    with refused(TPM_RC_REFERENCE_H0):
        tpm.run(ReadPublic(handle))
    with refused(TPM_RC_HANDLE | H1):
        tpm.run(ReadPublic(PERSISTENT))
    with refused(TPM_RC_HIERARCHY | H1):
        tpm.run(HierarchyControl(TPM_RH_OWNER, TPM_RH_OWNER, YES), NONE)
    tpm.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_OWNER, YES), NONE)
    tpm.run(ReadPublic(PERSISTENT))


@pytest.mark.parametrize("disabled", [TPM_RH_OWNER, TPM_RH_ENDORSEMENT])
def test_a_persistent_object_needs_the_hierarchy_of_its_handle_too(tpm: Machine, disabled: int) -> None:
    """An object of the endorsement hierarchy is kept in the owner's range (Part 3, 5.4, item 2.2)."""
    handle = primary(tpm, TPM_RH_ENDORSEMENT).object_handle
    tpm.run(EvictControl(TPM_RH_OWNER, handle, PERSISTENT), NONE)
    tpm.run(HierarchyControl(TPM_RH_PLATFORM, disabled, NO), NONE)
    with refused(TPM_RC_HANDLE | H1):
        tpm.run(ReadPublic(PERSISTENT))
    tpm.run(HierarchyControl(TPM_RH_PLATFORM, disabled, YES), NONE)
    tpm.run(ReadPublic(PERSISTENT))


def test_enables_are_set_again_by_restart_and_ph_enable_by_resume_too(tpm: Machine) -> None:
    for enable in (TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM_NV, TPM_RH_PLATFORM):
        tpm.run(HierarchyControl(TPM_RH_PLATFORM, enable, NO), NONE)
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    hierarchies = tpm.tpm.hierarchies
    assert hierarchies.enabled(TPM_RH_PLATFORM)
    assert not hierarchies.enabled(TPM_RH_ENDORSEMENT)
    assert not hierarchies.ph_enable_nv
    restart(tpm)
    hierarchies = tpm.tpm.hierarchies
    assert hierarchies.enabled(TPM_RH_ENDORSEMENT)
    assert hierarchies.ph_enable_nv


def test_changing_an_enable_after_shutdown_makes_the_shutdown_void(tpm: Machine) -> None:
    tpm.run(Shutdown(TPM_SU_STATE))
    tpm.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, NO), NONE)
    tpm.power_cycle()
    with pytest.raises(TpmError):
        tpm.run(Startup(TPM_SU_STATE))


def test_only_the_platform_changes_its_enables_or_enables_again(tpm: Machine) -> None:
    for authority, enable in ((TPM_RH_OWNER, TPM_RH_PLATFORM), (TPM_RH_OWNER, TPM_RH_PLATFORM_NV),
                              (TPM_RH_OWNER, TPM_RH_ENDORSEMENT), (TPM_RH_ENDORSEMENT, TPM_RH_OWNER)):
        with refused(TPM_RC_AUTH_TYPE):
            tpm.run(HierarchyControl(authority, enable, NO), NONE)


def _define(tpm: Machine, handle: int, authority: int) -> None:
    bits = TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE
    bits |= TPMA_NV_PLATFORMCREATE if authority == TPM_RH_PLATFORM else 0
    tpm.run(NVDefineSpace(authority, b"", TPMS_NV_PUBLIC(handle, TPM_ALG_SHA256, bits, b"", 8)), NONE)


def test_clear_removes_what_the_owner_made(tpm: Machine) -> None:
    _define(tpm, 0x01000001, TPM_RH_OWNER)
    _define(tpm, 0x01000002, TPM_RH_PLATFORM)
    made = {h: primary(tpm, h) for h in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM, TPM_RH_NULL)}
    tpm.run(EvictControl(TPM_RH_OWNER, made[TPM_RH_OWNER].object_handle, PERSISTENT), NONE)
    for handle in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_LOCKOUT):
        tpm.run(HierarchyChangeAuth(handle, b"secret"), NONE)
        tpm.run(SetPrimaryPolicy(handle, bytes(32), TPM_ALG_SHA256), Password(b"secret"))
    tpm.run(DictionaryAttackParameters(TPM_RH_LOCKOUT, 9, 9, 9), Password(b"secret"))
    tpm.run(HierarchyControl(TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, NO), NONE)
    tpm.clock.advance(5000)
    counter = tpm.run(PCRRead([])).pcr_update_counter

    tpm.run(Clear(TPM_RH_PLATFORM), NONE)

    clock = tpm.run(ReadClock()).current_time
    assert (clock.time, clock.clock_info.clock) == (5000, 0)
    assert clock.clock_info.reset_count == clock.clock_info.restart_count == 0
    assert clock.clock_info.safe == YES
    assert tpm.run(PCRRead([])).pcr_update_counter == counter + 1
    assert tpm.tpm.lockout.max_tries != 9
    with refused(TPM_RC_HANDLE | H1):
        tpm.run(NVReadPublic(0x01000001))
    tpm.run(NVReadPublic(0x01000002))
    with refused(TPM_RC_HANDLE | H1):
        tpm.run(ReadPublic(PERSISTENT))
    for handle in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT):
        with refused(TPM_RC_REFERENCE_H0):
            tpm.run(ReadPublic(made[handle].object_handle))
    for handle in (TPM_RH_PLATFORM, TPM_RH_NULL):
        tpm.run(ReadPublic(made[handle].object_handle))
    for handle in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_LOCKOUT):
        assert tpm.tpm.hierarchies.policy(handle) == (TPM_ALG_NULL, b"")
        tpm.run(HierarchyChangeAuth(handle, b""), NONE)
    assert primary(tpm, TPM_RH_OWNER).name != made[TPM_RH_OWNER].name
    assert primary(tpm, TPM_RH_ENDORSEMENT).name == made[TPM_RH_ENDORSEMENT].name


def test_clear_is_disabled_by_lockout_and_enabled_by_the_platform_only(tpm: Machine) -> None:
    tpm.run(ClearControl(TPM_RH_LOCKOUT, YES), NONE)
    restart(tpm, None)
    for handle in (TPM_RH_LOCKOUT, TPM_RH_PLATFORM):
        with refused(TPM_RC_DISABLED):
            tpm.run(Clear(handle), NONE)
    with refused(TPM_RC_AUTH_FAIL):
        tpm.run(ClearControl(TPM_RH_LOCKOUT, NO), NONE)
    tpm.run(ClearControl(TPM_RH_PLATFORM, NO), NONE)
    tpm.run(Clear(TPM_RH_LOCKOUT), NONE)


@pytest.mark.parametrize(("request_type", "hierarchy"),
                         [(ChangePPS, TPM_RH_PLATFORM), (ChangeEPS, TPM_RH_ENDORSEMENT)])
def test_a_new_seed_gives_other_primaries(tpm: Machine, request_type: Any, hierarchy: int) -> None:
    _define(tpm, 0x01000002, TPM_RH_PLATFORM)
    before = primary(tpm, hierarchy)
    proof = tpm.tpm.hierarchies.proof(hierarchy)
    tpm.run(SetPrimaryPolicy(hierarchy, bytes(32), TPM_ALG_SHA256), NONE)
    tpm.run(request_type(TPM_RH_PLATFORM), NONE)
    with refused(TPM_RC_REFERENCE_H0):
        tpm.run(ReadPublic(before.object_handle))
    assert primary(tpm, hierarchy).name != before.name
    assert tpm.tpm.hierarchies.proof(hierarchy) != proof
    assert tpm.tpm.hierarchies.policy(hierarchy) == (TPM_ALG_NULL, b"")
    tpm.run(NVReadPublic(0x01000002))


def test_the_null_seed_is_new_at_reset_and_kept_at_resume_and_restart(tpm: Machine) -> None:
    name = primary(tpm, TPM_RH_NULL).name
    restart(tpm, TPM_SU_STATE, TPM_SU_STATE)
    assert primary(tpm, TPM_RH_NULL).name == name
    restart(tpm, TPM_SU_STATE, TPM_SU_CLEAR)
    assert primary(tpm, TPM_RH_NULL).name == name
    restart(tpm, TPM_SU_CLEAR)
    assert primary(tpm, TPM_RH_NULL).name != name


def test_restore_takes_exactly_what_save_gives(tpm: Machine) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_OWNER, b"secret"), NONE)
    tpm.run(SetPrimaryPolicy(TPM_RH_LOCKOUT, bytes(32), TPM_ALG_SHA256), NONE)
    hierarchies = tpm.tpm.hierarchies
    again = Hierarchies()
    again.restore(hierarchies.save())
    again.restore_volatile(hierarchies.save_volatile())
    assert again.save() == hierarchies.save()
    assert again.save_volatile() == hierarchies.save_volatile()
    with pytest.raises(TpmError):
        again.restore(hierarchies.save()[:-1])


def _request(random: Random) -> Command[Any]:
    usual = (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM, TPM_RH_LOCKOUT)
    handle = random.choice((*usual, *usual, TPM_RH_NULL, TPM_RH_PLATFORM_NV, 0x4000011F, 0x80000000, 0))
    auth = random.choice((b"", b"a", b"a\0", b"x" * 64, b"x" * 65, b"y" * 32))
    policy = bytes(random.choice((0, 20, 32, 32, 48, 64)))
    alg = random.choice((TPM_ALG_NULL, TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, 0x13, TPM_ALG_AES))
    state = random.choice((YES, YES, NO, 2))
    enable = random.choice((*usual, TPM_RH_PLATFORM_NV, TPM_RH_NULL))
    return random.choice((
        HierarchyChangeAuth(handle, auth), HierarchyChangeAuth(TPM_RH_OWNER, auth),
        SetPrimaryPolicy(handle, policy, alg), SetPrimaryPolicy(TPM_RH_ENDORSEMENT, policy, alg),
        HierarchyControl(handle, enable, state), HierarchyControl(TPM_RH_PLATFORM, enable, state),
        ClearControl(handle, state), Clear(handle), ChangeEPS(handle), ChangePPS(handle),
        DictionaryAttackLockReset(handle), DictionaryAttackParameters(handle, 5, 1000, 1000),
    ))


def test_hierarchy_commands_are_answered_as_by_swtpm(fresh: Pair) -> None:
    random = Random(24)
    codes: dict[int, int] = {}
    for _ in range(1500):
        request = _request(random)
        if getattr(request, "enable", 0) == TPM_RH_PLATFORM and random.random() < 0.9:
            continue  # It cannot be enabled again: leave some time for the others.
        password = Password(random.choice((b"", b"", b"", b"a", b"x" * 64)))
        code, theirs = fresh.codes(request, password)
        assert code == theirs, f"{request}: ours 0x{code:03x}"
        codes[code] = codes.get(code, 0) + 1
    assert codes[0] > 50
    assert len(codes) > 8
