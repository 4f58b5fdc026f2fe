"""A guest that is refused in a loop does not fill the log."""

from __future__ import annotations

import logging
import os
from uuid import UUID

import pytest

from manager.protocol import Endpoint
from manager.seldom import BURST, PERIOD, Seldom
from manager.service import Service
from manager.vtpms import Connection
from tests.manager.test_manager_protocol import Kept, NoChip, message

NOBODY_KNOWS = 0x0101


class Guests:
    """Endpoints of one service, whose time is *now*."""

    def __init__(self) -> None:
        self.now = 0
        chip = NoChip("2.0")
        self.service = Service(Kept(), chip, lambda: chip, os.urandom,  # type: ignore[arg-type, return-value]
                               now=lambda: self.now)

    def guest(self, name: str) -> Endpoint:
        return Endpoint(self.service, Connection(UUID(int=1), name))


def refused(endpoint: Endpoint, first: int, count: int) -> None:
    """The guest sends as many requests that there are not, each another one."""
    for number in range(first, first + count):
        assert endpoint.execute(message(0x01C1, NOBODY_KNOWS + number))[9]


def test_a_guest_has_some_lines_at_once_and_then_one_a_second(caplog: pytest.LogCaptureFixture) -> None:
    guests = Guests()
    one = guests.guest("one")
    refused(one, 0, 1000)
    assert len(caplog.records) == BURST
    guests.now += PERIOD - 1
    refused(one, 1000, 1)
    assert len(caplog.records) == BURST
    guests.now += 1
    refused(one, 1001, 10)
    left_out, line = (record.getMessage() for record in caplog.records[BURST:])
    assert left_out == f"one: {1001 - BURST} more refusals, too many to log each"
    assert line.startswith(f"one: the manager refuses request 0x{NOBODY_KNOWS + 1001:x} with return code 10")


def test_a_minute_of_it_is_some_lines_and_every_refusal_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    guests = Guests()
    one = guests.guest("one")
    for _ in range(60):
        refused(one, 0, 100)
        guests.now += PERIOD
    one.close()
    lines = [record.getMessage() for record in caplog.records]
    counts = [int(line.split()[1]) for line in lines if "too many" in line]
    assert len(lines) - len(counts) == BURST + 59
    assert sum(counts) + BURST + 59 == 6000
    one.close()
    assert len(caplog.records) == len(lines)


def test_a_guest_that_is_quiet_has_all_its_lines_again_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    guests = Guests()
    one = guests.guest("one")
    refused(one, 0, BURST)
    guests.now += 1_000_000
    caplog.clear()
    refused(one, 0, 2 * BURST)
    assert len(caplog.records) == BURST


def test_another_guest_has_its_own_lines(caplog: pytest.LogCaptureFixture) -> None:
    guests = Guests()
    refused(guests.guest("one"), 0, 1000)
    caplog.clear()
    refused(guests.guest("other"), 0, 1)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["other"]


def test_commands_that_are_not_passed_on_to_the_chip_count_too(caplog: pytest.LogCaptureFixture) -> None:
    one = Guests().guest("one")
    for code in range(2, 0x17B):
        assert one.execute(message(0x8001, code))[9]
    assert len(caplog.records) == BURST
    assert caplog.messages[0] == "one: a command to the chip, 0x2, is answered 0x120"


@pytest.mark.parametrize("begins", [-1_000_000, 0, 123_456_789])
def test_it_does_not_matter_where_the_clock_begins(begins: int, caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logging.getLogger("test"), "one", lambda: begins)
    for _ in range(BURST + 5):
        seldom.warning("no")
    assert len(caplog.records) == BURST
