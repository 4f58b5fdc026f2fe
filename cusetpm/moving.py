"""A vTPM leaves one state directory and goes on in another (`manager.moving`)."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import UUID

from cusetpm.daemon import System
from cusetpm.records import seal, truth
from hwtpm.crypto import aead
from hwtpm.errors import StateError
from hwtpm.slots import Slots, sync_directory, write_whole
from manager import moving
from manager.model import ROOT

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def export(system: System, name: str, target: bytes) -> bytes:
    """Return the vTPM *name* of the released *system* as a bundle for the manager with the address *target*.

    It is not started here any more.  StateError, one line for people, if it runs, or as `moving.send` says.
    """
    uuid, path = system.stopped(name)

    def state(known: bytes) -> tuple[bytes, bytes]:
        with closing(Slots(path)) as slots:
            record = truth(slots, known, uuid)
        assert record is not None
        # Nobody here has the key of what the vTPM does over there.
        sent, octets = seal(record.snapshot, 0, record.number + 1, os.urandom(aead.KEY_SIZE), uuid)
        return sent.kept, octets

    return moving.send(system.manager, uuid, target, name, state, os.urandom)


def receive(system: System, bundle: bytes, name: str | None = None, group: int = ROOT,
            sender: bytes | None = None) -> tuple[str, UUID]:
    """The vTPM in *bundle* is one of the released *system*, as *name*, or as it was called; return both.

    An import that was cut short is completed by the same bundle.  StateError, one line for people, if there
    is a vTPM of that name, or as `moving.receive` says.
    """
    arrived = moving.look(system.manager, bundle, sender)
    called = name or arrived.name
    if not _NAME.fullmatch(called):
        raise StateError(f"{called!r} is no name for a vTPM; give another one")
    base, home = system.state.path, system.state.path / "guests" / called
    if home.exists() and system.state.guest(called)[0] != arrived.uuid:
        raise StateError(f"{base}: there is a vTPM {called} already; give another name")
    before = system.state.names().get(arrived.uuid)
    if before is not None:
        system.stopped(before)
    arriving = base / "arriving"
    _write(arriving, arrived)
    moving.receive(system.manager, bundle, group, sender)
    # What is there of a vTPM that comes back, under whatever name, is old, and is removed only when the
    # manager has it again.
    system.state.remove_guest(arrived.uuid)
    home.parent.mkdir(mode=0o700, exist_ok=True)
    arriving.rename(home)
    for changed in home.parent, base:
        sync_directory(changed)
    return called, arrived.uuid


def _write(directory: Path, arrived: moving.Arrived) -> None:
    """*directory* holds what belongs to a vTPM, durably, and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    write_whole(directory / "uuid", f"{arrived.uuid}\n".encode())
    with closing(Slots(directory / "state")) as slots:
        slots.write(0, arrived.state)
