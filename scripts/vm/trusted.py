"""The kernel's module for trusted keys, which Debian's kernels are built without, from Debian's own sources.

It is built for the kernel that the virtual machine boots, once, and kept beside it.  Sources and headers are
the packages of that kernel's very version; of 140 MB of sources, a few files are used.  The programs that
build modules may be of a later revision: when the archive has one, it keeps no other, and the kernel itself
follows some days later.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from image import UnavailableError, cached_package, download, locked_cache, run

_PROGRAMS = ("gcc", "make")
_KEYS = "security/keys/trusted-keys"
_SOURCES = ("lib/asn1_encoder.c", f"{_KEYS}/trusted_core.c", f"{_KEYS}/trusted_tpm1.c",
            f"{_KEYS}/trusted_tpm2.c", f"{_KEYS}/tpm2key.asn1")
# What compiles the last of them does not come with the headers.
_COMPILER = ("scripts/asn1_compiler.c", "include/linux/asn1.h", "include/linux/asn1_ber_bytecode.h")
_KBUILD = """\
obj-m := asn1_encoder.o trusted.o
trusted-y := trusted_core.o trusted_tpm1.o trusted_tpm2.o tpm2key.asn1.o
ccflags-y := -DCONFIG_TRUSTED_KEYS_MODULE -DCONFIG_TRUSTED_KEYS_TPM -DCONFIG_ASN1_ENCODER_MODULE
"""


def prepare_trusted() -> Path:
    """Return the directory of asn1_encoder.ko and trusted.ko, which are to be loaded in this order.

    They are for the kernel that `image.prepare` has prepared; what the cache lacks is built.  Raises
    UnavailableError if a program is missing or a package cannot be had.
    """
    with locked_cache() as cache:
        kernel = cached_package(cache)
        assert kernel is not None
        # The recipe is part of the name, as for the image.
        recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        built = cache / f"{kernel.stem}-trusted-{recipe}"
        if not built.exists():
            for name in _PROGRAMS:
                if shutil.which(name) is None:
                    raise UnavailableError(f"{name} is not installed (Debian package {name})")
            with tempfile.TemporaryDirectory(dir=cache) as work:
                _build(kernel.name, Path(work))
                os.rename(Path(work) / "built", built)
        return built


def _build(kernel: str, work: Path) -> None:
    """Make work/built for the kernel whose package has the file name *kernel*."""
    # As linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb.
    found = re.fullmatch(r"linux-image-((\d+\.\d+)\S*)-amd64_(\S+)_amd64\.deb", kernel)
    if found is None:
        raise UnavailableError(f"{kernel}: its version cannot be told")
    abi, series, version = found.groups()
    packages = (f"linux-headers-{abi}-amd64={version}", f"linux-headers-{abi}-common={version}",
                _programs(series, version))
    for package in packages:
        run("dpkg-deb", "-x", download(package, work), work / "headers")
    headers = work / "headers" / "usr" / "src" / f"linux-headers-{abi}-amd64"
    # It names a place where the packages would be if they were installed.
    include = headers / "Makefile"
    include.write_text(include.read_text().replace(" /usr/src/", f" {headers.parent}/"))

    sources, modules = work / "sources", work / "modules"
    _unpack(download(f"linux-source-{series}={version}", work), sources)
    modules.mkdir()
    for name in _SOURCES:
        shutil.copy(sources / name, modules)
    (modules / "Kbuild").write_text(_KBUILD)
    compiler = work / "asn1_compiler"
    run("gcc", "-I", sources / "include", "-o", compiler, sources / _COMPILER[0])
    run(compiler, "tpm2key.asn1", "tpm2key.asn1.c", "tpm2key.asn1.h", cwd=modules)
    run("make", "-C", headers, f"M={modules}", "modules")
    (work / "built").mkdir()
    for module in modules.glob("*.ko"):
        shutil.copy(module, work / "built")


def _programs(series: str, version: str) -> str:
    """Return what apt-get downloads for the programs that build modules for *version*, as 6.1.192-2."""
    name = f"linux-kbuild-{series}"
    listed = run("apt-cache", "madison", name).decode().splitlines()
    versions = [line.split("|")[1].strip() for line in listed]
    upstream = version.rpartition("-")[0]
    alike = [each for each in versions if each.rpartition("-")[0] == upstream]
    return f"{name}={version if version in versions or not alike else alike[0]}"


def _unpack(package: Path, into: Path) -> None:
    """The files that are used are in *into*."""
    into.mkdir()
    name = package.name.partition("_")[0]
    files = [f"{name}/{file}" for file in (*_SOURCES, *_COMPILER)]
    pipe = """package=$1 name=$2; shift 2
        dpkg-deb --fsys-tarfile "$package" | tar -xO "./usr/src/$name.tar.xz" |
        tar -xJ --strip-components=1 "$@" """
    run("sh", "-c", pipe, "sh", package, name, *files, cwd=into)
