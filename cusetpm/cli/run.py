"""`cusetpm run`: a TPM for one command."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from cusetpm.cli.failure import Failure, NotExecutable, NotFound
from cusetpm.daemon import Device, System
from cusetpm.devices import rawsocket
from cusetpm.frontend import FrontEnd, choose
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR, TPM_SU_STATE, rc_name

log = logging.getLogger(__name__)

_STARTUP = {"clear": TPM_SU_CLEAR, "state": TPM_SU_STATE}
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SI_USER, _SI_TKILL, _SI_QUEUE = 0, -6, -1  # si_code of a signal that a process sent, not the terminal


class _Hex(click.ParamType[bytes]):
    name = "hex"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            seed = bytes.fromhex(value)
        except ValueError:
            self.fail(f"{value!r} is not hexadecimal", param, ctx)
        if not seed:
            self.fail("an empty seed", param, ctx)
        return seed


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--tpm", type=click.Choice(["2.0"]), default="2.0", show_default=True, help="TPM family.")
@click.option("--front-end", type=click.Choice(["auto", "cuse", "fuse", "socket"]), default="auto",
              show_default=True, help="How COMMAND reaches the TPM; auto takes the best there is.")
@click.option("--startup", type=click.Choice(["clear", "state", "none"]), default="clear", show_default=True,
              help="The TPM2_Startup that is sent first, as firmware would.")
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path),
              help="Keep the TPM's state here; without it the TPM is gone with COMMAND.")
@click.option("--seed", type=_Hex(), metavar="HEX",
              help="Make a new TPM's primary seeds from this, so that its keys can be repeated.")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is done and why.")
@click.argument("command", metavar="COMMAND [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(tpm: str, front_end: str, startup: str, state_dir: Path | None, seed: bytes | None, verbose: bool,
            command: tuple[str, ...]) -> int:
    """Run COMMAND with a TPM of its own; the exit status is COMMAND's.

    COMMAND finds the TPM through CUSETPM_DEVICE (a device file) and CUSETPM_SOCKET (a unix socket with raw
    commands); tpm2-tools, tpm2-openssl, tpm2-pkcs11, IBM's TSS and systemd find it by themselves.  Status 125
    means that cusetpm itself failed, 126 that COMMAND cannot be executed, 127 that there is none.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="cusetpm: %(message)s")
    if not verbose:
        logging.getLogger().handlers[0].setFormatter(_OneLine("cusetpm: %(message)s"))
    if shutil.which(command[0]) is None and os.sep not in command[0]:
        raise NotFound(f"{command[0]}: command not found")
    # The main thread alone takes these, one at a time, so that teardown is never interrupted half-way.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    with ExitStack() as stack:
        try:
            home = stack.enter_context(_Home())
            system = System(state_dir or home.path / "state")
            stack.callback(system.close)
            device = system.add_guest("tpm0", seed)
            if startup != "none":
                _start_up(device, startup)
            socket = rawsocket.RawSocket(home.path / "tpm0.sock", device)
            socket.start()
            stack.callback(socket.stop)
            served = stack.enter_context(choose(front_end, device, home.path, socket.path))
        except (StateError, ProtocolError) as error:
            raise Failure(str(error)) from error
        except OSError as error:
            raise Failure(_os_error(error)) from error
        log.info("front end: %s", served.why)
        status = _wait(_spawn(command, {**os.environ, **_environment(served, socket.path)}))
        log.info("%s", ", ".join(f"{n} {what}" for what, n in system.counts().items()))
    return status


class _OneLine(logging.Formatter):
    """Leaves tracebacks to --verbose."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage().join(("cusetpm: ", ""))


class _Home:
    """A directory of this run alone, in memory where the machine has such a place; gone at the end."""

    def __enter__(self) -> _Home:
        places = (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm", None)  # noqa: S108 (mkdtemp makes a private one)
        base = next((p for p in places if p is None or os.access(p, os.W_OK | os.X_OK)), None)
        self.path = Path(tempfile.mkdtemp(prefix="cusetpm-", dir=base))
        return self

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.path)


def _start_up(device: Device, kind: str) -> None:
    try:
        device.start_up(_STARTUP[kind])
    except TpmError as error:
        hint = "; there is no saved state to resume, use --startup clear" if kind == "state" else ""
        raise StateError(f"the TPM refuses Startup({kind.upper()}): {rc_name(error.rc)}{hint}") from error


def _environment(served: FrontEnd, socket_path: str) -> dict[str, str]:
    """Return what COMMAND and the usual tools read."""
    found = {"CUSETPM_SOCKET": socket_path}
    if served.device is not None:
        found["CUSETPM_DEVICE"] = found["TPM_DEVICE"] = found["SYSTEMD_TPM2_DEVICE"] = served.device
        found["TPM_INTERFACE_TYPE"] = "dev"
        tcti = f"device:{served.device}"
    else:
        tcti = rawsocket.tcti(socket_path)
    for name in ("TPM2TOOLS_TCTI", "TPM2OPENSSL_TCTI", "TPM2_PKCS11_TCTI"):
        found[name] = tcti
    return found


def _spawn(command: tuple[str, ...], environment: dict[str, str]) -> int:
    sys.stdout.flush()
    try:
        return os.posix_spawnp(command[0], command, environment, setsigmask=[])
    except FileNotFoundError:
        raise NotFound(f"{command[0]}: command not found") from None
    except OSError as error:
        raise NotExecutable(f"{command[0]}: {error.strerror}") from None


def _wait(pid: int) -> int:
    """Return the exit status of *pid*; signals that a process sends to this one are passed on to it.

    What the terminal sends reaches COMMAND by itself.
    """
    while True:
        info = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            if info.si_code in (_SI_USER, _SI_TKILL, _SI_QUEUE):
                os.kill(pid, info.si_signo)
            continue
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _os_error(error: OSError) -> str:
    """Return *error* in one line: the file, then what is wrong with it."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"
