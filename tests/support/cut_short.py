"""What is done to state directories, and what has to be there when it is cut short anywhere.

What was acknowledged is there; what was not is there as a whole, or not at all, or is completed by doing it
once more, which the user is told.  No vTPM is in two places, and none is lost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import pytest

from cusetpm import questions
from cusetpm.administration import initialise
from cusetpm.backup import check
from cusetpm.daemon import System
from cusetpm.settings import Settings
from cusetpm.settings import read as read_settings
from hwtpm.client import Client, Password
from hwtpm.crypto import pem
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_RC_INITIALIZE
from hwtpm.tpm2.types.structures import TPMT_HA
from manager.model import Group, Vtpm
from tests.support.cut_backups import (
    backup,
    backup_and_nothing_else,
    backup_and_old_chip,
    look_backup,
    look_restore,
    look_restore_of_all,
    look_restore_with_old_chip,
    one_backup,
    put_back,
    to_restore,
)
from tests.support.directories import (
    address,
    auth,
    change,
    good,
    made,
    manage,
    open_at,
    released,
    set_auth,
    start,
    two_vtpms,
    why_not,
)
from tests.support.saa import Saa

Ack = Callable[[str], None]
VTPM, NEW = UUID(int=0xA), UUID(int=0xB)


class Scenario(NamedTuple):
    """What is done in a directory, with chips of a family, after *prepare*: *act*, or *commands*.

    *act* acknowledges what is done; *commands* gives the words of command lines, by what they acknowledge.
    *look* gets a directory in which that was cut short, and what was acknowledged.  It completes what was not
    and returns what it has found, for the counts.
    """

    prepare: Callable[[Path, str], None]
    act: Callable[[Path, str, Ack], None]
    look: Callable[[Path, set[str], str], str]
    commands: Callable[[Path, str], dict[str, list[str]]] | None = None


# A directory is made


def init(base: Path, family: str, ack: Ack) -> None:
    initialise(base / "above" / "s", Settings(chip=family, pcrs="0-7,12", administrator="none"))
    ack("made")


def look_init(base: Path, told: set[str], family: str) -> str:
    path, chosen = base / "above" / "s", Settings(chip=family, pcrs="0-7,12", administrator="none")
    found = "made"
    if "made" not in told:
        try:
            initialise(path, chosen)
            found = "once more"
        except StateError as error:
            assert str(error) == f"{path}: there is a manager already"  # noqa: PT017
    assert read_settings(path) == chosen
    with closing(System(path)) as system:
        assert not system.manager.new
    set_auth(path, "one", "", "1")
    good(path)
    return found


def first_runs(base: Path, family: str, ack: Ack) -> None:
    path = base / "above" / "s"
    with closing(System(path, lambda: 0, chip=family)) as system:
        for name in "one", "two":
            change(start(system, name), "", "1")
            ack(name)


def look_first_runs(base: Path, told: set[str], family: str) -> str:
    path, there = base / "above" / "s", 0
    if family == "1.2":
        path.mkdir(parents=True, exist_ok=True)
    with closing(System(path, chip=family)) as system:
        for name in "one", "two":
            device = start(system, name)
            try:
                change(device, "1", "2")
                there += 1
            except TpmError:
                assert name not in told
                change(device, "", "2")
        assert check(system) == []
    return f"{there} there"


# A vTPM is suspended and goes on


def extended(system: System) -> bytes | None:
    """Return PCR 16 of the vTPM as it goes on from where it was suspended; None if it starts anew."""
    device = system.add_guest("one", resume=True)
    tpm = Client(device.execute, os.urandom)
    try:
        return tpm.run(PCRRead([selection(TPM_ALG_SHA256, 1 << 16)])).pcr_values[0]
    except TpmError as error:
        if error.rc != TPM_RC_INITIALIZE:
            raise
    return None


def go_on(base: Path, family: str, ack: Ack) -> None:
    with open_at(base / "s") as system:
        device = start(system, "one")
        Client(device.execute, os.urandom).run(
            PCRExtend(16, [TPMT_HA(TPM_ALG_SHA256, b"x" * 32)]), Password())
        device.store_volatile()
        ack("suspended")
        device.power_off(orderly=False)
        device.power_on(keep_volatile=False)
        ack("went on")


def look_go_on(base: Path, told: set[str], family: str) -> str:
    with open_at(base / "s") as system:
        value = extended(system)
    if value is not None:
        assert "went on" not in told, "it goes on twice from where it was suspended"
        assert value != bytes(32)
    assert auth(base / "s", "one", "1") == "1"
    good(base / "s")
    return "suspended" if value is not None else "not suspended"


# A vTPM is deleted


def delete(base: Path, family: str, ack: Ack) -> None:
    with closing(released(base / "s")) as system:
        questions.delete(system, "two")
        ack("deleted")


def look_delete(base: Path, told: set[str], family: str) -> str:
    path = base / "s"
    why, found = why_not(path, "two"), "deleted"
    if "deleted" in told:
        assert why == "there is none"
    elif not why:
        found = "there"
        assert auth(path, "two", "1") == "1"
    elif why != "there is none":
        found = "once more"
        assert "delete it" in why
    if found != "deleted":
        with closing(released(path)) as system:
            questions.delete(system, "two")
    good(path)
    assert auth(path, "two", "") == ""  # This is another one.
    assert auth(path, "one", "1") == "1"
    return found


# An old copy of a state is accepted


def old_state(base: Path, family: str) -> None:
    made(base / "s", family)
    set_auth(base / "s", "one", "", "1")
    home, old = base / "s" / "guests" / "one", base.with_name("old")
    shutil.copytree(home, old)
    for value in "123":
        set_auth(base / "s", "one", value, chr(ord(value) + 1))
    shutil.rmtree(home)
    shutil.copytree(old, home)


def accept(base: Path, family: str, ack: Ack) -> None:
    with closing(released(base / "s")) as system:
        questions.accept(system, "one")
        ack("accepted")


def look_accept(base: Path, told: set[str], family: str) -> str:
    path = base / "s"
    why, found = why_not(path, "one"), "accepted"
    if why:
        assert "or accept the old one" in why
        assert "accepted" not in told
        found = "once more"
        accept(base, family, lambda what: None)
    assert auth(path, "one", "1") == "1"
    good(path)
    return found


# A vTPM moves


def two_places(base: Path, family: str) -> None:
    for place in "here", "there":
        made(base / place, family)
        set_auth(base / place, "first", "", "f")
    set_auth(base / "here", "one", "", "1")


def export(base: Path, source: str = "here", target: str = "there", name: str = "one") -> None:
    to = address(base / target)
    with closing(released(base / source)) as system:
        questions.export(system, name, to, str(base / "bundle"))


def receive(base: Path, target: str = "there", name: str | None = None) -> None:
    with closing(released(base / target)) as system:
        questions.receive(system, str(base / "bundle"), name)


def move(base: Path, family: str, ack: Ack) -> None:
    export(base)
    ack("exported")
    receive(base)
    ack("imported")


def look_move(base: Path, told: set[str], family: str) -> str:
    here, there = (why_not(base / place, "one") for place in ("here", "there"))
    assert here or there, "it lives in two places"
    if not here:
        assert not told
        found = "here"
        if (base / "bundle").exists():
            with pytest.raises(StateError):
                receive(base)
        export(base)
        receive(base)
    elif not there:
        found = "there"
    else:
        found = "on its way"
        assert "has moved to another manager" in here
        if (base / "bundle").exists():
            found = "in its bundle"
        else:
            assert not told
            export(base)
        assert "imported" not in told
        receive(base)
    assert auth(base / "there", "one", "1") == "1"
    assert "has moved to another manager" in why_not(base / "here", "one")
    for place in "here", "there":
        good(base / place)
    return found


def away(base: Path, family: str) -> None:
    """It has moved, was used, and is in a bundle for where it was before."""
    two_places(base, family)
    export(base)
    receive(base)
    set_auth(base / "there", "one", "1", "2")
    export(base, "there", "here")


def come_back(base: Path, family: str, ack: Ack) -> None:
    receive(base, "here")
    ack("imported")


def come_back_as_another(base: Path, family: str, ack: Ack) -> None:
    receive(base, "here", "other")
    ack("imported")


def look_back(base: Path, told: set[str], family: str, name: str = "one") -> str:
    why, found = why_not(base / "here", name), "imported"
    if why:
        found = "once more"
        assert not told
    receive(base, "here", None if name == "one" else name)  # Once more, or as the first time.
    assert auth(base / "here", name, "2") == "2"
    for place in "here", "there":
        good(base / place)
    assert "has moved to another manager" in why_not(base / "there", "one")
    return found


# What is made and changed in the store only


def a_group(base: Path, family: str) -> None:
    two_vtpms(base, family)
    (base / "saa").write_bytes(pem.rsa_public(Saa(family).modulus))
    with closing(released(base / "s")) as system, system.manager.change() as work:
        work.put_group(0, Group(b"f" * 16, Saa(family).modulus))
        work.new_group(Group(b"g" * 16, Saa(family).modulus))
        work.put_vtpm(VTPM, Vtpm(), 1)


def numbers(base: Path) -> tuple[int | None, int | None, list[int]]:
    """Return the groups of the vTPMs two and VTPM, and all groups there are."""
    good(base / "s")
    with closing(released(base / "s")) as system:
        two = system.state.guest("two")[0]
        return system.manager.find(two), system.manager.find(VTPM), system.manager.groups()


def edit_all(base: Path, family: str, ack: Ack) -> None:
    with closing(released(base / "s")) as system:
        groups = system.service.answers.groups
        groups.new(b"l" * 20, Saa(family).modulus)
        ack("group new")
        questions.new(system, 1, str(NEW))
        ack("new")
        questions.edit(system, "two", 1)
        ack("edit")
        questions.edit(system, "two", 0)
        ack("edit back")
        groups.delete(1, lambda uuid: False)
        ack("group delete")


def look_edit_all(base: Path, told: set[str], family: str) -> str:
    two, there, groups = numbers(base)
    with closing(released(base / "s")) as system:
        new = system.manager.find(NEW)
    states = [(0, 1, None, [0, 1]), (0, 1, None, [0, 1, 2]), (0, 1, 1, [0, 1, 2]), (1, 1, 1, [0, 1, 2]),
              (0, 1, 1, [0, 1, 2]), (0, None, None, [0, 2])]
    found = two, there, new, groups
    assert found in states[len(told) : len(told) + 2], f"{found} after {told}"
    done = states.index(found, len(told))
    assert auth(base / "s", "two", "1") == "1"
    return f"{done}"


def to_edit(base: Path, family: str) -> dict[str, list[str]]:
    path = base / "s"
    return {"group new": manage(path, "group", "new", "--saa", base / "saa", "--aik", base / "aik",
                                "--evidence", base / "evidence"),
            "new": manage(path, "vtpm", "new", "--group", 1, "--uuid", NEW),
            "edit": manage(path, "vtpm", "edit", "two", "--group", 1),
            "edit back": manage(path, "vtpm", "edit", "two", "--group", 0),
            "group delete": manage(path, "group", "delete", "--yes", 1)}


def to_move(base: Path, family: str) -> dict[str, list[str]]:
    return {"exported": manage(base / "here", "vtpm", "export", "one", "--to", address(base / "there"),
                               base / "bundle"),
            "imported": manage(base / "there", "vtpm", "import", base / "bundle")}


SCENARIOS: Final = {
    "init": Scenario(
        lambda base, family: None, init, look_init,
        lambda base, family: {"made": manage(
            base / "above" / "s", "init", "--chip", family, "--pcrs", "0-7,12", "--administrator", "none")}),
    "first runs": Scenario(lambda base, family: None, first_runs, look_first_runs),
    "go on": Scenario(two_vtpms, go_on, look_go_on),
    "edit": Scenario(a_group, edit_all, look_edit_all, to_edit),
    "delete": Scenario(
        two_vtpms, delete, look_delete,
        lambda base, family: {"deleted": manage(base / "s", "vtpm", "delete", "--yes", "two")}),
    "accept": Scenario(
        old_state, accept, look_accept,
        lambda base, family: {"accepted": manage(base / "s", "vtpm", "accept-rollback", "--yes", "one")}),
    "backup": Scenario(
        two_vtpms, backup, look_backup,
        lambda base, family: {"made": manage(base / "s", "backup", base / "backup")}),
    "restore": Scenario(one_backup, put_back, look_restore, to_restore),
    "restore with an old chip": Scenario(
        backup_and_old_chip, put_back, look_restore_with_old_chip, to_restore),
    "restore of all": Scenario(backup_and_nothing_else, put_back, look_restore_of_all, to_restore),
    "move": Scenario(two_places, move, look_move, to_move),
    "come back": Scenario(
        away, come_back, look_back,
        lambda base, family: {"imported": manage(base / "here", "vtpm", "import", base / "bundle")}),
    "come back as another": Scenario(
        away, come_back_as_another, lambda base, told, family: look_back(base, told, family, "other"),
        lambda base, family: {"imported": manage(
            base / "here", "vtpm", "import", "--name", "other", base / "bundle")}),
}
