"""Management requests whose chip goes away at any command: each is done as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hwtpm.errors import ProtocolError, StateError
from manager import requests as r
from tests.manager.chips import BrokenChip, chip_of
from tests.manager.stores import A, B
from tests.support.managed_groups import KERNEL, LABEL, PCRS, Host, uuids
from tests.support.saa import Saa

KEY = b"k" * 64


def register(host: Host, saa: Saa) -> r.GroupRegister:
    return r.GroupRegister(1, saa.dhkx(), saa.sign(saa.dhkx()), PCRS)


def shown(host: Host) -> list[tuple[bytes, bytes, list[UUID]]]:
    """Return each group's key, list and vTPMs."""
    found = []
    for index in range(host.ask(r.GroupList()).count):
        group = host.ask(r.GroupShow(index))
        found.append((group.pubkey, group.cfg_list, uuids(host.ask(r.VtpmList(index, 0)).uuids)))
    return found


OPERATIONS: dict[str, Callable[[Host, Saa], r.Request[Any]]] = {
    "GROUP_NEW": lambda host, saa: r.GroupNew(LABEL, Saa(host.family, 22).modulus),
    "GROUP_UPDATE": lambda host, saa: host.update(1, 2, kernels=(KERNEL,), saa=saa, pcrs=b"\1\0\0"),
    "GROUP_REGISTER": register,
    "GROUP_DEL": lambda host, saa: r.GroupDel(1),
    "VTPM_NEW": lambda host, saa: r.VtpmNew(1, UUID(int=0xC).bytes),
    "VTPM_EDIT": lambda host, saa: r.VtpmEdit(B.bytes, 0, 1, bytes(20)),
    "VTPM_DEL": lambda host, saa: r.VtpmDel(B.bytes),
}


NEEDS_THE_CHIP = {"GROUP_NEW", "GROUP_UPDATE", "GROUP_REGISTER"}
"""What has the chip do something before there is anything to store."""


def made(path: Path, family: str) -> tuple[Host, Saa]:
    """Return a host with two groups, and in the second a vTPM that has something kept."""
    host, saa = Host(chip_of(f"own-{family}", path / "chip"), path / "manager.db"), Saa(family, 21)
    host.new_group()
    host.new_group(saa)
    host.ask(host.update(1, 1, saa=saa))
    for index, uuid in ((0, A), (1, B)):
        host.ask(r.VtpmNew(index, uuid.bytes))
        guest = host.guest(uuid)
        host.ask(r.SaveHashKey(KEY), guest)
        guest.close()
    return host, saa


def done(host: Host, request: r.Request[Any]) -> list[tuple[bytes, bytes, list[UUID]]]:
    host.ask(request)
    return shown(host)


@pytest.mark.parametrize("family", ["1.2", "2.0"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_chip_that_goes_away_leaves(tmp_path: Path, name: str, family: str) -> None:
    (tmp_path / "sample").mkdir()
    sample, saa = made(tmp_path / "sample", family)
    before = shown(sample)
    request = OPERATIONS[name](sample, saa)
    sample.chip.codes.clear()
    after = done(sample, request)
    commands = len(sample.chip.codes)
    sample.close()
    sample.chip.close()
    # Every command of the last ones, where store and chip change, and some of those before.
    cuts = sorted({*range(0, commands, max(1, commands // 6)), *range(max(0, commands - 8), commands)})
    outcomes = []
    for cut in cuts:
        place = tmp_path / str(cut)
        place.mkdir()
        host, saa = made(place, family)
        request, left = OPERATIONS[name](host, saa), [cut]

        def stop(code: int, left: list[int] = left) -> None:
            if not left[0]:
                raise BrokenChip
            left[0] -= 1

        host.chip.before = stop
        with pytest.raises(r.Refusal, match="TPM_FAIL"):
            host.ask(request)
        with suppress(BrokenChip, StateError, ProtocolError):
            host.manager._ledger.store.close()
        host.chip.mend()
        host.chip.power_cycle()  # type: ignore[attr-defined]
        host.open()
        found = shown(host)
        if name == "GROUP_REGISTER":  # It shows nothing.
            outcomes.append(bool(host.manager.group(1).registered))
        else:
            outcomes.append(found != before)
        assert [group[1:] for group in found] in (
            [group[1:] for group in before], [group[1:] for group in after])
        assert host.ask(r.LoadHashKey(), host.guest(A)).keyblob == KEY
        if any(B in group[2] for group in found):
            assert host.ask(r.LoadHashKey(), host.guest(B)).keyblob == KEY
        host.close()
        host.chip.close()
    # What is in the store is completed; nothing is before the chip has done what comes first.
    assert outcomes[-1]
    assert outcomes[0] == (name not in NEEDS_THE_CHIP)
