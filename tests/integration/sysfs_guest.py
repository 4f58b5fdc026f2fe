"""Compares the look-alike of sysfs with the kernel's own: a plain script for root in a guest with a TPM.

Usage: sysfs_guest.py 2.0|1.2.  The look-alike is made of what /dev/tpm0 answers.  Prints how many files there
are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from cusetpm import sysfs  # noqa: E402
from cusetpm.devices.files import Directory, Entry, File  # noqa: E402
from cusetpm.tpmfile import TpmFile  # noqa: E402

KERNEL = Path("/sys/class/tpm/tpm0")
# What the kernel knows as a driver, and what every device has in sysfs.
NOT_SHOWN = {"dev", "device", "driver", "null_name", "power", "ppi", "subsystem", "uevent"}
TICK_US = 10_000  # at most


def compare(name: str, entry: Entry, theirs: Path) -> int:
    """Return the number of files that are equal, which are all."""
    if isinstance(entry, Directory):
        now = {*entry.entries.keys() - entry.changing, *entry.now()}
        kernel = {found.name for found in theirs.iterdir()}
        assert now - {"device"} == kernel - NOT_SHOWN, (name, now, kernel)
        return sum(compare(f"{name}/{each}", entry.entries[each], theirs / each) for each in sorted(now))
    if not isinstance(entry, File):
        return 0
    mode = (0o444 if entry.read is not None else 0) | (0o200 if entry.write is not None else 0)
    assert theirs.stat().st_mode & 0o777 == mode, name
    assert theirs.stat().st_size == entry.size, name
    if entry.read is None:
        return 0
    ours, kernels = entry.read(), theirs.read_bytes()
    if theirs.name in ("durations", "timeouts"):
        # The kernel counts in ticks, of which it takes one more rather than wait too short.
        *numbers, adjusted = kernels.split()
        assert adjusted == b"[original]"
        for number, exact in zip(map(int, numbers), map(int, ours.split()[:-1]), strict=True):
            assert exact <= number < exact + TICK_US, (name, ours, kernels)
        return 1
    assert ours == kernels, (name, ours, kernels)
    return 1


def main(family: str) -> None:
    os.environ.clear()
    with TpmFile("/dev/tpm0") as tpm:
        nothing = Path("/nonexistent")
        found: Entry = Directory(sysfs.tree(tpm.execute, family, lambda: None, nothing, nothing))
        for name in ("class", "tpm", "tpm0"):
            assert isinstance(found, Directory)
            found = found.entries[name]
        print(compare("tpm0", found, KERNEL), "files are equal")


if __name__ == "__main__":
    main(sys.argv[1])
