"""The answers of a state directory's administrator to what Xen's protocol has no ordinal for.

Each is a function of the system and of arguments that JSON can carry, and returns what JSON can carry.  What
goes wrong is a StateError, one line for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cusetpm.accepting import accept as take_back
from cusetpm.backup import backup as save
from cusetpm.backup import check as look
from cusetpm.daemon import System
from cusetpm.moving import export as send
from cusetpm.moving import receive as take
from cusetpm.settings import pcr_spec
from hwtpm.errors import StateError
from hwtpm.slots import write_whole
from hwtpm.wire import decode, encode
from manager import moving, requests
from manager.groups import cfg_list
from manager.model import ADMIN, MOVED
from manager.refused import Refused
from manager.vtpms import Connection


def show(system: System) -> dict[str, Any]:
    """Return what the manager has, and how it is set."""
    manager, settings = system.manager, system.settings
    groups = manager.groups()
    return {
        "store": str(system.state.manager), "chip": f"TPM {settings.chip}", "driver": settings.driver,
        "locality": settings.locality, "pcrs": pcr_spec(manager.seals(0)[0].pcrs),
        "configurations": len(manager.seals(0)), "groups": len(groups),
        "vtpms": sum(len(manager.vtpms(number)) for number in groups),
        "auto_create": settings.auto_create, "administrator": settings.administrator,
        "quote_pcrs": settings.quote_pcrs, "extern_data": settings.extern_data,
        "accepted": manager.accepted, "address": moving.address(manager).hex(),
    }


def meaning(system: System) -> dict[str, str]:
    """Return what a verifier has to know of the manager, whether its store is open or not."""
    settings = system.settings
    return {"chip": f"TPM {settings.chip}", "quote_pcrs": settings.quote_pcrs,
            "extern_data": settings.extern_data}


def groups(system: System) -> list[dict[str, Any]]:
    """Return all groups."""
    return [group(system, index) for index in range(len(system.manager.groups()))]


def group(system: System, index: int) -> dict[str, Any]:
    """Return the group with that index in the list."""
    number = _group_number(system, index)
    found, closed = system.manager.group(number), system.manager.closed(number)
    return {
        "group": index, "uuid": str(UUID(bytes=found.uuid)), "vtpms": len(system.manager.vtpms(number)),
        "sequence": found.sequence, "state": "closed" if closed else "open",
        "why": str(closed) if closed else "", "saa": found.saa.hex(), "registered": bool(found.registered),
        "platforms": [f"{pcr_spec(p.pcrs)}:{p.digest.hex()}" for p in found.platforms],
        "kernels": [kernel.hex() for kernel in found.kernels],
        "cfg_list": cfg_list(found).octets(system.settings.chip).hex(),
    }


def platform(system: System, pcrs: str) -> dict[str, str]:
    """Return the configuration of the machine as it is: *pcrs* is a bit map in hexadecimal."""
    with system.service.answers.use.conversation() as chip:
        found = chip.platform(bytes.fromhex(pcrs))
    return {"pcrs": pcr_spec(found.pcrs), "digest": found.digest.hex()}


def vtpms(system: System, group: int | None = None) -> list[dict[str, Any]]:
    """Return all vTPMs, or those of the group with that index, in the order of their creation."""
    manager = system.manager
    indices = range(len(manager.groups())) if group is None else [group]
    names = system.state.names()
    return [_vtpm(system, uuid, index, names) for index in indices
            for uuid in manager.vtpms(_group_number(system, index))]


def vtpm(system: System, name: str) -> dict[str, Any]:
    """Return the vTPM *name*, which is a guest's name or a UUID."""
    uuid, index = _find(system, name)
    return _vtpm(system, uuid, index, system.state.names())


def new(system: System, group: int = 0, uuid: str | None = None) -> dict[str, Any]:
    """There is one more vTPM in the group; it is returned."""
    with _plain():
        made = system.service.vtpms.new(group, UUID(uuid) if uuid else None)
    return vtpm(system, str(made))


def edit(system: System, name: str, group: int | None = None, admin: bool | None = None,
         kernel: str | None = None) -> dict[str, Any]:
    """The vTPM is as it was but for what is given; it is returned."""
    uuid, index = _find(system, name)
    with _plain():
        shown = system.service.vtpms.show(uuid)
        flags = shown.flags & ADMIN if admin is None else ADMIN * admin
        system.service.vtpms.edit(uuid, index if group is None else group, flags,
                                  shown.kernel if kernel is None else bytes.fromhex(kernel))
    return vtpm(system, name)


