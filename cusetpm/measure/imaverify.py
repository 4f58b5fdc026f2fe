"""Whether an IMA list fits itself and the PCRs that it was extended into.

What a kernel extends a bank with depends on its age and on the hashes that it has: the template digest by
the bank's own hash (since Linux 5.8), or the SHA-1 one with zeros behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Final, NamedTuple

from cusetpm.measure import BadLog, DoesNotFit, ima
from cusetpm.measure.pcr import Pcr, Target, Values, bank_name, bank_of, extended, initial, show, show_all
from hwtpm.crypto import hashes, ids

_BOOT_PCRS: Final = 10  # of the firmware and the boot loader; the kernel took 8 before Linux 5.8
_OLD_BOOT_PCRS: Final = 8


class Verified(NamedTuple):
    """What is known of a list that fits."""

    compared: list[Pcr]
    """The PCRs that the list leads to."""
    used: int
    """How many of the entries they contain."""
    padded: list[Pcr]
    """Those that were extended with SHA-1 digests, and zeros behind."""
    boot_aggregate: str
    """What the list's boot_aggregate is of, as `sha256:0-9`; empty when it could not be compared."""


def verify(measurements: ima.MeasurementList, target: Target, *, prefix: bool = False) -> Verified:
    """Return what is known if the list fits *target*; raises DoesNotFit, or BadLog.

    With *prefix*, entries that the PCRs do not contain yet may follow those that they do: a list grows
    between a quote and the time it is read.
    """
    check_digests(measurements)
    found = _replay(measurements, target, prefix)
    return found._replace(boot_aggregate=_check_boot_aggregate(measurements, target.known()))


def describe(number: int, entry: ima.Entry) -> str:
    """Return how messages name an entry; *number* counts from 1."""
    name = entry.name.decode("utf-8", "backslashreplace")
    return f"entry {number}" + (f" ({name if name.isprintable() else repr(name)})" if name else "")


def check_digests(measurements: ima.MeasurementList) -> None:
    """Every template digest is that of its entry's data, as far as these are known; else DoesNotFit."""
    for number, entry in enumerate(measurements.entries, 1):
        covered = entry.hashed(measurements.order)
        if entry.violation or covered is None:
            continue
        made = hashes.digest(measurements.alg, covered)
        if made != entry.digest:
            raise DoesNotFit(f"{describe(number, entry)}: its template digest is {entry.digest.hex()}, and "
                             f"its data have {made.hex()}")


def changed(measurements: ima.MeasurementList) -> list[bytes]:
    """Return the names that were measured with different contents, in the order of the list."""
    first: dict[tuple[bytes, str], bytes] = {}
    found: dict[bytes, None] = {}
    for entry in measurements.entries:
        # The kernel calls all its buffers of a kind by the same name.
        if entry.violation or not entry.name.startswith(b"/"):
            continue
        alg, digest = entry.file_digest
        if first.setdefault((entry.name, alg), digest) != digest:
            found[entry.name] = None
    return list(found)


# Replay

_Digest = Callable[[ima.MeasurementList, ima.Entry, int], bytes | None]


def _own(measurements: ima.MeasurementList, entry: ima.Entry, alg: int) -> bytes | None:
    """The template digest by the bank's hash."""
    if entry.violation:
        return b"\xff" * hashes.size(alg)
    if alg == measurements.alg:
        return entry.digest
    covered = entry.hashed(measurements.order)
    return None if covered is None else hashes.digest(alg, covered)


def _sha1(measurements: ima.MeasurementList, entry: ima.Entry) -> bytes | None:
    return _own(measurements, entry, ids.SHA1)


def _padded(measurements: ima.MeasurementList, entry: ima.Entry, alg: int) -> bytes | None:
    """The SHA-1 template digest with zeros behind it; a violation is all ones (Linux 5.8)."""
    if entry.violation:
        return b"\xff" * hashes.size(alg)
    digest = _sha1(measurements, entry)
    return None if digest is None else digest.ljust(hashes.size(alg), b"\0")


def _padded_violations(measurements: ima.MeasurementList, entry: ima.Entry, alg: int) -> bytes | None:
    """The same, and violations are 20 octets of ones with zeros behind them (before Linux 5.8)."""
    digest = _sha1(measurements, entry)
    return None if digest is None else digest.ljust(hashes.size(alg), b"\0")


_WAYS: Final[tuple[_Digest, ...]] = (_own, _padded, _padded_violations)


def _ways(measurements: ima.MeasurementList, alg: int) -> tuple[_Digest, ...]:
    if alg == ids.SHA1:
        return _WAYS[:1]
    return _WAYS if any(e.violation for e in measurements.entries) else _WAYS[:2]


def _steps(measurements: ima.MeasurementList, ways: dict[int, _Digest]) -> Iterator[dict[Pcr, bytes]]:
    """Yield the PCRs before the first entry and after each; stops at an entry that cannot be replayed."""
    values = {(alg, e.pcr): initial((alg, e.pcr)) for e in measurements.entries for alg in ways}
    yield values
    for entry in measurements.entries:
        for alg, way in ways.items():
            digest = way(measurements, entry, alg)
            if digest is None:
                return
            values[alg, entry.pcr] = extended(alg, values[alg, entry.pcr], digest)
        yield values


