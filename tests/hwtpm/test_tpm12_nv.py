"""NV storage and the DIR of TPM 1.2 (Part 3, 20 and 27.3)."""

from __future__ import annotations

import pytest

from hwtpm.client12 import Client
from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import MAX_NV_WRITE_NOOWNER
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.nv import (
    DirRead,
    DirWriteAuth,
    NVDefineSpace,
    NVReadValue,
    NVReadValueAuth,
    NVWriteValue,
    NVWriteValueAuth,
)
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.codes import (
    TPM_AREA_LOCKED,
    TPM_AUTH_CONFLICT,
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_LOCALITY,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PRESENCE,
    TPM_BADINDEX,
    TPM_DISABLED_CMD,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_STRUCTURE,
    TPM_MAXNVWRITES,
    TPM_NOSPACE,
    TPM_NOT_FULLWRITE,
    TPM_OWNER_SET,
    TPM_PER_NOWRITE,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_NV,
    TPM_ET_OWNER,
    TPM_KH_OWNER,
    TPM_NV_INDEX0,
    TPM_NV_INDEX_DIR,
    TPM_NV_INDEX_LOCK,
    TPM_NV_INDEX_TRIAL,
    TPM_NV_PER_AUTHREAD,
    TPM_NV_PER_AUTHWRITE,
    TPM_NV_PER_GLOBALLOCK,
    TPM_NV_PER_OWNERREAD,
    TPM_NV_PER_OWNERWRITE,
    TPM_NV_PER_PPWRITE,
    TPM_NV_PER_READ_STCLEAR,
    TPM_NV_PER_WRITE_STCLEAR,
    TPM_NV_PER_WRITEALL,
    TPM_NV_PER_WRITEDEFINE,
    TPM_ST_CLEAR,
    TPM_ST_STATE,
)
from hwtpm.tpm12.types.nv import TPM_NV_ATTRIBUTES, TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import rc_of, refused
from tests.support.tpm12 import OWNER_AUTH, Machine, once, owned, started

INDEX = 0x1234
AUTH = b"area".ljust(20, b".")
ANYWHERE = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0x1F, bytes(20))


def public(attributes: int, size: int = 32, index: int = INDEX, *, read: TPM_PCR_INFO_SHORT = ANYWHERE,
           write: TPM_PCR_INFO_SHORT = ANYWHERE) -> TPM_NV_DATA_PUBLIC:
    return TPM_NV_DATA_PUBLIC(index, read, write, TPM_NV_ATTRIBUTES(attributes), 0, 0, 0, size)


def define(client: Client, area: TPM_NV_DATA_PUBLIC) -> None:
    session = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    client.run(NVDefineSpace(area, session.encrypt(AUTH)), session)


def lock(client: Client) -> None:
    client.run(NVDefineSpace(public(0, 0, TPM_NV_INDEX_LOCK), AUTH))


@pytest.fixture
def machine() -> Machine:
    """An owned TPM whose NV is locked: authorizations count."""
    found = owned()
    lock(found.client)
    return found


def test_a_new_area_is_full_of_ones_and_holds_what_is_written(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE))
    session = machine.client.oiap(AUTH)
    assert machine.run(NVReadValueAuth(INDEX, 0, 32), session).data == b"\xff" * 32
    machine.run(NVWriteValueAuth(INDEX, 4, b"data"), session)
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    found = machine.run(NVReadValueAuth(INDEX, 2, 8), machine.client.oiap(AUTH)).data
    assert found == b"\xff\xffdata\xff\xff"


def test_a_session_for_the_area_authorizes_it_only(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE))
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE, index=INDEX + 1))
    session = machine.client.osap(TPM_ET_NV, INDEX, AUTH)
    machine.run(NVReadValueAuth(INDEX, 0, 1), session)
    with refused(TPM_AUTHFAIL):
        machine.run(NVReadValueAuth(INDEX + 1, 0, 1), session)


