"""Direct anonymous attestation with TPM 1.2 (Part 3, 26): what a host does, and what becomes of sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hwtpm.client12 import Client
from hwtpm.errors import TpmError
from hwtpm.tpm12 import profile
from hwtpm.tpm12.requests.capability import GetCapability, SetCapability
from hwtpm.tpm12.requests.context import FlushSpecific, LoadContext, SaveContext
from hwtpm.tpm12.requests.daa import DAAJoin, DAASign
from hwtpm.tpm12.requests.delegation import DelegateCreateOwnerDelegation, DelegateManage
from hwtpm.tpm12.requests.identity import MakeIdentity
from hwtpm.tpm12.requests.ownership import OwnerClear
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.state.daa import DaaSessions
from hwtpm.tpm12.types import codes as rc
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.capability import TPM_KEY_HANDLE_LIST
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC, TPM_DELEGATIONS
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.ordinals import TPM_DELEGATE_DAA_Join, TPM_DELEGATE_DAA_Sign
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from hwtpm.wire import decode
from tests.support.daa import Credential, Join, Protocol, Refused, Sign, issuer, number, u32, verify
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    key_template,
    load_key,
    once,
    owned,
    selection,
    signing_key,
    started,
    take_ownership,
)
from tests.support.tpm12_both import owned_pair
from tests.support.tpm12_running import Twins

MESSAGE = b"a message to sign..."


def pubek(machine: Machine) -> TPM_PUBKEY:
    return TPM_PUBKEY(STORAGE_PARMS, machine.tpm.permanent.endorsement_key.public.pub_key)


def join(machine: Machine, stage: int = 0, links: int = 1, count: int = 0) -> Join:
    """Return a join that has come to *stage*."""
    host = Join(machine.client, issuer(links), pubek(machine), count)
    host.to(stage)
    return host


def joined(machine: Machine) -> Credential:
    return join(machine).finish()


def sign(machine: Machine, credential: Credential, stage: int = 0, aik: int | None = None,
         message: bytes = MESSAGE) -> Sign:
    """Return a signature that has come to *stage*."""
    host = Sign(machine.client, issuer(), credential, message, aik)
    host.to(stage)
    return host


def identity_key(client: Client) -> tuple[int, bytes]:
    """Return handle and modulus of a new identity key."""
    session = client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    request = MakeIdentity(session.encrypt(KEY_AUTH), bytes(20),
                           key_template(c.TPM_KEY_IDENTITY, SIGNING_PARMS))
    made = client.run(request, client.oiap(SRK_AUTH), session).id_key
    return load_key(client, made), made.pub_key


def told(machine: Machine, which: int) -> int:
    """Return a property, as a number."""
    return number(machine.run(GetCapability(c.TPM_CAP_PROPERTY, u32(which))).resp)


def handles(machine: Machine) -> list[int]:
    response = machine.run(GetCapability(c.TPM_CAP_HANDLE, u32(c.TPM_RT_DAA_TPM))).resp
    return decode(TPM_KEY_HANDLE_LIST, response).handles


# The protocol


@pytest.mark.parametrize("links", [1, 3])
def test_a_member_of_the_group_signs(links: int) -> None:
    machine = owned()
    credential = join(machine, links=links).finish()
    host = Sign(machine.client, issuer(links), credential, MESSAGE)
    signature = host.finish()
    verify(issuer(links), signature)
    with pytest.raises(Refused):
        verify(issuer(links), signature._replace(message=b"another message....."))
    with pytest.raises(Refused):
        verify(issuer(links), signature._replace(s_v=signature.s_v + 1))
    assert handles(machine) == []


def test_an_identity_key_is_signed_by_its_modulus() -> None:
    machine = owned()
    handle, modulus = identity_key(machine.client)
    verify(issuer(), sign(machine, joined(machine), aik=handle, message=modulus).finish())


def test_a_credential_survives_a_loss_of_power_and_the_owner() -> None:
    machine = owned()
    credential = joined(machine)
    machine.power_cycle()
    machine.run(Startup(c.TPM_ST_CLEAR))
    verify(issuer(), sign(machine, credential).finish())
    machine.run(OwnerClear(), once(machine.client.oiap(OWNER_AUTH)))
    machine.tpm.flags.set(disable=False, deactivated=False)
    machine.durable = machine.engine.snapshot()
    machine.power_cycle()
    machine.run(Startup(c.TPM_ST_CLEAR))
    take_ownership(machine.client, pubek(machine))
    verify(issuer(), sign(machine, credential).finish())


def test_new_secrets_of_daa_make_credentials_worthless() -> None:
    machine = owned()
    credential = joined(machine)
    request = SetCapability(c.TPM_SET_PERM_DATA, u32(c.TPM_PD_DAAPROOF), b"")
    machine.run(request, once(machine.client.oiap(OWNER_AUTH)))
    with refused(rc.TPM_DAA_INPUT_DATA0):
        sign(machine, credential, 2)


def test_a_credential_is_worthless_to_another_tpm() -> None:
    credential = joined(owned())
    with refused(rc.TPM_DAA_INPUT_DATA0):
        sign(owned(b"another"), credential, 2)


def test_pseudonyms_for_an_issuer_differ_by_count_only() -> None:
    machine = owned()
    first, again, other = (given_by_join(machine, count) for count in (1, 1, 2))
    assert first[14] == again[14] != other[14]
    assert first[7] != again[7]  # but commitments never do


def given_by_join(machine: Machine, count: int) -> dict[int, bytes]:
    host = join(machine, count=count)
    host.finish()
    return host.given


def test_a_blob_that_was_changed_anywhere_is_refused() -> None:
    machine = owned()
    credential = joined(machine)
    for at in (1, 5, 6, 22, 42, 46, 62, 66, len(credential.tpm) - 1):  # each member
        changed = bytearray(credential.tpm)
        changed[at] ^= 1
        with refused(rc.TPM_DAA_INPUT_DATA0):
            sign(machine, credential._replace(tpm=bytes(changed)), 2)
    for wrong in b"", credential.tpm[:-1], credential.tpm + b"\0":
        with refused(rc.TPM_DAA_INPUT_DATA0):
            sign(machine, credential._replace(tpm=wrong), 2)


def test_a_secret_of_another_join_is_refused() -> None:
    machine = owned()
    mine, other = joined(machine), joined(machine)
    for stage, given in (13, other.v0), (14, other.v0), (15, other.v1):
        host = sign(machine, mine, stage)
        with refused(rc.TPM_DAA_INPUT_DATA0):
            host.step(given)


# Authorization


def test_the_owner_authorizes_every_stage() -> None:
    machine = owned()
    for host in join(machine), join(machine, 4), sign(machine, joined(machine), 3):
        with refused(rc.TPM_AUTHFAIL):
            machine.run(host.request(), machine.client.oiap(b"?" * 20))
    assert handles(machine) == []
    with refused(rc.TPM_AUTHFAIL):
        unowned = started()
        unowned.run(DAAJoin(0, 0, u32(1), b""), unowned.client.oiap(OWNER_AUTH))


@pytest.mark.parametrize(("bit", "request_class"), [
    (TPM_DELEGATE_DAA_Join, DAAJoin), (TPM_DELEGATE_DAA_Sign, DAASign)])
def test_joining_and_signing_can_be_delegated(bit: int, request_class: type[DAAJoin | DAASign]) -> None:
    machine = owned()
    client = machine.client
    family = number(client.run(DelegateManage(0, c.TPM_FAMILY_CREATE, b"F"),
                               once(client.oiap(OWNER_AUTH))).ret_data)
    client.run(DelegateManage(family, c.TPM_FAMILY_ENABLE, b"\1"), once(client.oiap(OWNER_AUTH)))
    info = TPM_PCR_INFO_SHORT(selection(), 0x1F, bytes(20))
    public = TPM_DELEGATE_PUBLIC(0, info, TPM_DELEGATIONS(c.TPM_DEL_OWNER_BITS, 1 << bit, 0), family, 0)
    session = client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    request = DelegateCreateOwnerDelegation(0, public, session.encrypt(KEY_AUTH))
    blob = client.run(request, session).blob
    for kind in DAAJoin, DAASign:
        delegated = client.dsap(c.TPM_ET_DEL_OWNER_BLOB, blob, KEY_AUTH)
        # Stage 0 refuses the data only if it gets to see them.
        with refused(rc.TPM_DAA_INPUT_DATA0 if kind is request_class else rc.TPM_AUTHFAIL):
            client.run(kind(0, 0, b"", b""), delegated)


# Sessions


def test_any_error_ends_the_session() -> None:
    machine = owned()

    def octets(host: Join, *, tag: int = 0xC2, extra: bytes = b"") -> bytes:
        body = u32(DAAJoin.ORD) + u32(host.handle) + bytes([host.stage]) + bytes(8) + extra + bytes(45)
        return tag.to_bytes(2, "big") + u32(len(body) + 6) + body

    spoiled: dict[int, Callable[[Join], bytes]] = {
        rc.TPM_DAA_STAGE: lambda host: machine.run(
            host.request(stage=5), machine.client.oiap(OWNER_AUTH)).output_data,
        rc.TPM_BADTAG: lambda host: machine.execute(octets(host, tag=0xC3)),
        rc.TPM_BAD_PARAM_SIZE: lambda host: machine.execute(octets(host, extra=b"\0")),
        rc.TPM_INVALID_AUTHHANDLE: lambda host: machine.execute(octets(host)),
    }
    for code, spoil in spoiled.items():
        host = join(machine, 4)
        try:
            found = number(spoil(host)[6:10])
        except TpmError as error:
            found = error.rc
        assert found == code
        assert handles(machine) == []
        with refused(rc.TPM_BAD_HANDLE):
            host.step()


@pytest.mark.parametrize(("spoil", "code"), [
    (lambda machine: machine.tpm.flags.set(disable=True), rc.TPM_DISABLED),
    (lambda machine: setattr(machine.tpm.flags.stclear, "deactivated", True), rc.TPM_DEACTIVATED),
    (lambda machine: machine.tpm.power.fail("a test"), rc.TPM_FAILEDSELFTEST),
])
def test_a_tpm_that_may_not_work_goes_on_with_no_session(spoil: Callable[[Machine], None],
                                                         code: int) -> None:
    machine = owned()
    host, session = join(machine, 4), machine.client.oiap(OWNER_AUTH)
    spoil(machine)
    with refused(code):
        machine.run(host.request(), session)
    assert machine.tpm.daa.open == {}


def test_an_error_of_stage_0_opens_no_session_and_ends_none() -> None:
    machine = owned()
    host = join(machine, 4)
    with refused(rc.TPM_DAA_INPUT_DATA0):
        machine.run(DAAJoin(host.handle, 0, b"", b""), machine.client.oiap(OWNER_AUTH))
    assert handles(machine) == [host.handle]
    host.finish()


def test_handles_of_other_things_are_no_sessions() -> None:
    machine = owned()
    session = machine.client.oiap(OWNER_AUTH)
    for handle in 0, signing_key(machine.client), session.handle, c.TPM_KH_SRK:
        for kind in DAAJoin, DAASign:
            with refused(rc.TPM_BAD_HANDLE):
                machine.run(kind(handle, 1, b"", b""), once(machine.client.oiap(OWNER_AUTH)))
    assert session.handle in machine.tpm.sessions.open


def test_a_session_of_one_kind_is_none_of_the_other() -> None:
    machine = owned()
    credential = joined(machine)
    for stage, code in (1, rc.TPM_DAA_ISSUER_SETTINGS), (2, rc.TPM_DAA_ISSUER_SETTINGS), \
            (3, rc.TPM_DAA_TPM_SETTINGS), (9, rc.TPM_DAA_TPM_SETTINGS):
        request = DAASign(join(machine, stage).handle, stage, credential.tpm, b"")
        with refused(code):
            machine.run(request, machine.client.oiap(OWNER_AUTH))
    for stage in 1, 2, 3, 9:
        request_ = DAAJoin(sign(machine, credential, stage).handle, stage, b"", b"")
        with refused(rc.TPM_DAA_TPM_SETTINGS):
            machine.run(request_, machine.client.oiap(OWNER_AUTH))
    assert handles(machine) == []


def test_there_are_so_many_sessions_and_the_tpm_tells() -> None:
    machine = owned()
    assert told(machine, c.TPM_CAP_PROP_MAX_DAASESS) == profile.DAA_SESSIONS == 2
    assert told(machine, c.TPM_CAP_PROP_DAA_INTERRUPT) == 1
    hosts = []
    for free in 2, 1:
        assert told(machine, c.TPM_CAP_PROP_DAASESS) == free
        hosts.append(join(machine, 2))
    assert told(machine, c.TPM_CAP_PROP_DAASESS) == 0
    assert handles(machine) == [host.handle for host in hosts]
    with refused(rc.TPM_RESOURCES):
        join(machine, 1)
    saved = machine.run(SaveContext(hosts[0].handle, c.TPM_RT_DAA_TPM, bytes(16))).context_blob
    join(machine, 1)
    with refused(rc.TPM_RESOURCES):
        machine.run(LoadContext(0, 0, saved))
    hosts[1].finish()


def test_sessions_go_on_side_by_side() -> None:
    machine = owned()
    first, second = join(machine, 5), join(machine, 11)
    for host in first, second:
        host.finish()


def test_a_flushed_session_is_gone() -> None:
    machine = owned()
    host = join(machine, 4)
    machine.run(FlushSpecific(host.handle, c.TPM_RT_DAA_TPM))
    with refused(rc.TPM_BAD_HANDLE):
        host.step()
    with refused(rc.TPM_BAD_PARAMETER):
        machine.run(FlushSpecific(host.handle, c.TPM_RT_DAA_TPM))


@pytest.mark.parametrize("kind", [c.TPM_RT_DAA_V0, c.TPM_RT_DAA_V1])
def test_the_other_types_of_blobs_are_no_resources(kind: int) -> None:
    machine = owned()
    host = join(machine, 4)
    with refused(rc.TPM_INVALID_RESOURCE):
        machine.run(FlushSpecific(host.handle, kind))
    with refused(rc.TPM_INVALID_RESOURCE):
        machine.run(SaveContext(host.handle, kind, bytes(16)))
    host.finish()


def test_sessions_can_leave_the_tpm_between_any_two_stages() -> None:
    machine = owned()

    def travel(host: Protocol) -> None:
        while host.stage < host.STAGES:
            host.step()
            if host.stage < host.STAGES:
                old = host.handle
                saved = machine.run(SaveContext(old, c.TPM_RT_DAA_TPM, bytes(16))).context_blob
                assert handles(machine) == []
                host.handle = machine.run(LoadContext(0, host.stage % 2, saved)).handle
                assert host.handle == old
                with refused(rc.TPM_BADCONTEXT):
                    machine.run(LoadContext(0, 0, saved))

    host = join(machine, links=2)
    travel(host)
    signer = Sign(machine.client, issuer(2), host.finish(), MESSAGE)
    travel(signer)
    verify(issuer(2), signer.finish())


def test_a_loaded_session_gets_another_handle_if_its_own_is_taken() -> None:
    machine = owned()
    host = join(machine, 4)
    saved = machine.run(SaveContext(host.handle, c.TPM_RT_DAA_TPM, bytes(16))).context_blob
    other = join(machine, 4)
    machine.tpm.daa.open = {host.handle: machine.tpm.daa.open[other.handle]}
    with refused(rc.TPM_BAD_HANDLE):
        machine.run(LoadContext(0, 1, saved))
    assert machine.run(LoadContext(0, 0, saved)).handle != host.handle


def test_a_stage_can_travel_in_a_transport_session() -> None:
    machine = owned()
    inside = machine.client.establish(TPM_TRANSPORT_PUBLIC(0, 0, c.TPM_ES_NONE), b"s" * 20)
    host = Join(inside, issuer(), pubek(machine))
    host.to(4)
    with refused(rc.TPM_DAA_INPUT_DATA1):
        host.step(data1=b"")
    assert handles(machine) == []


# What ends sessions, and what does not


def test_clearing_the_owner_ends_sessions() -> None:
    machine = owned()
    join(machine, 4)
    machine.run(OwnerClear(), machine.client.oiap(OWNER_AUTH))
    assert machine.tpm.daa.open == {}


@pytest.mark.parametrize("start", [c.TPM_ST_CLEAR, c.TPM_ST_STATE])
def test_a_startup_ends_sessions(start: int) -> None:
    machine = owned()
    host = join(machine, 4)
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(start))
    assert told(machine, c.TPM_CAP_PROP_STARTUP_EFFECT) & c.TPM_STARTUP_EFFECTS_ST_STATE_RT_DAA
    with refused(rc.TPM_BAD_HANDLE):
        host.step()


def test_a_saved_session_survives_a_resume_but_no_clear_start() -> None:
    machine = owned()
    host = join(machine, 4)
    saved = machine.run(SaveContext(host.handle, c.TPM_RT_DAA_TPM, bytes(16))).context_blob
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(c.TPM_ST_STATE))
    host.handle = machine.run(LoadContext(0, 0, saved)).handle
    host.step()
    saved = machine.run(SaveContext(host.handle, c.TPM_RT_DAA_TPM, bytes(16))).context_blob
    machine.power_cycle()
    machine.run(Startup(c.TPM_ST_CLEAR))
    with refused(rc.TPM_BADCONTEXT):
        machine.run(LoadContext(0, 0, saved))


def test_a_session_goes_on_in_a_tpm_that_was_suspended() -> None:
    """Between any two stages; `Twins` compares what the resumed TPM gives."""
    machine = Twins()
    machine.tpm.flags.set(disable=False, deactivated=False)
    machine.run(Startup(c.TPM_ST_CLEAR))
    take_ownership(machine.client)

    def suspended(host: Protocol) -> None:
        while host.stage < host.STAGES:
            machine.twin = None  # each stage has one of its own
            machine.part()
            host.step()

    host = join(machine)
    suspended(host)
    signer = sign(machine, host.finish())
    suspended(signer)
    verify(issuer(), signer.finish())


def test_what_was_saved_before_there_was_daa_can_be_resumed() -> None:
    machine = owned()
    machine.run(SaveState())
    saved = dict(machine.tpm.power.saved)
    del saved[DaaSessions.TAG]
    machine.tpm.power.keep(saved)
    machine.durable = machine.engine.snapshot()
    machine.power_cycle()
    machine.run(Startup(c.TPM_ST_STATE))
    joined(machine)


def test_swtpm_does_the_same() -> None:
    with owned_pair() as both:
        for client, ek in zip(both.clients, both.pubeks, strict=True):
            credential = Join(client, issuer(2), ek, 7).finish()
            signer: Any = Sign(client, issuer(2), credential, MESSAGE)
            verify(issuer(2), signer.finish())
            handle, modulus = identity_key(client)
            verify(issuer(2), Sign(client, issuer(2), credential, modulus, handle).finish())
