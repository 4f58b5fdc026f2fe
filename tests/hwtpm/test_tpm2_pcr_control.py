"""Allocation, policy and authValue of PCRs (Part 3, 22.5 to 22.7), alone and beside swtpm."""

from __future__ import annotations

from functools import partial

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto import hashes
from hwtpm.errors import StateError
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import ChangePPS, Clear
from hwtpm.tpm2.requests.pcr import (
    PCRAllocate,
    PCRExtend,
    PCRRead,
    PCRReset,
    PCRSetAuthPolicy,
    PCRSetAuthValue,
)
from hwtpm.tpm2.requests.policy import PolicyCommandCode
from hwtpm.tpm2.requests.sequence import EventSequenceComplete, HashSequenceStart
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.state.pcr import ALL_PCRS, Pcrs, selection
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA3_256,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_CAP_PCR_PROPERTIES,
    TPM_CAP_PCRS,
    TPM_PT_PCR_POLICY,
    TPM_RC_AUTH_TYPE,
    TPM_RC_BAD_AUTH,
    TPM_RC_PCR,
    TPM_RC_POLICY_FAIL,
    TPM_RC_SIZE,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_SE_POLICY,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    TPM_CC_PCR_Extend,
)
from hwtpm.tpm2.types.handles import TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from tests.support.tpm2 import Machine, rc_of, refused
from tests.support.tpm2_pair import Pair, run

P1, S1 = 0x140, 0x900
NO_PCRS = 0


def allocate(*banks: tuple[int, int]) -> PCRAllocate:
    return PCRAllocate(TPM_RH_PLATFORM, [selection(alg, mask) for alg, mask in banks])


def allocated(client: Client) -> list[TPMS_PCR_SELECTION]:
    found = client.run(GetCapability(TPM_CAP_PCRS, 0, 10)).capability_data.data
    assert all(isinstance(bank, TPMS_PCR_SELECTION) for bank in found)
    return found  # type: ignore[return-value]


def extend(index: int) -> PCRExtend:
    return PCRExtend(index, [TPMT_HA(TPM_ALG_SHA256, bytes(32))])


def restart(machine: Machine, kind: int = TPM_SU_CLEAR) -> None:
    machine.power_cycle()
    machine.run(Startup(kind))


def test_an_allocation_counts_from_the_next_power_on(machine: Machine) -> None:
    before = allocated(machine.client)
    got = run(machine.client, allocate((TPM_ALG_SHA1, NO_PCRS), (TPM_ALG_SHA3_256, 1 << 1)))
    assert (got.allocation_success, got.max_pcr, got.size_needed) == (1, 24, 24 * (32 + 48 + 64) + 32)
    assert got.size_available >= got.size_needed
    assert allocated(machine.client) == before
    restart(machine)
    assert allocated(machine.client) == [
        selection(TPM_ALG_SHA1, NO_PCRS), selection(TPM_ALG_SHA256, ALL_PCRS),
        selection(TPM_ALG_SHA384, ALL_PCRS), selection(TPM_ALG_SHA512, ALL_PCRS),
        selection(TPM_ALG_SHA3_256, 1 << 1)]
    extended = [TPMT_HA(TPM_ALG_SHA512, bytes(64)), TPMT_HA(TPM_ALG_SHA3_256, bytes(32)),
                TPMT_HA(TPM_ALG_SHA1, bytes(20))]
    run(machine.client, PCRExtend(1, extended))
    asked = [selection(alg, 2) for alg in (TPM_ALG_SHA1, TPM_ALG_SHA512, TPM_ALG_SHA3_256)]
    read = machine.run(PCRRead(asked))
    assert [len(value) for value in read.pcr_values] == [64, 32]
    restart(machine)
    assert len(allocated(machine.client)) == 5, "it stays"
    run(machine.client, allocate((TPM_ALG_SHA3_256, NO_PCRS)))
    restart(machine)
    assert len(allocated(machine.client)) == 4, "only the usual banks are listed without a PCR"