def test_the_owner_and_no_other_writes_an_owners_area(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_OWNERREAD | TPM_NV_PER_OWNERWRITE))
    machine.run(NVWriteValue(INDEX, 0, b"mine"), once(machine.client.oiap(OWNER_AUTH)))
    assert machine.run(NVReadValue(INDEX, 0, 4), once(machine.client.oiap(OWNER_AUTH))).data == b"mine"
    for request in (NVWriteValue(INDEX, 0, b"x"), NVReadValue(INDEX, 0, 4)):
        with refused(TPM_AUTH_CONFLICT):
            machine.run(request)
    with refused(TPM_AUTH_CONFLICT):
        machine.run(NVWriteValueAuth(INDEX, 0, b"x"), once(machine.client.oiap(AUTH)))


def test_only_the_owner_defines_where_there_is_one(machine: Machine) -> None:
    machine.tpm.flags.stclear.physical_presence = 1
    with refused(TPM_OWNER_SET):
        machine.run(NVDefineSpace(public(TPM_NV_PER_PPWRITE), AUTH))


def test_without_an_owner_presence_defines_sixty_four_times() -> None:
    machine = started()
    lock(machine.client)
    with refused(TPM_BAD_PRESENCE):
        machine.run(NVDefineSpace(public(TPM_NV_PER_PPWRITE), AUTH))
    machine.tpm.flags.stclear.physical_presence = 1
    with refused(TPM_BAD_DATASIZE):
        machine.run(NVDefineSpace(public(TPM_NV_PER_PPWRITE, 0), AUTH))
    for _ in range(MAX_NV_WRITE_NOOWNER):
        machine.run(NVDefineSpace(public(TPM_NV_PER_PPWRITE), AUTH))
    with refused(TPM_MAXNVWRITES):
        machine.run(NVDefineSpace(public(TPM_NV_PER_PPWRITE), AUTH))


def test_a_size_of_zero_deletes_and_ends_the_areas_sessions(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE))
    session = machine.client.osap(TPM_ET_NV, INDEX, AUTH)
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE, 0))
    with refused(TPM_BADINDEX):
        machine.run(NVReadValueAuth(INDEX, 0, 1), session)
    with refused(TPM_INVALID_AUTHHANDLE):
        machine.tpm.sessions.get(session.handle)
    with refused(TPM_BAD_PARAM_SIZE):
        define(machine.client, public(TPM_NV_PER_AUTHWRITE, 0))


@pytest.mark.parametrize(("area", "rc"), [
    (public(TPM_NV_PER_OWNERWRITE | TPM_NV_PER_AUTHWRITE), TPM_AUTH_CONFLICT),
    (public(TPM_NV_PER_OWNERWRITE | TPM_NV_PER_OWNERREAD | TPM_NV_PER_AUTHREAD), TPM_AUTH_CONFLICT),
    (public(TPM_NV_PER_OWNERREAD), TPM_PER_NOWRITE),
    (public(TPM_NV_PER_OWNERWRITE, index=TPM_NV_INDEX0), TPM_BADINDEX),
    (public(TPM_NV_PER_OWNERWRITE, index=TPM_NV_INDEX_DIR), TPM_BADINDEX),
    (public(TPM_NV_PER_OWNERWRITE, index=0x10001234), TPM_BADINDEX),
    (public(TPM_NV_PER_OWNERWRITE, index=0x01001234), TPM_BADINDEX),
    (public(TPM_NV_PER_OWNERWRITE, size=1 << 20), TPM_NOSPACE),
    (public(TPM_NV_PER_OWNERWRITE, read=TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0, bytes(20))),
     TPM_INVALID_STRUCTURE),
])
def test_an_area_that_cannot_be_has_its_code(machine: Machine, area: TPM_NV_DATA_PUBLIC, rc: int) -> None:
    before = machine.durable
    with refused(rc):
        define(machine.client, area)
    assert machine.durable == before


def test_the_trial_index_only_tells_whether_an_area_could_be(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_OWNERWRITE, index=TPM_NV_INDEX_TRIAL))
    with refused(TPM_BADINDEX):
        machine.run(NVReadValue(TPM_NV_INDEX_TRIAL, 0, 1))


