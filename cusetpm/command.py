"""COMMAND of `cusetpm run`: how it is started, and waited for."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that are COMMAND's when they come to this process."""

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python, and what is ignored would stay so in COMMAND
_SI_USER, _SI_TKILL, _SI_QUEUE = 0, -6, -1  # si_code of a signal that a process sent, not the terminal


class CannotExecute(Exception):
    """The system refuses to execute the command; says why, in one line."""


def spawn(command: tuple[str, ...], environment: Mapping[str, str], devices: Mapping[str, str]) -> int:
    """Return the process number of *command*, which is executed.  Raises CannotExecute.

    *devices* maps names in /dev to paths: *command* finds those under these names in a /dev of its own, where
    the system lets it have one.  FORWARDED are blocked in this process.
    """
    if devices:
        pid, refused = _spawn_private(command, environment, devices)
        if not refused:
            log.info("COMMAND has a /dev of its own, with %s", ", ".join(devices))
            return pid
        log.info("COMMAND has no /dev of its own: %s", refused)
    try:
        return os.posix_spawnp(command[0], command, environment, setsigmask=[], setsigdef=_IGNORED)
    except OSError as error:
        raise _cannot_execute(command, error.errno or 0) from error


def _spawn_private(command: tuple[str, ...], environment: Mapping[str, str],
                   devices: Mapping[str, str]) -> tuple[int, str]:
    """Return the process number of *command*; or 0, and why it can have no /dev of its own."""
    hear, tell = os.pipe()
    helper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("privatedev.py")), str(tell),
              *(word for pair in devices.items() for word in pair), "--", *command]
    try:
        os.set_inheritable(tell, True)
        # Signals wait until the helper is ready to be ended by them as COMMAND would be.
        pid = os.posix_spawn(sys.executable, helper, environment, setsigmask=FORWARDED, setsigdef=_IGNORED)
    except OSError as error:
        os.close(hear)
        return 0, f"{sys.executable}: {error.strerror}"
    finally:
        os.close(tell)
    with open(hear, "rb") as report:
        # It ends when COMMAND is executed, or when there will be none.
        what, _, why = report.read().decode(errors="replace").partition(" ")
    if what:
        os.waitpid(pid, 0)
        if what == "exec":
            raise _cannot_execute(command, int(why))
    return pid, why


def _cannot_execute(command: tuple[str, ...], number: int) -> CannotExecute:
    return CannotExecute(f"{command[0]}: {os.strerror(number)}")


def wait(pid: int, early: set[signal.Signals]) -> int:
    """Return the exit status of *pid*; signals that a process sends to this one are passed on to it.

    What the terminal sends reaches COMMAND by itself, but for *early*, which came before it was there.
    """
    while True:
        info = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            if info.si_signo in early or info.si_code in (_SI_USER, _SI_TKILL, _SI_QUEUE):
                early.discard(signal.Signals(info.si_signo))
                os.kill(pid, info.si_signo)
            continue
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
