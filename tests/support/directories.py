"""State directories that are used again and again: vTPMs in them by the owner's authorization value."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path

from cusetpm.administration import initialise
from cusetpm.backup import check
from cusetpm.daemon import Device, System
from cusetpm.settings import Settings
from hwtpm.client import Client, Password
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from manager import moving


def open_at(path: Path) -> closing[System]:
    return closing(System(path, lambda: 0))


def released(path: Path) -> System:
    """Return the system of a directory as administrators have it."""
    system = System(path, lambda: 0)
    try:
        system.release()
    except BaseException:
        system.close()
        raise
    return system


def made(path: Path, family: str) -> None:
    initialise(path, Settings(chip=family, administrator="none"))


def start(system: System, name: str) -> Device:
    device = system.add_guest(name)
    device.start_up("clear")
    return device


def change(device: Device, old: str, new: str) -> None:
    """Change the owner's authorization value from *old* to *new*."""
    Client(device.execute, os.urandom).run(
        HierarchyChangeAuth(TPM_RH_OWNER, new.encode()), Password(old.encode()))


def auth(path: Path, name: str, *wanted: str) -> str:
    """Start the vTPM, and return which of *wanted* is the owner's authorization value."""
    with open_at(path) as system:
        device = start(system, name)
        for each in wanted:
            with suppress(TpmError):
                change(device, each, each)
                return each
    raise AssertionError(f"{path}: {name}: none of {wanted}")


def set_auth(path: Path, name: str, old: str, new: str) -> None:
    with open_at(path) as system:
        change(start(system, name), old, new)


def why_not(path: Path, name: str) -> str:
    """Return why the vTPM cannot be started, "" if it can."""
    try:
        with open_at(path) as system:
            if name not in system.state.names().values():
                return "there is none"
            start(system, name)
    except StateError as error:
        return str(error)
    return ""


def good(path: Path) -> None:
    """Nothing is damaged, and no vTPM is there twice."""
    with closing(released(path)) as system:
        assert check(system) == []
        found = [uuid.read_text() for uuid in path.glob("guests/*/uuid")]
        assert len(set(found)) == len(found)


def address(path: Path) -> str:
    with open_at(path) as system:
        return moving.address(system.manager).hex()


def manage(path: Path, *words: object) -> list[str]:
    return ["manager", "--state-dir", *map(str, (path, *words))]


def two_vtpms(base: Path, family: str) -> None:
    made(base / "s", family)
    for name in "one", "two":
        set_auth(base / "s", name, "", "1")
