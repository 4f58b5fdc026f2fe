"""`cusetpm swtpm`: the command line of swtpm, as QEMU's users, libvirt and swtpm_setup write it."""

from __future__ import annotations

import json
import logging
import os
import pwd
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cusetpm.cli import keys
from cusetpm.cli.failure import Failure
from cusetpm.cli.logs import OneLine
from cusetpm.cli.suboptions import Suboptions, flag, group, mode, number, port, text, user
from cusetpm.trouble import line
from hwtpm.errors import MissingPrimitive, ProtocolError, StateError

if TYPE_CHECKING:
    from cusetpm.devices.vtpmx.device import VtpmxDevice
    from cusetpm.emulator import Channel, Settings, SimulatorPorts

log = logging.getLogger(__name__)

_EVERYTHING = 5  # the level of swtpm from which on libtpms talks, too
_ADDRESS = "127.0.0.1"
_SOCKET_MODE = 0o770  # as swtpm makes them
_FEATURES = (
    "tpm-1.2", "tpm-2.0", "tpm-send-command-header", "flags-opt-startup", "flags-opt-disable-auto-shutdown",
    "ctrl-opt-terminate", "cmdarg-seccomp", "cmdarg-key-fd", "cmdarg-pwd-fd", "cmdarg-print-states",
    "cmdarg-migration", "nvram-backend-dir", "cmdarg-print-info", "tpmstate-opt-lock",
    "tpmstate-dir-backend-opt-backup", "tpmstate-dir-backend-opt-fsync", "systemd-notify",
)

_PLACE = {"type": text, "path": text, "port": port, "bindaddr": text, "ifname": text, "fd": number,
          "mode": mode, "uid": user, "gid": group}
_CTRL = Suboptions({**_PLACE, "clientfd": number, "terminate": flag})
_SERVER = Suboptions({**_PLACE, "disconnect": flag})
_TPMSTATE = Suboptions({"dir": text, "backend-uri": text, "mode": mode, "lock": flag, "backup": flag,
                        "fsync": flag})
_LOG = Suboptions({"file": text, "fd": number, "level": number, "prefix": text, "truncate": flag})
_PID = Suboptions({"file": text, "fd": number})
_LOCALITY = Suboptions({"reject-locality-4": flag, "allow-set-locality": flag})
_FLAGS = Suboptions({"not-need-init": flag, "startup-clear": flag, "startup-state": flag,
                     "startup-none": flag, "startup-deactivated": flag, "disable-auto-shutdown": flag})
_SECCOMP = Suboptions({"action": text})
_MIGRATION = Suboptions({"incoming": flag, "release-lock-outgoing": flag})


