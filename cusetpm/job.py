"""One command with a TPM of its own: what `cusetpm run` does."""

from __future__ import annotations

import gc
import logging
import os
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cusetpm import administration, sysfs
from cusetpm import tcsd as trousers
from cusetpm.command import FORWARDED, spawn, wait
from cusetpm.daemon import Device, System
from cusetpm.devices import rawsocket
from cusetpm.devices.streams import UnixEndpoint
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.swtpm.server import CTRL, Located, serve_control
from cusetpm.frontend import FrontEnd, choose
from cusetpm.processes import occupy_standard_files
from cusetpm.rundir import RunDirectory, mend
from hwtpm.errors import StateError, TpmError
from hwtpm.family import family

log = logging.getLogger(__name__)

_SOCKET = "tpm0.sock"
_MANAGED_SOCKET = "tpmrm0.sock"


def run(command: tuple[str, ...], *, front_end: str, startup: str, state_dir: Path | None,
        seed: bytes | None, tpm: str = "2.0", chip: str | None = None, private_dev: bool = True,
        tcsd: bool = False, bare: bool = False, hwinitpcr: bytes = bytes(3),
        boot_hash: bool = False, label: str = "") -> int:
    """Return the exit status of *command*, which had a TPM while it ran; nothing of it is left behind.

    *front_end* is "auto", "cuse", "fuse", "socket" or "vtpmx"; *startup* "clear", "state" or "none"; *tpm*
    the family, "2.0" or "1.2", and *chip* that of the chip that guards its state; *tcsd* says that a TPM 1.2
    gets a tcsd, *bare* that a new one is as `Guest` says, *hwinitpcr* and *boot_hash* what its PCRs begin
    with (`cusetpm.parent`), and *label* tells the manager what it runs.  With *private_dev*, COMMAND finds
    the devices as /dev/tpm0 and /dev/tpmrm0 where the system allows it.  Raises CannotExecute, StateError
    and ProtocolError, one line for people, when there can be no TPM, and OSError for everything else that the
    system refuses.
    """
    # The main thread alone takes these, one at a time, so that teardown is never interrupted half-way.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    occupy_standard_files()
    with ExitStack() as stack:
        mend()
        home = stack.enter_context(RunDirectory(f"{_SOCKET}{CTRL}"))
        system = System(state_dir or home.path / "state", scratch=home.path, chip=chip)
        stack.callback(system.close)
        device = system.add_guest("tpm0", seed, tpm=tpm, bare=bare, label=label, hwinitpcr=hwinitpcr,
                                  boot_hash=boot_hash)
        if startup != "none":
            _start_up(device, startup)
        control = Control(device)
        located = Located(control, device)
        socket = rawsocket.RawSocket(home.path / _SOCKET, located)
        # Who finds the one looks for the other, beside it.
        stack.callback(serve_control(control, UnixEndpoint(f"{socket.path}{CTRL}")).stop)
        socket.start()
        stack.callback(socket.stop)
        managed_path = None
        if device.manager is not None:
            managed = rawsocket.ManagedSocket(home.path / _MANAGED_SOCKET, device.manager)
            socket.heeds = managed
            managed.start()
            stack.callback(managed.stop)
            managed_path = managed.path
        lists = {"CUSETPM_IMA_LIST": home.path / "ima", "CUSETPM_EVENT_LOG": home.path / "eventlog"}
        # What is looked at in a space of its own moves nothing of anybody.
        look = device.execute if device.manager is None else device.manager.open().execute
        sys = partial(sysfs.tree, look, device.family, device.abort, *lists.values())
        served = stack.enter_context(choose(front_end, located, device.manager, control, home,
                                            socket.path, sys, device.accept))
        log.info("front end: %s", served.why)
        # What start-up made stays for good; collections need not look at it again.
        gc.freeze()
        environment = {**os.environ, **_environment(served, socket.path, managed_path),
                       **{name: str(path) for name, path in lists.items()}}
        # A signal that came by now found no COMMAND to be passed on to, and shall not start one.
        ending = [s for s in FORWARDED if signal.getsignal(s) is not signal.SIG_IGN]
        if early := signal.sigtimedwait(ending, 0):
            return 128 + early.si_signo
        device.accept()
        if state_dir is not None:
            stack.enter_context(administration.serving(system, home.path))
        if tcsd:
            home.path.chmod(0o711)  # tcsd's user has to reach its own directory in this one
            keys = system.state.stored_keys("tpm0") if state_dir is not None else None
            environment |= stack.enter_context(trousers.running(home.path / "tcsd", socket.path, keys))
        before = signal.sigpending()
        status = wait(spawn(command, environment, _in_dev(served) if private_dev else {}), before)
        log.info("%s", ", ".join(f"{n} {what}" for what, n in system.counts().items()))
    return status


def _start_up(device: Device, kind: str) -> None:
    try:
        device.start_up(kind)
    except TpmError as error:
        hint = "; there is no saved state to resume, use --startup clear" if kind == "state" else ""
        raise StateError(f"the TPM refuses Startup({kind.upper()}): "
                         f"{family(device.family).rc_name(error.rc)}{hint}") from error


def _environment(served: FrontEnd, socket_path: str, managed_path: str | None) -> dict[str, str]:
    """Return what COMMAND and the usual tools read.

    As on a machine with a TPM, tools that look for the resource manager's device first are given that.  IBM's
    are not: each of them is a process that finds the objects of the one before.  A TPM 1.2 has no resource
    manager; of its tools, only tcsd opens a device.
    """
    found = {"CUSETPM_SOCKET": socket_path, "CUSETPM_CTRL": f"{socket_path}{CTRL}"}
    if served.device is not None:
        found["CUSETPM_DEVICE"] = found["TPM_DEVICE"] = served.device
        found["TPM_INTERFACE_TYPE"] = "dev"
    if served.sys is not None:
        found["CUSETPM_SYSFS"] = served.sys
    if managed_path is None:
        return found
    found["CUSETPM_RM_SOCKET"] = managed_path
    if served.managed is not None:
        found["CUSETPM_RM_DEVICE"] = found["SYSTEMD_TPM2_DEVICE"] = served.managed
        tcti = f"device:{served.managed}"
    else:
        tcti = rawsocket.tcti(managed_path)
    for name in ("TPM2TOOLS_TCTI", "TPM2OPENSSL_TCTI", "TPM2_PKCS11_TCTI"):
        found[name] = tcti
    return found


def _in_dev(served: FrontEnd) -> dict[str, str]:
    """Return the paths of the devices by the names in /dev that tools look for; empty if they have them."""
    found = {"tpm0": served.device, "tpmrm0": served.managed}
    devices = {name: path for name, path in found.items() if path is not None}
    return {} if all(path == f"/dev/{name}" for name, path in devices.items()) else devices
