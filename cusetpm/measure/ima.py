"""IMA's measurement list: its entries, and the two formats in which Linux shows it.

One entry is a line of `ascii_runtime_measurements` or a record of `binary_runtime_measurements` (Linux,
security/integrity/ima/ima_fs.c):

    UINT32 pcr, template digest, UINT32 size and name of the template, UINT32 size and template data

in the byte order of the machine, or little-endian after `ima_canonical_fmt`.  Template data are fields, each
a UINT32 size and its octets; the digest is the hash of exactly that.  The oldest template, "ima", is another
one: no sizes but that of the name, and the digest is over the file's digest and the name, which zeros fill up
to 256 octets.

The digest is SHA-1, or another hash in the lists that newer kernels have for each (`..._sha256`).  An entry
that records a violation has a digest of zeros, and all ones were extended in its place.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from cusetpm.measure import BadLog
from hwtpm.crypto import hashes, ids

Order = Literal["little", "big"]
Format = Literal["binary", "ascii"]

BOOT_AGGREGATE: Final = b"boot_aggregate"
PCR: Final = 10  # CONFIG_IMA_MEASURE_PCR_IDX
NAME_MAX: Final = 255  # IMA_EVENT_NAME_LEN_MAX, for template "ima"

TEMPLATES: Final = {
    "ima": "d|n",
    "ima-ng": "d-ng|n-ng",
    "ima-sig": "d-ng|n-ng|sig",
    "ima-ngv2": "d-ngv2|n-ng",
    "ima-sigv2": "d-ngv2|n-ng|sig",
    "ima-buf": "d-ng|n-ng|buf",
    "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
    "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
}
"""The kernel's templates.  A format chosen with ima_template_fmt= is its own name."""

_DIGEST_SIZES: Final = {20: ids.SHA1, 32: ids.SHA256, 48: ids.SHA384, 64: ids.SHA512}
_TEMPLATE_NAME_MAX: Final = 128  # the kernel's longest has 71 octets
_IMA_DIGEST: Final = 20  # of template "ima"


class Entry(NamedTuple):
    """One measurement.

    *fields* are those of the template, without sizes; strings end with their NUL, except in template "ima".
    They are None for an ASCII entry of a template whose fields are not known, and *text* is what it said.
    """

    pcr: int
    digest: bytes
    template: str
    fields: tuple[bytes, ...] | None
    text: bytes = b""

    @property
    def violation(self) -> bool:
        """The file was open for writing when it was measured, or the other way round."""
        return not any(self.digest)

    def field(self, *names: str) -> bytes:
        """Return the first field of one of *names*; empty when there is none."""
        if self.fields is not None:
            for name, value in zip(_field_names(self.template), self.fields, strict=False):
                if name in names:
                    return value
        return b""

    @property
    def name(self) -> bytes:
        """What was measured: a path, or what the kernel calls it; empty when the template does not tell."""
        return self.field("n-ng", "n").removesuffix(b"\0")

    @property
    def file_digest(self) -> tuple[str, bytes]:
        """The algorithm, empty in template "ima", and the digest of what was measured."""
        head, _, digest = self.field("d-ng", "d-ngv2").partition(b"\0")
        if head.endswith(b":"):
            return head[:-1].rpartition(b":")[2].decode("ascii", "replace"), digest
        return "", self.field("d")

    def hashed(self, order: Order) -> bytes | None:
        """Return the octets that the template digest is over, on a machine of this byte *order*.

        None when the template's fields are not known.
        """
        if self.fields is None:
            return None
        if self.template == "ima":
            digest, name = self.fields
            return digest + name.ljust(NAME_MAX + 1, b"\0")
        return b"".join(len(f).to_bytes(4, order) + f for f in self.fields)


class MeasurementList(NamedTuple):
    """Entries in order, the hash that their template digests are of, and how they were written down."""

    entries: list[Entry]
    alg: int = ids.SHA1
    format: Format = "binary"
    order: Order = "little"


def parse(data: bytes) -> MeasurementList:
    """Return the list that *data* is, in whichever of the formats; raises BadLog.

    In the ASCII format, the byte order of the machine is found by the digests.
    """
    if not data:
        raise BadLog("an empty list")
    if _LINE.match(data):
        return _parse_ascii(data)
    # A PCR is a small number, so its zero octets tell the byte order.
    order: Order = "big" if data[:3] == bytes(3) and data[3:4] != b"\0" else "little"
    if len(data) < 4 or int.from_bytes(data[:4], order) >= 256:
        raise BadLog("neither of IMA's list formats")
    failures: list[tuple[int, BadLog]] = []
    for size, alg in _DIGEST_SIZES.items():
        reader = _Reader(data, order)
        entries: list[Entry] = []
        try:
            while reader.at < len(data):
                entries.append(_read_entry(reader, size))
        except BadLog as error:
            where = f"entry {len(entries) + 1}, at octet {reader.begin}: {error}"
            failures.append((len(entries), BadLog(where)))
        else:
            return MeasurementList(entries, alg, "binary", order)
    # The digest size that made most sense knows best what is wrong.
    raise max(failures, key=lambda f: f[0])[1]


