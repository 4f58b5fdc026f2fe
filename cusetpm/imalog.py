"""Measures files as Linux' IMA does: into PCR 10 of a TPM, and into a list in one of the kernel's formats."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from cusetpm.measure import BadLog, DoesNotFit, ima, imaverify
from cusetpm.measure.pcr import Given, Values, bank_name, bank_of
from cusetpm.measure.tpm import Tpm
from hwtpm.crypto import hashes, ids

_BOOT_PCRS: Final = range(10)
_CHUNK: Final = 1 << 20
# The signatures that template ima-sig records: extended attribute, and the first octet of its value
# (Linux, enum evm_ima_xattr_type).
_SIGNATURES: Final = (("security.ima", b"\x03"), ("security.ima", b"\x06"), ("security.evm", b"\x05"))


def measure(tpm: Tpm, path: str, files: Iterable[str], *, template: str, hash_name: str,
            form: ima.Format | None) -> list[bytes]:
    """Return the lines of the new entries of the list at *path*; PCR 10 contains them in every bank.

    What the list has already, by the same name and with the same content, is not measured again.  A list that
    is new or empty gets format *form* and begins with boot_aggregate.  All files are read before anything is
    measured, and when the TPM refuses an entry, the list is left without it.

    Raises OSError that names the file, BadLog for a list that cannot be continued, DoesNotFit when PCR 10 is
    not what the list leads to, TpmError and ProtocolError.
    """
    new = [_measured(file, template, hash_name) for file in files]
    with _locked(path) as file:
        old = file.read()
        measurements = ima.parse(old) if old else ima.MeasurementList([], format=form or "binary")
        if form is not None and form != measurements.format:
            raise BadLog(f"the list is in the {measurements.format} format")
        if measurements.alg != ids.SHA1:
            raise BadLog("only lists with SHA-1 template digests can be continued")
        values = tpm.read({*_BOOT_PCRS, ima.PCR})
        banks = sorted(alg for alg, index in values if index == ima.PCR)
        if old:
            imaverify.verify(measurements, Given(values, "the TPM"))
        else:
            _check_unused(values)
            new.insert(0, _boot_aggregate(values, template, hash_name))
        return list(_append(tpm, file, measurements, new, banks))


@contextmanager
def _locked(path: str) -> Iterator[BinaryIO]:
    """Open the list at *path* for reading and appending; only one process at a time has it."""
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def _append(tpm: Tpm, file: BinaryIO, measurements: ima.MeasurementList, new: Iterable[ima.Entry],
            banks: list[int]) -> Iterator[bytes]:
    # The kernel knows an entry by its template digest, too.
    known = {entry.digest for entry in measurements.entries}
    for entry in new:
        if entry.digest in known:
            continue
        known.add(entry.digest)
        line = ima.show(entry, measurements.order)
        end = os.fstat(file.fileno()).st_size
        # The PCR cannot be taken back, the list can.
        try:
            _write(file, line if measurements.format == "ascii" else ima.encode(entry, measurements.order))
            covered = entry.hashed(measurements.order)
            assert covered is not None
            tpm.extend(entry.pcr, {alg: hashes.digest(alg, covered) for alg in banks})
        except BaseException:
            os.ftruncate(file.fileno(), end)
            raise
        yield line


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from None


def _measured(path: str, template: str, hash_name: str) -> ima.Entry:
    """Return the entry of the file at *path*."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(path, "rb", buffering=0) as file:
        running = hashes.new(bank_of(hash_name))
        try:
            while data := file.read(_CHUNK):
                running.update(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        signature = _signature(file.fileno()) if template == "ima-sig" else b""
    # The kernel records where the file is, whatever links led there.
    name = os.fsencode(os.path.realpath(path))
    return ima.make(template, hash_name, running.digest(), name, signature)


def _signature(descriptor: int) -> bytes:
    for attribute, kind in _SIGNATURES:
        try:
            value = os.getxattr(descriptor, attribute)
        except OSError:
            continue  # there is none, or the file system has no attributes
        if value[:1] == kind:
            return value
    return b""


def _check_unused(values: Values) -> None:
    for (alg, index), value in values.items():
        if index == ima.PCR and any(value):
            raise DoesNotFit(f"the list is new, and {bank_name(alg)}:{ima.PCR} was extended before: continue "
                             f"the list that belongs to it")


def _boot_aggregate(values: Values, template: str, hash_name: str) -> ima.Entry:
    """Return the entry that a kernel begins its list with (Linux, ima_add_boot_aggregate)."""
    banks = {alg for alg, index in values if index in _BOOT_PCRS}
    wanted = [ids.SHA1] if template == "ima" else [bank_of(hash_name), ids.SHA256, ids.SHA1]
    for alg in wanted:
        if alg in banks:
            digest = imaverify.boot_aggregate(alg, values)
            return ima.make(template, bank_name(alg), digest, ima.BOOT_AGGREGATE)
    return ima.make(template, hash_name, bytes(hashes.size(bank_of(hash_name))), ima.BOOT_AGGREGATE)
