"""Primes found ahead: bounded, each pair once, never in the way, and gone with whoever wanted them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm import primepool
from cusetpm.daemon import System
from cusetpm.primepool import BITS, EXPONENT, SIZE, PrimePool
from hwtpm.client import Client, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import Create, Load
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from tests.support.templates import rsa, storage
from tests.support.tpm2 import started

CHECKOUT = Path(__file__).resolve().parents[2]
NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")


@pytest.fixture
def pool() -> Iterator[PrimePool]:
    pool = PrimePool()
    yield pool
    pool.close()


def ready(pool: PrimePool) -> None:
    """Wait until a pair has come."""
    assert pool._finder is not None
    assert pool._finder.stdout is not None
    assert select.select([pool._finder.stdout], [], [], 60)[0]


def test_nothing_is_started_before_somebody_asks(pool: PrimePool) -> None:
    assert pool._finder is None
    assert pool.take(3072, EXPONENT) is None
    assert pool.take(BITS, 3) is None
    assert pool._finder is None
    assert pool.take(BITS, EXPONENT) is None
    assert pool._finder is not None


def test_each_pair_makes_a_key_and_comes_once(pool: PrimePool) -> None:
    pool.take(BITS, EXPONENT)
    seen: set[int] = set()
    for _ in range(SIZE + 2):
        pair = None
        while pair is None:
            ready(pool)
            pair = pool.take(BITS, EXPONENT)
        key = RsaPrivate(pair[0] * pair[1], pair[0], EXPONENT)
        assert key.n.bit_length() == BITS
        seen.update(pair)
    assert len(seen) == 2 * (SIZE + 2)


def test_no_more_pairs_are_found_than_are_kept() -> None:
    """One octet is one pair, and the end of the input is the end."""
    finder = subprocess.run([sys.executable, "-m", primepool.__name__], input=bytes(2), cwd=CHECKOUT,
                            capture_output=True, check=True)
    assert len(finder.stdout) == 2 * 2 * BITS // 16
    assert finder.stderr == b""


def test_a_search_that_was_killed_is_no_matter(pool: PrimePool, caplog: pytest.LogCaptureFixture) -> None:
    pool.take(BITS, EXPONENT)
    assert pool._finder is not None
    pool._finder.kill()
    ready(pool)
    while pool._finder is not None:
        assert pool.take(BITS, EXPONENT) is None
    assert "status -9" in caplog.text
    assert pool.take(BITS, EXPONENT) is None


def test_close_ends_the_search_at_once() -> None:
    pool = PrimePool()
    pool.take(BITS, EXPONENT)
    finder = pool._finder
    assert finder is not None
    pool.close()
    assert finder.poll() is not None
    assert pool.take(BITS, EXPONENT) is None
    assert pool._finder is None
    pool.close()


def test_ordinary_keys_take_pairs_and_primaries_do_not() -> None:
    found = CtrDrbg(b"primes").generate
    from hwtpm.crypto.primes import generate_rsa

    pairs = [generate_rsa(2048, EXPONENT, found, lambda: False)]
    asked: list[tuple[int, int]] = []

    def take(bits: int, exponent: int) -> tuple[int, int] | None:
        asked.append((bits, exponent))
        return pairs.pop() if pairs else None

    machine = started()
    machine.tpm.primes = take
    machine.run(CreatePrimary(TPM_RH_OWNER, NOTHING, rsa(bits=1024), b"", []), Password())
    assert asked == []
    parent = machine.run(CreatePrimary(TPM_RH_OWNER, NOTHING, storage(), b"", []), Password()).object_handle
    p, q = pairs[0]
    made = machine.run(Create(parent, NOTHING, rsa(), b"", []), Password())
    assert made.out_public.unique == (p * q).to_bytes(256, "big")
    machine.run(Load(parent, made.out_private, made.out_public), Password())
    other = machine.run(Create(parent, NOTHING, rsa(bits=1024), b"", []), Password())
    assert other.out_public.unique != made.out_public.unique
    assert asked == [(2048, EXPONENT), (1024, EXPONENT)]


def test_a_system_shares_one_pool_and_closes_it(tmp_path: Path) -> None:
    system = System(tmp_path)
    device = system.add_guest("tpm0")
    device.start_up("clear")
    client = Client(device.execute, os.urandom)
    parent = client.run(CreatePrimary(TPM_RH_OWNER, NOTHING, storage(), b"", []), Password()).object_handle
    assert system._primes._finder is None
    keys = set()
    for _ in range(3):
        keys.add(client.run(Create(parent, NOTHING, rsa(), b"", []), Password()).out_public.unique)
        ready(system._primes)
    assert len(keys) == 3
    finder = system._primes._finder
    assert finder is not None
    system.close()
    assert finder.poll() is not None