def encode(entry: Entry, order: Order = "little") -> bytes:
    """Return *entry* as in binary_runtime_measurements; BadLog when its fields are not known."""
    if entry.fields is None:
        raise BadLog(f"the fields of template {entry.template} are not known: use the binary list")
    template = entry.template.encode()
    head = entry.pcr.to_bytes(4, order) + entry.digest + len(template).to_bytes(4, order) + template
    if entry.template == "ima":
        digest, name = entry.fields
        return head + digest + len(name).to_bytes(4, order) + name
    data = entry.hashed(order)
    assert data is not None
    return head + len(data).to_bytes(4, order) + data


def show(entry: Entry, order: Order = "little") -> bytes:
    """Return *entry* as a line of ascii_runtime_measurements, with its end."""
    line = b"%2d %s %s " % (entry.pcr, entry.digest.hex().encode(), entry.template.encode())
    if entry.fields is None:
        return line + entry.text + b"\n"
    names = _field_names(entry.template)
    shown = [_show_field(name, value, order) for name, value in zip(names, entry.fields, strict=False)]
    # What lies beyond the fields that are known is shown in hexadecimal.
    shown += [value.hex().encode() for value in entry.fields[len(names):]]
    return line + b" ".join(shown) + b"\n"


def binary_runtime_measurements(measurements: MeasurementList) -> bytes:
    """Return the content of the kernel's file of that name."""
    return b"".join(encode(entry, measurements.order) for entry in measurements.entries)


def ascii_runtime_measurements(measurements: MeasurementList) -> bytes:
    """Return the content of the kernel's file of that name."""
    return b"".join(show(entry, measurements.order) for entry in measurements.entries)


def make(template: str, alg_name: str, digest: bytes, name: bytes, signature: bytes = b"") -> Entry:
    """Return the entry of SHA-1 template digest that a kernel would make of a measurement into PCR 10.

    *template* is "ima", "ima-ng" or "ima-sig".  *digest* is that of the file, by the algorithm of *alg_name*,
    which template "ima" does not record.  As in the kernel, spaces in *name* become underscores.
    """
    name = name.replace(b" ", b"_")
    if template == "ima":
        # A path that is too long is cut to its last component.
        short = name if len(name) <= NAME_MAX else name.rpartition(b"/")[2][:NAME_MAX]
        fields: tuple[bytes, ...] = (digest.ljust(_IMA_DIGEST, b"\0"), short)
    else:
        fields = (alg_name.encode() + b":\0" + digest, name + b"\0")
        if template == "ima-sig":
            fields += (signature,)
    made = Entry(PCR, b"", template, fields)
    covered = made.hashed("little")
    assert covered is not None
    return made._replace(digest=hashes.digest(ids.SHA1, covered))


# Fields

def _field_names(template: str) -> list[str]:
    known = TEMPLATES.get(template, template)
    names = known.split("|")
    return names if all(name in _FIELDS for name in names) else []


def _show_hex(value: bytes, order: Order) -> bytes:
    return value.hex().encode()


def _show_string(value: bytes, order: Order) -> bytes:
    return value.partition(b"\0")[0]


def _show_number(value: bytes, order: Order) -> bytes:
    return str(int.from_bytes(value, order)).encode() if value else b""


def _show_digest(value: bytes, order: Order) -> bytes:
    head, _, digest = value.partition(b"\0")
    return (b"" if head == b":" else head) + digest.hex().encode()


def _read_hex(text: bytes, order: Order) -> bytes:
    return bytes.fromhex(text.decode("ascii"))


def _read_string(text: bytes, order: Order) -> bytes:
    return text + b"\0"


def _read_digest(text: bytes, order: Order) -> bytes:
    head, colon, digest = text.rpartition(b":")
    return head + (colon or b":") + b"\0" + _read_hex(digest, order)


def _read_number(size: int) -> Callable[[bytes, Order], bytes]:
    return lambda text, order: int(text).to_bytes(size, order)


_Show = Callable[[bytes, Order], bytes]
# How a field is shown, how its text is read, and whether no text may stand for no octets.
_FIELDS: Final[dict[str, tuple[_Show, _Show, bool]]] = {
    "d": (_show_hex, _read_hex, False),
    "n": (_show_string, lambda text, order: text, False),
    "d-ng": (_show_digest, _read_digest, True),
    "d-ngv2": (_show_digest, _read_digest, True),
    "n-ng": (_show_string, _read_string, False),
    "sig": (_show_hex, _read_hex, True),
    "buf": (_show_hex, _read_hex, True),
    "d-modsig": (_show_digest, _read_digest, True),
    "modsig": (_show_hex, _read_hex, True),
    "evmsig": (_show_hex, _read_hex, True),
    "xattrnames": (_show_string, _read_string, True),
    "xattrlengths": (_show_hex, _read_hex, True),
    "xattrvalues": (_show_hex, _read_hex, True),
    "iuid": (_show_number, _read_number(4), True),
    "igid": (_show_number, _read_number(4), True),
    "imode": (_show_number, _read_number(2), True),
}


