"""Command audit and its attestation (Part 1, 32; Part 3, 18.5, 18.6, 21), alone and beside swtpm."""

from __future__ import annotations

from typing import Any

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto.hashes import digest
from hwtpm.tpm2.requests.attestation import GetCommandAuditDigest, GetSessionAuditDigest
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.hierarchy import Clear
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.audit import Audit
from hwtpm.tpm2.types.algorithms import TPMT_SIG_SCHEME
from hwtpm.tpm2.types.attributes import (
    TPMA_SESSION_AUDIT,
    TPMA_SESSION_AUDITEXCLUSIVE,
    TPMA_SESSION_CONTINUESESSION,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDSA,
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_CAP_AUDIT_COMMANDS,
    TPM_CAP_TPM_PROPERTIES,
    TPM_PT_AUDIT_COUNTER_0,
    TPM_RC_KEY,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    TPM_CC_GetCommandAuditDigest,
    TPM_CC_PCR_Extend,
    TPM_CC_PCR_Read,
    TPM_CC_SetCommandCodeAuditStatus,
    TPM_CC_Shutdown,
    TPM_CC_Startup,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import (
    TPMS_ATTEST,
    TPMS_COMMAND_AUDIT_INFO,
    TPMS_PCR_SELECTION,
    TPMS_SESSION_AUDIT_INFO,
    TPMT_HA,
)
from hwtpm.wire import decode, encode
from tests.support.tpm2 import Machine, refused
from tests.support.tpm2_keys import (
    DECRYPT,
    SIGN,
    create_primary,
    elliptic,
    hash_scheme,
    load,
    signing_template,
)
from tests.support.tpm2_pair import Pair, run

H2, H3, P1 = 0x200, 0x300, 0x140
NULL_SCHEME = TPMT_SIG_SCHEME(TPM_ALG_NULL, None)
ECDSA = TPMT_SIG_SCHEME(TPM_ALG_ECDSA, hash_scheme(TPM_ALG_SHA256))
READ = PCRRead([TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\1\0\0")])
EXTEND = PCRExtend(16, [TPMT_HA(TPM_ALG_SHA256, bytes(range(32)))])


def change(*, alg: int = TPM_ALG_NULL, add: tuple[int, ...] = (), remove: tuple[int, ...] = (),
           authority: int = TPM_RH_OWNER) -> SetCommandCodeAuditStatus:
    return SetCommandCodeAuditStatus(authority, alg, list(add), list(remove))


def audited(client: Client, key: int = TPM_RH_NULL) -> TPMS_COMMAND_AUDIT_INFO:
    """Return what TPM2_GetCommandAuditDigest attests."""
    scheme = NULL_SCHEME if key == TPM_RH_NULL else ECDSA
    got = run(client, GetCommandAuditDigest(TPM_RH_ENDORSEMENT, key, b"", scheme))
    info = decode(TPMS_ATTEST, got.audit_info).attested
    assert isinstance(info, TPMS_COMMAND_AUDIT_INFO)
    return info


def commands(client: Client) -> list[object]:
    return list(run(client, GetCapability(TPM_CAP_AUDIT_COMMANDS, 0, 100)).capability_data.data)


def test_a_new_tpm_audits_the_changes_of_the_list_only(machine: Machine) -> None:
    assert commands(machine.client) == [TPM_CC_SetCommandCodeAuditStatus]
    codes = TPM_CC_SetCommandCodeAuditStatus.to_bytes(4, "big")
    assert audited(machine.client) == TPMS_COMMAND_AUDIT_INFO(
        0, TPM_ALG_SHA512, b"", digest(TPM_ALG_SHA512, codes))


def test_the_digest_is_over_command_and_response(machine: Machine) -> None:
    """Part 1, 32: H(old || cpHash || rpHash), from zeros; Startup needs no session to be audited."""
    run(machine.client, change(alg=TPM_ALG_SHA256))
    assert audited(machine.client).audit_digest == b""
    run(machine.client, change(add=(TPM_CC_PCR_Extend,)))
    first = audited(machine.client)
    assert first.audit_counter == 1
    run(machine.client, EXTEND)
    code = TPM_CC_PCR_Extend.to_bytes(4, "big")
    cp_hash = digest(TPM_ALG_SHA256, code, bytes([0, 0, 0, 16]), b"\0\0\0\1\0\x0b", bytes(range(32)))
    rp_hash = digest(TPM_ALG_SHA256, bytes(4), code)
    assert audited(machine.client).audit_digest == digest(TPM_ALG_SHA256, first.audit_digest, cp_hash,
                                                          rp_hash)


def test_the_list_and_the_algorithm_do_not_change_together(machine: Machine) -> None:
    with refused(TPM_RC_VALUE | P1):
        run(machine.client, change(alg=TPM_ALG_SHA256, add=(TPM_CC_PCR_Read,)))
    assert commands(machine.client) == [TPM_CC_SetCommandCodeAuditStatus]
    assert audited(machine.client).audit_digest == b""


def test_a_failing_command_is_not_audited(machine: Machine) -> None:
    run(machine.client, change(add=(TPM_CC_GetCommandAuditDigest,)))
    before = machine.tpm.audit.digest
    with refused(TPM_RC_KEY | H2):
        key = load(machine.client, elliptic(DECRYPT))
        run(machine.client, GetCommandAuditDigest(TPM_RH_ENDORSEMENT, key, b"", NULL_SCHEME))
    assert machine.tpm.audit.digest == before


def test_signing_the_digest_ends_the_log(machine: Machine) -> None:
    key = create_primary(machine.client, signing_template(), TPM_RH_ENDORSEMENT)
    run(machine.client, change(add=(TPM_CC_PCR_Read,)))
    assert audited(machine.client).audit_digest == audited(machine.client, key).audit_digest != b""
    assert audited(machine.client) == TPMS_COMMAND_AUDIT_INFO(
        1, TPM_ALG_SHA512, b"", machine.tpm.audit.command_digest())
    machine.dirty = False
    run(machine.client, READ)
    assert machine.dirty, "the counter of logs is permanent"
    assert audited(machine.client).audit_counter == 2


def test_the_digest_survives_a_restart_but_not_a_reset(machine: Machine) -> None:
    run(machine.client, change(add=(TPM_CC_Startup,)))
    before = audited(machine.client)
    machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    machine.run(Startup(TPM_SU_STATE))
    resumed = audited(machine.client)
    assert resumed.audit_digest == digest(
        TPM_ALG_SHA512, before.audit_digest, digest(TPM_ALG_SHA512, b"\0\0\1\x44\0\1"),
        digest(TPM_ALG_SHA512, bytes(4), b"\0\0\1\x44"))
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    again = audited(machine.client)
    assert again.audit_counter == resumed.audit_counter + 1
    assert again.command_digest == before.command_digest


def test_an_audited_command_nullifies_a_shutdown(machine: Machine) -> None:
    """The digest is part of what Shutdown(STATE) keeps (Part 3, 9.4)."""
    run(machine.client, change(add=(TPM_CC_PCR_Read,)))
    machine.run(Shutdown(TPM_SU_STATE))
    run(machine.client, READ)
    machine.power_cycle()
    with refused(TPM_RC_VALUE | P1):
        machine.run(Startup(TPM_SU_STATE))


def test_clear_resets_the_counter(machine: Machine) -> None:
    run(machine.client, change(add=(TPM_CC_PCR_Read,)))
    run(machine.client, Clear(TPM_RH_PLATFORM))
    assert audited(machine.client).audit_counter == 0


def test_the_state_of_the_owner_survives_both_formats() -> None:
    audit = Audit()
    audit.select([TPM_CC_PCR_Read, TPM_CC_Startup], [])
    audit.change_alg(TPM_ALG_SHA384)
    audit.record(TPM_ALG_SHA384, b"c", b"r")
    other = Audit()
    other.restore(audit.save())
    other.restore_volatile(audit.save_volatile())
    assert (other.save(), other.save_volatile()) == (audit.save(), audit.save_volatile())
    with pytest.raises(ValueError, match="version 9"):
        other.restore(b"\x09" + audit.save()[1:])
    with pytest.raises(ValueError, match="version 9"):
        other.restore_volatile(b"\x09" + audit.save_volatile()[1:])


def test_the_digest_of_an_audit_session(machine: Machine) -> None:
    session = machine.client.start_session()
    session.attributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT
    request = GetSessionAuditDigest(TPM_RH_ENDORSEMENT, TPM_RH_NULL, session.handle, b"", NULL_SCHEME)
    with refused(TPM_RC_TYPE | H3):
        run(machine.client, request)
    response = machine.client.run(READ, session)
    session.attributes |= TPMA_SESSION_AUDITEXCLUSIVE
    code = TPM_CC_PCR_Read.to_bytes(4, "big")
    cp_hash = digest(TPM_ALG_SHA256, code, bytes.fromhex("00000001000b03010000"))
    rp_hash = digest(TPM_ALG_SHA256, bytes(4), code, encode(response))
    got = machine.client.run(request, Password(), Password(), session)
    wanted = digest(TPM_ALG_SHA256, bytes(32), cp_hash, rp_hash)
    assert decode(TPMS_ATTEST, got.audit_info).attested == TPMS_SESSION_AUDIT_INFO(1, wanted)
    run(machine.client, READ)
    got = run(machine.client, request)
    info = decode(TPMS_ATTEST, got.audit_info).attested
    assert isinstance(info, TPMS_SESSION_AUDIT_INFO)
    assert not info.exclusive_session, "a command without the session ended its exclusiveness"
    assert info.session_digest != wanted, "the session audited its own digest's command"


def test_the_key_has_to_sign(pair: Pair) -> None:
    with pair.loaded(elliptic(DECRYPT)) as key:
        request = GetCommandAuditDigest(TPM_RH_ENDORSEMENT, key, b"", NULL_SCHEME)
        assert pair.codes(request) == (TPM_RC_KEY | H2,) * 2


def test_the_same_commands_give_the_same_digest(pair: Pair) -> None:
    """Lists, digests and counters beside swtpm."""
    run(pair.ours, change(alg=TPM_ALG_SHA512))
    run(pair.theirs, change(alg=TPM_ALG_SHA512))  # what ours starts with

    def same() -> None:
        ours, theirs = audited(pair.ours), audited(pair.theirs)
        assert (ours.digest_alg, ours.audit_digest, ours.command_digest, ours.audit_counter) == (
            theirs.digest_alg, theirs.audit_digest, theirs.command_digest, theirs.audit_counter)
        assert commands(pair.ours) == commands(pair.theirs)
        counters = [run(client, GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_AUDIT_COUNTER_0, 2))
                    for client in (pair.ours, pair.theirs)]
        assert counters[0].capability_data == counters[1].capability_data

    same()
    with pair.loaded(elliptic(SIGN)) as key:
        requests: list[Command[Any]] = [
            change(add=(TPM_CC_PCR_Read, TPM_CC_PCR_Extend, 0x7777)), EXTEND,
            change(add=(TPM_CC_Shutdown,), remove=(TPM_CC_SetCommandCodeAuditStatus,)),
            change(alg=TPM_ALG_SHA256), EXTEND, EXTEND,
            GetCommandAuditDigest(TPM_RH_ENDORSEMENT, key, b"x", ECDSA),
            EXTEND, change(alg=TPM_ALG_SHA256, add=(TPM_CC_PCR_Read,), remove=(TPM_CC_PCR_Read,)), EXTEND,
            change(alg=TPM_ALG_SHA384, remove=(TPM_CC_PCR_Extend,)),
            change(authority=TPM_RH_PLATFORM, remove=(TPM_CC_PCR_Extend,)), EXTEND,
            change(alg=0x0123), change(authority=TPM_RH_ENDORSEMENT),
        ]
        for request in requests:
            ours, theirs = pair.codes(request)
            assert ours == theirs, request
            same()
