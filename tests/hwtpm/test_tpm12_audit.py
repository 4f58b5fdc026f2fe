"""Auditing (Part 3, 8)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.crypto import ids
from hwtpm.tpm12.context import COMMANDS
from hwtpm.tpm12.requests.audit import (
    GetAuditDigest,
    GetAuditDigestResponse,
    GetAuditDigestSigned,
    SetOrdinalAuditStatus,
)
from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.opt_in import SetOwnerInstall
from hwtpm.tpm12.requests.ownership import DisableOwnerClear, OwnerClear
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.testing import GetTestResult
from hwtpm.tpm12.types.codes import (
    TPM_AUDITFAIL_SUCCESSFUL,
    TPM_AUTHFAIL,
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_DISABLED_CMD,
    TPM_FAILEDSELFTEST,
    TPM_INVALID_KEYUSAGE,
    TPM_NOSRK,
)
from hwtpm.tpm12.types.constants import (
    TPM_KEY_IDENTITY,
    TPM_KH_SRK,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_ST_CLEAR,
    TPM_ST_STATE,
)
from hwtpm.tpm12.types.counter import TPM_COUNTER_VALUE
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_CreateMaintenanceArchive,
    TPM_ORD_Extend,
    TPM_ORD_GetAuditDigest,
    TPM_ORD_GetAuditEvent,
    TPM_ORD_GetAuditEventSigned,
    TPM_ORD_GetOrdinalAuditStatus,
    TPM_ORD_KillMaintenanceFeature,
    TPM_ORD_LoadMaintenanceArchive,
    TPM_ORD_LoadManuMaintPub,
    TPM_ORD_OwnerClear,
    TPM_ORD_PcrRead,
    TPM_ORD_ReadManuMaintPub,
    TPM_ORD_ReadPubek,
    TPM_ORD_SaveState,
    TPM_ORD_SetOrdinalAuditStatus,
    TSC_ORD_PhysicalPresence,
)
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    DER_PARMS,
    KEY_AUTH,
    OWNER_AUTH,
    SRK_AUTH,
    Machine,
    owned,
    signing_key,
    started,
)
from tests.support.tpm12_pair import pair

NONCE, ZEROS = b"n" * 20, bytes(20)
MAINTENANCE = {  # libtpms is built without
    TPM_ORD_CreateMaintenanceArchive, TPM_ORD_LoadMaintenanceArchive, TPM_ORD_KillMaintenanceFeature,
    TPM_ORD_LoadManuMaintPub, TPM_ORD_ReadManuMaintPub,
}


def audit(machine: Machine, ordinal: int, on: int = 1) -> None:
    machine.run(SetOrdinalAuditStatus(ordinal, on), machine.client.oiap(OWNER_AUTH))


def event(digest: bytes, command: bytes, response: bytes | None, count: int) -> bytes:
    """Return the digest after a command and its response, from the digest before."""
    counter = b"\0\x0e" + bytes(4) + count.to_bytes(4, "big")
    digest = sha1(digest + b"\0\x12" + sha1(command).digest() + counter).digest()
    if response is not None:
        digest = sha1(digest + b"\0\x13" + sha1(response).digest() + counter).digest()
    return digest


def ordinals(response: GetAuditDigestResponse) -> list[int]:
    octets = response.ord_list
    return [int.from_bytes(octets[i : i + 4], "big") for i in range(0, len(octets), 4)]


@pytest.fixture
def machine() -> Machine:
    """An owned TPM that audits PCR reads only, and no audit session."""
    found = owned()
    for ordinal, entry in COMMANDS.items():
        found.tpm.audit.set_audited(entry.request, ordinal == TPM_ORD_PcrRead)
    found.tpm.audit.close()
    found.tpm.audit._counter = 7
    found.durable = found.engine.snapshot()
    return found


def test_successes_are_audited_with_their_parameters_and_failures_are_not(machine: Machine) -> None:
    assert machine.run(GetAuditDigest(0)).counter_value == TPM_COUNTER_VALUE(bytes(4), 7)
    value = machine.run(PcrRead(3)).out_digest
    with refused(2):
        machine.run(PcrRead(24))
    command, response = bytes.fromhex("00000015 00000003"), bytes.fromhex("00000000 00000015") + value
    digest = event(ZEROS, command, response, 8)
    found = machine.run(GetAuditDigest(0))
    assert (found.counter_value.counter, found.audit_digest, found.more) == (8, digest, 0)
    machine.run(PcrRead(3))
    assert machine.run(GetAuditDigest(0)).audit_digest == event(digest, command, response, 8)


def test_the_counter_counts_audit_sessions_and_outlives_power(machine: Machine) -> None:
    for count in 8, 9:
        machine.run(PcrRead(3))
        machine.run(PcrRead(3))
        assert machine.run(GetAuditDigest(0)).counter_value.counter == count
        machine.power_cycle()
        machine.run(Startup(TPM_ST_CLEAR))
        found = machine.run(GetAuditDigest(0))
        assert (found.counter_value.counter, found.audit_digest) == (count, ZEROS)


def test_a_resumed_tpm_goes_on_with_its_audit_session_without_what_saved_it(machine: Machine) -> None:
    audit(machine, TPM_ORD_SaveState)
    machine.run(PcrRead(3))
    before = machine.tpm.audit.digest
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    assert machine.tpm.audit.digest == event(before, bytes.fromhex("00000098"), None, 8)


def test_the_list_of_audited_ordinals_is_ordered_and_starts_where_asked(machine: Machine) -> None:
    for ordinal in TSC_ORD_PhysicalPresence, TPM_ORD_Extend:
        audit(machine, ordinal)
    told = machine.run(GetAuditDigest(0)), machine.run(GetAuditDigest(TPM_ORD_PcrRead))
    assert ordinals(told[0]) == [TPM_ORD_Extend, TPM_ORD_PcrRead, TSC_ORD_PhysicalPresence]
    assert ordinals(told[1]) == [TPM_ORD_PcrRead, TSC_ORD_PhysicalPresence]


def test_setting_a_status_takes_the_owner_and_an_ordinal_that_can_be_audited(machine: Machine) -> None:
    before = machine.durable
    with refused(TPM_AUTHFAIL):
        machine.run(SetOrdinalAuditStatus(TPM_ORD_Extend, 1), machine.client.oiap(b"?" * 20))
    for ordinal in 0, 0xFFF, TPM_ORD_GetAuditEvent:
        for on in 0, 1:
            with refused(TPM_BADINDEX):
                audit(machine, ordinal, on)
    with refused(TPM_BAD_PARAMETER):
        audit(machine, TPM_ORD_GetAuditDigest)
    audit(machine, TPM_ORD_GetAuditDigest, 0)
    assert machine.durable == before
    with refused(TPM_NOSRK):
        other = started()
        other.run(SetOrdinalAuditStatus(TPM_ORD_Extend, 1), other.client.oiap(OWNER_AUTH))


def test_its_own_audit_status_counts_from_the_next_time_on(machine: Machine) -> None:
    audit(machine, TPM_ORD_SetOrdinalAuditStatus)
    assert machine.tpm.audit.digest == ZEROS
    audit(machine, TPM_ORD_SetOrdinalAuditStatus, 0)
    assert machine.tpm.audit.digest != ZEROS


def test_clearing_resets_what_is_audited_and_is_audited_itself(machine: Machine) -> None:
    audit(machine, TPM_ORD_OwnerClear)
    audit(machine, TPM_ORD_Extend)
    machine.run(PcrRead(3))
    machine.run(OwnerClear(), machine.client.oiap(OWNER_AUTH))
    assert not machine.tpm.audit._changed
    command, response = bytes.fromhex("0000005b"), bytes.fromhex("00000000 0000005b")
    assert machine.tpm.audit.digest == event(ZEROS, command, response, 9)


def test_the_digest_is_signed_and_an_identity_key_closes_the_session(machine: Machine) -> None:
    handle = signing_key(machine.client)
    machine.run(PcrRead(3))
    digest = machine.tpm.audit.digest
    signed = machine.run(GetAuditDigestSigned(handle, 0, NONCE), machine.client.oiap(KEY_AUTH))
    assert signed.ordinal_digest == sha1(bytes.fromhex("00000015")).digest()
    assert signed.audit_digest == digest
    data = digest + encode(signed.counter_value) + signed.ordinal_digest
    info = b"\0\x05ADIG" + NONCE + len(data).to_bytes(4, "big") + data
    key = machine.tpm.keys.get(handle).key
    key.rsa.verify_pkcs1(ids.SHA1, sha1(info).digest(), signed.sig)
    with refused(TPM_INVALID_KEYUSAGE):
        machine.run(GetAuditDigestSigned(handle, 1, NONCE), machine.client.oiap(KEY_AUTH))
    assert machine.tpm.audit.digest == digest
    key.public.key_usage = TPM_KEY_IDENTITY
    closed = machine.run(GetAuditDigestSigned(handle, 1, NONCE), machine.client.oiap(KEY_AUTH))
    assert closed.audit_digest == digest
    assert machine.tpm.audit.digest == ZEROS


def test_only_keys_that_sign_digests_sign_the_audit_digest(machine: Machine) -> None:
    der = signing_key(machine.client, DER_PARMS)
    for handle, secret in (der, KEY_AUTH), (TPM_KH_SRK, SRK_AUTH):
        with refused(TPM_INVALID_KEYUSAGE):
            machine.run(GetAuditDigestSigned(handle, 0, NONCE), machine.client.oiap(secret))
    with refused(TPM_AUTHFAIL):
        machine.run(GetAuditDigestSigned(der, 0, NONCE))


def test_a_counter_that_can_go_no_higher_ends_the_tpm(machine: Machine) -> None:
    machine.tpm.audit._counter = 0xFFFFFFFF
    with refused(TPM_AUDITFAIL_SUCCESSFUL):
        machine.run(PcrRead(3))
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Extend(3, ZEROS))
    assert machine.run(GetTestResult()).out_data == b"failed: auditing"


def test_what_an_encrypted_transport_hides_is_not_audited(machine: Machine) -> None:
    from hwtpm.tpm12.context import Call
    from hwtpm.tpm12.dispatch import respond

    call = Call(PcrRead, bytes(4), [])
    call.encrypted = call.audited = True
    respond(machine.tpm, COMMANDS[TPM_ORD_PcrRead].compiled(), call, b"", ZEROS)
    assert machine.tpm.audit.digest == event(
        ZEROS, bytes.fromhex("00000015"), bytes.fromhex("00000000 00000015"), 8)


@pytest.mark.parametrize("ordinal", [TPM_ORD_GetAuditEvent, TPM_ORD_GetAuditEventSigned,
                                     TPM_ORD_GetOrdinalAuditStatus])
def test_commands_that_1_2_no_longer_has_are_unknown(ordinal: int) -> None:
    answer = started().execute(bytes.fromhex("00c1 0000000a") + ordinal.to_bytes(4, "big"))
    assert int.from_bytes(answer[6:], "big") == TPM_BAD_ORDINAL


def test_new_ones_audit_the_same_commands() -> None:
    with pair() as both:
        theirs = set(ordinals(both.clients[1].run(GetAuditDigest(0))))
        ours = {o for o, e in COMMANDS.items() if e.request.AUDIT_DEFAULT}
        assert theirs & COMMANDS.keys() == ours - MAINTENANCE


def test_both_audit_alike() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT))
        for request in (PcrRead(0), SetOwnerInstall(0), ReadPubek(ZEROS), SetOwnerInstall(1),
                        Extend(0, ZEROS), SaveState(), SetOwnerInstall(1), Startup(TPM_ST_CLEAR)):
            both.agree(request)
            ours, theirs = both.outcomes(GetAuditDigest(0))
            assert ours.audit_digest == theirs.audit_digest  # type: ignore[attr-defined]
            assert ours.counter_value == theirs.counter_value  # type: ignore[attr-defined]
        both.power_cycle()
        both.agree(Startup(TPM_ST_CLEAR))
        both.agree(GetAuditDigest(TPM_ORD_SetOrdinalAuditStatus + 1))
        both.agree(SetOrdinalAuditStatus(TPM_ORD_ReadPubek, 0), lambda client: client.oiap(OWNER_AUTH))


def test_a_failure_of_authorization_is_not_audited(machine: Machine) -> None:
    audit(machine, DisableOwnerClear.ORD)
    with refused(TPM_AUTHFAIL):
        machine.run(DisableOwnerClear(), machine.client.oiap(b"?" * 20))
    with refused(TPM_DISABLED_CMD):
        machine.run(ReadPubek(ZEROS))
    assert machine.tpm.audit.digest == ZEROS
