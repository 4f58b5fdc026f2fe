"""A seeded walk over two register models: access by access, with all that can be seen compared after each.

What a reading of a register changes nothing about is compared after every access: all registers of all
localities, the FIFO of those that are not active, the interrupt line, and the commands that reached the TPM.
Where the two go on in different states for a reason that is on the list, both are reset.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

from hwtpm.tis.fifo import State
from hwtpm.tis.registers import (
    ACCESS_TPM_ESTABLISHMENT,
    NOTHING,
    STS_BURST_COUNT_SHIFT,
    STS_COMMAND_READY,
    STS_DATA_AVAIL,
    STS_EXPECT,
    STS_VALID,
    TIS_BUFFER_SIZE,
    TIS_LOCALITIES,
    TIS_PAGE,
    TPM_ACCESS,
    TPM_DATA_FIFO,
    TPM_STS,
    TPM_XDATA_FIFO,
)
from tests.oracle.tis.accesses import (
    ACCESS_BITS,
    LONG,
    NAMES,
    REGISTERS,
    Step,
    Walker,
    bits,
    long_command,
    name_of,
)
from tests.oracle.tis.differences import DIFFERENCES, Difference
from tests.oracle.tis.sides import Ours, Theirs

_STS: Final = ((STS_VALID, "stsValid"), (STS_COMMAND_READY, "commandReady"), (STS_DATA_AVAIL, "dataAvail"),
               (STS_EXPECT, "Expect"))
_SETTLED_S: Final = 5.0


class Found(NamedTuple):
    """One difference: after which access in which state of ours, in what, and what each side shows."""

    step: str
    where: str
    ours: str
    theirs: str


class Report(NamedTuple):
    """What walks have seen."""

    steps: Counter[str]  # accesses, by the register that they are to
    compared: Counter[str]  # values, likewise
    transitions: Counter[tuple[str, str]]  # from which state of the FIFO to which
    explained: Counter[Difference]
    unexplained: list[tuple[str, list[Found]]]  # with the walk that met them


def new_report() -> Report:
    """Return a report of nothing."""
    return Report(Counter(), Counter(), Counter(), Counter(), [])


class Walk:
    """One walk over both sides, which *origin* names."""

    def __init__(self, sides: tuple[Ours, Theirs], report: Report, origin: str,
                 reviewed: Sequence[Difference] = DIFFERENCES) -> None:
        self.ours, self.theirs = sides
        self.report, self._origin, self._reviewed = report, origin, reviewed
        self._sent = b""  # of the command in the FIFO of ours

    def reset(self) -> None:
        """Both are as after a reset of the machine, and agree."""
        self.theirs.reset()
        # Which outlasts resets, and the two may have parted over it.
        self.ours.established = not self.theirs.read(TPM_ACCESS, 1) & ACCESS_TPM_ESTABLISHMENT
        self.ours.reset()
        found = self._unlike("reset")
        assert found == [], found

    def take(self, step: Step) -> bool:
        """Do *step* on both and compare; tell whether they go on alike.

        A difference that is not explained is in the report, and the two do not go on alike either.
        """
        tis = self.ours.tis
        before, label = tis.state, f"{step} | {self._state()}"
        self.report.steps[name_of(step.place)] += 1
        results: tuple[int, int] | None = None
        if step.value is None:
            results = self.ours.read(step.place, step.size), self.theirs.read(step.place, step.size)
            self.report.compared["results of reading"] += 1
        else:
            self.ours.write(step.place, step.size, step.value)
            self.theirs.write(step.place, step.size, step.value)
            if before is State.EXECUTION and tis.cancelled():
                self.ours.settle()
            self.report.transitions[before.value, tis.state.value] += 1
            self._follow(before, step)
        label += f" | {self._state()}"
        found = self._after(label)
        if results is not None and results[0] != results[1]:
            found.append(Found(label, "result", f"{results[0]:x}", f"{results[1]:x}"))
        return self._judge(found)

    def _state(self) -> str:
        """Return the state of ours in words."""
        tis = self.ours.tis
        text = tis.state.value
        if tis.state is State.RECEPTION:
            status = self.ours.read(TIS_PAGE * (tis.active or 0) + TPM_STS, 4)
            text += f" {len(self._sent)} of {int.from_bytes(self._sent[2:6], 'big')}"
            text += "" if status & STS_EXPECT else " complete"
        return f"{text} at {'nobody' if tis.active is None else tis.active}"

    def _follow(self, before: State, step: Step) -> None:
        """`_sent` is what the FIFO has after *step*."""
        tis = self.ours.tis
        if tis.state is not State.RECEPTION:
            return
        if before is not State.RECEPTION:
            self._sent = b""
        status = self.ours.read(TIS_PAGE * (tis.active or 0) + TPM_STS, 4)
        octets = (step.value or 0).to_bytes(8, "little")[: step.size]
        taken = bytes(octet for place, octet in enumerate(octets, step.place)
                      if name_of(place).endswith("DATA_FIFO"))
        size = TIS_BUFFER_SIZE - (status >> STS_BURST_COUNT_SHIFT & 0xFFFF)
        self._sent = (self._sent + taken)[:size]

    def let_go(self) -> bool:
        """The command that both hold is answered; tell whether they go on alike."""
        label = f"end of the command | {self._state()}"
        for side in (self.ours, self.theirs):
            side.tpm.let_go()
        self.ours.settle()
        self.report.steps["end of a command"] += 1
        self.report.transitions[State.EXECUTION.value, self.ours.tis.state.value] += 1
        return self._judge(self._after(f"{label} | {self._state()}"))

    def _judge(self, found: list[Found]) -> bool:
        alike = True
        unexplained = []
        for one in found:
            entry = next((entry for entry in self._reviewed if entry.explains(*one)), None)
            if entry is None:
                unexplained.append(one)
            else:
                self.report.explained[entry] += 1
                alike &= not entry.apart
        if unexplained:
            self.report.unexplained.append((self._origin, unexplained))
        return alike and not unexplained

    def _after(self, label: str) -> list[Found]:
        """Return the differences after a step; QEMU gets time to take a response over from its thread."""
        deadline = time.monotonic() + _SETTLED_S
        while True:
            found = self._unlike(label)
            known = all(any(entry.explains(*one) for entry in self._reviewed) for one in found)
            late = "tpmGo" in label or "| Execution" in label
            if known or not late or time.monotonic() > deadline:
                return found
            time.sleep(0.0005)

    def _unlike(self, label: str) -> list[Found]:
        places = [(TIS_PAGE * locality + offset, size)
                  for locality in range(TIS_LOCALITIES) for offset, (_, size) in REGISTERS.items()]
        places += [(TIS_PAGE * locality + fifo, 4) for locality in range(TIS_LOCALITIES)
                   for fifo in (TPM_DATA_FIFO, TPM_XDATA_FIFO) if locality != self.ours.tis.active]
        found = []
        for (place, _), one, other in zip(places, self.ours.read_all(places), self.theirs.read_all(places),
                                          strict=True):
            locality, offset = divmod(place, TIS_PAGE)
            name = NAMES[offset]
            self.report.compared[name] += 1
            if one != other:
                found += [Found(label, f"{what} of {locality}", a, b)
                          for what, a, b in _parts(name, one, other) if a != b]
        if self.ours.line() != self.theirs.line():
            found.append(Found(label, "the interrupt line", str(self.ours.line()), str(self.theirs.line())))
        if self.ours.tpm.seen != self.theirs.tpm.seen:
            sides = (self.ours, self.theirs)
            found.append(Found(label, "commands", *(
                str([(asked.hex(), at) for asked, at in side.tpm.seen[-1:]]) for side in sides
            )))
        if self.ours.tpm.holds != self.theirs.tpm.holds:
            found.append(Found(label, "executing", str(self.ours.tpm.holds), str(self.theirs.tpm.holds)))
        return found


def _parts(name: str, one: int, other: int) -> Iterator[tuple[str, str, str]]:
    """Yield the parts of a register in which the two values may differ, and what each has there."""
    if name == "TPM_STS" and NOTHING not in (one, other):
        burst = [str(value >> STS_BURST_COUNT_SHIFT & 0xFFFF) for value in (one, other)]
        yield "burstCount", burst[0], burst[1]
        yield name, bits(one, _STS), bits(other, _STS)
        rest = ~(0xFFFF << STS_BURST_COUNT_SHIFT | sum(bit for bit, _ in _STS))
        yield "TPM_STS, the rest", hex(one & rest), hex(other & rest)
    elif name == "TPM_ACCESS":
        yield name, bits(one, ACCESS_BITS), bits(other, ACCESS_BITS)
    else:
        yield name, hex(one), hex(other)


def walk(sides: tuple[Ours, Theirs], seed: int, steps: int, report: Report) -> None:
    """Both sides have taken *steps* accesses that *seed* chose."""
    walking = Walk(sides, report, f"seed {seed}")
    walking.reset()
    walker = Walker(Random(seed), sides[0])
    for _ in range(steps):
        step = walker.next()
        if not (walking.let_go() if step is None else walking.take(step)):
            walking.reset()


def long_commands(sides: tuple[Ours, Theirs], report: Report) -> None:
    """Both sides have been given commands that fill the FIFO, and more."""
    for size, claimed in LONG:
        walking = Walk(sides, report, f"{size} octets")
        walking.reset()
        for step in long_command(size, claimed):
            if not walking.take(step):
                break
