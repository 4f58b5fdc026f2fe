"""swtpm's ioctls on a character device, octet by octet, before a machine that only remembers.

Numbers are written out, so that they are checked against those of the program.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.devices.cuse.control import ControlFile
from cusetpm.devices.cuse.protocol import READ_BUFFER, CuseProtocol, Execute, Ioctl
from cusetpm.devices.session import Device, SharedDevice
from cusetpm.devices.swtpm.control import Control
from tests.conformance.fake_tpm import FakeManager, FakeTpm
from tests.support.fake_machine import FakeMachine

GET_CAPABILITY, INIT, SHUTDOWN, GET_ESTABLISHED, SET_LOCALITY = (
    0x80085000, 0xC0045001, 0x80045002, 0x80085003, 0xC0045004)
HASH_START, HASH_DATA, HASH_END, CANCEL, STORE_VOLATILE = (
    0x80045005, 0xD0045006, 0x80045007, 0x80045008, 0x80045009)
RESET_ESTABLISHED, GET_STATE, SET_STATE, STOP, GET_CONFIG = (
    0xC004500A, 0xCC10500B, 0xCC0C500C, 0x8004500D, 0x8008500E)
SET_DATAFD, SET_BUFFERSIZE, GET_INFO, LOCK_STORAGE = 0x8004500F, 0xC0105010, 0xCC105011, 0xC0045012
ALL = (GET_CAPABILITY, INIT, SHUTDOWN, GET_ESTABLISHED, SET_LOCALITY, HASH_START, HASH_DATA, HASH_END, CANCEL,
       STORE_VOLATILE, RESET_ESTABLISHED, GET_STATE, SET_STATE, STOP, GET_CONFIG, SET_DATAFD, SET_BUFFERSIZE,
       GET_INFO, LOCK_STORAGE)
BAD_PARAMETER, FAIL, BAD_ORDINAL, BAD_LOCALITY, RETRY = 3, 9, 10, 0x3D, 0x800
CHUNK = 3072


def u32(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}I", *numbers)


def argument(command: int, data: bytes = b"") -> bytes:
    """Return what the kernel sends: the whole of the structure, or nothing if it is only read."""
    return data.ljust(command >> 16 & 0x3FFF, b"\xee") if command >> 30 & 1 else b""


class Open:
    """An open file of a machine's TPM."""

    def __init__(self, machine: FakeMachine | None = None) -> None:
        self.machine = machine or FakeMachine()
        self.control = Control(self.machine, random=bytes)
        self.file = ControlFile(self.control)

    def __call__(self, command: int, data: bytes = b"") -> bytes:
        return self.file.ioctl(command, argument(command, data))

    def state(self, kind: int = 1) -> bytes:
        """Return the blob of a state, as a socket would give it."""
        return self.control.get_stateblob(kind, decrypted=True)[0]


@contextmanager
def raises(code: int) -> Iterator[None]:
    with pytest.raises(OSError, match=rf"^\[Errno {code}\]"):
        yield


@pytest.mark.parametrize("family", ["2.0", "1.2"])
def test_capabilities_are_all_but_those_of_sockets(family: str) -> None:
    assert Open(FakeMachine(family))(GET_CAPABILITY) == struct.pack("=Q", 0x16FFF)


def test_power_is_given_and_taken() -> None:
    tpm = Open(FakeMachine(running=False))
    assert tpm(INIT, u32(0)) == tpm(INIT, u32(1)) == u32(0)
    assert tpm(STOP) == tpm(INIT, u32(0)) == tpm(SHUTDOWN) == u32(0)
    kept = [entry for entry in tpm.machine.log if entry.startswith(("on", "off"))]
    assert kept == ["on keep", "off orderly", "on", "off orderly", "on keep", "off orderly"]


def test_the_locality_is_that_of_the_commands_that_follow() -> None:
    tpm = Open()
    assert tpm(SET_LOCALITY, b"\3") == u32(0)
    tpm.control.execute(b"command...")
    assert tpm.machine.commands == [(b"command...", 3)]
    assert tpm(SET_LOCALITY, b"\5") == u32(BAD_LOCALITY)
    assert tpm.control.locality == 3


def test_a_launch_is_measured_and_on_the_record() -> None:
    tpm = Open()
    assert tpm(GET_ESTABLISHED) == u32(0) + bytes(4)
    assert tpm(HASH_START) == tpm(HASH_DATA, u32(5) + b"first") == u32(0)
    assert tpm(HASH_DATA, u32(4096) + bytes(4096)) == tpm(HASH_END) == u32(0)
    assert tpm(HASH_DATA, u32(4097)) == u32(FAIL)
    assert tpm.machine.hashed == [b"first", bytes(4096)]
    assert tpm(GET_ESTABLISHED) == u32(0) + b"\1" + bytes(3)
    assert tpm(RESET_ESTABLISHED, b"\2") == u32(BAD_LOCALITY)
    assert tpm(RESET_ESTABLISHED, b"\4") == u32(0)
    assert tpm(GET_ESTABLISHED) == u32(0) + bytes(4)


