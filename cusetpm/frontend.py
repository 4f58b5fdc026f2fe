"""Chooses how a guest's devices are shown: CUSE, else a FUSE directory, else sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from cusetpm.devices.cuse.device import CuseDevice
from cusetpm.devices.files import Entry
from cusetpm.devices.fusedir import FuseDirectory
from cusetpm.devices.fusefile import FuseFile
from cusetpm.devices.fusemount import Mounter
from cusetpm.devices.node import free_number
from cusetpm.devices.session import AnyDevice, Device, SharedDevice
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.vtpmx.device import VtpmxDevice
from cusetpm.rundir import RunDirectory
from cusetpm.transport import Spaces, Transport

_ORDER = ("cuse", "fuse", "socket")


class FrontEnd(NamedTuple):
    """A front end that serves: its device files, if it has them, and why it was taken.

    *managed* is the file of the resource manager; a TPM 1.2 has none.  *sys* is a directory that stands for
    /sys, if there is one.
    """

    kind: str
    device: str | None
    managed: str | None
    sys: str | None
    why: str


@contextmanager
def choose(
    kind: str, transport: Transport, spaces: Spaces | None, control: Control, home: RunDirectory,
    socket_path: str, sys: Callable[[], Mapping[str, Entry]], accept: Callable[[], None],
) -> Iterator[FrontEnd]:
    """Serve *transport* by front end *kind* ("auto" takes the first of cuse, fuse, socket that works).

    With *spaces*, there is a device of the resource manager beside it.  A character device has ioctls for
    *control*.  Through FUSE they are in dev of *home*, each file a mount, beside sys, a directory with what
    *sys* returns.  *socket_path* is where the raw socket is served already, which is all that "socket" needs.
    "vtpmx" is a chip of the kernel's, which brings its own resource manager and sends the first commands
    itself: *accept* is called before.
    Raises OSError when the kind asked for cannot be had, and what *accept* raises.
    """
    devices: dict[str, AnyDevice] = {"tpm": Device(transport)}
    if spaces is not None:
        devices["tpmrm"] = SharedDevice(spaces)
    refused: list[str] = []
    for candidate in _ORDER if kind == "auto" else (kind,):
        if candidate == "socket":
            yield FrontEnd("socket", None, None, None, _why(f"socket {socket_path}", refused))
            return
        with ExitStack() as stack:
            try:
                if candidate == "cuse":
                    paths = _cuse(stack, devices, control, home)
                elif candidate == "vtpmx":
                    paths = _vtpmx(stack, control, home, accept)
                else:
                    paths = _fuse(stack, devices, home, sys())
            except OSError as error:
                if kind != "auto":
                    raise
                refused.append(": ".join(filter(None, (candidate, error.filename, error.strerror))))
                continue
            why = _why(" ".join((candidate, *paths.values())), refused)
            yield FrontEnd(candidate, paths["tpm"], paths.get("tpmrm"), paths.get("sys"), why)
        return


def _cuse(
    stack: ExitStack, devices: dict[str, AnyDevice], control: Control, home: RunDirectory
) -> dict[str, str]:
    while True:
        number = free_number()
        paths = {}
        with ExitStack() as started:
            try:
                for name, device in devices.items():
                    # The resource manager's users share the TPM: none of them has its power and state.
                    served = CuseDevice(f"{name}{number}", device, note_node=home.note_node,
                                        control=control if name == "tpm" else None)
                    served.start()
                    started.callback(served.stop)
                    paths[name] = served.path
            except FileExistsError:
                if free_number() == number:
                    raise
                continue  # Another process has taken the number in between.
            stack.push(started.pop_all())
            return paths


def _fuse(
    stack: ExitStack, devices: dict[str, AnyDevice], home: RunDirectory, sys: Mapping[str, Entry]
) -> dict[str, str]:
    # Who sees a file before something is mounted on it would use the wrong one: all of it appears at once.
    hidden, directory = home.path / ".dev", home.path / "dev"
    hidden.mkdir(mode=0o700)
    mounter = Mounter()
    stack.callback(mounter.close)
    files = {name: FuseFile(hidden / f"{name}0", device, mounter) for name, device in devices.items()}
    files["tpm"].heeds = files.get("tpmrm")
    for file in files.values():
        Path(file.path).touch(mode=0o600)
        file.start()
        stack.callback(file.stop)
    place = hidden / "sys"
    place.mkdir(mode=0o700)
    shown = FuseDirectory(place, sys, mounter)
    shown.start()
    stack.callback(shown.stop)
    hidden.rename(directory)
    stack.callback(directory.rename, hidden)
    seen = {**{name: file.shown for name, file in files.items()}, "sys": shown.shown}
    return {name: str(Path(path).parent.with_name("dev") / Path(path).name) for name, path in seen.items()}


def _vtpmx(
    stack: ExitStack, control: Control, home: RunDirectory, accept: Callable[[], None]
) -> dict[str, str]:
    served = VtpmxDevice(control, home.note_node)
    stack.callback(served.stop)
    served.create()
    accept()
    served.start()
    return {**served.paths, "sys": "/sys"}


def _why(taken: str, refused: list[str]) -> str:
    return f"{taken} ({'; '.join(refused)})" if refused else taken
