"""The shared page of tpmif version 2 (Xen public/io/tpmif.h) and what may be read from it.

One page of 4096 octets, little-endian::

    0  u32 length            octets of the packet
    4  u8  state             TPMIF_STATE_*
    5  u8  locality          of the current command
    6  u8  pad               zero
    7  u8  nr_extra_pages    n
    8  u32 extra_pages[n]    grant references
    8 + 4n                   the packet

The header file's comment says that the grant references start at 16; every implementation puts
them at 8, right behind the structure, and so does this one.  Extra pages are refused, as Linux and
Mini-OS do.

The peer can write to the page at any instant.  So nothing is parsed in place: `Page.take` copies
once, and only the copy is looked at.
"""

from __future__ import annotations

from struct import Struct

PAGE_SIZE = 4096
HEADER = Struct("<IBBBB")
MAX_PACKET = PAGE_SIZE - HEADER.size
"""4088 octets: the longest packet of a page without extra pages."""

TPMIF_STATE_IDLE = 0
TPMIF_STATE_SUBMIT = 1
TPMIF_STATE_FINISH = 2
TPMIF_STATE_CANCEL = 3

TPM_RC_FAILURE = 0x101
TPM_RC_COMMAND_SIZE = 0x142
TPM_RC_LOCALITY = 0x907
TPM_RC_CANCELED = 0x909

MAX_LOCALITY = 4
MIN_RESPONSE = 10
"""Octets of a response header: tag, size, code (Part 1, 16.10)."""

OFF_STATE = 4
_LENGTH_AND_STATE = Struct("<IB")
_unpack_header = Struct("<IBBxB").unpack_from
_RESPONSE = Struct(">HII")
_unpack_response = _RESPONSE.unpack_from
_TPM_ST_NO_SESSIONS = 0x8001


def error_response(rc: int) -> bytes:
    """Return the 10-octet response that carries *rc* and nothing else (Part 1, 16.10; big-endian)."""
    return _RESPONSE.pack(_TPM_ST_NO_SESSIONS, MIN_RESPONSE, rc)


def is_response(packet: bytes) -> bool:
    """Tell whether *packet* has a response header whose size field is true."""
    return len(packet) >= MIN_RESPONSE and _unpack_response(packet)[1] == len(packet)


class Page:
    """One shared page, seen from one of its two ends."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        if view.nbytes != PAGE_SIZE or view.format != "B" or view.readonly:
            raise ValueError(f"a tpmif page is {PAGE_SIZE} writable octets")
        self.view = view

    @property
    def state(self) -> int:
        """The state octet at this instant; the peer may have put any value there."""
        return self.view[OFF_STATE]

    @state.setter
    def state(self, state: int) -> None:
        self.view[OFF_STATE] = state

    def submit(self, command: bytes, locality: int) -> None:
        """The page holds *command* and is in SUBMIT.  At most 4088 octets; the front end's call.

        The header is written last, so that a back end in another process never sees half a packet.
        """
        view, length = self.view, len(command)
        view[8 : 8 + length] = command
        HEADER.pack_into(view, 0, length, TPMIF_STATE_SUBMIT, locality, 0, 0)

    def finish(self, response: bytes, offset: int = 8) -> None:
        """The page holds *response* at *offset* and is in FINISH.  The back end's call."""
        view, length = self.view, len(response)
        view[offset : offset + length] = response
        _LENGTH_AND_STATE.pack_into(view, 0, length, TPMIF_STATE_FINISH)

    def take(self) -> tuple[int, int, int, bytes]:
        """Return state, locality, nr_extra_pages and the packet, each read once and none validated.

        The packet is the caller's own copy; empty if it has more than 4088 octets or extra pages.
        """
        view = self.view
        length, state, locality, extra = _unpack_header(view)
        packet = view[8 : 8 + length].tobytes() if length <= MAX_PACKET and not extra else b""
        return state, locality, extra, packet
