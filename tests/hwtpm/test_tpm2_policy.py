"""Policies: digests, assertions true and false, and what a policy session authorizes (Part 3, 23)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from hwtpm.client import Client, Password, Session
from hwtpm.crypto import hashes
from hwtpm.crypto.ecc import EccPrivate
from hwtpm.tpm2.policy import holds
from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth, SetPrimaryPolicy
from hwtpm.tpm2.requests.nv import NVRead, NVWrite
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.policy import (
    PolicyAuthorize,
    PolicyAuthorizeNV,
    PolicyAuthValue,
    PolicyCommandCode,
    PolicyCounterTimer,
    PolicyCpHash,
    PolicyDuplicationSelect,
    PolicyGetDigest,
    PolicyLocality,
    PolicyNameHash,
    PolicyNV,
    PolicyNvWritten,
    PolicyOR,
    PolicyPassword,
    PolicyPCR,
    PolicyPhysicalPresence,
    PolicySecret,
    PolicySigned,
    PolicyTemplate,
    PolicyTicket,
)
from hwtpm.tpm2.requests.session import PolicyRestart
from hwtpm.tpm2.requests.signing import VerifySignature
from hwtpm.tpm2.types.algorithms import TPMS_SIGNATURE_ECC, TPMT_SIGNATURE
from hwtpm.tpm2.types.attributes import (
    TPM_NT_PIN_PASS,
    TPMA_NV_AUTHREAD,
    TPMA_NV_NO_DA,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_POLICYREAD,
    TPMA_NV_POLICYWRITE,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_SESSION_CONTINUESESSION,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECDSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_EO_BITCLEAR,
    TPM_EO_BITSET,
    TPM_EO_EQ,
    TPM_EO_NEQ,
    TPM_EO_SIGNED_GE,
    TPM_EO_SIGNED_GT,
    TPM_EO_SIGNED_LE,
    TPM_EO_SIGNED_LT,
    TPM_EO_UNSIGNED_GE,
    TPM_EO_UNSIGNED_GT,
    TPM_EO_UNSIGNED_LE,
    TPM_EO_UNSIGNED_LT,
    TPM_RC_ATTRIBUTES,
    TPM_RC_AUTH_UNAVAILABLE,
    TPM_RC_BAD_AUTH,
    TPM_RC_COMMAND_CODE,
    TPM_RC_CPHASH,
    TPM_RC_EXPIRED,
    TPM_RC_HASH,
    TPM_RC_LOCALITY,
    TPM_RC_MODE,
    TPM_RC_NV_RANGE,
    TPM_RC_PCR_CHANGED,
    TPM_RC_POLICY,
    TPM_RC_POLICY_CC,
    TPM_RC_POLICY_FAIL,
    TPM_RC_PP,
    TPM_RC_RANGE,
    TPM_RC_SIZE,
    TPM_RC_TICKET,
    TPM_RC_VALUE,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
    TPM_ST_AUTH_SECRET,
    TPM_ST_VERIFIED,
    TPM_CC_NV_Read,
    TPM_CC_NV_Write,
    TPM_CC_PolicyOR,
    TPM_CC_PolicyPCR,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA, TPMT_TK_AUTH, TPMT_TK_VERIFIED
from hwtpm.wire import encode
from tests.support import tpm2_keys as keys
from tests.support.tpm2 import rc_of, refused, started
from tests.support.tpm2_either import EITHER, INDEX, define, either, rename, written

KEEP = TPMA_SESSION_CONTINUESESSION
POLICY_INDEX = TPMA_NV_POLICYREAD | TPMA_NV_POLICYWRITE | TPMA_NV_NO_DA
DEBUG_PCR = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\0\0\1")]
PCR_0 = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\1\0\0")]
ONE = bytes(31) + b"\1"
NO_TICKET = TPMT_TK_VERIFIED(TPM_ST_VERIFIED, TPM_RH_NULL, None, b"")
FIRST, SECOND, THIRD, FOURTH, FIFTH = 0x140, 0x240, 0x340, 0x440, 0x540
Assert = Callable[[int], Command[Empty]]


def digest_of(client: Client, session: int) -> bytes:
    return client.run(PolicyGetDigest(session)).policy_digest


def trial(client: Client, *assertions: Assert, alg: int = TPM_ALG_SHA256) -> bytes:
    """Return the digest of a policy."""
    session = client.start_session(TPM_SE_TRIAL, alg)
    for assertion in assertions:
        client.run(assertion(session.handle))
    found = digest_of(client, session.handle)
    _flush(client, session)
    return found


def _flush(client: Client, session: Session) -> None:
    client.run(FlushContext(session.handle))


def satisfy(client: Client, *assertions: Assert, auth: bytes = b"") -> Session:
    """Return a policy session in which the assertions hold."""
    session = client.start_session(TPM_SE_POLICY)
    session.auth = auth
    for assertion in assertions:
        client.run(assertion(session.handle))
    return session


def guarded(client: Client, policy: bytes, auth: bytes = b"") -> int:
    """Define an Index that only *policy* reads and writes, and let the owner write it."""
    define(client, auth, POLICY_INDEX | TPMA_NV_OWNERWRITE, policy=policy)
    client.run(NVWrite(TPM_RH_OWNER, INDEX, bytes(range(16)), 0), Password())
    rename(client, INDEX)
    return INDEX


def read(client: Client, session: Session | Password, size: int = 16) -> bytes:
    return client.run(NVRead(INDEX, INDEX, size, 0), session).data


# The policies that need nothing but themselves: the same digest on both TPMs, and in a trial.

PLAIN: dict[str, Sequence[Assert]] = {
    "auth value": [PolicyAuthValue],
    "password": [PolicyPassword],
    "command": [lambda s: PolicyCommandCode(s, TPM_CC_NV_Read)],
    "pcr": [lambda s: PolicyPCR(s, b"", DEBUG_PCR)],
    "no pcr": [lambda s: PolicyPCR(s, b"", [])],
    "pcrs that are not there": [
        lambda s: PolicyPCR(s, b"", [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\1\0\0"),
                                     TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\0\0\0")])],
    "locality": [lambda s: PolicyLocality(s, 1)],
    "localities": [lambda s: PolicyLocality(s, 7), lambda s: PolicyLocality(s, 3)],
    "or": [lambda s: PolicyOR(s, [bytes(32), ONE])],
    "or, then": [lambda s: PolicyOR(s, [ONE, bytes(32), ONE]), PolicyAuthValue],
    "written": [lambda s: PolicyNvWritten(s, 1)],
    "cp hash": [lambda s: PolicyCpHash(s, ONE)],
    "name hash": [lambda s: PolicyNameHash(s, ONE)],
    "template": [lambda s: PolicyTemplate(s, ONE)],
    "presence": [PolicyPhysicalPresence],
    "duplication": [lambda s: PolicyDuplicationSelect(s, b"object", b"parent", 1)],
    "duplication of any": [lambda s: PolicyDuplicationSelect(s, b"object", b"parent", 0)],
    "time": [lambda s: PolicyCounterTimer(s, bytes(8), 0, TPM_EO_UNSIGNED_GE)],
    "all": [PolicyAuthValue, PolicyPassword, lambda s: PolicyLocality(s, 1), PolicyPhysicalPresence,
            lambda s: PolicyCommandCode(s, TPM_CC_NV_Write), lambda s: PolicyNvWritten(s, 0)],
}


OF_SHA256 = ("cp hash", "name hash", "template", "or", "or, then")  # their values are SHA-256 digests


@pytest.mark.parametrize(("name", "alg"), [
    (name, alg) for name in PLAIN for alg in (TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384)
    if alg == TPM_ALG_SHA256 or name not in OF_SHA256
])
def test_policy_digests_are_those_of_swtpm(name: str, alg: int) -> None:
    found = []
    for side in EITHER:
        with either(side) as client:
            in_trial = trial(client, *PLAIN[name], alg=alg)
            session = client.start_session(TPM_SE_POLICY, alg)
            for assertion in PLAIN[name]:
                client.run(assertion(session.handle))
            assert digest_of(client, session.handle) == in_trial
            client.run(PolicyRestart(session.handle))
            assert digest_of(client, session.handle) == bytes(hashes.size(alg))
            found.append(in_trial)
    assert found[0] == found[1]


def test_the_digest_of_an_or_is_as_defined() -> None:
    expected = hashes.digest(TPM_ALG_SHA256, bytes(32), TPM_CC_PolicyOR.to_bytes(4, "big"), ONE, bytes(32))
    assert trial(started().client, lambda s: PolicyOR(s, [ONE, bytes(32)])) == expected


def test_the_digest_of_a_pcr_policy_names_only_pcrs_that_are_there() -> None:
    client = started().client
    selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\0\0\1")]
    pcrs = hashes.digest(TPM_ALG_SHA256, bytes(32))
    expected = hashes.digest(TPM_ALG_SHA256, bytes(32), TPM_CC_PolicyPCR.to_bytes(4, "big"),
                             b"\0\0\0\1" + encode(selection[0]), pcrs)
    assert trial(client, lambda s: PolicyPCR(s, b"", selection)) == expected


# Policies in use.

@pytest.mark.parametrize(
    "name", ["command", "pcr", "no pcr", "locality", "localities", "or", "written", "time"])
def test_a_satisfied_policy_authorizes_once(client: Client, name: str) -> None:
    guarded(client, trial(client, *PLAIN[name]))
    session = satisfy(client, *PLAIN[name])
    assert read(client, session) == bytes(range(16))
    assert digest_of(client, session.handle) == bytes(32), "the session starts anew after its use"
    with refused(TPM_RC_POLICY_FAIL | 0x900):
        read(client, session)


def test_an_unsatisfied_policy_authorizes_nothing(client: Client) -> None:
    guarded(client, trial(client, *PLAIN["command"]))
    with refused(TPM_RC_POLICY_FAIL | 0x900):
        read(client, satisfy(client))
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        read(client, Password())
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        read(client, client.start_session())


def test_a_policy_of_another_hash_fails(client: Client) -> None:
    guarded(client, trial(client, *PLAIN["or"]))
    session = client.start_session(TPM_SE_POLICY, TPM_ALG_SHA1)
    with refused(TPM_RC_POLICY_FAIL | 0x900):
        read(client, session)


def test_a_policy_for_another_command(client: Client) -> None:
    policy = [lambda s: PolicyCommandCode(s, TPM_CC_NV_Write)]
    guarded(client, trial(client, *policy))
    with refused(TPM_RC_POLICY_CC | 0x900):
        read(client, satisfy(client, *policy))


def test_the_auth_value_is_asked_for_by_hmac_or_as_password(client: Client) -> None:
    guarded(client, trial(client, PolicyAuthValue), b"pin")
    session = satisfy(client, PolicyAuthValue, auth=b"pin")
    assert read(client, session) == bytes(range(16))
    client.run(PolicyAuthValue(session.handle))
    session.auth = b"wrong"
    with refused(TPM_RC_BAD_AUTH | 0x900):
        read(client, session)


def _with_password(client: Client, session: Session, auth: bytes) -> int:
    """Read with a policy session whose authorization is *auth* in the clear; return the response code."""
    handles = INDEX.to_bytes(4, "big") * 2
    area = session.handle.to_bytes(4, "big") + b"\0\0" + bytes([KEEP]) + len(auth).to_bytes(2, "big") + auth
    body = handles + len(area).to_bytes(4, "big") + area + b"\0\4\0\0"
    command = b"\x80\x02" + (10 + len(body)).to_bytes(4, "big") + TPM_CC_NV_Read.to_bytes(4, "big") + body
    return int.from_bytes(client._execute(command)[6:10], "big")


def test_policy_password_takes_the_auth_value_in_the_clear(client: Client) -> None:
    guarded(client, trial(client, PolicyPassword), b"pin")
    session = satisfy(client, PolicyPassword)
    assert _with_password(client, session, b"wrong") == TPM_RC_BAD_AUTH | 0x900
    assert _with_password(client, session, b"pin\0") == 0
    client.run(PolicyPassword(session.handle))
    client.run(PolicyRestart(session.handle))
    client.run(PolicyAuthValue(session.handle))
    assert _with_password(client, session, b"pin") == TPM_RC_BAD_AUTH | 0x900


def test_pcr_policies(client: Client) -> None:
    value = hashes.digest(TPM_ALG_SHA256, bytes(32))
    policy = [lambda s: PolicyPCR(s, value, PCR_0)]
    guarded(client, trial(client, *policy))
    session = satisfy(client, *policy)
    assert read(client, session) == bytes(range(16))
    client.run(policy[0](session.handle))
    client.run(PCRExtend(0, [TPMT_HA(TPM_ALG_SHA256, ONE)]), Password())
    with refused(TPM_RC_PCR_CHANGED):
        read(client, session)
    with refused(TPM_RC_PCR_CHANGED):
        client.run(policy[0](session.handle))
    client.run(PolicyRestart(session.handle))
    with refused(TPM_RC_VALUE | FIRST):
        client.run(policy[0](session.handle))
    assert client.run(PCRRead(PCR_0)).pcr_values != [bytes(32)]


def test_an_uncounted_pcr_changes_no_policy(client: Client) -> None:
    policy = [lambda s: PolicyPCR(s, b"", PCR_0)]
    guarded(client, trial(client, *policy))
    session = satisfy(client, *policy)
    client.run(PCRExtend(16, [TPMT_HA(TPM_ALG_SHA256, ONE)]), Password())
    assert read(client, session) == bytes(range(16))


def test_or_chains(client: Client) -> None:
    reading = trial(client, lambda s: PolicyCommandCode(s, TPM_CC_NV_Read))
    writing = trial(client, lambda s: PolicyCommandCode(s, TPM_CC_NV_Write))
    inner: Assert = lambda s: PolicyOR(s, [reading, writing])  # noqa: E731
    branches = trial(client, inner)
    outer: Assert = lambda s: PolicyOR(s, [ONE, branches])  # noqa: E731
    guarded(client, trial(client, outer))
    session = satisfy(client, lambda s: PolicyCommandCode(s, TPM_CC_NV_Read), inner, outer)
    assert read(client, session) == bytes(range(16))
    with refused(TPM_RC_VALUE | FIRST):
        satisfy(client, outer)
    session = satisfy(client, lambda s: PolicyCommandCode(s, TPM_CC_NV_Write), inner, outer)
    with refused(TPM_RC_POLICY_CC | 0x900):
        read(client, session)


def test_locality_policies() -> None:
    machine = started()
    client = machine.client
    policy = [lambda s: PolicyLocality(s, 0b1010)]
    guarded(client, trial(client, *policy))
    session = satisfy(client, *policy)
    with refused(TPM_RC_LOCALITY):
        read(client, session)
    machine.locality = 3
    assert read(client, session) == bytes(range(16))
    with refused(TPM_RC_RANGE | FIRST):
        satisfy(client, *policy, lambda s: PolicyLocality(s, 0b0101))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 2), (32, 1), (1, 32), (32, 33)])
def test_localities_that_exclude_each_other(client: Client, first: int, second: int) -> None:
    with refused(TPM_RC_RANGE | FIRST):
        satisfy(client, lambda s: PolicyLocality(s, first), lambda s: PolicyLocality(s, second))


def test_presence_cannot_be_asserted(client: Client) -> None:
    guarded(client, trial(client, PolicyPhysicalPresence))
    with refused(TPM_RC_PP | 0x900):
        read(client, satisfy(client, PolicyPhysicalPresence))


def test_cp_hash_and_name_hash_limit_a_policy(client: Client) -> None:
    guarded(client, trial(client, lambda s: PolicyOR(s, [bytes(32), ONE])))
    name = client.names[INDEX]
    cp_hash = hashes.digest(TPM_ALG_SHA256, TPM_CC_NV_Read.to_bytes(4, "big"), name, name, b"\0\x10\0\0")
    define(client, attributes=POLICY_INDEX | TPMA_NV_OWNERWRITE, handle=INDEX + 1,
           policy=trial(client, lambda s: PolicyCpHash(s, cp_hash)))
    session = client.start_session(TPM_SE_POLICY)
    client.run(PolicyOR(session.handle, [bytes(32), ONE]))
    assert read(client, session, 16)
    # The hash is of this other Index, so the policy of it is never satisfied.
    client.run(PolicyCpHash(session.handle, cp_hash))
    with refused(TPM_RC_POLICY_FAIL | 0x900):
        client.run(NVRead(INDEX + 1, INDEX + 1, 16, 0), session)


def test_qualifiers_exclude_each_other(client: Client) -> None:
    for first, second, rc in [
        (PolicyCpHash, PolicyNameHash, TPM_RC_CPHASH), (PolicyNameHash, PolicyCpHash, TPM_RC_CPHASH),
        (PolicyNameHash, PolicyNameHash, TPM_RC_CPHASH), (PolicyTemplate, PolicyNameHash, TPM_RC_CPHASH),
        (PolicyCpHash, PolicyTemplate, TPM_RC_CPHASH), (PolicyTemplate, PolicyCpHash, TPM_RC_CPHASH),
        (PolicyCpHash, PolicyCpHash, 0), (PolicyTemplate, PolicyTemplate, 0),
    ]:
        session = satisfy(client, lambda s, first=first: first(s, ONE))  # type: ignore[misc]
        assert rc_of(lambda: client.run(second(session.handle, ONE))) == rc, (first, second)  # noqa: B023
        _flush(client, session)
    session = satisfy(client, lambda s: PolicyTemplate(s, ONE))
    with refused(TPM_RC_VALUE | FIRST):
        client.run(PolicyTemplate(session.handle, bytes(32)))
    _flush(client, session)
    session = satisfy(client, lambda s: PolicyCpHash(s, ONE))
    with refused(TPM_RC_CPHASH):
        client.run(PolicyCpHash(session.handle, bytes(32)))
    with refused(TPM_RC_CPHASH):
        client.run(PolicyDuplicationSelect(session.handle, b"", b"", 0))
    _flush(client, session)
    session = satisfy(client, lambda s: PolicyCommandCode(s, TPM_CC_NV_Read))
    with refused(TPM_RC_COMMAND_CODE):
        client.run(PolicyDuplicationSelect(session.handle, b"", b"", 0))


def test_what_assertions_refuse(client: Client) -> None:
    session = client.start_session(TPM_SE_POLICY).handle
    bad: list[tuple[Command[Empty], int]] = [
        (PolicyCpHash(session, bytes(31)), TPM_RC_SIZE | FIRST),
        (PolicyNameHash(session, bytes(20)), TPM_RC_SIZE | FIRST),
        (PolicyTemplate(session, b""), TPM_RC_SIZE | FIRST),
        (PolicyCommandCode(session, 0x20000000), TPM_RC_POLICY_CC | FIRST),
        (PolicyCommandCode(session, 0), TPM_RC_POLICY_CC | FIRST),
        (PolicyOR(session, [ONE]), TPM_RC_SIZE | FIRST),
        (PolicyOR(session, []), TPM_RC_SIZE | FIRST),
        (PolicyOR(session, [ONE, ONE]), TPM_RC_VALUE | FIRST),
        (PolicyOR(session, [ONE] * 9), TPM_RC_SIZE | FIRST),
        (PolicyNvWritten(session, 2), TPM_RC_VALUE | FIRST),
        (PolicyCounterTimer(session, b"", 26, TPM_EO_EQ), TPM_RC_VALUE | SECOND),
        (PolicyCounterTimer(session, b"\0", 25, TPM_EO_EQ), TPM_RC_RANGE),
        (PolicyCounterTimer(session, b"\xff" * 8, 0, TPM_EO_EQ), TPM_RC_POLICY),
        (PolicyCounterTimer(session, b"", 0, 12), TPM_RC_VALUE | THIRD),
        (PolicyPCR(session, ONE, DEBUG_PCR), TPM_RC_VALUE | FIRST),
    ]
    for request, rc in bad:
        assert rc_of(lambda: client.run(request)) == rc, request  # noqa: B023
    assert digest_of(client, session) == bytes(32)
    client.run(PolicyNvWritten(session, 1))
    with refused(TPM_RC_VALUE | FIRST):
        client.run(PolicyNvWritten(session, 0))


def test_nv_written_policies(client: Client) -> None:
    policy = [lambda s: PolicyNvWritten(s, 0)]
    define(client, attributes=POLICY_INDEX, policy=trial(client, *policy))
    session = satisfy(client, *policy)
    client.run(NVWrite(INDEX, INDEX, bytes(16), 0), session)
    rename(client, INDEX)
    client.run(policy[0](session.handle))
    with refused(TPM_RC_POLICY_FAIL | 0x900):
        client.run(NVWrite(INDEX, INDEX, bytes(16), 0), session)


def test_a_policy_stands_for_the_auth_value_of_a_hierarchy(client: Client) -> None:
    policy = trial(client, lambda s: PolicyOR(s, [bytes(32), ONE]))
    client.run(SetPrimaryPolicy(TPM_RH_OWNER, policy, TPM_ALG_SHA256), Password())
    session = satisfy(client, lambda s: PolicyOR(s, [bytes(32), ONE]))
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"new"), session)
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        client.run(HierarchyChangeAuth(TPM_RH_ENDORSEMENT, b""), satisfy(client))


# Policies by authority.

def secret(client: Client, session: Session, auth: Session | Password, *, entity: int = TPM_RH_OWNER,
           nonce: bytes = b"", cp_hash: bytes = b"", ref: bytes = b"", expiration: int = 0,
           ) -> tuple[bytes, TPMT_TK_AUTH]:
    answer = client.run(PolicySecret(entity, session.handle, nonce, cp_hash, ref, expiration), auth)
    return answer.timeout, answer.policy_ticket


def test_policy_secret(client: Client) -> None:
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"owner"), Password())
    session = client.start_session(TPM_SE_TRIAL)
    with refused(TPM_RC_BAD_AUTH | 0x900):
        secret(client, session, Password(b"wrong"), ref=b"ref")
    timeout, ticket = secret(client, session, Password(b"owner"), ref=b"ref", expiration=-10)
    assert (timeout, ticket.hierarchy) == (b"", TPM_RH_NULL)
    policy = digest_of(client, session.handle)
    define(client, attributes=POLICY_INDEX | TPMA_NV_OWNERWRITE, policy=policy, owner=Password(b"owner"))
    client.run(NVWrite(TPM_RH_OWNER, INDEX, bytes(16), 0), Password(b"owner"))
    rename(client, INDEX)
    used = client.start_session(TPM_SE_POLICY)
    proving = client.start_session()
    proving.auth = b"owner"
    secret(client, used, proving, ref=b"ref")
    assert read(client, used) == bytes(16)


def test_policy_secret_checks_its_parameters(client: Client) -> None:
    session = client.start_session(TPM_SE_POLICY)
    with refused(TPM_RC_SIZE | SECOND):
        secret(client, session, Password(), cp_hash=bytes(31))
    client.run(PolicyCpHash(session.handle, ONE))
    with refused(TPM_RC_CPHASH):
        secret(client, session, Password(), cp_hash=bytes(32))
    secret(client, session, Password(), cp_hash=ONE, nonce=session.nonce_tpm)


def test_policy_secret_with_a_policy_that_asks_for_no_auth_value(client: Client) -> None:
    policy = trial(client, lambda s: PolicyOR(s, [bytes(32), ONE]))
    client.run(SetPrimaryPolicy(TPM_RH_OWNER, policy, TPM_ALG_SHA256), Password())
    with refused(TPM_RC_MODE | 0x900):
        secret(client, client.start_session(TPM_SE_POLICY),
               satisfy(client, lambda s: PolicyOR(s, [bytes(32), ONE])))


def test_another_nonce_is_refused() -> None:
    """Part 3, 23.2.2 has TPM_RC_VALUE, where libtpms has TPM_RC_NONCE."""
    client = started().client
    session = client.start_session(TPM_SE_POLICY)
    with refused(TPM_RC_VALUE | FIRST):
        secret(client, session, Password(), nonce=bytes(32))


def test_tickets_stand_for_a_former_secret(client: Client) -> None:
    session = client.start_session(TPM_SE_POLICY)
    timeout, ticket = secret(client, session, Password(), ref=b"ref", expiration=-1000)
    assert (ticket.tag, ticket.hierarchy, len(timeout)) == (TPM_ST_AUTH_SECRET, TPM_RH_OWNER, 8)
    policy = digest_of(client, session.handle)
    name = TPM_RH_OWNER.to_bytes(4, "big")
    other = client.start_session(TPM_SE_POLICY)
    request = PolicyTicket(other.handle, timeout, b"", b"ref", name, ticket)
    client.run(request)
    assert digest_of(client, other.handle) == policy
    for changed, rc in [
        (PolicyTicket(other.handle, timeout[:-1], b"", b"ref", name, ticket), TPM_RC_SIZE | FIRST),
        (PolicyTicket(other.handle, timeout, b"", b"REF", name, ticket), TPM_RC_TICKET | FIFTH),
        (PolicyTicket(other.handle, timeout, ONE, b"ref", name, ticket), TPM_RC_TICKET | FIFTH),
        (PolicyTicket(other.handle, timeout, b"", b"ref", b"", ticket), TPM_RC_TICKET | FIFTH),
        (PolicyTicket(other.handle, timeout, b"\0", b"ref", name, ticket), TPM_RC_SIZE | SECOND),
        (PolicyTicket(other.handle, timeout[:-1] + bytes([timeout[-1] ^ 1]), b"", b"ref", name, ticket),
         TPM_RC_TICKET | FIFTH),
        (PolicyTicket(client.start_session(TPM_SE_TRIAL).handle, timeout, b"", b"ref", name, ticket),
         TPM_RC_ATTRIBUTES | 0x100),
    ]:
        assert rc_of(lambda: client.run(changed)) == rc, changed  # noqa: B023


def test_authorizations_expire() -> None:
    machine = started()
    client = machine.client
    session = client.start_session(TPM_SE_POLICY)
    timeout, ticket = secret(client, session, Password(), nonce=session.nonce_tpm, expiration=-10)
    guarded(client, digest_of(client, session.handle))
    assert read(client, session) == bytes(range(16))
    secret(client, session, Password(), nonce=session.nonce_tpm, expiration=10)
    machine.clock.advance(10_001)
    with refused(TPM_RC_EXPIRED | 0x900):
        read(client, session)
    with refused(TPM_RC_EXPIRED | FIRST):
        client.run(PolicyTicket(client.start_session(TPM_SE_POLICY).handle, timeout, b"", b"",
                                TPM_RH_OWNER.to_bytes(4, "big"), ticket))
    with refused(TPM_RC_EXPIRED | FOURTH):
        secret(client, session, Password(), nonce=session.nonce_tpm, expiration=9)
    client.run(PolicyRestart(session.handle))
    with refused(TPM_RC_EXPIRED | FOURTH):
        secret(client, session, Password(), expiration=9)


def test_a_pin_pass_index_gives_no_ticket() -> None:
    client = started().client
    kind = TPM_NT_PIN_PASS << TPMA_NV_TPM_NT_SHIFT
    define(client, b"pin", kind | TPMA_NV_AUTHREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA, size=8)
    client.run(NVWrite(TPM_RH_OWNER, INDEX, bytes(4) + b"\0\0\0\2", 0), Password())
    rename(client, INDEX)
    session = client.start_session(TPM_SE_POLICY)
    for _ in range(2):
        _, ticket = secret(client, session, Password(b"pin"), entity=INDEX, expiration=-10)
        assert ticket.hierarchy == TPM_RH_NULL
    with refused(TPM_RC_AUTH_UNAVAILABLE):
        secret(client, session, Password(b"pin"), entity=INDEX)


def _signed(nonce: bytes, expiration: int, cp_hash: bytes, ref: bytes) -> TPMT_SIGNATURE:
    """Sign an authorization with the key that `keys.elliptic` gives."""
    digest = hashes.digest(TPM_ALG_SHA256, nonce, expiration.to_bytes(4, "big", signed=True), cp_hash, ref)
    r, s = EccPrivate(3, 0x1234567890ABCDEF << 100 | 1).sign(digest)
    return TPMT_SIGNATURE(TPM_ALG_ECDSA, TPMS_SIGNATURE_ECC(TPM_ALG_SHA256, r, s))


def test_policy_signed(client: Client) -> None:
    key = keys.load(client, keys.elliptic(keys.SIGN), public_only=True, hierarchy=TPM_RH_OWNER)
    none = TPMT_SIGNATURE(TPM_ALG_ECDSA, TPMS_SIGNATURE_ECC(TPM_ALG_SHA256, b"\0", b"\0"))
    trying = client.start_session(TPM_SE_TRIAL)
    client.run(PolicySigned(key, trying.handle, b"", b"", b"ref", 0, none))
    policy = digest_of(client, trying.handle)
    session = client.start_session(TPM_SE_POLICY)
    nonce = session.nonce_tpm
    answer = client.run(PolicySigned(key, session.handle, nonce, b"", b"ref", -100,
                                     _signed(nonce, -100, b"", b"ref")))
    assert digest_of(client, session.handle) == policy
    assert answer.policy_ticket.hierarchy == TPM_RH_OWNER
    client.run(PolicyRestart(session.handle))
    client.run(PolicyTicket(session.handle, answer.timeout, b"", b"ref", client.names[key],
                            answer.policy_ticket))
    assert digest_of(client, session.handle) == policy


def test_a_wrong_signature_fails_the_policy() -> None:
    """Part 3, 23.3.1 has TPM_RC_POLICY_FAIL, where libtpms has TPM_RC_SIGNATURE."""
    client = started().client
    key = keys.load(client, keys.elliptic(keys.SIGN), public_only=True, hierarchy=TPM_RH_OWNER)
    session = client.start_session(TPM_SE_POLICY)
    with refused(TPM_RC_POLICY_FAIL | FIFTH):
        client.run(PolicySigned(key, session.handle, b"", b"", b"ref", 0, _signed(b"", 0, b"", b"")))


def test_policy_authorize(client: Client) -> None:
    key = keys.load(client, keys.elliptic(keys.SIGN), public_only=True, hierarchy=TPM_RH_OWNER)
    name = client.names[key]
    approved = trial(client, PolicyAuthValue)
    policy = trial(client, lambda s: PolicyAuthorize(s, b"", b"ref", name, NO_TICKET))
    digest = hashes.digest(TPM_ALG_SHA256, approved, b"ref")
    r, s = EccPrivate(3, 0x1234567890ABCDEF << 100 | 1).sign(digest)
    signature = TPMT_SIGNATURE(TPM_ALG_ECDSA, TPMS_SIGNATURE_ECC(TPM_ALG_SHA256, r, s))
    ticket = client.run(VerifySignature(key, digest, signature)).validation
    session = satisfy(client, PolicyAuthValue)
    for bad, rc in [
        (PolicyAuthorize(session.handle, ONE, b"ref", name, ticket), TPM_RC_VALUE | FIRST),
        (PolicyAuthorize(session.handle, approved, b"ref", b"", ticket), TPM_RC_HASH | THIRD),
        (PolicyAuthorize(session.handle, approved, b"ref", name[:-1], ticket), TPM_RC_SIZE | THIRD),
        (PolicyAuthorize(session.handle, approved, b"ref", b"\0\0" + name[2:], ticket), TPM_RC_HASH | THIRD),
    ]:
        assert rc_of(lambda: client.run(bad)) == rc  # noqa: B023
    client.run(PolicyAuthorize(session.handle, approved, b"ref", name, ticket))
    assert digest_of(client, session.handle) == policy


def test_an_unapproved_policy() -> None:
    """Part 3, 23.16.1 has TPM_RC_POLICY, where libtpms has TPM_RC_VALUE."""
    client = started().client
    key = keys.load(client, keys.elliptic(keys.SIGN), public_only=True, hierarchy=TPM_RH_OWNER)
    session = client.start_session(TPM_SE_POLICY)
    with refused(TPM_RC_POLICY):
        client.run(PolicyAuthorize(session.handle, bytes(32), b"", client.names[key], NO_TICKET))


def test_policy_nv(client: Client) -> None:
    written(client)
    trying = client.start_session(TPM_SE_TRIAL)
    client.run(PolicyNV(INDEX, INDEX, trying.handle, b"\1\2", 1, TPM_EO_EQ), Password())
    session = client.start_session(TPM_SE_POLICY)
    client.run(PolicyNV(INDEX, INDEX, session.handle, b"\1\2", 1, TPM_EO_EQ), Password())
    assert digest_of(client, session.handle) == digest_of(client, trying.handle)
    for operand, offset, operation, rc in [
        (b"\1\3", 1, TPM_EO_EQ, TPM_RC_POLICY), (b"", 17, TPM_EO_EQ, TPM_RC_VALUE | SECOND),
    ]:
        assert rc_of(lambda: client.run(
            PolicyNV(INDEX, INDEX, session.handle, operand, offset, operation), Password())) == rc  # noqa: B023


def test_policy_nv_beyond_the_index() -> None:
    """Part 3, 23.9.1 has TPM_RC_NV_RANGE, where libtpms has TPM_RC_SIZE."""
    client = started().client
    written(client)
    session = client.start_session(TPM_SE_POLICY)
    with refused(TPM_RC_NV_RANGE):
        client.run(PolicyNV(INDEX, INDEX, session.handle, b"\1\2", 15, TPM_EO_EQ), Password())


def test_policy_authorize_nv(client: Client) -> None:
    approved = trial(client, PolicyAuthValue)
    define(client, size=34)
    client.run(NVWrite(INDEX, INDEX, TPM_ALG_SHA256.to_bytes(2, "big") + approved, 0), Password())
    rename(client, INDEX)
    trying, session = client.start_session(TPM_SE_TRIAL), satisfy(client, PolicyAuthValue)
    for each in (trying, session):
        client.run(PolicyAuthorizeNV(INDEX, INDEX, each.handle), Password())
    assert digest_of(client, session.handle) == digest_of(client, trying.handle)
    with refused(TPM_RC_VALUE):
        client.run(PolicyAuthorizeNV(INDEX, INDEX, session.handle), Password())
    client.run(NVWrite(INDEX, INDEX, TPM_ALG_SHA1.to_bytes(2, "big"), 0), Password())
    with refused(TPM_RC_HASH):
        client.run(PolicyAuthorizeNV(INDEX, INDEX, session.handle), Password())


@pytest.mark.parametrize(("operation", "found", "operand", "expected"), [
    (TPM_EO_EQ, b"\1", b"\1", True), (TPM_EO_NEQ, b"\1", b"\1", False),
    (TPM_EO_SIGNED_GT, b"\1", b"\xff", True), (TPM_EO_UNSIGNED_GT, b"\1", b"\xff", False),
    (TPM_EO_SIGNED_LT, b"\xff", b"\1", True), (TPM_EO_UNSIGNED_LT, b"\xff", b"\1", False),
    (TPM_EO_SIGNED_GE, b"\xff", b"\xff", True), (TPM_EO_UNSIGNED_GE, b"\xfe", b"\xff", False),
    (TPM_EO_SIGNED_LE, b"\x80", b"\x7f", True), (TPM_EO_UNSIGNED_LE, b"\x80", b"\x7f", False),
    (TPM_EO_BITSET, b"\xf0", b"\x30", True), (TPM_EO_BITSET, b"\x10", b"\x30", False),
    (TPM_EO_BITCLEAR, b"\x0f", b"\x30", True), (TPM_EO_BITCLEAR, b"\x1f", b"\x30", False),
    (TPM_EO_EQ, b"", b"", True), (TPM_EO_SIGNED_GT, b"", b"", False),
])
def test_comparisons(client: Client, operation: int, found: bytes, operand: bytes, *, expected: bool) -> None:
    assert holds(operation, found, operand) is expected
    define(client, size=len(found) or 1)
    client.run(NVWrite(INDEX, INDEX, found, 0), Password())
    rename(client, INDEX)
    session = client.start_session(TPM_SE_POLICY)
    rc = rc_of(lambda: client.run(PolicyNV(INDEX, INDEX, session.handle, operand, 0, operation), Password()))
    assert rc == (0 if expected else TPM_RC_POLICY)