def test_what_needs_power_is_a_bad_ordinal_without_and_the_other_way_round() -> None:
    off, on = Open(FakeMachine(running=False)), Open()
    for command in (GET_ESTABLISHED, HASH_START, HASH_END, CANCEL, STORE_VOLATILE):
        assert off(command) == u32(BAD_ORDINAL)
        assert on(command)[:4] == u32(0)
    assert off(HASH_DATA, u32(0)) == off(RESET_ESTABLISHED, b"\3") == u32(BAD_ORDINAL)
    assert off(GET_STATE, u32(0, 1, 0)) == u32(BAD_ORDINAL, 0, 0, 0)
    assert on(SET_STATE, u32(0, 1, 0)) == on(SET_BUFFERSIZE, u32(4096)) == u32(BAD_ORDINAL)


def test_sizes_of_messages_the_keys_and_the_storage() -> None:
    tpm = Open()
    result, size, smallest, largest = struct.unpack("=4I", tpm(SET_BUFFERSIZE, u32(0)))
    assert (result, size, largest) == (0, 4096, 4096)
    assert smallest < largest
    assert tpm(GET_CONFIG) == u32(0, 0)
    tpm.machine.lockable = False
    assert tpm(LOCK_STORAGE, u32(7)) == u32(FAIL)
    assert tpm.machine.log[-1] == "lock 7"


def test_information_comes_in_parts() -> None:
    tpm = Open()
    result, total, length = struct.unpack_from("=3I", answer := tpm(GET_INFO, struct.pack("=QII", 7, 0, 0)))
    assert (result, total) == (0, length)
    assert answer[12:] == tpm.control.get_info(7)
    assert tpm(GET_INFO, struct.pack("=QII", 7, 3, 0))[12:] == tpm.control.get_info(7)[3:]
    assert tpm(GET_INFO, struct.pack("=QII", 7, length, 0)) == u32(BAD_PARAMETER)


def test_what_there_is_not_is_invalid() -> None:
    for command in (SET_DATAFD, 0x80045013, 0x80045099, INIT ^ 1 << 31):
        with raises(errno.EINVAL):
            Open()(command)
    with raises(errno.EINVAL):
        Open().file.ioctl(INIT, b"\0\0\0")


# States.


@pytest.fixture
def large() -> Open:
    """A TPM whose permanent state takes more than one argument."""
    tpm = Open()
    tpm.machine.states[1] = os.urandom(2 * CHUNK + 100)
    return tpm


def test_a_state_is_fetched_by_offset(large: Open) -> None:
    blob = large.state()
    found = b""
    while len(found) < len(blob):
        answer = large(GET_STATE, u32(1, 1, len(found)))
        assert struct.unpack_from("=4I", answer) == (0, 0, len(blob), min(CHUNK, len(blob) - len(found)))
        found += answer[16:]
    assert found == blob


def test_a_state_goes_on_through_read_until_a_read_is_short(large: Open) -> None:
    blob = large.state()
    found = large(GET_STATE, u32(1, 1, 0))[16:]
    while large.file.sends:
        found += large.file.read(1000)
    assert found == blob


def test_a_write_ends_the_fetching_of_a_state(large: Open) -> None:
    large(GET_STATE, u32(1, 1, 0))
    with raises(errno.EIO):
        large.file.write(b"command")
    assert not large.file.sends


def test_a_state_that_there_is_not_is_none_to_fetch() -> None:
    assert Open()(GET_STATE, u32(0, 3, 0)) == u32(RETRY, 0, 0, 0)
    assert Open()(GET_STATE, u32(0, 9, 0)) == u32(FAIL, 0, 0, 0)


