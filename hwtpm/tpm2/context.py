"""What a command handler works on, and the registry of handlers."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple, TypeVar, get_type_hints

from hwtpm.command import response_of
from hwtpm.crypto.random import Random
from hwtpm.errors import TpmError
from hwtpm.snapshot import Changes
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.state.act import Timers
from hwtpm.tpm2.state.audit import Audit
from hwtpm.tpm2.state.clock import Clock
from hwtpm.tpm2.state.commits import Commits
from hwtpm.tpm2.state.hierarchy import Hierarchies
from hwtpm.tpm2.state.lockout import Lockout
from hwtpm.tpm2.state.nv import NvMemory
from hwtpm.tpm2.state.objects import Objects
from hwtpm.tpm2.state.owner import Owner
from hwtpm.tpm2.state.pcr import Pcrs
from hwtpm.tpm2.state.platform import Platform
from hwtpm.tpm2.state.power import Power
from hwtpm.tpm2.state.sessions import Sessions
from hwtpm.tpm2.types.constants import CC_VEND, TPM_RC_CANCELED
from hwtpm.wire import Wire, first_is_sized, handle_area, parameter_reader, parameter_writer, reader_of


class Tpm:
    """One TPM 2.0: its owners of state, and the circumstances of the command in progress.

    *entropy* gives that many random octets; *now* gives milliseconds that never go back.
    """

    def __init__(self, entropy: Callable[[int], bytes], now: Callable[[], int]) -> None:
        self.random = Random(entropy)
        self.power = Power()
        self.clock = Clock(now)
        self.hierarchies = Hierarchies()
        self.lockout = Lockout(self.clock)
        self.pcrs = Pcrs()
        self.objects = Objects()
        self.sessions = Sessions()
        self.nv = NvMemory()
        self.audit = Audit()
        self.platform = Platform()
        self.timers = Timers(self.clock)
        self.commits = Commits(self.random)
        self.owners: tuple[Owner, ...] = (
            self.power, self.clock, self.hierarchies, self.lockout, self.pcrs, self.objects, self.sessions,
            self.nv, self.audit, self.platform, self.timers, self.commits,
        )
        self.changes = Changes()
        for owner in self.owners:
            owner.changes = self.changes
        self.physical_presence = False  # set by the platform while somebody is there
        self.locality = 0
        # Tells whether the command in progress has been asked to end.
        self.cancelled: Callable[[], bool] = bool
        # Gives the chip's quote of 20 octets, the PCRs of a bit map and flags: what the manager answers
        # GET_QUOTE with.  None for a TPM without a manager above it.
        self.parent: Callable[[bytes, bytes, int], bytes] | None = None
        self.fresh = False  # it was manufactured since power came
        # Gives a pair of primes found ahead, for bits and exponent, or None; set by the engine's caller.
        self.primes: Callable[[int, int], tuple[int, int] | None] | None = None
        self.command_code = 0

    def check_cancel(self) -> None:
        """Raise TPM_RC_CANCELED if the command in progress has been asked to end."""
        if self.cancelled():
            raise TpmError(TPM_RC_CANCELED)


class Memory(NamedTuple):
    """How a command that came before is answered without decoding, running and encoding it again.

    *recall* takes the handles and the octets of the parameters.  It returns handle area and parameters of the
    response, and the TPM is as after the command; or None, or it raises what the command would.  *keep* is
    given a command that has succeeded: request, octets of its parameters, response, octets of those.
    """

    recall: Callable[[Tpm, tuple[int, ...], bytes], tuple[bytes, bytes] | None]
    keep: Callable[[Tpm, Any, bytes, Any, bytes], None]


class Entry:
    """What the dispatcher needs to know of one command; compiled on its first use."""

    def __init__(self, run: Callable[[Tpm, Any], Any], request: type[Command[Any]]) -> None:
        self.run, self.request = run, request
        self.memory: Memory | None = None
        self.plan: Plan | None = None  # what the command's declaration compiles to

    def compiled(self) -> Plan:
        """Return `plan`, which is there from now on."""
        self.plan = Plan(self.run, self.request, self.memory)
        return self.plan


class Plan:
    """The compiled codecs and derived properties of one command."""

    __slots__ = ("auth_count", "decryptable", "encryptable", "handle_count", "handle_readers",
                 "known_handles", "memory", "no_sessions", "read", "request", "response_handle", "roles",
                 "run", "take_handles", "write")

    def __init__(self, run: Callable[[Tpm, Any], Any], request: type[Command[Any]],
                 memory: Memory | None = None) -> None:
        response = response_of(request)
        area = handle_area(request)
        self.run = _cancellable(run) if request.LONG else run
        self.memory = memory
        self.request = request
        self.handle_count = len(area)
        self.roles = tuple(m.role.value for m in area if m.role is not None)
        self.auth_count = sum(1 for role in self.roles if role)
        self.take_handles = Struct(f">{len(area)}I").unpack_from
        self.handle_readers = tuple(reader_of(m.type) for m in area)
        self.known_handles: set[tuple[int, ...]] = set()
        self.read = parameter_reader(request)
        self.write = parameter_writer(response)
        out = handle_area(response)
        self.response_handle = out[0].name if out else ""
        self.decryptable = first_is_sized(request)
        self.encryptable = first_is_sized(response)
        self.no_sessions = request.NO_SESSIONS


def _cancellable(run: Callable[[Tpm, Any], Any]) -> Callable[[Tpm, Any], Any]:
    """Return *run* that does not begin when the command has been asked to end; it asks again on its way."""

    def unless_cancelled(tpm: Tpm, cmd: Any) -> Any:
        tpm.check_cancel()
        return run(tpm, cmd)

    return unless_cancelled


COMMANDS: dict[int, Entry] = {}
VENDOR_COMMANDS: dict[int, Entry] = {}
"""Those that a TPM with a parent has besides."""
H = TypeVar("H", bound=Callable[[Tpm, Any], Wire])


def handles(run: H) -> H:
    """Register *run* as the handler of the request class that its annotation names."""
    request = get_type_hints(run)["cmd"]
    table = VENDOR_COMMANDS if request.CC & CC_VEND else COMMANDS
    if request.CC in table:
        raise ValueError(f"two handlers for {request.__name__}")
    table[request.CC] = Entry(run, request)
    return run
