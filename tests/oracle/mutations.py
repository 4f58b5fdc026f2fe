"""Commands made wrong, one field at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from hwtpm.wire import Int, ListOf, Sized
from tests.oracle.layout import Field

HANDLES = (
    0, 16, 23, 24, 0x01500001, 0x01500002, 0x015000FF, 0x02000000, 0x02000001, 0x0200003F, 0x02000040,
    0x03000000, 0x03000001, 0x03000040, 0x11000001, 0x12000001, 0x40000000, 0x40000001, 0x40000006,
    0x40000007, 0x40000009, 0x4000000A, 0x4000000B, 0x4000000C, 0x4000000D, 0x40000010, 0x40000110,
    0x40000111, 0x40000140, 0x40010000, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80FFFFFF,
    0x81000001, 0x810000FF, 0x81800001, 0x90000000, 0xFFFFFFFF,
)
ALGORITHMS = (
    0, 1, 3, 4, 5, 6, 7, 8, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x10, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x20, 0x21, 0x22, 0x23, 0x25, 0x26, 0x27, 0x28, 0x29, 0x3F, 0x40, 0x41,
    0x42, 0x43, 0x44, 0x45, 0x7FFF, 0xFFFF,
)
_PLAIN = {
    1: (0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFF),
    2: (0, 1, 2, 8, 64, 128, 192, 256, 1024, 1025, 2047, 2048, 2049, 0x7FFF, 0xFFFF, 0x8001, 0x8014, 0x8021,
        0x8022, 0x8023, 0x8024, 0x8025),
    4: (0, 1, 2, 3, 65537, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x0000011F, 0x0000017B, 0x000001FF),
    8: (0, 1, 1 << 32, (1 << 64) - 1),
}
_NEIGHBOURS = (-1, 1)


class Mutation(NamedTuple):
    """Changes the octets of field number *field*; -1 is the end of the command.

    The two TPMs have different octets in a field that holds what they made, so *change* says what becomes of
    them.  With *fit*, the sizes around the field are made to fit; without, they lie.  With *cut*, the command
    ends behind what is left of the field.  The size in the header always fits.
    """

    label: str
    field: int
    change: Callable[[bytes], bytes]
    fit: bool = True
    cut: bool = False


def apply(command: bytes, fields: list[Field], mutation: Mutation) -> bytes:
    """Return *command* with *mutation* done to it."""
    changed = bytearray(command)
    if mutation.field < 0:
        changed += mutation.change(b"")
    else:
        field = fields[mutation.field]
        end = field.offset + field.size
        new = mutation.change(command[field.offset : end])
        changed[field.offset : len(command) if mutation.cut else end] = new
        grown = len(changed) - len(command)
        for offset, width in field.sizes if mutation.fit and not mutation.cut else ():
            size = int.from_bytes(changed[offset : offset + width], "big") + grown
            changed[offset : offset + width] = (size % (1 << 8 * width)).to_bytes(width, "big")
    changed[2:6] = len(changed).to_bytes(4, "big")
    return bytes(changed)


def each(command: bytes, fields: list[Field]) -> Iterator[Mutation]:
    """Yield what can be made wrong in *command*, always the same in the same order."""
    yield Mutation("trailing octet", -1, _to(b"\0"))
    yield Mutation("trailing octets", -1, _to(b"\x80\x01\0\0\0\x0a\0\0\x01\x7b"))
    for number, field in enumerate(fields):
        if field.path == "commandSize":
            continue  # The stream to swtpm is framed by it, and so by the ten octets of the header.
        if field.offset >= 10:
            yield Mutation(f"{field.path} cut", number, _to(b""), cut=True)
            if field.size > 1:
                yield Mutation(f"{field.path} half cut", number, lambda octets: octets[:-1], cut=True)
        yield from _of(command, number, field)


def _to(octets: bytes) -> Callable[[bytes], bytes]:
    return lambda _: octets


def _of(command: bytes, number: int, field: Field) -> Iterator[Mutation]:
    octets = command[field.offset : field.offset + field.size]
    value = int.from_bytes(octets, "big")
    if field.kind in ("int", "handle"):
        for other in _integers(field, value):
            yield Mutation(f"{field.path} = 0x{other:x}", number, _to(other.to_bytes(field.size, "big")))
    elif field.kind in ("size", "count"):
        yield from _lies(number, field, value)
    elif isinstance(field.spec, Sized):
        yield from _sized(number, field, octets)
    elif octets:
        yield Mutation(f"{field.path} flipped at first", number, _flip_first)


def _lies(number: int, field: Field, value: int) -> Iterator[Mutation]:
    top = (1 << 8 * field.size) - 1

    def more(difference: int) -> Callable[[bytes], bytes]:
        def change(octets: bytes) -> bytes:
            told = int.from_bytes(octets, "big") + difference
            return min(max(told, 0), top).to_bytes(field.size, "big")

        return change

    for difference in (-1, 1, 100):
        if 0 <= value + difference <= top:
            yield Mutation(f"{field.path} lies by {difference}", number, more(difference), fit=False)
    if value:
        yield Mutation(f"{field.path} lies: 0", number, _to(bytes(field.size)), fit=False)
    yield Mutation(f"{field.path} lies: the most", number, _to(b"\xff" * field.size), fit=False)
    if isinstance(field.spec, ListOf) and field.spec.limit < 300:
        over = (field.spec.limit + 1).to_bytes(field.size, "big")
        yield Mutation(f"{field.path} over the limit", number, _to(over), fit=False)


def _sized(number: int, field: Field, octets: bytes) -> Iterator[Mutation]:
    if octets:
        yield Mutation(f"{field.path} empty", number, _to(b""))
        yield Mutation(f"{field.path} one short", number, lambda old: old[:-1])
        yield Mutation(f"{field.path} zeros", number, lambda old: bytes(len(old)))
        yield Mutation(f"{field.path} flipped at first", number, _flip_first)
        yield Mutation(f"{field.path} flipped at last", number, lambda old: old[:-1] + bytes([old[-1] ^ 1]))
    yield Mutation(f"{field.path} one long", number, lambda old: old + b"\x01")
    yield Mutation(f"{field.path} led by zero", number, lambda old: b"\0" + old)
    limit = field.spec.limit
    for size in sorted({20, 32, limit, limit + 1} - {len(octets)}):
        if size <= 1100:
            name = {limit: "at the limit", limit + 1: "over the limit"}.get(size, f"of {size}")
            yield Mutation(f"{field.path} {name}", number, _of_size(size))


def _of_size(size: int) -> Callable[[bytes], bytes]:
    return lambda old: (old + b"\x5a" * size)[:size]


def _flip_first(octets: bytes) -> bytes:
    return bytes([octets[0] ^ 1]) + octets[1:]


def _integers(field: Field, value: int) -> list[int]:
    """Return values worth trying in the place of *value*, in order."""
    spec, bits = field.spec, 8 * field.size
    others = {(value + d) % (1 << bits) for d in _NEIGHBOURS}
    if field.kind == "handle":
        others |= set(HANDLES)
    elif field.path == "tag":
        others |= {0, 0xC1, 0xC4, 0x8000, 0x8001, 0x8002, 0x8003, 0xFFFF}
    elif field.path == "commandCode":
        others = {0, 0x11E, 0x20000000 | value, 0x10000 | value, 0x80000000 | value, 0xFFFFFFFF}
    elif isinstance(spec, Int) and (spec.reserved or "attributes" in field.path or "locality" in field.path):
        others |= {value ^ (1 << bit) for bit in range(bits)} | {0, (1 << bits) - 1}
    elif isinstance(spec, Int) and spec.allowed is not None and bits == 32:
        others |= set(HANDLES) | set(_PLAIN[4])
    elif isinstance(spec, Int) and bits == 16 and not isinstance(spec.allowed, range | None):
        others |= set(ALGORITHMS) | set(_PLAIN[2])
    else:
        others |= set(_PLAIN[field.size])
    if field.path == "expiration":
        # Seconds in which an authorization expires: what is over for one TPM may not be for the other.
        others = {v for v in others if v >= 10000 and (1 << bits) - v >= 10000}
    return sorted(others - {value})


def random_octets(rng: Random, command: bytes) -> list[tuple[int, int]]:
    """Return some octets after the header of *command* that are changed: place and value."""
    done = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(command) > 10:
            at = rng.randrange(10, len(command))
            done.append((at, rng.choice((0, 1, 0x7F, 0x80, 0xFF, command[at] ^ (1 << rng.randrange(8))))))
    return done


def with_octets(command: bytes, fields: list[Field], done: list[tuple[int, int]]) -> tuple[str, bytes]:
    """Return the name of a change of octets, which tells new values of integers, and *command* with it."""
    changed = bytearray(command)
    for at, value in done:
        changed[at] = value
    label = f"octets {' '.join(f'{at}:{value:02x}' for at, value in done)}"
    for at, _ in done:
        field = next(f for f in fields if f.offset <= at < f.offset + f.size)
        told = int.from_bytes(changed[field.offset : field.offset + field.size], "big")
        label += f", {field.path}" + (f" = 0x{told:x}" if field.kind in ("int", "handle") else "")
    return label, bytes(changed)
