"""The TIS model: every transition, localities, seize, abort, interrupts, and any accesses at all."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.tis.fifo import DID_VID, RID, State, Tis
from hwtpm.tis.registers import (
    ACCESS_ACTIVE_LOCALITY,
    ACCESS_BEEN_SEIZED,
    ACCESS_PENDING_REQUEST,
    ACCESS_REQUEST_USE,
    ACCESS_SEIZE,
    ACCESS_TPM_ESTABLISHMENT,
    ACCESS_TPM_REG_VALID_STS,
    INT_COMMAND_READY,
    INT_DATA_AVAIL,
    INT_GLOBAL_ENABLE,
    INT_LOCALITY_CHANGE,
    INT_STS_VALID,
    NOTHING,
    STS_COMMAND_CANCEL,
    STS_COMMAND_READY,
    STS_DATA_AVAIL,
    STS_EXPECT,
    STS_RESET_ESTABLISHMENT_BIT,
    STS_RESPONSE_RETRY,
    STS_SELF_TEST_DONE,
    STS_TPM_GO,
    STS_VALID,
    TIS_BUFFER_SIZE,
    TPM_ACCESS,
    TPM_DATA_FIFO,
    TPM_DID_VID,
    TPM_FAMILY_1_2,
    TPM_HASH_DATA,
    TPM_HASH_END,
    TPM_HASH_START,
    TPM_INT_ENABLE,
    TPM_INT_STATUS,
    TPM_INT_VECTOR,
    TPM_INTERFACE_ID,
    TPM_INTF_CAPABILITY,
    TPM_RID,
    TPM_STS,
    TPM_XDATA_FIFO,
)

COMMAND = bytes.fromhex("80010000000c0000017b0008")
RESPONSE = bytes.fromhex("80010000001400000000000811223344aabbccdd")
CONTROL = STS_COMMAND_READY | STS_DATA_AVAIL | STS_EXPECT | STS_VALID


class Chip:
    """An engine that remembers what it was asked."""

    def __init__(self, **options: object) -> None:
        self.commands: list[tuple[bytes, int]] = []
        self.cancels = 0
        self.answer: Callable[[], bytes] = lambda: RESPONSE
        self.tis = Tis(self.execute, cancel=self.cancel, **options)  # type: ignore[arg-type]

    def execute(self, command: bytes, locality: int) -> bytes:
        self.commands.append((command, locality))
        return self.answer()

    def cancel(self) -> None:
        self.cancels += 1

    def status(self, locality: int = 0) -> int:
        return self.tis.read(locality, TPM_STS, 4)

    def burst(self) -> int:
        return self.status() >> 8 & 0xFFFF

    def control(self, bit: int, locality: int = 0) -> None:
        self.tis.write(locality, TPM_STS, 1, bit)

    def access(self, locality: int, bit: int) -> None:
        self.tis.write(locality, TPM_ACCESS, 1, bit)

    def holds(self, locality: int, bit: int) -> bool:
        return bool(self.tis.read(locality, TPM_ACCESS, 1) & bit)

    def put(self, data: bytes, locality: int = 0) -> None:
        for octet in data:
            self.tis.write(locality, TPM_DATA_FIFO, 1, octet)

    def take(self, size: int, locality: int = 0) -> bytes:
        return bytes(self.tis.read(locality, TPM_DATA_FIFO, 1) for _ in range(size))


def chip_in(state: str) -> Chip:
    """Return a chip whose locality 0 is in *state*, reached as a driver would."""
    chip = Chip()
    chip.access(0, ACCESS_REQUEST_USE)
    if state != "Idle":
        chip.control(STS_COMMAND_READY)
    if state in ("Reception", "Complete command"):
        chip.put(COMMAND if state == "Complete command" else COMMAND[:-1])
    if state in ("Completion", "Response read"):
        chip.put(COMMAND)
        chip.control(STS_TPM_GO)
    if state == "Response read":
        chip.take(len(RESPONSE))
    chip.commands.clear()
    return chip


READY, VALID, AVAIL, EXPECT = STS_COMMAND_READY, STS_VALID, STS_DATA_AVAIL, STS_EXPECT
TABLE = [
    # state, event, state after it, TPM_STS after it, was a command executed
    ("Idle", "commandReady", State.READY, READY, False),
    ("Idle", "tpmGo", State.IDLE, 0, False),
    ("Idle", "responseRetry", State.IDLE, 0, False),
    ("Idle", "write", State.IDLE, 0, False),
    ("Idle", "read", State.IDLE, 0, False),
    ("Ready", "commandReady", State.READY, READY, False),
    ("Ready", "tpmGo", State.READY, READY, False),
    ("Ready", "responseRetry", State.READY, READY, False),
    ("Ready", "write", State.RECEPTION, VALID | EXPECT, False),
    ("Ready", "read", State.READY, READY, False),
    ("Reception", "commandReady", State.READY, READY, False),
    ("Reception", "tpmGo", State.RECEPTION, VALID | EXPECT, False),
    ("Reception", "responseRetry", State.RECEPTION, VALID | EXPECT, False),
    ("Reception", "write", State.RECEPTION, VALID, False),
    ("Reception", "read", State.RECEPTION, VALID | EXPECT, False),
    ("Complete command", "commandReady", State.READY, READY, False),
    ("Complete command", "tpmGo", State.COMPLETION, VALID | AVAIL, True),
    ("Complete command", "responseRetry", State.RECEPTION, VALID, False),
    ("Complete command", "write", State.RECEPTION, VALID, False),
    ("Complete command", "read", State.RECEPTION, VALID, False),
    ("Completion", "commandReady", State.READY, READY, False),
    ("Completion", "tpmGo", State.COMPLETION, VALID | AVAIL, False),
    ("Completion", "responseRetry", State.COMPLETION, VALID | AVAIL, False),
    ("Completion", "write", State.COMPLETION, VALID | AVAIL, False),
    ("Completion", "read", State.COMPLETION, VALID | AVAIL, False),
    ("Response read", "commandReady", State.READY, READY, False),
    ("Response read", "tpmGo", State.COMPLETION, VALID, False),
    ("Response read", "responseRetry", State.COMPLETION, VALID | AVAIL, False),
    ("Response read", "write", State.COMPLETION, VALID, False),
    ("Response read", "read", State.COMPLETION, VALID, False),
]
BITS = {"commandReady": STS_COMMAND_READY, "tpmGo": STS_TPM_GO, "responseRetry": STS_RESPONSE_RETRY}


@pytest.mark.parametrize(("state", "event", "after", "status", "executed"), TABLE)
def test_transition(state: str, event: str, after: State, status: int, executed: bool) -> None:
    chip = chip_in(state)
    if event in BITS:
        chip.control(BITS[event])
    elif event == "write":
        chip.put(COMMAND[-1:])
    else:
        chip.take(1)
    assert chip.tis.state is after
    assert chip.status() & CONTROL == status
    assert chip.commands == ([(COMMAND, 0)] if executed else [])


@pytest.mark.parametrize("state", ["Idle", "Ready", "Reception", "Complete command", "Completion"])
def test_several_control_bits_in_one_write_are_ignored(state: str) -> None:
    chip = chip_in(state)
    before = chip.status()
    chip.control(STS_COMMAND_READY | STS_TPM_GO)
    chip.control(STS_TPM_GO | STS_RESPONSE_RETRY)
    assert chip.status() == before


# The FIFO.


def test_burst_count_follows_the_fifo_in_both_directions() -> None:
    chip = chip_in("Ready")
    assert chip.burst() == TIS_BUFFER_SIZE
    for sent, octet in enumerate(COMMAND, 1):
        chip.put(bytes([octet]))
        assert chip.burst() == TIS_BUFFER_SIZE - sent
        assert bool(chip.status() & STS_EXPECT) == (sent < len(COMMAND))
    chip.control(STS_TPM_GO)
    for left in range(len(RESPONSE), 0, -1):
        assert chip.burst() == left
        assert chip.status() & STS_DATA_AVAIL
        assert chip.take(1) == RESPONSE[-left:][:1]
    assert chip.burst() == 0
    assert chip.take(2) == b"\xff\xff"


def test_wide_accesses_move_as_many_octets_lowest_first() -> None:
    chip = chip_in("Ready")
    chip.tis.write(0, TPM_DATA_FIFO, 4, int.from_bytes(COMMAND[:4], "little"))
    chip.tis.write(0, TPM_XDATA_FIFO + 60, 2, int.from_bytes(COMMAND[4:6], "little"))
    chip.tis.write(0, TPM_XDATA_FIFO, 4, int.from_bytes(COMMAND[6:10], "little"))
    chip.tis.write(0, TPM_DATA_FIFO, 4, int.from_bytes(COMMAND[10:] + b"xx", "little"))
    chip.control(STS_TPM_GO)
    assert chip.commands == [(COMMAND, 0)]
    assert chip.tis.read(0, TPM_XDATA_FIFO + 4, 4) == int.from_bytes(RESPONSE[:4], "little")
    assert chip.tis.read(0, TPM_DATA_FIFO + 2, 2) == int.from_bytes(RESPONSE[4:6], "little")
    chip.take(12)
    chip.take(1)
    assert chip.tis.read(0, TPM_DATA_FIFO, 4) == RESPONSE[-1] | 0xFFFFFF00


def test_octets_after_the_end_of_a_command_are_dropped() -> None:
    chip = chip_in("Ready")
    chip.put(COMMAND + b"more")
    chip.control(STS_TPM_GO)
    assert chip.commands == [(COMMAND, 0)]


@pytest.mark.parametrize("size", [TIS_BUFFER_SIZE + 1, 0xFFFFFFFF])
def test_a_command_longer_than_the_fifo_is_executed_cut_so_that_the_engine_answers_it(size: int) -> None:
    chip = chip_in("Ready")
    command = b"\x80\x01" + size.to_bytes(4, "big") + bytes(TIS_BUFFER_SIZE)
    chip.put(command[: TIS_BUFFER_SIZE - 1])
    assert chip.status() & STS_EXPECT
    chip.put(command[TIS_BUFFER_SIZE - 1 :])
    assert not chip.status() & STS_EXPECT
    chip.control(STS_TPM_GO)
    assert chip.commands == [(command[:TIS_BUFFER_SIZE], 0)]


@pytest.mark.parametrize("size", range(7))
def test_a_command_shorter_than_its_own_size_field_ends_with_that_field(size: int) -> None:
    chip = chip_in("Ready")
    command = b"\x80\x01" + size.to_bytes(4, "big")
    chip.put(command)
    chip.control(STS_TPM_GO)
    assert chip.commands == [(command, 0)]


def test_response_retry_gives_the_response_from_its_start() -> None:
    chip = chip_in("Completion")
    chip.take(7)
    chip.control(STS_RESPONSE_RETRY)
    assert chip.burst() == len(RESPONSE)
    assert chip.take(len(RESPONSE)) == RESPONSE


def test_abort_in_reception_drops_the_command() -> None:
    chip = chip_in("Reception")
    chip.control(STS_COMMAND_READY)
    chip.put(COMMAND)
    chip.control(STS_TPM_GO)
    assert chip.commands == [(COMMAND, 0)]


# While a command executes: what another thread may do.


def during(chip: Chip, action: Callable[[], None]) -> None:
    """Execute a command at locality 0, and *action* in another thread while it runs."""

    def answer() -> bytes:
        assert chip.tis.state is State.EXECUTION
        thread = threading.Thread(target=action)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        return RESPONSE

    chip.answer = answer
    chip.put(COMMAND)
    chip.control(STS_TPM_GO)


def test_status_while_executing_has_neither_valid_nor_data() -> None:
    chip = chip_in("Ready")
    seen: list[int] = []
    during(chip, lambda: seen.append(chip.status()))
    assert seen[0] & (CONTROL | 0xFFFF00) == 0
    assert chip.status() & CONTROL == VALID | AVAIL


def test_command_cancel_reaches_the_engine_and_its_response_is_kept() -> None:
    chip = chip_in("Ready")
    during(chip, lambda: chip.tis.write(0, TPM_STS, 4, STS_COMMAND_CANCEL))
    assert chip.cancels == 1
    assert chip.take(len(RESPONSE)) == RESPONSE


def test_a_cancel_counts_from_go_on_and_for_that_command_only() -> None:
    """Also when it comes before the engine has begun: the engine asks, and forgets nothing by itself."""
    chip = chip_in("Ready")
    seen = [chip.tis.cancelled()]

    def abort() -> None:
        chip.tis.write(0, TPM_STS, 4, STS_COMMAND_CANCEL)
        seen.append(chip.tis.cancelled())

    during(chip, abort)
    chip.control(STS_COMMAND_READY)
    during(chip, lambda: seen.append(chip.tis.cancelled()))
    assert seen == [False, True, False]


def test_command_cancel_outside_execution_does_nothing() -> None:
    for state in ("Idle", "Ready", "Reception", "Completion"):
        chip = chip_in(state)
        chip.tis.write(0, TPM_STS, 4, STS_COMMAND_CANCEL)
        assert chip.cancels == 0


def test_command_ready_while_executing_aborts_and_drops_the_response() -> None:
    chip = chip_in("Ready")
    states: list[State] = []

    def abort() -> None:
        chip.control(STS_COMMAND_READY)
        states.append(chip.tis.state)

    during(chip, abort)
    assert states == [State.EXECUTION]  # Ready only once the engine has let go.
    assert chip.cancels == 1
    assert chip.tis.state is State.READY
    assert chip.take(1) == b"\xff"


def test_a_second_go_while_executing_is_ignored() -> None:
    chip = chip_in("Ready")
    during(chip, lambda: chip.control(STS_TPM_GO))
    assert len(chip.commands) == 1


def test_seize_while_executing_aborts_then_moves_the_tpm() -> None:
    chip = chip_in("Ready")

    def seize() -> None:
        chip.access(2, ACCESS_SEIZE)
        chip.access(1, ACCESS_SEIZE)
        assert chip.tis.active == 0

    during(chip, seize)
    assert chip.cancels >= 1
    assert chip.tis.active == 2
    assert chip.holds(0, ACCESS_BEEN_SEIZED)
    assert chip.tis.state is State.IDLE


def test_release_while_executing_aborts_then_grants_the_highest_request() -> None:
    chip = chip_in("Ready")
    chip.access(1, ACCESS_REQUEST_USE)
    chip.access(3, ACCESS_REQUEST_USE)
    during(chip, lambda: chip.access(0, ACCESS_ACTIVE_LOCALITY))
    assert chip.tis.active == 3
    assert not chip.holds(0, ACCESS_BEEN_SEIZED)


def test_an_engine_that_fails_leaves_the_fifo_idle() -> None:
    chip = chip_in("Complete command")

    def fail() -> bytes:
        raise RuntimeError("broken")

    chip.answer = fail
    with pytest.raises(RuntimeError, match="broken"):
        chip.control(STS_TPM_GO)
    assert chip.tis.state is State.IDLE


# Localities.


@pytest.mark.parametrize("locality", range(5))
def test_each_locality_can_use_the_tpm_and_is_named_to_the_engine(locality: int) -> None:
    chip = Chip()
    chip.access(locality, ACCESS_REQUEST_USE)
    assert chip.tis.active == locality
    chip.control(STS_COMMAND_READY, locality)
    chip.put(COMMAND, locality)
    chip.control(STS_TPM_GO, locality)
    assert chip.take(len(RESPONSE), locality) == RESPONSE
    assert chip.commands == [(COMMAND, locality)]
    chip.access(locality, ACCESS_ACTIVE_LOCALITY)
    assert chip.tis.active is None


@pytest.mark.parametrize("other", range(1, 5))
def test_an_inactive_locality_reads_all_ones_and_its_writes_are_ignored(other: int) -> None:
    chip = chip_in("Completion")
    assert chip.status(other) == NOTHING
    assert chip.tis.read(other, TPM_STS + 1, 2) == 0xFFFF
    assert chip.tis.read(other, TPM_DATA_FIFO, 4) == NOTHING
    assert chip.tis.read(other, TPM_XDATA_FIFO, 1) == 0xFF
    chip.control(STS_COMMAND_READY, other)
    chip.put(COMMAND, other)
    chip.access(other, ACCESS_ACTIVE_LOCALITY)
    chip.tis.write(other, TPM_INT_ENABLE, 4, NOTHING)
    assert chip.tis.read(other, TPM_INT_ENABLE, 4) == 0x08
    assert chip.take(len(RESPONSE)) == RESPONSE


def test_requests_wait_and_the_highest_is_granted_on_release() -> None:
    chip = Chip()
    for locality in (2, 1, 4, 3):
        chip.access(locality, ACCESS_REQUEST_USE)
    assert chip.tis.active == 2
    assert chip.holds(2, ACCESS_PENDING_REQUEST)
    assert not chip.holds(2, ACCESS_REQUEST_USE)
    for granted in (4, 3, 1):
        assert chip.holds(granted, ACCESS_REQUEST_USE)
        chip.access(chip.tis.active or 0, ACCESS_ACTIVE_LOCALITY)
        assert chip.tis.active == granted
        assert not chip.holds(granted, ACCESS_REQUEST_USE)
    assert not chip.holds(1, ACCESS_PENDING_REQUEST)


def test_pending_request_does_not_count_the_reader_itself() -> None:
    chip = chip_in("Idle")
    chip.access(1, ACCESS_REQUEST_USE)
    assert not chip.holds(1, ACCESS_PENDING_REQUEST)
    assert chip.holds(2, ACCESS_PENDING_REQUEST)
    chip.access(3, ACCESS_REQUEST_USE)
    assert chip.holds(1, ACCESS_PENDING_REQUEST)


def test_a_request_is_withdrawn_by_writing_active_locality() -> None:
    chip = chip_in("Idle")
    chip.access(1, ACCESS_REQUEST_USE)
    chip.access(1, ACCESS_ACTIVE_LOCALITY)
    assert not chip.holds(1, ACCESS_REQUEST_USE)
    chip.access(0, ACCESS_ACTIVE_LOCALITY)
    assert chip.tis.active is None


@pytest.mark.parametrize("seizing", range(5))
@pytest.mark.parametrize("active", range(5))
def test_only_a_higher_locality_seizes(active: int, seizing: int) -> None:
    chip = Chip()
    chip.access(active, ACCESS_REQUEST_USE)
    chip.control(STS_COMMAND_READY, active)
    chip.access(seizing, ACCESS_SEIZE)
    if seizing > active:
        assert chip.tis.active == seizing
        assert chip.tis.state is State.IDLE
        assert chip.holds(active, ACCESS_BEEN_SEIZED)
        chip.access(active, ACCESS_BEEN_SEIZED)
    else:
        assert chip.tis.active == active
        assert chip.tis.state is State.READY
    assert not any(chip.holds(locality, ACCESS_BEEN_SEIZED) for locality in range(5))


def test_a_write_of_several_access_bits_is_ignored() -> None:
    chip = Chip()
    chip.access(1, ACCESS_REQUEST_USE | ACCESS_SEIZE)
    assert chip.tis.active is None


def test_what_can_only_be_read_does_not_count_among_the_bits_of_a_write_to_access() -> None:
    """PTP 1.05, 6.5.2.4; software may write back the others, such as tpmRegValidSts, as read."""
    chip = Chip()
    chip.access(1, ACCESS_TPM_REG_VALID_STS | ACCESS_TPM_ESTABLISHMENT | ACCESS_REQUEST_USE)
    assert chip.tis.active == 1
    chip.access(1, ACCESS_TPM_REG_VALID_STS | ACCESS_PENDING_REQUEST | ACCESS_ACTIVE_LOCALITY)
    assert chip.tis.active is None


def test_a_locality_change_drops_command_and_response() -> None:
    chip = chip_in("Completion")
    chip.access(0, ACCESS_ACTIVE_LOCALITY)
    chip.access(0, ACCESS_REQUEST_USE)
    assert chip.tis.state is State.IDLE
    assert chip.take(1) == b"\xff"


# Identification, sizes and alignment.


def test_identification_registers_of_a_tpm_2_0() -> None:
    chip = Chip()
    for locality in range(5):
        assert chip.tis.read(locality, TPM_ACCESS, 1) == ACCESS_TPM_REG_VALID_STS | ACCESS_TPM_ESTABLISHMENT
        assert chip.tis.read(locality, TPM_DID_VID, 4) == DID_VID
        assert chip.tis.read(locality, TPM_RID, 1) == RID
        assert chip.tis.read(locality, TPM_INTF_CAPABILITY, 4) == 0x30000697
        assert chip.tis.read(locality, TPM_INTERFACE_ID, 4) == 0x2100
    chip.access(0, ACCESS_REQUEST_USE)
    assert chip.status() >> 26 == 1


def test_identification_registers_of_a_tpm_1_2() -> None:
    chip = Chip(family=TPM_FAMILY_1_2, established=True)
    chip.access(4, ACCESS_REQUEST_USE)
    assert chip.tis.read(0, TPM_INTF_CAPABILITY, 4) == 0x20000697
    assert chip.tis.read(0, TPM_INTERFACE_ID, 4) == NOTHING
    assert chip.status(4) >> 24 == 0
    chip.tis.write(4, TPM_STS, 4, STS_RESET_ESTABLISHMENT_BIT)
    assert chip.tis.established


@pytest.mark.parametrize("locality", range(5))
def test_the_interface_selector_can_be_locked_from_any_locality_and_stays_locked(locality: int) -> None:
    """PTP 1.05, TPM_INTERFACE_ID.IntfSelLock; firmware locks what there is no choice about, too."""
    chip = Chip()
    chip.tis.write(locality, TPM_INTERFACE_ID, 4, 0xFFF7FFFF)
    assert chip.tis.read(0, TPM_INTERFACE_ID, 4) == 0x2100
    chip.tis.write(locality, TPM_INTERFACE_ID + 2, 1, 0x08)
    chip.tis.write(locality, TPM_INTERFACE_ID, 4, 0)
    assert {chip.tis.read(each, TPM_INTERFACE_ID, 4) for each in range(5)} == {0x82100}


def test_self_test_done_is_shown_as_set() -> None:
    chip = chip_in("Ready")
    assert chip.status() & STS_SELF_TEST_DONE
    chip.tis.self_test_done = False
    assert not chip.tis.self_test_done
    assert not chip.status() & STS_SELF_TEST_DONE


def test_part_accesses_and_unaligned_accesses_are_octets_lowest_first() -> None:
    chip = Chip()
    octets = [chip.tis.read(0, offset, 1) for offset in range(0x20)]
    for offset in range(0x1C):
        for size in (2, 4):
            assert chip.tis.read(0, offset, size) == int.from_bytes(octets[offset : offset + size], "little")
    assert chip.tis.read(0, TPM_ACCESS, 4) == 0x81
    assert chip.tis.read(0, TPM_ACCESS + 1, 4) == 0xFF000000
    chip.tis.write(
        0, 0xFFF, 4, ACCESS_REQUEST_USE << 8
    )  # The bus never carries an access into the next page.
    assert chip.tis.active is None
    chip.tis.write(0, TPM_ACCESS, 4, ACCESS_REQUEST_USE)
    assert chip.tis.active == 0


def test_offsets_without_a_register_read_ones_and_ignore_writes() -> None:
    chip = chip_in("Ready")
    for offset in (0x04, 0x1C, 0x20, 0x28, 0x2C, 0x34, 0xC0, 0x800, 0xEFC, 0xF08, 0xFFC):
        chip.tis.write(0, offset, 4, 0x12345678)
        assert chip.tis.read(0, offset, 4) == NOTHING
    assert chip.tis.state is State.READY


# Interrupts.


def test_enabled_interrupts_are_latched_signalled_and_cleared_by_writing_ones() -> None:
    levels: list[bool] = []
    chip = Chip(interrupt=levels.append)
    chip.access(0, ACCESS_REQUEST_USE)
    chip.tis.write(0, TPM_INT_VECTOR, 1, 0xF5)
    assert chip.tis.read(0, TPM_INT_VECTOR, 1) == 5
    enable = INT_GLOBAL_ENABLE | INT_COMMAND_READY | INT_DATA_AVAIL | INT_STS_VALID
    chip.tis.write(0, TPM_INT_ENABLE, 4, enable | 0x7FFFFF60)
    assert chip.tis.read(0, TPM_INT_ENABLE, 4) == enable
    chip.control(STS_COMMAND_READY)
    assert levels == [True]
    chip.put(COMMAND)
    chip.control(STS_TPM_GO)
    seen = INT_COMMAND_READY | INT_DATA_AVAIL | INT_STS_VALID
    assert chip.tis.read(0, TPM_INT_STATUS, 4) == seen
    chip.tis.write(0, TPM_INT_STATUS, 4, INT_COMMAND_READY)
    assert chip.tis.read(0, TPM_INT_STATUS, 4) == seen & ~INT_COMMAND_READY
    assert levels == [True]
    chip.tis.write(0, TPM_INT_STATUS, 4, seen)
    assert levels == [True, False]


def test_a_granted_request_raises_locality_change_at_the_new_locality() -> None:
    chip = Chip()
    chip.access(1, ACCESS_REQUEST_USE)
    chip.tis.write(1, TPM_INT_ENABLE, 4, INT_GLOBAL_ENABLE | INT_LOCALITY_CHANGE)
    chip.access(1, ACCESS_ACTIVE_LOCALITY)
    chip.access(0, ACCESS_REQUEST_USE)
    chip.access(1, ACCESS_REQUEST_USE)
    chip.access(0, ACCESS_ACTIVE_LOCALITY)
    assert chip.tis.read(1, TPM_INT_STATUS, 4) == INT_LOCALITY_CHANGE
    assert chip.tis.read(0, TPM_INT_STATUS, 4) == 0


def test_nothing_is_latched_without_global_enable_and_vector_0_is_unconnected() -> None:
    levels: list[bool] = []
    chip = Chip(interrupt=levels.append)
    chip.access(0, ACCESS_REQUEST_USE)
    chip.tis.write(0, TPM_INT_ENABLE, 4, INT_COMMAND_READY)
    chip.control(STS_COMMAND_READY)
    assert chip.tis.read(0, TPM_INT_STATUS, 4) == 0
    chip.tis.write(0, TPM_INT_ENABLE, 4, INT_COMMAND_READY | INT_GLOBAL_ENABLE)
    chip.put(b"x")
    chip.control(STS_COMMAND_READY)
    assert chip.tis.read(0, TPM_INT_STATUS, 4) == INT_COMMAND_READY
    assert levels == []
    chip.tis.write(0, TPM_INT_VECTOR, 1, 7)
    assert levels == [True]


# H-CRTM and the establishment bit.


def hashing_chip() -> tuple[Chip, list[object]]:
    events: list[object] = []
    chip = Chip(
        hash_start=lambda: events.append("start"),
        hash_data=events.append,
        hash_end=lambda: events.append("end"),
    )
    return chip, events


def test_hash_sequence_takes_locality_4_and_sets_the_establishment_bit() -> None:
    chip, events = hashing_chip()
    chip.tis.write(4, TPM_HASH_START, 1, 0)
    assert chip.tis.active == 4
    assert not chip.holds(0, ACCESS_TPM_ESTABLISHMENT)
    chip.tis.write(4, TPM_HASH_DATA, 4, 0x44332211)
    chip.tis.write(4, TPM_HASH_DATA, 1, 0x55)
    chip.access(2, ACCESS_REQUEST_USE)
    chip.tis.write(4, TPM_HASH_END, 1, 0)
    assert events == ["start", b"\x11\x22\x33\x44", b"\x55", "end"]
    assert chip.tis.active == 2


def test_hash_registers_are_ignored_elsewhere_and_out_of_order() -> None:
    chip, events = hashing_chip()
    for locality in range(4):
        chip.tis.write(locality, TPM_HASH_START, 1, 0)
    chip.tis.write(4, TPM_HASH_END, 1, 0)
    chip.access(1, ACCESS_REQUEST_USE)
    chip.tis.write(4, TPM_HASH_START, 1, 0)
    assert chip.tis.active == 1
    chip.access(1, ACCESS_ACTIVE_LOCALITY)
    chip.access(4, ACCESS_REQUEST_USE)
    chip.tis.write(4, TPM_HASH_END, 1, 0)
    chip.tis.write(4, TPM_HASH_DATA, 4, 0)
    assert events == []


def test_a_tpm_without_hash_indications_ignores_hash_start() -> None:
    chip = Chip()
    chip.tis.write(4, TPM_HASH_START, 1, 0)
    assert chip.tis.active is None
    assert chip.holds(0, ACCESS_TPM_ESTABLISHMENT)


@pytest.mark.parametrize("locality", range(5))
def test_establishment_is_reset_from_localities_3_and_4_only(locality: int) -> None:
    chip = Chip(established=True)
    chip.access(locality, ACCESS_REQUEST_USE)
    chip.tis.write(locality, TPM_STS, 4, STS_RESET_ESTABLISHMENT_BIT)
    assert chip.tis.established == (locality < 3)


# Any accesses at all.

OFFSETS = st.one_of(
    st.sampled_from([TPM_ACCESS, TPM_STS, TPM_STS + 3, TPM_DATA_FIFO, TPM_XDATA_FIFO, TPM_HASH_START]),
    st.sampled_from([TPM_HASH_END, TPM_INT_ENABLE, TPM_INT_STATUS, TPM_INT_VECTOR]),
    st.integers(0, 0xFFF),
)
VALUES = st.one_of(st.sampled_from([1 << i for i in range(32)] + [0]), st.integers(0, 0xFFFFFFFF))
ACCESSES = st.tuples(st.integers(0, 4), OFFSETS, st.sampled_from([1, 2, 4]), st.none() | VALUES)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACCESSES, max_size=60))
def test_any_accesses_keep_the_invariants(accesses: list[tuple[int, int, int, int | None]]) -> None:
    events: list[object] = []
    chip = Chip(
        hash_start=lambda: events.append(1),
        hash_data=events.append,
        hash_end=lambda: events.append(2),
        interrupt=events.append,
    )
    for locality, offset, size, value in accesses:
        if value is None:
            assert 0 <= chip.tis.read(locality, offset, size) < 1 << 8 * size
        else:
            chip.tis.write(locality, offset, size, value)
        active = [i for i in range(5) if chip.holds(i, ACCESS_ACTIVE_LOCALITY)]
        assert active == ([] if chip.tis.active is None else [chip.tis.active])
        requested = {i for i in range(5) if chip.holds(i, ACCESS_REQUEST_USE)}
        assert not requested & set(active)
        assert not requested or active  # A request waits only for somebody.
        for i in range(5):
            assert chip.holds(i, ACCESS_PENDING_REQUEST) == bool(requested - {i})
            status = chip.status(i)
            if i not in active:
                assert status == NOTHING
                continue
            burst = status >> 8 & 0xFFFF
            assert burst <= TIS_BUFFER_SIZE
            if chip.tis.state is State.COMPLETION:
                assert bool(status & STS_DATA_AVAIL) == (burst > 0)
            else:
                assert not status & STS_DATA_AVAIL
            assert bool(status & STS_COMMAND_READY) == (chip.tis.state is State.READY)
            if status & STS_EXPECT:
                assert chip.tis.state is State.RECEPTION
                assert burst > 0
            if status & (STS_EXPECT | STS_DATA_AVAIL):
                assert status & STS_VALID


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=20))
def test_any_octets_as_a_command_get_exactly_one_response(command: bytes, widths: list[int]) -> None:
    chip = chip_in("Ready")
    place = 0
    for i in range(len(command)):
        width = widths[i % len(widths)]
        piece = command[place : place + width]
        if len(piece) == width:
            chip.tis.write(0, TPM_DATA_FIFO, width, int.from_bytes(piece, "little"))
        else:
            chip.put(piece)
        place += width
    complete = bool(command) and not chip.status() & STS_EXPECT
    chip.control(STS_TPM_GO)
    chip.control(STS_TPM_GO)
    assert len(chip.commands) == complete
    if complete:
        sent = chip.commands[0][0]
        assert command.startswith(sent)
        assert len(sent) == max(6, int.from_bytes(command[2:6], "big"))
        assert chip.take(chip.burst()) == RESPONSE
