"""The page layout of tpmif.h, octet by octet, and that nothing is parsed in place."""

from __future__ import annotations

import pytest

from cusetpm.ring import tpmif
from cusetpm.ring.tpmif import Page


def blank() -> tuple[bytearray, Page]:
    memory = bytearray(b"\xee" * 4096)
    return memory, Page(memoryview(memory))


def test_states_have_the_numbers_of_the_header_file():
    states = (
        tpmif.TPMIF_STATE_IDLE,
        tpmif.TPMIF_STATE_SUBMIT,
        tpmif.TPMIF_STATE_FINISH,
        tpmif.TPMIF_STATE_CANCEL,
    )
    assert states == (0, 1, 2, 3)


def test_max_packet_is_a_page_without_its_eight_octet_header():
    assert tpmif.MAX_PACKET == 4088


def test_submit_writes_each_octet_where_the_header_file_puts_it():
    memory, page = blank()
    page.submit(b"\x80\x01" + b"c" * 0x102, 3)
    assert memory[0:4] == b"\x04\x01\0\0"  # length, little-endian
    assert memory[4] == 1  # state
    assert memory[5] == 3  # locality
    assert memory[6] == 0  # pad
    assert memory[7] == 0  # nr_extra_pages
    assert memory[8 : 8 + 0x104] == b"\x80\x01" + b"c" * 0x102
    assert memory[8 + 0x104 :] == b"\xee" * (4088 - 0x104)


def test_finish_leaves_the_front_ends_octets_alone():
    memory, page = blank()
    page.finish(b"response")
    assert memory[0:5] == b"\x08\0\0\0\x02"
    assert memory[5:8] == b"\xee\xee\xee"
    assert memory[8:17] == b"response\xee"


def test_finish_behind_the_references_of_extra_pages():
    memory, page = blank()
    page.finish(b"response", 8 + 4 * 2)
    assert memory[8:25] == b"\xee" * 8 + b"response\xee"


def test_the_longest_packet_fills_the_page():
    memory, page = blank()
    page.submit(b"\x55" * 4088, 0)
    assert memory[8:] == b"\x55" * 4088
    assert page.take() == (1, 0, 0, b"\x55" * 4088)


@pytest.mark.parametrize("extra", [1, 2, 255])
def test_a_packet_with_extra_pages_is_not_taken(extra):
    memory, page = blank()
    memory[0:8] = b"\x06\0\0\0\x01\x04\0" + bytes([extra])
    assert page.take() == (1, 4, extra, b"")


@pytest.mark.parametrize("length", [4089, 4096, 0xFFFFFFFF])
def test_a_packet_that_is_longer_than_the_page_is_not_taken(length):
    memory, page = blank()
    memory[0:8] = length.to_bytes(4, "little") + b"\x02\0\0\0"
    assert page.take() == (2, 0, 0, b"")


def test_what_was_taken_does_not_change_with_the_page():
    memory, page = blank()
    page.submit(b"before", 0)
    taken = page.take()
    memory[8:14] = b"behind"
    assert taken == (1, 0, 0, b"before")


@pytest.mark.parametrize("view", [memoryview(bytearray(4095)), memoryview(bytes(4096))])
def test_a_page_is_4096_writable_octets(view):
    with pytest.raises(ValueError, match="4096"):
        Page(view)


def test_error_response_is_ten_octets_big_endian():
    assert tpmif.error_response(0x142) == bytes.fromhex("80010000000a00000142")
    assert tpmif.is_response(tpmif.error_response(0x142))


@pytest.mark.parametrize("packet", [b"", bytes(9), bytes.fromhex("80010000000b00000000")])
def test_a_response_with_a_false_size_is_none(packet):
    assert not tpmif.is_response(packet)
