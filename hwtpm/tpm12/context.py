"""What a command handler works on, and the registry of handlers."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from struct import Struct
from typing import Any, TypeVar, get_type_hints

from hwtpm.command import response_of
from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.snapshot import Changes
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.state.audit import Audit
from hwtpm.tpm12.state.contexts import Contexts
from hwtpm.tpm12.state.counters import Counters
from hwtpm.tpm12.state.daa import DaaSessions
from hwtpm.tpm12.state.delegation import Delegations
from hwtpm.tpm12.state.flags import Flags
from hwtpm.tpm12.state.keys import Keys
from hwtpm.tpm12.state.lockout import Lockout
from hwtpm.tpm12.state.nv import NvStorage
from hwtpm.tpm12.state.owner import Owner
from hwtpm.tpm12.state.pcr import Pcrs
from hwtpm.tpm12.state.permanent import PermanentData
from hwtpm.tpm12.state.power import Power
from hwtpm.tpm12.state.sessions import AuthSession, Sessions
from hwtpm.tpm12.state.sha1 import Sha1Thread
from hwtpm.tpm12.state.ticks import Ticks
from hwtpm.tpm12.state.transport import Transports
from hwtpm.tpm12.types.codes import TPM_BAD_LOCALITY, TPM_FAIL
from hwtpm.tpm12.types.ordinals import TPM_VENDOR_COMMAND
from hwtpm.wire import Wire, handle_area, parameter_reader, parameter_writer

_pack_u32 = Struct(">I").pack


class Tpm:
    """One TPM 1.2: its owners of state, and the circumstances of the command in progress.

    *entropy* gives that many random octets; *now* gives milliseconds that never go back.
    """

    def __init__(self, entropy: Callable[[int], bytes], now: Callable[[], int]) -> None:
        self.now = now
        self.random = Random(entropy)
        self.power = Power()
        self.flags = Flags()
        self.permanent = PermanentData(self.random)
        self.pcrs = Pcrs()
        self.keys = Keys(self.random)
        self.sessions = Sessions(self.random)
        self.lockout = Lockout(now)
        self.nv = NvStorage()
        self.counters = Counters()
        self.delegations = Delegations()
        self.contexts = Contexts(self.random)
        self.sha1 = Sha1Thread()
        self.ticks = Ticks(self.random, now)
        self.audit = Audit()
        self.transports = Transports(self.random)
        self.daa = DaaSessions(self.random)
        self.owners: tuple[Owner, ...] = (
            self.power, self.flags, self.permanent, self.pcrs, self.keys, self.sessions, self.lockout,
            self.nv, self.counters, self.delegations, self.contexts, self.sha1, self.ticks,
            self.audit, self.transports, self.daa,
        )
        self.changes = Changes()
        for owner in self.owners:
            owner.changes = self.changes
        self.locality = 0
        # Tells whether the command in progress has been asked to end.
        self.cancelled: Callable[[], bool] = bool
        # Runs a command that a transport session of that handle wraps; set by the engine.
        self.execute: Callable[[bytes, int, bool], bytes]
        # Gives the chip's quote of 20 octets, the PCRs of a bit map and flags: what the manager answers
        # GET_QUOTE with.  None for a TPM without a manager above it.
        self.parent: Callable[[bytes, bytes, int], bytes] | None = None
        # Gives a pair of primes found ahead, for bits and exponent, or None; set by the engine's caller.
        self.primes: Callable[[int, int], tuple[int, int] | None] | None = None

    def owner_clear(self, *, revoke: bool = False) -> None:
        """There is no owner and nothing of his; with *revoke* no endorsement key either (Part 3, 6.2)."""
        for owner in self.owners:
            owner.owner_clear(revoke=revoke)

    def require_locality(self, selection: int) -> None:
        """Raise TPM_BAD_LOCALITY unless *selection* has the bit (TPM_LOC) of the command's locality."""
        if not selection >> self.locality & 1:
            raise TpmError(TPM_BAD_LOCALITY)

    def check_cancel(self) -> None:
        """Raise TPM_FAIL if the command in progress has been asked to end: 1.2 has no code for that."""
        if self.cancelled():
            raise TpmError(TPM_FAIL)


