"""TPM2_CreatePrimary again and again: what is answered from memory is what the command would give."""

from __future__ import annotations

from typing import Any

import pytest

from hwtpm.client import Password
from hwtpm.tpm2 import profile
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import (
    ChangeEPS,
    ChangePPS,
    Clear,
    CreatePrimary,
    CreatePrimaryResponse,
    HierarchyChangeAuth,
    HierarchyControl,
)
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.requests.signing import Sign
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.types.algorithms import TPMS_SCHEME_HASH, TPMS_SENSITIVE_CREATE, TPMT_SIG_SCHEME
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDSA,
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_RC_BAD_AUTH,
    TPM_RC_HIERARCHY,
    TPM_RC_OBJECT_MEMORY,
    TPM_ST_HASHCHECK,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA, TPMT_TK_HASHCHECK
from hwtpm.wire import encode
from tests.support.templates import ecc, storage
from tests.support.tpm2 import Machine, refused, started

H1, S1 = 0x100, 0x900
_ECDSA = TPMT_SIG_SCHEME(TPM_ALG_ECDSA, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
_NO_TICKET = TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
_NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")
_HIERARCHIES = (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM, TPM_RH_NULL)


def create(machine: Machine, hierarchy: int = TPM_RH_OWNER, *, template: TPMT_PUBLIC | None = None,
           given: TPMS_SENSITIVE_CREATE = _NOTHING, outside: bytes = b"",
           pcrs: list[TPMS_PCR_SELECTION] | None = None, password: bytes = b"") -> CreatePrimaryResponse:
    request = CreatePrimary(hierarchy, given, template or storage(), outside, pcrs or [])
    return machine.run(request, Password(password))


def remembered(machine: Machine) -> int:
    return len(machine.tpm.objects.answers)


def parameters(response: CreatePrimaryResponse) -> bytes:
    return encode(response)[4:]  # behind the handle


def learn(machine: Machine, hierarchy: int = TPM_RH_OWNER, **arguments: Any) -> CreatePrimaryResponse:
    """Send a command twice, so that it is answered from memory from now on; return the second response."""
    machine.run(FlushContext(create(machine, hierarchy, **arguments).object_handle))
    made = create(machine, hierarchy, **arguments)
    machine.run(FlushContext(made.object_handle))
    return made


@pytest.mark.parametrize("hierarchy", _HIERARCHIES)
def test_the_same_command_loads_the_same_object_again(hierarchy: int) -> None:
    machine = started()
    derived = learn(machine, hierarchy, template=ecc())
    assert remembered(machine) == 1
    first, again = (create(machine, hierarchy, template=ecc()) for _ in range(2))
    assert parameters(first) == parameters(again) == parameters(derived)
    assert again.object_handle == first.object_handle + 1
    machine.run(FlushContext(first.object_handle))
    machine.run(Sign(again.object_handle, bytes(32), _ECDSA, _NO_TICKET), Password())
    machine.tpm.objects.forget()
    assert parameters(create(machine, hierarchy, template=ecc())) == parameters(derived)


def test_every_parameter_and_the_hierarchy_count() -> None:
    machine = started()
    made = [learn(machine), learn(machine, TPM_RH_NULL), learn(machine, template=ecc()),
            learn(machine, outside=b"outside")]
    assert remembered(machine) == len({parameters(response) for response in made}) == len(made)


def test_the_locality_is_in_the_creation_data() -> None:
    machine = started()
    learn(machine)
    machine.locality = 1
    assert create(machine).creation_data.locality == 1 << 1


def test_the_creation_data_of_a_selection_are_those_of_now() -> None:
    machine = started()
    selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\0\0\1")]
    before = learn(machine, pcrs=selection)
    machine.run(PCRExtend(16, [TPMT_HA(TPM_ALG_SHA256, bytes(32))]), Password())
    after = create(machine, pcrs=selection)
    assert before.creation_data.pcr_digest != after.creation_data.pcr_digest
    assert remembered(machine) == 0


@pytest.mark.parametrize("given", [TPMS_SENSITIVE_CREATE(b"auth", b""), TPMS_SENSITIVE_CREATE(b"", b"data")])
def test_a_command_with_a_secret_is_not_kept(given: TPMS_SENSITIVE_CREATE) -> None:
    machine = started()
    learn(machine, given=given)
    assert remembered(machine) == 0


def test_a_primary_that_is_made_once_is_not_kept() -> None:
    machine = started()
    create(machine)
    create(machine, template=ecc())
    assert remembered(machine) == 0


def test_an_answer_from_memory_needs_a_free_handle() -> None:
    machine = started()
    learn(machine)
    for _ in range(profile.MAX_LOADED_OBJECTS):
        create(machine)
    with refused(TPM_RC_OBJECT_MEMORY):
        create(machine)


def test_an_answer_from_memory_needs_authorization() -> None:
    machine = started()
    learn(machine)
    machine.run(HierarchyChangeAuth(TPM_RH_OWNER, b"auth"), Password())
    with refused(TPM_RC_BAD_AUTH | S1):
        create(machine)
    create(machine, password=b"auth")


def test_an_answer_from_memory_is_audited() -> None:
    machine = started()
    learn(machine)
    machine.run(SetCommandCodeAuditStatus(TPM_RH_OWNER, TPM_ALG_NULL, [CreatePrimary.CC], []), Password())
    before = machine.tpm.audit.digest
    create(machine)
    assert machine.tpm.audit.digest != before


@pytest.mark.parametrize(("hierarchy", "change"), [
    (TPM_RH_OWNER, Clear(TPM_RH_LOCKOUT)), (TPM_RH_ENDORSEMENT, Clear(TPM_RH_LOCKOUT)),
    (TPM_RH_ENDORSEMENT, ChangeEPS(TPM_RH_PLATFORM)), (TPM_RH_PLATFORM, ChangePPS(TPM_RH_PLATFORM)),
])
def test_new_seeds_and_proofs_are_heeded_and_the_old_forgotten(hierarchy: int, change: Clear) -> None:
    machine = started()
    before = learn(machine, hierarchy)
    machine.run(change, Password())
    assert remembered(machine) == 0
    after = learn(machine, hierarchy)
    assert after.creation_ticket.digest != before.creation_ticket.digest
    assert parameters(create(machine, hierarchy)) == parameters(after)


def test_a_state_that_is_rolled_back_is_heeded() -> None:
    machine = started()
    old = machine.engine.snapshot()
    before = learn(machine)
    machine.run(Clear(TPM_RH_LOCKOUT), Password())
    cleared = learn(machine)
    machine.engine.rollback(old)
    assert parameters(create(machine)) == parameters(before) != parameters(cleared)


def test_a_hierarchy_that_is_disabled_is_forgotten() -> None:
    machine = started()
    learn(machine)
    machine.run(HierarchyControl(TPM_RH_OWNER, TPM_RH_OWNER, 0), Password())
    assert remembered(machine) == 0
    with refused(TPM_RC_HIERARCHY | H1):
        create(machine)


def test_a_startup_forgets() -> None:
    machine = started()
    learn(machine)
    machine.tpm.power.started = False
    machine.run(Startup(TPM_SU_CLEAR))
    assert remembered(machine) == 0


def test_the_memory_is_bounded() -> None:
    machine = started()
    for i in range(100):
        learn(machine, outside=bytes([i]))
    assert remembered(machine) == 32
