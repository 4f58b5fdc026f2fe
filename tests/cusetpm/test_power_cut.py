"""Power goes at any write of a daemon with two vTPMs: each has what it was told, or one change more."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from cusetpm.backup import check
from cusetpm.daemon import Device, System
from hwtpm.client import Client, Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from tests.support.powercut import Cut, Recording, image, recorded

ROUNDS = 4
NAMES = "one", "two"


def change(device: Device, old: int, new: int) -> None:
    """Change the owner's authorization value from *old* octets to *new*."""
    Client(device.execute, os.urandom).run(
        HierarchyChangeAuth(TPM_RH_OWNER, b"x" * new), Password(b"x" * old))


def guest(system: System, name: str) -> Device:
    device = system.add_guest(name)
    device.start_up("clear")
    return device


def found(device: Device, wanted: range) -> int:
    """Return how many octets the authorization value has, out of *wanted*."""
    for size in wanted:
        try:
            change(device, size, size)
        except TpmError:
            continue
        return size
    raise AssertionError(f"none of {wanted}")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["2.0", "1.2"])
def test_what_vtpms_were_told_survives_a_loss_of_power_at_every_write(
        tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some saves are counted by the chip at once, others later, as time passes between them."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng, now = random.Random(seed), [0]
    disk = tmp_path / "disk"
    with closing(System(disk / "s", chip=family)) as system:
        for name in NAMES:
            change(guest(system, name), 0, 1)
    recording = Recording(disk)
    with recorded(recording, monkeypatch), \
            closing(System(disk / "s", lambda: now[0], chip=family)) as system:
        devices = [guest(system, name) for name in NAMES]
        for value in range(1, ROUNDS):
            for name, device in zip(NAMES, devices, strict=True):
                change(device, value, value + 1)
                recording.ack(f"{name} {value + 1}")
            now[0] += 700
    cuts = [Cut(n, rng.choice(("none", "some", "all"))) for n in range(len(recording.events) + 1)]
    if family == "1.2":  # whose start takes longer
        cuts = cuts[rng.randrange(3) :: 3]
    more = 0
    for number, cut in enumerate(cuts):
        place = tmp_path / f"cut {number}"
        told = image(recording, cut, place, rng)
        with closing(System(place / "s", chip=family)) as system:
            for name in NAMES:
                least = max([1, *(int(each.split()[1]) for each in told if each.startswith(f"{name} "))])
                device = guest(system, name)
                more += found(device, range(least, least + 2)) - least
            assert check(system) == []
        shutil.rmtree(place)
    print(f"{len(recording.events)} events, {len(cuts)} cuts, {more} changes that nobody was told of")
    assert more > 0
