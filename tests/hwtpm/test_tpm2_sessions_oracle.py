"""Random walks through sessions, policies and contexts: our response codes and digests are swtpm's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from hwtpm.client import Client, Password, Session
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, FlushContext
from hwtpm.tpm2.requests.nv import NVRead
from hwtpm.tpm2.requests.pcr import PCRExtend
from hwtpm.tpm2.requests.policy import (
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
    PolicyTemplate,
)
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.session import PolicyRestart
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import (
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_NO_DA,
    TPMA_NV_POLICYREAD,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_XOR,
    TPM_CAP_HANDLES,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
    TPM_CC_NV_Read,
)
from hwtpm.tpm2.types.handles import LOADED_SESSION_FIRST, TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from tests.support.tpm2_either import INDEX, either, written

POLICY = INDEX + 1
LOADED = 3  # sessions that swtpm holds at a time
STEPS = 250
CIPHERS = [TPMT_SYM_DEF(TPM_ALG_NULL), TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CFB),
           TPMT_SYM_DEF(TPM_ALG_XOR, TPM_ALG_SHA256)]
VALUES = [b"", bytes(20), bytes(32), b"\1" * 32, bytes(48), bytes(31)]
# Not among the others: libtpms does not tell a cpHash from a nameHash of the same value.
CP_HASHES = [b"", b"\2" * 20, b"\2" * 32, b"\3" * 32, b"\2" * 48]
PCRS = [[], [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\1\0\0")], [TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\0\0\1")]]
Choice = random.Random

ASSERTIONS: list[Callable[[int, Choice], Command[Any]]] = [
    lambda s, _: PolicyAuthValue(s),
    lambda s, _: PolicyPassword(s),
    lambda s, _: PolicyRestart(s),
    lambda s, _: PolicyPhysicalPresence(s),
    lambda s, r: PolicyCommandCode(s, r.choice([TPM_CC_NV_Read, 0x14F, 0x17E, 0])),
    lambda s, r: PolicyCpHash(s, r.choice(CP_HASHES)),
    lambda s, r: PolicyNameHash(s, r.choice(VALUES)),
    lambda s, r: PolicyTemplate(s, r.choice(VALUES)),
    lambda s, r: PolicyDuplicationSelect(s, r.choice(VALUES), r.choice(VALUES), r.randrange(3)),
    lambda s, r: PolicyLocality(s, r.choice([0, 1, 3, 2, 32, 33])),
    lambda s, r: PolicyNvWritten(s, r.randrange(3)),
    lambda s, r: PolicyOR(s, r.choices(VALUES, k=r.randrange(1, 9))),
    lambda s, r: PolicyPCR(s, r.choice(VALUES), r.choice(PCRS)),
    lambda s, r: PolicyCounterTimer(s, r.choice([b"", bytes(8)]), r.choice([0, 8, 17, 18, 25, 26]),
                                    r.choice([7, 11, 12])),
]


class Walker:
    """One TPM, and what the walk has come across in it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sessions: dict[int, Session] = {}
        self.contexts: list[Any] = []
        written(client, b"pin")
        written(client, b"pin", TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_POLICYREAD | TPMA_NV_NO_DA,
                policy=bytes(32), handle=POLICY)

    def attempt(self, step: Callable[[Walker], Any]) -> tuple[int, Any]:
        try:
            return 0, step(self)
        except TpmError as error:
            return error.rc, None

    def start(self, kind: int, alg: int, cipher: TPMT_SYM_DEF, bind: int) -> int:
        session = self.client.start_session(kind, alg, cipher, bind=bind,
                                            bind_auth=b"" if bind == TPM_RH_NULL else b"pin")
        self.sessions[session.handle] = session
        return session.handle

    def use(self, handle: int, request: Command[Any], auth: bytes, attributes: int, *,
            bound: bool) -> bool:
        """Tell whether the data came as they were written: a wrong authValue is a wrong key as well."""
        session = self.sessions[handle]
        if session.symmetric.algorithm == TPM_ALG_NULL:
            attributes &= ~(TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT)
        session.auth, session.attributes, session.bound = auth, attributes, bound
        answer = self.client.run(request, session)
        return getattr(answer, "data", b"") == bytes(range(16))

    def save(self, handle: int) -> tuple[int, int]:
        context = self.client.run(ContextSave(handle)).context
        self.contexts.append(context)
        return context.saved_handle, context.hierarchy

    def load(self, number: int) -> int:
        return self.client.run(ContextLoad(self.contexts[number])).loaded_handle

    def loaded(self) -> list[int]:
        data = self.client.run(GetCapability(TPM_CAP_HANDLES, LOADED_SESSION_FIRST, 64)).capability_data.data
        assert isinstance(data, list)
        return data

    def assertion(self, request: Command[Any]) -> bytes:
        self.client.run(request)
        session: int = request.policy_session  # type: ignore[attr-defined]
        return self.client.run(PolicyGetDigest(session)).policy_digest


