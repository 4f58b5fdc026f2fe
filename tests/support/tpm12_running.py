"""A random walk over what lives until the power of a TPM 1.2 goes, and all that a client can see of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import copy
from random import Random
from typing import Any

from hwtpm.client12 import Client, Session, Transport
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm12.engine import Engine
from hwtpm.tpm12.requests.audit import GetAuditDigest, SetOrdinalAuditStatus
from hwtpm.tpm12.requests.capability import GetCapability, GetCapabilityOwner, SetCapability
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.context import FlushSpecific, LoadContext, SaveContext
from hwtpm.tpm12.requests.counter import CreateCounter, IncrementCounter, ReadCounter, ReleaseCounter
from hwtpm.tpm12.requests.daa import DAAJoin
from hwtpm.tpm12.requests.delegation import DelegateReadTable
from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1CompleteExtend, SHA1Start, SHA1Update
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset, Quote
from hwtpm.tpm12.requests.management import ResetLockValue
from hwtpm.tpm12.requests.nv import NVDefineSpace, NVReadValueAuth, NVWriteValueAuth
from hwtpm.tpm12.requests.opt_in import OwnerSetDisable, SetTempDeactivated
from hwtpm.tpm12.requests.ownership import DisableForceClear
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.sessions import SetOwnerPointer
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.storage import EvictKey, GetPubKey, KeyControlOwner
from hwtpm.tpm12.requests.testing import ContinueSelfTest, GetTestResult, SelfTestFull
from hwtpm.tpm12.requests.ticks import GetTicks
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.nv import TPM_NV_ATTRIBUTES, TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.ordinals import TPM_ORD_GetRandom, TPM_ORD_PcrRead
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    Machine,
    create_key,
    key_template,
    load_key,
    once,
    selection,
)
from tests.support.twins import AnyTwins

INDICES = (0x1001, 0x1002)
AUTH = b"something".ljust(20, b".")
_LABEL = bytes(16)
_ANYWHERE = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0x1F, bytes(20))
_RESOURCES = (c.TPM_RT_KEY, c.TPM_RT_AUTH, c.TPM_RT_TRANS, c.TPM_RT_CONTEXT, c.TPM_RT_COUNTER,
              c.TPM_RT_DAA_TPM)


class Twins(AnyTwins[Engine], Machine):
    """A TPM 1.2 and its twin."""

    def _power_on(self, snapshot: bytes | None, seed: bytes | None, running: bytes | None) -> Engine:
        self.primes = copy(self.primes)  # What one takes is not taken from the other.
        return super()._power_on(snapshot, seed, running)


def u32(number: int) -> bytes:
    """Return a subcapability."""
    return number.to_bytes(4, "big")


class LiveWalk:
    """A random walk; the same *seed* takes the same steps."""

    def __init__(self, seed: int, machine: Twins) -> None:
        self.random = Random(seed)
        self.m, self.client = machine, machine.client
        # Made before there is a twin: the random octets of OAEP are not the TPM's.
        self.wrapped = [create_key(self.client, key_template(c.TPM_KEY_SIGNING, SIGNING_PARMS, flags=flags))
                        for flags in (0, c.TPM_ISVOLATILE)]
        self.keys: list[int] = []
        self.sessions: list[Session] = []
        self.transports: list[Transport] = []
        self.contexts: list[bytes] = []

    def go(self, steps: int) -> None:
        """Take that many steps."""
        for _ in range(steps):
            self.m.locality = self.random.choice((0, 0, 0, 1, 2, 3, 4))
            self.m.clock.advance(self.random.choice((0, 1, 999, 20_000)))
            with suppress(TpmError, ProtocolError):  # The twin has answered the same.
                self.random.choice(_STEPS)(self)

    def attempt(self, request: Command[Any], *sessions: Session, by: Client | None = None) -> None:
        """Run *request*, whatever comes of it."""
        with suppress(TpmError, ProtocolError):
            (by or self.client).run(request, *sessions)

    def _by(self) -> Client:
        """The client, or one in a transport session."""
        return self.random.choice((self.client, self.client, *self.transports))

    def _owner(self) -> Session:
        return once(self.client.oiap(OWNER_AUTH))

    def _secret(self, secret: bytes) -> Session:
        """A session for one command, with the right secret and now and then a wrong one."""
        return once(self.client.oiap(bytes(20) if self.random.random() < 0.15 else secret))

    def _measure(self) -> None:
        number = self.random.choice((0, 10, 16, 17, 20, 21, 23))
        self.attempt(Extend(number, self.random.randbytes(20)), by=self._by())
        self.attempt(PCRReset(selection(self.random.choice((16, 20, 21, 23)))), by=self._by())
        self.attempt(PcrRead(number), by=self._by())

    def _hash(self) -> None:
        """Any other command ends the thread, so this has to be much at a time to be of effect."""
        by = self._by()
        for _ in range(self.random.randrange(5)):
            data = self.random.randbytes(self.random.choice((0, 64, 320, 1024)))
            self.attempt(self.random.choice((
                SHA1Start(), SHA1Update(data), SHA1Update(data), SHA1Complete(data[:33]),
                SHA1CompleteExtend(16, data[:50]))), by=by)

    def _launch(self) -> None:
        part = self.random.randbytes(700)
        # An end without a beginning is failure mode, so it comes seldom.
        self.m.platform(Engine.hash_start)
        self.m.platform(lambda engine: engine.hash_data(part))
        if self.random.random() < 0.8:
            self.m.platform(Engine.hash_end)

    def _load(self) -> None:
        self.keys.append(load_key(self.client, self.random.choice(self.wrapped)))

    def _use(self) -> None:
        if not self.keys:
            self._load()
        key = self.random.choice(self.keys)
        by = self._by()
        with suppress(TpmError, ProtocolError):
            self.attempt(Sign(key, self.random.randbytes(20)), once(by.oiap(KEY_AUTH)), by=by)
        session = self.random.choice((*self.sessions, self._secret(KEY_AUTH)))
        self.attempt(Sign(key, self.random.randbytes(20)), session)
        self.attempt(Quote(key, bytes(20), selection(16)), self._secret(KEY_AUTH))

    def _keep(self) -> None:
        if not self.keys:
            return
        key = self.random.choice(self.keys)
        pubkey = self.client.run(GetPubKey(key), once(self.client.oiap(KEY_AUTH))).pub_key
        self.attempt(KeyControlOwner(key, pubkey, c.TPM_KEY_CONTROL_OWNER_EVICT, self.random.randrange(2)),
                     self._owner())

    def _evict(self) -> None:
        if not self.keys:
            return
        key = self.keys.pop(self.random.randrange(len(self.keys)))
        self.attempt(self.random.choice((EvictKey(key), FlushSpecific(key, c.TPM_RT_KEY))))

    def _open(self) -> None:
        kind, value, secret = self.random.choice((
            (c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH), (c.TPM_ET_KEYHANDLE, c.TPM_KH_SRK, SRK_AUTH),
            (c.TPM_ET_NV, INDICES[0], AUTH), (c.TPM_ET_KEYHANDLE, (*self.keys, 1)[0], KEY_AUTH)))
        self.sessions.append(self.random.choice((
            lambda: self.client.oiap(secret), lambda: self.client.osap(kind, value, secret),
            lambda: self.client.osap(kind, value, secret, c.TPM_ET_AES128_CTR)))())

    def _authorize(self) -> None:
        for session in self.random.sample(self.sessions, min(3, len(self.sessions))):
            session.continues = self.random.random() < 0.9
            self.attempt(self.random.choice((
                NVReadValueAuth(INDICES[0], 0, 4), Sign((*self.keys, 1)[0], bytes(20)), GetCapabilityOwner(),
                GetPubKey(c.TPM_KH_SRK))), session)
            if not session.continues:
                self.sessions.remove(session)

    def _establish(self) -> None:
        public = TPM_TRANSPORT_PUBLIC(self.random.choice((
            0, c.TPM_TRANSPORT_LOG, c.TPM_TRANSPORT_EXCLUSIVE)), 0, c.TPM_ES_NONE)
        self.transports.append(self.client.establish(public, AUTH))

    def _release(self) -> None:
        if not self.transports:
            return
        transport = self.transports.pop(self.random.randrange(len(self.transports)))
        if self.keys and self.random.random() < 0.7:
            transport.release(self.keys[0], bytes(20), once(self.client.oiap(KEY_AUTH)))
        else:
            self.attempt(FlushSpecific(transport.handle, c.TPM_RT_TRANS))

    def _swap(self) -> None:
        """Save a context, of whatever there is, and load another; one of a session ends that."""
        known = [(c.TPM_RT_KEY, handle) for handle in self.keys]
        known += [(c.TPM_RT_AUTH, session.handle) for session in self.sessions]
        known += [(c.TPM_RT_TRANS, transport.handle) for transport in self.transports]
        kind, handle = self.random.choice((*known, (c.TPM_RT_AUTH, 1)))
        self.contexts.append(self.client.run(SaveContext(handle, kind, _LABEL)).context_blob)
        for _ in range(2):
            self.attempt(LoadContext((*self.keys, 1)[0], 1, self.random.choice(self.contexts)))

    def _flush(self) -> None:
        if self.sessions:
            session = self.random.choice(self.sessions)
            self.attempt(FlushSpecific(session.handle, c.TPM_RT_AUTH))
        self.attempt(FlushSpecific(self.random.randrange(1, 4), c.TPM_RT_CONTEXT))

    def _nv(self) -> None:
        index, locks = self.random.choice(INDICES), (c.TPM_NV_PER_WRITE_STCLEAR, c.TPM_NV_PER_READ_STCLEAR)
        bits = c.TPM_NV_PER_AUTHREAD | c.TPM_NV_PER_AUTHWRITE | self.random.choice((0, *locks))
        session = self.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
        area = TPM_NV_DATA_PUBLIC(index, _ANYWHERE, _ANYWHERE, TPM_NV_ATTRIBUTES(bits), 0, 0, 0, 8)
        if self.random.random() < 0.5:
            self.attempt(NVDefineSpace(area, session.encrypt(AUTH)), once(session))
        size = self.random.choice((0, 8, 8))
        self.attempt(NVWriteValueAuth(index, 0, self.random.randbytes(size)), self._secret(AUTH))
        self.attempt(NVReadValueAuth(index, 0, self.random.choice((0, 8))), self._secret(AUTH))

    def _count(self) -> None:
        session = self.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
        if self.random.random() < 0.6:
            self.attempt(CreateCounter(session.encrypt(AUTH), b"test"), once(session))
        number = self.random.randrange(2)
        self.attempt(IncrementCounter(number), self._secret(AUTH))
        if self.random.random() < 0.2:
            self.attempt(ReleaseCounter(number), self._secret(AUTH))

    def _fail(self) -> None:
        """Wrong secrets, whose lock is waited for or not, and the end of it."""
        for _ in range(self.random.choice((1, 3, 8))):
            self.attempt(GetPubKey(c.TPM_KH_SRK), once(self.client.oiap(bytes(20))))
            self.m.clock.advance(self.random.choice((0, 1000 * self.m.tpm.lockout.seconds_left)))
        if self.random.random() < 0.6:
            self.attempt(ResetLockValue(), self._secret(OWNER_AUTH))

    def _set(self) -> None:
        bits = self.random.choice((c.TPM_PHYSICAL_PRESENCE_PRESENT, c.TPM_PHYSICAL_PRESENCE_NOTPRESENT))
        requests: tuple[tuple[Command[Any], int], ...] = (
            (PhysicalPresence(bits), 0), (DisableForceClear(), 0), (SetOwnerPointer(c.TPM_ET_OWNER, 0), 0),
            (SetCapability(c.TPM_SET_STCLEAR_DATA, u32(c.TPM_SD_DEFERREDPHYSICALPRESENCE), u32(1)), 0),
            (SetCapability(c.TPM_SET_STANY_FLAGS, u32(c.TPM_AF_TOSPRESENT), b"\0"), 0),
            (SetOrdinalAuditStatus(TPM_ORD_PcrRead, self.random.randrange(2)), 1),
            (SetOrdinalAuditStatus(TPM_ORD_GetRandom, self.random.randrange(2)), 1),
            (ContinueSelfTest(), 0), (SelfTestFull(), 0), (OwnerSetDisable(0), 1), (SaveState(), 0),
        )
        request, authorized = self.random.choice(requests)
        self.attempt(request, *([self._owner()] if authorized else []))
        if self.random.random() < 0.03:
            self.attempt(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_PRESENT))
            self.attempt(SetTempDeactivated())

    def _join(self) -> None:
        """Begin to join a group of DAA."""
        self.attempt(DAAJoin(0, 0, u32(1), b""), self._owner())

    def _power(self) -> None:
        if self.random.random() < 0.5:
            return
        self.m.locality = 0
        if self.random.random() < 0.6:
            self.attempt(SaveState())
        self.m.power_cycle()
        kind = self.random.choice((c.TPM_ST_CLEAR, c.TPM_ST_CLEAR, c.TPM_ST_STATE))
        self.attempt(Startup(kind))
        try:
            self.client.run(GetRandom(1))
        except TpmError:  # There was nothing to resume.
            self.m.power_cycle()
            self.attempt(Startup(c.TPM_ST_CLEAR))


_STEPS: tuple[Callable[[LiveWalk], None], ...] = (
    LiveWalk._measure, LiveWalk._measure, LiveWalk._hash, LiveWalk._hash, LiveWalk._launch, LiveWalk._load,
    LiveWalk._use, LiveWalk._use, LiveWalk._keep, LiveWalk._evict, LiveWalk._open, LiveWalk._open,
    LiveWalk._open, LiveWalk._authorize, LiveWalk._authorize, LiveWalk._establish, LiveWalk._release,
    LiveWalk._swap, LiveWalk._swap, LiveWalk._flush, LiveWalk._nv, LiveWalk._count, LiveWalk._fail,
    LiveWalk._set, LiveWalk._set, LiveWalk._power, LiveWalk._join,
)


def observe(machine: Machine) -> None:
    """Ask for all that everybody may see; a twin compares the answers."""
    requests: list[Command[Any]] = [
        GetTestResult(), GetTicks(), DelegateReadTable(), GetAuditDigest(0), GetRandom(20),
        GetCapability(c.TPM_CAP_DA_LOGIC, u32(c.TPM_ET_OWNER)[2:]), GetCapability(c.TPM_CAP_NV_LIST, b""),
        *(GetCapability(c.TPM_CAP_HANDLE, u32(resource)) for resource in _RESOURCES),
        *(GetCapability(c.TPM_CAP_FLAG, u32(flags))
          for flags in (c.TPM_CAP_FLAG_PERMANENT, c.TPM_CAP_FLAG_VOLATILE)),
        *(GetCapability(c.TPM_CAP_NV_INDEX, u32(index)) for index in INDICES),
        GetCapability(c.TPM_CAP_PROPERTY, u32(c.TPM_CAP_PROP_ACTIVE_COUNTER)),
        *(ReadCounter(number) for number in range(8)), SHA1Complete(b"end"),
        *(PcrRead(number) for number in range(24)),
    ]
    for request in requests:
        with suppress(TpmError):
            machine.run(request)