class Authorization:
    """One authorization of a request: what stands below the double line of Part 3.

    *sessions* has its session, or not.  `session` and `key`, the key of the response's HMAC, are there once
    `auth.authorize` has accepted it.  A handler clears `continues` to end the session with the command, and
    sets `nonce_even` if it has to know that of the response.
    """

    __slots__ = ("auth", "continues", "handle", "key", "nonce_even", "nonce_odd", "session", "sessions")

    def __init__(self, sessions: Sessions | Transports, handle: int, nonce_odd: bytes, continues: int,
                 auth: bytes) -> None:
        self.sessions = sessions
        self.handle, self.nonce_odd, self.continues, self.auth = handle, nonce_odd, continues, auth
        self.session: AuthSession | None = None
        self.key = self.nonce_even = b""


class Call:
    """One command in progress: its ordinal, its authorizations and the digest of its parameters.

    *parameters* are the octets of the request that its digests cover, without handles and authorizations.
    `transport` is the handle of the transport session that wraps the command, 0 for none; `encrypted` tells
    whether that hides the parameters.  `audited` tells whether the command is audited if it succeeds.
    `wrapped` has the digests of command and response that a TPM_ExecuteTransport wraps, and `covered` what
    the digest of its own response covers in place of the parameters.
    """

    __slots__ = ("audited", "authorizations", "covered", "encrypted", "parameters", "request", "transport",
                 "wrapped")

    def __init__(self, request: type[Command[Any]], parameters: bytes,
                 authorizations: list[Authorization]) -> None:
        self.request, self.parameters, self.authorizations = request, parameters, authorizations
        self.transport = 0
        self.encrypted = self.audited = False
        self.wrapped: tuple[bytes, bytes] | None = None
        self.covered: bytes | None = None

    @property
    def ordinal(self) -> int:
        """The ordinal of the command."""
        return self.request.ORD

    def in_param_digest(self) -> bytes:
        """Return SHA-1 of ordinal and parameters (Part 1, 18.1)."""
        return sha1(_pack_u32(self.request.ORD) + self.parameters).digest()


class Entry:
    """What the dispatcher needs to know of one command; compiled on its first use."""

    def __init__(self, run: Callable[[Tpm, Call, Any], Any], request: type[Command[Any]]) -> None:
        self.run, self.request = run, request
        self.plan: Plan | None = None  # what the command's declaration compiles to

    def compiled(self) -> Plan:
        """Return `plan`, which is there from now on."""
        self.plan = Plan(self.run, self.request)
        return self.plan


class Plan:
    """The compiled codecs and derived properties of one command."""

    __slots__ = ("handle_size", "needs", "read", "request", "response_handles", "run", "take_handles",
                 "write", "write_handles")

    def __init__(self, run: Callable[[Tpm, Call, Any], Any], request: type[Command[Any]]) -> None:
        response = response_of(request)
        handles = Struct(f">{len(handle_area(request))}I")
        self.run = _cancellable(run) if request.LONG else run
        self.request = request
        self.needs = request.NEEDS.value  # a plain number: tests of its bits are cheap
        self.handle_size = handles.size
        self.take_handles = handles.unpack_from
        self.read = parameter_reader(request, numbered=False)
        self.write = parameter_writer(response)
        self.response_handles = tuple(m.name for m in handle_area(response))
        self.write_handles = Struct(f">{len(self.response_handles)}I").pack


def _cancellable(run: Callable[[Tpm, Call, Any], Any]) -> Callable[[Tpm, Call, Any], Any]:
    """Return *run* that does not begin when the command has been asked to end; it asks again on its way."""

    def unless_cancelled(tpm: Tpm, call: Call, cmd: Any) -> Any:
        tpm.check_cancel()
        return run(tpm, call, cmd)

    return unless_cancelled


COMMANDS: dict[int, Entry] = {}
VENDOR_COMMANDS: dict[int, Entry] = {}
"""Those that a TPM with a parent has besides."""
H = TypeVar("H", bound=Callable[[Tpm, Call, Any], Wire])


def handles(run: H) -> H:
    """Register *run* as the handler of the request class that its annotation names."""
    request = get_type_hints(run)["cmd"]
    table = VENDOR_COMMANDS if request.ORD & TPM_VENDOR_COMMAND else COMMANDS
    if request.ORD in table:
        raise ValueError(f"two handlers for {request.__name__}")
    table[request.ORD] = Entry(run, request)
    return run
