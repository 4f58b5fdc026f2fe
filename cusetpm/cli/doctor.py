"""`cusetpm doctor`: what this machine offers, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import click


class Finding(NamedTuple):
    """One line of the report; *mend* is the command that helps, empty where nothing has to be mended."""

    subject: str
    ok: bool
    what: str
    mend: str = ""


@click.command("doctor")
def command() -> int:
    """Say what this machine offers to cusetpm, and how to mend what is missing.

    Status 0 if a TPM can be shown as a device file here (CUSE or FUSE), else 1: the socket works everywhere.
    """
    findings = list(examine())
    width = max(len(f.subject) for f in findings)
    for f in findings:
        mark = click.style("ok     ", fg="green") if f.ok else click.style("missing", fg="yellow")
        click.echo(f"{mark}  {f.subject:<{width}}  {f.what}" + (f"; try: {f.mend}" if f.mend else ""))
    return 0 if any(f.ok for f in findings if f.subject in ("CUSE", "FUSE")) else 1


def examine() -> Iterator[Finding]:
    """Yield what there is to say, in the order of the report."""
    yield Finding("Python", True, f"{platform.python_version()} ({sys.executable})")
    yield Finding("cusetpm", True, metadata.version("cusetpm"))
    for package in ("cryptography", "gmpy2", "pyfuse3", "trio"):
        yield Finding(package, True, metadata.version(package))
    yield _cuse()
    yield from _fuse()
    yield _vtpmx()
    yield Finding("socket", True, "unix sockets work everywhere")
    for program, package, use in (
        ("tpm2_getrandom", "tpm2-tools", "the usual TPM 2.0 tools"),
        ("swtpm", "swtpm", "the peer of scripts/bench and of the oracle tests"),
        ("qemu-system-x86_64", "qemu-system-x86", "the tests with real kernels"),
    ):
        found = shutil.which(program)
        yield Finding(package, found is not None, found or use, "" if found else f"apt-get install {package}")


def _device(path: str) -> str:
    """Return why *path* cannot be opened; empty if it can."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _cuse() -> Finding:
    refused = _device("/dev/cuse")
    if not refused:
        return Finding("CUSE", True, "/dev/cuse can be used: devices are /dev/tpmN")
    if not os.path.exists("/dev/cuse"):
        return Finding("CUSE", False, "no /dev/cuse in this kernel or container", "modprobe cuse")
    return Finding("CUSE", False, f"/dev/cuse: {refused}", "run as root")


def _vtpmx() -> Finding:
    from cusetpm.devices.vtpmx.device import VTPMX, require

    try:
        require()
    except OSError as error:
        mend = "run as root" if os.path.exists(VTPMX) else "modprobe tpm_vtpm_proxy"
        return Finding("vtpm-proxy", False, f"{VTPMX}: {error.strerror}", mend)
    return Finding("vtpm-proxy", True, f"{VTPMX} can be used: a chip of the kernel's own, if asked for")


def _fuse() -> Iterator[Finding]:
    refused = _device("/dev/fuse")
    helper = shutil.which("fusermount3")
    if refused:
        mend = "chmod 666 /dev/fuse" if os.path.exists("/dev/fuse") else "modprobe fuse"
        yield Finding("FUSE", False, f"/dev/fuse: {refused}", mend)
    else:
        yield _mount()
    if os.geteuid() != 0 or helper:
        use = "lets an ordinary user mount where other users see it"
        yield Finding("fusermount3", helper is not None, helper or use,
                      "" if helper else "apt-get install fuse3")


def _mount() -> Finding:
    """Only a mount tells whether mounting is allowed: containers often have the device and not the right."""
    from cusetpm.devices.fusemount import Mounter

    mounter = Mounter()
    with tempfile.NamedTemporaryFile(prefix="cusetpm-") as place:
        try:
            served, shown = mounter.mount(place.name, stat.S_IFREG | 0o600)
        except OSError as error:
            return Finding("FUSE", False, str(error.strerror),
                           "a container with --cap-add SYS_ADMIN --device /dev/fuse")
        mounter.unmount(place.name)
        os.close(served)
    mounter.close()
    if shown == place.name:
        return Finding("FUSE", True, "device files can be mounted: DIR/tpm0")
    return Finding("FUSE", True, "only a user namespace may mount here: devices are /proc/PID/root/DIR/tpm0")
