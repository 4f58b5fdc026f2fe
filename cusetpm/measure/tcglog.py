"""The firmware's event log: TCG PC Client Platform Firmware Profile (version 1.05), chapter 10.

There are two formats, both little-endian:

    TCG_PCClientPCREvent   UINT32 pcrIndex, eventType; octets digest[20]; UINT32 eventDataSize; the data
    TCG_PCR_EVENT2         UINT32 pcrIndex, eventType; TPML_DIGEST_VALUES; UINT32 eventSize; the data

A log of the second kind ("crypto agile") begins with one event of the first whose data is
TCG_EfiSpecIDEvent, which tells the algorithms and the sizes of their digests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from cusetpm.measure import BadLog
from cusetpm.measure.pcr import COUNT, Pcr, bank_name, extended
from hwtpm.crypto import hashes, ids

EV_NO_ACTION: Final = 0x00000003
EV_EFI_HCRTM_EVENT: Final = 0x80000010
SPEC_ID_03: Final = b"Spec ID Event03\0"
STARTUP_LOCALITY: Final = b"StartupLocality\0"

_SHA1_SIZE: Final = 20
_HEAD: Final = struct.Struct("<II")
_U32: Final = struct.Struct("<I")
_U16: Final = struct.Struct("<H")
_SPEC_ID: Final = struct.Struct("<16sIBBBBI")
_ALGORITHM: Final = struct.Struct("<HH")


class Event(NamedTuple):
    """One event: what was extended into each bank of its PCR, and what that was made of."""

    pcr: int
    type: int
    digests: dict[int, bytes]
    data: bytes


class SpecId(NamedTuple):
    """TCG_EfiSpecIDEvent (10.4.5.1)."""

    platform_class: int
    version: tuple[int, int, int]  # major, minor, errata
    uintn_size: int
    algorithms: dict[int, int]  # with the size of their digests in octets
    vendor_info: bytes


class Log(NamedTuple):
    """Events in order.  *spec_id* is None for a log of the first kind, and then all digests are SHA-1."""

    events: list[Event]
    spec_id: SpecId | None

    @property
    def banks(self) -> list[int]:
        """The algorithms of the digests, as far as they are known here."""
        found = self.spec_id.algorithms if self.spec_id is not None else {ids.SHA1: _SHA1_SIZE}
        return [alg for alg in found if alg in hashes.ALGORITHMS]


class _Reader:
    """A place in the octets of a log."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int, what: str) -> bytes:
        if size > len(self.data) - self.at:
            raise BadLog(f"it ends within {what} of {size} octets")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")


def parse(data: bytes) -> Log:
    """Return the log that *data* is; raises BadLog.

    Memory that was reserved for a log and not used, zeros or ones, may follow the last event.
    """
    if not data:
        raise BadLog("an empty log")
    reader = _Reader(data)
    events: list[Event] = []
    spec_id: SpecId | None = None
    while reader.at < len(data):
        if events and _unused(data, reader.at):
            break
        begin = reader.at
        try:
            event = _read_event2(reader, spec_id) if spec_id else _read_event(reader)
            if not events and event.type == EV_NO_ACTION and event.data.startswith(SPEC_ID_03):
                spec_id = parse_spec_id(event.data)
        except BadLog as error:
            raise BadLog(f"event {len(events)}, at octet {begin}: {error}") from None
        events.append(event)
    return Log(events, spec_id)


def _unused(data: bytes, at: int) -> bool:
    """Tell whether nothing but zeros, or nothing but ones, follows."""
    return data[at] in (0, 0xFF) and data.count(data[at : at + 1], at) == len(data) - at


def _head(reader: _Reader) -> tuple[int, int]:
    pcr, kind = _HEAD.unpack(reader.take(8, "a header"))
    # What was not extended need not name a PCR.
    if pcr >= COUNT and kind != EV_NO_ACTION:
        raise BadLog(f"no PCR {pcr}")
    return pcr, kind


def _read_event(reader: _Reader) -> Event:
    pcr, kind = _head(reader)
    digest = reader.take(_SHA1_SIZE, "a digest")
    return Event(pcr, kind, {ids.SHA1: digest}, reader.take(reader.number("a size"), "data"))


