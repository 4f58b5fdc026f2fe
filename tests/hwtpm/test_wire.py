"""The codec compiler: what a declaration decodes, encodes, refuses and shows."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.errors import TpmError
from hwtpm.wire import (
    INHERIT,
    PLUS,
    RC_INSUFFICIENT,
    RC_RESERVED_BITS,
    RC_SELECTOR,
    RC_SIZE,
    SECRET,
    Arms,
    Boxed,
    Fixed,
    Int,
    ListOf,
    On,
    Rest,
    Role,
    Sized,
    Wire,
    decode,
    encode,
    first_is_sized,
    handle_area,
    parameter_reader,
    parameter_writer,
    reader,
)

U8 = Annotated[int, Int("B")]
U16 = Annotated[int, Int("H")]
U32 = Annotated[int, Int("I")]
ALG = Annotated[int, Int("H", allowed=frozenset({4, 11}), rc=0x83, null=0x10)]
FLAGS = Annotated[int, Int("B", reserved=0xF0)]
BLOB = Annotated[bytes, Sized(8)]


class Selection(Wire):
    hash: ALG
    select: Annotated[bytes, Sized(4, prefix="B", least=1, rc=0x84)]


class Scheme(Wire):
    alg: Annotated[ALG, INHERIT]
    details: Annotated[int | Selection | bytes | None, Arms({4: U16, 11: Selection, 0x10: None}), On("alg")]


class Outer(Wire):
    flags: FLAGS
    scheme: Annotated[Scheme, PLUS]
    boxed: Annotated[Selection, Boxed()]
    maybe: Annotated[Selection | None, Boxed(optional=True)]
    rows: Annotated[list[Selection], ListOf(3)]
    blobs: Annotated[list[BLOB], ListOf(3)]
    tail: Annotated[bytes, Fixed(2)]
    secret: Annotated[bytes, Sized(8), SECRET] = b"pw"


class Request(Wire):
    CODE: ClassVar[int] = 7
    key: Annotated[int, Int("I"), Role.USER]
    data: BLOB
    number: U32
    scheme: Scheme


selections = st.builds(Selection, st.sampled_from([4, 11]), st.binary(min_size=1, max_size=4))
schemes = st.one_of(
    st.builds(Scheme, st.just(4), st.integers(0, 0xFFFF)),
    st.builds(Scheme, st.just(11), selections),
    st.just(Scheme(0x10, None)),
)
outers = st.builds(
    Outer, st.integers(0, 15), schemes, selections, st.none() | selections, st.lists(selections, max_size=3),
    st.lists(st.binary(max_size=8), max_size=3), st.binary(min_size=2, max_size=2), st.binary(max_size=8),
)


@given(outers)
def test_what_is_encoded_decodes_to_an_equal_value(value: Outer) -> None:
    assert decode(Outer, encode(value)) == value


@given(outers, st.data())
def test_any_truncation_is_insufficient(value: Outer, data: st.DataObject) -> None:
    raw = encode(value)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(TpmError) as caught:
        decode(Outer, raw[:cut])
    assert caught.value.rc == RC_INSUFFICIENT


@given(st.binary(max_size=40))
def test_any_octets_decode_or_raise_tpm_error(raw: bytes) -> None:
    try:
        value, off = reader(Outer)(raw, 0)
    except TpmError:
        return
    assert encode(value) == raw[:off]


@pytest.mark.parametrize(("cls", "raw", "rc"), [
    (Selection, "0005 01 00", 0x83),
    (Selection, "0005", 0x83),  # the value is at fault before the octets run out
    (Selection, "0010 01 00", 0x83),  # null without "+"
    (Selection, "0004 00", 0x84),
    (Selection, "0004 05 0000000000", 0x84),
    (Selection, "0004 02 00", RC_INSUFFICIENT),
    (Selection, "0004 01 00 00", RC_SIZE),
    (Scheme, "0010", 0x83),  # the structure itself does not carry "+"
    (Outer, "f0", RC_RESERVED_BITS),
])
def test_the_first_member_at_fault_decides_the_code(cls: type[Any], raw: str, rc: int) -> None:
    with pytest.raises(TpmError) as caught:
        decode(cls, bytes.fromhex(raw))
    assert caught.value.rc == rc


def test_a_selector_without_an_arm_is_a_selector_error() -> None:
    class Open(Wire):
        alg: U16
        details: Annotated[int, Arms({1: U8}), On("alg")]

    assert decode(Open, b"\0\x01\x05") == Open(1, 5)
    with pytest.raises(TpmError) as caught:
        decode(Open, b"\0\x02\x05")
    assert caught.value.rc == RC_SELECTOR


@pytest.mark.parametrize("raw", ["0000", "0003 0004 01 00", "0005 0004 01 00"])
def test_a_box_must_be_filled_exactly(raw: str) -> None:
    class Box(Wire):
        inner: Annotated[Selection, Boxed()]

    with pytest.raises(TpmError) as caught:
        decode(Box, bytes.fromhex(raw))
    assert caught.value.rc == RC_SIZE


def test_parameters_are_numbered_and_handles_apart() -> None:
    read = parameter_reader(Request)
    value, off = read(bytes.fromhex("0001ff 00000005 0004 0001"), 0, (0x81000000,))
    assert value == Request(0x81000000, b"\xff", 5, Scheme(4, 1))
    assert parameter_writer(Request)(value) == bytes.fromhex("0001ff 00000005 0004 0001")
    assert off == 11
    assert [m.name for m in handle_area(Request)] == ["key"]
    assert first_is_sized(Request)
    assert not first_is_sized(Outer)
    for raw, rc in [("0009", 0x1D5), ("0000", 0x2DA), ("0000 00000000 0005", 0x3C3), ("00", 0x1DA)]:
        with pytest.raises(TpmError) as caught:
            read(bytes.fromhex(raw), 0, (0,))
        assert caught.value.rc == rc


def test_secrets_stay_out_of_repr_and_defaults_apply() -> None:
    value = Outer(0, Scheme(0x10, None), Selection(4, b"\1"), None, [], [], b"ab")
    assert value.secret == b"pw"
    assert "secret=<secret>" in repr(value)
    assert b"pw".hex() not in repr(value)
    assert value != Outer(1, Scheme(0x10, None), Selection(4, b"\1"), None, [], [], b"ab")
    with pytest.raises(TypeError):
        Selection(4)  # type: ignore[call-arg]


def test_a_union_arm_can_be_a_list_and_members_can_have_any_name() -> None:
    class Group(Wire):
        kind: U16
        data: Annotated[list[int], Arms({1: Annotated[list[U16], ListOf(3)]}), On("kind")]
        n: BLOB
        v: Annotated[list[BLOB], ListOf(3)]

    value = Group(1, [7, 8], b"n", [b"a", b""])
    assert decode(Group, encode(value)) == value
    with pytest.raises(TpmError) as caught:
        decode(Group, bytes.fromhex("0001 00000004"))
    assert caught.value.rc == RC_SIZE


class Message(Wire):
    kind: U8
    rest: Annotated[bytes, Rest()]


def test_rest_is_all_octets_that_are_left() -> None:
    for body in b"", b"more":
        assert decode(Message, b"\1" + body) == Message(1, body)
        assert encode(Message(1, body)) == b"\1" + body
    with pytest.raises(TpmError):
        decode(Message, b"")
