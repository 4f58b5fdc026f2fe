"""Compile wire codecs from declared structures.

A structure is a class whose members are annotated in wire order with the types of the specification:

    class TPMS_PCR_SELECTION(Wire):
        hash: TPMI_ALG_HASH
        pcr_select: Annotated[bytes, Sized(4, prefix="B")]

Two rules hold for the whole file.  Nothing is declared twice: constructor, comparison, decoder and encoder
all come from the annotations.  Nothing happens before it is needed: defining a class costs microseconds,
its constructor and codecs are written, compiled and kept on first use, and their source shows up in
tracebacks.  All integers are big-endian (Part 1, "Byte order"); sizes are octets.

A type of the specification is an alias ``Annotated[python type, spec, markers...]``.  The specs are `Int`,
`Sized`, `Fixed`, `Rest`, `Boxed`, `ListOf` and `Arms`; the markers are `PLUS` and `INHERIT` ("+" of Part 2,
4.x), `On` (the selector of a union), `SECRET` (kept out of repr) and a `Role` (a member of the handle area).
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Container, Iterator, Mapping
from enum import Enum
from functools import cache
from struct import Struct
from struct import error as StructError
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from hwtpm.errors import TpmError

# The codes that decoding itself can give (Part 2, 6.6.3); a spec may name others.
RC_VALUE = 0x084
RC_SIZE = 0x095
RC_TAG = 0x097
RC_SELECTOR = 0x098
RC_INSUFFICIENT = 0x09A
RC_RESERVED_BITS = 0x0A1

T = TypeVar("T")
Reader = Callable[[bytes, int], tuple[Any, int]]
Writer = Callable[[Any], bytes]


class Int:
    """A fixed-width integer; *code* is its `struct` letter.

    With *allowed* (any container of int) it is an interface type: other values are answered with *rc*, and
    *null* is one more value that is allowed where the type carries "+".  Bits of *reserved* must be zero
    (TPM_RC_RESERVED_BITS).
    """

    __slots__ = ("allowed", "code", "null", "rc", "reserved")

    def __init__(self, code: str, *, allowed: Container[int] | None = None, rc: int = RC_VALUE,
                 null: int | None = None, reserved: int = 0) -> None:
        self.code, self.allowed, self.rc, self.null, self.reserved = code, allowed, rc, null, reserved


class Sized:
    """TPM2B_: a length and at most *limit* octets (and at least *least*), else *rc*."""

    __slots__ = ("least", "limit", "prefix", "rc")

    def __init__(self, limit: int, *, prefix: str = "H", least: int = 0, rc: int = RC_SIZE) -> None:
        self.limit, self.prefix, self.least, self.rc = limit, prefix, least, rc


class Fixed:
    """Exactly *size* octets without a length."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Rest:
    """All octets that are left: the last member of a message whose header tells its size."""

    __slots__ = ()


class Boxed:
    """TPM2B_ around a structure: a length and the structure that must fill it (TPM_RC_SIZE).

    The length is a UINT16, or what *prefix* says.  With *optional*, a length of zero stands for None;
    otherwise it is TPM_RC_SIZE.
    """

    __slots__ = ("optional", "prefix")

    def __init__(self, *, optional: bool = False, prefix: str = "H") -> None:
        self.optional, self.prefix = optional, prefix


class ListOf:
    """TPML_: a count and *least* to *limit* elements, else *rc*."""

    __slots__ = ("least", "limit", "prefix", "rc")

    def __init__(self, limit: int, *, least: int = 0, prefix: str = "I", rc: int = RC_SIZE) -> None:
        self.limit, self.least, self.prefix, self.rc = limit, least, prefix, rc


class Arms:
    """TPMU_: the type of each selector value; None stands for an empty arm.

    A selector without an arm is answered with *rc*.  The member says through `On` which earlier member of the
    structure is the selector.
    """

    __slots__ = ("arms", "rc")

    def __init__(self, arms: Mapping[int, Any], *, rc: int = RC_SELECTOR) -> None:
        self.arms, self.rc = arms, rc


class On:
    """Marks a union member: *selector* names the earlier member that selects the arm."""

    __slots__ = ("selector",)

    def __init__(self, selector: str) -> None:
        self.selector = selector


class _Marker(Enum):
    PLUS = "+"
    INHERIT = "inherit"
    HIDDEN = "hidden"


