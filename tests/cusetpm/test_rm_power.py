"""Spaces of a whole vTPM when its power goes, and when it goes on from where it was suspended."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.daemon import Device, System
from cusetpm.transport import NotExecuted
from hwtpm.client import Password
from hwtpm.tpm2.requests.symmetric import HMAC
from hwtpm.tpm2.types.constants import TPM_ALG_NULL
from hwtpm.tpm2.types.handles import TRANSIENT_FIRST
from tests.support.managed import User
from tests.support.tpm2_keys import keyed_hash, load

FIRST = 0x80FFFFFF


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    system = System(tmp_path / "state")
    made = system.add_guest("tpm0")
    made.start_up("clear")
    yield made
    system.close()


@pytest.fixture
def raw(device: Device) -> User:
    """The user of /dev/tpm0, who has loaded a key."""
    assert device.manager is not None
    user = User(device.manager, 0)
    assert load(user, keyed_hash(0x40000, secret=b"raw")) == TRANSIENT_FIRST
    return user


@pytest.fixture
def user(device: Device, raw: User) -> User:
    """A user with a space, who has loaded a key after *raw*."""
    assert device.manager is not None
    found = User(device.manager.open(), 1)
    assert load(found, keyed_hash(0x40000, secret=b"managed")) == FIRST
    return found


def mac(user: User, handle: int) -> bytes:
    return user.run(HMAC(handle, b"message", TPM_ALG_NULL), Password()).out_hmac


def test_what_is_suspended_is_what_the_guest_loaded(device: Device, raw: User, user: User) -> None:
    before = mac(raw, TRANSIENT_FIRST), mac(user, FIRST)
    device.store_volatile()
    device.power_off(orderly=False)
    device.power_on()
    assert raw.list("objects") == [TRANSIENT_FIRST]
    assert (mac(raw, TRANSIENT_FIRST), mac(user, FIRST)) == before
    user.close()
    assert raw.list("objects") == [TRANSIENT_FIRST]


def test_a_state_that_is_fetched_has_nothing_of_spaces(device: Device, raw: User, user: User) -> None:
    with_space = device.get_state(2)
    user.close()
    without = device.get_state(2)
    assert with_space is not None
    assert without is not None
    # Counters have gone on, an object would be more.
    assert abs(len(with_space) - len(without)) < 16


def test_without_power_nothing_stays(device: Device, raw: User, user: User) -> None:
    device.power_off(orderly=False)
    device.power_on()
    device.start_up("clear")
    assert raw.list("objects") == user.list("objects") == []
    with pytest.raises(NotExecuted) as caught:
        mac(user, FIRST)
    assert caught.value.errno == errno.EINVAL
