"""Random numbers (Part 3, 16)."""

from __future__ import annotations

import pytest

from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.random import Random
from hwtpm.tpm2.requests.random import GetRandom, StirRandom
from hwtpm.tpm2.types.constants import TPM_RC_SIZE
from tests.support.tpm2 import refused, started


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (1, 1), (64, 64), (65, 64), (0xFFFF, 64)])
def test_get_random_gives_what_a_digest_holds(asked: int, given: int) -> None:
    assert len(started().run(GetRandom(asked)).random_bytes) == given


def test_octets_are_never_given_twice() -> None:
    machine = started()
    seen = [machine.run(GetRandom(16)).random_bytes for _ in range(500)]
    assert len(set(seen)) == len(seen)


def test_stirring_changes_what_follows() -> None:
    def after(data: bytes) -> bytes:
        machine = started()
        machine.run(GetRandom(8))
        machine.run(StirRandom(data))
        return machine.run(GetRandom(32)).random_bytes

    assert len({after(b""), after(b"a"), after(b"b")}) == 3
    assert after(b"a") == after(b"a")


def test_stir_takes_128_octets() -> None:
    machine = started()
    machine.run(StirRandom(bytes(128)))
    with refused(TPM_RC_SIZE | 0x140):
        machine.run(StirRandom(bytes(129)))


def test_large_and_small_requests_do_not_overlap() -> None:
    random = Random(CtrDrbg(b"seed").generate)
    small, large, rest = random(16), random(5000), random(16)
    assert len(large) == 5000
    assert small not in large
    assert rest not in large
    assert small != rest


def test_the_state_is_not_shown() -> None:
    assert repr(Random(CtrDrbg(b"seed").generate)) == "<Random>"
