"""What an algorithm set leaves out is refused as if it were not implemented (Part 3, 26.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hwtpm.crypto import hashes
from hwtpm.tpm2.requests.asymmetric import RSAEncrypt
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.capability import GetCapability, TestParms
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, SetPrimaryPolicy
from hwtpm.tpm2.requests.management import SetAlgorithmSet
from hwtpm.tpm2.requests.nv import NVDefineSpace
from hwtpm.tpm2.requests.object import CreateLoaded, LoadExternal
from hwtpm.tpm2.requests.pcr import PCRAllocate, PCRExtend, PCRRead, PCRSetAuthPolicy
from hwtpm.tpm2.requests.policy import PolicyAuthorize
from hwtpm.tpm2.requests.sequence import HashSequenceStart
from hwtpm.tpm2.requests.session import StartAuthSession
from hwtpm.tpm2.requests.signing import Sign
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.symmetric import HMAC, Hash
from hwtpm.tpm2.requests.testing import IncrementalSelfTest
from hwtpm.tpm2.state.pcr import ALL_PCRS, selection
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import (
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_RSA_DECRYPT,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
)
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.objects import TPMS_KEYEDHASH_PARMS, TPMT_PUBLIC_PARMS
from hwtpm.tpm2.types.structures import TPMT_HA, TPMT_TK_HASHCHECK, TPMT_TK_VERIFIED
from hwtpm.wire import encode
from tests.support import templates
from tests.support.tpm2 import Machine, rc_of, refused
from tests.support.tpm2_keys import DECRYPT, SIGN, keyed_hash, rsa
from tests.support.tpm2_pair import run

NO_SHA3 = 1
SHA3 = (c.TPM_ALG_SHA3_256, c.TPM_ALG_SHA3_384, c.TPM_ALG_SHA3_512)
UNKNOWN = 0x00FE  # no algorithm
NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")
KEY = 0x80000000  # a public RSA key, then an HMAC key
P1, P2 = 0x140, 0x240


def named(hash_alg: int) -> TPMS_SCHEME_HASH:
    return TPMS_SCHEME_HASH(hash_alg)


def with_name_alg(alg: int) -> bytes:
    return encode(templates.keyed_hash(templates.SIGNING, templates.HMAC, name_alg=alg))


REQUESTS: list[Callable[[int], Command[Any]]] = [
    lambda alg: Hash(b"abc", alg, TPM_RH_NULL),
    lambda alg: HashSequenceStart(b"", alg),
    lambda alg: StartAuthSession(TPM_RH_NULL, TPM_RH_NULL, bytes(32), b"", c.TPM_SE_HMAC,
                                 TPMT_SYM_DEF(c.TPM_ALG_NULL), alg),
    lambda alg: StartAuthSession(TPM_RH_NULL, TPM_RH_NULL, bytes(32), b"", c.TPM_SE_HMAC,
                                 TPMT_SYM_DEF(c.TPM_ALG_XOR, alg), c.TPM_ALG_SHA256),
    lambda alg: CreatePrimary(TPM_RH_OWNER, NOTHING, templates.keyed_hash(
        templates.SIGNING, templates.HMAC, name_alg=alg), b"", []),
    lambda alg: CreatePrimary(TPM_RH_OWNER, NOTHING, templates.keyed_hash(
        templates.SIGNING, TPMT_KEYEDHASH_SCHEME(c.TPM_ALG_HMAC, named(alg))), b"", []),
    lambda alg: CreatePrimary(TPM_RH_OWNER, NOTHING, templates.storage(), b"", [selection(alg, 1)]),
    lambda alg: CreateLoaded(TPM_RH_OWNER, NOTHING, with_name_alg(alg)),
    lambda alg: LoadExternal(None, rsa(SIGN, bits=1024, name_alg=alg)[0], TPM_RH_NULL),
    lambda alg: NVDefineSpace(TPM_RH_OWNER, b"", TPMS_NV_PUBLIC(
        0x01500000 | alg, alg, TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE, b"", 8)),
    lambda alg: SetPrimaryPolicy(TPM_RH_OWNER, bytes(32), alg),
    lambda alg: SetCommandCodeAuditStatus(TPM_RH_OWNER, alg, [], []),
    lambda alg: PCRAllocate(TPM_RH_PLATFORM, [selection(c.TPM_ALG_SHA1, 1), selection(alg, ALL_PCRS)]),
    lambda alg: PCRRead([selection(alg, 1)]),
    lambda alg: PCRSetAuthPolicy(TPM_RH_PLATFORM, bytes(32), alg, 20),
    lambda alg: TestParms(TPMT_PUBLIC_PARMS(c.TPM_ALG_KEYEDHASH, TPMS_KEYEDHASH_PARMS(
        TPMT_KEYEDHASH_SCHEME(c.TPM_ALG_HMAC, named(alg))))),
    lambda alg: RSAEncrypt(KEY, b"m", TPMT_RSA_DECRYPT(c.TPM_ALG_OAEP, named(alg)), b""),
    lambda alg: HMAC(KEY + 1, b"m", alg),
    lambda alg: Sign(KEY + 1, bytes(32), TPMT_SIG_SCHEME(c.TPM_ALG_HMAC, named(alg)),
                     TPMT_TK_HASHCHECK(c.TPM_ST_HASHCHECK, TPM_RH_NULL, b"")),
    lambda alg: IncrementalSelfTest([c.TPM_ALG_SHA256, alg]),
]


def with_keys(machine: Machine) -> Machine:
    """Load the keys that REQUESTS names."""
    public, _ = rsa(templates.DECRYPTION & ~templates.BASE, bits=1024)
    machine.run(LoadExternal(None, public, TPM_RH_NULL))
    public, sensitive = keyed_hash(SIGN | DECRYPT, c.TPM_ALG_NULL, c.TPM_ALG_NULL)
    machine.run(LoadExternal(sensitive, public, TPM_RH_NULL))
    return machine


def select(machine: Machine, number: int) -> None:
    run(machine.client, SetAlgorithmSet(TPM_RH_PLATFORM, number))


@pytest.mark.parametrize("request_of", REQUESTS, ids=lambda f: type(f(c.TPM_ALG_SHA256)).__name__)
def test_what_is_left_out_is_answered_like_an_unknown_algorithm(
        machine: Machine, request_of: Callable[[int], Command[Any]]) -> None:
    with_keys(machine)
    unknown = rc_of(lambda: run(machine.client, request_of(UNKNOWN)))
    assert unknown & 0xC0 == 0xC0, "a parameter is at fault"
    select(machine, NO_SHA3)
    for alg in SHA3:
        assert rc_of(lambda alg=alg: run(machine.client, request_of(alg))) == unknown  # type: ignore[misc]
    assert rc_of(lambda: run(machine.client, request_of(c.TPM_ALG_SHA256))) == 0
    select(machine, 0)
    assert rc_of(lambda: run(machine.client, request_of(c.TPM_ALG_SHA3_256))) == 0


def test_digests_of_what_is_left_out_are_refused(machine: Machine) -> None:
    extended = PCRExtend(16, [TPMT_HA(c.TPM_ALG_SHA1, bytes(20)), TPMT_HA(c.TPM_ALG_SHA3_256, bytes(32))])
    run(machine.client, extended)
    select(machine, NO_SHA3)
    with refused(c.TPM_RC_HASH | P1):
        run(machine.client, extended)


def test_a_number_that_is_no_algorithm_is_not_taken_for_one(machine: Machine) -> None:
    """An Index of 39 octets, 0x27, has nothing to do with SHA3-256."""
    select(machine, NO_SHA3)
    public = TPMS_NV_PUBLIC(0x01500001, c.TPM_ALG_SHA256, TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE, b"", 0x27)
    run(machine.client, NVDefineSpace(TPM_RH_OWNER, b"", public))


def test_only_what_is_in_the_set_is_reported_and_tested(machine: Machine) -> None:
    def algorithms() -> set[int]:
        found = machine.run(GetCapability(c.TPM_CAP_ALGS, 0, 100)).capability_data.data
        return {one.alg for one in found}  # type: ignore[union-attr]

    whole = algorithms()
    assert whole >= set(SHA3)
    select(machine, NO_SHA3)
    assert algorithms() == whole - set(SHA3)
    assert not set(machine.run(IncrementalSelfTest([])).to_do_list) & set(SHA3)
    machine.power_cycle()
    machine.run(Startup(c.TPM_SU_CLEAR))
    assert algorithms() == whole - set(SHA3), "it is permanent"
    select(machine, 2)
    assert algorithms() == whole, "other bits mean nothing"


def test_what_is_there_can_still_be_used(machine: Machine) -> None:
    """Part 3, 26.3.1: what becomes of it is the vendor's choice."""
    template = templates.keyed_hash(templates.SIGNING, TPMT_KEYEDHASH_SCHEME(
        c.TPM_ALG_HMAC, named(c.TPM_ALG_SHA3_256)), name_alg=c.TPM_ALG_SHA3_384)
    made = run(machine.client, CreatePrimary(TPM_RH_OWNER, NOTHING, template, b"", []))
    sequence = machine.run(HashSequenceStart(b"", c.TPM_ALG_SHA3_256)).sequence_handle
    select(machine, NO_SHA3)
    assert len(run(machine.client, HMAC(made.object_handle, b"m", c.TPM_ALG_NULL)).out_hmac) == 32
    assert machine.tpm.objects.get(sequence).digest(b"x") == hashes.digest(c.TPM_ALG_SHA3_256, b"x")