def _read_event2(reader: _Reader, spec_id: SpecId) -> Event:
    pcr, kind = _head(reader)
    count = reader.number("a count of digests")
    if count > len(spec_id.algorithms):
        raise BadLog(f"{count} digests, and the log has {len(spec_id.algorithms)} algorithms")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        (alg,) = _U16.unpack(reader.take(2, "an algorithm"))
        if alg not in spec_id.algorithms or alg in digests:
            raise BadLog(f"a digest of {bank_name(alg)}: none of the log's algorithms, or its second")
        digests[alg] = reader.take(spec_id.algorithms[alg], "a digest")
    return Event(pcr, kind, digests, reader.take(reader.number("a size"), "data"))


def parse_spec_id(data: bytes) -> SpecId:
    reader = _Reader(data)
    _, platform, minor, major, errata, uintn, count = _SPEC_ID.unpack(
        reader.take(_SPEC_ID.size, "TCG_EfiSpecIDEvent"))
    algorithms: dict[int, int] = {}
    for _ in range(count):
        alg, size = _ALGORITHM.unpack(reader.take(_ALGORITHM.size, "the algorithms"))
        if alg in algorithms or (alg in hashes.ALGORITHMS and size != hashes.size(alg)):
            raise BadLog(f"algorithm {bank_name(alg)} twice, or with digests of {size} octets")
        algorithms[alg] = size
    if not algorithms:
        raise BadLog("no algorithms")
    (size,) = reader.take(1, "the size of the vendor's information")
    vendor_info = reader.take(size, "the vendor's information")
    return SpecId(platform, (major, minor, errata), uintn, algorithms, vendor_info)


def encode(log: Log) -> bytes:
    """Return the octets of *log*: what Linux shows as binary_bios_measurements."""
    pieces: list[bytes] = []
    for number, event in enumerate(log.events):
        if number == 0 or log.spec_id is None:
            pieces.append(_HEAD.pack(event.pcr, event.type) + event.digests[ids.SHA1])
        else:
            pieces.append(_HEAD.pack(event.pcr, event.type) + _U32.pack(len(event.digests)))
            pieces += (_U16.pack(alg) + digest for alg, digest in event.digests.items())
        pieces.append(_U32.pack(len(event.data)) + event.data)
    return b"".join(pieces)


# Replay

def startup_locality(log: Log) -> int:
    """Return what PCR 0 begins with: the locality of Startup, 4 after an H-CRTM (10.4.5.3; Part 1, 34.3)."""
    locality = 0
    for event in log.events:
        if event.pcr == 0 and event.type == EV_EFI_HCRTM_EVENT:
            return 4
        if event.type == EV_NO_ACTION and event.data.startswith(STARTUP_LOCALITY):
            locality = event.data[len(STARTUP_LOCALITY)] if len(event.data) > len(STARTUP_LOCALITY) else 0
    return locality


def replay(log: Log) -> dict[Pcr, bytes]:
    """Return what the log leads to: every PCR that it extends, and PCR 0."""
    *_, last = steps(log)
    return last


def steps(log: Log) -> Iterator[dict[Pcr, bytes]]:
    """Yield the PCRs of the log before the first event and after each; it is one dictionary that changes."""
    banks = log.banks
    locality = startup_locality(log)
    # After a dynamic launch, which the log then speaks of, PCRs 17 to 22 begin with zeros as well.
    used = {event.pcr for event in log.events if event.type != EV_NO_ACTION} | {0}
    values = {(alg, pcr): bytes(hashes.size(alg)) for alg in banks for pcr in sorted(used)}
    for alg in banks:
        values[alg, 0] = locality.to_bytes(hashes.size(alg), "big")
    yield values
    for event in log.events:
        if event.type != EV_NO_ACTION:
            for alg, digest in event.digests.items():
                if alg in hashes.ALGORITHMS:
                    values[alg, event.pcr] = extended(alg, values[alg, event.pcr], digest)
        yield values