class _Fit(NamedTuple):
    """How far a list goes together with some PCRs."""

    entries: int  # that the PCRs contain; -1 for no number of them
    ways: dict[int, _Digest]
    values: dict[Pcr, bytes]  # after all entries


def _fit(measurements: ima.MeasurementList, pcrs: list[Pcr], target: Target) -> _Fit:
    """Return the best that can be said of *pcrs*, which are compared together."""
    banks = sorted({alg for alg, _ in pcrs})
    best: _Fit | None = None
    for ways in product(*(_ways(measurements, alg) for alg in banks)):
        chosen = dict(zip(banks, ways, strict=True))
        last = -1
        values: dict[Pcr, bytes] = {}
        for count, values in enumerate(_steps(measurements, chosen)):
            if not target.wrong(values):
                last = count
        if best is None or last > best.entries:
            best = _Fit(last, chosen, values)
        if last == len(measurements.entries):
            break
    assert best is not None
    return best


def _replay(measurements: ima.MeasurementList, target: Target, prefix: bool) -> Verified:
    indices = sorted({entry.pcr for entry in measurements.entries})
    groups = target.groups(indices)
    if not groups:
        raise BadLog(f"nothing is known of PCR {', '.join(map(str, indices))} from {target.what}")
    fits = [(pcrs, _fit(measurements, pcrs, target)) for pcrs in groups]
    counts = {fit.entries for _, fit in fits}
    total = len(measurements.entries)
    if counts == {total} or (prefix and len(counts) == 1 and min(counts) > 0):
        padded = [pcr for pcrs, fit in fits for pcr in pcrs if fit.ways[pcr[0]] is not _own]
        return Verified([pcr for pcrs, _ in fits for pcr in pcrs], counts.pop(), padded, "")
    raise DoesNotFit(_disagreement(measurements, target, fits))


def _disagreement(measurements: ima.MeasurementList, target: Target,
                  fits: list[tuple[list[Pcr], _Fit]]) -> str:
    """Return in one line what does not fit, and what does; raises BadLog if the list does not tell enough."""
    total = len(measurements.entries)
    good = [pcr for pcrs, fit in fits if fit.entries == total for pcr in pcrs]
    also = f"; {show_all(good)} fits" if good else ""
    pcrs, fit = next((p, f) for p, f in fits if f.entries != total)
    if fit.entries >= 0:
        where = describe(fit.entries + 1, measurements.entries[fit.entries])
        return f"{where} is the first that is not in {show_all(pcrs)} of {target.what}{also}"
    for number, entry in enumerate(measurements.entries, 1):
        if entry.fields is None:
            raise BadLog(f"{describe(number, entry)} has template {entry.template}, whose data an ASCII list "
                         f"does not tell: use the binary list")
    known = target.known()
    wrong = target.wrong(fit.values)
    shown = (f"{show(wrong[0])} would be {fit.values[wrong[0]].hex()} after its {total} entries, and "
             f"{target.what} has {known[wrong[0]].hex()}" if wrong[0] in known else
             f"{show_all(wrong)} after its {total} entries are not what {target.what} has")
    return f"{shown}: an entry was changed, added or left out, and each fits by itself{also}"


# boot_aggregate

def boot_aggregate(alg: int, values: Values, count: int = _BOOT_PCRS) -> bytes:
    """Return the digest of the first PCRs of bank *alg*, which a kernel measures first of all.

    That is 10 of them, 8 in the SHA-1 bank (Linux, ima_calc_boot_aggregate_tfm).  Raises KeyError for a PCR
    that *values* does not have.
    """
    count = _OLD_BOOT_PCRS if alg == ids.SHA1 else count
    return hashes.digest(alg, b"".join(values[alg, index] for index in range(count)))


def _check_boot_aggregate(measurements: ima.MeasurementList, values: Values) -> str:
    """Return what the boot aggregates are of; raises DoesNotFit for one of other PCRs than *values*."""
    found = ""
    for number, entry in enumerate(measurements.entries, 1):
        if entry.name != ima.BOOT_AGGREGATE:
            continue
        name, digest = entry.file_digest
        try:
            alg = bank_of(name) if name else ids.SHA1
            ours = {count: boot_aggregate(alg, values, count) for count in (_BOOT_PCRS, _OLD_BOOT_PCRS)}
        except (ValueError, KeyError):
            continue  # a hash that no bank has here, or PCRs that are not known
        if not any(digest):
            continue  # the kernel found no bank that would do
        matching = [count for count, made in ours.items() if made == digest]
        if not matching:
            raise DoesNotFit(f"{describe(number, entry)} is {digest.hex()}, and the PCRs of bank "
                             f"{bank_name(alg)} give {ours[_BOOT_PCRS].hex()}: the list is of another boot")
        found = f"{bank_name(alg)}:0-{(_OLD_BOOT_PCRS if alg == ids.SHA1 else matching[0]) - 1}"
    return found
