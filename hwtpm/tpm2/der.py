"""The little of DER that X.509 certificates need (ITU-T X.690).

Only tags of one octet and lengths of one to three octets occur.  Nothing is recursive: the caller opens what
it wants to see inside.
"""

from __future__ import annotations

from typing import Final, NamedTuple

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = b"\x05\x00"
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
CONTEXT: Final = 0xA0  # constructed, context-specific; plus its number


class Element(NamedTuple):
    """One element: its tag, all its octets, and its contents alone."""

    tag: int
    octets: bytes
    contents: bytes


def encode(tag: int, *parts: bytes) -> bytes:
    """Return the element of *tag* whose contents are all *parts*."""
    contents = b"".join(parts)
    size = len(contents)
    if size < 0x80:
        length = bytes([size])
    else:
        length = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(length)]) + length
    return bytes([tag]) + length + contents


def sequence(*parts: bytes) -> bytes:
    """Return the SEQUENCE of *parts*."""
    return encode(SEQUENCE, *parts)


def integer(value: int) -> bytes:
    """Return the INTEGER *value*, which is not negative."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def bit_string(octets: bytes) -> bytes:
    """Return the BIT STRING of whole *octets*."""
    return encode(BIT_STRING, b"\0", octets)


def identifier(dotted: str) -> bytes:
    """Return the OBJECT IDENTIFIER that is written as *dotted*."""
    first, second, *rest = map(int, dotted.split("."))
    contents = bytearray()
    for number in (40 * first + second, *rest):
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.append(0x80 | number & 0x7F)
        contents += bytes(reversed(octets))
    return encode(OBJECT_IDENTIFIER, bytes(contents))


def elements(octets: bytes) -> list[Element]:
    """Return the elements that follow each other in *octets*; raises ValueError unless they fill them."""
    found: list[Element] = []
    off = 0
    while off < len(octets):
        start = off
        tag = octets[off]
        if tag & 0x1F == 0x1F or off + 2 > len(octets):
            raise ValueError("a DER tag or length that is not understood")
        size, off = octets[off + 1], off + 2
        if size in (0x81, 0x82):
            digits = size & 0x7F
            size, off = int.from_bytes(octets[off : off + digits], "big"), off + digits
        elif size >= 0x80:
            raise ValueError("a DER length that is not understood")
        end = off + size
        if end > len(octets):
            raise ValueError("a DER element that is cut short")
        found.append(Element(tag, octets[start:end], octets[off:end]))
        off = end
    return found


def bits(octets: bytes) -> int:
    """Return the 32 bits of the one BIT STRING in *octets*, the first of them the most significant one.

    Raises ValueError when it is another element, longer, or malformed.
    """
    (found,) = elements(octets)
    if found.tag != BIT_STRING or not found.contents:
        raise ValueError("no DER bit string")
    unused, value = found.contents[0], found.contents[1:]
    if unused > 7 or (unused and not value) or len(value) > 4:
        raise ValueError("a DER bit string that is not understood")
    number = int.from_bytes(value.ljust(4, b"\0"), "big")
    return number >> unused + 8 * (4 - len(value)) << unused + 8 * (4 - len(value))