def _step(choice: Choice, known: list[int], saved: int, *, room: bool) -> Callable[[Walker], Any]:
    kind = choice.randrange(12)
    handle = choice.choice([*known, *known, 0x02000000, 0x03000001])
    if kind == 0 and room:
        arguments = (choice.choice([TPM_SE_HMAC, TPM_SE_POLICY, TPM_SE_POLICY, TPM_SE_TRIAL]),
                     choice.choice([TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA256, TPM_ALG_SHA384]),
                     choice.choice(CIPHERS), choice.choice([TPM_RH_NULL, INDEX, POLICY]))
        return lambda w: w.start(*arguments)
    if kind == 1 and choice.random() < 0.3:
        return lambda w: w.client.run(FlushContext(handle)) and None
    if kind == 2:
        return lambda w: w.save(handle)
    if kind == 3 and saved and room:
        number = choice.randrange(saved)
        return lambda w: w.load(number)
    if kind in (4, 5) and known:
        index = choice.choice([INDEX, POLICY])
        request = NVRead(index, index, 16, 0) if choice.random() < 0.8 else GetRandom(8)
        auth = choice.choice([b"pin", b"pin", b"wrong", b""])
        attributes = choice.choice([1, 1, 1, 0x41, 0x21, 0])
        bound, handle = choice.random() < 0.3, choice.choice(known)
        return lambda w: w.use(handle, request, auth, attributes, bound=bound)
    if kind == 6:
        nv = PolicyNV(INDEX, INDEX, handle, choice.choice([b"", b"\0\1", b"\1"]), choice.choice([0, 3, 17]),
                      choice.randrange(13))
        return lambda w: w.client.run(nv, Password(b"pin")) and None
    if kind == 7:
        secret = PolicySecret(TPM_RH_OWNER, handle, b"", choice.choice(CP_HASHES), choice.choice(VALUES[:3]),
                              0)
        return lambda w: w.client.run(secret, Password()).policy_ticket
    if kind == 8 and choice.random() < 0.3:
        extend = PCRExtend(choice.choice([0, 16]), [TPMT_HA(TPM_ALG_SHA256, bytes(32))])
        return lambda w: w.client.run(extend, Password()) and None
    asserted = choice.choice(ASSERTIONS)(handle, choice)
    if isinstance(asserted, PolicyRestart):
        return lambda w: w.client.run(asserted) and None
    return lambda w: w.assertion(asserted)


@pytest.mark.parametrize("seed", range(12))
def test_a_random_walk_is_the_same_with_swtpm(seed: int) -> None:
    choice = random.Random(seed)
    with either("ours") as ours, either("swtpm") as theirs:
        walkers = [Walker(ours), Walker(theirs)]
        for number in range(STEPS):
            loaded = [walker.loaded() for walker in walkers]
            assert loaded[0] == loaded[1], f"seed {seed}, before step {number}"
            step = _step(choice, sorted(walkers[0].sessions), len(walkers[0].contexts),
                         room=len(loaded[0]) < LOADED)
            found = [walker.attempt(step) for walker in walkers]
            assert found[0] == found[1], f"seed {seed}, step {number}"
