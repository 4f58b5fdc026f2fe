"""Trousers' tcsd, private to one TPM 1.2: what `cusetpm run --tcsd` starts.

tcsd is told to use a software TPM (-e), and finds the raw socket of ours by TCSD_UN_SOCKET_DEVICE_PATH.  It
takes only a configuration file of root's (group tss, mode 0640), gives up root for the user tss once the TPM
has answered, and listens on TCP; it can neither be given a listening socket nor choose a port itself.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Final, NamedTuple

from hwtpm.errors import StateError

log = logging.getLogger(__name__)

_USER: Final = "tss"
_READY: Final = "up and running"
_ATTEMPTS: Final = 5  # to get a port that nobody has taken meanwhile
# Starts a program, and kills it when standard input, a pipe, ends.  A program that gives up root cannot have
# itself killed with its parent (prctl(2), PR_SET_PDEATHSIG).
_KEEP: Final = 'exec 3<&0; "$@" </dev/null 3<&- & exec >/dev/null 2>&1; read -r _ <&3; kill -KILL $!; wait'
_NOBODY_LISTENS: Final = "1"  # the TCP port that tcsd tries before the unix socket


@contextmanager
def running(home: Path, socket_path: str, storage: Path | None) -> Iterator[dict[str, str]]:
    """Have a tcsd for the TPM at *socket_path*; yields the environment that leads to it.

    Its files are in *home*, a new directory in one that others may enter.  The keys that it stores for
    applications are kept in *storage*, if given.  Raises StateError, one line for people, when there
    can be none.
    """
    program = shutil.which("tcsd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        raise StateError("--tcsd: there is no tcsd; install trousers (apt-get install trousers)")
    if os.geteuid() != 0:
        raise StateError("--tcsd: tcsd takes a configuration file of root's only; run this as root")
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        raise StateError(f"--tcsd: tcsd runs as the user {_USER}, and there is none; reinstall "
                         f"trousers") from None
    home.mkdir(mode=0o700)
    os.chown(home, user.pw_uid, user.pw_gid)
    keys = home / "system.data"
    if storage is not None and storage.exists():
        shutil.copyfile(storage, keys)
        os.chmod(keys, 0o600)
        os.chown(keys, user.pw_uid, user.pw_gid)
    tcsd = _start(program, home, user.pw_gid, socket_path)
    drain = Thread(target=_drain, args=(tcsd.messages,), name="tcsd's messages", daemon=True)
    drain.start()
    try:
        yield {"TSS_TCSD_HOSTNAME": "localhost", "TSS_TCSD_PORT": str(tcsd.port)}
    finally:
        # What it has stored, it has stored by the time it answered.
        _stop(tcsd)
        drain.join()
        tcsd.messages.close()
        if storage is not None and keys.exists():
            _keep(keys, storage)


class _Tcsd(NamedTuple):
    keeper: int  # the process that keeps it
    leash: int  # the pipe's end to close for tcsd to end
    messages: IO[str]
    port: int


def _start(program: str, home: Path, group: int, socket_path: str) -> _Tcsd:
    """Return a tcsd that accepts connections."""
    said: list[str] = []
    for _ in range(_ATTEMPTS):
        port = _free_port()
        _configure(home / "tcsd.conf", group, port, home / "system.data")
        keeper, leash, messages = _spawn([program, "-e", "-f", "-c", str(home / "tcsd.conf")], {
            "PATH": os.defpath, "TCSD_UN_SOCKET_DEVICE_PATH": socket_path,
            "TCSD_TCP_DEVICE_HOSTNAME": "127.0.0.1", "TCSD_TCP_DEVICE_PORT": _NOBODY_LISTENS})
        tcsd = _Tcsd(keeper, leash, messages, port)
        said = []
        for message in _lines(messages):
            if _READY in message:
                return tcsd
            said.append(message)
        _stop(tcsd)
        messages.close()
        if not any("bind" in message for message in said):
            break  # anything but a port that somebody has taken stays as it is
    why = next((message.strip() for message in reversed(said) if "ERROR" in message), "it says nothing")
    raise StateError(f"--tcsd: tcsd does not start: {why}")


def _spawn(arguments: list[str], environment: dict[str, str]) -> tuple[int, int, IO[str]]:
    """Return the process that keeps a program, the pipe to close for it to end, and the program's messages.

    The program ends with this process, however that ends, and gets none of the signals of its terminal.
    """
    # Into a terminal, tcsd writes what it has to say at once.
    read, write = os.openpty()
    held, leash = os.pipe2(os.O_CLOEXEC)
    try:
        keeper = os.posix_spawn("/bin/sh", ["sh", "-c", _KEEP, "sh", *arguments], environment, setsigmask=[],
                                setsid=True, file_actions=[
            (os.POSIX_SPAWN_DUP2, held, 0),
            (os.POSIX_SPAWN_DUP2, write, 1),
            (os.POSIX_SPAWN_DUP2, write, 2),
        ])
    except OSError:
        os.close(read)
        os.close(leash)
        raise
    finally:
        os.close(write)
        os.close(held)
    return keeper, leash, open(read, errors="replace")


def _lines(messages: IO[str]) -> Iterator[str]:
    """Give the lines that come from a terminal until nobody has it open any more."""
    with suppress(OSError):  # EIO
        for message in messages:
            log.debug("tcsd: %s", message.rstrip())
            yield message


def _stop(tcsd: _Tcsd) -> None:
    os.close(tcsd.leash)
    os.waitpid(tcsd.keeper, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configure(path: Path, group: int, port: int, keys: Path) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
        os.fchown(file.fileno(), 0, group)
        os.fchmod(file.fileno(), 0o640)
        file.write(f"port = {port}\nsystem_ps_file = {keys}\n")


def _drain(messages: IO[str]) -> None:
    for _ in _lines(messages):
        pass


def _keep(keys: Path, storage: Path) -> None:
    """*storage* has what is in *keys*, as a whole or not at all."""
    temporary = storage.with_name(f".{storage.name}")
    shutil.copyfile(keys, temporary)
    os.chmod(temporary, 0o600)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, storage)
