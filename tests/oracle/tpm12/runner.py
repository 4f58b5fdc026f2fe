"""Runs scenarios of TPM 1.2 on both TPMs and collects where they differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from hwtpm.client12 import Session
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm12.context import COMMANDS
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.delegation import DelegateReadTable
from hwtpm.tpm12.requests.integrity import PcrRead
from hwtpm.tpm12.requests.opt_in import PhysicalDisable, SetTempDeactivated
from hwtpm.tpm12.requests.ownership import ForceClear
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types import codes
from hwtpm.tpm12.types import constants as c
from tests.oracle import mutations
from tests.oracle.runner import Found, Report
from tests.oracle.tpm12.comparison import code, differences, malformed, rc_name
from tests.oracle.tpm12.differences import DIFFERENCES
from tests.oracle.tpm12.scenario import Case, Scenario, sized
from tests.oracle.tpm12.sides import Ours, Side, Theirs
from tests.support.tpm12 import KEY_AUTH, OWNER_AUTH, SRK_AUTH

_MAY_COUNT = {codes.TPM_AUTHFAIL, codes.TPM_AUTH2FAIL}  # they count failures
_PROBES: tuple[Command[Any], ...] = (
    GetCapability(c.TPM_CAP_FLAG, c.TPM_CAP_FLAG_PERMANENT.to_bytes(4, "big")),
    GetCapability(c.TPM_CAP_FLAG, c.TPM_CAP_FLAG_VOLATILE.to_bytes(4, "big")),
    GetCapability(c.TPM_CAP_PROPERTY, c.TPM_CAP_PROP_OWNER.to_bytes(4, "big")),
    GetCapability(c.TPM_CAP_NV_LIST, b""),
    PcrRead(9),
    PcrRead(16),
    DelegateReadTable(),
)
_ALLOW_MAINTENANCE = 21  # where it stands in the response of the first probe
# Each TPM gives handles of its own.
_COUNTED = {c.TPM_RT_KEY: "keys", c.TPM_RT_AUTH: "sessions", c.TPM_RT_TRANS: "transport sessions",
            c.TPM_RT_DAA_TPM: "DAA sessions"}


def _off(side: Side) -> None:
    side.power_cycle()


def _deactivated_start(side: Side) -> None:
    side.power_cycle()
    side.run(Startup(3))


def _resumed(side: Side) -> None:
    side.run(SaveState())
    side.power_cycle()
    side.run(Startup(2))


def _restarted(side: Side) -> None:
    side.power_cycle()
    side.run(Startup(c.TPM_ST_CLEAR))


def _when_present(request: Command[Any]) -> Callable[[Side], None]:
    def change(side: Side) -> None:
        side.present()
        side.run(request)
        side.run(PhysicalPresence(0x0010))

    return change


def _from(locality: int) -> Callable[[Side], None]:
    return lambda side: side.set_locality(locality)


CIRCUMSTANCES: dict[str, Callable[[Side], None]] = {
    "before Startup": _off,
    "after Startup(ST_DEACTIVATED)": _deactivated_start,
    "after Startup(ST_STATE)": _resumed,
    "after Startup(ST_CLEAR)": _restarted,
    "disabled": _when_present(PhysicalDisable()),
    "deactivated": _when_present(SetTempDeactivated()),
    "owner cleared": _when_present(ForceClear()),
    "someone present": lambda side: side.present(),
    "nobody present": lambda side: side.run(PhysicalPresence(0x0010)) and None,
    "presence locked": lambda side: side.run(PhysicalPresence(0x0004)) and None,
    **{f"from locality {n}": _from(n) for n in range(1, 5)},
}
SESSIONS: dict[str, Callable[[Side], Session]] = {
    "OIAP with a wrong secret": lambda side: side.client.oiap(b"?" * 20),
    "OIAP of the owner": lambda side: side.client.oiap(OWNER_AUTH),
    "OIAP of the SRK": lambda side: side.client.oiap(SRK_AUTH),
    "OIAP of a key": lambda side: side.client.oiap(KEY_AUTH),
    "OSAP of the owner": lambda side: side.client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH),
    "OSAP of the SRK": lambda side: side.client.osap(c.TPM_ET_KEYHANDLE, c.TPM_KH_SRK, SRK_AUTH),
    "OSAP of the SRK with a wrong secret": lambda side: side.client.osap(
        c.TPM_ET_KEYHANDLE, c.TPM_KH_SRK, b"?" * 20
    ),
}


class Oracle:
    """Both TPMs; a context manager that ends them."""

    def __init__(self) -> None:
        self.theirs = Theirs()
        self.ours = Ours()
        self.sides: tuple[Side, Side] = (self.ours, self.theirs)
        self.report = Report(DIFFERENCES)
        self.valid: set[int] = set()  # ordinals of which ours took a valid command
        self.implemented = {
            side.name: {o for o in COMMANDS if self._has(side, o)} for side in self.sides
        }

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *unused: object) -> None:
        self.theirs.close()

    @staticmethod
    def _has(side: Side, ordinal: int) -> bool:
        answer = side.run(GetCapability(c.TPM_CAP_ORD, ordinal.to_bytes(4, "big"))).resp
        # The commands of the TSC are not always listed.
        return answer == b"\1" or ordinal >> 30 == 1

    def without_scenario(self) -> list[str]:
        """Return the commands of which no valid one was taken by ours."""
        return sorted(entry.request.__name__ for o, entry in COMMANDS.items() if o not in self.valid)

    def run(self, scenario: Scenario, seed: int, every: int = 1, extra: int = 20) -> None:
        """Compare the valid command of *scenario*, each *every*th variation, and *extra* random ones."""
        _Comparison(self, scenario, seed, every, extra).run()


class _Comparison:
    """One scenario, on both sides; on ours alone if only we have the command, whose form is checked then."""

    def __init__(self, oracle: Oracle, scenario: Scenario, seed: int, every: int, extra: int) -> None:
        self.oracle, self.report = oracle, oracle.report
        self.scenario, self.request, self.extra = scenario, scenario.request, extra
        self.sides = [s for s in oracle.sides if self.request.ORD in oracle.implemented[s.name]]
        self.every = every
        self.rng = Random(f"{seed} {scenario.name}")
        self.single: dict[str, tuple[str, str]] = {}
        self.cases: list[Case] = []

    def run(self) -> None:
        for side in self.sides:
            side.begin(self.scenario.base)
            try:
                self.cases.append(self.scenario.build(side))
            except (TpmError, ProtocolError, AssertionError) as error:
                text = rc_name(error.rc) if isinstance(error, TpmError) else repr(error)
                self.report.broken.append(f"{self.scenario.name} on {side.name}: {text}")
                return
            side.keep()
        self.bodies = [case.body() for case in self.cases]
        self._send("valid", self.bodies)
        if self.single["valid"][0] != "ok":
            self.report.broken.append(f"{self.scenario.name}: valid gives {self.single['valid'][0]}")
        else:
            self.oracle.valid.add(self.request.ORD)
        layouts = [case.fields(body) for case, body in zip(self.cases, self.bodies, strict=True)]
        chosen = [m for m in mutations.each(self.bodies[0], layouts[0]) if self._chosen()]
        for m in chosen:
            if not self._unpredictable(m, layouts):
                changed = [mutations.apply(b, f, m) for b, f in zip(self.bodies, layouts, strict=True)]
                if m.cut:  # No authorizations follow, which could be read in place of what is not there.
                    self._exchange(m.label, changed)
                else:
                    self._send(m.label, changed)
        if len(set(self.bodies)) == 1:
            for _ in range(self.extra):
                label, octets = mutations.with_octets(
                    self.bodies[0], layouts[0], mutations.random_octets(self.rng, self.bodies[0])
                )
                self._send(label, [octets for _ in self.sides])
        self._authorizations()
        for label, change in CIRCUMSTANCES.items():
            if self._chosen():
                self._changed(label, change)

    def _chosen(self) -> bool:
        return self.every == 1 or self.rng.randrange(self.every) == 0

    def _unpredictable(self, mutation: mutations.Mutation, layouts: list[Any]) -> bool:
        """Tell whether a size that lies has octets read as members that are not the same on both sides."""
        if "lies" not in mutation.label or "lies: the most" in mutation.label:
            return False
        longer = re.search("lies by [0-9]", mutation.label)  # Authorizations are among what is read then.
        return len(set(self.bodies)) > 1 or bool(longer and self.cases[0].sessions)

    def _send(self, label: str, bodies: Sequence[bytes]) -> None:
        """Send the commands, authorized as they are."""
        sent = [case.sealed(body)[0] for case, body in zip(self.cases, bodies, strict=True)]
        self._exchange(label, sent)

    def _authorizations(self) -> None:
        """Send the command with authorizations that are wrong, or others."""
        sealed = [case.sealed(body) for case, body in zip(self.cases, self.bodies, strict=True)]
        for changes in zip(*(_tampered(offsets) for _, offsets in sealed), strict=True):
            if self._chosen():
                done = [change(command) for (command, _), (_, change) in zip(sealed, changes, strict=True)]
                self._exchange(changes[0][0], done)
        if not self.cases[0].sessions:
            if self._chosen():
                self._replaced("an authorization too many", 0, SESSIONS["OIAP of the owner"])
            return
        if self._chosen():
            pairs = zip(self.cases, self.bodies, strict=True)
            self._exchange("sessions continue", [case.sealed(b, continues=1)[0] for case, b in pairs])
        for number in range(len(self.cases[0].sessions)):
            for label, opened in SESSIONS.items():
                if self._chosen():
                    self._replaced(f"authorization {number + 1} by {label}", number, opened)

    def _replaced(self, label: str, number: int, opened: Callable[[Side], Session]) -> None:
        made = []
        try:
            for side, case, body in zip(self.sides, self.cases, self.bodies, strict=True):
                sessions = [*case.sessions[:number], opened(side), *case.sessions[number + 1 :]]
                tag = (0xC1 + len(sessions)).to_bytes(2, "big")
                made.append(case.sealed(tag + body[2:], sessions)[0])
        except TpmError:
            made = []  # there is no owner for such a session
        if made:
            self._exchange(label, made)
        else:
            self._back()

    def _changed(self, label: str, change: Callable[[Side], object]) -> None:
        results = []
        for side in self.sides:
            try:
                change(side)
                results.append("ok")
            except TpmError as error:
                results.append(rc_name(error.rc))
        if len(set(results)) > 1:
            self._note(f"preparing: {label}", *results, b"")
        elif results[0] == "ok":
            self._send(label, self.bodies)
            return
        self._back()

    def _back(self) -> None:
        for side in self.sides:
            side.back()

    def _exchange(self, label: str, commands: Sequence[bytes]) -> None:
        self.oracle.ours.machine.dirty = False
        answers = [side.execute(octets) for side, octets in zip(self.sides, commands, strict=True)]
        codes_ = [code(a) for a in answers]
        names = [rc_name(rc) for rc in codes_]
        self.report.compared[self.request.ORD] += 1
        self.single[label] = names[0], names[-1]
        ordinal = int.from_bytes(commands[0][6:10], "big")
        request = COMMANDS[ordinal].request if ordinal in COMMANDS else self.request
        faults = self.oracle.ours.faults
        wrong = malformed(request, answers[0])
        if faults:
            self._note(label, f"defect {faults[-1]!r}", names[-1], commands[0])
            faults.clear()
        elif wrong:
            self._note(label, wrong, names[-1], commands[0])
        elif codes_[0] and codes_[0] not in _MAY_COUNT and self.oracle.ours.machine.dirty:
            self._note(label, f"{names[0]}, but something changed", names[-1], commands[0])
        elif codes_[0] != codes_[-1]:
            self._note(label, names[0], names[-1], commands[0])
        elif len(answers) == 2:
            if codes_[0] == 0:
                for path in differences(request, *answers, self.scenario.varies):
                    self._note(label, f"differs in {path}", "ok", commands[0])
            self._probe(label, names[0], commands[0])
        self._back()

    def _probe(self, label: str, result: str, sent: bytes) -> None:
        """Compare what can be seen of both states; *result* is what both answered to the octets *sent*."""
        for probe in _PROBES:
            seen = [side.execute(Case(probe).body()) for side in self.sides]
            if probe is _PROBES[0]:
                # Clearing sets allowMaintenance where maintenance exists: in ours (Part 3, 6.2).
                seen = [s[:_ALLOW_MAINTENANCE] + b"\0" + s[_ALLOW_MAINTENANCE + 1 :] for s in seen]
            mine, other = (rc_name(code(s)) for s in seen)
            if mine != other:
                self._note(label, f"{result}, then {type(probe).__name__} {mine}", other, sent)
            elif mine == "ok" and differences(type(probe), *seen, frozenset()):
                self._note(label, f"{result}, then {probe} differs", "ok", sent)
        for kind, name in _COUNTED.items():
            probe = GetCapability(c.TPM_CAP_HANDLE, kind.to_bytes(4, "big"))
            mine, other = (f"{result}, then {_count(side, probe)} {name}" for side in self.sides)
            if mine != other:
                self._note(label, mine, other, sent)

    def _note(self, label: str, ours: str, theirs: str, sent: bytes) -> None:
        self.report.note(Found(self.request.__name__, self.scenario.name, label, ours, theirs, sent))


def _count(side: Side, probe: Command[Any]) -> str:
    """Return how many handles a TPM_GetCapability lists, or why it does not."""
    answer = side.execute(Case(probe).body())
    return str(int.from_bytes(answer[14:16], "big")) if code(answer) == 0 else rc_name(code(answer))


def _tampered(offsets: list[int]) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Yield changes of a command whose authorizations stand at *offsets*."""

    def put(at: int, octets: bytes) -> Callable[[bytes], bytes]:
        return lambda command: command[:at] + octets + command[at + len(octets) :]

    def flip(at: int) -> Callable[[bytes], bytes]:
        return lambda command: command[:at] + bytes([command[at] ^ 1]) + command[at + 1 :]

    def cut(at: int) -> Callable[[bytes], bytes]:
        return lambda command: sized(command[:at])

    def tagged(tag: int, at: int) -> Callable[[bytes], bytes]:
        return lambda command: sized(tag.to_bytes(2, "big") + command[2:at])

    for number, at in enumerate(offsets, 1):
        for handle in (0, 1, c.TPM_KH_OWNER, c.TPM_KH_SRK, c.TPM_KH_TRANSPORT, 0xFFFFFFFF):
            yield f"handle of authorization {number} = 0x{handle:x}", put(at, handle.to_bytes(4, "big"))
        yield f"nonce of authorization {number} flipped", flip(at + 4)
        for value in (1, 2, 255):
            yield f"continueAuthSession of authorization {number} = {value}", put(at + 24, bytes([value]))
        yield f"HMAC of authorization {number} flipped", flip(at + 25)
        yield f"authorization {number} and what follows are not there", cut(at)
        yield f"authorization {number} is cut", cut(at + 20)
        yield f"only {number - 1} authorizations", tagged(0xC0 + number, at)
    if len(offsets) == 2:
        first, second = offsets
        yield "authorizations exchanged", lambda c: c[:first] + c[second:] + c[first:second]
