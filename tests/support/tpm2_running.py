"""A random walk over what lives until the power of a TPM 2.0 goes, and all that a client can see of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hwtpm.client import Authorization, Session
from hwtpm.crypto import hashes
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.requests.asymmetric import ECDHKeyGen
from hwtpm.tpm2.requests.attestation import Certify, GetSessionAuditDigest, GetTime, Quote
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ClockRateAdjust, ReadClock
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, FlushContext
from hwtpm.tpm2.requests.countdown import ACTSetTimeout
from hwtpm.tpm2.requests.ephemeral import Commit, ECEphemeral
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, HierarchyChangeAuth, ReadOnlyControl
from hwtpm.tpm2.requests.management import PPCommands, SetAlgorithmSet
from hwtpm.tpm2.requests.object import Create, LoadExternal, ObjectChangeAuth, ReadPublic, Unseal
from hwtpm.tpm2.requests.pcr import PCRRead, PCRReset, PCRSetAuthPolicy, PCRSetAuthValue
from hwtpm.tpm2.requests.policy import (
    PolicyAuthValue,
    PolicyCommandCode,
    PolicyCounterTimer,
    PolicyCpHash,
    PolicyGetDigest,
    PolicyLocality,
    PolicyNvWritten,
    PolicyOR,
    PolicyPassword,
    PolicyPCR,
    PolicySecret,
    PolicyTemplate,
)
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import (
    EventSequenceComplete,
    HashSequenceStart,
    HMACStart,
    SequenceComplete,
    SequenceUpdate,
)
from hwtpm.tpm2.requests.session import PolicyRestart
from hwtpm.tpm2.requests.signing import Sign
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.symmetric import HMAC, MAC, EncryptDecrypt2
from hwtpm.tpm2.requests.testing import GetTestResult, IncrementalSelfTest, SelfTest
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_ECDAA,
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMT_ECC_SCHEME,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_SESSION_AUDIT,
    TPMA_SESSION_AUDITEXCLUSIVE,
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.handles import (
    TPM_HT_POLICY_SESSION,
    TPM_RH_ACT_0,
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_TK_HASHCHECK
from tests.support import templates
from tests.support.tpm2 import Machine
from tests.support.tpm2_keys import keyed_hash, rsa
from tests.support.tpm2_state import INDICES, NONE, Walk, attempt
from tests.support.twins import AnyTwins

_PCRS = [TPMS_PCR_SELECTION(c.TPM_ALG_SHA256, b"\xff\xff\xff")]
_NO_TICKET = TPMT_TK_HASHCHECK(c.TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
_NO_SCHEME = TPMT_SIG_SCHEME(c.TPM_ALG_NULL)
_HASHED = TPMS_SCHEME_HASH(c.TPM_ALG_SHA256)


def daa() -> TPMT_PUBLIC:
    """An ECDAA key on P-256."""
    template = templates.ecc()
    assert isinstance(template.parameters, TPMS_ECC_PARMS)
    template.parameters.scheme = TPMT_ECC_SCHEME(c.TPM_ALG_ECDAA, TPMS_SCHEME_ECDAA(c.TPM_ALG_SHA256, 0))
    return template


_TEMPLATES = (
    templates.storage(), templates.keyed_hash(), templates.keyed_hash(templates.SIGNING, templates.HMAC),
    templates.cipher_key(), daa(), templates.ecc(scheme=c.TPM_ALG_ECSCHNORR),
    templates.ecc(templates.DECRYPTION),
)
_AES = TPMT_SYM_DEF(c.TPM_ALG_AES, 128, c.TPM_ALG_CFB)
_ALGS = (c.TPM_ALG_SHA1, c.TPM_ALG_SHA256, c.TPM_ALG_SHA384, c.TPM_ALG_SHA512, c.TPM_ALG_SHA3_256)
Answers = list[bytes | int]


class Twins(AnyTwins[Engine], Machine):
    """A TPM 2.0 and its twin."""

    def part(self) -> None:
        """From here on there is a twin; to it, too, somebody is at the platform, or not."""
        super().part()
        assert self.twin is not None
        self.twin.tpm.physical_presence = self.tpm.physical_presence


class LiveWalk(Walk):
    """A random walk over what lives until power goes: objects, sessions, sequences, timers, modes."""

    def __init__(self, seed: int, machine: Twins) -> None:
        super().__init__(seed)
        self._steps += _LIVE
        self.m = machine
        self.objects: list[int] = []
        self.sequences: list[int] = []
        self.sessions: list[Session] = []

    def go(self, steps: int) -> None:
        """Take that many steps."""
        for _ in range(steps):
            self.m.locality = self.random.choice((0, 0, 0, 1, 2, 3, 4))
            with suppress(TpmError, ProtocolError):  # The twin has answered the same.
                self.step(self.m)

    def all(self) -> list[int]:
        """Return the handles that are in use, and one that may not be."""
        return [*self.objects, *self.sequences, 0x80000000]

    def _load(self, m: Machine) -> Answers:
        hierarchy = self.random.choice((TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_NULL))
        chosen = self.random.randrange(len(_TEMPLATES) + 2)
        if chosen < len(_TEMPLATES):
            template = _TEMPLATES[chosen]
            given = TPMS_SENSITIVE_CREATE(b"", b"secret" if chosen == 1 else b"")
            made = m.run(CreatePrimary(hierarchy, given, template, b"", []), self.auth(hierarchy))
            self.objects.append(made.object_handle)
            return []
        areas = rsa(templates.SIGNING & ~templates.BASE, c.TPM_ALG_RSASSA, c.TPM_ALG_SHA256, bits=1024)
        if chosen == len(_TEMPLATES):
            areas = keyed_hash(templates.SIGNING & ~templates.BASE)
        whole = self.random.random() < 0.8
        loaded = m.run(LoadExternal(areas[1] if whole else None, areas[0], TPM_RH_NULL))
        self.objects.append(loaded.object_handle)
        return []

    def _use(self, m: Machine) -> Answers:
        """Whatever an object may be good for, most of them are good for something."""
        return [answer for handle in self.all() for answer in self._try(m, handle)]

    def _try(self, m: Machine, handle: int) -> Answers:
        other = self.random.choice(self.all())
        data = self.random.randbytes(32)
        scheme = self.random.choice((
            TPMT_SIG_SCHEME(c.TPM_ALG_RSASSA, _HASHED), TPMT_SIG_SCHEME(c.TPM_ALG_ECSCHNORR, _HASHED),
            _NO_SCHEME, TPMT_SIG_SCHEME(c.TPM_ALG_HMAC, _HASHED),
            TPMT_SIG_SCHEME(c.TPM_ALG_ECDAA, TPMS_SCHEME_ECDAA(c.TPM_ALG_SHA256, self.random.randrange(9)))))
        child = TPMS_SENSITIVE_CREATE(b"", b"sealed")
        requests: tuple[tuple[Command[Any], int], ...] = (
            (ReadPublic(handle), 0), (Unseal(handle), 1), (HMAC(handle, data, c.TPM_ALG_NULL), 1),
            (MAC(handle, data, c.TPM_ALG_CMAC), 1), (Sign(handle, data, scheme, _NO_TICKET), 1),
            (EncryptDecrypt2(handle, data, 0, c.TPM_ALG_CFB, bytes(16)), 1),
            (Commit(handle, TPMS_ECC_POINT(b"", b""), b"", b""), 1), (ECDHKeyGen(handle), 0),
            (Create(handle, child, templates.keyed_hash(), b"", _PCRS), 1),
            (ObjectChangeAuth(handle, other, b"new"), 1),
            (Certify(handle, other, b"q", scheme), 2), (Quote(handle, b"q", scheme, _PCRS), 1),
            (ECEphemeral(c.TPM_ECC_NIST_P256), 0), (GetTestResult(), 0),
        )
        return [attempt(m, request, *[NONE] * auths) for request, auths in self.random.sample(requests, 4)]

    def _flush(self, m: Machine) -> Answers:
        known = self.random.choice((self.objects, self.objects, self.sequences))
        if not known:
            return []
        return [attempt(m, FlushContext(known.pop(self.random.randrange(len(known)))))]

    def _swap(self, m: Machine) -> Answers:
        """Save a context, of whatever there is, and load another."""
        for handle in self.random.sample(self.all(), 1):
            try:
                self.contexts.setdefault(m, []).append(m.run(ContextSave(handle)).context)
            except TpmError as error:
                return [error.rc]
        chosen = self.random.choice(self.contexts[m])
        known = self.sequences if chosen.saved_handle == 0x80000001 else self.objects
        known.append(m.run(ContextLoad(chosen)).loaded_handle)
        return []

    def _begin(self, m: Machine) -> Answers:
        alg = self.random.choice((*_ALGS, c.TPM_ALG_NULL, c.TPM_ALG_NULL))
        self.sequences.append(m.run(HashSequenceStart(b"", alg)).sequence_handle)
        for handle in self.objects:
            with suppress(TpmError):
                started = m.run(HMACStart(handle, b"", c.TPM_ALG_NULL), NONE)
                self.sequences.append(started.sequence_handle)
        return []

    def _continue(self, m: Machine) -> Answers:
        answers = []
        for handle in self.sequences:
            for _ in range(self.random.choice((1, 1, 1, 30))):
                data = self.random.randbytes(self.random.choice((0, 1, 63, 64, 200, 1024)))
                answers.append(attempt(m, SequenceUpdate(handle, data), NONE))
        return answers

    def _complete(self, m: Machine) -> Answers:
        if not self.sequences:
            return []
        handle = self.sequences.pop(self.random.randrange(len(self.sequences)))
        return [attempt(m, SequenceComplete(handle, b"end", TPM_RH_OWNER), NONE),
                attempt(m, EventSequenceComplete(16, handle, b"end"), NONE, NONE)]

    def _start(self, m: Machine) -> Answers:
        kind = self.random.choice((c.TPM_SE_HMAC, c.TPM_SE_HMAC, c.TPM_SE_POLICY, c.TPM_SE_TRIAL))
        alg = self.random.choice((c.TPM_ALG_SHA1, c.TPM_ALG_SHA256, c.TPM_ALG_SHA384))
        bind = self.random.choice((TPM_RH_NULL, TPM_RH_OWNER))
        auth = self.auths.get(bind, b"")
        self.sessions.append(m.client.start_session(kind, alg, _AES, bind=bind, bind_auth=auth))
        return []

    def _policy(self, m: Machine) -> Answers:
        for session in self.sessions:
            if session.handle >> 24 != TPM_HT_POLICY_SESSION:
                continue
            h, digest = session.handle, self.random.randbytes(hashes.size(session.auth_hash))
            requests: tuple[Command[Any], ...] = (
                PolicyAuthValue(h), PolicyPassword(h), PolicyCommandCode(h, c.TPM_CC_NV_Read),
                PolicyLocality(h, self.random.choice((1, 3))), PolicyPCR(h, b"", _PCRS),
                PolicyCpHash(h, digest), PolicyTemplate(h, digest), PolicyNvWritten(h, 1),
                PolicyOR(h, [digest, digest]), PolicyRestart(h),
                PolicyCounterTimer(h, bytes(8), 0, c.TPM_EO_UNSIGNED_GE), PolicyGetDigest(h),
            )
            for request in self.random.sample(requests, 3):
                attempt(m, request)
            attempt(m, PolicySecret(TPM_RH_OWNER, h, session.nonce_tpm, b"", b"", -100),
                    self.auth(TPM_RH_OWNER))
        return []

    def _audited(self, m: Machine) -> Answers:
        """Commands that a session authorizes, encrypts or audits."""
        for session in self.random.sample(self.sessions, min(4, len(self.sessions))):
            bits = self.random.choice((0, TPMA_SESSION_AUDIT, TPMA_SESSION_ENCRYPT,
                                       TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITEXCLUSIVE))
            keep = 0 if self.random.random() < 0.1 else TPMA_SESSION_CONTINUESESSION
            session.attributes = bits | keep
            session.auth = self.auths.get(TPM_RH_OWNER, b"")
            requests: tuple[tuple[Command[Any], tuple[Authorization, ...]], ...] = (
                (GetRandom(8), (session,)), (PCRRead(_PCRS), (session,)),
                (HierarchyChangeAuth(TPM_RH_OWNER, session.auth), (session,)),
                (GetSessionAuditDigest(TPM_RH_ENDORSEMENT, TPM_RH_NULL, session.handle, b"", _NO_SCHEME),
                 (self.auth(TPM_RH_ENDORSEMENT), NONE)),
            )
            for request, authorizations in self.random.sample(requests, 2):
                attempt(m, request, *authorizations)
            if not keep:
                self.sessions.remove(session)
        return []

    def _end(self, m: Machine) -> Answers:
        if not self.sessions:
            return []
        session = self.sessions.pop(self.random.randrange(len(self.sessions)))
        if self.random.random() < 0.5:
            return [attempt(m, FlushContext(session.handle))]
        self.contexts.setdefault(m, []).append(m.run(ContextSave(session.handle)).context)
        return []

    def _fail(self, m: Machine) -> Answers:
        """Failures of lockoutAuth, and of what else is protected."""
        index = self.random.choice(INDICES)
        return [attempt(m, HierarchyChangeAuth(TPM_RH_LOCKOUT, b""), self.auth(TPM_RH_LOCKOUT)),
                attempt(m, PolicySecret(index, 0x03000000, b"", b"", b"", 0), self.auth(index))]

    def _launch(self, m: Machine) -> Answers:
        part = self.random.randbytes(700)
        self.m.platform(self.random.choice((
            Engine.hash_start, lambda engine: engine.hash_data(part), lambda engine: engine.hash_data(part),
            Engine.hash_end)))
        return []

    def _presence(self, m: Machine) -> Answers:
        there = self.random.random() < 0.5
        for machine in (self.m, self.m.twin):
            if machine is not None:
                machine.tpm.physical_presence = there
        return [attempt(m, PPCommands(TPM_RH_PLATFORM, [c.TPM_CC_Clear], [c.TPM_CC_ClockSet]),
                        self.auth(TPM_RH_PLATFORM))]

    def _timers(self, m: Machine) -> Answers:
        timer = TPM_RH_ACT_0 + self.random.randrange(2)
        timeout = self.random.choice((0, 5, 2000, 0xFFFFFFFF))
        return [attempt(m, ACTSetTimeout(timer, timeout), NONE),
                attempt(m, GetCapability(c.TPM_CAP_ACT, TPM_RH_ACT_0, 9))]

    def _modes(self, m: Machine) -> Answers:
        platform, owner = self.auth(TPM_RH_PLATFORM), self.auth(TPM_RH_OWNER)
        digest = self.random.randbytes(32)
        requests: tuple[tuple[Command[Any], tuple[Authorization, ...]], ...] = (
            (ReadOnlyControl(TPM_RH_PLATFORM, int(self.random.random() < 0.3)), (platform,)),
            (SetAlgorithmSet(TPM_RH_PLATFORM, 0), (platform,)),
            (ClockRateAdjust(TPM_RH_OWNER, self.random.choice((-3, 3, 2))), (owner,)),
            (PCRSetAuthValue(20, digest), (NONE,)),
            (PCRSetAuthPolicy(TPM_RH_PLATFORM, digest, c.TPM_ALG_SHA256, 21), (platform,)),
            (PCRReset(self.random.choice((16, 20, 23))), (NONE,)),
            (IncrementalSelfTest([c.TPM_ALG_SHA256, c.TPM_ALG_AES]), ()),
            (SelfTest(0), ()), (Shutdown(self.random.choice((c.TPM_SU_CLEAR, c.TPM_SU_STATE))), ()),
            (SetCommandCodeAuditStatus(TPM_RH_OWNER, c.TPM_ALG_SHA384, [], []), (owner,)),
        )
        return [attempt(m, request, *auths) for request, auths in self.random.sample(requests, 2)]

    def _power(self, m: Machine) -> Answers:
        if self.random.random() < 0.6:
            return []
        m.locality = 0
        last = self.random.choice((None, c.TPM_SU_CLEAR, c.TPM_SU_STATE, c.TPM_SU_STATE))
        if last is not None:
            attempt(m, Shutdown(last))
        m.power_cycle()
        self.objects, self.sequences, self.sessions = [], [], []
        answer = attempt(m, Startup(self.random.choice((c.TPM_SU_CLEAR, c.TPM_SU_STATE))))
        if answer:
            answer = attempt(m, Startup(c.TPM_SU_CLEAR))
        return [answer]


_LIVE: tuple[Callable[[Any, Machine], Answers], ...] = (
    LiveWalk._load, LiveWalk._load, LiveWalk._use, LiveWalk._use, LiveWalk._use, LiveWalk._flush,
    LiveWalk._swap, LiveWalk._begin, LiveWalk._begin, LiveWalk._continue, LiveWalk._complete, LiveWalk._start,
    LiveWalk._start, LiveWalk._policy, LiveWalk._policy, LiveWalk._audited, LiveWalk._audited, LiveWalk._end,
    LiveWalk._fail, LiveWalk._launch, LiveWalk._launch, LiveWalk._presence, LiveWalk._timers, LiveWalk._modes,
    LiveWalk._modes, LiveWalk._power,
)


def observe_live(machine: Machine) -> None:
    """Ask for all that `tpm2_state.observe` does not ask for; a twin compares the answers."""
    for kind in (0x00, 0x01, 0x02, 0x03, 0x40, 0x80, 0x81):
        attempt(machine, GetCapability(c.TPM_CAP_HANDLES, kind << 24, 500))
    attempt(machine, GetCapability(c.TPM_CAP_ACT, TPM_RH_ACT_0, 9))
    attempt(machine, GetCapability(c.TPM_CAP_AUTH_POLICIES, TPM_RH_OWNER, 99))
    attempt(machine, ReadClock())
    for index in range(2):
        for handle in range(64):
            attempt(machine, PolicyGetDigest(0x03000000 + handle))
        for handle in range(16):
            attempt(machine, ReadPublic(0x80000000 + handle))
            attempt(machine, SequenceUpdate(0x80000000 + handle, bytes([index])), NONE)
            attempt(machine, SequenceComplete(0x80000000 + handle, b"last", TPM_RH_NULL), NONE)
    attempt(machine, GetTime(TPM_RH_ENDORSEMENT, TPM_RH_NULL, b"", _NO_SCHEME), NONE, NONE)