@pytest.mark.parametrize("size", [10, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_a_state_is_set_until_a_piece_is_not_full(size: int) -> None:
    source = Open()
    source.machine.states[1] = bytes(size)
    overhead = len(source.state()) - size
    source.machine.states[1] = wanted = os.urandom(max(1, size - overhead))
    blob = source.state()
    target = Open(FakeMachine(running=False))
    for at in range(0, len(blob) + 1, CHUNK):
        piece = blob[at : at + CHUNK]
        assert target(SET_STATE, u32(0, 1, len(piece)) + piece) == u32(0)
    assert target.machine.states[1] == wanted
    assert not target.file.receives


def test_a_state_goes_on_through_write_until_an_empty_piece(large: Open) -> None:
    blob = large.state()
    target = Open(FakeMachine(running=False))
    assert target(SET_STATE, u32(0, 1, 0)) == u32(0)
    for at in range(0, len(blob), 1000):
        target.file.write(blob[at : at + 1000])
    assert target(SET_STATE, u32(0, 1, 0)) == u32(0)
    assert target.machine.states[1] == large.machine.states[1]


def test_a_read_ends_the_setting_of_a_state() -> None:
    tpm = Open(FakeMachine(running=False))
    tpm(SET_STATE, u32(0, 1, 0))
    with raises(errno.EIO):
        tpm.file.read(10)
    assert not tpm.file.receives


def test_a_state_is_not_larger_than_512_kib() -> None:
    tpm = Open(FakeMachine(running=False))
    assert tpm(SET_STATE, u32(0, 1, CHUNK + 1)) == u32(BAD_PARAMETER)
    tpm(SET_STATE, u32(0, 1, 0))
    tpm.file.write(bytes(512 * 1024))
    with raises(errno.EIO):
        tpm.file.write(b"x")
    assert not tpm.file.receives


def test_a_state_of_somebody_else_is_refused_when_it_is_whole() -> None:
    tpm = Open(FakeMachine(running=False))
    assert tpm(SET_STATE, u32(0, 1, 7) + b"garbage") == u32(BAD_PARAMETER)


# The messages of the kernel.


def message(opcode: int, body: bytes = b"", unique: int = 2) -> bytes:
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, unique, 1, 0, 0, 77, 0) + body


def ioctl(command: int, data: bytes = b"", fh: int = 1, size: int | None = None) -> bytes:
    given = argument(command, data)
    sizes = len(given) if size is None else size, command >> 16 & 0x3FFF if command >> 31 else 0
    return message(39, struct.pack("=QIIQII", fh, 0, command, 0x1000, *sizes) + given)


def protocol(machine: FakeMachine) -> CuseProtocol:
    opened = CuseProtocol("tpm0", Device(FakeTpm(), lambda: 0.0), control=Control(machine, random=bytes))
    opened.receive(message(4096, struct.pack("=IIII", 7, 31, 0, 1)))
    opened.receive(message(14, struct.pack("=II", os.O_RDWR, 0)))
    return opened


def answer(device: CuseProtocol, asked: bytes) -> bytes:
    """Return what the kernel is told for its message, run if need be."""
    (action,) = device.receive(asked)
    told = action.run() if isinstance(action, Ioctl) else action
    assert isinstance(told, bytes)
    assert len(told) <= READ_BUFFER
    return told


def error(code: int) -> bytes:
    return struct.pack("=IiQ", 16, -code, 2)


def test_an_ioctl_is_answered_with_its_argument() -> None:
    device = protocol(FakeMachine())
    told = answer(device, ioctl(GET_CAPABILITY))
    assert told == struct.pack("=IiQ iIII Q", 40, 0, 2, 0, 0, 0, 0, 0x16FFF)
    assert answer(device, ioctl(0x80045099)) == error(errno.EINVAL)


def test_other_ioctls_are_not_for_this_device() -> None:
    device = protocol(FakeMachine())
    assert answer(device, ioctl(0x5401)) == error(errno.ENOTTY)
    assert answer(device, ioctl(GET_CAPABILITY, fh=7)) == error(errno.EBADF)
    assert answer(device, ioctl(INIT, size=3)) == error(errno.EINVAL)
    assert answer(device, message(39)) == error(errno.EINVAL)


def test_a_device_without_control_has_no_ioctls() -> None:
    device = CuseProtocol("tpmrm0", SharedDevice(FakeManager(), lambda: 0.0))
    device.receive(message(4096, struct.pack("=IIII", 7, 31, 0, 1)))
    device.receive(message(14, struct.pack("=II", os.O_RDWR, 0)))
    assert answer(device, ioctl(GET_CAPABILITY)) == error(errno.ENOTTY)


def test_read_and_write_are_those_of_commands_again_after_a_state() -> None:
    machine = FakeMachine()
    machine.states[1] = os.urandom(CHUNK + 10)
    device = protocol(machine)
    answer(device, ioctl(GET_STATE, u32(1, 1, 0)))
    rest = answer(device, message(15, struct.pack("=QQIIQII", 1, 0, 4096, 0, 0, 0, 0)))
    assert 16 < len(rest) < 16 + 4096
    (execute,) = device.receive(message(16, struct.pack("=QQIIQII", 1, 0, 10, 0, 0, 0, 0)
                                        + bytes.fromhex("80010000000a00000181")))
    assert isinstance(execute, Execute)


_COMMANDS = st.one_of(st.sampled_from(ALL), st.integers(0, 0xFFFFFFFF))


@given(st.lists(st.tuples(_COMMANDS, st.binary(max_size=64)), max_size=20), st.booleans())
def test_garbage_gets_a_result_or_an_error(steps: list[tuple[int, bytes]], running: bool) -> None:
    device = protocol(FakeMachine(running=running))
    for command, data in steps:
        told = answer(device, ioctl(command, data))
        size, code, unique = struct.unpack_from("=IiQ", told)
        assert (size, unique) == (len(told), 2)
        assert code in (0, -errno.EINVAL, -errno.ENOTTY)
