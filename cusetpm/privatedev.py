"""Executes COMMAND with a /dev of its own: `privatedev.py REPORT [NAME PATH]... -- COMMAND [ARG]...`.

In a mount namespace of its own, COMMAND finds the file PATH as /dev/NAME, and else what is in /dev now; tpm0
and tpmrm0 of somebody else are not among that.  Root needs the mount namespace only.  An ordinary user gets
the right to mount from a user namespace, in which this user and group stay what they are and no others exist.

The process becomes COMMAND, so its number, parent, files and terminal are what they would be without.  What
comes to nothing is written to the file descriptor REPORT, which COMMAND does not get:

    dev ERROR       there is no /dev of its own to be had, for this reason
    exec ERRNO      COMMAND cannot be executed

`cusetpm.command` runs it with `python -I -S` and FORWARDED signals blocked: it stands alone, and starts in
20 ms, because it imports little.
"""

from __future__ import annotations

import os
import sys
from _signal import (  # type: ignore[import-not-found]
    SIG_DFL,
    SIG_SETMASK,
    SIGINT,
    SIGPIPE,
    SIGXFSZ,
    default_int_handler,
    getsignal,
    pthread_sigmask,
    signal,
)
from ctypes import CDLL, get_errno
from errno import EINVAL

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY, _MS_NOSUID, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SLAVE = 4096, 16384, 1 << 18, 1 << 19

_NAMES = ("tpm0", "tpmrm0")
"""What tools look for: these are ours or nobody's."""

_libc = CDLL(None, use_errno=True)


def make(devices: dict[str, str]) -> None:
    """This process has a /dev of its own, in which *devices* gives paths by name.  Raises OSError."""
    ordinary = os.geteuid() != 0
    unshare(ordinary)
    _part()
    # Opened now: files of the old mount namespace cannot be mounted, and soon /dev is covered.
    files = {name: os.open(path, os.O_PATH | os.O_CLOEXEC) for name, path in devices.items()}
    old = os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount("cusetpm", "/dev", "tmpfs", _MS_NOSUID | _MS_NOEXEC, "mode=755")
    with os.scandir(f"/proc/self/fd/{old}") as entries:
        for entry in entries:
            if entry.name not in _NAMES and entry.name not in devices:
                _show(entry)
    for name, file in files.items():
        _show_file(f"/proc/self/fd/{file}", f"/dev/{name}")
    if ordinary:
        mount(None, "/dev", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NOEXEC)


def unshare(ordinary: bool) -> None:
    """This process has a mount namespace of its own, and an *ordinary* user's a user namespace, too."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if ordinary else 0)):
        raise _error("unshare")
    if ordinary:
        # A process that may not change its groups is allowed to map its own (user_namespaces(7)).
        maps = ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")
        for name, content in maps:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(content)


def _part() -> None:
    """What is mounted over /dev, and in it, is mounted in this namespace only.

    Whatever else COMMAND mounts, as root, is seen by others as it would be without this namespace, unless
    /dev is a directory of the root file system: then that has to part with it.
    """
    try:
        mount(None, "/dev", None, _MS_PRIVATE)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        mount(None, "/", None, _MS_REC | _MS_SLAVE)


def _show(entry: os.DirEntry[str]) -> None:
    """What is in the old /dev is in the new one: a link as such, all else by a mount."""
    path = f"/dev/{entry.name}"
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), path)
    elif entry.is_dir(follow_symlinks=False):
        os.mkdir(path)
        mount(entry.path, path, None, _MS_BIND | _MS_REC)
    else:
        _show_file(entry.path, path)


def _show_file(source: str, path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    mount(source, path, None, _MS_BIND)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Call mount(2); raises OSError that names *target*."""
    names = [name and os.fsencode(name) for name in (source, target, kind)]
    if _libc.mount(*names, flags, data and data.encode()):
        raise _error(target)


def _error(what: str) -> OSError:
    return OSError(get_errno(), os.strerror(get_errno()), what)


def _take_signals() -> None:
    """Signals do here what they would do to COMMAND; those that have come already do so at once."""
    for number in (SIGPIPE, SIGXFSZ):  # Python ignores these.
        signal(number, SIG_DFL)
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
    pthread_sigmask(SIG_SETMASK, [])


def main(arguments: list[str]) -> None:
    """Run the program; it returns only if it has reported why."""
    _take_signals()
    report = int(arguments[0])
    os.set_inheritable(report, False)
    end = arguments.index("--")
    devices = dict(zip(arguments[1:end:2], arguments[2:end:2], strict=True))
    command = arguments[end + 1 :]
    try:
        here = os.getcwd()
    except OSError:
        here = "."  # There is none any more.
    try:
        make(devices)
        os.chdir(here)  # It may be in /dev.
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        os.write(report, os.fsencode(f"dev {where}{error.strerror}"))
        return
    try:
        os.execvp(command[0], command)  # noqa: S606 - COMMAND is what the user wants to be executed
    except OSError as error:
        os.write(report, b"exec %d" % (error.errno or 0))


if __name__ == "__main__":
    main(sys.argv[1:])