def delete(system: System, name: str) -> None:
    """The vTPM is gone, with its key, and the guest's state that the key opened.

    A deletion that was cut short is completed.
    """
    uuid = _uuid(system, name)
    if system.manager.find(uuid) is not None:
        with _plain():
            system.service.vtpms.delete(uuid)
    elif (left := system.state.names().get(uuid)) is not None:
        system.stopped(left)
    else:
        raise StateError(f"there is no vTPM {name}")
    system.state.remove_guest(uuid)


def quote(system: System, name: str, request: str, label: str = "") -> str:
    """Return the response, in hexadecimal, to the GET_QUOTE *request* of the vTPM *name*.

    A vTPM that does not run is opened for it, by a guest with that *label*.
    """
    uuid, _ = _find(system, name)
    asked = decode(requests.GetQuote, bytes.fromhex(request))
    with _plain():
        connection, opened = system.service.vtpms.connection(uuid), False
        if connection is None:
            connection, opened = Connection(uuid, f"vTPM {name}", label), True
            system.service.vtpms.load(connection)
        try:
            answer = system.service.answers.answer(connection, asked)
        finally:
            if opened:
                system.service.vtpms.leave(connection)
    return encode(answer).hex()


def export(system: System, name: str, target: str, path: str) -> None:
    """The vTPM is in the file *path*, for the manager with the address *target*, and not to be used here."""
    bundle = send(system, name, bytes.fromhex(target))
    write_whole(Path(path), bundle)


def receive(system: System, path: str, name: str | None = None, group: int = 0,
            sender: str | None = None) -> dict[str, Any]:
    """The vTPM in the file *path* is one of ours; it is returned."""
    _, uuid = take(system, Path(path).read_bytes(), name, _group_number(system, group),
                   bytes.fromhex(sender) if sender else None)
    return vtpm(system, str(uuid))


def accept(system: System, name: str) -> str:
    """The old copy that was put back is the vTPM's state; return what was accepted."""
    return take_back(system, name)


def check(system: System) -> list[str]:
    """Return a line for everything that is damaged."""
    return look(system, system.progress)


def backup(system: System, target: str) -> int:
    """There is a backup at the path *target*; return how many vTPMs are in it."""
    return save(system, Path(target), system.progress)


QUESTIONS: Final[dict[str, Callable[..., Any]]] = {
    question.__name__: question
    for question in (show, meaning, groups, group, platform, vtpms, vtpm, new, edit, delete, quote, export,
                     receive, accept, check, backup)}


def _vtpm(system: System, uuid: UUID, index: int, names: dict[UUID, str]) -> dict[str, Any]:
    found = {"uuid": str(uuid), "name": names.get(uuid, ""), "group": index, "kernel": "", "admin": False}
    if system.manager.closed(_group_number(system, index)):
        return {**found, "state": "closed"}
    kept = system.manager.vtpm(uuid)
    state = "moved" if kept.flags & MOVED else "new" if not kept.hash_key else "stopped"
    if system.service.vtpms.is_open(uuid):
        state = "running"
    return {**found, "state": state, "kernel": kept.kernel.hex(), "admin": bool(kept.flags & ADMIN)}


def _find(system: System, name: str) -> tuple[UUID, int]:
    """Return the UUID of the vTPM and the index of its group."""
    uuid = _uuid(system, name)
    number = system.manager.find(uuid)
    if number is None:
        raise StateError(f"there is no vTPM {name}")
    return uuid, system.manager.groups().index(number)


def _uuid(system: System, name: str) -> UUID:
    """Return the UUID that *name* stands for, or is."""
    uuid = next((uuid for uuid, known in system.state.names().items() if known == name), None)
    if uuid is None:
        try:
            uuid = UUID(name)
        except ValueError:
            raise StateError(f"there is no vTPM {name}") from None
    return uuid


def _group_number(system: System, index: int) -> int:
    numbers = system.manager.groups()
    if not 0 <= index < len(numbers):
        raise StateError(f"there is no group {index}")
    return numbers[index]


@contextmanager
def _plain() -> Iterator[None]:
    """What the manager refuses is a StateError."""
    try:
        yield
    except Refused as refusal:
        raise StateError(refusal.why or f"the manager refuses with return code {refusal.code}") from None