def test_a_bank_that_was_allocated_is_extended_by_event_sequences(machine: Machine) -> None:
    """Part 3, 17.9.1: a digest for each bank; the PCR is extended in every bank that has it."""
    run(machine.client, allocate((TPM_ALG_SHA3_256, ALL_PCRS)))
    restart(machine)
    handle = machine.run(HashSequenceStart(b"", TPM_ALG_NULL)).sequence_handle
    done = machine.run(EventSequenceComplete(1, handle, b"event"), Password(), Password()).results
    assert [d.hash_alg for d in done] == [s.hash for s in allocated(machine.client)]
    digest = hashes.digest(TPM_ALG_SHA3_256, b"event")
    value = machine.run(PCRRead([selection(TPM_ALG_SHA3_256, 2)])).pcr_values
    assert value == [hashes.digest(TPM_ALG_SHA3_256, bytes(32), digest)]


def test_the_last_selection_of_a_bank_counts_and_other_banks_stay(machine: Machine) -> None:
    before = allocated(machine.client)
    run(machine.client, allocate((TPM_ALG_SHA1, 1)))
    run(machine.client, allocate((TPM_ALG_SHA256, NO_PCRS), (TPM_ALG_SHA256, ALL_PCRS)))
    restart(machine)
    assert allocated(machine.client) == before, "the later command replaced the first"


def test_both_measured_launches_keep_a_pcr(machine: Machine) -> None:
    for missing in (1, 1 << 17):
        with refused(TPM_RC_PCR):
            banks = machine.tpm.pcrs.allocation
            run(machine.client, allocate(*[(alg, ALL_PCRS & ~missing) for alg in banks]))
    run(machine.client, allocate((TPM_ALG_SHA1, 1), (TPM_ALG_SHA256, 1 << 17), (TPM_ALG_SHA384, NO_PCRS),
                                 (TPM_ALG_SHA512, NO_PCRS)))


def test_the_state_of_a_run_cannot_be_kept_over_an_allocation(machine: Machine) -> None:
    machine.run(Shutdown(TPM_SU_STATE))
    run(machine.client, allocate((TPM_ALG_SHA256, ALL_PCRS)))
    with refused(TPM_RC_TYPE | P1):
        machine.run(Shutdown(TPM_SU_STATE))
    machine.power_cycle()
    with refused(TPM_RC_VALUE | P1):
        machine.run(Startup(TPM_SU_STATE))
    machine.run(Startup(TPM_SU_CLEAR))
    machine.run(Shutdown(TPM_SU_STATE))


def test_an_allocation_that_was_not_stored_is_forgotten(machine: Machine) -> None:
    durable = machine.durable
    assert durable is not None
    run(machine.client, allocate((TPM_ALG_SHA256, 0x030003)))
    machine.engine.rollback(durable)
    machine.run(Shutdown(TPM_SU_STATE))


def test_the_group_has_an_auth_value_until_startup_clear_or_clear(machine: Machine) -> None:
    run(machine.client, PCRSetAuthValue(21, b"secret\0"))
    machine.locality = 2
    with refused(TPM_RC_BAD_AUTH | S1):
        machine.run(extend(22), Password())
    machine.run(extend(22), Password(b"secret"))
    run(machine.client, extend(23))
    machine.locality = 0
    machine.run(Shutdown(TPM_SU_STATE))
    restart(machine, TPM_SU_STATE)
    machine.run(PCRSetAuthValue(20, b"other"), Password(b"secret"))
    run(machine.client, Clear(TPM_RH_PLATFORM))
    run(machine.client, PCRSetAuthValue(20, b"other"))
    machine.run(Shutdown(TPM_SU_STATE))
    restart(machine)
    run(machine.client, PCRSetAuthValue(20, b""))


def test_a_policy_is_permanent_and_excludes_the_password(machine: Machine) -> None:
    policy = machine.client.start_session(TPM_SE_POLICY)
    machine.run(PolicyCommandCode(policy.handle, TPM_CC_PCR_Extend))
    digest = machine.tpm.sessions.get(policy.handle).policy_digest
    run(machine.client, PCRSetAuthPolicy(TPM_RH_PLATFORM, digest, TPM_ALG_SHA256, 20))
    machine.locality = 2
    with refused(TPM_RC_AUTH_TYPE):
        run(machine.client, extend(22))
    machine.run(extend(22), policy)
    machine.locality = 0
    restart(machine)
    machine.locality = 2
    with refused(TPM_RC_AUTH_TYPE):
        run(machine.client, PCRReset(22))
    run(machine.client, ChangePPS(TPM_RH_PLATFORM))
    run(machine.client, PCRReset(22))


