"""What Linux shows of a TPM beside its device: /sys/class/tpm/tpmN, and measurement lists in securityfs.

    class/tpm/tpm0/         tpm_version_major, pcr-sha256/0 and so on; of a TPM 1.2 also pcrs, caps and
                            others, which device/ has, too
    kernel/security/tpm0/   binary_bios_measurements
    kernel/security/ima/    binary_runtime_measurements, ascii_runtime_measurements, and both for each bank of
                            PCRs, as ..._sha256

Formats are those of drivers/char/tpm/tpm-sysfs.c and security/integrity/ima/ima_fs.c.  What the kernel asks
of the TPM is asked here, too, each time; what it knows only as a driver (null_name) is not there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cusetpm.devices.files import Directory, Entry, File, Link
from hwtpm.crypto import ids
from hwtpm.errors import ProtocolError, TpmError

if TYPE_CHECKING:
    from cusetpm.measure.tpm import Tpm
    from hwtpm.client import Execute
    from hwtpm.client12 import Client

_BANKS: Final = {
    ids.SHA1: "sha1", ids.SHA256: "sha256", ids.SHA384: "sha384", ids.SHA512: "sha512", ids.SM3_256: "sm3"}
"""The hashes whose banks the kernel shows, by its names."""

_PCRS: Final = 24
_LARGEST: Final = 64 << 20  # octets of a recorded list
_RUNTIME: Final = ("binary_runtime_measurements", "ascii_runtime_measurements")
_BOOT: Final = "binary_bios_measurements"


def tree(execute: Execute, family: str, cancel: Callable[[], None], ima_list: Path,
         event_log: Path) -> Mapping[str, Entry]:
    """Return what is to be in a directory that stands for /sys, with the TPM behind *execute* as tpm0.

    *family* is "2.0" or "1.2".  *cancel* has the command in progress asked to end.  *ima_list* and
    *event_log* are where lists are, or will be, recorded; a list that is missing or empty has no files.
    """
    tpm = _Tpm(execute, family)
    banks = {f"pcr-{name}": Directory({str(n): File(partial(tpm.pcr, alg, n)) for n in range(_PCRS)})
             for alg, name in _BANKS.items()}
    version = b"%s\n" % family[:1].encode()
    shown: dict[str, Entry] = {"tpm_version_major": File(lambda: version), **banks}
    if family == "1.2":
        from cusetpm import sysfs12

        shown |= {name: File(partial(tpm.show, show)) for name, show in sysfs12.FILES.items()}
        shown["cancel"] = File(write=lambda data: cancel())
        shown["device"] = Link(".")
    chip = Directory(shown, banks, lambda: {f"pcr-{name}" for name in tpm.banks().values()})
    lists = _Lists(tpm, ima_list, event_log)
    runtime = [name + end for name in _RUNTIME for end in ("", *(f"_{bank}" for bank in _BANKS.values()))]
    security = {
        "tpm0": Directory({_BOOT: File(lists.boot, size=0)}, {_BOOT}, lists.boot_now),
        "ima": Directory({name: File(partial(lists.runtime, name), size=0) for name in runtime}, runtime,
                         lists.runtime_now),
    }
    return {"class": Directory({"tpm": Directory({"tpm0": chip})}),
            "kernel": Directory({"security": Directory(security)})}


class _Tpm:
    """The TPM behind *execute*; what it refuses is EIO."""

    def __init__(self, execute: Execute, family: str) -> None:
        self._execute, self._family = execute, family

    def _client(self) -> Tpm:
        from cusetpm.measure.tpm import connect  # imported when somebody looks

        return connect(self._execute, os.urandom, self._family)

    def banks(self) -> dict[int, str]:
        """Return the names of the banks that are allocated and that the kernel knows, by algorithm."""
        try:
            allocated = self._client().banks()
        except (TpmError, ProtocolError):
            return {}  # It is not started, or has failed.
        return {alg: name for alg, name in _BANKS.items() if alg in allocated}

    def pcr(self, alg: int, index: int) -> bytes:
        """Return pcr-*/N; EINVAL for a PCR that the bank does not have, EIO when the TPM refuses."""
        try:
            values = self._client().read([index])
        except (TpmError, ProtocolError) as error:
            raise OSError(errno.EIO, str(error)) from error
        if (alg, index) not in values:
            # A TPM that has failed tells of no bank at all.
            raise OSError(errno.EINVAL if values else errno.EIO, "no such PCR")
        return values[alg, index].hex().upper().encode() + b"\n"

    def show(self, what: Callable[[Client], str]) -> bytes:
        """Return *what* a TPM 1.2 shows; as in the kernel, it is nothing when the TPM refuses."""
        from hwtpm.client12 import Client

        try:
            return what(Client(self._execute, os.urandom)).encode()
        except (TpmError, ProtocolError):
            return b""


class _Lists:
    """The recorded lists, as securityfs shows them."""

    def __init__(self, tpm: _Tpm, ima_list: Path, event_log: Path) -> None:
        self._tpm, self._ima_list, self._event_log = tpm, ima_list, event_log

    def boot_now(self) -> Collection[str]:
        return (_BOOT,) if _is_recorded(self._event_log) else ()

    def boot(self) -> bytes:
        from cusetpm.measure import securityfs

        return _made(self._event_log, securityfs.binary_bios_measurements)

    def runtime_now(self) -> Collection[str]:
        if not _is_recorded(self._ima_list):
            return ()
        return {name + end for name in _RUNTIME
                for end in ("", *(f"_{bank}" for bank in self._tpm.banks().values()))}

    def runtime(self, name: str) -> bytes:
        from cusetpm.measure import securityfs

        kind, _, bank = name.partition("_runtime_measurements")
        alg = next((alg for alg, name in _BANKS.items() if bank == f"_{name}"), ids.SHA1)
        return _made(self._ima_list, partial(securityfs.runtime_measurements, form=kind, alg=alg))


def _is_recorded(path: Path) -> bool:
    """Tell whether there is a list at *path*, which is COMMAND's to write: it may be anything."""
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _content(path: Path) -> bytes:
    """Return what is in the file at *path*, of at most _LARGEST octets; waits for nobody."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            raise OSError(errno.EIO, "this is no list", str(path))
        return file.readall()


def _made(path: Path, make: Callable[[bytes], bytes]) -> bytes:
    """Return what *make* makes of the list at *path*; EIO for something that is no list."""
    from cusetpm.measure import BadLog

    before = None
    while True:
        data = _content(path)
        try:
            return make(data)
        except BadLog as error:
            # The last entry may have been half there: then there is more now.
            if data == before:
                raise OSError(errno.EIO, f"{path}: {error}") from error
        before = data