def test_a_write_of_nothing_locks_for_good_or_until_the_next_start(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHWRITE | TPM_NV_PER_WRITEDEFINE))
    define(machine.client, public(TPM_NV_PER_AUTHWRITE | TPM_NV_PER_WRITE_STCLEAR, index=INDEX + 1))
    session = machine.client.oiap(AUTH)
    for index in (INDEX, INDEX + 1):
        machine.run(NVWriteValueAuth(index, 0, b""), session)
    for index in (INDEX, INDEX + 1):
        with refused(TPM_AREA_LOCKED):
            machine.run(NVWriteValueAuth(index, 0, b"x"), machine.client.oiap(AUTH))
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    machine.run(NVWriteValueAuth(INDEX + 1, 0, b"x"), machine.client.oiap(AUTH))
    with refused(TPM_AREA_LOCKED):
        machine.run(NVWriteValueAuth(INDEX, 0, b"x"), machine.client.oiap(AUTH))


def test_volatile_locks_outlive_a_saved_state(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHWRITE | TPM_NV_PER_WRITE_STCLEAR))
    machine.run(NVWriteValueAuth(INDEX, 0, b""), once(machine.client.oiap(AUTH)))
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    with refused(TPM_AREA_LOCKED):
        machine.run(NVWriteValueAuth(INDEX, 0, b"x"), machine.client.oiap(AUTH))


def test_index_zero_locks_all_areas_that_say_so(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHWRITE | TPM_NV_PER_GLOBALLOCK))
    machine.run(NVWriteValue(TPM_NV_INDEX0, 0, b""))
    with refused(TPM_AREA_LOCKED):
        machine.run(NVWriteValueAuth(INDEX, 0, b"x"), machine.client.oiap(AUTH))
    with refused(TPM_BADINDEX):
        machine.run(NVWriteValue(TPM_NV_INDEX0, 0, b"x"))


def test_a_read_of_nothing_locks_until_a_write(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE | TPM_NV_PER_READ_STCLEAR))
    session = machine.client.oiap(AUTH)
    assert machine.run(NVReadValueAuth(INDEX, 0, 0), session).data == b""
    with refused(TPM_DISABLED_CMD):
        machine.run(NVReadValueAuth(INDEX, 0, 1), session)
    machine.run(NVWriteValueAuth(INDEX, 0, b"x"), machine.client.oiap(AUTH))
    assert machine.run(NVReadValueAuth(INDEX, 0, 1), machine.client.oiap(AUTH)).data == b"x"


def test_extents_are_those_of_the_area(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE | TPM_NV_PER_WRITEALL))
    for request, rc in ((NVWriteValueAuth(INDEX, 30, b"xxx"), TPM_NOSPACE),
                        (NVWriteValueAuth(INDEX, 0, b"xxx"), TPM_NOT_FULLWRITE),
                        (NVReadValueAuth(INDEX, 31, 2), TPM_NOSPACE),
                        (NVReadValueAuth(INDEX, 0xFFFFFFFF, 2), TPM_NOSPACE)):
        with refused(rc):
            machine.run(request, machine.client.oiap(AUTH))


def test_pcrs_and_locality_release_an_area(machine: Machine) -> None:
    wanted = TPM_PCR_SELECTION(b"\0\0\1")  # PCR 16
    here = TPM_PCR_INFO_SHORT(wanted, 0x1F, machine.tpm.pcrs.digest(b"\0\0\1"))
    elsewhere = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0x04, bytes(20))
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE, read=here, write=elsewhere))
    assert machine.run(NVReadValueAuth(INDEX, 0, 1), machine.client.oiap(AUTH)).data == b"\xff"
    with refused(TPM_BAD_LOCALITY):
        machine.run(NVWriteValueAuth(INDEX, 0, b"x"), machine.client.oiap(AUTH))
    machine.locality = 2
    machine.run(NVWriteValueAuth(INDEX, 0, b"x"), machine.client.oiap(AUTH))
    machine.run(Extend(16, bytes(20)))
    with refused(TPM_WRONGPCRVAL):
        machine.run(NVReadValueAuth(INDEX, 0, 1), machine.client.oiap(AUTH))


