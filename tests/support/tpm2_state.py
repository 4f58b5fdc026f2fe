"""Every kind of state a TPM has: commands that change it, and all that a client can see of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from hwtpm.client import Authorization, Password
from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.attestation import GetTime
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.clock import ClockSet, ReadClock
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, EvictControl, FlushContext
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters
from hwtpm.tpm2.requests.hierarchy import (
    ChangeEPS,
    ChangePPS,
    Clear,
    ClearControl,
    CreatePrimary,
    HierarchyChangeAuth,
    HierarchyControl,
    SetPrimaryPolicy,
)
from hwtpm.tpm2.requests.nv import (
    NVDefineSpace,
    NVExtend,
    NVGlobalWriteLock,
    NVIncrement,
    NVRead,
    NVReadLock,
    NVReadPublic,
    NVSetBits,
    NVUndefineSpace,
    NVWrite,
    NVWriteLock,
)
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRAllocate, PCREvent, PCRExtend, PCRRead, PCRReset
from hwtpm.tpm2.requests.random import GetRandom, StirRandom
from hwtpm.tpm2.types import attributes as a
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE, TPMT_SIG_SCHEME
from hwtpm.tpm2.types.context import TPMS_CONTEXT
from hwtpm.tpm2.types.handles import (
    TPM_RH_ENDORSEMENT,
    TPM_RH_LOCKOUT,
    TPM_RH_NULL,
    TPM_RH_OWNER,
    TPM_RH_PLATFORM,
)
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from hwtpm.wire import encode
from tests.support.templates import keyed_hash, storage
from tests.support.tpm2 import Machine

NONE = Password()
NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")
HIERARCHIES = (TPM_RH_OWNER, TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM)
INDICES = tuple(range(0x01500001, 0x01500007))
PERSISTENT = (0x81000001, 0x81000002, 0x81800001)
_ACCESS = (a.TPMA_NV_OWNERREAD | a.TPMA_NV_OWNERWRITE | a.TPMA_NV_AUTHREAD | a.TPMA_NV_AUTHWRITE
           | a.TPMA_NV_PPREAD | a.TPMA_NV_PPWRITE)
_KINDS = (a.TPM_NT_ORDINARY, a.TPM_NT_COUNTER, a.TPM_NT_BITS, a.TPM_NT_EXTEND, a.TPM_NT_PIN_FAIL)
_MORE = (a.TPMA_NV_ORDERLY, a.TPMA_NV_CLEAR_STCLEAR, a.TPMA_NV_WRITEDEFINE, a.TPMA_NV_WRITE_STCLEAR,
         a.TPMA_NV_READ_STCLEAR, a.TPMA_NV_GLOBALLOCK, a.TPMA_NV_NO_DA)
_BANKS = (c.TPM_ALG_SHA1, c.TPM_ALG_SHA256, c.TPM_ALG_SHA384)


def attempt(machine: Machine, request: Command[Any], *authorizations: Authorization) -> bytes | int:
    """Return the encoded response, or the response code."""
    try:
        return encode(machine.run(request, *authorizations))
    except TpmError as error:
        return error.rc


class Walk:
    """A random walk over the state; the same *seed* takes the same steps on every TPM.

    `auths` has the authValues that are set, `contexts` the saved contexts of each TPM.
    """

    def __init__(self, seed: int, *, resumable: bool = False) -> None:
        # After a change of the allocation there can be no TPM Resume (Part 3, 9.4.1).
        self._steps: tuple[Callable[[Any, Machine], list[bytes | int]], ...] = tuple(
            s for s in _STEPS if not resumable or s is not Walk._allocate)
        self.random = Random(seed)
        self.contexts: dict[Machine, list[TPMS_CONTEXT]] = {}
        self.auths: dict[int, bytes] = {}
        # What a first write leaves out is zero here, and can be ones elsewhere (Part 1, 34.2.6.2).
        self.whole_writes = False

    def step(self, *machines: Machine) -> list[list[bytes | int]]:
        """Do one thing to each machine, and return what each answered."""
        chosen = self.random.choice(self._steps)
        state, known = self.random.getstate(), self.auths
        answers = []
        for machine in machines:
            self.random.setstate(state)
            self.auths = dict(known)
            answers.append(chosen(self, machine))
        return answers

    def auth(self, handle: int) -> Password:
        """The right authValue, and now and then a wrong one."""
        right = self.auths.get(handle, b"")
        return Password(b"wrong" if self.random.random() < 0.1 else right)

    def _nv_define(self, m: Machine) -> list[bytes | int]:
        handle, kind = self.random.choice(INDICES), self.random.choice(_KINDS)
        bits = _ACCESS | kind << a.TPMA_NV_TPM_NT_SHIFT
        for bit in _MORE:
            if self.random.random() < 0.3:
                bits |= bit
        size = {a.TPM_NT_ORDINARY: self.random.choice((1, 16, 100)), a.TPM_NT_EXTEND: 32}.get(kind, 8)
        if kind == a.TPM_NT_PIN_FAIL:
            bits = (bits | a.TPMA_NV_NO_DA) & ~(a.TPMA_NV_AUTHWRITE | a.TPMA_NV_GLOBALLOCK
                                                 | a.TPMA_NV_CLEAR_STCLEAR)
        owner = TPM_RH_OWNER
        if self.random.random() < 0.3:
            owner, bits = TPM_RH_PLATFORM, bits | a.TPMA_NV_PLATFORMCREATE
        public = TPMS_NV_PUBLIC(handle, c.TPM_ALG_SHA256, bits, b"", size)
        return [attempt(m, NVDefineSpace(owner, b"nv", public), self.auth(owner))]

    def _nv_change(self, m: Machine) -> list[bytes | int]:
        index, by = self.random.choice(INDICES), self.random.choice((TPM_RH_OWNER, TPM_RH_PLATFORM))
        data = self.random.randbytes(8 if self.whole_writes else self.random.choice((1, 8)))
        auth = self.auth(by)
        every: list[Command[Any]] = [
            NVWrite(by, index, data, 0), NVIncrement(by, index), NVExtend(by, index, data),
            NVSetBits(by, index, 1 << self.random.randrange(64)),
        ]
        return [attempt(m, request, auth) for request in every]

    def _nv_lock(self, m: Machine) -> list[bytes | int]:
        by, index = self.random.choice((TPM_RH_OWNER, TPM_RH_PLATFORM)), self.random.choice(INDICES)
        request: Command[Any] = self.random.choice((
            NVWriteLock(by, index), NVReadLock(by, index), NVGlobalWriteLock(by), NVUndefineSpace(by, index)))
        return [attempt(m, request, self.auth(by))]

    def _nv_auth(self, m: Machine) -> list[bytes | int]:
        """PIN Indices count this, others count a wrong authValue."""
        index = self.random.choice(INDICES)
        return [attempt(m, NVRead(index, index, 1, 0), Password(self.random.choice((b"nv", b"wrong"))))]

    def _pcr(self, m: Machine) -> list[bytes | int]:
        number = self.random.choice((0, 1, 16, 17, 20, 23))
        digest = [TPMT_HA(alg, self.random.randbytes(hashes.size(alg))) for alg in _BANKS]
        request: Command[Any] = self.random.choice((
            PCRExtend(number, digest), PCREvent(number, digest[0].digest or b""), PCRReset(number)))
        return [attempt(m, request, NONE)]

    def _allocate(self, m: Machine) -> list[bytes | int]:
        alg, mask = self.random.choice(_BANKS), self.random.choice((b"\xff\xff\xff", b"\1\0\xff", bytes(3)))
        request = PCRAllocate(TPM_RH_PLATFORM, [TPMS_PCR_SELECTION(alg, mask)])
        return [attempt(m, request, self.auth(TPM_RH_PLATFORM))]

    def _hierarchy(self, m: Machine) -> list[bytes | int]:
        handle = self.random.choice((*HIERARCHIES, TPM_RH_LOCKOUT))
        value = self.random.choice((b"", b"one", b"two"))
        given = self.auth(handle)
        policy = self.random.randbytes(32)
        kind = self.random.randrange(4)
        if kind == 0:
            answer = attempt(m, HierarchyChangeAuth(handle, value), given)
            if answer == b"":
                self.auths[handle] = value
            return [answer]
        if kind == 1:
            return [attempt(m, SetPrimaryPolicy(handle, policy, c.TPM_ALG_SHA256), given)]
        if kind == 2:
            return [attempt(m, ClearControl(TPM_RH_PLATFORM, self.random.randrange(2)),
                            self.auth(TPM_RH_PLATFORM))]
        enable = self.random.choice((TPM_RH_OWNER, TPM_RH_ENDORSEMENT))
        state = int(self.random.random() < 0.8)
        return [attempt(m, HierarchyControl(TPM_RH_PLATFORM, enable, state), self.auth(TPM_RH_PLATFORM))]

    def _rare(self, m: Machine) -> list[bytes | int]:
        if self.random.random() < 0.7:
            return []
        request: Command[Any] = self.random.choice((
            ChangeEPS(TPM_RH_PLATFORM), ChangePPS(TPM_RH_PLATFORM), Clear(TPM_RH_PLATFORM)))
        answer = attempt(m, request, self.auth(TPM_RH_PLATFORM))
        if isinstance(request, Clear) and answer == b"":
            self.auths = {TPM_RH_PLATFORM: self.auths.get(TPM_RH_PLATFORM, b"")}
        return [answer]

    def _lockout(self, m: Machine) -> list[bytes | int]:
        auth = self.auth(TPM_RH_LOCKOUT)
        request: Command[Any] = self.random.choice((
            DictionaryAttackLockReset(TPM_RH_LOCKOUT),
            DictionaryAttackParameters(TPM_RH_LOCKOUT, self.random.choice((3, 32)), 100, 0)))
        return [attempt(m, request, auth)]

    def _time(self, m: Machine) -> list[bytes | int]:
        ms = self.random.choice((1, 1000, 200_000, 5_000_000))
        m.clock.advance(ms)
        if self.random.random() < 0.7:
            return []
        later = m.run(ReadClock()).current_time.clock_info.clock + self.random.randrange(10_000_000)
        return [attempt(m, ClockSet(TPM_RH_OWNER, later), self.auth(TPM_RH_OWNER))]

    def _object(self, m: Machine) -> list[bytes | int]:
        hierarchy = self.random.choice((TPM_RH_OWNER, TPM_RH_PLATFORM, TPM_RH_ENDORSEMENT, TPM_RH_NULL))
        sealed = self.random.randbytes(9)
        template = self.random.choice((storage(), keyed_hash()))
        given = TPMS_SENSITIVE_CREATE(b"key", sealed if template.type == c.TPM_ALG_KEYEDHASH else b"")
        place = self.random.choice(PERSISTENT)
        auth = self.auth(hierarchy)
        try:
            handle = m.run(CreatePrimary(hierarchy, given, template, b"", []), auth).object_handle
        except TpmError as error:
            return [error.rc]
        by = TPM_RH_PLATFORM if hierarchy == TPM_RH_PLATFORM else TPM_RH_OWNER
        answers = [attempt(m, EvictControl(by, handle, place), self.auth(by))]
        saved = m.run(ContextSave(handle))
        self.contexts.setdefault(m, []).append(saved.context)
        m.run(FlushContext(handle))
        return answers

    def _evict(self, m: Machine) -> list[bytes | int]:
        place = self.random.choice(PERSISTENT)
        by = TPM_RH_PLATFORM if place & 0x800000 else TPM_RH_OWNER
        return [attempt(m, EvictControl(by, place, place), self.auth(by))]

    def _session(self, m: Machine) -> list[bytes | int]:
        kept = self.contexts.setdefault(m, [])
        try:
            session = m.client.start_session(self.random.choice((c.TPM_SE_HMAC, c.TPM_SE_POLICY)))
            kept.append(m.run(ContextSave(session.handle)).context)
        except TpmError as error:
            return [error.rc]
        return []

    def _reload(self, m: Machine) -> list[bytes | int]:
        kept = self.contexts.setdefault(m, [])
        if not kept:
            return []
        context = kept.pop(self.random.randrange(len(kept)))
        try:
            handle = m.run(ContextLoad(context)).loaded_handle
        except TpmError as error:
            return [error.rc]
        m.run(FlushContext(handle))
        return [handle]

    def _audit(self, m: Machine) -> list[bytes | int]:
        request = SetCommandCodeAuditStatus(
            TPM_RH_OWNER, c.TPM_ALG_NULL, [self.random.choice((c.TPM_CC_GetRandom, c.TPM_CC_ReadClock))],
            [self.random.choice((c.TPM_CC_GetRandom, c.TPM_CC_PCR_Read))])
        return [attempt(m, request, self.auth(TPM_RH_OWNER))]

    def _random(self, m: Machine) -> list[bytes | int]:
        return [attempt(m, StirRandom(self.random.randbytes(8))), attempt(m, GetRandom(16))]


_STEPS = (
    Walk._nv_define, Walk._nv_define, Walk._nv_change, Walk._nv_change, Walk._nv_change, Walk._nv_lock,
    Walk._nv_auth, Walk._pcr, Walk._pcr, Walk._allocate, Walk._hierarchy, Walk._hierarchy, Walk._rare,
    Walk._lockout, Walk._time, Walk._object, Walk._object, Walk._evict, Walk._session, Walk._reload,
    Walk._audit, Walk._random,
)


def observe(machine: Machine, walk: Walk) -> dict[str, object]:
    """Return all that a client can see; what is kept by a TPM Resume under names that begin with "kept"."""
    seen: dict[str, object] = {}

    def ask(name: str, request: Command[Any], *authorizations: Password) -> None:
        seen[name] = attempt(machine, request, *authorizations)

    for bank in (*_BANKS, c.TPM_ALG_SHA512):
        for mask, kept in ((b"\xff\0\0", "kept "), (b"\0\xff\0", "kept "), (b"\0\0\xff", "")):
            for half in (b"\x0f\x0f\x0f", b"\xf0\xf0\xf0"):
                chosen = bytes(x & y for x, y in zip(mask, half, strict=True))
                name = f"{kept}pcr {bank:04x} {chosen.hex()}"
                read = attempt(machine, PCRRead([TPMS_PCR_SELECTION(bank, chosen)]))
                # Without pcrUpdateCounter, which the other PCRs change.
                seen[name] = read[4:] if isinstance(read, bytes) else read
    for capability, first in ((c.TPM_CAP_TPM_PROPERTIES, c.TPM_PT_PERMANENT), (c.TPM_CAP_ALGS, 0),
                              (c.TPM_CAP_COMMANDS, 0), (c.TPM_CAP_PCR_PROPERTIES, 0)):
        ask(f"capability {capability} {first:08x}", GetCapability(capability, first, 500))
    for capability, first in ((c.TPM_CAP_HANDLES, 0x01000000), (c.TPM_CAP_HANDLES, 0x03000000),
                              (c.TPM_CAP_HANDLES, 0x81000000), (c.TPM_CAP_PCRS, 0),
                              (c.TPM_CAP_AUTH_POLICIES, TPM_RH_OWNER), (c.TPM_CAP_AUDIT_COMMANDS, 0),
                              (c.TPM_CAP_PP_COMMANDS, 0)):
        ask(f"kept capability {capability} {first:08x}", GetCapability(capability, first, 500))
    platform = Password(walk.auths.get(TPM_RH_PLATFORM, b""))
    for index in INDICES:
        ask(f"kept public {index:08x}", NVReadPublic(index))
        for size in (1, 8, 16, 32, 100):
            ask(f"kept data {index:08x} {size}", NVRead(TPM_RH_PLATFORM, index, size, 0), platform)
    for handle in PERSISTENT:
        ask(f"kept object {handle:08x}", ReadPublic(handle))
    for hierarchy in (*HIERARCHIES, TPM_RH_NULL):
        auth = Password(walk.auths.get(hierarchy, b""))
        try:
            made = machine.run(CreatePrimary(hierarchy, NOTHING, storage(), b"", []), auth)
        except TpmError as error:
            seen[f"kept primary {hierarchy:08x}"] = error.rc
        else:
            # The ticket needs the proof, the name the seed.
            seen[f"kept primary {hierarchy:08x}"] = made.name, encode(made.creation_ticket)
            machine.run(FlushContext(made.object_handle))
    for handle in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT):
        for value in (b"", b"one", b"two"):
            ask(f"kept auth {handle:08x} {value!r}", SetPrimaryPolicy(handle, bytes(32), c.TPM_ALG_SHA256),
                Password(value))
    ask("clock", ReadClock())
    ask("time", GetTime(TPM_RH_ENDORSEMENT, TPM_RH_NULL, b"", TPMT_SIG_SCHEME(c.TPM_ALG_NULL)),
        Password(walk.auths.get(TPM_RH_ENDORSEMENT, b"")), NONE)
    kept_contexts = []
    for context in walk.contexts.get(machine, []):
        try:
            handle = machine.run(ContextLoad(context)).loaded_handle
        except TpmError as error:
            kept_contexts.append(error.rc)
        else:
            kept_contexts.append(handle)
            machine.run(FlushContext(handle))
    walk.contexts[machine] = []
    seen["kept contexts"] = kept_contexts
    return seen
