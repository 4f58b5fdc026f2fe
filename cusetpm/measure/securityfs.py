"""The files in which Linux shows measurement lists, made of lists that were recorded.

All raise BadLog for octets that are no such list.
"""

from __future__ import annotations

from cusetpm.measure import BadLog, ima, tcglog
from hwtpm.crypto import hashes


def binary_bios_measurements(event_log: bytes) -> bytes:
    """Return the content of the kernel's file: without memory that was reserved for the log and not used."""
    return tcglog.encode(tcglog.parse(event_log))


def runtime_measurements(ima_list: bytes, *, form: str, alg: int) -> bytes:
    """Return the list in *form*, "binary" or "ascii", with template digests by *alg*.

    *ima_list* may be in either of the formats.  Raises BadLog, too, for an ASCII list with a template whose
    fields are not known, where these are needed.
    """
    measurements = ima.parse(ima_list)
    if alg != measurements.alg:
        entries = [_hashed_again(entry, alg, measurements.order) for entry in measurements.entries]
        measurements = measurements._replace(entries=entries, alg=alg)
    if form == "binary":
        return ima.binary_runtime_measurements(measurements)
    return ima.ascii_runtime_measurements(measurements)


def _hashed_again(entry: ima.Entry, alg: int, order: ima.Order) -> ima.Entry:
    if entry.violation:
        return entry._replace(digest=bytes(hashes.size(alg)))
    covered = entry.hashed(order)
    if covered is None:
        raise BadLog(f"the fields of template {entry.template} are not known: use the binary list")
    return entry._replace(digest=hashes.digest(alg, covered))