def test_the_answer_of_a_primary_is_not_remembered(machine: Machine) -> None:
    request = REQUESTS[4](c.TPM_ALG_SHA3_256)
    for _ in range(3):
        run(machine.client, request)
    select(machine, NO_SHA3)
    with refused(c.TPM_RC_HASH | P2):
        run(machine.client, request)


@pytest.mark.parametrize("waiting", [False, True])
def test_a_bank_of_what_is_left_out_goes_at_the_next_power_on(machine: Machine, *, waiting: bool) -> None:
    def banks() -> list[int]:
        found = machine.run(GetCapability(c.TPM_CAP_PCRS, 0, 1)).capability_data.data
        return [one.hash for one in found]  # type: ignore[union-attr]

    before = banks()
    run(machine.client, PCRAllocate(TPM_RH_PLATFORM, [selection(c.TPM_ALG_SHA3_256, ALL_PCRS),
                                                      selection(c.TPM_ALG_SHA1, 0)]))
    if not waiting:
        machine.power_cycle()
        machine.run(Startup(c.TPM_SU_CLEAR))
        assert banks() == [*before, c.TPM_ALG_SHA3_256]
    select(machine, NO_SHA3)
    with refused(c.TPM_RC_TYPE | P1):
        machine.run(Shutdown(c.TPM_SU_STATE))
    machine.power_cycle()
    machine.run(Startup(c.TPM_SU_CLEAR))
    assert banks() == before
    assert machine.tpm.pcrs.allocation[c.TPM_ALG_SHA1] == 0, "the rest is as it was asked for"


