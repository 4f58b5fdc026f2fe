"""Random walks on our TPM and on swtpm: the same commands, in the same states, end with the same codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hwtpm.client import Client, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset
from hwtpm.tpm2.requests.management import SetAlgorithmSet
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_PLATFORM
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import Machine, started
from tests.support.tpm2_either import retrying
from tests.support.tpm2_running import LiveWalk
from tests.support.tpm2_state import Walk, attempt

STEPS = 80
SEEDS = range(12)
# What libtpms 0.9 does not have or lets nobody see: time that a test can advance, launches, timers, read-only
# mode; and what a new allocation of PCRs allows differs, because the banks there are do.
LEFT_OUT = (Walk._time, Walk._random, Walk._allocate, LiveWalk._launch, LiveWalk._presence, LiveWalk._timers,
            LiveWalk._modes, LiveWalk._power)
# Part 1, 44.2.5: the counter of an ephemeral key that cannot be pending is TPM_RC_RANGE.
EXPLAINED = {(c.TPM_RC_RANGE, c.TPM_RC_VALUE)}
# Part 3, 5.4: an object of a disabled hierarchy is not there; libtpms lets the owner evict one of the
# endorsement hierarchy.  After that the two are not in the same state any more.
PARTING = ("_evict", [c.TPM_RC_HANDLE | 0x200], ["ok"])
Answers = list[str | int]


class Other:
    """swtpm, with what a walk uses of a `Machine`."""

    def __init__(self, swtpm: Swtpm) -> None:
        self._swtpm = swtpm
        self.client = Client(retrying(swtpm.execute), CtrDrbg(b"nonces").generate)
        self.run = self.client.run
        self.power_cycle = swtpm.power_cycle


@contextmanager
def both() -> Iterator[tuple[Machine, Other]]:
    """Give both after Startup(CLEAR), without SHA-3, which libtpms 0.9 does not have."""
    with Swtpm() as swtpm:
        tpms = started(), Other(swtpm)
        for tpm in tpms:
            tpm.run(SetAlgorithmSet(TPM_RH_PLATFORM, 1), Password())
            tpm.run(Shutdown(c.TPM_SU_CLEAR))
            tpm.power_cycle()
            tpm.run(Startup(c.TPM_SU_CLEAR))
        yield tpms


class Walker:
    """One walk on both; each has objects, sequences and sessions of its own, because handles may differ."""

    def __init__(self, seed: int, ours: Machine, theirs: Other) -> None:
        self.walk = LiveWalk(seed, ours)  # type: ignore[arg-type]
        self.walk.whole_writes = True
        self.walk._steps = tuple(step for step in self.walk._steps if step not in LEFT_OUT)
        self.tpms = (ours, theirs)
        self.held: tuple[tuple[list[int], list[int], list[object]], ...] = (([], [], []), ([], [], []))

    def step(self) -> tuple[str, Answers, Answers]:
        """Do one thing to both; return what it was and how it ended, octets as "ok"."""
        walk, found = self.walk, []
        chosen = walk.random.choice(walk._steps)
        before, auths = walk.random.getstate(), walk.auths
        for tpm, held in zip(self.tpms, self.held, strict=True):
            walk.random.setstate(before)
            walk.auths = dict(auths)
            walk.objects, walk.sequences, walk.sessions = held  # type: ignore[assignment]
            try:
                answers = chosen(walk, tpm)  # type: ignore[arg-type]
            except TpmError as error:
                answers = [error.rc]
            except ProtocolError:
                answers = []  # The client does not know what TPM2_PolicyPassword does to a session's HMACs.
            found.append(["ok" if isinstance(answer, bytes) else answer for answer in answers])
            self._make_room(tpm, held)
        return chosen.__name__, found[0], found[1]

    def _make_room(self, tpm: Machine | Other, held: tuple[list[int], list[int], list[object]]) -> None:
        """libtpms holds three objects and three sessions."""
        objects, sequences, sessions = held
        while len(objects) + len(sequences) > 1:
            attempt(tpm, FlushContext((objects or sequences).pop(0)))  # type: ignore[arg-type]
        while len(sessions) > 1:
            attempt(tpm, FlushContext(sessions.pop(0).handle))  # type: ignore[arg-type, attr-defined]

    def restart(self) -> tuple[str, Answers, Answers]:
        """Shut both down, or not, and start them up."""
        last = self.walk.random.choice((None, c.TPM_SU_CLEAR, c.TPM_SU_STATE))
        kind = self.walk.random.choice((c.TPM_SU_CLEAR, c.TPM_SU_STATE))
        found: list[Answers] = []
        for tpm, held in zip(self.tpms, self.held, strict=True):
            for handles in held:
                handles.clear()
            requests = [] if last is None else [Shutdown(last)]
            answers = [attempt(tpm, request) for request in requests]  # type: ignore[arg-type]
            tpm.power_cycle()
            answers.append(attempt(tpm, Startup(kind)))  # type: ignore[arg-type]
            if answers[-1]:
                answers.append(attempt(tpm, Startup(c.TPM_SU_CLEAR)))  # type: ignore[arg-type]
            # libtpms counts a failure at a loss of power, because it may have missed one (Part 1, 16.8.6).
            forgive = DictionaryAttackLockReset(TPM_RH_LOCKOUT)
            lockout_auth = Password(self.walk.auths.get(TPM_RH_LOCKOUT, b""))
            answers.append(attempt(tpm, forgive, lockout_auth))  # type: ignore[arg-type]
            found.append(["ok" if isinstance(answer, bytes) else answer for answer in answers])
        if (last, kind) != (c.TPM_SU_STATE, c.TPM_SU_STATE):
            self.walk.auths.pop(TPM_RH_PLATFORM, None)
        return "restart", found[0], found[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_walk_ends_in_the_same_codes(seed: int) -> None:
    with both() as (ours, theirs):
        walker = Walker(seed, ours, theirs)
        for number in range(STEPS):
            what, mine, other = walker.restart() if number % 25 == 24 else walker.step()
            if (what, mine, other) == PARTING:
                break
            same = len(mine) == len(other) and all(
                one == two or _bare(one, two) in EXPLAINED for one, two in zip(mine, other, strict=True))
            assert same, f"step {number}, {what}: {mine}, swtpm {other}"


def _bare(one: str | int, two: str | int) -> tuple[str | int, str | int]:
    """Return two codes without what they say is at fault, if they say the same."""
    if isinstance(one, str) or isinstance(two, str) or (one ^ two) & ~0xBF:
        return one, two
    return one & 0xBF, two & 0xBF
