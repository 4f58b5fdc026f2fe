"""What the virtual machine boots: Debian's kernel and an initial file system with a few of its modules.

Both are made once and kept in `$XDG_CACHE_HOME/cusetpm/vm`; delete that directory to get a newer kernel.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Loaded in this order, each after what it depends on.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "fuse", "cuse", "tpm_vtpm_proxy")

PROGRAMS = {
    "apt-get": "apt",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "modprobe": "kmod",
    "qemu-system-x86_64": "qemu-system-x86",
}


# UEFI firmware, by the names that Debian and others give the same two files.
FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
)


class UnavailableError(Exception):
    """This machine cannot boot the virtual machine; the message says what is missing."""


@dataclass(frozen=True)
class Image:
    """The two files that QEMU boots."""

    kernel: Path
    initrd: Path


@dataclass(frozen=True)
class Firmware:
    """OVMF: its code, and the variables it starts with."""

    code: Path
    variables: Path


def firmware() -> Firmware:
    """Return this machine's OVMF; raises UnavailableError when there is none."""
    for code, variables in FIRMWARE:
        if Path(code).exists() and Path(variables).exists():
            return Firmware(Path(code), Path(variables))
    raise UnavailableError("no UEFI firmware (Debian package ovmf)")


def program(name: str) -> str:
    """Return the path of a program, also from the sbin directories that users lack on PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise UnavailableError(f"{name} is not installed (Debian package {PROGRAMS[name]})")
    return found


def prepare() -> Image:
    """Return an image that is ready to boot, downloading and building what the cache lacks.

    Raises UnavailableError if a program is missing or the kernel cannot be had.
    """
    for name in PROGRAMS:
        program(name)
    with locked_cache() as cache:
        package = cached_package(cache) or _download(cache)
        # The recipe is part of the name, so that a changed init or module list makes a new image.
        recipe = (HERE / "init").read_bytes() + repr(MODULES).encode() + Path(__file__).read_bytes()
        built = cache / f"{package.stem}-{hashlib.sha256(recipe).hexdigest()[:12]}"
        image = Image(built / "vmlinuz", built / "initrd.gz")
        if not built.exists():
            with tempfile.TemporaryDirectory(dir=cache) as work:
                _build(package, Path(work))
                os.rename(Path(work) / "image", built)
        return image


@contextmanager
def locked_cache() -> Iterator[Path]:
    """Give the directory of what was made once; nobody else makes anything in it meanwhile."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(home) / "cusetpm" / "vm"
    cache.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache
    finally:
        os.close(lock)


def run(*command: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    """Return the standard output of a command; raises UnavailableError, with its last line, if it fails."""
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnavailableError(f"{Path(command[0]).name} failed: {last}")
    return done.stdout


def cached_package(cache: Path) -> Path | None:
    """Return the kernel's package in *cache*; None if there is none."""
    packages = sorted(cache.glob("linux-image-*.deb"), key=lambda path: path.stat().st_mtime)
    return packages[-1] if packages else None


def _download(cache: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=cache) as work:
        try:
            downloaded = download(_kernel_package(), Path(work))
        except UnavailableError:
            # A machine may have no package lists, or old ones that name what is gone.
            if os.geteuid() != 0:
                raise
            run("apt-get", "update")
            downloaded = download(_kernel_package(), Path(work))
        os.utime(downloaded)
        return downloaded.rename(cache / downloaded.name)


def download(package: str, directory: Path) -> Path:
    """Return the file of *package*, which has been downloaded into *directory*."""
    with tempfile.TemporaryDirectory(dir=directory) as work:
        run("apt-get", "download", package, cwd=Path(work))
        (downloaded,) = Path(work).glob("*.deb")
        return downloaded.rename(directory / downloaded.name)


def _kernel_package() -> str:
    """Return the name of the package that linux-image-amd64 stands for, as linux-image-6.1.0-56-amd64.

    The -cloud- kernels will not do: they are built without 9p.
    """
    depends = run("apt-cache", "depends", "linux-image-amd64").decode()
    match = re.search(r"Depends: (linux-image-[0-9]\S*-amd64)", depends)
    if match is None:
        raise UnavailableError("apt-cache knows no kernel for linux-image-amd64; try: apt-get update")
    return match[1]


def _build(package: Path, work: Path) -> None:
    """Make work/image/vmlinuz and work/image/initrd.gz from a kernel package."""
    run("dpkg-deb", "-x", package, work / "package")
    (kernel,) = (work / "package" / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    run(program("depmod"), "-b", work / "package", version)

    root = work / "root"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy(program("busybox"), root / "bin" / "busybox")
    shutil.copy(HERE / "init", root / "init")
    (root / "init").chmod(0o755)
    for number, module in enumerate(_module_files(work / "package", version)):
        data = module.read_bytes()
        if module.suffix == ".xz":
            data = lzma.decompress(data)
        (root / "modules" / f"{number:02}-{module.name.removesuffix('.xz')}").write_bytes(data)

    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = run(program("busybox"), "cpio", "-o", "-H", "newc", cwd=root, stdin=names.encode())
    image = work / "image"
    image.mkdir()
    (image / "initrd.gz").write_bytes(gzip.compress(archive, 1))
    kernel.rename(image / "vmlinuz")


def _module_files(base: Path, version: str) -> list[Path]:
    """Return the files of MODULES and of what they depend on, in the order to load them."""
    files: dict[Path, None] = {}
    for name in MODULES:
        plan = run(program("modprobe"), "-d", base, "-S", version, "--show-depends", name).decode()
        for line in plan.splitlines():
            verb, *rest = line.split()
            if verb == "insmod":
                files[Path(rest[0])] = None
    return list(files)