def test_the_last_bank_cannot_be_left_out(machine: Machine) -> None:
    """Both measured launches need a PCR (Part 3, 22.5)."""
    others = [selection(alg, 0) for alg in machine.tpm.pcrs.allocation]
    run(machine.client, PCRAllocate(TPM_RH_PLATFORM, [*others, selection(c.TPM_ALG_SHA3_256, ALL_PCRS)]))
    machine.power_cycle()
    machine.run(Startup(c.TPM_SU_CLEAR))
    with refused(c.TPM_RC_PCR):
        select(machine, NO_SHA3)
    machine.run(Hash(b"", c.TPM_ALG_SHA3_256, TPM_RH_NULL))


def test_policies_that_name_it_are_refused(machine: Machine) -> None:
    session = machine.client.start_session(c.TPM_SE_TRIAL)
    name = c.TPM_ALG_SHA3_256.to_bytes(2, "big") + bytes(32)
    ticket = TPMT_TK_VERIFIED(c.TPM_ST_VERIFIED, TPM_RH_NULL, None, b"")
    request = PolicyAuthorize(session.handle, b"", b"", name, ticket)
    machine.run(request)
    select(machine, NO_SHA3)
    with refused(c.TPM_RC_HASH | 0x340):
        machine.run(request)


def test_a_resumed_or_restored_tpm_has_the_set(machine: Machine) -> None:
    select(machine, NO_SHA3)
    running = machine.engine.snapshot_running()
    resumed = Machine(b"x", machine.engine.snapshot(), running)
    with refused(c.TPM_RC_HASH | P2):
        resumed.run(Hash(b"", c.TPM_ALG_SHA3_256, TPM_RH_NULL))
    durable = machine.durable
    assert durable is not None
    select(machine, 0)
    machine.engine.rollback(durable)
    with refused(c.TPM_RC_HASH | P2):
        machine.run(Hash(b"", c.TPM_ALG_SHA3_256, TPM_RH_NULL))