def _show_field(name: str, value: bytes, order: Order) -> bytes:
    return _FIELDS[name][0](value, order)


# Binary

class _Reader:
    """A place in a binary list."""

    def __init__(self, data: bytes, order: Order) -> None:
        self.data, self.at, self.begin = data, 0, 0
        self._u32 = struct.Struct("<I" if order == "little" else ">I").unpack_from

    def number(self, what: str) -> int:
        if self.at + 4 > len(self.data):
            raise BadLog(f"it ends within {what}")
        (value,) = self._u32(self.data, self.at)
        self.at += 4
        return int(value)

    def octets(self, size: int, what: str) -> bytes:
        if size > len(self.data) - self.at:
            raise BadLog(f"it ends within {what}, which would have {size} octets")
        self.at += size
        return self.data[self.at - size : self.at]


def _read_entry(reader: _Reader, digest_size: int) -> Entry:
    reader.begin = reader.at
    pcr = reader.number("the PCR")
    if pcr >= 256:
        raise BadLog(f"a PCR {pcr}")
    digest = reader.octets(digest_size, "the template digest")
    size = reader.number("the size of the template's name")
    if not 0 < size <= _TEMPLATE_NAME_MAX:
        raise BadLog(f"a template whose name has {size} octets")
    template = reader.octets(size, "the template's name")
    if not template.isascii() or not template.decode().isprintable() or b" " in template:
        raise BadLog(f"a template called {template!r}")
    if template == b"ima":
        fields = [reader.octets(_IMA_DIGEST, "the file's digest")]
        fields.append(reader.octets(reader.number("the size of the name"), "the name"))
        if len(fields[1]) > NAME_MAX:
            raise BadLog(f"a name of {len(fields[1])} octets")
    else:
        size = reader.number("the size of the template data")
        end = reader.at + size
        if end > len(reader.data):
            raise BadLog(f"it ends within the template data, which would have {size} octets")
        fields = []
        while reader.at < end:
            fields.append(reader.octets(reader.number("the size of a field"), "a field"))
        if reader.at > end:
            raise BadLog("the last field is longer than the template data")
    return Entry(pcr, digest, template.decode(), tuple(fields))


# ASCII

# Names can have line ends in them, so an entry goes on until something that looks like another.
_LINE: Final = re.compile(
    rb"^ ?(\d{1,3}) ([0-9a-f]{128}|[0-9a-f]{96}|[0-9a-f]{64}|[0-9a-f]{40}) ([!-~]{1,128}) ", re.MULTILINE)


def _parse_ascii(data: bytes) -> MeasurementList:
    matches = list(_LINE.finditer(data))
    sizes = {len(m[2]) // 2 for m in matches}
    if len(sizes) != 1:
        raise BadLog("template digests of different sizes")
    alg = _DIGEST_SIZES[sizes.pop()]
    ends = [m.start() for m in matches[1:]] + [len(data)]
    texts = [data[m.end() : end].removesuffix(b"\n") for m, end in zip(matches, ends, strict=True)]
    found = MeasurementList(_read_lines(matches, texts, "little"), alg, "ascii", "little")
    if not _any_fits(found):
        other = MeasurementList(_read_lines(matches, texts, "big"), alg, "ascii", "big")
        if _any_fits(other):
            return other
    return found


def _read_lines(matches: list[re.Match[bytes]], texts: list[bytes], order: Order) -> list[Entry]:
    entries: list[Entry] = []
    for number, (m, text) in enumerate(zip(matches, texts, strict=True), 1):
        pcr, template = int(m[1]), m[3].decode()
        if pcr >= 256:
            raise BadLog(f"entry {number}: a PCR {pcr}")
        try:
            fields = _read_fields(template, text, order)
        except (ValueError, OverflowError):
            raise BadLog(f"entry {number}: not the fields of template {template}") from None
        entries.append(Entry(pcr, bytes.fromhex(m[2].decode()), template, fields, text))
    return entries


def _any_fits(measurements: MeasurementList) -> bool:
    for entry in measurements.entries:
        covered = entry.hashed(measurements.order)
        if covered is not None and hashes.digest(measurements.alg, covered) == entry.digest:
            return True
    return False


def _read_fields(template: str, text: bytes, order: Order) -> tuple[bytes, ...] | None:
    """Return the fields of an ASCII entry, None if they are not known; ValueError if *text* is not theirs."""
    names = _field_names(template)
    if not names:
        return None
    parts = text.split(b" ")
    if len(parts) != len(names):
        raise ValueError(template)
    fields = []
    for name, part in zip(names, parts, strict=True):
        _, read, optional = _FIELDS[name]
        fields.append(b"" if optional and not part else read(part, order))
    if template == "ima" and (len(fields[0]) != _IMA_DIGEST or len(fields[1]) > NAME_MAX):
        raise ValueError(template)
    return tuple(fields)
