"""Runs one case on two peers, turn by turn, and what the samples come to."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import median
from typing import NamedTuple

from hwtpm.errors import ProtocolError, TpmError
from hwtpm.family import family
from tests.bench.case import Case, Wrong
from tests.bench.peers import Peer

_WARM_UP = 2  # samples that are checked and not counted: codecs are compiled, keys found in a cache or not


class Figures(NamedTuple):
    """Medians and 95th percentiles of one peer, in microseconds, of *count* samples."""

    p50: float
    p95: float
    samples: int


class Result(NamedTuple):
    """The figures of the peer to beat and of ours; *wrong* says what a TPM did wrong, if one did."""

    name: str
    theirs: Figures | None = None
    ours: Figures | None = None
    wrong: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to theirs, of medians; None without figures."""
        if self.ours is None or self.theirs is None:
            return None
        return self.ours.p50 / self.theirs.p50


def measure(kind: type[Case], peers: tuple[Peer, Peer], seed: int, turns: int, per_turn: int) -> Result:
    """Return what *turns* turns of *per_turn* samples on each peer show; the peers take turns, A B A B.

    Both are given the same inputs.  After a wrong result the peers may hold objects that nobody flushes.
    """
    samples: list[list[int]] = [[], []]
    at = ""
    try:
        cases = []
        for peer in peers:
            at = peer.name
            cases.append(kind(peer))
            cases[-1].turn(Random(f"{seed} {kind.name} warm-up"), _WARM_UP)
        for turn in range(turns):
            for case, found in zip(cases, samples, strict=True):
                at = case.tpm.name
                found += case.turn(Random(f"{seed} {kind.name} {turn}"), per_turn)
        for case in cases:
            at = case.tpm.name
            case.close()
    except TpmError as error:
        rc_name = family(peers[0].FAMILY).rc_name
        return Result(kind.name, wrong=f"{at}: {rc_name(error.rc)} (0x{error.rc:03x})")
    except (Wrong, ProtocolError, OSError) as error:
        return Result(kind.name, wrong=f"{at}: {error}")
    theirs, ours = map(figures, samples)
    return Result(kind.name, theirs, ours)


def figures(samples_ns: Sequence[int]) -> Figures:
    """Return the figures of some samples in nanoseconds."""
    found = sorted(samples_ns)
    return Figures(median(found) / 1000, found[(len(found) * 95 - 1) // 100] / 1000, len(found))
