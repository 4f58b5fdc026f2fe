"""The TIS driver: over the model it carries commands, over a broken window it ends in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.errors import ProtocolError
from hwtpm.tis.driver import TIMEOUT_A, TIMEOUT_B, TIMEOUT_C, TIMEOUT_D, Driver
from hwtpm.tis.fifo import State, Tis
from hwtpm.tis.mmio import ModelWindow
from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_BEEN_SEIZED,
    ACCESS_REQUEST_USE,
    ACCESS_SEIZE,
    INTF_BURST_COUNT_STATIC,
    STS_COMMAND_READY,
    STS_DATA_AVAIL,
    STS_EXPECT,
    STS_TPM_GO,
    STS_VALID,
    TIS_BASE,
    TIS_PAGE,
    TIS_SIZE,
    TPM_ACCESS,
    TPM_DATA_FIFO,
    TPM_DID_VID,
    TPM_FAMILY_1_2,
    TPM_INTERFACE_ID,
    TPM_INTF_CAPABILITY,
    TPM_STS,
)

COMMAND = bytes.fromhex("80010000000c0000017b0008")


def packet(body: bytes) -> bytes:
    return b"\x80\x01" + (10 + len(body)).to_bytes(4, "big") + bytes(4) + body


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class Bench:
    """A driver over the model, with a hand on every register access."""

    def __init__(
        self, answer: Callable[[bytes], bytes] = lambda command: packet(command), *, family: int = 1
    ) -> None:
        self.commands: list[tuple[bytes, int]] = []
        self.answer = answer
        self.cancelled = threading.Event()
        self.tis = Tis(self._execute, cancel=self.cancelled.set, family=family)
        self.window = ModelWindow(self.tis)
        self.time = Time()
        self.patch_read: Callable[[int, int], int] = lambda offset, value: value
        self.drop_write: Callable[[int, int], bool] = lambda offset, value: False
        self.driver = Driver(
            self, clock=self.time.clock, sleep=self.time.sleep, duration=lambda command: 30.0
        )

    def _execute(self, command: bytes, locality: int) -> bytes:
        self.commands.append((command, locality))
        return self.answer(command)

    def read8(self, address: int) -> int:
        return self.patch_read(address & 0xFFF, self.window.read8(address)) & 0xFF

    def read32(self, address: int) -> int:
        return self.patch_read(address & 0xFFF, self.window.read32(address))

    def write8(self, address: int, value: int) -> None:
        if not self.drop_write(address & 0xFFF, value):
            self.window.write8(address, value)

    def write32(self, address: int, value: int) -> None:
        if not self.drop_write(address & 0xFFF, value):
            self.window.write32(address, value)

    def fails(self, *words: str, within: float) -> None:
        """Check that a command ends with a ProtocolError of *words*, *within* seconds of the clock."""
        begin = self.time.now
        with pytest.raises(ProtocolError) as caught:
            self.driver.execute(COMMAND)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "\n" not in str(caught.value)
        assert self.time.now - begin <= within + 0.1


# The window.


@pytest.mark.parametrize("address", [0, TIS_BASE - 1, TIS_BASE + TIS_SIZE, 1 << 40])
def test_window_refuses_addresses_outside_the_registers(address: int) -> None:
    window = Bench().window
    for access in (
        lambda: window.read8(address),
        lambda: window.read32(address),
        lambda: window.write8(address, 0),
        lambda: window.write32(address, 0),
    ):
        with pytest.raises(ProtocolError, match="outside the TIS registers"):
            access()
    with pytest.raises(ProtocolError):
        window.read32(TIS_BASE + TIS_SIZE - 3)
    assert window.reads == window.writes == 0


def test_window_counts_accesses_and_splits_unaligned_ones() -> None:
    window = Bench().window
    assert window.read32(TIS_BASE + 0x1000 + TPM_DID_VID) == 0x00011014
    assert (window.reads, window.writes) == (1, 0)
    # Octets 0xFFD to 0xFFF of one page have no register; the next one is TPM_ACCESS of the page after.
    assert window.read32(TIS_BASE + 0xFFD) == 0x81FFFFFF
    window.write32(TIS_BASE + 0xFFD, ACCESS_REQUEST_USE << 24)
    assert (window.reads, window.writes) == (5, 4)
    assert window.read8(TIS_BASE + 0x1000) == 0xA1


# Over a TPM that does as it should.


def test_a_command_crosses_the_registers_and_leaves_the_tpm_ready() -> None:
    bench = Bench()
    assert bench.driver.execute(COMMAND) == packet(COMMAND)
    assert bench.commands == [(COMMAND, 0)]
    assert bench.tis.state is State.READY
    assert bench.window.reads > 0
    assert bench.window.writes > 0
    assert bench.time.now == 1000.0  # A model that answers at once is never slept on.


def test_a_small_command_takes_few_accesses() -> None:
    bench = Bench(lambda command: packet(bytes(18)))
    bench.driver.execute(COMMAND)
    reads, writes = bench.window.reads, bench.window.writes
    bench.driver.execute(COMMAND)
    assert bench.window.reads - reads <= 14
    assert bench.window.writes - writes <= 8


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=80) | st.just(bytes(4086)),
    st.binary(max_size=80) | st.just(bytes(4086)),
    st.sampled_from(["exact", "legacy", "static", "small"]),
    st.integers(0, 4),
)
def test_any_command_and_response_cross_whatever_the_capabilities(
    body: bytes, answer: bytes, kind: str, locality: int
) -> None:
    bench = Bench(lambda command: packet(answer))

    def patch(offset: int, value: int) -> int:
        if offset == TPM_INTF_CAPABILITY and kind == "legacy":
            return value & ~0x600
        if offset == TPM_INTF_CAPABILITY and kind == "static":
            return value | INTF_BURST_COUNT_STATIC
        if offset == TPM_STS and kind == "static":
            return value & ~0xFFFF00 | 32 << 8
        if offset == TPM_STS and kind == "small":
            return value & ~0xFFFF00 | min(value >> 8 & 0xFFFF, 7) << 8
        return value

    bench.patch_read = patch
    for _ in range(2):
        assert bench.driver.execute(packet(body), locality) == packet(answer)
    assert bench.commands == [(packet(body), locality)] * 2


def test_localities_change_between_commands_and_release_gives_the_tpm_back() -> None:
    bench = Bench()
    for locality in (0, 4, 2, 2, 0):
        bench.driver.execute(COMMAND, locality)
    assert [locality for _, locality in bench.commands] == [0, 4, 2, 2, 0]
    bench.driver.release()
    bench.driver.release()
    assert bench.tis.active is None


def test_a_request_for_another_locality_gives_the_held_one_back() -> None:
    bench = Bench()
    bench.driver.request_locality(3)
    bench.driver.request_locality(1)
    assert bench.tis.active == 1
    bench.driver.request_locality(2, force=True)
    assert bench.tis.active == 2
    assert not any(bench.window.read8(TIS_BASE + TIS_PAGE * i) & ACCESS_BEEN_SEIZED for i in range(5))
    assert bench.time.now == 1000.0


@pytest.mark.parametrize("octets", [0, 5, len(COMMAND)])
def test_what_a_driver_before_left_is_reclaimed(octets: int) -> None:
    bench = Bench()
    page = TIS_BASE + 2 * TIS_PAGE
    bench.window.write8(page + TPM_ACCESS, ACCESS_REQUEST_USE)
    for other in (4, 0):
        bench.window.write8(TIS_BASE + TIS_PAGE * other + TPM_ACCESS, ACCESS_REQUEST_USE)
    bench.window.write8(page + TPM_STS, STS_COMMAND_READY)
    for octet in COMMAND[:octets]:
        bench.window.write8(page + TPM_DATA_FIFO, octet)
    bench.driver.probe()
    bench.driver.reclaim()
    assert bench.tis.active is None
    assert bench.driver.execute(COMMAND, 1) == packet(COMMAND)
    assert bench.commands == [(COMMAND, 1)]


def test_a_command_that_a_driver_before_left_and_that_does_not_end_is_one_line() -> None:
    bench = Bench()
    bench.driver.request_locality(1)
    bench.patch_read = stuck(TPM_STS, clear=STS_COMMAND_READY)
    with pytest.raises(ProtocolError, match="TPM_STS: no commandReady within 2000 ms"):
        bench.driver.reclaim()


def test_a_seized_locality_is_requested_again() -> None:
    bench = Bench()
    bench.driver.execute(COMMAND, 1)
    bench.window.write8(TIS_BASE + 0x3000, ACCESS_SEIZE)
    bench.window.write8(TIS_BASE + 0x3000, ACCESS_ACTIVE_LOCALITY)
    bench.driver.execute(COMMAND, 1)
    assert bench.tis.active == 1
    assert bench.window.read8(TIS_BASE + 0x1000) == 0xA1  # beenSeized was acknowledged.


def test_a_busy_locality_times_out_and_the_request_is_withdrawn() -> None:
    bench = Bench()
    bench.window.write8(TIS_BASE + 0x1000, ACCESS_REQUEST_USE)
    bench.fails("TPM_ACCESS of locality 0", "activeLocality", "750 ms", within=TIMEOUT_A)
    assert not bench.window.read8(TIS_BASE) & ACCESS_REQUEST_USE


def test_force_seizes_from_a_lower_locality_and_not_from_a_higher_one() -> None:
    bench = Bench()
    bench.window.write8(TIS_BASE + 0x1000, ACCESS_REQUEST_USE)
    bench.driver.request_locality(2, force=True)
    assert bench.tis.active == 2
    bench.driver.release()
    bench.window.write8(TIS_BASE + 0x3000, ACCESS_REQUEST_USE)
    with pytest.raises(ProtocolError, match="TPM_ACCESS of locality 1"):
        bench.driver.request_locality(1, force=True)
    assert bench.tis.active == 3


@pytest.mark.parametrize("locality", [-1, 5])
def test_localities_that_do_not_exist_are_refused(locality: int) -> None:
    with pytest.raises(ProtocolError, match="does not exist"):
        Bench().driver.execute(COMMAND, locality)


@pytest.mark.parametrize("command", [b"", COMMAND[:-1], COMMAND + b"x", b"\x80\x01", packet(bytes(4087))])
def test_a_command_that_cannot_pass_the_fifo_is_answered_by_the_driver(command: bytes) -> None:
    bench = Bench()
    assert bench.driver.execute(command) == bytes.fromhex("80010000000a00000142")
    old = Bench(family=TPM_FAMILY_1_2)
    assert old.driver.execute(command) == bytes.fromhex("00c40000000a00000019")
    assert bench.commands == old.commands == []
    with pytest.raises(ProtocolError):
        bench.driver.transmit(command)


def test_probe_reads_the_identification() -> None:
    chip = Bench().driver.probe()
    assert (chip.vendor, chip.device, chip.revision) == (0x1014, 1, 1)
    assert chip.is_2_0
    assert chip.wide_fifo
    assert not Bench(family=TPM_FAMILY_1_2).driver.probe().is_2_0


# Cancel.


@pytest.mark.parametrize("family", [0, 1])
def test_cancel_from_another_thread_reaches_the_engine(family: int) -> None:
    started = threading.Event()
    cancelled = packet(b"cancelled")

    def answer(command: bytes) -> bytes:
        started.set()
        assert bench.cancelled.wait(10)
        return cancelled

    def cancel() -> None:
        assert started.wait(10)
        bench.driver.cancel()

    bench = Bench(answer, family=family)
    bench.driver.cancel()  # Nothing executes: nothing happens.
    thread = threading.Thread(target=cancel)
    thread.start()
    if family:
        assert bench.driver.execute(COMMAND) == cancelled
    else:
        bench.fails("TPM_STS", "aborted", within=0)
    thread.join()
    assert bench.tis.state is State.READY


def test_commands_of_several_threads_take_turns() -> None:
    bench = Bench()
    wrong: list[bytes] = []

    def run(number: int) -> None:
        for i in range(20):
            body = bytes([number, i])
            if bench.driver.execute(packet(body), number) != packet(packet(body)):
                wrong.append(body)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(bench.commands) == 80


# Over windows that misbehave.


def stuck(register: int, clear: int = 0, set_: int = 0) -> Callable[[int, int], int]:
    return lambda offset, value: value & ~clear | set_ if offset == register else value


def test_no_tpm_at_all() -> None:
    bench = Bench()
    bench.patch_read = lambda offset, value: 0xFFFFFFFF
    bench.fails("TPM_DID_VID", "no TPM answers", within=0)


def test_access_never_valid() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_ACCESS, clear=0x80)
    bench.fails("TPM_ACCESS", "tpmRegValidSts", "750 ms", within=TIMEOUT_A)


def test_access_all_ones() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_ACCESS, set_=0xFF)
    bench.fails("TPM_ACCESS", within=TIMEOUT_A)


def test_crb_interface_is_refused() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_INTERFACE_ID, set_=1)
    bench.fails("TPM_INTERFACE_ID", "CRB", within=0)


def test_command_ready_never_set() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_STS, clear=STS_COMMAND_READY)
    bench.fails("TPM_STS", "commandReady", "2000 ms", within=TIMEOUT_B)


def test_burst_count_always_0() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_STS, clear=0xFFFF00)
    bench.fails("TPM_STS", "burst count", "750 ms", within=TIMEOUT_D)


def test_status_never_valid() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_STS, clear=STS_VALID)
    bench.fails("TPM_STS", "stsValid", "750 ms", within=TIMEOUT_C)


def test_expect_stuck_clear_and_stuck_set() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_STS, clear=STS_EXPECT)
    bench.fails("TPM_STS", "Expect clear after 11 of 12", within=0)
    bench.patch_read = stuck(TPM_STS, set_=STS_EXPECT)
    bench.fails("TPM_STS", "Expect still set", within=0)


def test_go_that_is_lost_times_out_after_the_duration_and_aborts() -> None:
    bench = Bench()
    bench.drop_write = lambda offset, value: offset == TPM_STS and value == STS_TPM_GO
    bench.fails("TPM_STS", "dataAvail", "30000 ms", within=30)
    assert bench.tis.state is State.READY
    bench.drop_write = lambda offset, value: False
    assert bench.driver.execute(COMMAND) == packet(COMMAND)


def test_locality_lost_during_a_command() -> None:
    bench = Bench()
    bench.patch_read = stuck(TPM_STS, set_=0xFFFFFFFF)
    bench.fails("TPM_STS of locality 0", "all ones", within=0)


def test_data_available_for_ever() -> None:
    bench = Bench()
    bench.patch_read = lambda offset, value: (
        value | STS_DATA_AVAIL if offset == TPM_STS and bench.tis.state is State.COMPLETION else value
    )
    bench.fails("TPM_DATA_FIFO", "wrong length", within=0)


@pytest.mark.parametrize("response", [packet(b"")[:9], b"", packet(b"ab")[:-1], packet(b"ab") + b"x"])
def test_a_response_of_the_wrong_length_is_read_again_then_refused(response: bytes) -> None:
    bench = Bench(lambda command: response)
    bench.fails("TPM_", within=30)


@pytest.mark.parametrize("size", [0, 9, 4097, 0xFFFFFFFF])
def test_a_response_header_with_an_impossible_size_is_refused(size: int) -> None:
    bench = Bench(lambda command: b"\x80\x01" + size.to_bytes(4, "big") + bytes(4090))
    bench.fails("TPM_DATA_FIFO", "wrong length", within=0)


def test_a_response_garbled_once_is_read_again() -> None:
    bench = Bench()
    garbled = [True]

    def patch(offset: int, value: int) -> int:
        if offset == TPM_DATA_FIFO and garbled:
            garbled.clear()
            return 0xFFFFFFFF
        return value

    bench.patch_read = patch
    assert bench.driver.execute(COMMAND) == packet(COMMAND)
    assert garbled == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_window_of_random_values_ends_in_time_with_protocol_error_or_a_framed_response(
    data: st.DataObject,
) -> None:
    bench = Bench()
    values = st.integers(0, 0xFFFFFFFF)
    noise = iter(data.draw(st.lists(values, max_size=60)))
    last = data.draw(values)
    bench.patch_read = lambda offset, value: next(noise, last)
    begin = bench.time.now
    try:
        response = bench.driver.execute(COMMAND)
    except ProtocolError:
        pass
    else:
        assert len(response) == int.from_bytes(response[2:6], "big")
    assert bench.time.now - begin < 300


def test_driver_needs_no_more_than_a_clock_and_a_sleep() -> None:
    bench = Bench()
    driver = Driver(bench.window, clock=time.monotonic, sleep=time.sleep)
    assert driver.execute(COMMAND) == packet(COMMAND)
    assert driver.takes_long(COMMAND)
