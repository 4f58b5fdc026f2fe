"""Runs scenarios on both TPMs and collects where they differ."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.nv import NVReadPublic
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.policy import PolicyGetDigest
from hwtpm.tpm2.types import constants
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_CAP_COMMANDS,
    TPM_CAP_HANDLES,
    TPM_CAP_TPM_PROPERTIES,
    TPM_RC_AUTH_FAIL,
    TPM_RC_BAD_AUTH,
    TPM_RC_POLICY_FAIL,
)
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from tests.oracle import mutations
from tests.oracle.circumstances import CIRCUMSTANCES, variants
from tests.oracle.comparison import code, differences, malformed, rc_name
from tests.oracle.differences import DIFFERENCES, Difference
from tests.oracle.layout import Field, fields
from tests.oracle.scenario import SCENARIOS, Case, Scenario
from tests.oracle.sides import Ours, Side, Theirs, octets
from tests.support.tpm2_either import INDEX

_MAY_COUNT = {TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH, TPM_RC_POLICY_FAIL}
CC_NAMES = {value: name[7:] for name, value in vars(constants).items() if name.startswith("TPM_CC_")}


class Found(NamedTuple):
    """One difference."""

    command: str
    scenario: str
    mutation: str
    ours: str
    theirs: str
    octets: bytes


def explanation(found: Found, reviewed: tuple[Difference, ...] = DIFFERENCES) -> Difference | None:
    """Return the entry of the *reviewed* list that explains a difference."""
    label = f"{found.scenario}: {found.mutation}"
    return next((e for e in reviewed if e.explains(found.command, label, found.ours, found.theirs)), None)


class Report:
    """What a run has seen; *reviewed* is the list of the differences that are right."""

    def __init__(self, reviewed: tuple[Difference, ...] = DIFFERENCES) -> None:
        self.reviewed = reviewed
        self.compared: Counter[int] = Counter()  # by command code
        self.found: list[Found] = []
        self.explained: Counter[Difference] = Counter()
        self.unexplained: list[Found] = []
        self.broken: list[str] = []  # scenarios that could not be readied

    def note(self, found: Found) -> None:
        entry = explanation(found, self.reviewed)
        if entry is None:
            self.unexplained.append(found)
        else:
            self.explained[entry] += 1


_PROBES: tuple[Command[Any], ...] = (
    GetCapability(TPM_CAP_HANDLES, 0x80000000, 16),
    GetCapability(TPM_CAP_HANDLES, 0x81000000, 16),
    GetCapability(TPM_CAP_HANDLES, 0x01000000, 16),
    GetCapability(TPM_CAP_HANDLES, 0x02000000, 16),
    GetCapability(TPM_CAP_HANDLES, 0x03000000, 16),
    GetCapability(TPM_CAP_TPM_PROPERTIES, 0x200, 64),
    PCRRead([TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\x01\0\x01")]),
    NVReadPublic(INDEX),
    PolicyGetDigest(0x03000000),
)


class Oracle:
    """Both TPMs; a context manager that ends them."""

    def __init__(self) -> None:
        self.theirs = Theirs()
        self.ours = Ours()
        self.sides: tuple[Side, Side] = (self.ours, self.theirs)
        self.report = Report()
        self.implemented = [self._commands(side) for side in self.sides]
        self._probes = [(type(p), octets(self.ours, p)) for p in _PROBES]

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *unused: object) -> None:
        self.theirs.close()

    def _commands(self, side: Side) -> set[int]:
        answer = side.client.run(GetCapability(TPM_CAP_COMMANDS, 0, 1000))
        return {cc & 0x2000FFFF for cc in answer.capability_data.data}  # type: ignore[union-attr, operator]

    def without_scenario(self) -> list[str]:
        """Return the commands that are implemented here or there and have no scenario."""
        known = {s.request.CC for s in SCENARIOS}
        return sorted(
            CC_NAMES.get(cc, f"0x{cc:x}") for cc in (self.implemented[0] | self.implemented[1]) - known
        )

    def run(self, scenario: Scenario, seed: int, every: int = 1, extra: int = 20) -> None:
        """Compare the valid command of *scenario*, each *every*th variation, and *extra* random ones."""
        if scenario.request.CC in self.implemented[0]:
            _Comparison(self, scenario, seed, every, extra).run()


class _Comparison:
    """One scenario, on both sides; on ours alone if only we have the command, whose form is checked then."""

    def __init__(self, oracle: Oracle, scenario: Scenario, seed: int, every: int, extra: int) -> None:
        self.oracle, self.report = oracle, oracle.report
        self.scenario, self.request, self.extra = scenario, scenario.request, extra
        self.sides = tuple(
            side
            for side, known in zip(oracle.sides, oracle.implemented, strict=True)
            if self.request.CC in known
        )
        self.every = every * 6 if scenario.thin else every
        self.rng = Random(f"{seed} {scenario.name}")
        self.single: dict[str, tuple[str, str]] = {}  # results by the label of a mutation
        self.cases: list[Case] = []
        self.commands: list[bytes] = []

    def run(self) -> None:
        for side in self.sides:
            side.begin()
            try:
                case = self.scenario.build(side)
                self.commands.append(case.octets(side))
            except (TpmError, ProtocolError, AssertionError, KeyError) as error:
                text = rc_name(error.rc) if isinstance(error, TpmError) else repr(error)
                self.report.broken.append(f"{self.scenario.name} on {side.name}: {text}")
                return
            self.cases.append(case)
            side.keep()
        self._exchange("valid", self.commands)
        accepted = self.single["valid"][0] == "ok"
        if accepted == self.scenario.refused:
            self.report.broken.append(f"{self.scenario.name}: valid gives {self.single['valid'][0]}")
        self._mutate()
        for label, make in variants(self.cases[0]):
            if self._chosen():
                self._varied(label, make)
        for label, change in CIRCUMSTANCES.items():
            if self._chosen():
                self._changed(label, change)
        self._exchange("valid again", self.commands)

    def _mutate(self) -> None:
        layouts = [fields(c.request, o) for c, o in zip(self.cases, self.commands, strict=True)]
        paths = [[field.path for field in layout] for layout in layouts]
        assert paths[0] == paths[-1], self.scenario.name
        chosen = [
            m
            for m in mutations.each(self.commands[0], layouts[0])
            if self._chosen()
            and not re.search(self.scenario.unlike, m.label)
            and not self._unpredictable(m, layouts)
        ]
        pairs = list(zip(self.commands, layouts, strict=True))
        for mutation in chosen:
            self._exchange(mutation.label, [mutations.apply(o, f, mutation) for o, f in pairs])
        for _ in range(self.extra if chosen else 0):
            # The later field is changed first, so that the earlier one is still where it was.
            one, two = sorted(
                (self.rng.choice(chosen), self.rng.choice(chosen)),
                key=lambda m: m.field if m.field >= 0 else len(layouts[0]),
            )
            if one.field != two.field:
                changed = [mutations.apply(mutations.apply(o, f, two), f, one) for o, f in pairs]
                self._exchange(f"{one.label} & {two.label}", changed, (one.label, two.label))
        if self.commands[0] == self.commands[-1]:
            for _ in range(self.extra):
                self._change_octets(layouts[0], mutations.random_octets(self.rng, self.commands[0]))

    def _change_octets(self, layout: list[Field], done: list[tuple[int, int]]) -> None:
        label, octet = mutations.with_octets(self.commands[0], layout, done)
        if re.search(self.scenario.unlike, label):
            return
        alone: list[str] = []
        for change in done if len(done) > 1 else ():
            one, changed = mutations.with_octets(self.commands[0], layout, [change])
            self._exchange(one, [changed for _ in self.sides])
            alone.append(one)
        self._exchange(label, [octet for _ in self.sides], tuple(alone))

    def _unpredictable(self, mutation: mutations.Mutation, layouts: list[list[Field]]) -> bool:
        """Tell whether a size that lies has octets read as members that are not the same on both sides."""
        if "lies" not in mutation.label:
            return False
        following = set()
        for octet, layout in zip(self.commands, layouts, strict=True):
            field = layout[mutation.field]
            old = octet[field.offset : field.offset + field.size]
            told = min(int.from_bytes(old, "big"), int.from_bytes(mutation.change(old), "big"))
            end = field.offset + field.size + told
            following.add(octet[end : end + 16])
        return len(following) > 1

    def _chosen(self) -> bool:
        return self.every == 1 or self.rng.randrange(self.every) == 0

    def _varied(self, label: str, make: Callable[[Side, Case], bytes]) -> None:
        made: list[bytes] = []
        failed: list[str] = []
        for side, case in zip(self.sides, self.cases, strict=True):
            try:
                made.append(make(side, case))
            except TpmError as error:
                failed.append(rc_name(error.rc))
        if not failed:
            self._exchange(label, made)
        for side in self.sides:
            side.back()

    def _changed(self, label: str, change: Callable[[Side], object]) -> None:
        for side in self.sides:
            change(side)
        self._exchange(label, self.commands)
        for side in self.sides:
            side.back()

    def _exchange(self, label: str, commands: list[bytes], alone: tuple[str, ...] = ()) -> None:
        """Send the commands and compare; *alone* are the labels of what was done together here."""
        answers = [side.execute(octet) for side, octet in zip(self.sides, commands, strict=True)]
        codes = [code(a) for a in answers]
        names = [rc_name(c) for c in codes]
        self.report.compared[self.request.CC] += 1
        self.single[label] = names[0], names[-1]
        faults = self.oracle.ours.faults
        if faults:
            self._note(label, f"defect {faults[-1]!r}", names[-1], commands[0])
            faults.clear()
        elif len(answers) == 1:
            wrong = malformed(self.request, answers[0]) if codes[0] == 0 else ""
            if wrong:
                self._note(label, wrong, "not implemented", commands[0])
        elif codes[0] != codes[1]:
            self._note(label, *names, commands[0], alone)
        elif codes[0] == 0:
            self._outputs(label, commands[0], answers)
        unchanged = codes[0] == codes[-1] and codes[0] & 0x80 and codes[0] & 0xBF not in _MAY_COUNT
        if not unchanged:
            for side in self.sides:
                side.back()

    def _outputs(self, label: str, sent: bytes, answers: list[bytes]) -> None:
        cc = int.from_bytes(sent[6:10], "big")
        request: type[Command[Any]] = self.request if cc == self.request.CC else COMMANDS[cc].request
        for path in differences(request, *answers, self.scenario.varies):
            self._note(label, f"differs in {path}", "ok", sent)
        for cls, probe in self.oracle._probes:
            seen = [side.execute(probe) for side in self.sides]
            if code(seen[0]) != code(seen[1]):
                self._note(
                    label, f"then {cls.__name__} {rc_name(code(seen[0]))}", rc_name(code(seen[1])), sent
                )
            elif code(seen[0]) == 0:
                for path in differences(cls, *seen, self.scenario.varies):
                    self._note(label, f"then {cls.__name__} differs in {path}", "ok", sent)

    def _note(self, label: str, ours: str, theirs: str, sent: bytes, alone: tuple[str, ...] = ()) -> None:
        found = Found(self.request.__name__, self.scenario.name, label, ours, theirs, sent)
        results = [(one, *self.single[one]) for one in alone]
        if ours in [r[1] for r in results] and theirs in [r[2] for r in results] and not explanation(found):
            # Of several faults, each TPM names one; that is explained if it is for one of them alone.
            for one, mine, other in results:
                if mine != other:
                    found = found._replace(mutation=one, ours=mine, theirs=other)
                    break
        self.report.note(found)


def show(report: Report, names: dict[int, str], limit: int = 50, samples: int = 3) -> None:
    """Print the counts by the *names* of commands, and the differences that nothing explains."""
    for cc, count in sorted(report.compared.items()):
        print(f"  {names.get(cc, hex(cc)):28} {count:6}")
    kinds: dict[tuple[str, str, str], list[Found]] = {}
    for found in report.unexplained:
        kinds.setdefault((found.command, found.ours, found.theirs), []).append(found)
    for (command, ours, theirs), those in list(kinds.items())[:limit]:
        print(f"{command}: {ours} | swtpm {theirs}: {len(those)} times", file=sys.stderr)
        for found in those[:samples]:
            print(f"    {found.scenario}: {found.mutation} | {found.octets[:200].hex()}", file=sys.stderr)
    if len(kinds) > limit:
        print(f"... and {len(kinds) - limit} more kinds of differences", file=sys.stderr)
    print(
        f"{sum(report.compared.values())} commands compared, of {len(report.compared)} command codes; "
        f"differences: {sum(report.explained.values())} explained by {len(report.explained)} entries, "
        f"{len(report.unexplained)} unexplained"
    )
