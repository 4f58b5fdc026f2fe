"""Where each member of a command stands in its octets, found from the declared structures."""

from __future__ import annotations

from collections.abc import Iterator
from struct import calcsize
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.constants import TPM_ST_SESSIONS
from hwtpm.wire import (
    Arms,
    Boxed,
    Fixed,
    Int,
    ListOf,
    Sized,
    _member,
    handle_area,
    members,
    parameter_area,
    parameter_writer,
    writer_of,
)


class Field(NamedTuple):
    """One integer, size, count or run of octets.

    *kind* is "int", "size", "count", "octets" or "handle"; *sizes* are offset and width of the size fields
    around it, the innermost last.
    """

    path: str
    kind: str
    offset: int
    size: int
    spec: Any
    sizes: tuple[tuple[int, int], ...] = ()


def fields(request: Command[Any], command: bytes) -> list[Field]:
    """Return the fields of *command*, which *request* was encoded to, in their order."""
    found = [
        Field("tag", "int", 0, 2, None),
        Field("commandSize", "size", 2, 4, None),
        Field("commandCode", "int", 6, 4, None),
    ]
    off = 10
    for member in handle_area(type(request)):
        found.append(Field(member.name, "handle", off, 4, member.spec or _member("v", member.type).spec))
        off += 4
    if int.from_bytes(command[:2], "big") == TPM_ST_SESSIONS:
        found += _authorizations(command, off)
    off = len(command) - len(parameter_writer(type(request))(request))
    for member in parameter_area(type(request)):
        value = getattr(request, member.name)
        inner = list(_walk(member.type, value, None, off, member.name, ()))
        found += inner
        if inner:
            off = inner[-1].offset + inner[-1].size
    assert off == len(command), f"the fields of {type(request).__name__} end at {off} of {len(command)}"
    return found


def walk(tp: Any, value: Any, off: int, path: str) -> Iterator[Field]:
    """Yield the fields of a parameter of type *tp* that is encoded at *off*."""
    return _walk(tp, value, None, off, path, ())


def _authorizations(command: bytes, off: int) -> Iterator[Field]:
    area = ((off, 4),)
    yield Field("authorizationSize", "size", off, 4, None)
    end = off + 4 + int.from_bytes(command[off : off + 4], "big")
    off += 4
    number = 1
    while off < end:
        name = f"session{number}"
        yield Field(f"{name}.handle", "handle", off, 4, None, area)
        for part in ("nonce", "hmac"):
            off += 4 if part == "nonce" else 1
            size = int.from_bytes(command[off : off + 2], "big")
            yield Field(f"{name}.{part}.size", "size", off, 2, Sized(64), area)
            yield Field(f"{name}.{part}", "octets", off + 2, size, Sized(64), (*area, (off, 2)))
            off += 2 + size
            if part == "nonce":
                yield Field(f"{name}.attributes", "int", off, 1, Int("B", reserved=0x18), area)
        number += 1


def _walk(
    tp: Any, value: Any, owner: Any, off: int, path: str, sizes: tuple[tuple[int, int], ...]
) -> Iterator[Field]:
    """Yield the fields of a *value* of type *tp* that is encoded at *off*."""
    if tp is None:
        return
    if get_origin(tp) is not Annotated:
        if (tag := getattr(tp, "TAG", None)) is not None:
            yield Field(f"{path}.tag", "int", off, 2, Int("H", allowed=range(tag, tag + 1)), sizes)
            off += 2
        for member in members(tp):
            inner = list(
                _walk(
                    member.type,
                    getattr(value, member.name),
                    (value, member),
                    off,
                    f"{path}.{member.name}",
                    sizes,
                )
            )
            yield from inner
            if inner:
                off = inner[-1].offset + inner[-1].size
        return
    spec = _member("v", tp).spec
    if spec is None:
        yield from _walk(get_args(tp)[0], value, owner, off, path, sizes)
    elif isinstance(spec, Int):
        yield Field(path, "int", off, calcsize(">" + spec.code), spec, sizes)
    elif isinstance(spec, Fixed):
        yield Field(path, "octets", off, spec.size, spec, sizes)
    elif isinstance(spec, Arms):
        holder, member = owner
        yield from _walk(spec.arms[getattr(holder, member.selector)], value, owner, off, path, sizes)
    elif isinstance(spec, ListOf):
        width = calcsize(">" + spec.prefix)
        yield Field(f"{path}.count", "count", off, width, spec, sizes)
        off += width
        element = get_args(get_args(tp)[0])[0]
        for number, item in enumerate(value):
            yield from _walk(element, item, None, off, f"{path}[{number}]", sizes)
            off += len(writer_of(element)(item))
    else:
        width = calcsize(">" + spec.prefix)
        yield Field(f"{path}.size", "size", off, width, spec, sizes)
        around = (*sizes, (off, width))
        if isinstance(spec, Sized):
            yield Field(path, "octets", off + width, len(value), spec, around)
        elif isinstance(spec, Boxed) and value is not None:
            inner_type = get_args(tp)[0]
            if spec.optional:
                inner_type = next(a for a in get_args(inner_type) if a is not type(None))
            yield from _walk(inner_type, value, owner, off + width, path, around)
