"""Power goes at any moment of all that a manager does in its life, from its first use to its recovery.

Each step is there as a whole or not at all, and once it was acknowledged it is there.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hwtpm.errors import StateError
from manager import moving
from manager import requests as r
from manager.closed import ClosedManager
from manager.manager import Manager
from manager.model import ADMIN, Vtpm
from manager.opening import RootClosed
from tests.manager.chips import OwnChip, OwnChip12
from tests.manager.stores import A, B, manager
from tests.support.managed_groups import KERNEL, LABEL, PCRS, Host, state
from tests.support.powercut import Cut, Recording, cuts, image, ram, recorded
from tests.support.saa import Saa, xor

C, GUEST = UUID(int=0xC), UUID(int=0xD)
LATER = b"\0\x10\0"  # PCR 12
MOST = {"2.0": 300, "1.2": 120}
"""How many cuts are tried: a chip that is a TPM 1.2 starts slower."""


def chip_at(path: Path, family: str) -> OwnChip:
    return OwnChip12(path) if family == "1.2" else OwnChip(path)


def found(opened: Manager) -> tuple[object, ...]:
    """Return all that the manager has, each key of which is to be had."""
    for number in opened.groups():
        assert len(opened.secret(number)) == 32
        for uuid in opened.vtpms(number):
            opened.vtpm(uuid)
    return state(opened)


class Life:
    """The steps, of a manager whose chip is *chip*, with *elsewhere* for another one."""

    def __init__(self, chip: OwnChip, elsewhere: Path) -> None:
        self.chip, self.family = chip, chip.family
        self.path = chip.path.with_name("manager.db")
        self.saas = [Saa(chip.family, number) for number in (20, 21)]
        self.keys = [b"", b""]
        self._other_chip = chip_at(elsewhere / "chip", "2.0")
        self.other = manager(elsewhere / "manager.db", self._other_chip)
        self.other.save_hash_key(GUEST, b"o" * 64)
        self.host: Host

    def close(self) -> None:
        self.other.close()
        self._other_chip.close()

    def first_use(self) -> None:
        self.host = Host(self.chip, self.path)

    def ask(self, request: r.Request[Any]) -> Any:
        return self.host.ask(request)

    def make_group(self, index: int) -> None:
        self.ask(r.GroupNew(LABEL, self.saas[index].modulus))


    def register(self, index: int) -> None:
        saa = self.saas[index]
        answer = self.ask(r.GroupRegister(index, saa.dhkx(), saa.sign(saa.dhkx()), PCRS))
        self.keys[index] = xor(answer.recover_blob, saa.shared(answer.dhkx_2))

    def update(self, index: int, sequence: int, **how: Any) -> None:
        self.ask(self.host.update(index, sequence, saa=self.saas[index], **how))

    def save(self, uuid: UUID, octets: bytes) -> None:
        guest = self.host.guest(uuid)
        self.host.ask(r.SaveHashKey(octets), guest)
        guest.close()

    def recover_group(self) -> None:
        """Group 1 was closed, and would have been open again after a reset of the chip."""
        self.host.extend(12, b"something else")
        self.host.restart()
        self._recover(1)

    def recover_all(self) -> None:
        """The store could not be opened, and could have been after a reset of the chip."""
        self.host.extend(7, b"another system")
        self.host.close()
        with pytest.raises(RootClosed) as refused:
            Manager(self.path, self.chip.sealing, os.urandom)
        self.host.manager = ClosedManager(
            self.path, self.chip.sealing, os.urandom, refused.value.pcrs)
        self.host.serve()
        self._recover(0)

    def _recover(self, index: int) -> None:
        request: r.Request[Any]
        if self.family == "1.2":
            request = r.GroupRecover1(index, self.ask(r.MakeIdentity(LABEL)).id_key, b"n" * 20, PCRS)
        else:
            request = r.GroupRecover1With20(
                index, self.ask(r.MakeIdentityWith20(LABEL)).id_key, b"n" * 20, PCRS)
        begun, saa = self.ask(request), self.saas[index]
        self.ask(r.GroupRecover2(index, saa.dhkx(), xor(self.keys[index], saa.shared(begun.dhkx_1))))

    def send(self, uuid: UUID) -> None:
        moving.send(self.host.manager, uuid, moving.address(self.other), "x",
                    lambda known: (known, b"state"), os.urandom)

    def receive(self) -> None:
        bundle = moving.send(self.other, GUEST, moving.address(self.host.manager), "x",
                             lambda known: (known, b"state"), os.urandom)
        moving.receive(self.host.manager, bundle, 1)


STEPS: dict[str, Callable[[Life], None]] = {
    "first use": Life.first_use,
    "GROUP_NEW gives the first group its SAA": lambda life: life.make_group(0),
    "GROUP_REGISTER of the first group": lambda life: life.register(0),
    "GROUP_UPDATE of the first group": lambda life: life.update(0, 1),
    "GROUP_NEW": lambda life: life.make_group(1),
    "GROUP_REGISTER": lambda life: life.register(1),
    "GROUP_UPDATE": lambda life: life.update(1, 1, platforms=[life.host.platform(), b"p" * 20
                                             if life.family == "1.2" else b"p" * 32]),
    "VTPM_NEW": lambda life: life.ask(r.VtpmNew(1, A.bytes)),
    "a save": lambda life: life.save(A, b"1" * 64),
    "VTPM_NEW, another": lambda life: life.ask(r.VtpmNew(1, B.bytes)),
    "a save of another": lambda life: life.save(B, b"2" * 64),
    "a save that makes a vTPM": lambda life: life.save(C, b"3" * 64),
    "VTPM_EDIT": lambda life: life.ask(r.VtpmEdit(A.bytes, 1, ADMIN, KERNEL)),
    "VTPM_EDIT into another group": lambda life: life.ask(r.VtpmEdit(A.bytes, 0, 0, bytes(20))),
    "a vTPM arrives": Life.receive,
    "GROUP_UPDATE that takes a configuration": lambda life: life.update(1, 2, pcrs=LATER),
    "VTPM_DEL of one that had arrived": lambda life: life.ask(r.VtpmDel(GUEST.bytes)),
    "GROUP_RECOVER": Life.recover_group,
    "GROUP_UPDATE after a recovery": lambda life: life.update(1, 3, kernels=()),
    "a vTPM is sent away": lambda life: life.send(B),
    "VTPM_DEL": lambda life: life.ask(r.VtpmDel(A.bytes)),
    "GROUP_NEW, one more": lambda life: life.ask(r.GroupNew(LABEL, Saa(life.family, 22).modulus)),
    "GROUP_DEL with a vTPM": lambda life: life.ask(r.GroupDel(1)),
    "GROUP_RECOVER of the first group": Life.recover_all,
}
DESTROY = {"VTPM_EDIT into another group", "GROUP_UPDATE that takes a configuration",
           "VTPM_DEL of one that had arrived", "a vTPM is sent away", "VTPM_DEL", "GROUP_DEL with a vTPM"}


def is_usable(disk: Path, chip: OwnChip) -> tuple[object, ...]:
    """A manager opens the store and goes on; return what it has found."""
    with closing(manager(disk / "manager.db", chip)) as opened:
        there = found(opened)
        assert opened.check() == []
        opened.save_hash_key(UUID(int=0xE), b"e" * 64)
        with opened.change() as change:
            change.put_vtpm(UUID(int=0xF), Vtpm())
    # The first use leaves nothing in the chip that it does not use.
    assert (len(chip.counters()), len(chip.areas())) == (1, 1)
    chip.nothing_is_loaded()
    return there


def put_back(old: Path, disk: Path) -> None:
    """The store is that of *old*."""
    for each in disk.glob("manager.db*"):
        each.unlink()
    for each in old.glob("manager.db*"):
        shutil.copy(each, disk)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["2.0", "1.2"])
def test_every_step_survives_a_loss_of_power_at_every_write(
        tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    rng, names = random.Random(seed), list(STEPS)
    base, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    base.mkdir()
    elsewhere.mkdir()
    chip_at(base / "chip", family).close()
    recording = Recording(base)
    with closing(chip_at(base / "chip", family)) as chip, closing(Life(chip, elsewhere)) as life, \
            recorded(recording, monkeypatch):
        for name, step in STEPS.items():
            step(life)
            recording.ack(name)
    with ram() as memory:
        states: list[tuple[object, ...]] = []
        for number, (at, event) in enumerate(
                [each for each in enumerate(recording.events) if each[1].kind == "ack"]):
            assert event.path == names[number]
            image(recording, Cut(at + 1, "all"), memory / f"{number}", rng)
            shutil.copytree(memory / f"{number}", memory / "opened")
            with closing(chip_at(memory / "opened" / "chip", family)) as chip:
                states.append(is_usable(memory / "opened", chip))
            assert states[-1] not in states[:-1], f"{names[number]} has changed nothing"
            shutil.rmtree(memory / "opened")
        wanted = cuts(recording, rng, MOST[family])
        more, again, refused = 0, 0, 0
        for cut in wanted:
            disk = memory / "disk"
            told = len(image(recording, cut, disk, rng))
            with closing(chip_at(disk / "chip", family)) as chip:
                there = is_usable(disk, chip)
                # Before the first step is done there is nothing, and so it is done anew.
                done = states.index(there) + 1 if there in states else 0
                assert done or not told, f"{cut}: after {names[told - 1]!r} there is {there}"
                assert done in (told, told + 1), f"{cut}: {told} steps were acknowledged, {done} are there"
                more += done - told
                again += not done
                destroying = [number for number, name in enumerate(names[:done]) if name in DESTROY]
                if destroying and rng.random() < 0.2:
                    put_back(memory / f"{destroying[-1] - 1}", disk)
                    with pytest.raises(StateError, match="the key that opens it has been destroyed since"):
                        Manager(disk / "manager.db", chip.sealing, os.urandom, accept_rollback=True)
                    refused += 1
            shutil.rmtree(disk)
    print(f"{len(names)} steps, {dict(Counter(event.kind for event in recording.events))}, {len(wanted)} "
          f"cuts; {more} steps that nobody was told of, {again} first uses done anew, {refused} old stores "
          f"refused")
    assert more > 0
    assert again > 0
    assert refused > 0