@click.group("swtpm", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cusetpm", message="TPM emulator cusetpm, version %(version)s")
def command() -> None:
    """Be what swtpm is to QEMU and libvirt; a program `swtpm` in PATH that calls this is enough for them."""


@command.command("socket")
@click.option("--tpm2", is_flag=True, help="A TPM 2.0; without, it is a TPM 1.2.")
@click.option("--tpmstate", type=_TPMSTATE, metavar="dir=DIR",
              help="The state directory, made where it is missing; TPM_PATH names it as well.")
@click.option("--ctrl", type=_CTRL, metavar="type=unixio|tcp,…",
              help="The control channel: path=PATH[,mode=…,uid=…,gid=…], port=PORT[,bindaddr=…,ifname=…], "
                   "fd=FD of a socket that listens, or clientfd=FD of a connection; terminate: end with the "
                   "client.")
@click.option("--server", type=_SERVER, metavar="type=unixio|tcp|mssim,…",
              help="The channel for commands: as --ctrl, but fd=FD is a connection; disconnect: end a "
                   "connection after one command.  type=mssim,port=PORT: the command port of Microsoft's "
                   "simulator, and its platform port after it.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), metavar="PORT",
              help="As --server type=tcp,port=PORT,disconnect.")
@click.option("-f", "--fd", type=click.IntRange(3), metavar="FD", help="As --server type=unixio,fd=FD.")
@click.option("-t", "--terminate", is_flag=True, help="End when a client leaves the channel for commands.")
@click.option("--flags", type=_FLAGS, metavar="FLAG,…",
              help="not-need-init: have power from the start; startup-clear, startup-state: and a Startup; "
                   "disable-auto-shutdown: lose power without an orderly shutdown.")
@click.option("--locality", type=_LOCALITY, metavar="FLAG,…", help="reject-locality-4, allow-set-locality.")
@click.option("--key", type=keys.KEY, metavar="file=FILE|fd=FD|pwdfile=FILE|pwdfd=FD,…",
              help="Encrypt the state directory: format=hex|binary of a key, kdf=pbkdf2|sha512 for a "
                   "passphrase, mode=aes-cbc|aes-256-cbc, remove the file.")
@click.option("--migration-key", type=keys.KEY, metavar="file=FILE|…",
              help="Encrypt state on its way to another machine; as --key.")
@click.option("--migration", type=_MIGRATION, metavar="FLAG,…",
              help="incoming: take the storage when state comes in; release-lock-outgoing: release it when "
                   "state has gone out.")
@click.option("--log", "logging_to", type=_LOG, metavar="file=FILE|fd=FD,…",
              help="Where messages go: level=N, more from 1 on and most from 5; prefix=TEXT; truncate.")
@click.option("--pid", type=_PID, metavar="file=FILE|fd=FD",
              help="Write the process number there when ready.")
@click.option("-d", "--daemon", is_flag=True, help="Go to the background when ready.")
@click.option("-r", "--runas", metavar="USER", help="Be this user.")
@click.option("--seccomp", type=_SECCOMP, metavar="action=…", help="Accepted, and nothing is done.")
@click.option("--print-capabilities", is_flag=True, help="Print what this command line knows, as JSON.")
@click.option("--print-states", is_flag=True, help="Print which states the state directory has, as JSON.")
@click.option("--print-info", type=click.IntRange(0), metavar="FLAGS", help="Print what the TPM is, as JSON.")
def socket(**options: Any) -> None:
    """Serve a TPM on sockets, until a client or a signal ends it.

    DIR is a state directory of cusetpm's: `cusetpm run --state-dir DIR` uses the same TPM.
    """
    _run(options)


_OF_SOCKETS = ("server", "port", "fd", "terminate")


@command.command("chardev", params=[each for each in socket.params if each.name not in _OF_SOCKETS])
@click.option("--vtpm-proxy", is_flag=True, help="Be a chip of the kernel's, through /dev/vtpmx.")
def chardev(**options: Any) -> None:
    """Serve a TPM as the kernel's own /dev/tpmN, until a client or a signal ends it.

    The device is named on standard output.  It has power from the start, and is started up.  DIR is a state
    directory of cusetpm's: `cusetpm run --state-dir DIR` uses the same TPM.
    """
    printing = any(options[name] not in (None, False) for name in options if name.startswith("print_"))
    if not options["vtpm_proxy"] and not printing:
        raise click.UsageError("--vtpm-proxy is missing, the only character device that can be had here; "
                               "for one of CUSE there is cusetpm run")
    _run(options)


def _run(options: dict[str, Any]) -> None:
    if options["print_capabilities"]:
        _print_capabilities()
        return
    if options["print_info"] is not None:
        from cusetpm.devices.swtpm.info import describe

        click.echo(describe("2.0" if options["tpm2"] else "1.2", options["print_info"]))
        return
    try:
        if options["runas"] is not None:
            _become(options["runas"])
        state = _state_directory(options["tpmstate"])
        if options["print_states"]:
            _print_states(state)
            return
        _serve(options, state)
    except (StateError, ProtocolError, MissingPrimitive) as error:
        _fail(str(error), options["logging_to"])
    except OSError as error:
        _fail(line(error), options["logging_to"])


def _serve(options: dict[str, Any], state: Path) -> None:
    from cusetpm import processes

    processes.occupy_standard_files()
    _log_to(options["logging_to"] or {}, state)
    # The engine is imported for a TPM only, and by the process that serves it.
    in_background = processes.detach() if options["daemon"] else None
    from cusetpm import emulator

    def ready(chip: VtpmxDevice | None) -> None:
        if chip is not None:
            major, minor = chip.numbers
            click.echo(f"New TPM device: {chip.paths['tpm']} (major/minor = {major}/{minor})")
        processes.notify_ready()
        if in_background is not None:
            in_background()

    emulator.run(_settings(options, state), ready)


def _settings(options: dict[str, Any], state: Path) -> Settings:
    from cusetpm.devices.swtpm.blob import Keys
    from cusetpm.devices.swtpm.control import Policy
    from cusetpm.emulator import Channel, Settings

    flags, locality, migration = (options[name] or {} for name in ("flags", "locality", "migration"))
    if flags.get("startup-deactivated"):
        raise click.UsageError("--flags: startup-deactivated cannot be had")
    startup = next((kind for kind in ("clear", "state") if flags.get(f"startup-{kind}")), None)
    policy = Policy(
        auto_shutdown=not flags.get("disable-auto-shutdown", False),
        reject_locality_4=locality.get("reject-locality-4", False),
        allow_set_locality=locality.get("allow-set-locality", False),
        release_lock_outgoing=migration.get("release-lock-outgoing", False),
        keys=Keys(keys.read("--key", options["key"]), keys.read("--migration-key", options["migration_key"])),
    )
    chip = options.get("vtpm_proxy", False)
    if chip:  # As in swtpm, whatever the flags say: the kernel wants to use it.
        startup = startup or "clear"
    powered = flags.get("not-need-init", False) or startup is not None
    pid = options["pid"] or {}
    written = pid["fd"] if "fd" in pid else Path(pid["file"]) if "file" in pid else None
    data = _data(options)
    # A connection that was handed over cannot be had again.
    terminate = options.get("terminate", False) or (isinstance(data, Channel) and isinstance(data.place, int))
    return Settings("2.0" if options["tpm2"] else "1.2", state, _control(options), data, powered, startup,
                    policy, migration.get("incoming", False), terminate, chip, written)


def _control(options: dict[str, Any]) -> Channel | None:
    from cusetpm.devices.streams import InheritedEndpoint
    from cusetpm.emulator import Channel

    ctrl = options["ctrl"]
    if ctrl is None:
        return None
    if "clientfd" in ctrl:
        return Channel(ctrl["clientfd"], ctrl.get("terminate", False))
    place = InheritedEndpoint(ctrl["fd"]) if "fd" in ctrl else _endpoint("--ctrl", ctrl)
    return Channel(place, ctrl.get("terminate", False))


def _data(options: dict[str, Any]) -> Channel | SimulatorPorts | None:
    from cusetpm.devices.streams import TcpEndpoint
    from cusetpm.emulator import Channel, SimulatorPorts

    if "server" not in options:
        return None
    server = options["server"]
    if options["fd"] is not None:
        return Channel(options["fd"])
    if options["port"] is not None:
        return Channel(TcpEndpoint(_ADDRESS, options["port"]), once=True)
    if server is None:
        return None
    if server.get("type") == "mssim":
        if "port" not in server or not options["tpm2"]:
            raise click.UsageError("--server: type=mssim needs port=, and --tpm2")
        return SimulatorPorts(server.get("bindaddr", _ADDRESS), server["port"])
    once = server.get("disconnect", False)
    if "fd" in server:
        return Channel(server["fd"], once=once)
    if server.get("type", "tcp") == "tcp" and "port" not in server and "TPM_PORT" in os.environ:
        try:
            server["port"] = port(os.environ["TPM_PORT"])
        except ValueError as error:
            raise click.UsageError(f"TPM_PORT has to be {error}, not {os.environ['TPM_PORT']!r}") from None
    return Channel(_endpoint("--server", {"type": "tcp", **server}), once=once)


def _endpoint(option: str, place: dict[str, Any]) -> Any:
    from cusetpm.devices.streams import TcpEndpoint, UnixEndpoint

    kind = place.get("type")
    if kind == "unixio" and "path" in place:
        return UnixEndpoint(place["path"], place.get("mode", _SOCKET_MODE), place.get("uid", -1),
                            place.get("gid", -1))
    if kind == "tcp" and "port" in place:
        return TcpEndpoint(place.get("bindaddr", _ADDRESS), place["port"], place.get("ifname", ""))
    raise click.UsageError(f"{option}: needs type=unixio with path= or fd=, or type=tcp with port= or fd=")


def _state_directory(tpmstate: dict[str, Any] | None) -> Path:
    given = tpmstate or {}
    if "dir" in given:
        return Path(given["dir"])
    if "backend-uri" in given:
        scheme, separator, rest = given["backend-uri"].partition("://")
        if scheme != "dir" or not separator:
            raise click.UsageError(f"--tpmstate: {given['backend-uri']!r} is not dir://DIR, the only kind of "
                                   f"state there is here")
        return Path(rest)
    if path := os.environ.get("TPM_PATH"):
        return Path(path)
    raise click.UsageError("--tpmstate dir=DIR is missing")


def _print_capabilities() -> None:
    from hwtpm.tpm2.profile import RSA_KEY_BITS

    features = [*_FEATURES, *(f"rsa-keysize-{bits}" for bits in sorted(RSA_KEY_BITS))]
    click.echo(json.dumps({"type": "swtpm", "features": features, "version": metadata.version("cusetpm")}))


def _print_states(state: Path) -> None:
    """The permanent state is there once the vTPM was made; nothing is opened or locked for that."""
    from cusetpm.emulator import GUEST

    sizes = [slot.stat().st_size for slot in (state / "guests" / GUEST).glob("state.?")]
    states = [{"name": "permall", "size": max(sizes)}] if any(sizes) else []
    click.echo(json.dumps({"type": "swtpm", "states": states}))


def _log_to(options: dict[str, Any], state: Path) -> None:
    """Messages go where *options* say; a level from 1 on is more than warnings, from 5 on everything."""
    level = options.get("level", 0)
    handler: logging.Handler
    if options.get("file") == "-":
        handler = logging.NullHandler()
    elif "file" in options:
        # In a new state directory it is made with the first message: nothing may be there before the state.
        inside = Path(options["file"]).absolute().parent == state.absolute()
        handler = logging.FileHandler(options["file"], "w" if options.get("truncate") else "a", delay=inside)
    elif "fd" in options:
        handler = logging.StreamHandler(open(options["fd"], "w", buffering=1, closefd=False))  # noqa: SIM115
    else:
        handler = logging.StreamHandler()
    template = f"{options.get('prefix', 'cusetpm: ')}%(message)s"
    handler.setFormatter(logging.Formatter(template) if level >= _EVERYTHING else OneLine(template))
    logging.basicConfig(level=logging.WARNING if level < 1 else logging.INFO if level < _EVERYTHING
                        else logging.DEBUG, handlers=[handler])


def _become(name: str) -> None:
    """Be the user *name*, in that user's groups."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Failure(f"--runas: there is no user {name!r}") from None
    try:
        os.initgroups(name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise Failure(f"--runas: cannot be {name}: {error.strerror}") from error


def _fail(why: str, logging_to: dict[str, Any] | None) -> NoReturn:
    """End with one line on standard error, and in the log if that is elsewhere."""
    if logging_to and logging.getLogger().hasHandlers():
        log.error("%s", why)
    raise Failure(why)
