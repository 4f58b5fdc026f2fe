"""One vTPM behind swtpm's protocols until somebody ends it: what `cusetpm swtpm socket` and `chardev` do."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from cusetpm.daemon import Device
from cusetpm.devices.mssim.server import SimulatorServer
from cusetpm.devices.streams import Endpoint, open_socket
from cusetpm.devices.swtpm.control import Control, Policy
from cusetpm.devices.swtpm.server import ControlServer, DataServer
from cusetpm.devices.vtpmx.device import VtpmxDevice, require
from cusetpm.holder import Holder
from hwtpm.errors import StateError, TpmError
from hwtpm.family import family

GUEST: Final = "tpm0"
"""The name of the vTPM in its state directory; `cusetpm run` gives it the same."""

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Channel(NamedTuple):
    """Where a channel is: a place where clients connect, or the file descriptor of a connection."""

    place: Endpoint | int
    end_with_client: bool = False  # the program ends when a client leaves the control channel
    once: bool = False  # one command for each connection of the channel for commands


class SimulatorPorts(NamedTuple):
    """The two ports of Microsoft's simulator, instead of a channel for commands: *port* and the next one."""

    host: str
    port: int


class Settings(NamedTuple):
    """What the user asked for."""

    family: str  # "1.2" or "2.0"
    state: Path
    control: Channel | None
    data: Channel | SimulatorPorts | None
    powered: bool = False  # before the first INIT
    startup: str | None = None  # "clear" or "state": the Startup that is sent first
    policy: Policy = Policy()
    incoming: bool = False  # the storage is taken when state comes in, or power is wanted
    terminate: bool = False  # the program ends when a client leaves the channel for commands
    chip: bool = False  # the TPM, which has power from the start, is a chip of the kernel's
    pid: Path | int | None = None  # a file, or the descriptor of one, for the number of this process


def run(settings: Settings, ready: Callable[[VtpmxDevice | None], None]) -> None:
    """Serve until a client or a signal ends it; *ready* is called when every client would be answered.

    It is given the kernel's chip, if there is one.

    Raises StateError and ProtocolError, one line for people, and OSError, when it does not come to that.
    """
    # The main thread alone takes these, so that teardown is never interrupted half-way.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    if settings.chip:
        require()  # Without, nothing is to be in a new state directory.
    with ExitStack() as stack:
        holder = Holder(settings.state, GUEST, settings.family, settings.policy.keys.file)
        stack.callback(holder.close)
        device = None
        if not settings.incoming or settings.powered:
            device = holder.open(powered=settings.powered)
        if device is not None and settings.startup is not None:
            _start_up(device, settings.startup)
        control = Control(holder, settings.policy)
        stack.callback(lambda: holder.power_off(orderly=settings.policy.auto_shutdown))
        way_in = settings.data
        if isinstance(way_in, SimulatorPorts):
            simulator = SimulatorServer(control, way_in.host, way_in.port, _end,
                                        end_with_client=settings.terminate)
            simulator.start()
            stack.callback(simulator.stop)
            way_in = None
        data = DataServer(control, "data channel", once=way_in is not None and way_in.once,
                          on_gone=_end if settings.terminate else None)
        stack.callback(data.stop)
        if way_in is None and settings.data is None and not settings.chip:
            data.allow_passing()
        if settings.control is not None:
            server = ControlServer(control, "control channel", data.attach, _end,
                                   end_with_client=settings.control.end_with_client)
            stack.callback(server.stop)
            _open(server, settings.control.place)
        if way_in is not None:
            _open(data, way_in.place)
        if settings.pid is not None:
            stack.callback(_write_pid(settings.pid))
        chip = None
        if settings.chip:
            chip = VtpmxDevice(control)
            stack.callback(chip.stop)
            chip.create()
        if device is not None:
            device.accept()
        if chip is not None:
            chip.start()  # Its first commands are the kernel's.
        # What start-up made stays for good; collections need not look at it again.
        gc.freeze()
        ready(chip)
        signal.sigwait(_ENDING)


def _open(server: ControlServer | DataServer, place: Endpoint | int) -> None:
    if isinstance(place, int):
        server.adopt(open_socket(place))
    else:
        server.listen(place)


def _write_pid(where: Path | int) -> Callable[[], None]:
    """The number of this process is in *where*; return what takes it away again."""
    number = f"{os.getpid()}\n"
    if isinstance(where, int):
        os.write(where, number.encode())
        return lambda: None
    where.write_text(number)
    return lambda: where.unlink(missing_ok=True)


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _start_up(device: Device, kind: str) -> None:
    try:
        device.start_up(kind)
    except TpmError as error:
        if error.rc == family(device.family).not_started:
            return  # It was suspended, and goes on.
        why = family(device.family).rc_name(error.rc)
        raise StateError(f"the TPM refuses Startup({kind.upper()}): {why}") from error
