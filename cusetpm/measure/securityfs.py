"""The files in which Linux shows measurement lists, made of lists that were recorded."""

from __future__ import annotations

from cusetpm.measure import ima, tcglog


def files(*, event_log: bytes = b"", ima_list: bytes = b"") -> dict[str, bytes]:
    """Return the content of each file by its name; there is none for a list that is empty.

    *ima_list* may be in either of the kernel's formats and is shown in both.  Raises BadLog for octets that
    are no such list, and for an ASCII list with a template whose fields are not known.
    """
    found: dict[str, bytes] = {}
    if event_log:
        # Memory that was reserved for the log and not used is left out.
        found["binary_bios_measurements"] = tcglog.encode(tcglog.parse(event_log))
    if ima_list:
        measurements = ima.parse(ima_list)
        found["binary_runtime_measurements"] = ima.binary_runtime_measurements(measurements)
        found["ascii_runtime_measurements"] = ima.ascii_runtime_measurements(measurements)
    return found