def test_the_state_of_the_owner_survives_both_formats() -> None:
    pcrs = Pcrs()
    pcrs.allocate(pcrs.plan([selection(TPM_ALG_SHA1, 0x030003)]))
    pcrs.set_policy(TPM_ALG_SHA256, bytes(32))
    pcrs.set_auth(b"secret")
    other = Pcrs()
    other.restore(pcrs.save())
    other.restore_volatile(pcrs.save_volatile())
    assert (other.save(), other.save_volatile()) == (pcrs.save(), pcrs.save_volatile())
    assert other.reallocated


def test_a_bank_of_an_unknown_algorithm_is_damage(machine: Machine) -> None:
    run(machine.client, allocate((TPM_ALG_SHA1, ALL_PCRS)))
    assert machine.durable is not None
    bank = TPM_ALG_SHA1.to_bytes(2, "big") + ALL_PCRS.to_bytes(4, "big")
    damaged = machine.durable.replace(bank, b"\x12\x34" + bank[2:])
    with pytest.raises(StateError):
        Engine(machine.entropy, machine.clock, damaged)


@pytest.mark.parametrize("index", range(24))
def test_the_group_is_swtpms(pair: Pair, index: int) -> None:
    """Codes of the three commands for each PCR, and the properties."""
    for request in (PCRSetAuthPolicy(TPM_RH_PLATFORM, bytes(32), TPM_ALG_SHA256, index),
                    PCRSetAuthValue(index, b"x"), PCRReset(index),
                    PCRSetAuthPolicy(TPM_RH_PLATFORM, bytes(31), TPM_ALG_SHA256, index),
                    PCRSetAuthPolicy(TPM_RH_PLATFORM, b"", TPM_ALG_SHA256, index),
                    PCRSetAuthPolicy(TPM_RH_PLATFORM, b"x", TPM_ALG_NULL, index),
                    PCRSetAuthPolicy(TPM_RH_PLATFORM, b"", TPM_ALG_NULL, index),
                    PCRSetAuthValue(index, b"")):
        ours, theirs = pair.codes(request)
        assert ours == theirs, request


def test_properties_are_swtpms(pair: Pair) -> None:
    ours, theirs = pair.answers(GetCapability(TPM_CAP_PCR_PROPERTIES, TPM_PT_PCR_POLICY, 2))
    assert ours == theirs


@pytest.mark.parametrize("banks", [
    (), ((TPM_ALG_SHA256, ALL_PCRS),), ((TPM_ALG_SHA256, NO_PCRS), (TPM_ALG_SHA256, ALL_PCRS)),
    tuple((alg, NO_PCRS) for alg in (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512)),
    tuple((alg, 1) for alg in (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384, TPM_ALG_SHA512)),
    ((TPM_ALG_SHA1, NO_PCRS),), ((TPM_ALG_NULL, ALL_PCRS),), ((TPM_ALG_SHA256, 0x020001),),
])
def test_allocations_are_judged_alike(pair: Pair, banks: tuple[tuple[int, int], ...]) -> None:
    request = allocate(*banks)
    ours, theirs = pair.codes(request)
    assert ours == theirs


@pytest.mark.parametrize("index", [5, 20])
@pytest.mark.parametrize("digest", [b"", bytes(32)])
def test_a_policy_session_for_a_pcr(pair: Pair, index: int, digest: bytes) -> None:
    """A fresh policy session, whose digest is zeros, for a PCR with and without that policy."""
    codes = []
    for client in (pair.ours, pair.theirs):
        if index == 20:
            alg = TPM_ALG_SHA256 if digest else TPM_ALG_NULL
            run(client, PCRSetAuthPolicy(TPM_RH_PLATFORM, digest, alg, index))
        session = client.start_session(TPM_SE_POLICY)
        request: Command[Empty] = PCRSetAuthValue(index, b"") if index == 20 else extend(index)
        codes.append(rc_of(partial(client.run, request, session)))
        client.run(FlushContext(session.handle))
    assert codes[0] == codes[1]
    if index == 20:
        assert (codes[0] == 0) == bool(digest)
        assert codes[0] in (0, TPM_RC_POLICY_FAIL | S1)
    assert rc_of(lambda: run(pair.ours, PCRSetAuthPolicy(TPM_RH_PLATFORM, b"x", TPM_ALG_NULL, 0))) == (
        TPM_RC_SIZE | 0x140)