PLUS = _Marker.PLUS  # "TYPE+": the null value is allowed here.
INHERIT = _Marker.INHERIT  # "+member": the null value is allowed where the structure itself carries "+".
SECRET = _Marker.HIDDEN  # The value stays out of repr().


class Role(Enum):
    """What authorization a handle of the handle area needs (Part 3, 4.2.10); it also marks the area."""

    NONE = ""
    USER = "USER"
    ADMIN = "ADMIN"
    DUP = "DUP"


class Member(NamedTuple):
    """One annotated member of a structure."""

    name: str
    type: Any  # as annotated, with its specs
    spec: Int | Sized | Fixed | Rest | Boxed | ListOf | Arms | None
    plus: _Marker | None
    selector: str
    role: Role | None
    secret: bool


@dataclass_transform(eq_default=True)
class WireType(type):
    """Makes slots of the annotated members and gives the class its constructor on first use."""

    _fields: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(mcls, name: str, bases: tuple[type, ...], space: dict[str, Any], **kwargs: Any) -> WireType:
        hints = space.get("__annotations__", {})
        own = tuple(n for n, t in hints.items() if not str(t).startswith(("ClassVar", "typing.ClassVar")))
        defaults = {n: space.pop(n) for n in own if n in space}
        space.setdefault("__slots__", own)
        cls = super().__new__(mcls, name, bases, space, **kwargs)
        inherited: tuple[str, ...] = getattr(cls, "_fields", ())
        cls._fields = inherited + own
        cls._defaults = getattr(cls, "_defaults", {}) | defaults
        cls.__init__ = _first_init  # type: ignore[misc]
        return cls


def _first_init(self: Any, *args: Any, **kwargs: Any) -> None:
    """Write the constructor of the class of *self*, put it in place, and run it."""
    cls = type(self)
    env: dict[str, Any] = {f"d_{n}": v for n, v in cls._defaults.items()}
    names = cls._fields
    signature = "".join(f", {n}=d_{n}" if n in cls._defaults else f", {n}" for n in names)
    body = "; ".join(f"self.{n} = {n}" for n in names) or "pass"
    cls.__init__ = _build(f"{cls.__qualname__}.__init__", f"def codec(self{signature}): {body}\n", env)
    cls.__init__(self, *args, **kwargs)


