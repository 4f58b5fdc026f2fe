"""Families, delegations and DSAP sessions of TPM 1.2 (Part 3, 18.3, 18.4 and 19)."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from hwtpm.client12 import Client, Session
from hwtpm.tpm12.profile import DELEGATE_ROWS, FAMILY_ROWS
from hwtpm.tpm12.requests.counter import CreateCounter
from hwtpm.tpm12.requests.delegation import (
    DelegateCreateKeyDelegation,
    DelegateCreateOwnerDelegation,
    DelegateLoadOwnerDelegation,
    DelegateManage,
    DelegateReadTable,
    DelegateUpdateVerification,
    DelegateVerifyDelegation,
)
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.nv import DirWriteAuth
from hwtpm.tpm12.requests.sessions import SetOwnerPointer
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.requests.storage import CreateWrapKey
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_DELEGATE_FAMILY,
    TPM_DELEGATE_LOCK,
    TPM_DISABLED_CMD,
    TPM_FAMILYCOUNT,
    TPM_INVALID_AUTHHANDLE,
    TPM_RESOURCES,
    TPM_WRONG_ENTITYTYPE,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_DEL_KEY_BITS,
    TPM_DEL_OWNER_BITS,
    TPM_ET_DEL_KEY_BLOB,
    TPM_ET_DEL_OWNER_BLOB,
    TPM_ET_DEL_ROW,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_FAMILY_ADMIN,
    TPM_FAMILY_CREATE,
    TPM_FAMILY_ENABLE,
    TPM_FAMILY_INVALIDATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_ST_CLEAR,
)
from hwtpm.tpm12.types.delegate import (
    TPM_DELEGATE_OWNER_BLOB,
    TPM_DELEGATE_PUBLIC,
    TPM_DELEGATE_SENSITIVE,
    TPM_DELEGATIONS,
)
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_Delegate_Manage,
    TPM_DELEGATE_DirWriteAuth,
    TPM_KEY_DELEGATE_CreateWrapKey,
)
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    create_key,
    key_template,
    load_key,
    once,
    owned,
    started,
)

AUTH = b"delegate".ljust(20, b".")
ANYWHERE = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0x1F, bytes(20))
DIR_ONLY = 1 << TPM_DELEGATE_DirWriteAuth


def manage(client: Client, operation: int, family: int = 0, data: bytes = b"", *sessions: Session) -> bytes:
    given = sessions or (once(client.oiap(OWNER_AUTH)),)
    return client.run(DelegateManage(family, operation, data), *given).ret_data


def new_family(client: Client) -> int:
    family = int.from_bytes(manage(client, TPM_FAMILY_CREATE, 0, b"F"), "big")
    manage(client, TPM_FAMILY_ENABLE, family, b"\1")
    return family


def public(family: int, bits: int = DIR_ONLY, kind: int = TPM_DEL_OWNER_BITS,
           pcr_info: TPM_PCR_INFO_SHORT = ANYWHERE) -> TPM_DELEGATE_PUBLIC:
    return TPM_DELEGATE_PUBLIC(ord("R"), pcr_info, TPM_DELEGATIONS(kind, bits, 0), family, 0)


def delegate(client: Client, pub: TPM_DELEGATE_PUBLIC, *, increment: bool = False) -> bytes:
    session = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    return client.run(DelegateCreateOwnerDelegation(increment, pub, session.encrypt(AUTH)), session).blob


def write_dir(machine: Machine, session: Session) -> None:
    machine.run(DirWriteAuth(0, b"\5" * 20), session)


@pytest.fixture
def machine() -> Machine:
    return owned()


def test_a_blob_lets_its_holder_do_what_it_says_and_nothing_else(machine: Machine) -> None:
    blob = delegate(machine.client, public(new_family(machine.client)))
    write_dir(machine, machine.client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH))
    session = machine.client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH)
    with refused(TPM_AUTHFAIL):
        machine.run(CreateCounter(session.encrypt(AUTH), b"test"), session)


def test_a_row_does_the_same_and_survives_a_loss_of_power(machine: Machine) -> None:
    blob = delegate(machine.client, public(new_family(machine.client)))
    machine.run(DelegateLoadOwnerDelegation(1, blob), once(machine.client.oiap(OWNER_AUTH)))
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    write_dir(machine, machine.client.dsap(TPM_ET_DEL_ROW, b"\0\0\0\1", AUTH))
    with refused(TPM_BADINDEX):
        machine.client.dsap(TPM_ET_DEL_ROW, b"\0\0\0\0", AUTH)
    with refused(TPM_BADINDEX):
        machine.run(DelegateLoadOwnerDelegation(DELEGATE_ROWS, blob), machine.client.oiap(OWNER_AUTH))


def test_the_owner_pointer_makes_old_sessions_use_the_row(machine: Machine) -> None:
    blob = delegate(machine.client, public(new_family(machine.client)))
    machine.run(DelegateLoadOwnerDelegation(0, blob), once(machine.client.oiap(OWNER_AUTH)))
    machine.run(SetOwnerPointer(TPM_ET_DEL_ROW, 0))
    write_dir(machine, once(machine.client.oiap(AUTH)))
    write_dir(machine, once(machine.client.osap(TPM_ET_OWNER, TPM_KH_OWNER, AUTH)))
    with refused(TPM_AUTHFAIL):
        write_dir(machine, machine.client.oiap(OWNER_AUTH))
    machine.run(SetOwnerPointer(TPM_ET_OWNER, 0))
    write_dir(machine, machine.client.oiap(OWNER_AUTH))


def test_a_key_blob_delegates_one_key(machine: Machine) -> None:
    client = machine.client
    family = new_family(client)
    template = key_template(TPM_KEY_STORAGE, STORAGE_PARMS)
    one, other = (load_key(client, create_key(client, template)) for _ in range(2))
    pub = public(family, 1 << TPM_KEY_DELEGATE_CreateWrapKey, TPM_DEL_KEY_BITS)
    session = client.osap(TPM_ET_KEYHANDLE, one, KEY_AUTH)
    blob = client.run(DelegateCreateKeyDelegation(one, pub, session.encrypt(AUTH)), session).blob
    session = client.dsap(TPM_ET_DEL_KEY_BLOB, blob, AUTH, one)
    info = key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
    request = CreateWrapKey(one, session.encrypt(KEY_AUTH), session.encrypt(KEY_AUTH, odd=True), info)
    assert client.run(request, session).wrapped_key.key_usage == TPM_KEY_SIGNING
    session = client.dsap(TPM_ET_DEL_KEY_BLOB, blob, AUTH, one)
    with refused(TPM_AUTHFAIL):
        client.run(CreateWrapKey(other, bytes(20), bytes(20), info), session)


def test_pcrs_of_a_delegation_are_those_of_its_use(machine: Machine) -> None:
    bound = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(b"\0\0\1"), 0x1F, machine.tpm.pcrs.digest(b"\0\0\1"))
    blob = delegate(machine.client, public(new_family(machine.client), pcr_info=bound))
    write_dir(machine, machine.client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH))
    session = machine.client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH)
    machine.run(Extend(16, bytes(20)))
    with refused(TPM_WRONGPCRVAL):
        write_dir(machine, session)


def test_a_changed_blob_is_refused(machine: Machine) -> None:
    blob = delegate(machine.client, public(new_family(machine.client)))
    for changed in (blob[:4] + bytes([blob[4] ^ 1]) + blob[5:], blob[:-1] + bytes([blob[-1] ^ 1])):
        with refused(TPM_AUTHFAIL):
            machine.client.dsap(TPM_ET_DEL_OWNER_BLOB, changed, AUTH)
    with refused(TPM_WRONG_ENTITYTYPE):
        machine.client.dsap(TPM_ET_DEL_KEY_BLOB, blob, AUTH)
    with refused(TPM_BAD_PARAMETER):
        machine.run(DelegateVerifyDelegation(b"\0\1" + blob[2:]))
    with refused(TPM_BAD_PARAM_SIZE):
        machine.run(DelegateVerifyDelegation(b""))


def test_a_family_verifies_disables_and_forgets(machine: Machine) -> None:
    client = machine.client
    family = new_family(client)
    blob = delegate(client, public(family))
    machine.run(DelegateVerifyDelegation(blob))
    newer = delegate(client, public(family), increment=True)
    machine.run(DelegateVerifyDelegation(newer))
    with refused(TPM_FAMILYCOUNT):
        client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH)
    renewed = machine.run(DelegateUpdateVerification(blob), once(client.oiap(OWNER_AUTH))).output_data
    client.dsap(TPM_ET_DEL_OWNER_BLOB, renewed, AUTH)
    manage(client, TPM_FAMILY_ENABLE, family, b"\0")
    with refused(TPM_DISABLED_CMD):
        client.dsap(TPM_ET_DEL_OWNER_BLOB, renewed, AUTH)
    manage(client, TPM_FAMILY_INVALIDATE, family)
    with refused(TPM_BADINDEX):
        client.dsap(TPM_ET_DEL_OWNER_BLOB, renewed, AUTH)


def test_a_row_is_verified_by_its_number(machine: Machine) -> None:
    client = machine.client
    family = new_family(client)
    machine.run(DelegateLoadOwnerDelegation(0, delegate(client, public(family))), client.oiap(OWNER_AUTH))
    delegate(client, public(family), increment=True)
    with refused(TPM_FAMILYCOUNT):
        client.dsap(TPM_ET_DEL_ROW, bytes(4), AUTH)
    machine.run(DelegateUpdateVerification(bytes(4)), client.oiap(OWNER_AUTH))
    client.dsap(TPM_ET_DEL_ROW, bytes(4), AUTH)


def test_a_change_of_a_family_ends_shared_secrets(machine: Machine) -> None:
    session = machine.client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    new_family(machine.client)
    with refused(TPM_INVALID_AUTHHANDLE):
        write_dir(machine, session)


def test_who_was_delegated_to_manages_his_family_only(machine: Machine) -> None:
    client = machine.client
    one, other = new_family(client), new_family(client)
    blob = delegate(client, public(one, 1 << TPM_DELEGATE_Delegate_Manage))
    manage(client, TPM_FAMILY_ADMIN, one, b"\1", client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH))
    with refused(TPM_DELEGATE_FAMILY):
        manage(client, TPM_FAMILY_ADMIN, other, b"\1", client.dsap(TPM_ET_DEL_OWNER_BLOB, blob, AUTH))


def test_the_table_shows_no_secrets(machine: Machine) -> None:
    client = machine.client
    family = new_family(client)
    machine.run(DelegateLoadOwnerDelegation(2, delegate(client, public(family))), client.oiap(OWNER_AUTH))
    found = machine.run(DelegateReadTable())
    assert found.family_table == b"\0\x25F" + bytes([0, 0, 0, family, 0, 0, 0, 1, 0, 0, 0, 1])
    assert found.delegate_table[:7] == b"\0\0\0\2" + bytes.fromhex("001b") + b"R"
    assert AUTH not in found.delegate_table


def test_families_have_a_limit_and_labels_one_octet(machine: Machine) -> None:
    for _ in range(FAMILY_ROWS):
        manage(machine.client, TPM_FAMILY_CREATE, 0, b"F")
    with refused(TPM_RESOURCES):
        manage(machine.client, TPM_FAMILY_CREATE, 0, b"F")
    with refused(TPM_BAD_PARAM_SIZE):
        manage(machine.client, TPM_FAMILY_CREATE, 0, b"FF")
    with refused(TPM_BAD_PARAMETER):
        manage(machine.client, 9, 1)


def test_without_an_owner_rows_are_filled_in_the_clear() -> None:
    machine = started()
    family = int.from_bytes(machine.run(DelegateManage(0, TPM_FAMILY_CREATE, b"F")).ret_data, "big")
    machine.run(DelegateManage(family, TPM_FAMILY_ENABLE, b"\1"))
    sensitive = encode(TPM_DELEGATE_SENSITIVE(AUTH))
    blob = encode(TPM_DELEGATE_OWNER_BLOB(public(family), bytes(20), b"", sensitive))
    machine.run(DelegateLoadOwnerDelegation(0, blob))
    assert machine.tpm.delegations.row(0).auth_value == AUTH
    machine.run(DelegateManage(family, TPM_FAMILY_ADMIN, b"\1"))
    with refused(TPM_DELEGATE_LOCK):
        machine.run(DelegateLoadOwnerDelegation(0, blob))


def test_no_ordinal_has_a_bit_in_per2() -> None:
    client = owned().client
    pub = public(new_family(client))
    pub.permissions.per2 = 1
    with refused(TPM_BAD_PARAMETER):
        delegate(client, pub)


def test_the_last_ordinal_that_uses_a_key_has_bit_28() -> None:
    client = owned().client
    family = new_family(client)
    for bit in (28, 29, 31):
        session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
        pub = public(family, 1 << bit, TPM_DEL_KEY_BITS)
        with refused(TPM_BAD_PARAMETER) if bit > 28 else nullcontext():
            client.run(DelegateCreateKeyDelegation(TPM_KH_SRK, pub, session.encrypt(AUTH)), session)
