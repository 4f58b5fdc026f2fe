"""Monotonic counters of TPM 1.2 (Part 3, 25)."""

from __future__ import annotations

import pytest

from hwtpm.client12 import Client
from hwtpm.tpm12.profile import COUNTERS
from hwtpm.tpm12.requests.counter import (
    CreateCounter,
    IncrementCounter,
    ReadCounter,
    ReleaseCounter,
    ReleaseCounterOwner,
)
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL, TPM_BAD_COUNTER, TPM_BAD_MODE, TPM_RESOURCES
from hwtpm.tpm12.types.constants import TPM_ET_COUNTER, TPM_ET_OWNER, TPM_KH_OWNER, TPM_ST_CLEAR
from tests.support.tpm2 import refused
from tests.support.tpm12 import OWNER_AUTH, Machine, once, owned

AUTH = b"counter".ljust(20, b".")


def create(client: Client, label: bytes = b"test") -> int:
    session = client.osap(TPM_ET_OWNER, TPM_KH_OWNER, OWNER_AUTH)
    return client.run(CreateCounter(session.encrypt(AUTH), label), session).count_id


@pytest.fixture
def machine() -> Machine:
    return owned()


def increment(machine: Machine, number: int) -> int:
    return machine.run(IncrementCounter(number), once(machine.client.oiap(AUTH))).counter_value.counter


def test_a_counter_counts_over_a_loss_of_power(machine: Machine) -> None:
    number = create(machine.client)
    first = machine.run(ReadCounter(number)).counter_value
    assert first.label == b"test"
    assert increment(machine, number) == first.counter + 1
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    assert machine.run(ReadCounter(number)).counter_value.counter == first.counter + 1


def test_a_new_counter_starts_above_all_others_even_released_ones(machine: Machine) -> None:
    number = create(machine.client)
    for _ in range(5):
        last = increment(machine, number)
    machine.run(ReleaseCounter(number), once(machine.client.oiap(AUTH)))
    assert machine.run(ReadCounter(create(machine.client))).counter_value.counter == last + 1


def test_one_counter_is_incremented_between_two_starts(machine: Machine) -> None:
    one, other = create(machine.client), create(machine.client)
    increment(machine, one)
    with refused(TPM_BAD_COUNTER):
        increment(machine, other)
    machine.run(ReleaseCounterOwner(one), once(machine.client.oiap(OWNER_AUTH)))
    with refused(TPM_BAD_COUNTER):
        increment(machine, other)
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    assert increment(machine, other)


def test_there_is_no_more_than_there_is_room_for(machine: Machine) -> None:
    for _ in range(COUNTERS):
        create(machine.client)
    with refused(TPM_RESOURCES):
        create(machine.client)


def test_a_released_counter_and_its_sessions_are_gone(machine: Machine) -> None:
    number = create(machine.client)
    session = machine.client.osap(TPM_ET_COUNTER, number, AUTH)
    machine.run(ReleaseCounter(number), session)
    assert session.handle not in machine.tpm.sessions.open
    for request in (ReadCounter(number),):
        with refused(TPM_BAD_COUNTER):
            machine.run(request)


def test_the_secret_has_to_travel_encrypted(machine: Machine) -> None:
    with refused(TPM_BAD_MODE):
        machine.run(CreateCounter(AUTH, b"test"), machine.client.oiap(OWNER_AUTH))


def test_another_secret_does_not_increment(machine: Machine) -> None:
    number = create(machine.client)
    with refused(TPM_AUTHFAIL):
        machine.run(IncrementCounter(number), machine.client.oiap(OWNER_AUTH))