class Wire(metaclass=WireType):
    """Base of all structures; members are positional or keyword arguments of the constructor.

    A class attribute TAG is a structure tag (TPM 1.2, Part 2, 3.1): two octets before the members, which are
    written by themselves and have to be right (TPM_RC_TAG).
    """

    TAG: ClassVar[int | None] = None

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, n) == getattr(other, n) for n in type(self)._fields)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = []
        for m in members(type(self)):
            value = getattr(self, m.name)
            if m.secret:
                text = "<secret>"
            elif isinstance(value, bytes):
                text = f"h'{value.hex()}'"
            elif isinstance(value, int):
                text = f"0x{value:x}"
            else:
                text = repr(value)
            shown.append(f"{m.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _member(name: str, tp: Any) -> Member:
    spec = plus = role = None
    selector, secret = "", False
    for mark in get_args(tp)[1:] if get_origin(tp) is Annotated else ():
        if isinstance(mark, Int | Sized | Fixed | Rest | Boxed | ListOf | Arms):
            spec = mark
        elif mark is PLUS or mark is INHERIT:
            plus = mark
        elif mark is SECRET:
            secret = True
        elif isinstance(mark, On):
            selector = mark.selector
        elif isinstance(mark, Role):
            role = mark
    return Member(name, tp, spec, plus, selector, role, secret)


def member_of(tp: Any) -> Member:
    """Return what the annotated type *tp* of an element or of an arm says; the name means nothing."""
    return _member("v", tp)


@cache
def members(cls: type) -> tuple[Member, ...]:
    """Return the members of *cls* in wire order."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_member(n, hints[n]) for n in cls._fields)  # type: ignore[attr-defined]


def handle_area(cls: type) -> tuple[Member, ...]:
    """Return the members of *cls* that travel in the handle area."""
    return tuple(m for m in members(cls) if m.role is not None)


def parameter_area(cls: type) -> tuple[Member, ...]:
    """Return the members of *cls* that travel in the parameter area."""
    return tuple(m for m in members(cls) if m.role is None)


def first_is_sized(cls: type) -> bool:
    """Tell whether the first parameter is a TPM2B, so that a session can encrypt it (Part 1, 18)."""
    area = parameter_area(cls)
    spec = area[0].spec if area else None
    return isinstance(spec, Boxed | Sized) and spec.prefix == "H"


def _build(title: str, source: str, env: dict[str, Any]) -> Any:
    name = f"<codec {title}>"  # shown by tracebacks and pdb
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), env)
    return env["codec"]


class _LazyArms(dict[int, Callable[..., Any]]):
    """The codecs of a union's arms, each compiled when it is first selected."""

    def __init__(self, spec: Arms, make: Callable[[Any], Callable[..., Any]]) -> None:
        super().__init__()
        self._spec, self._make = spec, make

    def __missing__(self, selector: int) -> Callable[..., Any]:
        if selector not in self._spec.arms:
            raise TpmError(self._spec.rc)
        codec = self[selector] = self._make(self._spec.arms[selector])
        return codec


class _ReaderSource:
    """Writes the body of one decoder.

    Adjacent integers and the length after them share one Struct, unless *exact* asks for one at a time.
    The local variables of a count and an element begin with an underscore, which no member's name does.
    """

    def __init__(self, cls: type, plus: bool = False, *, numbered: bool = False, exact: bool = False) -> None:
        self.env: dict[str, Any] = {"cls": cls, "E": StructError, "err": TpmError}
        self.plus, self.numbered, self.exact = plus, numbered, exact
        self.body: list[str] = []
        self._run: list[str] = []
        self._codes = ""
        self._checks: list[str] = []
        self._number = 0
        tag = getattr(cls, "TAG", None)
        if tag is not None and not numbered:
            self._run, self._codes = ["_tag"], "H"
            self._checks = [f"if _tag != {tag}: raise err({RC_TAG})"]
            if exact:
                self._flush()

    def _bind(self, value: Any) -> str:
        name = f"x{len(self.env)}"
        self.env[name] = value
        return name

    def _flush(self) -> None:
        if self._run:
            s = Struct(">" + self._codes)
            unpack = self._bind(s.unpack_from)
            self.body.append(f"{', '.join(self._run)}, = {unpack}(buf, off); off += {s.size}")
            self.body.extend(self._checks)
        self._run, self._codes, self._checks = [], "", []

    def add(self, m: Member) -> None:
        self._number += 1
        if self.numbered and self._number > 1:
            # Errors name the parameter, so its integers are not read together with its neighbours'.
            self._flush()
            self.body.append(f"k = {self._number}")
        allow_null = m.plus is PLUS or (m.plus is INHERIT and self.plus)
        spec = m.spec
        if isinstance(spec, Int):
            self._run.append(m.name)
            self._codes += spec.code
            self._check_int(m.name, spec, allow_null)
            if self.exact:
                self._flush()
        elif isinstance(spec, Sized):
            self._run.append("_n")
            self._codes += spec.prefix
            self._checks.append(f"if {_bounds(spec)}: raise err({spec.rc})")
            self._flush()
            self.body += [f"{m.name} = buf[off:off + _n]; off += _n",
                          f"if len({m.name}) != _n: raise err({RC_INSUFFICIENT})"]
        elif isinstance(spec, ListOf):
            self._run.append("_n")
            self._codes += spec.prefix
            self._checks.append(f"if {_bounds(spec)}: raise err({spec.rc})")
            self._flush()
            element = self._bind(reader_of(get_args(get_args(m.type)[0])[0], allow_null))
            self.body += [f"{m.name} = []", "for _ in range(_n):",
                          f"  _v, off = {element}(buf, off); {m.name}.append(_v)"]
        elif isinstance(spec, Arms):
            self._flush()
            arms = self._bind(_LazyArms(spec, reader_of))
            self.body.append(f"{m.name}, off = {arms}[{m.selector}](buf, off)")
        else:
            self._flush()
            self.body.append(f"{m.name}, off = {self._bind(reader_of(m.type, allow_null))}(buf, off)")

    def _check_int(self, name: str, spec: Int, allow_null: bool) -> None:
        if spec.allowed is not None:
            null = f" and {name} != {spec.null}" if allow_null and spec.null is not None else ""
            allowed = self._bind(spec.allowed)
            self._checks.append(f"if {name} not in {allowed}{null}: raise err({int(spec.rc)})")
        if spec.reserved:
            self._checks.append(f"if {name} & {spec.reserved}: raise err({RC_RESERVED_BITS})")

    def done(self) -> str:
        self._flush()
        return "\n    ".join(self.body or ["pass"])


def _bounds(spec: Sized | ListOf) -> str:
    return f"_n > {spec.limit}" + (f" or _n < {spec.least}" if spec.least else "")


@cache
def reader(cls: type, plus: bool = False, exact: bool = False) -> Reader:
    """Return the decoder of structure *cls*: ``(buf, off) -> (value, off)``; raises TpmError.

    The error is that of the first member at fault.  Where the octets run out inside members that are read
    together, the decoder that reads one at a time (*exact*) finds which it was.
    """
    src = _ReaderSource(cls, plus, exact=exact)
    for m in members(cls):
        src.add(m)
    made = ", ".join(_names(members(cls)))
    if exact:
        fault = f"raise err({RC_INSUFFICIENT}) from None"
    else:
        src.env["again"] = lambda buf, off: reader(cls, plus, True)(buf, off)
        fault = "return again(buf, start)"
    text = (f"def codec(buf, off):\n  start = off\n  try:\n    {src.done()}\n    return cls({made}), off\n"
            f"  except E: {fault}\n")
    codec: Reader = _build(f"{cls.__qualname__}.read", text, src.env)
    return codec


@cache
def parameter_reader(cls: type, numbered: bool = True) -> Callable[..., tuple[Any, int]]:
    """Return the decoder of the parameter area of a request or response.

    It takes ``(buf, off, handles)``, the last a sequence, and gives ``(value, off)``; a TpmError names the
    parameter (Part 3, 5.8.2) if *numbered*.
    """
    area, handles = parameter_area(cls), handle_area(cls)
    src = _ReaderSource(cls, numbered=numbered)
    for m in area:
        src.add(m)
    given = "".join(f"{n}, " for n in _names(handles))
    head = "def codec(buf, off, handles):\n  k = 1\n" + (f"  {given}= handles\n" if given else "")
    made = ", ".join(_names(members(cls)))
    text = (f"{head}  try:\n    {src.done()}\n    return cls({made}), off\n"
            + (f"  except E: raise err({RC_INSUFFICIENT}).parameter(k) from None\n"
               f"  except err as e: raise e.parameter(k)\n" if numbered
               else f"  except E: raise err({RC_INSUFFICIENT}) from None\n"))
    codec: Callable[..., tuple[Any, int]] = _build(f"{cls.__qualname__}.read_parameters", text, src.env)
    return codec


def _names(area: tuple[Member, ...]) -> Iterator[str]:
    return (m.name for m in area)


def _writer_source(title: str, area: tuple[Member, ...], tag: int | None = None) -> Writer:
    env: dict[str, Any] = {"join": b"".join}
    pieces: list[str] = [repr(tag.to_bytes(2, "big"))] if tag is not None else []
    run: list[str] = []
    codes = ""

    def bind(value: Any) -> str:
        name = f"x{len(env)}"
        env[name] = value
        return name

    def flush() -> None:
        nonlocal codes
        if run:
            pieces.append(f"{bind(Struct('>' + codes).pack)}({', '.join(run)})")
            run.clear()
            codes = ""

    for m in area:
        spec, value = m.spec, f"v.{m.name}"
        if isinstance(spec, Int):
            run.append(value)
            codes += spec.code
        elif isinstance(spec, Sized):
            run.append(f"len({value})")
            codes += spec.prefix
            flush()
            pieces.append(value)
        elif isinstance(spec, ListOf):
            run.append(f"len({value})")
            codes += spec.prefix
            flush()
            pieces.append(f"*map({bind(writer_of(get_args(get_args(m.type)[0])[0]))}, {value})")
        elif isinstance(spec, Arms):
            flush()
            pieces.append(f"{bind(_LazyArms(spec, writer_of))}[v.{m.selector}]({value})")
        else:
            flush()
            pieces.append(f"{bind(writer_of(m.type))}({value})")
    flush()
    if len(pieces) == 1 and not pieces[0].startswith("*"):
        text = pieces[0]
    else:
        text = f"join(({''.join(p + ', ' for p in pieces)}))"
    codec: Writer = _build(title, f"def codec(v): return {text}\n", env)
    return codec


@cache
def writer(cls: type) -> Writer:
    """Return the encoder of structure *cls*."""
    return _writer_source(f"{cls.__qualname__}.write", members(cls), getattr(cls, "TAG", None))


@cache
def parameter_writer(cls: type) -> Writer:
    """Return the encoder of the parameter area of a request or response."""
    return _writer_source(f"{cls.__qualname__}.write_parameters", parameter_area(cls))


@cache
def reader_of(tp: Any, plus: bool = False) -> Reader:
    """Return the decoder of any declared type: a structure, an annotated alias, or None (an empty arm)."""
    if tp is None:
        return _read_nothing
    if get_origin(tp) is not Annotated:
        return reader(tp, plus)
    m = member_of(tp)
    allow_null = plus or m.plus is PLUS
    spec = m.spec
    if spec is None:
        return reader(get_args(tp)[0], allow_null)
    if isinstance(spec, Boxed):
        return _boxed_reader(get_args(tp)[0], allow_null, spec)
    if isinstance(spec, Fixed):
        return _fixed_reader(spec.size)
    if isinstance(spec, Rest):
        return lambda buf, off: (buf[off:], len(buf))
    src = _ReaderSource(object, allow_null)
    src.add(m._replace(plus=INHERIT))
    text = (f"def codec(buf, off):\n  try:\n    {src.done()}\n    return v, off\n"
            f"  except E: raise err({RC_INSUFFICIENT}) from None\n")
    codec: Reader = _build("element.read", text, src.env)
    return codec


def _read_nothing(buf: bytes, off: int) -> tuple[None, int]:
    return None, off


def _fixed_reader(size: int) -> Reader:
    def read(buf: bytes, off: int) -> tuple[bytes, int]:
        value = buf[off : off + size]
        if len(value) != size:
            raise TpmError(RC_INSUFFICIENT)
        return value, off + size

    return read


def _boxed_reader(tp: Any, plus: bool, spec: Boxed) -> Reader:
    length, optional = Struct(">" + spec.prefix), spec.optional
    size_of, width = length.unpack_from, length.size
    cls = next((a for a in get_args(tp) if a is not type(None)), tp) if optional else tp
    inner: list[Reader] = []  # compiled on first use: a box may hold a structure that boxes its own kind

    def read(buf: bytes, off: int) -> tuple[Any, int]:
        try:
            (n,) = size_of(buf, off)
        except StructError:
            raise TpmError(RC_INSUFFICIENT) from None
        off += width
        if n == 0:
            if optional:
                return None, off
            raise TpmError(RC_SIZE)
        if not inner:
            inner.append(reader_of(cls, plus))
        value, end = inner[0](buf, off)
        if end != off + n:
            raise TpmError(RC_SIZE)
        return value, end

    return read


@cache
def writer_of(tp: Any) -> Writer:
    """Return the encoder of any declared type."""
    if tp is None:
        return lambda v: b""
    if get_origin(tp) is not Annotated:
        return writer(tp)
    m = member_of(tp)
    spec = m.spec
    if spec is None:
        return writer(get_args(tp)[0])
    if isinstance(spec, Boxed):
        inner = get_args(tp)[0]
        cls = next((a for a in get_args(inner) if a is not type(None)), inner) if spec.optional else inner
        pack = Struct(">" + spec.prefix).pack
        content: list[Writer] = []  # compiled on first use, as in a box that is read

        def write(v: Any) -> bytes:
            if v is None:
                return pack(0)
            if not content:
                content.append(writer_of(cls))
            body = content[0](v)
            return pack(len(body)) + body

        return write
    if isinstance(spec, Fixed | Rest):
        return bytes
    if isinstance(spec, Int):
        return Struct(">" + spec.code).pack
    if isinstance(spec, Sized):
        prefix = Struct(">" + spec.prefix).pack
        return lambda v: prefix(len(v)) + v
    if isinstance(spec, ListOf):
        count, element = Struct(">" + spec.prefix).pack, writer_of(get_args(get_args(tp)[0])[0])
        return lambda v: count(len(v)) + b"".join(map(element, v))
    raise TypeError(f"a union has no encoding of its own: {tp}")


def encode(value: Wire) -> bytes:
    """Return the wire form of a structure."""
    return writer(type(value))(value)


def decode(cls: type[T], buf: bytes, *, plus: bool = False) -> T:
    """Return the structure that fills *buf* exactly; raises TpmError (TPM_RC_SIZE for trailing octets)."""
    structure: type = cls
    value, off = reader(structure, plus)(buf, 0)
    if off != len(buf):
        raise TpmError(RC_SIZE)
    return value  # type: ignore[no-any-return]