def test_until_nv_is_locked_nothing_is_asked_for() -> None:
    machine = Machine()
    machine.run(Startup(TPM_ST_CLEAR))  # disabled and deactivated, too
    machine.run(NVDefineSpace(public(TPM_NV_PER_OWNERREAD | TPM_NV_PER_OWNERWRITE, index=0x10001234), AUTH))
    machine.run(NVWriteValue(0x10001234, 0, b"x"))
    assert machine.run(NVReadValue(0x10001234, 0, 1)).data == b"x"


def test_the_dir_is_written_by_the_owner_and_read_by_all(machine: Machine) -> None:
    value = b"\7" * 20
    machine.run(DirWriteAuth(0, value), once(machine.client.oiap(OWNER_AUTH)))
    assert machine.run(DirRead(0)).dir_contents == value
    assert machine.run(NVReadValue(TPM_NV_INDEX_DIR, 5, 10)).data == value[5:15]
    with refused(TPM_BADINDEX):
        machine.run(DirRead(1))
    with refused(TPM_NOT_FULLWRITE):
        machine.run(NVWriteValue(TPM_NV_INDEX_DIR, 0, b"x"), machine.client.oiap(OWNER_AUTH))
    machine.run(NVWriteValue(TPM_NV_INDEX_DIR, 0, bytes(20)), machine.client.oiap(OWNER_AUTH))
    assert machine.run(DirRead(0)).dir_contents == bytes(20)


def test_both_say_the_same_of_an_unlocked_nv() -> None:
    machine = started()
    with Swtpm(family="1.2") as other:
        clients = machine.client, Client(other.execute, lambda n: b"\5" * n)
        for request in (
            NVDefineSpace(public(TPM_NV_PER_PPWRITE), AUTH),
            NVWriteValue(INDEX, 0, b"a"), NVReadValue(INDEX, 0, 32), NVReadValue(INDEX, 31, 2),
            NVWriteValue(INDEX, 32, b"a"), NVReadValue(INDEX + 1, 0, 2), NVReadValue(INDEX, 0, 0),
            NVReadValue(INDEX, 0, 1), NVWriteValue(TPM_NV_INDEX0, 0, b"x"),
            NVWriteValue(TPM_NV_INDEX0, 0, b""),
            NVDefineSpace(public(TPM_NV_PER_OWNERREAD, index=INDEX + 1), AUTH),
            NVDefineSpace(public(0, 0), AUTH), NVDefineSpace(public(0, 0), AUTH),
            NVDefineSpace(public(TPM_NV_PER_PPWRITE, index=0x10001234), AUTH),
            NVDefineSpace(public(TPM_NV_PER_PPWRITE, index=0x02001234), AUTH), DirRead(0), DirRead(1),
            NVReadValue(TPM_NV_INDEX_DIR, 1, 10), NVReadValue(TPM_NV_INDEX_DIR, 11, 10),
        ):
            ours, theirs = (_outcome(client, request) for client in clients)
            assert ours == theirs, request


def _outcome(client: Client, request) -> object:  # type: ignore[no-untyped-def]
    try:
        return client.run(request)
    except TpmError as error:
        return error.rc


def test_a_wrong_secret_of_the_area_is_counted(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE))
    request = NVReadValueAuth(INDEX, 0, 1)
    assert rc_of(lambda: machine.run(request, machine.client.oiap(b"?" * 20))) == TPM_AUTHFAIL
    assert machine.tpm.lockout.failures == 1


def test_a_new_description_that_cannot_be_leaves_the_old_area(machine: Machine) -> None:
    define(machine.client, public(TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE))
    with refused(TPM_PER_NOWRITE):
        define(machine.client, public(TPM_NV_PER_OWNERREAD))
    assert machine.run(NVReadValueAuth(INDEX, 0, 1), machine.client.oiap(AUTH)).data == b"\xff"
